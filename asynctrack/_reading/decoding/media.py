"""Images, audio and other files in a payload: what they are, in a few words instead of base64.

A message may hold them in the shapes of LangChain, OpenAI, Anthropic, Google or Bedrock, and as
bytes, which are stored as a marker. Whatever does not look right is no media: it is shown as it is.
Nothing here decodes more than the first bytes, except ``Media.content``.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import unquote_to_bytes

_KINDS: Final = {
    "image": "image",
    "image_url": "image",
    "input_image": "image",
    "image_generation_call": "image",
    "audio": "audio",
    "input_audio": "audio",
    "video": "video",
    "file": "file",
    "input_file": "file",
    "document": "file",
    "media": "file",
    "text-plain": "file",
}
"""What a block is, by its type."""
_INSIDE: Final = ("source", "image_url", "input_audio", "file")
"""Fields of such a block that may hold the data instead of the block itself."""
_NAMED: Final = {
    "image": "image",
    "audio": "audio",
    "video": "video",
    "document": "file",
    "inline_data": "file",
    "inlineData": "file",
    "file_data": "file",
    "fileData": "file",
}
"""What a block without a type is, by the name of its only field."""
_WITH_SOURCE: Final = frozenset({"image", "audio", "video", "document"})
_TYPES: Final = ("mime_type", "media_type", "mimeType", "format", "output_format")
_DATA: Final = ("base64", "data", "bytes", "result", "file_data")
_ADDRESSES: Final = ("url", "image_url", "file_url", "file_uri", "fileUri", "uri")
_IDS: Final = ("file_id", "fileId")
SAID_OF_MEDIA: Final = frozenset({*_INSIDE, *_NAMED, *_TYPES, *_DATA, *_ADDRESSES, *_IDS})
"""Fields of a block that say what is in it and where; others say more."""
_BYTES: Final = frozenset({"bytes", "bytearray", "memoryview"})

_LOOKED_AT: Final = 1_024
"""Characters that tell whether a text is base64."""
_SHORTEST: Final = 4
_DEPTH: Final = 100

_BASE64: Final = re.compile(r"[A-Za-z0-9+/_\-\r\n]+=*[\r\n]*")
_DATA_URL: Final = re.compile(
    r"data:(?P<type>[\w.+-]+/[\w.+-]+)?(?P<more>(?:;[\w.+-]+=[^;,\s]{0,200})*)(?P<base64>;base64)?,",
    re.ASCII | re.IGNORECASE,
)
_MIME: Final = re.compile(r"(?:(?P<main>\w{1,40})/)?(?:x-)?(?P<sub>[\w.+-]{1,80})", re.ASCII)
_UNITS: Final = ("B", "KB", "MB", "GB")

Form = Literal["base64", "percent", "text"]


@dataclass(frozen=True, slots=True)
class Media:
    """An image, or another file.

    Attributes:
        kind: ``image``, ``audio``, ``video`` or ``file``.
        type: ``png``, ``wav``, ``pdf``, …; what the first bytes say if they are an image's, else
            what was logged of it. Empty if unknown.
        size: In bytes; None without data.
        address: Where it is, or its id; None with data.
        held: The text that holds the data; None without data.
        form: How it holds it.
        begin: Where in it the data begins.
    """

    kind: str
    type: str
    size: int | None = None
    address: str | None = None
    held: str | None = field(default=None, repr=False)
    form: Form = "base64"
    begin: int = 0

    def __str__(self) -> str:
        """``image, 3.1 MB, png``; without data, its address in place of the size."""
        known = _size(self.size) if self.size is not None else self.address
        return ", ".join(part for part in (self.kind, known, self.type) if part)

    def head(self) -> bytes:
        """Return its first bytes; those that tell what an image is."""
        return b"" if self.held is None else _head(self.held, self.form, self.begin)

    def checksum(self) -> str:
        """Return the SHA-256 of the text that holds its data; empty without data."""
        held = "" if self.held is None else self.held[self.begin :]
        return held and hashlib.sha256(held.encode("utf-8", "surrogatepass")).hexdigest()

    def content(self) -> bytes | None:
        """Return all of its bytes; None without data, and if the data cannot be decoded."""
        if self.held is None:
            return None
        text = self.held[self.begin :]
        if self.form == "base64":
            return _decoded(text)
        encoded = text.encode("utf-8", "surrogatepass")
        return unquote_to_bytes(encoded) if self.form == "percent" else encoded


def media_of(value: Any) -> Media | None:
    """Return what a block, or a text that is a ``data:`` URL, holds; None for anything else."""
    if isinstance(value, str):
        return _in_url("file", value) if value[:5].lower() == "data:" else None
    if not isinstance(value, dict):
        return None
    if value.get("type") == "non_standard" and isinstance(value.get("value"), dict):
        value = value["value"]
    for kind, box in _boxes(value):
        found = _in_box(kind, box)
        if found is not None:
            return found
    return None


def files_in(value: Any) -> tuple[Media, ...]:
    """Return the images and other files whose data a payload holds, in their order."""
    found: dict[int, Media] = {}

    def take(media: Media) -> str:
        if media.held is not None:
            found.setdefault(id(media.held), media)
        return ""

    in_words(value, take)
    return tuple(found.values())


def raster_type(head: bytes) -> str | None:
    """Return the type of an image that every browser shows as pixels, by its first bytes."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "webp"
    return None


Say = Callable[[Media], str]
"""What is said of an image or another file."""


def in_words(value: Any, say: Say | None = str) -> Any:
    """Return a payload with words in place of the data of images and other files.

    Args:
        value: The payload; it is not changed.
        say: What is said of each; None leaves the data as it was stored.
    """
    return value if say is None else _in_words(value, say, {}, 0)


