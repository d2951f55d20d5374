"""Small images and other files, made by hand, and every shape in which a message may hold them."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any


def png(width: int = 40, height: int = 30, colour: tuple[int, int, int] = (200, 40, 40)) -> bytes:
    """A PNG of one colour; of a huge one only what says its size."""

    def chunk(name: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = (b"\x00" + bytes(colour) * width) * height if width * height < 10**6 else b""
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def gif(width: int = 1, height: int = 1) -> bytes:
    """The head of a GIF, with one pixel in it."""
    size = struct.pack("<HH", width, height)
    frame = b"\x2c\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02\x44\x01\x00\x3b"
    return b"GIF89a" + size + b"\x80\x00\x00" + b"\xff\x00\x00\x00\x00\x00" + frame


def jpeg(width: int = 8, height: int = 8) -> bytes:
    """The head of a JPEG, in an unusual order: enough to tell its size."""
    comment = b"\xff\xe1" + struct.pack(">H", 302) + b"\xc0" * 300
    table = b"\xff\xc4" + struct.pack(">H", 20) + bytes(18)
    frame = b"\xff\xff\xc2" + struct.pack(">HBHH", 17, 8, height, width) + b"\x03"
    return b"\xff\xd8" + comment + table + frame


def webp(width: int = 8, height: int = 8) -> bytes:
    """The head of a WebP of the extended kind."""
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF\x00\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00" + bytes(4) + size


WRITTEN = {
    name: (kind, base64.b64decode(text))
    for name, kind, text in (
        ("GIF", "gif",
         "R0lGODdhHgAUAIEAAGNjYwAAAAAAAAAAACwAAAAAHgAUAEAIKgABCBxIsKDBgwgTKlzIsKHDhxAjSpxIsaLFixgz"
         "atzIsaPHjyBDiiwYEAA7"),
        ("JPEG", "jpeg",
         "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAFA3PEY8MlBGQUZaVVBfeMiCeG5uePWvuZHI////////////////////"
         "////////////////////////////////wAALCAAUAB4BAREA/8QAFQABAQAAAAAAAAAAAAAAAAAAAAL/xAAUEAEA"
         "AAAAAAAAAAAAAAAAAAAA/9oACAEBAAA/AIAAAB//2Q=="),
        ("progressive JPEG with a comment", "jpeg",
         "/9j/4AAQSkZJRgABAQAAAQABAAD//gAU/8D/wP/A/8D/wP/A/8D/wP/A/9sAQwBQNzxGPDJQRkFGWlVQX3jIgnhu"
         "bnj1r7mRyP///////////////////////////////////////////////////8IACwgAFAAeAQERAP/EABUAAQEA"
         "AAAAAAAAAAAAAAAAAAAC/9oACAEBAAAAAZAB/8QAFBABAAAAAAAAAAAAAAAAAAAAMP/aAAgBAQABBQJP/8QAFBAB"
         "AAAAAAAAAAAAAAAAAAAAMP/aAAgBAQAGPwJP/8QAFBABAAAAAAAAAAAAAAAAAAAAMP/aAAgBAQABPyFP/9oACAEB"
         "AAAAEP8A/wD/xAAUEAEAAAAAAAAAAAAAAAAAAAAw/9oACAEBAAE/EE//2Q=="),
        ("WebP", "webp",
         "UklGRkAAAABXRUJQVlA4IDQAAAAwAwCdASoeABQAP3Gy0GA0rimlqAgCkC4JZQDPGoAAQFBQAP7eEn5GQ26OfgnqWp"
         "BPUAAA"),
        ("WebP without loss", "webp", "UklGRh4AAABXRUJQVlA4TBEAAAAvHcAEAAfQsSb0uP+BiOh/AAA="),
        ("WebP with more in it", "webp",
         "UklGRkIAAABXRUJQVlA4WAoAAAAIAAAAHQAAEwAAVlA4TBEAAAAvHcAEAAfQsSb0uP+BiOh/AABFWElGCgAAAElJ"
         "KgAIAAAAAAA="),
    )
}  # fmt: skip
"""Gray images of 30 by 20, as a library writes them, with their types."""

WAV = b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(180)
PDF = b"%PDF-1.7\n\xff\xff" + bytes(400)
SVG = (
    b'<svg xmlns="http://www.w3.org/2000/svg" onload="window.pwned=1" width="9" height="9">'
    b"<script>window.pwned=2</script></svg>"
)


def encoded(content: bytes) -> str:
    """Bytes in base64."""
    return base64.b64encode(content).decode()


def url(content: bytes, mime: str) -> str:
    """Bytes as a ``data:`` URL."""
    return f"data:{mime};base64,{encoded(content)}"


def marked(content: bytes) -> dict[str, Any]:
    """Bytes as asynctrack stores them."""
    return {"$type": "bytes", "base64": encoded(content)}


PNG = png()
WORDS = f"image, {len(PNG)} B, png"
IMAGES: dict[str, Any] = {
    "data URL": url(PNG, "image/png"),
    "data URL in capitals": url(PNG, "IMAGE/PNG").replace("data", "DATA"),
    "data URL with a parameter": url(PNG, "image/png;name=a.png"),
    "openai": {"type": "image_url", "image_url": {"url": url(PNG, "image/png"), "detail": "low"}},
    "openai, text": {"type": "image_url", "image_url": url(PNG, "image/png")},
    "openai responses": {"type": "input_image", "image_url": url(PNG, "image/png")},
    "openai responses, object": {
        "type": "input_image", "image_url": {"url": url(PNG, "image/png")},
    },
    "openai drew it": {"type": "image_generation_call", "id": "ig", "result": encoded(PNG)},
    "anthropic": {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": encoded(PNG)},
    },
    "langchain 0": {
        "type": "image", "source_type": "base64", "mime_type": "image/png", "data": encoded(PNG),
    },
    "langchain 0, url": {"type": "image", "source_type": "url", "url": url(PNG, "image/png")},
    "langchain 1": {"type": "image", "base64": encoded(PNG), "mime_type": "image/png"},
    "langchain 1, no type": {"type": "image", "base64": encoded(PNG)},
    "langchain 1, url": {"type": "image", "url": url(PNG, "image/png")},
    "langchain 1, not standard": {
        "type": "non_standard",
        "value": {"image": {"format": "png", "source": {"bytes": marked(PNG)}}},
    },
    "google": {"type": "media", "mime_type": "image/png", "data": encoded(PNG)},
    "google, bytes": {"type": "media", "mime_type": "image/png", "data": marked(PNG)},
    "google inline": {"inline_data": {"mime_type": "image/png", "data": encoded(PNG)}},
    "google inline, JSON": {"inlineData": {"mimeType": "image/png", "data": encoded(PNG)}},
    "bedrock": {"image": {"format": "png", "source": {"bytes": marked(PNG)}}},
    "bedrock, base64": {"image": {"format": "png", "source": {"bytes": encoded(PNG)}}},
    "bytes": marked(PNG),
    "in lines": {"type": "image", "base64": base64.encodebytes(PNG).decode()},
    "for addresses": {
        "type": "image", "base64": base64.urlsafe_b64encode(PNG).decode().rstrip("="),
    },
}  # fmt: skip
"""The same image in every shape."""

OTHERS: dict[str, tuple[Any, str]] = {
    "openai audio": (
        {"type": "input_audio", "input_audio": {"data": encoded(WAV), "format": "wav"}},
        f"audio, {len(WAV)} B, wav",
    ),
    "openai file": (
        {"type": "file", "file": {"filename": "a.pdf", "file_data": url(PDF, "application/pdf")}},
        f"file, {len(PDF)} B, pdf",
    ),
    "openai file id": ({"type": "file", "file": {"file_id": "file-1"}}, "file, file-1"),
    "openai responses file": (
        {"type": "input_file", "filename": "a.pdf", "file_data": url(PDF, "application/pdf")},
        f"file, {len(PDF)} B, pdf",
    ),
    "anthropic document": (
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf",
                                        "data": encoded(PDF)}},
        f"file, {len(PDF)} B, pdf",
    ),
    "anthropic url": (
        {"type": "image", "source": {"type": "url", "url": "https://a.invalid/cat.png"}},
        "image, https://a.invalid/cat.png",
    ),
    "openai url": (
        {"type": "image_url", "image_url": {"url": "https://a.invalid/cat.png"}},
        "image, https://a.invalid/cat.png",
    ),
    "anthropic file id": (
        {"type": "image", "source": {"type": "file", "file_id": "file_1"}}, "image, file_1",
    ),
    "langchain 0 id": ({"type": "audio", "source_type": "id", "id": "a1"}, "audio, a1"),
    "langchain 1 video": (
        {"type": "video", "base64": encoded(b"x" * 12_345), "mime_type": "video/mp4"},
        "video, 12 KB, mp4",
    ),
    "langchain 1 text file": (
        {"type": "text-plain", "base64": encoded(b"x" * 1_234), "mime_type": "text/plain"},
        "file, 1.2 KB, plain",
    ),
    "langchain 1 id": ({"type": "file", "file_id": "f1", "mime_type": "application/pdf"},
                       "file, f1, pdf"),
    "google file": (
        {"type": "media", "mime_type": "video/mp4", "file_uri": "gs://b/a.mp4"},
        "video, gs://b/a.mp4, mp4",
    ),
    "google file, JSON": (
        {"fileData": {"mimeType": "video/mp4", "fileUri": "gs://b/a.mp4"}},
        "video, gs://b/a.mp4, mp4",
    ),
    "bedrock document": (
        {"document": {"format": "csv", "name": "a", "source": {"bytes": {"$type": "bytes",
                                                                         "utf8": "a,é"}}}},
        "file, 4 B, csv",
    ),
    "bedrock S3": (
        {"video": {"format": "mp4", "source": {"s3Location": {"uri": "s3://b/a.mp4"}}}},
        "video, s3://b/a.mp4, mp4",
    ),
    "said to be png": ({"type": "image", "base64": encoded(WAV), "mime_type": "image/png"},
                       f"image, {len(WAV)} B, png"),
    "said to be svg": (
        {"type": "image", "base64": encoded(PNG), "mime_type": "image/svg+xml"}, WORDS,
    ),
    "svg": ({"type": "image", "base64": encoded(SVG), "mime_type": "image/svg+xml"},
            f"image, {len(SVG)} B, svg"),
    "svg URL": ("data:image/svg+xml,%3Csvg%3E%3C/svg%3E", "image, 11 B, svg"),
    "a type that is none": ({"type": "image", "base64": encoded(WAV), "mime_type": "<b>\n" * 99},
                            f"image, {len(WAV)} B"),
    "3.1 MB": ({"type": "image", "base64": encoded(PNG + bytes(3_100_000))},
               "image, 3.1 MB, png"),
}  # fmt: skip
"""Other files, and what is said of them."""

NONE: dict[str, Any] = {
    "text": "What is in this image?",
    "data in a text": "data: a table, in words",
    "data without a type": "data:,What is it?",
    "readable": "data:text/plain,What is it?",
    "no base64": "data:image/png;base64,<script>",
    "text block": {"type": "text", "text": "hi"},
    "text in base64's place": {"type": "image", "base64": "a text with spaces", "mime_type": "a/b"},
    "anthropic text": {"type": "document", "source": {"type": "text", "data": "abcd"}},
    "langchain 0 text": {"type": "file", "source_type": "text", "data": "abcd", "text": "abcd"},
    "empty": {"type": "image"},
    "nothing in it": {"type": "image", "base64": "", "url": "", "file_id": ""},
    "wrong types": {"type": "image", "base64": 7, "url": [], "source": "x", "file_id": {}},
    "wrong types inside": {"type": "image_url", "image_url": {"url": {"url": 5}}},
    "a list for a type": {"type": ["image"], "base64": "YWJj"},
    "a message": {"type": "human", "content": "hi"},
    "a tool's arguments": {"image": {"url": "https://a.invalid"}, "document": {"data": "abcd"}},
    "readable bytes": {"$type": "bytes", "utf8": "text"},
    "another marker": {"$type": "decimal.Decimal", "base64": "YWJj", "value": "1"},
    "not standard, deep": {"type": "non_standard", "value": {"type": "non_standard", "value": {}}},
    "number": 7,
    "none": None,
    "list": [{"type": "image", "base64": "YWJj"}],
}
"""What is no image and no file."""
