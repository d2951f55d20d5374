"""Metric points on their way to the Run: ten a request, and no good one lost with a bad one."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import Final

from asynctrack._common.artifact import MetricPoint, NotTaken
from asynctrack._common.notices import Notices
from asynctrack._errors import PermanentError, TransientError
from asynctrack._record import limits

METRICS_PER_CALL: Final = 10
"""Points in one BatchPutMetrics request at the most."""
MAX_UNSENT_POINTS: Final = 100_000


class PointQueue:
    """Holds points until they are sent, refused or given up.

    Args:
        put: Sends up to ``METRICS_PER_CALL`` points.
        notices: Rate-limited warnings.
    """

    def __init__(
        self,
        put: Callable[[Sequence[MetricPoint]], Awaitable[NotTaken]],
        notices: Notices,
    ) -> None:
        self._put = put
        self._notices = notices
        self._points: deque[MetricPoint] = deque()
        self._halve = True
        self.sent = 0
        self.refused = 0
        self.left = 0

    def __len__(self) -> int:
        return len(self._points)

    def add(self, points: Sequence[MetricPoint]) -> None:
        """Take points in; those without room count as refused."""
        room = MAX_UNSENT_POINTS - len(self._points)
        self._points.extend(points[:room])
        self.refused += len(points[room:])

    def give_up(self) -> None:
        """Count what is left as not sent."""
        self.left = len(self._points)

    async def send(self) -> None:
        """Send all points.

        Raises:
            BackendError: They are still here, as are those that the service wants again.
        """
        while self._points:
            chunk = list(islice(self._points, METRICS_PER_CALL))
            outcome = await self._send(chunk)
            for _ in chunk:
                self._points.popleft()
            self._points.extendleft(reversed(outcome.again))
            self.refused += len(outcome.refused)
            self.sent += len(chunk) - len(outcome.again) - len(outcome.refused)
            if outcome.again:
                raise TransientError(
                    "PutMetricsError", f"{len(outcome.again)} points are to be sent again"
                )

    async def _send(self, points: Sequence[MetricPoint]) -> NotTaken:
        now = time.time()
        try:
            outcome = await self._put([limits.clamp_time(point, now) for point in points])
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
        if len(points) > METRICS_PER_CALL // 2:
            # Where all are refused the next ones will be too: not twenty requests for ten each.
            self._halve = len(outcome.refused) < len(points)
        return outcome

    def _tell(self, points: int, why: str) -> None:
        self._notices.warn(
            "metrics_refused",
            f"asynctrack could not write {points} metric points into the Run: SageMaker refuses"
            f" them ({why}). Those of log_metric are in the events.",
        )
