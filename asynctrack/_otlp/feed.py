"""The traces of one tracker, on their way to a receiver: what waits, and what became of them."""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future as ThreadFuture
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from asynctrack._common.artifact import Artifact
from asynctrack._common.live import LiveCounts
from asynctrack._common.notices import Notices

if TYPE_CHECKING:  # imported in the sender's thread
    from asynctrack._otlp.assembling import Assembling
    from asynctrack._otlp.joined import Joined
    from asynctrack._otlp.ratings import Ratings

WAITING_BYTES: Final = 64 * 1024 * 1024
"""Size of the artifacts that wait to be looked at, packed, in bytes, for each tracker."""
_ROOT: Final = re.compile(rb'_start","span_id":"([^"]+)","trace_id":"\1"')
"""Where a trace begins: a line in which the span has the trace's id, and no parent."""
_FEEDBACK: Final = re.compile(rb'"time_unix_nano":\d+,"event":"feedback"')
"""Where a line is feedback."""


class Feed:
    """One tracker's part in a sender; safe to be called from any thread.

    Args:
        writer_id: Whose events it takes.
        resource: What is said of all spans.
        notices: Rate-limited warnings.
        wake: Gets a thread to look at the feed; False where none is to be had.
        where: The receiver, for people.
        takes_feedback: Whether the receiver takes feedback; where it does not, none is sent.
    """

    def __init__(
        self,
        *,
        writer_id: str,
        resource: Mapping[str, str],
        notices: Notices,
        wake: Callable[[Feed], bool],
        where: str,
        takes_feedback: bool = False,
    ) -> None:
        self.writer_id = writer_id
        self.resource = resource
        self.notices = notices
        self.where = where
        self.assembling: Assembling | None = None
        """What the sender's thread makes of the artifacts."""
        self.joined: Joined | None = None
        """What it knows of traces that are part of a service's."""
        self.ratings: Ratings | None = None
        """What it does with feedback."""
        self._takes_feedback = takes_feedback
        self.finished: ThreadFuture[None] = ThreadFuture()
        self._wake = wake
        self._lock = threading.RLock()  # re-entrant: a finalizer may read the counters
        self._artifacts: deque[Artifact] = deque()
        self._bytes = 0
        self._began = self._sent = 0
        self._dropped: dict[str, int] = {}
        self._rated = self._ratings_sent = 0
        self._ratings_dropped: dict[str, int] = {}
        self._abandoned = False
        self.hurried = False
        """Whether what has ended waits for nothing."""
        self.finishing = False
        """Whether all has come that ever will."""

    # -- the way of the data, which never waits -----------------------------------------------

    def start(self) -> None:
        """Get the thread ready, where one is to be had."""
        self._wake(self)

    def take(self, artifact: Artifact, raw: bytes) -> None:
        """Take the next events, each once."""
        began = len(_ROOT.findall(raw))
        rated = len(_FEEDBACK.findall(raw)) if self._takes_feedback else 0
        with self._lock:
            if self._abandoned:
                return
            self._began += began
            self._rated += rated
            size = len(artifact.content)
            fits = self._bytes + size <= WAITING_BYTES
            if not fits:
                _add(self._dropped, "buffer_full", began)
                _add(self._ratings_dropped, "buffer_full", rated)
                artifact, size = replace(artifact, content=b""), 0  # so that nobody waits for it
            self._artifacts.append(artifact)
            self._bytes += size
        woken = self._wake(self)
        if not fits:
            self.notices.warn(
                "otlp:full",
                f"asynctrack has dropped traces on their way to {self.where}: it takes them more"
                " slowly than they come, or not at all. They are counted in"
                " statistics().traces_dropped; their events are stored: asynctrack export --to"
                " sends them again.",
            )
        if not woken:
            self.abandon("no_thread")

    def hurry(self) -> None:
        """Send what has ended at once from now on."""
        self.hurried = True
        if not self.over:
            self._wake(self)

    def finish(self) -> ThreadFuture[None]:
        """Send what is there: nothing comes any more."""
        with self._lock:
            self.finishing = True
            idle = not (self._artifacts or self.assembling)
        if idle or not self._wake(self):
            self.end()
        return self.finished

    def abandon(self, reason: str = "close_timeout") -> None:
        """Count as dropped what has not been sent."""
        with self._lock:
            if self._abandoned or self.finished.done():
                return
            self._abandoned = True
            self._artifacts.clear()
            self._bytes = 0
            left, unrated = self._waiting, self._ratings_waiting
            _add(self._dropped, reason, left)
            _add(self._ratings_dropped, reason, unrated)
        if left:
            self.notices.warn(
                f"otlp:{reason}",
                f"asynctrack has not sent {left:,} traces to {self.where}:"
                f" {_REASONS.get(reason, reason)}. Their events are where all events are;"
                " asynctrack export --to sends them again.",
            )
        if unrated:
            self._warn_of_feedback(reason, unrated)
        self.end()
        self._wake(self)

    def counts(self) -> LiveCounts:
        """Return what became of the traces so far."""
        with self._lock:
            return LiveCounts(
                self._sent,
                dict(self._dropped),
                self._waiting,
                self._ratings_sent,
                dict(self._ratings_dropped),
                self._ratings_waiting,
            )

    # -- the sender's thread ------------------------------------------------------------------

    @property
    def abandoned(self) -> bool:
        """Whether nobody waits for it any more."""
        return self._abandoned

    @property
    def over(self) -> bool:
        """Whether there is nothing left to do for it."""
        return self.finished.done()

    def wait(self, now: float) -> float | None:
        """Return the seconds until something of it may be due; None where nothing is."""
        waits = [part.wait(now) for part in (self.assembling, self.ratings) if part is not None]
        return min((one for one in waits if one is not None), default=None)

    def next_artifact(self) -> Artifact | None:
        """Return the next one that has come."""
        with self._lock:
            if not self._artifacts:
                return None
            found = self._artifacts.popleft()
            self._bytes -= len(found.content)
            return found

    def sent(self, traces: int) -> None:
        """Count traces that the receiver has taken."""
        with self._lock:
            if not self._abandoned:
                self._sent += traces

    def dropped(self, reason: str, traces: int) -> None:
        """Count traces that are not sent."""
        with self._lock:
            if not self._abandoned:
                _add(self._dropped, reason, traces)

    def feedback_sent(self) -> None:
        """Count feedback that the receiver has taken."""
        with self._lock:
            if not self._abandoned:
                self._ratings_sent += 1

    def feedback_dropped(self, reason: str, said: str = "") -> None:
        """Count feedback that is not sent, and say so.

        Args:
            reason: Why.
            said: The receiver's own word.
        """
        with self._lock:
            if self._abandoned:
                return
            _add(self._ratings_dropped, reason, 1)
        self._warn_of_feedback(reason, 1, said)

    def end(self) -> None:
        """Let nobody wait for it any more."""
        with self._lock:
            if not self.finished.done():
                self.finished.set_result(None)

    @property
    def _waiting(self) -> int:
        return max(0, self._began - self._sent - sum(self._dropped.values()))

    @property
    def _ratings_waiting(self) -> int:
        return max(0, self._rated - self._ratings_sent - sum(self._ratings_dropped.values()))

    def _warn_of_feedback(self, reason: str, count: int, said: str = "") -> None:
        self.notices.warn(
            f"otlp:feedback:{reason}",
            f"asynctrack has not sent feedback ({count:,}) to {self.where}:"
            f" {_REASONS.get(reason, reason)}{f' ({said})' if said else ''}. It is counted in"
            " statistics().feedback_dropped, and is in the events.",
        )


def _add(counts: dict[str, int], reason: str, count: int) -> None:
    if count:
        counts[reason] = counts.get(reason, 0) + count


_REASONS: Final = {
    "close_timeout": "the time for closing was over",
    "no_thread": "no thread was to be had for it",
    "no_exporter": "OpenTelemetry's exporter cannot be used",
    "no_trace": "its trace is not there",
    "refused": "it refuses it",
    "unreachable": "it does not take it",
    "buffer_full": "too much of it waits",
}
