"""From a batch to an object: bytes, key and checksums."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from datetime import datetime, timezone

import pytest
import zstandard

from asynctrack._common.artifact import Batch, Receipt
from asynctrack._delivery.encode import compress, encode_batch, split_batch
from asynctrack._format import line_prefix, number_line, parse_artifact_name

WRITER = "0123456789abcdef" * 2
START = int(datetime(2026, 11, 22, 23, 59, 59, tzinfo=timezone.utc).timestamp()) * 10**9


def batch(events: int = 3, first_seq: int = 5, start: int = START) -> Batch:
    lines = (
        number_line(
            line_prefix(WRITER),
            seq,
            b'{"time_unix_nano":%d,"x":"%b"}' % (start + seq * 10**9, "ü\\n".encode() * seq),
        )
        for seq in range(first_seq, first_seq + events)
    )
    return Batch(WRITER, first_seq, first_seq + events - 1, b"".join(lines))


def unpack(content: bytes, compression: str) -> bytes:
    if compression == "zstd":
        return zstandard.ZstdDecompressor().decompress(content)
    return gzip.decompress(content) if compression == "gzip" else content


@pytest.mark.parametrize("compression", ["zstd", "gzip", "none"])
def test_what_comes_out_is_what_went_in(compression: str) -> None:
    """Each compression unpacks to NDJSON with version, writer and numbers without gaps."""
    artifact = encode_batch(batch(), compression)
    raw = unpack(artifact.content, compression)
    assert raw == batch().raw
    assert raw.endswith(b"\n")
    events = [json.loads(line) for line in raw.splitlines()]
    assert [(event["v"], event["writer_id"], event["seq"]) for event in events] == [
        (2, WRITER, seq) for seq in (5, 6, 7)
    ]
    assert artifact.raw_bytes == len(raw)


@pytest.mark.parametrize("compression", ["zstd", "gzip", "none"])
def test_the_same_batch_gives_the_same_object(compression: str) -> None:
    """Encoded again, a batch has the same key, bytes and checksums."""
    artifact = encode_batch(batch(), compression)
    assert artifact == encode_batch(batch(), compression)
    if compression == "gzip":
        assert artifact.content[4:8] == b"\0\0\0\0"  # gzip's own time of compression


def test_the_key_names_numbers_and_the_first_events_day() -> None:
    """A batch over midnight lies under the day of its first event."""
    name = parse_artifact_name(encode_batch(batch(first_seq=1, start=START - 10**9), "zstd").name)
    assert name is not None
    assert (name.first_seq, name.last_seq, name.day) == (1, 3, "2026-11-22")
    after = parse_artifact_name(encode_batch(batch(first_seq=2), "zstd").name)
    assert after is not None
    assert after.day == "2026-11-23"


def test_checksums() -> None:
    """The checksums are those of the bytes that are sent."""
    artifact = encode_batch(batch(), "zstd")
    assert artifact.crc32 == zlib.crc32(artifact.content)
    assert artifact.sha256 == hashlib.sha256(artifact.content).hexdigest()


def test_a_damaged_object_does_not_unpack() -> None:
    """The compressed bytes hold a checksum of their own: a flipped bit is noticed."""
    content = bytearray(compress(b"the same line again and again\n" * 100, "zstd"))
    content[len(content) // 2] ^= 1
    with pytest.raises(zstandard.ZstdError):
        zstandard.ZstdDecompressor().decompress(bytes(content))


def test_the_receipt_keeps_what_the_manifest_needs() -> None:
    """Of an artifact that is stored, name, numbers, sizes and digest are kept, not the bytes."""
    artifact = encode_batch(batch(), "zstd")
    assert Receipt.of(artifact) == Receipt(
        artifact.name, 5, 7, len(artifact.content), len(batch().raw), artifact.sha256
    )


@pytest.mark.parametrize("events", [2, 3, 8])
def test_halves(events: int) -> None:
    """The halves of a batch hold its lines, each once and in order."""
    whole = batch(events)
    first, second = split_batch(whole)
    assert first.raw + second.raw == whole.raw
    assert (first.first_seq, second.last_seq) == (whole.first_seq, whole.last_seq)
    assert second.first_seq == first.last_seq + 1 == whole.first_seq + events // 2
    for half in (first, second):
        numbers = [json.loads(line)["seq"] for line in half.raw.splitlines()]
        assert numbers == list(range(half.first_seq, half.last_seq + 1))
        assert encode_batch(half, "zstd").name.count(f"{half.first_seq:012d}")


def test_halving_minds_line_ends_only() -> None:
    """Signs that some programs take for line ends do not part an event."""
    odd = '{"time_unix_nano":1,"x":"a\u2028b\u0085c\u000bd\u000ce\u001cf"}'.encode()
    raw = b"".join(number_line(line_prefix(WRITER), seq, odd) for seq in (1, 2))
    first, second = split_batch(Batch(WRITER, 1, 2, raw))
    assert first.raw == raw[: len(raw) // 2]
    assert second.raw == raw[len(raw) // 2 :]
