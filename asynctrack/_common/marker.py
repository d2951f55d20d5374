"""Markers for values that JSON cannot hold, and texts that UTF-8 can hold.

A *marker* is an object with ``$type`` and what could be kept of the value. A logged object that
raises does no harm here.
"""

from __future__ import annotations

from typing import Any


def type_name(value: Any) -> str:
    """Return a value's type as ``module.Class``, builtins without their module."""
    return _name_of(type(value))


def type_names(kind: type) -> list[str]:
    """Return the names of a type and of its ancestry, nearest first, as ``type_name`` has them."""
    return [_name_of(one) for one in type.__dict__["__mro__"].__get__(kind)]


def _name_of(kind: type) -> str:
    try:
        module, name = kind.__module__, kind.__qualname__
        return clean(name if module == "builtins" else f"{module}.{name}")
    except Exception:  # a metaclass may do anything
        return clean(type.__getattribute__(kind, "__name__"))


def marker(value: Any, /, **kept: Any) -> dict[str, Any]:
    """Return the marker for a value that JSON cannot hold."""
    return {"$type": type_name(value), **kept}


def safe_str(value: Any, limit: int | None = None) -> str:
    """Return ``str(value)`` as valid Unicode, or a note if that raises."""
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


def integer_text(value: int) -> str:
    """Return an integer of any size as text."""
    try:
        return str(value)
    except ValueError:  # more digits than the interpreter converts to decimal
        return hex(value)
