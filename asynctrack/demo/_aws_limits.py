"""AWS's limits, read from botocore's own service model.

boto3 checks only types and required members before it sends a request; lengths, patterns, sizes
and enumerations are left to the service, and moto has none of them. This module checks the JSON
body of a request against all of them and says what AWS would say.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from botocore.model import ListShape, MapShape, ServiceModel, Shape, StructureShape
from botocore.session import get_session

# A Java pattern's dot matches none of these; Python's excludes only the first.
_LINE_ENDS = r"\n\r\x85\u2028\u2029"
# Unicode's space separators: what \p{Z} means, as far as a name or a tag can hold one.
_SPACES = r" \xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"

_JSON_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "blob": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "timestamp": (int, float, str),
    "structure": (dict,),
    "map": (dict,),
    "list": (list,),
}


class NotSerializable(ValueError):
    """The body is no JSON that AWS can read: wrong syntax, a wrong type, NaN or infinity."""


def parse_body(body: str | bytes) -> Any:
    """Parse a request's body the way AWS does: without NaN and infinity.

    Raises:
        NotSerializable: The body is not JSON.
    """

    def refuse(constant: str) -> Any:
        raise NotSerializable(f"{constant} is not a number in JSON")

    try:
        return json.loads(body or b"{}", parse_constant=refuse)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise NotSerializable(str(error)) from error


def violations(service: str, operation: str, body: Any) -> list[str]:
    """Name each of AWS's limits that a request breaks.

    Args:
        service: botocore's name of the service, such as ``"sagemaker"``.
        operation: The operation, such as ``"UpdateTrialComponent"``.
        body: The request's parameters as parsed JSON.

    Returns:
        One sentence for each broken limit, in AWS's words; empty when the request is valid.

    Raises:
        NotSerializable: A value has a type that the model does not allow there.
    """
    shape = _model(service).operation_model(operation).input_shape
    return [] if shape is None else list(_check(shape, body, ""))


def members(service: str, shape: str) -> frozenset[str]:
    """The members of one of a service's structures, such as ``"TrialComponent"``."""
    return frozenset(_model(service).shape_for(shape).members)


def validation_message(broken: list[str]) -> str:
    """AWS's summary of what `violations` found."""
    noun = "error" if len(broken) == 1 else "errors"
    return f"{len(broken)} validation {noun} detected: {'; '.join(broken)}"


def _check(shape: Shape, value: Any, at: str) -> Iterator[str]:
    allowed: tuple[type, ...] = _JSON_TYPES.get(shape.type_name, (object,))
    fits: bool = isinstance(value, allowed)
    if not fits or (isinstance(value, bool) and bool not in allowed):
        raise NotSerializable(
            f"{type(value).__name__} can not be converted to {shape.type_name} at '{at}'"
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise NotSerializable(f"{value} is not a number in JSON at '{at}'")
    yield from _check_itself(shape, value, at)
    if isinstance(shape, StructureShape):
        yield from _check_members(shape, value, at)
    elif isinstance(shape, MapShape):
        for key, item in value.items():
            yield from _check(shape.key, key, f"{at}.{key}.key")
            yield from _check(shape.value, item, f"{at}.{key}")
    elif isinstance(shape, ListShape):
        for number, item in enumerate(value, start=1):
            yield from _check(shape.member, item, f"{at}.{number}.member")


def _check_members(shape: StructureShape, value: dict[str, Any], at: str) -> Iterator[str]:
    for name in shape.required_members:
        if value.get(name) is None:
            yield _sentence(None, _path(at, name), "Member must not be null")
    for name, member in shape.members.items():
        if value.get(name) is not None:
            yield from _check(member, value[name], _path(at, name))


def _check_itself(shape: Shape, value: Any, at: str) -> Iterator[str]:
    limits = shape.metadata
    low, high = limits.get("min"), limits.get("max")
    if isinstance(value, (str, list, dict)) and shape.type_name != "timestamp":
        size, what = len(value), "length"
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        size, what = value, "value"  # type: ignore[assignment]  # a double has no length
    else:
        return
    if low is not None and size < low:
        yield _sentence(value, at, f"Member must have {what} greater than or equal to {low}")
    if high is not None and size > high:
        yield _sentence(value, at, f"Member must have {what} less than or equal to {high}")
    pattern = limits.get("pattern")
    if isinstance(value, str) and pattern and not _compiled(pattern).fullmatch(value):
        yield _sentence(value, at, f"Member must satisfy regular expression pattern: {pattern}")
    enum = limits.get("enum")
    if isinstance(value, str) and enum and value not in enum:
        yield _sentence(value, at, f"Member must satisfy enum value set: [{', '.join(enum)}]")


def _sentence(value: Any, at: str, constraint: str) -> str:
    shown = "null" if value is None else str(value)
    if len(shown) > 200:
        shown = shown[:200] + "..."
    return f"Value '{shown}' at '{at}' failed to satisfy constraint: {constraint}"


def _path(at: str, name: str) -> str:
    # AWS names members in lower camel case in its messages.
    member = name[:1].lower() + name[1:]
    return f"{at}.{member}" if at else member


@cache
def _model(service: str) -> ServiceModel:
    return get_session().get_service_model(service)


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """Translate one of the models' Java patterns to Python's dialect."""
    out: list[str] = []
    in_class = False
    position = 0
    while position < len(pattern):
        char = pattern[position]
        category = re.match(r"\\p\{(\w+)\}", pattern[position:])
        if category:
            # \w is \p{L}, \p{N} and the underscore; a negated set cannot stand inside a class.
            letters = r"\w" if in_class else r"^\W\d_"
            inside = {"L": letters, "N": r"\d", "Z": _SPACES}[category[1][0]]
            out.append(inside if in_class else f"[{inside}]")
            position += len(category[0])
            continue
        if char == "\\":
            out.append(pattern[position : position + 2])
            position += 2
            continue
        if char == "." and not in_class:
            out.append(f"[^{_LINE_ENDS}]")
        else:
            in_class = {"[": True, "]": False}.get(char, in_class)
            out.append(char)
        position += 1
    return re.compile("".join(out))
