"""Batch to Artifact: compress the lines, fix key, bytes and checksums."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Container, Iterable, Iterator

import zstandard

from asynctrack._common.artifact import Artifact, Batch
from asynctrack._common.lines import Entry, entries_of, parts
from asynctrack._format import artifact_name, line_time

ZSTD_LEVEL = 3
"""About 0.5 µs for an event of 350 bytes, at a ratio near 20."""
ZSTD_WINDOW_LOG = 23
"""How far back a repeat is found: 8 MiB, as much as a batch holds by default, and the most that the
format asks every reader to take. ``benchmarks.compression`` has what else was tried."""
GZIP_LEVEL = 6


def compress(raw: bytes, compression: str) -> bytes:
    """Compress bytes.

    Args:
        raw: What to compress.
        compression: ``"zstd"``, ``"gzip"`` or ``"none"``.
    """
    if compression == "zstd":
        parameters = zstandard.ZstdCompressionParameters.from_level(
            ZSTD_LEVEL, source_size=len(raw), window_log=ZSTD_WINDOW_LOG, write_checksum=True
        )
        # One for each call: a compressor must not be shared between threads.
        return zstandard.ZstdCompressor(compression_params=parameters).compress(raw)
    if compression == "gzip":
        return gzip.compress(raw, GZIP_LEVEL, mtime=0)  # no time: the same bytes each time
    return raw


def encode_batch(batch: Batch, compression: str) -> Artifact:
    """Encode a batch; the same batch gives the same artifact, byte for byte.

    Args:
        batch: At least one event.
        compression: ``"zstd"``, ``"gzip"`` or ``"none"``.
    """
    content = compress(batch.raw, compression)
    return Artifact(
        name=artifact_name(
            batch.writer_id,
            batch.first_seq,
            batch.last_seq,
            line_time(batch.raw),
            compression,
        ),
        content=content,
        crc32=zlib.crc32(content),
        sha256=hashlib.sha256(content).hexdigest(),
        first_seq=batch.first_seq,
        last_seq=batch.last_seq,
        raw_bytes=len(batch.raw),
    )


def split_batch(batch: Batch) -> tuple[Batch, Batch]:
    """Return the two halves of a batch of more than one event; the same each time."""
    entries = entries_of(batch.raw, batch.first_seq)
    first, second = runs(batch.writer_id, entries, {entries[len(entries) // 2][0]})
    return first, second


def runs(writer_id: str, entries: Iterable[Entry], cuts: Container[int] = ()) -> Iterator[Batch]:
    """Yield a batch for each unbroken run of numbers, so that none takes the key of a whole one.

    Each is complete in itself: it has the values that its events refer to.

    Args:
        writer_id: Who accepted the events.
        entries: The entries in order.
        cuts: Numbers that begin another batch in any case.
    """
    for part in parts(entries, cuts):
        raw = b"".join([entry for _, entry in part])
        yield Batch(writer_id, part[0][0], part[-1][0], raw)
