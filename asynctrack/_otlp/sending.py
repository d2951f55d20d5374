"""Sends what has come of feeds: assembles traces, puts them into requests, tries again.

Works in the sender's thread, where this is imported: OpenTelemetry's exporter takes its time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from asynctrack._common.retry import RetryPolicy
from asynctrack._otlp import requests
from asynctrack._otlp.assembling import Assembling
from asynctrack._otlp.exporter import Answer, Exporter
from asynctrack._otlp.feed import Feed
from asynctrack._otlp.joined import Joined
from asynctrack._otlp.ratings import Ratings
from asynctrack._otlp.target import Target
from asynctrack._reading.decoding.feedback import Feedback
from asynctrack._reading.export.otlp_span import OtlpSpan, otlp_spans
from asynctrack._reading.trees.trace import Trace

GIVE_UP: Final = 300.0
"""Seconds after which traces are dropped that the receiver has not taken: others wait behind."""
ALONE: Final = 3
"""Answers of a failing receiver after which each trace of a request is tried by itself."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A trace to be sent.

    Attributes:
        spans: Its spans.
        counts: Whether it is a whole trace, not what came late of one.
    """

    spans: tuple[OtlpSpan, ...]
    counts: bool


class Sending:
    """Sends the traces of feeds to one target. Blocks, in one thread.

    Args:
        target: Where to, with its address.
        pause: Waits so many seconds, or until nobody waits for a feed any more.
        policy: How long to wait between two attempts.
        monotonic: The clock, in seconds.
        uniform: Random numbers in [0, 1).
    """

    def __init__(
        self,
        target: Target,
        *,
        pause: Callable[[Feed, float], None],
        policy: RetryPolicy,
        monotonic: Callable[[], float],
        uniform: Callable[[], float],
    ) -> None:
        self._target = target
        self._pause = pause
        self._policy = policy
        self._monotonic = monotonic
        self._uniform = uniform
        self._exporter = Exporter(target)

    def close(self) -> None:
        """Close its connections."""
        self._exporter.close()

    def look_at(self, feed: Feed) -> None:
        """Send what has come of a feed and is due."""
        if feed.abandoned:
            return
        if feed.assembling is None:
            feed.assembling = Assembling(feed.writer_id)
            feed.joined = Joined()
            if self._target.rate is not None:
                feed.ratings = Ratings(
                    feed, self._target.rate, feed.assembling.is_open, feed.joined, give_up=GIVE_UP,
                    monotonic=self._monotonic, uniform=self._uniform,
                )  # fmt: skip
        assembling = feed.assembling
        finishing = feed.finishing  # before what has come until then is taken
        while (artifact := feed.next_artifact()) is not None:
            self._send(feed, assembling.take(artifact, self._monotonic()))
        now = self._monotonic()
        self._send(feed, assembling.due(now, hurried=feed.hurried))
        if assembling.too_large:
            feed.dropped("too_large", assembling.too_large)
            feed.notices.warn(
                "otlp:too_large",
                f"asynctrack does not send a trace to {feed.where} that is too large to be kept"
                " in memory until it ends. Its events are stored; asynctrack export --to sends it.",
            )
            assembling.too_large = 0
        if finishing:
            self._send(feed, assembling.rest(now))
        rated = feed.ratings is None or feed.ratings.send(last=finishing)
        if finishing and rated:
            feed.end()

    def _send(self, feed: Feed, found: Iterable[Trace | Feedback]) -> None:
        waiting: list[Ready] = []
        spans = size = 0
        joined = feed.joined
        assert joined is not None
        for trace in found:
            if feed.abandoned:
                return
            if isinstance(trace, Feedback):
                if feed.ratings is not None:
                    feed.ratings.take(trace)
                continue
            root = trace.root
            made = tuple(otlp_spans(trace, joined.id_of(trace.trace_id)))
            one = Ready(made, root.started and root.span_id == trace.trace_id)
            joined.note(trace.trace_id, made[0].trace_id)
            its_size = sum(map(requests.size_of, one.spans))
            if waiting and (
                spans + len(one.spans) > requests.SPANS or size + its_size > requests.BYTES
            ):
                self._deliver(feed, waiting)
                waiting, spans, size = [], 0, 0
            waiting.append(one)
            spans += len(one.spans)
            size += its_size
        if waiting:
            self._deliver(feed, waiting)

    def _deliver(self, feed: Feed, traces: Sequence[Ready]) -> None:
        """Send traces in one request, or several where one is larger than that."""
        alone = len(traces) == 1
        for spans in requests.requests_of(span for one in traces for span in one.spans):
            answer = self._try(feed, spans, alone=alone)
            if answer.taken:
                continue
            if feed.abandoned:
                return
            if not alone:
                for one in traces:
                    self._deliver(feed, [one])
                return
            reason = "refused" if answer.refused else "unreachable"
            feed.dropped(reason, sum(one.counts for one in traces))
            feed.notices.warn(
                f"otlp:{reason}",
                f"asynctrack has dropped a trace: {feed.where}"
                f" {'refuses' if answer.refused else 'does not take'} it ({answer.text}). It is"
                " counted in statistics().traces_dropped; its events are stored.",
            )
            return
        feed.sent(sum(one.counts for one in traces))

    def _try(self, feed: Feed, spans: Sequence[OtlpSpan], *, alone: bool) -> Answer:
        """Try until the receiver takes spans, refuses them, or others have to have their turn."""
        begun = self._monotonic()
        failures = answered = 0
        while True:
            answer = self._exporter.send(spans, feed.resource)
            if answer.taken or answer.refused or feed.abandoned:
                return answer
            failures += 1
            answered += answer.status is not None
            if self._monotonic() - begun > GIVE_UP or (answered >= ALONE and not alone):
                return answer
            feed.notices.warn(
                "otlp:unreachable",
                f"asynctrack cannot send traces to {feed.where} at the moment ({answer.text})."
                " They wait, within a bound, and are tried again. Events are stored as before.",
            )
            self._pause(feed, self._policy.wait(failures, self._uniform()))
