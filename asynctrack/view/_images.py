"""Which images a browser is given: pixels of four types, by their bytes, of bounded size (pure).

What was logged of an image counts for nothing. Vector graphics and everything else that can hold
more than pixels are text.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from asynctrack._reading.decoding.media import Media, raster_type

MAX_BYTES: Final = 10_000_000
"""Bytes of an image that is shown; vendors take 5 to 20 MB."""
MAX_PIXELS: Final = 50_000_000
"""Pixels of an image that is shown: a few bytes may stand for gigabytes of them."""


def can_be_shown(media: Media) -> bool:
    """Tell whether this may be an image to show, by its size and its first bytes."""
    return (
        media.kind == "image"
        and media.size is not None
        and media.size <= MAX_BYTES
        and raster_type(media.head()) is not None
    )


def to_show(media: Media) -> tuple[bytes, str] | None:
    """Return the bytes of an image and its type; None if it is not to be shown."""
    content = media.content() if can_be_shown(media) else None
    if content is None or len(content) > MAX_BYTES:
        return None
    kind = raster_type(content)
    if kind is None:
        return None
    try:
        width, height = _SIZES[kind](content)
    except (struct.error, IndexError):  # it ends before it says its size
        return None
    return (content, kind) if 0 < width * height <= MAX_PIXELS else None


def _png(content: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from(">II", content, 16)
    return width, height


def _gif(content: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<HH", content, 6)
    return width, height


def _jpeg(content: bytes) -> tuple[int, int]:
    at = 2
    while content[at] == 0xFF:
        marker = content[at + 1]
        if marker == 0xFF:  # filling
            at += 1
            continue
        # The start of a frame, of any coding; the four others have numbers among them.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", content, at + 5)
            return width, height
        (length,) = struct.unpack_from(">H", content, at + 2)
        at += 2 + length
    return 0, 0


def _webp(content: bytes) -> tuple[int, int]:
    form = content[12:16]
    if form == b"VP8X":
        width, wide, height, high = struct.unpack_from("<HBHB", content, 24)
        return 1 + width + (wide << 16), 1 + height + (high << 16)
    if form == b"VP8L":
        (bits,) = struct.unpack_from("<I", content, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack_from("<HH", content, 26)
    return width & 0x3FFF, height & 0x3FFF


_SIZES: Final[dict[str, Any]] = {"png": _png, "gif": _gif, "jpeg": _jpeg, "webp": _webp}
