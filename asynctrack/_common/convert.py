"""From a value that JSON does not know to something closer to JSON: one converter for each type.

The names in a type's ancestry tell which one, once for each type; nothing is imported for that.
LangChain's value objects become their fields, pydantic models what they dump, dataclasses and
objects with slots their public fields, the rest a marker.
"""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Callable, Mapping, Set
from dataclasses import fields
from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any

from asynctrack._common.marker import clean, marker, safe_str, type_name

Converter = Callable[[Any], Any]

MAX_DEPTH = 120
"""Deepest structure; deeper ones end in a marker. orjson itself refuses 255 levels."""
MAX_NODES = 2_000_000
"""Most values in one record; more end in a marker (shared references can multiply)."""
MAX_TYPES = 10_000
"""Most types that are remembered: classes made at run time must not pile up."""
MAX_REPR = 500
"""Characters kept of the ``repr`` of an object of unknown type."""

BOXES = frozenset({dict, list, tuple})
"""What holds other values and is encoded without a converter."""
_SKIPPED_WHEN_EMPTY = frozenset({type(None), dict, list, str})

FIELD_TYPES: set[type] = set()
"""The types of LangChain's value objects seen so far."""
MESSAGE_TYPES: set[type] = set()
"""Those of them that are messages."""
CONVERTERS: dict[type, Converter] = {}
"""The converters found so far."""


def convert(value: Any) -> Any:
    """Return something closer to JSON for a value that orjson does not know."""
    converter = converter_of(value)
    try:
        return converter(value)
    except Exception as error:
        return marker(value, cut="error", error=type_name(error))


def converter_of(value: Any) -> Converter:
    converter = CONVERTERS.get(type(value))
    if converter is None:
        converter = _find(type(value))
        if len(CONVERTERS) < MAX_TYPES:
            CONVERTERS[type(value)] = converter
    return converter


def _fields(value: Any) -> dict[str, Any]:
    """A LangChain value object by its fields, without those that are empty."""
    fields = {
        name: item
        for name, item in value.__dict__.items()
        # The class first: some objects, such as arrays, raise when asked whether they are empty.
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
    try:
        return value.model_dump(warnings=False)
    except Exception:  # one field's serializer is enough: the others need none
        return _model_fields(value)


def _model_fields(value: Any) -> dict[str, Any]:
    """A pydantic model by its fields, without those that it keeps out of what it dumps."""
    data = value.__dict__  # holds cached properties as well
    kept = {
        name: data[name]
        for name, field in type(value).model_fields.items()
        if not field.exclude and name in data
    }
    return {**kept, **(value.__pydantic_extra__ or {})}


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
            item if type(item) in BOXES else item.__dict__
            for item in items
            if type(item) in BOXES or converter_of(item) is _model
        ]
        if not level:
            return total
    return MAX_NODES + 1


def _dataclass(kind: type) -> Converter:
    """Return the converter of a dataclass: its fields, without those that are private to it."""
    names = [field.name for field in fields(kind) if not field.name.startswith("_")]

    def convert(value: Any) -> Any:
        return {name: getattr(value, name) for name in names if hasattr(value, name)}

    return convert


def _slotted(kind: type) -> Converter | None:
    """Return the converter of a class in Python with public slots; None for other classes.

    It reads slots, and what a subclass without slots adds, by Python's own descriptors: no property
    and no ``__getattr__`` of the class runs.
    """
    # C types have member descriptors, but no ``__slots__``.
    above = [vars(base) for base in reversed(kind.__mro__)]
    slots = {
        name: slot
        for names in above
        if "__slots__" in names
        for name, slot in names.items()
        if type(slot) is MemberDescriptorType and not name.startswith("_")
    }
    if not slots:
        return None
    own = (names["__dict__"] for names in above if "__dict__" in names)
    dictionary = next((one for one in own if type(one) is GetSetDescriptorType), None)

    def convert(value: Any) -> Any:
        found = {}
        for name, slot in slots.items():
            try:
                found[name] = slot.__get__(value)
            except AttributeError:  # never set
                continue
        if dictionary is not None:
            more = dictionary.__get__(value)
            found.update((name, more[name]) for name in more if not name.startswith("_"))
        return found

    return convert


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
    # A numpy scalar or array that orjson refuses: other byte order, objects, strings.
    if type(value).__module__.partition(".")[0] == "numpy":
        if getattr(value, "ndim", 0) == 0:
            item = value.item()
            same = type(item) is type(value)  # Python has no long double
            return marker(value, repr=repr(item)[:MAX_REPR]) if same else item
        if value.size <= MAX_NODES:
            return value.tolist()
    # Tensors and data frames may be huge or live on another device: say what they are.
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


def _find(kind: type) -> Converter:
    """Find the converter of a type by the names in its ancestry, without importing anything."""
    is_model = False
    for base in kind.__mro__:
        module, name = base.__module__, base.__qualname__
        if module.startswith("langchain_core.") and name in _VALUE_OBJECTS:
            FIELD_TYPES.add(kind)
            if name == "BaseMessage":
                MESSAGE_TYPES.add(kind)
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
        return _dataclass(kind)
    if issubclass(kind, Mapping):
        return dict
    if issubclass(kind, (Set, deque)):
        return list
    if hasattr(kind, "shape") and (hasattr(kind, "dtype") or hasattr(kind, "dtypes")):
        return _array
    return _slotted(kind) or _unknown
