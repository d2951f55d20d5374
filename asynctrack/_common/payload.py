"""A record to one line of JSON, whatever LangChain objects are in it: the fast path.

orjson encodes the record, with a converter for each type it does not know (``convert``). The
careful path (``careful``) takes over if orjson refuses, if a ``null`` in the result may have been a
NaN, or if there are too many values for one record. Nothing here does I/O or imports LangChain. A
logged object that raises does no harm.
"""

from __future__ import annotations

import math
import sys
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
    convert,
    converter_of,
)
from asynctrack._common.marker import marker, type_name
from asynctrack._common.search import question

APART = frozenset({"inputs", "outputs", "error", "data", "metadata"})
"""Fields of a record in which something else may stand for what is large."""
PIECE = 1 << 18
"""Characters of a long text that are encoded at a time: a quarter of a millisecond."""
MIN_ITEMS = 8
"""Least objects of a list for which something else may stand."""

Fragment = orjson.Fragment
"""Stands in a record for what is JSON already."""

# Dataclasses go through the converters, so both paths store the same.
_PLAIN = orjson.OPT_PASSTHROUGH_DATACLASS
_WITH_NUMPY = _PLAIN | orjson.OPT_SERIALIZE_NUMPY


def encode(record: dict[str, Any]) -> bytes:
    """Encode a record as one line of JSON, without its line end.

    Args:
        record: String keys; values of any kind.

    Returns:
        UTF-8 bytes. Never raises because of a value: what JSON cannot hold becomes a marker.
    """
    return Encoding().line(record)


def plain_line(record: dict[str, Any], limit: int) -> bytes | None:
    """Encode a record of plain values and LangChain's own, few and small; None for any other.

    ``Encoding`` makes the same line of them, and takes longer.

    Args:
        record: The record.
        limit: Characters of a text above which something else may stand for it.
    """
    try:
        return orjson.dumps(record, convert, _PLAIN) if _is_plain(record, limit) else None
    except Exception:
        # Refused, changed meanwhile by another thread, or it has raised: the long way tells.
        return None


def encode_content(content: str | bytes) -> bytes:
    """Encode a text, or bytes, as a record would hold them; others get their turn meanwhile."""
    try:
        if type(content) is not str or len(content) <= PIECE:
            return trimmed(orjson.dumps(content, convert))
        pieces = (content[at : at + PIECE] for at in range(0, len(content), PIECE))
        return b'"%b"' % b"".join([orjson.dumps(piece)[1:-1] for piece in pieces])
    except TypeError:  # what UTF-8 cannot hold
        return trimmed(orjson.dumps(to_plain(content)))


def trimmed(encoded: bytes) -> bytes:
    """Return a copy of what orjson has made, for who keeps it.

    orjson claims eight bytes for each of a text and gives the rest back where it lies: between
    bytes that are kept, few others fit in there. A program with little memory would run out of it,
    and orjson ends the process then.
    """
    return b"".join((memoryview(encoded),))


