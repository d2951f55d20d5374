"""Feedback to a receiver that takes it: after its trace, each once, and in nobody's way."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from langchain_core.runnables import RunnableLambda

from asynctrack import NotFoundError, PermanentError, TransientError, tracker
from asynctrack._common.live import LiveFeedback
from asynctrack._otlp import ratings, sending
from asynctrack._otlp.joined import Joined
from asynctrack._otlp.ratings import Ratings
from asynctrack._otlp.target import Target
from asynctrack._reading.decoding.feedback import Feedback
from asynctrack._reading.export.otlp_span import span_id_of, trace_id_of
from tests.e2e.waiting import until_in_thread
from tests.support.otlp import OtlpReceiver

PATIENCE = 60.0


class Rated:
    """What is called with feedback: keeps it, with the traces that the receiver had by then.

    Attributes:
        taken: What was taken.
        known: The receiver's traces at that time.
        errors: Raised in place of taking what comes next.
    """

    def __init__(self, receiver: OtlpReceiver) -> None:
        self.taken: list[LiveFeedback] = []
        self.known: list[set[str]] = []
        self.errors: list[Exception] = []
        self.calls: list[str] = []
        self._receiver = receiver
        self._changed = threading.Condition()

    def __call__(self, feedback: LiveFeedback) -> None:
        known = {span.trace_id.hex() for span in self._receiver.spans()}
        with self._changed:
            self.calls.append(feedback.identity)
            self._changed.notify_all()
            if self.errors:
                raise self.errors.pop(0)
            self.taken.append(feedback)
            self.known.append(known)

    def wait_for(self, calls: int) -> None:
        """Wait until it was called so often."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.calls) >= calls, PATIENCE)


