"""The careful path: walks through any value in Python and makes what orjson can encode.

For what the fast path refuses: cycles, lone surrogates, keys that are not strings, huge integers,
NaN. What JSON cannot hold becomes a marker; its neighbours stay.
"""

from __future__ import annotations

import math
from datetime import date, datetime, time
from enum import Enum
from typing import Any
from uuid import UUID

from asynctrack._common.convert import MAX_DEPTH, MAX_NODES, convert
from asynctrack._common.marker import clean, integer_text, marker, safe_str, type_name


def to_plain(value: Any) -> Any:
    """Return what orjson can encode, for any value.

    Args:
        value: Anything.

    Returns:
        A structure of dict, list, str, int, float, bool and None, not deeper than ``MAX_DEPTH``.
    """
    return _Walker().walk(value, 0)


class _Walker:
    """One walk, with the objects on the way down to the current value."""

    def __init__(self) -> None:
        self._on_path: set[int] = set()
        self._nodes = 0

    def walk(self, value: Any, depth: int) -> Any:
        # Ask the type: asking the value may run its code, which may raise.
        kind = type(value)
        self._nodes += 1
        if value is None or kind is bool:
            return value
        if not issubclass(kind, Enum):
            if issubclass(kind, str):
                return clean(value)
            if issubclass(kind, int):
                value = int.__int__(value)
                small = -(2**63) <= value < 2**64
                return value if small else marker(value, value=integer_text(value))
            if issubclass(kind, float):
                value = float.__float__(value)
                return value if math.isfinite(value) else marker(value, value=str(value))
        if depth > MAX_DEPTH:
            return marker(value, cut="depth")
        if self._nodes > MAX_NODES:
            return marker(value, cut="size")
        if id(value) in self._on_path:
            return marker(value, cut="cycle")
        self._on_path.add(id(value))
        try:
            return self._container(value, depth)
        except Exception as error:
            return marker(value, cut="error", error=type_name(error))
        finally:
            self._on_path.discard(id(value))

    def _container(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if issubclass(kind, dict):
            plain: dict[str, Any] = {}
            for key, item in list(dict.items(value)):
                if not depth:
                    self._nodes = 0  # one field must not use up the share of the others
                name = clean(key) if issubclass(type(key), str) else safe_str(key)
                while name in plain:  # 1 and "1" are two keys here and one in JSON
                    name += f"~{len(plain)}"
                if self._nodes > MAX_NODES:
                    plain[name] = marker(item, cut="size")
                    break
                plain[name] = self.walk(item, depth + 1)
            return plain
        if issubclass(kind, list) or kind is tuple:
            items = []
            for item in list.copy(value) if kind is not tuple else value:
                if self._nodes > MAX_NODES:
                    items.append(marker(item, cut="size"))
                    break
                items.append(self.walk(item, depth + 1))
            return items
        if issubclass(kind, Enum):
            return self.walk(value.value, depth + 1)
        if issubclass(kind, UUID):
            return str(value)
        if issubclass(kind, (datetime, date, time)):
            return value.isoformat()
        return self.walk(convert(value), depth + 1)
