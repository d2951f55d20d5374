"""Bytes of an artifact to lines, piece by piece: memory stays bounded whatever the bytes say."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any, Final

import zstandard

MAX_LINE: Final = 256 * 1024 * 1024
"""Bytes of one event; a longer line ends the artifact, so that no bytes can fill the memory."""

# A kilobyte of zstd unpacks to 32 MiB at the worst: its shortest block of 128 KiB takes 4 bytes.
_ZSTD_PIECE: Final = 1024
_PIECE: Final = 256 * 1024


class BrokenError(Exception):
    """The rest of the bytes cannot be unpacked."""


def lines_in(content: bytes, name: str) -> Iterator[bytes]:
    """Yield the lines of an artifact, without their line ends.

    Args:
        content: The artifact's bytes.
        name: Its key, which tells how it is packed.

    Raises:
        BrokenError: The rest cannot be unpacked.
    """
    carry: list[bytes] = []
    carried = 0
    for piece in _unpack(content, name):
        *complete, rest = piece.split(b"\n")
        if complete:
            if carry:
                complete[0] = b"".join((*carry, complete[0]))
                carry, carried = [], 0
            yield from complete
        if rest:
            carry.append(rest)
            carried += len(rest)
            if carried > MAX_LINE:
                raise BrokenError(f"a line of more than {MAX_LINE} bytes")
    if carry:
        raise BrokenError(f"the last line does not end: {carried} bytes of it are there")


def _unpack(content: bytes, name: str) -> Iterator[bytes]:
    if name.endswith(".zst"):
        return _unpack_frames(content)
    if name.endswith(".gz"):
        return _unpack_members(content)
    return (content[at : at + _PIECE] for at in range(0, len(content), _PIECE))


def _not_unpacked(why: object) -> BrokenError:
    return BrokenError(f"cannot be unpacked: {why}; the lines before are not checked")


def _unpack_frames(content: bytes) -> Iterator[bytes]:
    # Frame by frame: zstandard's stream reader takes a frame that was cut off for the end.
    frame: Any = None
    for at in range(0, len(content), _ZSTD_PIECE):
        rest = content[at : at + _ZSTD_PIECE]
        while rest:
            if frame is None:
                frame = zstandard.ZstdDecompressor().decompressobj()
            try:
                piece = frame.decompress(rest)
            except (zstandard.ZstdError, MemoryError) as error:
                raise _not_unpacked(error) from error
            if piece:
                yield piece
            rest = b""
            if frame.eof:
                rest, frame = frame.unused_data, None
    if frame is not None or not content:
        raise _not_unpacked("the bytes are cut off")


def _unpack_members(content: bytes) -> Iterator[bytes]:
    rest = content
    finished = False
    while rest:
        member = zlib.decompressobj(wbits=31)
        finished = False
        while not finished:
            try:
                piece = member.decompress(rest, _PIECE)
            except zlib.error as error:
                raise _not_unpacked(error) from error
            if piece:
                yield piece
            rest = member.unconsumed_tail
            finished = member.eof
            if not piece and not rest:
                break
        if not finished:
            break
        rest = member.unused_data
    if not finished:
        raise _not_unpacked("the bytes are cut off")
