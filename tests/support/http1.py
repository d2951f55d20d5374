"""The little of HTTP/1.1 the fault proxy needs, with each byte in its hands."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

LIMIT = 1 << 20
"""Bytes a head may have."""

# About one connection and not about the message; the proxy has two connections.
_HOP_BY_HOP = frozenset(
    {"connection", "expect", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade"}
)


@dataclass(frozen=True)
class Head:
    """The first line and the headers, as they were sent."""

    first: str
    fields: tuple[tuple[str, str], ...]

    def get(self, name: str, default: str = "") -> str:
        found = [value for field, value in self.fields if field.lower() == name]
        return ", ".join(found) if found else default

    def changed(self, headers: Mapping[str, str | None]) -> Head:
        """With other values of some headers, names in lower case; None takes one out."""
        fields = [field for field in self.fields if field[0].lower() not in headers]
        fields += [(name, value) for name, value in headers.items() if value is not None]
        return Head(self.first, tuple(fields))

    @property
    def chunked(self) -> bool:
        return "chunked" in self.get("transfer-encoding").lower()

    @property
    def status(self) -> int:
        """Of the head of an answer."""
        return int(self.first.split(" ", 2)[1])


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """None when the connection ended before another message began."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as end:
        if end.partial:
            raise
        return None
    first, *lines = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    fields = (line.partition(":") for line in lines)
    return Head(first, tuple((name, value.strip()) for name, _, value in fields))


async def read_body(reader: asyncio.StreamReader, head: Head, *, until_end: bool = False) -> bytes:
    """The body without its transfer encoding.

    Args:
        reader: Where the body comes from.
        head: The head that was read before it.
        until_end: Without a length the body lasts until the connection ends, as answers' may.
    """
    if head.chunked:
        parts = []
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            parts.append(await reader.readexactly(size))
            await reader.readexactly(2)
        while await reader.readuntil(b"\r\n") != b"\r\n":  # trailers
            pass
        return b"".join(parts)
    if length := head.get("content-length"):
        return await reader.readexactly(int(length))
    return await reader.read() if until_end else b""


async def read_answer(reader: asyncio.StreamReader, *, without_body: bool) -> tuple[Head, bytes]:
    """The server's answer, its provisional answers left out.

    Args:
        reader: Where the answer comes from.
        without_body: It answers a HEAD request.

    Raises:
        ConnectionError: The server went away without one.
    """
    while True:
        head = await read_head(reader)
        if head is None:
            raise ConnectionResetError("the server closed the connection without an answer")
        if head.status >= 200:
            break
    if without_body or head.status in {204, 304}:
        return head, b""
    return head, await read_body(reader, head, until_end=True)


def for_the_server(head: Head, body: bytes) -> bytes:
    """The request as it goes on, on a connection of its own."""
    fields = [(name, value) for name, value in head.fields if name.lower() not in _HOP_BY_HOP]
    if head.chunked:
        fields.append(("Content-Length", str(len(body))))
    return _encode(head.first, [*fields, ("Connection", "close")], body)


def for_the_client(head: Head, body: bytes) -> bytes:
    """The answer as it goes back, on a connection that stays open."""
    fields = [(name, value) for name, value in head.fields if name.lower() not in _HOP_BY_HOP]
    if not head.get("content-length"):
        fields.append(("Content-Length", str(len(body))))
    status = head.first.split(" ", 1)[1]
    return _encode(f"HTTP/1.1 {status}", fields, body)


def made_up(status: int, fields: Iterable[tuple[str, str]], body: bytes, *, is_head: bool) -> bytes:
    """An answer of the proxy's own."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Unknown"
    length = ("Content-Length", str(len(body)))
    return _encode(f"HTTP/1.1 {status} {phrase}", [*fields, length], b"" if is_head else body)


def _encode(first: str, fields: Iterable[tuple[str, str]], body: bytes) -> bytes:
    lines = [first, *(f"{name}: {value}" for name, value in fields)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body
