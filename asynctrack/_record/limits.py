"""Limits on what a Run records: pure functions from any value to one that its service takes.

SageMaker's figures come from botocore's service models (``UpdateTrialComponent``,
``BatchPutMetrics``), MLflow's from ``mlflow.utils.validation``. The manifest stores whole what is
over a limit; the Run gets a pointer.
"""

from __future__ import annotations

import hashlib
import math
import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from asynctrack._backends.protocol import Record, Service
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

METRICS_PER_CALL: Final = 10
"""Most points in one BatchPutMetrics request."""
MLFLOW_KEY: Final = 250
"""Characters of a key, or of a metric's name, that MLflow takes."""
MLFLOW_STRING: Final = 6_000
"""Characters of a parameter's value that MLflow takes."""

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


# -- MLflow -----------------------------------------------------------------------------------


def mlflow_key(name: str) -> str:
    """Return the key for a name, of a parameter or a metric: letters, digits and ``_ - . : /``,
    spaces, and no path that MLflow would take for another one.

    What had to be changed ends in a digest of the whole name, so two of them stay apart.
    """
    key = _NO_KEY.sub("_", name)
    if posixpath.normpath(key) != key or key.startswith(("/", "..")) or key == ".":
        key = "/".join(part for part in key.split("/") if part.strip("."))
    if key == name and 0 < len(key) <= MLFLOW_KEY:
        return key
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{key[: MLFLOW_KEY - 17] or '_'}-{digest}"


def mlflow_value(value: Any) -> ParameterValue | None:
    """Return a value as ``mlflow.log_param`` stores it, or None where it is too long.

    Args:
        value: Plain data. Structures become their JSON.
    """
    if isinstance(value, dict) and value.get("$type") in ("float", "int") and "value" in value:
        value = str(value["value"])
    elif value is None or isinstance(value, (bool, int, float)):
        value = marker.integer_text(value) if type(value) is int else str(value)
    elif not isinstance(value, str):
        value = payload.encode({"": value})[4:-1].decode()
    text = marker.clean(value).replace("\x00", "\\u0000")  # which no database takes
    return text if len(text) <= MLFLOW_STRING else None


_NO_KEY: Final = re.compile(r"[^\w/.\- :]")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a service takes.

    Attributes:
        service: Its name.
        key: Returns the key for a parameter's name.
        max_key: Characters of a key.
        value: Returns a value as it is stored, or None where it is too long.
        parameters: Most parameters of a Run.
        changeable: Whether a parameter can get another value, and be removed.
        artifacts: Output artifacts up to which ours is added.
        metric_name: Returns a metric's name as it is stored.
        point: Returns a point as it is taken, given the wall clock in seconds.
        points: Most points in one request.
        finite: Whether a metric is a finite number.
    """

    service: Service
    key: Callable[[str], str]
    max_key: int
    value: Callable[[Any], ParameterValue | None]
    parameters: int
    changeable: bool
    artifacts: int
    metric_name: Callable[[str], str]
    point: Callable[[MetricPoint, float], MetricPoint]
    points: int
    finite: bool


SAGEMAKER: Final = Limits(
    service="SageMaker",
    key=parameter_key,
    max_key=MAX_KEY,
    value=parameter_value,
    parameters=MAX_PARAMETERS,
    changeable=True,
    artifacts=MAX_SDK_ARTIFACTS,
    metric_name=metric_name,
    point=clamp_time,
    points=METRICS_PER_CALL,
    finite=True,
)
MLFLOW: Final = Limits(
    service="MLflow",
    key=mlflow_key,
    max_key=MLFLOW_KEY,
    value=mlflow_value,
    parameters=1_000_000,  # it has no limit of its own
    changeable=False,
    artifacts=0,  # it has none: the tags say where the events are
    metric_name=mlflow_key,
    point=lambda point, now: point,
    points=1_000,
    finite=False,
)


def limits_of(record: Record | None) -> Limits:
    """Return the limits of the service that keeps a Run; SageMaker's where none does."""
    return MLFLOW if record is not None and record.service == "MLflow" else SAGEMAKER
