"""The thread that sends traces to one receiver, for all trackers of the process that name it.

It decodes, assembles and sends, so that neither a loop of the user's nor the engine's does. While
it waits for a receiver that is slow or down, artifacts wait packed in the feeds, within their
bound. A daemon: whoever closes waits for it as long as there is time, and leaves it behind then.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

from asynctrack._common.importing import gate
from asynctrack._common.notices import report
from asynctrack._common.own import own_work
from asynctrack._common.retry import RetryPolicy
from asynctrack._errors import BackendError
from asynctrack._otlp.feed import Feed
from asynctrack._otlp.target import Target

if TYPE_CHECKING:
    from asynctrack._otlp.exporter import Answer, Exporter
    from asynctrack._reading.decoding.feedback import Feedback
    from asynctrack._reading.export.otlp_span import OtlpSpan
    from asynctrack._reading.trees.trace import Trace

GIVE_UP: Final = 300.0
"""Seconds after which traces are dropped that the receiver has not taken: others wait behind."""
ALONE: Final = 3
"""Answers of a failing receiver after which each trace of a request is tried by itself."""
PATIENT: Final = 5
"""Failed questions for the address after which a warning says so: a run may be on its way."""
LINGER: Final = 3.0
"""Seconds that the thread and its connections stay for the next tracker."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A trace to be sent.

    Attributes:
        spans: Its spans.
        counts: Whether it is a whole trace, not what came late of one.
    """

    spans: tuple[OtlpSpan, ...]
    counts: bool


class Sender:
    """Sends the traces of feeds, in turn.

    Args:
        target: Where to.
        monotonic: The clock, in seconds.
        uniform: Random numbers in [0, 1).
    """

    def __init__(
        self,
        target: Target,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        self._target = target
        self._monotonic = monotonic
        self._uniform = uniform
        self._policy = RetryPolicy(cap=10.0)
        self._changed = threading.Condition(threading.RLock())
        self._feeds: dict[Feed, None] = {}
        self._thread: threading.Thread | None = None
        self._exporter: Exporter | None = None
        self._news = False

    def wake(self, feed: Feed) -> bool:
        """Look at a feed soon, in the thread; False where none is to be had."""
        with self._changed:
            if not feed.over:
                self._feeds[feed] = None
            self._news = True
            self._changed.notify_all()
            if self._thread is None and self._feeds:
                thread = threading.Thread(target=self._run, name="asynctrack-otlp", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # none is to be had
                    self._feeds.pop(feed, None)
                    return False
                self._thread = thread
            return True

    # -- in the thread ------------------------------------------------------------------------

    def _run(self) -> None:
        with own_work():
            try:
                with gate.importing():
                    from asynctrack._otlp.exporter import Exporter
                    from asynctrack._reading.export import otlp_span  # noqa: F401  # its time
                target = self._find_target()
                if target is None:
                    return
                self._exporter = exporter = Exporter(target)
            except Exception as error:
                self._fail(error)
                return
            try:
                while self._wait():
                    for feed in self._open_feeds():
                        self._look_at(feed)
            except Exception as error:
                report(error, "asynctrack's thread for traces has ended because of an error")
                self._fail(error)
            finally:
                exporter.close()  # its own: the next thread may have begun, with another

    def _find_target(self) -> Target | None:
        """Return the target with its address; None where nobody waits for it any more."""
        failures = 0
        while True:
            try:
                return self._target.found()
            except BackendError as error:
                failures += 1
                text = f"{error}. {error.advice}".rstrip()
            wait = self._policy.wait(failures, self._uniform())
            with self._changed:
                feeds = self._open_feeds()
                if not feeds:
                    self._thread = None
                    return None
                self._changed.wait(max(wait, 0.1))
            for feed in feeds if failures >= PATIENT else ():
                feed.notices.warn(
                    "otlp:unreachable",
                    f"asynctrack cannot send traces to {feed.where} at the moment ({text})."
                    " They wait, within a bound, and are tried again. Events go on as before.",
                )

    def _open_feeds(self) -> list[Feed]:
        with self._changed:
            for feed in [one for one in self._feeds if one.over]:
                del self._feeds[feed]
            return list(self._feeds)

    def _wait(self) -> bool:
        """Wait until there is something to do; False where there is nobody to do it for."""
        with self._changed:
            linger = None if self._open_feeds() else LINGER
            now = self._monotonic()
            waits = [feed.wait(now) for feed in self._feeds]
            wait = min((one for one in waits if one is not None), default=linger)
            if not self._news and (wait is None or wait > 0):
                self._changed.wait(wait)
            if linger is not None and not self._news and not self._open_feeds():
                self._thread = None
                return False
            self._news = False
            return True

    def _look_at(self, feed: Feed) -> None:
        from asynctrack._otlp.assembling import Assembling
        from asynctrack._otlp.joined import Joined
        from asynctrack._otlp.ratings import Ratings

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
        from asynctrack._otlp import requests
        from asynctrack._reading.decoding.feedback import Feedback
        from asynctrack._reading.export.otlp_span import otlp_spans

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
        from asynctrack._otlp.requests import requests_of

        alone = len(traces) == 1
        for spans in requests_of(span for one in traces for span in one.spans):
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
        assert self._exporter is not None
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

    def _pause(self, feed: Feed, seconds: float) -> None:
        until = self._monotonic() + seconds
        with self._changed:
            while not feed.abandoned and (left := until - self._monotonic()) > 0:
                self._changed.wait(left)

    def _fail(self, error: BaseException) -> None:
        """Let nobody wait for what cannot be sent."""
        with self._changed:
            feeds, self._feeds = list(self._feeds), {}
            self._thread = None
        for feed in feeds:
            feed.notices.warn(
                "otlp:no_exporter",
                f"asynctrack cannot send traces to {feed.where}: {type(error).__name__} from"
                " OpenTelemetry's exporter. Events are stored as before.",
            )
            feed.abandon("no_exporter")


_senders: WeakValueDictionary[tuple[object, ...], Sender] = WeakValueDictionary()
_lock = threading.Lock()
_pid = os.getpid()


def sender_for(target: Target) -> Sender:
    """Return what sends to a target in this process."""
    _after_fork()  # a tracker's own hook may come before ours
    with _lock:
        sender = _senders.get(target.way)
        if sender is None:
            sender = _senders[target.way] = Sender(target)
        return sender


def _after_fork() -> None:
    """Forget the parent's, once: its threads are not here."""
    global _lock, _pid
    if _pid == os.getpid():
        return
    _pid = os.getpid()
    _lock = threading.Lock()
    _senders.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
