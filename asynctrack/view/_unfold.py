"""Strings that are JSON themselves, as the values that they stand for (pure).

Tools answer with JSON in a string, models call them with it, and services put one into the other.
What is unfolded is only ever shown beside what was logged: never instead of it.
"""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any, Final

LONGEST: Final = 1_000_000
"""Characters of a string that is unfolded."""
DEEPEST: Final = 50
"""How deep in lists, objects and strings is looked for such strings."""


def parsed(text: str) -> Any:
    """Return the list or object that a string is as JSON; None if it is none.

    It is none, either, where the value says less than the string: a name that comes twice in an
    object, a number that Python cannot hold.
    """
    if len(text) > LONGEST:
        return None
    bare = text.strip()
    if bare[:1] + bare[-1:] not in ("{}", "[]"):
        return None
    try:
        value = json.loads(
            bare, object_pairs_hook=_object, parse_float=_float, parse_constant=_constant
        )
    except (ValueError, RecursionError):
        return None
    return value or None  # an empty one says nothing more


def unfolded(value: Any) -> tuple[Any, int]:
    """Return a value with its strings that are JSON as values, and how many there are."""
    try:
        return _unfolded(value, 0)
    except RecursionError:
        return value, 0


def _unfolded(value: Any, depth: int) -> tuple[Any, int]:
    if depth > DEEPEST:
        return value, 0
    if type(value) is str:
        inner = parsed(value)
        if inner is None:
            return value, 0
        inner, count = _unfolded(inner, depth + 1)
        return inner, count + 1
    if type(value) is list:
        items = [_unfolded(item, depth + 1) for item in value]
        return [item for item, _ in items], sum(count for _, count in items)
    if type(value) is dict:
        fields = {name: _unfolded(item, depth + 1) for name, item in value.items()}
        return (
            {name: item for name, (item, _) in fields.items()},
            sum(count for _, count in fields.values()),
        )
    return value, 0


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name comes twice")
    return found


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value) or Decimal(repr(value)) != Decimal(text):
        raise ValueError("a number that Python cannot hold")
    return value


def _constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")
