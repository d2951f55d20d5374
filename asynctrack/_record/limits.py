"""AWS's limits on what a Run records: pure functions from any value to one that AWS takes.

The figures come from botocore's service models for SageMaker (``UpdateTrialComponent``,
``BatchPutMetrics``). The manifest stores whole what is over a limit; the Run gets a pointer.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any, Final, TypeVar

from asynctrack._common import marker, payload
from asynctrack._common.artifact import MetricPoint, ParameterValue

_V = TypeVar("_V")

MAX_PARAMETERS: Final = 300
"""Parameters of a trial component."""
MAX_KEY: Final = 256
"""Characters of a key. The API takes 320 to write and 256 to remove. What we write must be
removable."""
MAX_STRING: Final = 2500
"""Characters of a string value."""
MAX_SDK_ARTIFACTS: Final = 30
"""Output artifacts above which the SDK's ``Run`` refuses the user's own."""
MAX_ARTIFACT_VALUE: Final = 2048
"""Characters of an artifact's address."""
MAX_METRIC_NAME: Final = 255
"""Characters of a metric's name."""
MAX_STEP: Final = 2**31 - 1
"""The highest step of a metric: an integer of AWS's models has 32 bits."""
METRIC_PAST: Final = 14 * 86_400.0
METRIC_FUTURE: Final = 2 * 3_600.0
"""A metric's time may lie this far from now, in seconds."""

_MAX_EXACT_INTEGER = 2**53
_MARGIN = 600.0


def parameter_key(name: str) -> str:
    """Return the key for a name: no line breaks, at most ``MAX_KEY`` characters.

    A longer name is cut and ends in a digest of the whole name, so two of them stay apart.
    """
    key = _one_line(name) or "_"
    if len(key) <= MAX_KEY:
        return key
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{key[: MAX_KEY - 17]}~{digest}"


def parameter_value(value: Any) -> ParameterValue | None:
    """Return a value as AWS takes it, or None where it is too long for a Run.

    Args:
        value: Plain data. Finite numbers stay numbers; booleans, NaN and infinity, and integers
            that a double does not hold become strings; structures become their JSON.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        if isinstance(value, float) or abs(value) <= _MAX_EXACT_INTEGER:
            return float(value) if math.isfinite(value) else str(float(value))
        value = marker.integer_text(int(value))
    elif isinstance(value, dict) and value.get("$type") in ("float", "int") and "value" in value:
        value = str(value["value"])  # NaN, infinity and huge integers, as they were captured
    if not isinstance(value, str):
        value = payload.encode({"": value})[4:-1].decode()
    text = _one_line(value)
    return text if len(text) <= MAX_STRING else None


def pointer(manifest_uri: str, name: str) -> str:
    """Return what the Run gets instead of a value that only the manifest holds.

    The part after ``#`` is a JSON Pointer (RFC 6901) into the manifest.
    """
    step = name.replace("~", "~0").replace("/", "~1")
    return _one_line(f"{manifest_uri}#/parameters/{step}")[:MAX_STRING]


def free_slot(
    group: Mapping[str, _V],
    taken: Mapping[str, _V],
    reserved: frozenset[str],
    slots: int,
) -> dict[str, _V] | None:
    """Return a group under the first suffix (none, ``.2``, ``.3`` …) that nobody else uses.

    A suffix is free for the group when each of its keys is absent or has this very value already.

    Args:
        group: Keys that belong together, without suffix, and their values.
        taken: Every parameter that is there.
        reserved: Keys that must not be used although they are not there yet.
        slots: How many suffixes there are.

    Returns:
        The group with its suffix; None when all are taken.
    """
    for slot in range(1, slots + 1):
        suffix = "" if slot == 1 else f".{slot}"
        named = {f"{key}{suffix}": value for key, value in group.items()}
        if all(
            taken[key] == value if key in taken else key not in reserved
            for key, value in named.items()
        ):
            return named
    return None


def clamp_time(point: MetricPoint, now: float) -> MetricPoint:
    """Return a point whose time AWS accepts: somebody may have set the clock.

    Args:
        point: Any point.
        now: Wall clock, in seconds.
    """
    low, high = now - METRIC_PAST + _MARGIN, now + METRIC_FUTURE - _MARGIN
    seconds = min(max(point.time_unix_nano / 1e9, low), high)
    if seconds == point.time_unix_nano / 1e9:
        return point
    return MetricPoint(point.name, point.value, int(seconds * 1e9), point.step)


def metric_name(name: str) -> str:
    """Return a metric's name on one line, within AWS's length."""
    return _one_line(name)[:MAX_METRIC_NAME] or "_"


def _one_line(text: str) -> str:
    # AWS's pattern ".*" takes no line break; the escape is the one of Python and JSON.
    return marker.clean(text).translate(_BREAKS)


_BREAKS: Final = str.maketrans(
    {
        "\n": "\\n",
        "\r": "\\r",
        "\x0b": "\\u000b",
        "\x0c": "\\u000c",
        "\x00": "\\u0000",
        "\x1c": "\\u001c",
        "\x1d": "\\u001d",
        "\x1e": "\\u001e",
        "\x85": "\\u0085",
        "\u2028": "\\u2028",
        "\u2029": "\\u2029",
    }
)
