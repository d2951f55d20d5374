"""Metrics: from measurements and ``log_metric`` to points, and from there to the Run.

``MetricLog`` makes points, numbers them and keeps a summary for the manifest. ``MetricQueue``
sends them, as many in a request as the Run's service takes, and loses no good point with a bad one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final

from asynctrack._common.artifact import MetricPoint, NotTaken
from asynctrack._common.measured import Measured
from asynctrack._common.notices import Notices
from asynctrack._errors import PermanentError, TransientError
from asynctrack._record.limits import SAGEMAKER, Limits

MAX_UNSENT_POINTS: Final = 100_000
"""Most points that wait; further ones count as refused."""


class MetricLog:
    """Numbers the points and keeps a summary of each metric for the manifest.

    Args:
        limits: What the Run's service takes.
    """

    def __init__(self, limits: Limits = SAGEMAKER) -> None:
        self._limits = limits
        self._steps: dict[str, int] = {}
        self._summary: dict[str, dict[str, float]] = {}

    def window(self, window: Measured, time_unix_nano: int) -> list[MetricPoint]:
        """Return the points for the measurements of a window: at most one for each metric."""
        return [self._point(name, value, time_unix_nano, None) for name, value in window.points()]

    def points(self, points: Iterable[tuple[str, float, int, int | None]]) -> list[MetricPoint]:
        """Return the user's points, each with a step."""
        return [
            self._point(self._limits.metric_name(name), value, time_unix_nano, step)
            for name, value, time_unix_nano, step in points
        ]

    def summary(self) -> dict[str, dict[str, Any]]:
        """Return count, sum, min, max and last value of each metric."""
        return {name: dict(values) for name, values in self._summary.items()}

    def _point(self, name: str, value: float, time_unix_nano: int, step: int | None) -> MetricPoint:
        if step is None:
            step = self._steps.get(name, -1) + 1
        self._steps[name] = step
        if not math.isfinite(value):  # a sum would say nothing any more
            return MetricPoint(name, value, time_unix_nano, step)
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


class MetricQueue:
    """Holds points until they are sent, refused or given up.

    Args:
        put: Sends up to as many points as the service takes in one request; None where there is
            no Run, and so nothing to send.
        notices: Rate-limited warnings.
        limits: What the service takes.
    """

    def __init__(
        self,
        put: Callable[[Sequence[MetricPoint]], Awaitable[NotTaken]] | None,
        notices: Notices,
        limits: Limits,
    ) -> None:
        self._limits = limits
        self._put = put
        self._notices = notices
        self._points: list[MetricPoint] = []
        self._halve = True
        self.sent = 0
        self.refused = 0
        self.left = 0

    def __len__(self) -> int:
        return len(self._points)

    def add(self, points: Sequence[MetricPoint]) -> None:
        """Add points; those without room count as refused."""
        room = MAX_UNSENT_POINTS - len(self._points)
        self._points.extend(points[:room])
        self.refused += len(points[room:])

    def give_up(self) -> None:
        """Count what is left as not sent."""
        self.left = len(self._points)

    async def send(self) -> None:
        """Send all points.

        Raises:
            BackendError: They wait here, and so do those that the service wants again.
        """
        while self._points:
            chunk = self._points[: self._limits.points]
            outcome = await self._send(chunk)
            self._points[: len(chunk)] = outcome.again
            self.refused += len(outcome.refused)
            self.sent += len(chunk) - len(outcome.again) - len(outcome.refused)
            if outcome.again:
                raise TransientError(
                    "PutMetricsError", f"{len(outcome.again)} points are to be sent again"
                )

    async def _send(self, points: Sequence[MetricPoint]) -> NotTaken:
        assert self._put is not None
        now = time.time()
        try:
            outcome = await self._put([self._limits.point(point, now) for point in points])
        except PermanentError as error:
            if len(points) > 1 and self._halve:
                return await self._in_halves(points)
            outcome = NotTaken(refused=points)
            self._tell(len(points), str(error))
        else:
            if outcome.refused:
                self._tell(len(outcome.refused), "named in its answer")
        return outcome

    async def _in_halves(self, points: Sequence[MetricPoint]) -> NotTaken:
        """Find the bad ones: a request is refused as a whole."""
        middle = len(points) // 2
        first, second = await self._send(points[:middle]), await self._send(points[middle:])
        outcome = NotTaken([*first.again, *second.again], [*first.refused, *second.refused])
        if len(points) > self._limits.points // 2:
            # If all are refused the next ones will be too: do not send twenty requests for ten.
            self._halve = len(outcome.refused) < len(points)
        return outcome

    def _tell(self, points: int, why: str) -> None:
        self._notices.warn(
            "metrics_refused",
            f"asynctrack could not write {points} metric points into the Run:"
            f" {self._limits.service} refuses them ({why}). Those of log_metric are in the events.",
        )
