"""Events to rows of Parquet and back, without a difference; and a file read in ranges.

A field is a column, a payload is JSON text. A field without a column, or with a value that its
column cannot hold, is in ``rest``; so is the version, but for 1: the columns are the same whenever
a file was written. ``line_of`` gives the line that an event and its row share. A value that is kept
has a row as well: ``event`` is ``value``, ``name`` its id, ``data`` what it holds.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from asynctrack._reading.decoding.events import json_text

_TEXTS: Final = ("event", "span_id", "parent_span_id", "trace_id", "name")
_PAYLOADS: Final = ("metadata", "inputs", "outputs", "error", "data", "attributes")
_VERSION: Final = re.compile(r'\{"v":(\d+),?')
_FIELDS: Final = frozenset({"v", "writer_id", "seq", "time_unix_nano", *_TEXTS, "tags", *_PAYLOADS})

NAMES: Final = (
    "writer_id", "seq", "time_unix_nano", "time", *_TEXTS, "tags", *_PAYLOADS,
    "model", "input_tokens", "output_tokens", "rest",
)  # fmt: skip
"""The columns. ``time``, ``model`` and the tokens are for queries: they repeat others."""


def schema_of(pyarrow: Any) -> Any:
    """Return the ``pyarrow.Schema`` of a file of Events."""
    text, count = pyarrow.string(), pyarrow.int64()
    special = {
        "seq": count,
        "time_unix_nano": count,
        "time": pyarrow.timestamp("us", tz="UTC"),  # what Athena and Spark read
        "tags": pyarrow.list_(text),
        "input_tokens": count,
        "output_tokens": count,
    }
    return pyarrow.schema([(name, special.get(name, text)) for name in NAMES])


def row_of(raw: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return an event's row: a value for each of ``NAMES``."""
    rest = {"v": raw["v"]} if raw["v"] != 1 else {}
    rest.update((key, value) for key, value in raw.items() if key not in _FIELDS or value is None)
    attributes = raw.get("attributes") or {}
    model = attributes.get("gen_ai.request.model", attributes.get("gen_ai.response.model"))
    tokens = [attributes.get(f"gen_ai.usage.{name}_tokens") for name in ("input", "output")]
    return (
        raw["writer_id"],
        raw["seq"],
        raw["time_unix_nano"],
        raw["time_unix_nano"] // 1000,
        *[raw.get(name) for name in _TEXTS],
        raw.get("tags"),
        *[json_text(raw.get(name)) for name in _PAYLOADS],
        model if isinstance(model, str) else None,
        *[one if type(one) is int and abs(one) < 2**63 else None for one in tokens],
        json_text(rest) if rest else None,
    )


def line_of(row: Mapping[str, Any]) -> bytes:
    """Return the line of a row: values by column."""
    rest = row["rest"] or "{}"
    version = _VERSION.match(rest)
    parts = [
        f'{{"v":{version[1] if version else 1}'
        f',"writer_id":{json_text(row["writer_id"])},"seq":{row["seq"]}'
        f',"time_unix_nano":{row["time_unix_nano"]}'
    ]
    parts += [f',"{name}":{json_text(row[name])}' for name in _TEXTS if row[name] is not None]
    if row["tags"] is not None:
        parts.append(f',"tags":{json_text(row["tags"])}')
    parts += [f',"{name}":{row[name]}' for name in _PAYLOADS if row[name] is not None]
    rest = rest[version.end() if version else 1 : -1]
    if rest:
        parts.append(f",{rest}")
    parts.append("}\n")
    return "".join(parts).encode()


def lines_of(columns: Mapping[str, list[Any]]) -> Iterator[bytes]:
    """Yield the lines of rows; the rows come as columns."""
    names = list(columns)
    for values in zip(*columns.values(), strict=True):
        yield line_of(dict(zip(names, values, strict=True)))


class RangedFile(io.RawIOBase):
    """A file that fetches only what is read.

    Args:
        size: The file's size, in bytes.
        fetch: Returns the bytes from one place up to another.
        whole: A range that is fetched with one request once a part of it is read.
    """

    def __init__(
        self, size: int, fetch: Callable[[int, int], bytes], whole: tuple[int, int] = (0, 0)
    ) -> None:
        super().__init__()
        self._size = size
        self._fetch = fetch
        self._whole = whole
        self._held: bytes | None = None
        self._at = 0

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def seekable(self) -> bool:
        """Tell that it can be read from any place."""
        return True

    def tell(self) -> int:
        """Return the place."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read from the place on."""
        end = min(self._at + len(buffer), self._size)
        if end <= self._at:
            return 0
        first, last = self._whole
        if first <= self._at and end <= last:
            if self._held is None:
                self._held = self._fetch(first, last)
            content = self._held[self._at - first : end - first]
        else:
            content = self._fetch(self._at, end)
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)
