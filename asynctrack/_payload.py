"""LangChain objects, and whatever else a chain passes, to JSON: the fast path and the careful one.

The fast path hands the record to orjson with a converter for each type it does not know. Where
orjson refuses (cycles, lone surrogates, keys that are not strings, huge integers) or where a
``null`` in the result may have been a NaN, the careful path walks the record in Python and puts a
*marker* in place of what JSON cannot hold: an object with ``$type`` and what could be kept of it.
Nothing here does I/O, imports LangChain, or lets an exception of a logged object out.
"""

from __future__ import annotations

import base64
import math
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Set
from datetime import date, datetime, time
from enum import Enum
from gc import is_tracked
from typing import Any
from uuid import UUID

import orjson

from asynctrack._search import LONG, question

Converter = Callable[[Any], Any]

MAX_DEPTH = 120
"""Deeper structures end in a marker; orjson itself refuses 255 levels."""
MAX_NODES = 2_000_000
"""More values than this in one record end in a marker (shared references can multiply)."""
MAX_TYPES = 10_000
"""Types about which something is remembered: classes made at run time must not pile up."""
MAX_REPR = 500
"""Characters kept of the ``repr`` of an object of unknown type."""

# Dataclasses go through the converters, so that both paths store the same of them.
_PLAIN = orjson.OPT_PASSTHROUGH_DATACLASS
_WITH_NUMPY = _PLAIN | orjson.OPT_SERIALIZE_NUMPY
_BOXES = frozenset({dict, list, tuple})
# What orjson writes by itself, subclasses too.
_NATIVE = (str, int, float, dict, list, tuple, Enum, UUID, datetime, date, time)
_SKIPPED_WHEN_EMPTY = frozenset({type(None), dict, list, str})


def encode(record: dict[str, Any], values: Iterable[Any] | None = None) -> bytes:
    """Encode a record as one line of JSON, without its line end.

    Args:
        record: String keys; values of any kind.
        values: Those of the record that may be large; None where any may.

    Returns:
        UTF-8 bytes. Never raises because of a value: what JSON cannot hold becomes a marker.
    """
    # Told of numpy, orjson imports it at the first type that it does not know: seconds, in the
    # user's event loop.
    option = _WITH_NUMPY if "numpy" in sys.modules else _PLAIN
    try:
        for value in record.values() if values is None else values:
            # Tells nearly all small values apart without a look inside.
            if type(value) in _BOXES and is_tracked(value) and _size(value) > MAX_NODES:
                return orjson.dumps(to_plain(record))
        line = orjson.dumps(record, _budgeted(), option)
    except (TypeError, ValueError, RecursionError):
        return orjson.dumps(to_plain(record))
    # orjson writes NaN and infinity as null, which would pass for None.
    null = b"null" in line if len(line) < LONG else question("null")(line)
    if null and _may_hold_nonfinite(record):
        return orjson.dumps(to_plain(record))
    return line


def is_small(value: Any) -> bool:
    """Tell whether lists and dictionaries hold no more values than one record may."""
    return _size(value) <= MAX_NODES


def fingerprint(values: Any) -> bytes | None:
    """Return bytes that are the same for the same plain values only; None where there are none."""
    try:
        encoded = orjson.dumps(values, None, _PLAIN)
    except (TypeError, ValueError, RecursionError):
        return None
    return None if b"null" in encoded and _may_hold_nonfinite(values) else encoded


def decode(line: bytes) -> Any:
    """Decode one line of JSON."""
    return orjson.loads(line)


def to_plain(value: Any) -> Any:
    """Return what orjson can encode for any value: the careful path.

    Args:
        value: Anything at all.

    Returns:
        A structure of dict, list, str, int, float, bool and None, not deeper than ``MAX_DEPTH``.
    """
    return _Walker().walk(value, 0)


def type_name(value: Any) -> str:
    """Return a value's type as ``module.Class``, builtins without their module."""
    kind = type(value)
    try:
        module, name = kind.__module__, kind.__qualname__
        return clean(name if module == "builtins" else f"{module}.{name}")
    except Exception:  # a metaclass may do anything
        return clean(type.__getattribute__(kind, "__name__"))


def marker(value: Any, /, **kept: Any) -> dict[str, Any]:
    """Return what stands for a value that JSON cannot hold."""
    return {"$type": type_name(value), **kept}


def safe_str(value: Any, limit: int | None = None) -> str:
    """Return ``str(value)`` as valid Unicode; a note where that raises."""
    try:
        text = str(value)
    except Exception as error:
        return f"<str() of {type_name(value)} raised {type(error).__name__}>"
    return clean(text if limit is None else text[:limit])


