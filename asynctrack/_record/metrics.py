"""Metrics: sums of a window to points, the user's points to steps, and a summary of all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from asynctrack._capture.observations import Window
from asynctrack._common.artifact import MetricPoint
from asynctrack._record.limits import metric_name


class MetricLog:
    """Numbers the points and keeps a summary of each metric for the manifest."""

    def __init__(self) -> None:
        self._steps: dict[str, int] = {}
        self._summary: dict[str, dict[str, float]] = {}

    def window(self, window: Window, time_unix_nano: int) -> list[MetricPoint]:
        """Return the points for the measurements of a window: one of each metric at the most.

        ``gen_ai.client.operation.duration`` is the mean duration of the model calls in seconds,
        as OpenTelemetry calls it; ``asynctrack.trace.duration`` that of whole traces.
        """
        values: list[tuple[str, float]] = []
        if window.model_calls:
            mean = window.model_seconds / window.model_calls
            values += [
                ("gen_ai.client.operation.duration", mean),
                ("gen_ai.client.operation.duration.max", window.model_seconds_max),
                ("gen_ai.client.operation.count", window.model_calls),
            ]
        if window.input_tokens or window.output_tokens:
            values += [
                ("gen_ai.usage.input_tokens", window.input_tokens),
                ("gen_ai.usage.output_tokens", window.output_tokens),
            ]
        if window.traces:
            values += [
                ("asynctrack.trace.duration", window.trace_seconds / window.traces),
                ("asynctrack.trace.duration.max", window.trace_seconds_max),
                ("asynctrack.trace.count", window.traces),
                ("asynctrack.trace.errors", window.errors),
            ]
        return [self._point(name, value, time_unix_nano, None) for name, value in values]

    def points(self, points: Iterable[tuple[str, float, int, int | None]]) -> list[MetricPoint]:
        """Return the user's points, each with a step."""
        return [
            self._point(metric_name(name), value, time_unix_nano, step)
            for name, value, time_unix_nano, step in points
        ]

    def summary(self) -> dict[str, dict[str, Any]]:
        """Return count, sum, min, max and last value of each metric."""
        return {name: dict(values) for name, values in self._summary.items()}

    def _point(self, name: str, value: float, time_unix_nano: int, step: int | None) -> MetricPoint:
        if step is None:
            step = self._steps.get(name, -1) + 1
        self._steps[name] = step
        values = self._summary.get(name)
        if values is None:
            self._summary[name] = {
                "count": 1, "sum": value, "min": value, "max": value, "last": value,
            }  # fmt: skip
        else:
            values["count"] += 1
            values["sum"] += value
            values["min"] = min(values["min"], value)
            values["max"] = max(values["max"], value)
            values["last"] = value
        return MetricPoint(name, float(value), time_unix_nano, step)