class Encoding:
    """Encodes one record; what is large in it may be stored apart by who derives from this.

    Args:
        limit: Characters, or bytes, of a text above which something else may stand for it.
    """

    __slots__ = ("_left", "_limit", "_within")

    def __init__(self, limit: int = sys.maxsize) -> None:
        self._left = MAX_NODES
        self._limit = limit
        self._within = False  # a long list of objects, for which something may stand

    def line(self, record: dict[str, Any]) -> bytes:
        """Encode a record, as ``encode`` does."""
        try:
            lifted = self._lifted_fields(record)
            line = self.dumped(lifted)
            # orjson writes NaN and infinity as null, which would pass for None.
            if not (question("null")(line) and _may_hold_nonfinite(lifted)):
                return line
        except Exception:  # the careful path tells
            # Refused, too many values, changed meanwhile by another thread, or it has raised.
            pass
        self._left, self._within = sys.maxsize, False  # the careful path has its own bounds
        self.begin_again()
        return self.dumped(self._lifted_fields(to_plain(record)))

    def convert(self, value: Any) -> Any:
        """Return something closer to JSON for a value that orjson does not know."""
        # The same as in ``convert``, without the call: half the time of a small message.
        converter = CONVERTERS.get(type(value)) or converter_of(value)
        try:
            plain = converter(value)
        except Exception as error:
            plain = marker(value, cut="error", error=type_name(error))
        if type(plain) in BOXES:
            plain = self._lifted(plain, 0)
        self._left -= 1
        if self._left < 0:
            raise ValueError("too many values")
        return plain

    def begin_again(self) -> None:
        """Forget what was stored apart: the record is encoded in another way."""

    def stand_in(self, content: str | bytes) -> Any:
        """Return what stands for a large text; None where that stays.

        Args:
            content: The text.
        """
        return None

    def stand_in_for_items(self, line: bytes, items: Any) -> Any:
        """Return what stands for a long list of objects; None where that stays.

        Args:
            line: The list as JSON.
            items: The objects.
        """
        return None

    def lifted_items(self, box: Any) -> Any:
        """Return what stands for a long list of objects, or it as JSON."""
        self._within = True
        lifted = self._lifted_each(box, enumerate(box), 0) if dict in map(type, box) else box
        line = self.dumped(lifted)
        if b"null" in line and _may_hold_nonfinite(lifted):
            raise ValueError("not finite")
        self._within = False
        new = self.stand_in_for_items(line, lifted)
        return Fragment(line) if new is None else new

    def dumped(self, value: Any) -> bytes:
        """Return a part of the record as JSON."""
        # With this option, orjson imports numpy at the first type that it does not know: seconds,
        # in the user's event loop.
        option = _WITH_NUMPY if "numpy" in sys.modules else _PLAIN
        return orjson.dumps(value, self.convert, option)

    # -- inside -------------------------------------------------------------------------------

    def _lifted_fields(self, record: dict[str, Any]) -> dict[str, Any]:
        lifted = record
        for name, value in record.items():
            kind = type(value)
            if kind is str and len(value) <= self._limit:
                continue
            role = _role(kind)
            if not role:
                continue
            if name not in APART:
                if role >= _DICT:
                    self._count(_size(value))
                continue
            new = self._lifted(value, 0) if role >= _DICT else self._lifted_text(value, role)
            if new is not value:
                if lifted is record:
                    lifted = record.copy()
                lifted[name] = new
        return lifted

    def _count(self, values: int) -> None:
        self._left -= values
        if self._left < 0:
            raise ValueError("too many values")

    def _lifted_text(self, text: Any, role: int) -> Any:
        if role == _BYTES:
            if len(text) <= self._limit:
                return text
        elif str.__len__(text) <= self._limit:
            return text
        elif type(text) is not str:
            text = str.__str__(text)  # a subclass may override anything
        new = self.stand_in(text)
        return text if new is None else new

    def _lifted(self, box: Any, depth: int) -> Any:
        """Return a structure with something else for what is large; the same where nothing is.

        A few objects can make many values if each holds the next one several times: it counts them.

        Raises:
            ValueError: There are too many, or it is too deep; also where it holds itself.
        """
        if depth > MAX_DEPTH:
            raise ValueError("too deep")
        pairs: Any
        if type(box) is dict:
            self._count(len(box))
            pairs = box.items()
        elif isinstance(box, dict):
            self._count(dict.__len__(box))
            pairs = dict.items(box)  # orjson asks no method of a subclass either
        else:
            if type(box) not in BOXES:
                box = list.copy(box)
            self._count(len(box))
            if len(box) >= MIN_ITEMS:
                kinds = set(map(type, box))
                if not self._within and kinds <= FIELD_TYPES | {dict}:
                    return self.lifted_items(box)
                if not any(map(_role, kinds)):
                    return box
                if kinds == {str} and max(map(len, box)) <= self._limit:
                    return box
            pairs = enumerate(box)
        return self._lifted_each(box, pairs, depth)

    def _lifted_each(self, box: Any, pairs: Any, depth: int) -> Any:
        copy: Any = None
        limit, roles = self._limit, _ROLES
        for name, item in pairs:
            kind = type(item)
            if kind is str and len(item) <= limit:
                continue
            role = roles.get(kind, -1)
            if role < 0:
                role = _role(kind)
            if not role:
                continue
            new = self._lifted(item, depth + 1) if role >= _DICT else self._lifted_text(item, role)
            if new is not item:
                if copy is None:
                    copy = dict(dict.items(box)) if isinstance(box, dict) else list(box)
                copy[name] = new
        return box if copy is None else copy


def _is_plain(record: dict[str, Any], limit: int) -> bool:
    """Tell whether nothing in a record is large, written as null, or of a kind to be looked up."""
    # One loop over all boxes, and no recursion: calls are what would take the time.
    boxes: list[Any] = [record.values()]
    for box in boxes:
        if len(box) > _PLAIN_FIELDS:
            return False
        for item in box:
            kind = type(item)
            if kind is str:
                if len(item) > limit:
                    return False
            elif kind in _ATOMS:
                continue
            elif kind is dict:
                if item:
                    boxes.append(item.values())
            elif kind is list or kind is tuple:
                if len(item) >= MIN_ITEMS:
                    return False
                boxes.append(item)
            elif kind in FIELD_TYPES:
                boxes.append(item.__dict__.values())
                extra = getattr(item, "__pydantic_extra__", None)
                if extra:
                    boxes.append(extra.values())
            elif kind is float:
                if not math.isfinite(item):
                    return False
            elif _ROLES.get(kind) != _TEXT or str.__len__(item) > limit:
                return False
        if len(boxes) > _PLAIN_BOXES:  # also where one is in there many times, or holds itself
            return False
    return True


# So many boxes go less deep than MAX_DEPTH, and hold less than MAX_NODES.
_PLAIN_BOXES = 64
_PLAIN_FIELDS = 32
_ATOMS = frozenset({int, bool, type(None), UUID})


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


_OTHER, _TEXT, _BYTES, _DICT, _LIST = range(5)
_ROLES: dict[type, int] = {
    str: _TEXT, bytes: _BYTES, dict: _DICT, list: _LIST, tuple: _LIST,
    int: _OTHER, float: _OTHER, bool: _OTHER, type(None): _OTHER, UUID: _OTHER,
}  # fmt: skip
"""What a type is to orjson, which takes subclasses of texts, dictionaries and lists for the same:
LangChain's own, too. All others are nothing large, or are converted."""


def _role(kind: type) -> int:
    role = _ROLES.get(kind)
    if role is None:
        role = _OTHER
        if not issubclass(kind, Enum):
            bases = ((str, _TEXT), (dict, _DICT), (list, _LIST))
            role = next((one for base, one in bases if issubclass(kind, base)), _OTHER)
        if len(_ROLES) < MAX_TYPES:
            _ROLES[kind] = role
    return role


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


_FINITE: set[type] = {str, int, bool, type(None), UUID, orjson.Fragment}
"""Types whose values are no NaN or infinity and hold none. LangChain's texts have a class of their
own; on the careful path, an OpenAI answer with them costs five times as much."""
