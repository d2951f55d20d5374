"""A record to one line of JSON, whatever LangChain objects are in it: the fast path.

orjson encodes the record, with a converter for each type it does not know (``convert``). The
careful path (``careful``) takes over if orjson refuses, if a ``null`` in the result may have been a
NaN, or if there are too many values for one record. Nothing here does I/O or imports LangChain. A
logged object that raises does no harm.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from datetime import date, datetime, time
from enum import Enum
from gc import is_tracked
from typing import Any
from uuid import UUID

import orjson

from asynctrack._common.careful import to_plain
from asynctrack._common.convert import (
    BOXES,
    CONVERTERS,
    FIELD_TYPES,
    MAX_DEPTH,
    MAX_NODES,
    MAX_TYPES,
    Converter,
    convert,
    converter_of,
)
from asynctrack._common.marker import marker, type_name
from asynctrack._common.search import question

# Dataclasses go through the converters, so both paths store the same.
_PLAIN = orjson.OPT_PASSTHROUGH_DATACLASS
_WITH_NUMPY = _PLAIN | orjson.OPT_SERIALIZE_NUMPY


def encode(record: dict[str, Any], values: Iterable[Any] | None = None) -> bytes:
    """Encode a record as one line of JSON, without its line end.

    Args:
        record: String keys; values of any kind.
        values: Those of the record that may be large; None if any may.

    Returns:
        UTF-8 bytes. Never raises because of a value: what JSON cannot hold becomes a marker.
    """
    # With this option, orjson imports numpy at the first type that it does not know: seconds, in
    # the user's event loop.
    option = _WITH_NUMPY if "numpy" in sys.modules else _PLAIN
    try:
        for value in record.values() if values is None else values:
            # Sorts out nearly all small values without a look inside.
            if type(value) in BOXES and value and is_tracked(value) and _size(value) > MAX_NODES:
                return orjson.dumps(to_plain(record))
        line = orjson.dumps(record, _budgeted(), option)
    except (TypeError, ValueError, RecursionError):
        return orjson.dumps(to_plain(record))
    # orjson writes NaN and infinity as null, which would pass for None.
    null = question("null")(line)
    if null and _may_hold_nonfinite(record):
        return orjson.dumps(to_plain(record))
    return line


def is_small(value: Any) -> bool:
    """Return whether lists and dictionaries hold no more values than one record may."""
    return _size(value) <= MAX_NODES


def fingerprint(values: Any) -> bytes | None:
    """Return bytes that only equal plain values share; None if the values are not plain."""
    try:
        encoded = orjson.dumps(values, None, _PLAIN)
    except (TypeError, ValueError, RecursionError):
        return None
    return None if b"null" in encoded and _may_hold_nonfinite(values) else encoded


def decode(line: bytes) -> Any:
    """Decode one line of JSON."""
    return orjson.loads(line)


def _budgeted() -> Converter:
    """Return the converter for one record; it raises when it has made too many values."""
    left = MAX_NODES

    def convert(value: Any) -> Any:
        nonlocal left
        # The same as in ``convert``, without the call: half the time of a small message.
        converter = CONVERTERS.get(type(value)) or converter_of(value)
        try:
            plain = converter(value)
        except Exception as error:
            plain = marker(value, cut="error", error=type_name(error))
        if type(plain) in BOXES:
            left -= _size(plain)
        left -= 1
        if left < 0:
            raise ValueError("too many values")
        return plain

    return convert


def _size(box: Any, depth: int = 0) -> int:
    """Count the values in a structure of lists and dictionaries; stops above ``MAX_NODES``.

    A few objects can make many values if each holds the next one several times. Cycles and what is
    too deep count as too many.
    """
    items = box.values() if type(box) is dict else box
    total = len(items)
    if BOXES.isdisjoint(map(type, items)):  # nearly always, and four times as fast as the loop
        return total
    if depth > MAX_DEPTH:
        return MAX_NODES + 1
    for item in items:
        if type(item) in BOXES:
            total += _size(item, depth + 1) if is_tracked(item) else len(item)
            if total > MAX_NODES:
                break
    return total


def _may_hold_nonfinite(value: Any, depth: int = 0) -> bool:
    """Return whether a NaN or infinity is in there; True if it cannot tell."""
    kind = type(value)
    if kind is dict:
        items = value.values()
    elif kind is list or kind is tuple:
        items = value
    elif kind in FIELD_TYPES:
        items = value.__dict__.values()
        extra = getattr(value, "__pydantic_extra__", None)
        if extra:
            items = (*items, *extra.values())
    else:
        return _may_be_nonfinite(value, kind, depth)
    if _FINITE.issuperset(map(type, items)):  # nearly always, and many times as fast as the loop
        return False
    if depth > MAX_DEPTH:
        return True
    for item in items:  # noqa: SIM110  # a generator would double the time
        if type(item) not in _FINITE and _may_hold_nonfinite(item, depth + 1):
            return True
    return False


def _may_be_nonfinite(value: Any, kind: type, depth: int) -> bool:
    if issubclass(kind, Enum):
        return _may_hold_nonfinite(value.value, depth + 1)
    if issubclass(kind, float):
        return not math.isfinite(float.__float__(value))
    if issubclass(kind, (str, int, UUID, datetime, date, time)):
        if len(_FINITE) < MAX_TYPES:
            _FINITE.add(kind)
        return False
    if issubclass(kind, dict):
        return _may_hold_nonfinite(dict(dict.items(value)), depth + 1)
    if issubclass(kind, list):
        return _may_hold_nonfinite(list.copy(value), depth + 1)
    return depth > MAX_DEPTH or _may_hold_nonfinite(convert(value), depth + 1)


_FINITE: set[type] = {str, int, bool, type(None), UUID}
"""Types whose values are no NaN or infinity and hold none. LangChain's texts have a class of their
own; on the careful path, an OpenAI answer with them costs five times as much."""