@pytest.fixture
def rated(receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> Rated:
    """What takes the feedback beside the receiver, which trackers with ``otlp=True`` send to."""
    found = Rated(receiver)
    target = Target(receiver.url, rate=found)
    monkeypatch.setattr("asynctrack._tracker.target_of", lambda _: target)
    monkeypatch.setattr(ratings.RetryPolicy, "wait", lambda *_, **__: 0.01)
    return found


def call(handler: Any, inside: Callable[[UUID], object] = lambda _: None) -> UUID:
    """Track a chain; return its trace."""
    trace_id = uuid4()

    def step(text: str) -> str:
        inside(trace_id)
        return text

    RunnableLambda(step).invoke("hello", {"callbacks": [handler], "run_id": trace_id})
    return trace_id


def test_it_waits_for_its_trace(tmp_path: Path, rated: Rated) -> None:
    """What is logged while the trace is open is sent after it; what is about another trace is not
    held up by it."""
    other = uuid4()

    def inside(trace_id: UUID) -> None:
        handler.log_feedback(trace_id, "early", 1)
        handler.log_feedback(other, "of another process", 2)
        assert handler.flush(PATIENCE)
        rated.wait_for(1)
        assert [one.name for one in rated.taken] == ["of another process"]

    made = tracker(tmp_path, otlp=True)
    with made as handler:
        trace_id = call(handler, inside)
        handler.log_feedback(trace_id, "late", "fine", comment="in words", user_id="ada")
    early, late = sorted(rated.taken[1:], key=lambda one: one.name)
    assert (early.name, early.value, early.user_id) == ("early", 1, None)
    assert (late.value, late.comment, late.user_id) == ("fine", "in words", "ada")
    assert all(trace_id_of(str(trace_id)) in known for known in rated.known[1:])
    assert early.trace_id == late.trace_id == trace_id_of(str(trace_id))
    counted = made.statistics()
    assert (counted.feedback_sent, counted.feedback_dropped, counted.feedback_waiting) == (3, {}, 0)


def test_after_its_trace_was_sent(
    tmp_path: Path, rated: Rated, receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes when the trace is long sent is sent soon, while the tracker is open."""
    monkeypatch.setattr("asynctrack._otlp.assembling.GRACE", 0.01)
    with tracker(tmp_path, otlp=True, max_delay=0.01) as handler:
        trace_id = call(handler)
        receiver.wait_for(1)
        handler.log_feedback(trace_id, "late", 0.5, span_id=trace_id)
        rated.wait_for(1)
    (one,) = rated.taken
    assert (one.value, one.span_id) == (0.5, span_id_of(str(trace_id)))


def test_a_trace_that_joined_a_services(tmp_path: Path, rated: Rated) -> None:
    """It goes to the trace that ours was sent as a part of."""
    service = "4bf92f3577b34da6a3ce929d0e0e4736"
    with tracker(tmp_path, otlp=True) as handler:
        with handler.span("asked", traceparent=f"00-{service}-00f067aa0ba902b7-01") as span:
            pass
        handler.log_feedback(span.trace_id, "thumbs", 1)
    assert [one.trace_id for one in rated.taken] == [service]


def test_a_receiver_in_trouble(tmp_path: Path, rated: Rated) -> None:
    """What fails is sent again under the same identity; what is refused is counted, and costs
    nothing else."""
    rated.errors += [TransientError("503", "no"), PermanentError("BAD", "no")]
    made = tracker(tmp_path, otlp=True)
    with made as handler:
        trace_id = call(handler)
        for score in range(3):
            handler.log_feedback(trace_id, "thumbs", score)
    counted = made.statistics()
    assert (counted.feedback_sent, counted.feedback_dropped) == (2, {"refused": 1})
    assert len(rated.calls) == 4 and len(set(rated.calls)) == 3


def test_a_trace_that_comes_later(tmp_path: Path, rated: Rated) -> None:
    """Where the receiver does not know the trace yet, it is asked again; traces go meanwhile."""
    rated.errors += [NotFoundError("no trace")] * 3
    made = tracker(tmp_path, otlp=True, max_delay=0.01)
    with made as handler:
        handler.log_feedback(uuid4(), "thumbs", 1)
        rated.wait_for(4)
        call(handler)
    counted = made.statistics()
    assert (counted.feedback_sent, counted.traces_sent) == (1, 1)


def test_a_trace_that_never_comes(
    tmp_path: Path, rated: Rated, caplog: pytest.LogCaptureFixture
) -> None:
    """When the tracker closes, nothing waits for it any more; it is counted, and said."""
    rated.errors += [NotFoundError("no trace")] * 1_000
    made = tracker(tmp_path, otlp=True)
    with made as handler:
        handler.log_feedback(uuid4(), "thumbs", 1)
    assert made.statistics().feedback_dropped == {"no_trace": 1}
    assert "its trace is not there" in caplog.text


def test_a_receiver_that_is_down(
    tmp_path: Path,
    rated: Rated,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Closing waits as long as it does for traces; what was not sent is counted."""
    rated.errors += [TransientError("503", "no")] * 100_000
    monkeypatch.setattr("asynctrack._otlp.assembling.GRACE", 0.01)
    made = tracker(tmp_path, otlp=True, max_delay=0.01, close_patience=0.5)
    with made as handler:
        handler.log_feedback(call(handler), "thumbs", 1)
        # Closing does not wait so long for a thread that has yet to import the exporter.
        until_in_thread(lambda: made.statistics().traces_sent == 1)
    counted = made.statistics()
    assert (counted.traces_sent, counted.feedback_dropped) == (1, {"close_timeout": 1})
    assert counted.feedback_waiting == 0
    assert "has not sent feedback (1)" in caplog.text


def test_what_waits_is_bounded(
    tmp_path: Path, rated: Rated, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than may wait is dropped; the rest is sent."""
    monkeypatch.setattr(ratings, "WAITING_BYTES", 1_100)
    made = tracker(tmp_path, otlp=True)
    with made as handler:

        def inside(trace_id: UUID) -> None:
            for score in range(5):
                handler.log_feedback(trace_id, "thumbs", score)

        call(handler, inside)
    counted = made.statistics()
    assert (counted.feedback_sent, counted.feedback_dropped) == (2, {"buffer_full": 3})


def test_more_than_a_round(tmp_path: Path, rated: Rated, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it is sent, however many rounds that takes."""
    monkeypatch.setattr(ratings, "ROUND", 2)
    made = tracker(tmp_path, otlp=True)
    with made as handler:
        trace_id = call(handler)
        for score in range(9):
            handler.log_feedback(trace_id, "thumbs", score)
    assert made.statistics().feedback_sent == 9
    assert sorted(one.value for one in rated.taken) == list(range(9))


def test_a_receiver_without_feedback(tmp_path: Path, receiver: OtlpReceiver) -> None:
    """OpenTelemetry has no feedback: nothing is sent, and nothing counted."""
    made = tracker(tmp_path, otlp=receiver.url)
    with made as handler:
        handler.log_feedback(call(handler), "thumbs", 1)
    counted = made.statistics()
    assert (counted.traces_sent, counted.feedback_sent, counted.feedback_waiting) == (1, 0, 0)
    assert counted.feedback_dropped == {}


def test_it_is_given_up() -> None:
    """What fails for five minutes is dropped; a failing one leaves the turn to the next."""
    now, dropped, asked = [0.0], [], []

    class Feed:
        abandoned = False

        def feedback_dropped(self, reason: str, said: str = "") -> None:
            dropped.append((reason, said))

        def feedback_sent(self) -> None:
            raise AssertionError

    def rate(feedback: LiveFeedback) -> None:
        asked.append(feedback.name)
        raise TransientError("503", "no")

    feed: Any = Feed()
    waiting = Ratings(
        feed, rate, lambda _: False, Joined(), give_up=sending.GIVE_UP,
        monotonic=lambda: now[0], uniform=lambda: 0.5,
    )  # fmt: skip
    for seq, name in enumerate("ab"):
        waiting.take(Feedback("t", None, name, 1.0, None, None, None, 0, "w", seq))
    assert not waiting.send(last=False)
    assert asked == ["a"], "the receiver is down: the next one is not tried at once"
    while not waiting.send(last=False):
        wait = waiting.wait(now[0])
        assert wait is not None and 0 <= wait <= 10.0
        now[0] += max(wait, 0.01)
    assert dropped == [("unreachable", "503")] * 2
    assert sending.GIVE_UP < now[0] < sending.GIVE_UP + 40
    assert asked[1] == "b" and 40 < len(asked) < 200