def clean(text: str) -> str:
    """Return a text that UTF-8 can hold: lone surrogates become ``\\udXXX`` escapes."""
    text = str.__str__(text)  # a subclass may override anything
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text


class _Walker:
    """One walk of the careful path, with the objects on the way down to it."""

    def __init__(self) -> None:
        self._on_path: set[int] = set()
        self._nodes = 0

    def walk(self, value: Any, depth: int) -> Any:
        # Asked of the type: asking the value may run its code, which may raise.
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
                    self._nodes = 0  # one field must not use up what the others may have
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
        return self.walk(_convert(value), depth + 1)


def _budgeted() -> Converter:
    """Return the converter for one record; it raises where conversions come to too many values."""
    left = MAX_NODES

    def convert(value: Any) -> Any:
        nonlocal left
        # What _convert does, without calling it: half of the time of a small message.
        converter = _CONVERTERS.get(type(value)) or _converter_of(value)
        try:
            plain = converter(value)
        except Exception as error:
            plain = marker(value, cut="error", error=type_name(error))
        if type(plain) in _BOXES:
            left -= _size(plain)
        left -= 1
        if left < 0:
            raise ValueError("too many values")
        return plain

    return convert


def _size(box: Any, depth: int = 0) -> int:
    """Count the values in a structure of lists and dictionaries; stops above ``MAX_NODES``.

    Few objects can come to many values, where each holds the next one several times. Cycles, and
    what is too deep, count as too many.
    """
    items = box.values() if type(box) is dict else box
    total = len(items)
    if _BOXES.isdisjoint(map(type, items)):  # nearly always, and four times as fast as the loop
        return total
    if depth > MAX_DEPTH:
        return MAX_NODES + 1
    for item in items:
        if type(item) in _BOXES:
            total += _size(item, depth + 1) if is_tracked(item) else len(item)
            if total > MAX_NODES:
                break
    return total


def _size_of_model(value: Any) -> int:
    """Count the values in a pydantic model and the models in it, up to ``MAX_NODES``."""
    total = 1
    level = [value.__dict__]
    for _ in range(MAX_DEPTH):
        total += sum(map(len, level))
        if total > MAX_NODES:
            return total
        items = [item for box in level for item in (box.values() if type(box) is dict else box)]
        level = [
            item if type(item) in _BOXES else item.__dict__
            for item in items
            if type(item) in _BOXES or _converter_of(item) is _model
        ]
        if not level:
            return total
    return MAX_NODES + 1


def _may_hold_nonfinite(value: Any, depth: int = 0) -> bool:
    """Tell whether a NaN or infinity is in there; True where it cannot tell."""
    kind = type(value)
    if kind is dict:
        items = value.values()
    elif kind is list or kind is tuple:
        items = value
    elif kind in _FIELD_TYPES:
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
    return depth > MAX_DEPTH or _may_hold_nonfinite(_convert(value), depth + 1)


_FINITE: set[type] = {str, int, bool, type(None), UUID}
"""Types of which no value is a NaN or infinity, nor holds one. LangChain's texts are of a class of
their own, and taking the careful path for them made an OpenAI answer five times as dear."""


def _convert(value: Any) -> Any:
    """Return something closer to JSON for a value that orjson does not know."""
    converter = _converter_of(value)
    try:
        return converter(value)
    except Exception as error:
        return marker(value, cut="error", error=type_name(error))


def _converter_of(value: Any) -> Converter:
    converter = _CONVERTERS.get(type(value))
    if converter is None:
        converter = _find_converter(type(value))
        if len(_CONVERTERS) < MAX_TYPES:
            _CONVERTERS[type(value)] = converter
    return converter


def _fields(value: Any) -> dict[str, Any]:
    """A LangChain value object by its fields, without those that are empty."""
    fields = {
        name: item
        for name, item in value.__dict__.items()
        # The class first: some objects, arrays for one, refuse to be asked whether they are empty.
        if item.__class__ not in _SKIPPED_WHEN_EMPTY or item
    }
    extra = getattr(value, "__pydantic_extra__", None)
    if extra:
        fields.update(extra)
    return fields


def _message(value: Any) -> dict[str, Any]:
    fields = _fields(value)
    fields.setdefault("content", "")
    return fields


def _model(value: Any) -> Any:
    if _size_of_model(value) > MAX_NODES:  # pydantic goes through all of it at once
        return marker(value, cut="size")
    return value.model_dump(warnings=False)


def _dataclass(value: Any) -> Any:
    # Those with an underscore are the class's own business.
    names = (name for name in value.__dataclass_fields__ if not name.startswith("_"))
    return {name: getattr(value, name) for name in names if hasattr(value, name)}


