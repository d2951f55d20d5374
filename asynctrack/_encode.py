"""Batch to Artifact: number the lines, compress them, fix key, bytes and checksums."""

from __future__ import annotations

import gzip
import hashlib
import zlib

import zstandard

from asynctrack._artifact import Artifact, Batch
from asynctrack._format import artifact_name, event_time, line_prefix

ZSTD_LEVEL = 3
"""About 0.5 µs for an event of 350 bytes, at a ratio near 20."""
GZIP_LEVEL = 6


def compress(raw: bytes, compression: str) -> bytes:
    """Compress bytes.

    Args:
        raw: What to compress.
        compression: ``"zstd"``, ``"gzip"`` or ``"none"``.
    """
    if compression == "zstd":
        # One for each call: a compressor must not be shared between threads.
        return zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_checksum=True).compress(raw)
    if compression == "gzip":
        return gzip.compress(raw, GZIP_LEVEL, mtime=0)  # no time: the same bytes each time
    return raw


def number_lines(writer_id: str, batch: Batch) -> bytes:
    """Return the batch as NDJSON: each body with schema version, writer and sequence number."""
    prefix = line_prefix(writer_id)
    return b"".join(
        b"%b%d,%b\n" % (prefix, seq, body[1:])
        for seq, body in enumerate(batch.bodies, batch.first_seq)
    )


def encode_batch(writer_id: str, batch: Batch, compression: str) -> Artifact:
    """Encode a batch; the same batch gives the same artifact, byte for byte.

    Args:
        writer_id: Who accepted the events.
        batch: At least one event.
        compression: ``"zstd"``, ``"gzip"`` or ``"none"``.
    """
    raw = number_lines(writer_id, batch)
    content = compress(raw, compression)
    return Artifact(
        name=artifact_name(
            writer_id,
            batch.first_seq,
            batch.last_seq,
            event_time(batch.bodies[0]),
            compression,
        ),
        content=content,
        crc32=zlib.crc32(content),
        sha256=hashlib.sha256(content).hexdigest(),
        first_seq=batch.first_seq,
        last_seq=batch.last_seq,
        raw_bytes=len(raw),
    )
