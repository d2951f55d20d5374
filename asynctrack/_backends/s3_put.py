"""PutObject with boto3, in threads, by S3's own word only; ``aws`` is the one that is awaited."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

from asynctrack._backends import acknowledge
from asynctrack._backends.aws_errors import map_error

_PART: Final = 1 << 20
"""Bytes of a file that are read at a time."""


def put_object(
    client: Any,
    bucket: str,
    key: str,
    content: bytes | BinaryIO,
    *,
    crc32: int | None = None,
    **options: Any,
) -> None:
    """Store an object with one PutObject, by S3's own word. Blocks.

    Args:
        client: boto3's S3 client.
        bucket: Where.
        key: The object's key.
        content: Its bytes, or an open file of them.
        crc32: Their checksum of when they were made; None takes the one they have now.
        **options: Further arguments of PutObject.

    Raises:
        TransientError: What answered is not S3, or did not get these bytes.
        Exception: Whatever boto3 raises.
    """
    size = now = 0
    for part in _parts(content):
        size += len(part)
        now = zlib.crc32(part, now)
    checksum = acknowledge.checksum_of(now if crc32 is None else crc32)
    if not isinstance(content, bytes):
        content.seek(0)
    place = {"Bucket": bucket, "Key": key}
    put = client.put_object(**place, Body=content, ChecksumCRC32=checksum, **options)
    if acknowledge.is_acknowledged(put, checksum):
        return
    try:
        head = client.head_object(**place, ChecksumMode="ENABLED")
    except Exception as error:
        why = f"asked for the object itself: {map_error(error)}"
        raise acknowledge.unacknowledged(put, why) from error

    def md5() -> str:
        digest = hashlib.md5(usedforsecurity=False)
        for part in _parts(content):
            digest.update(part)
        return digest.hexdigest()

    acknowledge.require_stored(put, head, size=size, checksum=checksum, md5=md5)


def _parts(content: bytes | BinaryIO) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    content.seek(0)
    while part := content.read(_PART):
        yield part