def _tuple(value: Any) -> Any:
    items = list(tuple.__iter__(value))
    names = getattr(type(value), "_fields", None)  # a named tuple's
    return items if names is None else dict(zip(names, items, strict=True))


def _runnable(value: Any) -> Any:
    name = getattr(value, "name", None)
    return marker(value, name=name) if isinstance(name, str) else marker(value)


def _bytes(value: Any) -> Any:
    content = bytes(value)
    try:
        return marker(value, utf8=content.decode())
    except UnicodeDecodeError:
        return marker(value, base64=base64.b64encode(content).decode())


def _exception(value: BaseException) -> Any:
    return marker(value, message=safe_str(value))


def _array(value: Any) -> Any:
    # A numpy scalar or array that orjson refuses (other byte order, objects, strings).
    if type(value).__module__.partition(".")[0] == "numpy":
        if getattr(value, "ndim", 0) == 0:
            item = value.item()
            same = type(item) is type(value)  # a long double has no counterpart in Python
            return marker(value, repr=repr(item)[:MAX_REPR]) if same else item
        if value.size <= MAX_NODES:
            return value.tolist()
    # Tensors and data frames may be huge or live on another device: say what it was.
    return marker(
        value,
        shape=[int(size) for size in value.shape],
        dtype=safe_str(getattr(value, "dtype", ""), 100),
    )


def _unknown(value: Any) -> Any:
    try:
        text = repr(value)[:MAX_REPR]
    except Exception as error:
        return marker(value, repr_error=type_name(error))
    return marker(value, repr=clean(text))


def _masked(value: Any) -> str:
    return "**********"


def integer_text(value: int) -> str:
    """Return an integer of any size as text."""
    try:
        return str(value)
    except ValueError:  # more digits than the interpreter converts to decimal
        return hex(value)


def _function(value: Any) -> Any:
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", "")
    return marker(value, name=safe_str(name, MAX_REPR))


_VALUE_OBJECTS = {
    # LangChain's value objects, by the class that names the family: their fields are their data.
    "Generation": _fields,
    "LLMResult": _fields,
    "Document": _fields,
    "PromptValue": _fields,
    "BaseMessage": _message,
}

_KNOWN: dict[str, Converter] = {
    "builtins.bytes": _bytes,
    "builtins.bytearray": _bytes,
    "builtins.memoryview": _bytes,
    "builtins.type": _function,
    "builtins.function": _function,
    "builtins.builtin_function_or_method": _function,
    "builtins.method": _function,
    "builtins.float": float.__float__,
    "builtins.tuple": _tuple,
    "builtins.complex": lambda value: marker(value, value=str(value)),
    "decimal.Decimal": lambda value: marker(value, value=str(value)),
    "fractions.Fraction": lambda value: marker(value, value=str(value)),
    "collections.UserList": lambda value: value.data,
    "datetime.timedelta": lambda value: marker(value, seconds=value.total_seconds()),
    "pathlib.PurePath": safe_str,
    "pydantic.types.SecretStr": _masked,
    "pydantic.types.SecretBytes": _masked,
    "pydantic.types.Secret": _masked,
    "pydantic.v1.types.SecretStr": _masked,
    "pydantic.v1.types.SecretBytes": _masked,
    "pydantic.v1.main.BaseModel": lambda value: value.dict(),
}

_FIELD_TYPES: set[type] = set()
_CONVERTERS: dict[type, Converter] = {}


def _find_converter(kind: type) -> Converter:
    """Find the converter of a type by the names in its ancestry, without importing anything."""
    is_model = False
    for base in kind.__mro__:
        module, name = base.__module__, base.__qualname__
        if module.startswith("langchain_core.") and name in _VALUE_OBJECTS:
            _FIELD_TYPES.add(kind)
            return _VALUE_OBJECTS[name]
        if name == "Runnable" and module.startswith("langchain_core."):
            return _runnable
        # pathlib moved into a package in Python 3.13.
        known = _KNOWN.get(f"{module}.{name}".replace("pathlib._local.", "pathlib."))
        if known is not None:
            return known
        is_model = is_model or (name == "BaseModel" and module == "pydantic.main")
    if is_model:
        return _model
    if issubclass(kind, BaseException):
        return _exception
    if hasattr(kind, "__dataclass_fields__"):
        return _dataclass
    if issubclass(kind, Mapping):
        return dict
    if issubclass(kind, (Set, deque)):
        return list
    if hasattr(kind, "shape") and (hasattr(kind, "dtype") or hasattr(kind, "dtypes")):
        return _array
    return _unknown