def _in_words(value: Any, say: Say, known: dict[int, str], depth: int) -> Any:
    if isinstance(value, str):
        words = known.get(id(value))
        if words is not None:
            return words
        media = media_of(value)
        return value if media is None else say(media)
    if depth > _DEPTH or not value:
        return value
    if isinstance(value, list):
        return [_in_words(item, say, known, depth + 1) for item in value]
    if not isinstance(value, dict):
        return value
    media = media_of(value)
    if media is not None and media.held is not None:
        known[id(media.held)] = say(media)
    return {name: _in_words(item, say, known, depth + 1) for name, item in value.items()}


def _boxes(value: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield where the data of a block may be, with what it would be there."""
    given = value.get("type")
    kind = _KINDS.get(given) if isinstance(given, str) else None
    if kind is not None:
        yield kind, value
        for name in _INSIDE:
            if isinstance(value.get(name), dict):
                yield kind, value[name]
    if not _NAMED.keys().isdisjoint(value):
        for name, kind in _NAMED.items():
            box = value.get(name)
            if isinstance(box, dict):
                yield kind, _source(box) if name in _WITH_SOURCE else box
    if isinstance(value.get("$type"), str) and isinstance(value.get("base64"), str):
        yield "file", {"bytes": value} if value["$type"] in _BYTES else {}


def _source(box: dict[str, Any]) -> dict[str, Any]:
    source = box.get("source")
    if not isinstance(source, dict):
        return {}
    location = source.get("s3Location")
    more = location if isinstance(location, dict) else {}
    return {"format": box.get("format"), **source, **more}


def _in_box(kind: str, box: dict[str, Any]) -> Media | None:
    if box.get("source_type") == "text" or box.get("type") in ("text", "content"):
        return None  # its data is the text itself
    declared = next((box[name] for name in _TYPES if isinstance(box.get(name), str)), "")
    for name in _DATA:
        held = box.get(name)
        if isinstance(held, dict) and isinstance(held.get("utf8"), str):
            return _media(kind, declared, held["utf8"], "text")
        if isinstance(held, dict):
            held = held.get("base64")
        if not isinstance(held, str):
            continue
        found = _in_url(kind, held) if held[:5].lower() == "data:" else None
        if found is None and _is_base64(held, 0):
            found = _media(kind, declared, held, "base64")
        if found is not None:
            return found
    for name in _ADDRESSES:
        address = box.get(name)
        if isinstance(address, str) and address:
            found = _in_url(kind, address) if address[:5].lower() == "data:" else None
            return found or _at(kind, declared, address)
    names = (*_IDS, "id") if box.get("source_type") == "id" else _IDS
    ids = (box[name] for name in names if isinstance(box.get(name), str) and box[name])
    return next((_at(kind, declared, one) for one in ids), None)


def _in_url(kind: str, url: str) -> Media | None:
    found = _DATA_URL.match(url, 0, _LOOKED_AT)
    if found is None:
        return None
    declared = found["type"] or "text/plain"
    if not found["base64"]:
        if declared.lower().startswith("text/"):
            return None  # it can be read as it is
        return _media(kind, declared, url, "percent", found.end())
    if not _is_base64(url, found.end()):
        return None
    return _media(kind, declared, url, "base64", found.end())


def _media(kind: str, declared: str, held: str, form: Form, begin: int = 0) -> Media:
    if form == "base64":
        breaks = held.count("\n", begin) + held.count("\r", begin)
        padding = held.count("=", max(begin, len(held) - _SHORTEST))
        size = (len(held) - begin - breaks - padding) * 3 // 4
    elif form == "percent":
        size = len(held) - begin - 2 * held.count("%", begin)
    else:
        size = len(held) if held.isascii() else len(held.encode("utf-8", "surrogatepass"))
    raster = raster_type(_head(held, form, begin))
    if raster is not None and not declared:
        kind = "image"
    return Media(*_named(kind, declared, raster), max(0, size), None, held, form, begin)


def _at(kind: str, declared: str, address: str) -> Media:
    return Media(*_named(kind, declared, None), None, address)


def _named(kind: str, declared: str, raster: str | None) -> tuple[str, str]:
    """Return the kind and the type, by what was said of it and by its bytes."""
    found = _MIME.match(declared)
    main = (found["main"] or "").lower() if found is not None else ""
    sub = found["sub"].lower().removesuffix("+xml") if found is not None else ""
    return main if main in ("image", "audio", "video") else kind, raster or sub


def _is_base64(text: str, begin: int) -> bool:
    end = min(len(text), begin + _LOOKED_AT)
    return end - begin >= _SHORTEST and _BASE64.fullmatch(text, begin, end) is not None


def _head(held: str, form: Form, begin: int) -> bytes:
    if form != "base64":
        encoded = held[begin : begin + 64].encode("utf-8", "surrogatepass")
        return unquote_to_bytes(encoded) if form == "percent" else encoded
    first = "".join(held[begin : begin + 64].split())
    return _decoded(first[: len(first) // 4 * 4]) or b""


def _decoded(text: str) -> bytes | None:
    """Return what base64 stands for, in either of its alphabets, with padding or without."""
    plain = "".join(text.split()).rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except ValueError:
        return None


def _size(value: int) -> str:
    number = float(value)
    for unit in _UNITS:
        if number < 999.5 or unit == _UNITS[-1]:
            return (
                f"{number:.1f} {unit}" if number < 9.95 and unit != "B" else f"{number:.0f} {unit}"
            )
        number /= 1000
    raise AssertionError("the last unit takes all")
