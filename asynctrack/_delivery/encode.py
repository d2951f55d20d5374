"""Batch to Artifact: compress the lines, fix key, bytes and checksums."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Container, Iterable, Iterator

import zstandard

from asynctrack._common.artifact import Artifact, Batch
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
    lines = batch.raw.splitlines(keepends=True)
    middle = len(lines) // 2
    cut = batch.first_seq + middle
    return (
        Batch(batch.writer_id, batch.first_seq, cut - 1, b"".join(lines[:middle])),
        Batch(batch.writer_id, cut, batch.last_seq, b"".join(lines[middle:])),
    )


def runs(
    writer_id: str, lines: Iterable[tuple[int, bytes]], cuts: Container[int] = ()
) -> Iterator[Batch]:
    """Yield a batch for each unbroken run of numbers, so that none takes the key of a whole one.

    Args:
        writer_id: Who accepted the events.
        lines: Lines in order, each with its sequence number.
        cuts: Numbers that begin another batch in any case.
    """
    run: list[bytes] = []
    first = last = 0
    for seq, line in lines:
        if run and (seq != last + 1 or seq in cuts):
            yield Batch(writer_id, first, last, b"".join(run))
            run = []
        if not run:
            first = seq
        run.append(line)
        last = seq
    if run:
        yield Batch(writer_id, first, last, b"".join(run))
