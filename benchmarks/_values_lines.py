"""Lines as they are stored, with repeats (version 1) and with values stored once (version 2).

They are made here and not by the write path, so that both kinds can be compared whichever of them
the code writes.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import Any, Final

import orjson

from benchmarks._values_cases import Run

LARGE: Final = 4096
"""Bytes from which on a text, or a list of ``MANY`` objects, is a value."""
MANY: Final = 8
_WRITER: Final = "0" * 24


def with_repeats(run: Run) -> list[bytes]:
    """Run once, and return a line for each callback, with all that LangChain passed in it."""
    from langchain_core.callbacks import AsyncCallbackHandler

    lines: list[bytes] = []

    def method(name: str) -> Any:
        async def call(self: Any, *arguments: Any, **options: Any) -> None:
            record = {
                "v": 1,
                "writer_id": _WRITER,
                "seq": len(lines) + 1,
                "time_unix_nano": time.time_ns(),
                "event": name.removeprefix("on_"),
                "span_id": str(options["run_id"]),
                "parent_span_id": str(options.get("parent_run_id")),
                **{key: options[key] for key in ("name", "tags", "metadata") if options.get(key)},
                "inputs" if name.endswith("_start") else "outputs": arguments[-1],
            }
            lines.append(orjson.dumps(record, _plain, orjson.OPT_NON_STR_KEYS) + b"\n")

        return call

    names = [name for name in dir(AsyncCallbackHandler) if name.startswith("on_")]
    members: dict[str, Any] = {name: method(name) for name in names}
    handler = type("Lines", (AsyncCallbackHandler,), {**members, "run_inline": True})()
    asyncio.run(_finish(run, handler))
    return lines


async def _finish(run: Run, handler: Any) -> None:
    await run({"callbacks": [handler]})


def _plain(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return {key: one for key, one in value.model_dump().items() if one}
    return getattr(value, "__dict__", str(value))


def stored_once(lines: list[bytes]) -> list[bytes]:
    """Return the same lines with references, and a line for each value before its first."""
    return _Values().lines(lines)


class _Values:
    def __init__(self) -> None:
        self._made: list[bytes] = []
        self._texts: set[str] = set()
        self._lists: dict[bytes, tuple[str, int]] = {}
        self._about: dict[str, Any] = {}

    def lines(self, lines: list[bytes]) -> list[bytes]:
        for line in lines:
            record = {**orjson.loads(line), "v": 2}
            kept = ("v", "writer_id", "seq", "time_unix_nano")
            self._about = {name: record[name] for name in kept}
            self._made.append(orjson.dumps(self._referring(record)) + b"\n")
        return self._made

    def _value(self, name: str, data: Any) -> None:
        line = {**self._about, "event": "value", "name": name, "data": data}
        self._made.append(orjson.dumps(line) + b"\n")

    def _referring(self, value: Any) -> Any:
        if isinstance(value, str) and len(value) > LARGE:
            data = orjson.dumps(value)
            name = hashlib.sha256(data).hexdigest()[:32]
            if name not in self._texts:
                self._texts.add(name)
                self._value(name, value)
            return {"$ref": name, "bytes": len(data), "head": value[:80]}
        if isinstance(value, dict):
            return {key: self._referring(one) for key, one in value.items()}
        if isinstance(value, list):
            return self._list(value)
        return value

    def _list(self, value: list[Any]) -> Any:
        size = len(orjson.dumps(value)) if len(value) >= MANY else 0
        if size <= LARGE:
            return [self._referring(one) for one in value]
        # A list is told by how it begins: here, none becomes another one in between.
        begin = orjson.dumps(value[0])
        name = hashlib.sha256(begin).hexdigest()[32:]
        name, known = self._lists.get(begin, (name, 0))
        if len(value) > known:
            items = [self._referring(one) for one in value[known:]]
            self._value(name, {"from": known, "items": items})
            self._lists[begin] = (name, len(value))
        return {"$ref": name, "items": len(value), "bytes": size}
