"""Messages that were encoded: a conversation hands the same ones to one callback after the other.

A message may be changed. So the same object is compared with a copy of what it held, which takes
less time than to encode it. (1, 1.0 and True are alike to that.)
"""

from __future__ import annotations

from typing import Any, Final

from asynctrack._common import payload

MAX_BYTES: Final = 8 * 1024 * 1024
"""Bytes of all that are remembered; one more and it begins anew."""
MAX_LINE: Final = 16_384
"""Bytes of the longest one as JSON that is remembered."""

_OVERHEAD: Final = 2048
"""Bytes that a message and the copy take besides their texts."""
_ATOMS: Final = frozenset({str, int, float, bool, type(None)})


class Messages:
    """Messages as JSON; thread-safe, as each access is atomic."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, dict[str, Any], payload.Fragment]] = {}
        self._bytes = 0  # about: threads may come in between

    def json(self, message: Any) -> payload.Fragment | None:
        """Return a message as JSON; None where it is not known, or has been changed."""
        known = self._known.get(id(message))
        if known is None or known[0] is not message:
            return None
        held, extra = message.__dict__, message.__pydantic_extra__
        return None if extra or held != known[1] else known[2]

    def note(self, message: Any, plain: Any) -> payload.Fragment | None:
        """Remember a message, and return it as JSON; None where it holds more than plain data.

        Args:
            message: The message.
            plain: Its fields, closer to JSON.
        """
        if message.__pydantic_extra__:
            return None
        held = _copied(message.__dict__, 8)
        if held is None:
            return None
        line = payload.fingerprint(plain)
        if line is None or len(line) > MAX_LINE:
            return None
        self._bytes += 2 * len(line) + _OVERHEAD
        if self._bytes > MAX_BYTES:
            self._known.clear()
            self._bytes = 0
        json = payload.Fragment(payload.trimmed(line))
        self._known[id(message)] = message, held, json
        return json


def _copied(box: Any, depth: int) -> Any:
    """Return a copy of plain dictionaries and lists; None where there is anything else in it."""
    if not depth:
        return None
    if type(box) is dict:
        copy: Any = box.copy()
        pairs: Any = box.items()
    else:
        copy, pairs = box.copy(), enumerate(box)
    for name, item in pairs:
        kind = type(item)
        if kind in _ATOMS:
            continue
        if kind is not dict and kind is not list:
            return None
        inner = _copied(item, depth - 1) if item else kind()  # nearly always there is nothing in it
        if inner is None:
            return None
        copy[name] = inner
    return copy
