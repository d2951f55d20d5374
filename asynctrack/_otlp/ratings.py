"""Feedback of one tracker on its way to a receiver that takes it: after its trace, else soon.

Feedback on a trace that has not been sent waits for it. Any other is sent at once; its trace may be
another process's, so where the receiver does not know it yet it is tried again. None of this holds
up traces: a round sends a few, and what has failed waits for its time.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Protocol

from asynctrack._common.live import LiveFeedback
from asynctrack._common.retry import RetryPolicy
from asynctrack._errors import BackendError, NotFoundError, PermanentError
from asynctrack._otlp.joined import Joined
from asynctrack._reading.decoding.feedback import Feedback
from asynctrack._reading.export.otlp_span import span_id_of

WAITING_BYTES: Final = 16 * 1024 * 1024
"""Size of the feedback that waits, in bytes, about; more is dropped."""
ROUND: Final = 50
"""Feedback that is sent before traces have their turn again."""


class Counting(Protocol):
    """Counts what became of it."""

    @property
    def abandoned(self) -> bool:
        """Whether nobody waits for it any more."""

    def feedback_sent(self) -> None:
        """Count feedback that the receiver has taken."""

    def feedback_dropped(self, reason: str, said: str = "") -> None:
        """Count feedback that is not sent."""


@dataclass(slots=True)
class _Waiting:
    feedback: Feedback
    size: int
    failures: int = 0
    since: float = 0.0
    """When it has failed for the first time."""


class Ratings:
    """Sends the feedback of one feed. Touched by one thread.

    Args:
        feed: Whose it is.
        rate: Sends one; see ``Target``.
        is_open: Tells whether a trace has begun and is still to be sent.
        joined: Knows the ids with which traces were sent.
        monotonic: The clock, in seconds.
        uniform: Random numbers in [0, 1).
        give_up: Seconds after which feedback is dropped that has failed.
    """

    def __init__(
        self,
        feed: Counting,
        rate: Callable[[LiveFeedback], None],
        is_open: Callable[[str], bool],
        joined: Joined,
        *,
        monotonic: Callable[[], float],
        uniform: Callable[[], float],
        give_up: float,
    ) -> None:
        self._feed = feed
        self._rate = rate
        self._is_open = is_open
        self._monotonic = monotonic
        self._uniform = uniform
        self._give_up = give_up
        self._policy = RetryPolicy(cap=10.0)
        self._held: dict[str, list[_Waiting]] = {}
        self._due: list[tuple[float, int, _Waiting]] = []
        self._order = itertools.count()
        self._bytes = 0
        self._failures = 0
        self._not_before = 0.0
        self._last = False
        self._joined = joined

    def take(self, feedback: Feedback) -> None:
        """Take feedback, to be sent after its trace."""
        size = 500 + len(feedback.name) + len(feedback.comment or "")
        if self._bytes + size > WAITING_BYTES:
            self._feed.feedback_dropped("buffer_full")
            return
        self._bytes += size
        self._place(_Waiting(feedback, size))

    def send(self, *, last: bool) -> bool:
        """Send what is due, a few; return whether nothing is left.

        Args:
            last: Whether no trace comes any more, so that nothing waits for one.
        """
        for trace_id in [one for one in self._held if not self._is_open(one)]:
            for one in self._held.pop(trace_id):
                self._place(one)
        if last and not self._last:
            self._last = True  # what was not there is asked for once more, now
            self._due = [(0.0, order, one) for _, order, one in self._due]
            heapq.heapify(self._due)
        for _ in range(ROUND):
            wait = self.wait(self._monotonic())
            if wait is None or wait > 0 or self._feed.abandoned:
                break
            self._try(heapq.heappop(self._due)[2])
        return not (self._due or self._held)

    def wait(self, now: float) -> float | None:
        """Return the seconds until something is due; None where nothing is."""
        return max(0.0, self._due[0][0] - now, self._not_before - now) if self._due else None

    def _place(self, one: _Waiting, due: float = 0.0) -> None:
        if self._is_open(one.feedback.trace_id):
            self._held.setdefault(one.feedback.trace_id, []).append(one)
        else:
            heapq.heappush(self._due, (due, next(self._order), one))

    def _try(self, one: _Waiting) -> None:
        final, said = False, ""
        try:
            self._rate(self._as_sent(one.feedback))
        except NotFoundError:
            reason, final = "no_trace", self._last
        except PermanentError as error:
            reason, final, said = "refused", True, error.code
        except BackendError as error:
            reason, said = "unreachable", error.code
            self._failures += 1
            self._not_before = self._monotonic() + self._pause(self._failures)
        else:
            self._failures = 0
            self._bytes -= one.size
            self._feed.feedback_sent()
            return
        now = self._monotonic()
        one.failures += 1
        if one.failures == 1:
            one.since = now
        if final or now - one.since > self._give_up:
            self._bytes -= one.size
            self._feed.feedback_dropped(reason, said)
        else:
            self._place(one, now + self._pause(one.failures))

    def _pause(self, failures: int) -> float:
        return self._policy.wait(failures, self._uniform())

    def _as_sent(self, feedback: Feedback) -> LiveFeedback:
        """Return feedback with the ids that its trace was sent with."""
        identity = sha256(f"{feedback.writer_id}/{feedback.seq}".encode()).hexdigest()[:32]
        return LiveFeedback(
            identity=identity,
            trace_id=self._joined.id_of(feedback.trace_id),
            span_id=None if feedback.span_id is None else span_id_of(feedback.span_id),
            name=feedback.name,
            value=feedback.value if feedback.score is None else feedback.score,
            comment=feedback.comment,
            user_id=feedback.user_id,
            time_unix_nano=feedback.time_unix_nano,
        )
