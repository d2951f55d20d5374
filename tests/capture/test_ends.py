"""What the event of an end says: how, why, and how long it took."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import json
import tracemalloc
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from langchain_core.messages import HumanMessage
from langgraph.errors import GraphInterrupt, ParentCommand
from langgraph.types import Command, Interrupt

from asynctrack._capture.capture import Capture
from asynctrack._capture.doubles import Doubles
from asynctrack._capture.observations import Observations
from asynctrack._capture.redact import Redactor
from asynctrack._capture.reported import caught_by_tool
from asynctrack._capture.spans import MAX_ENDED, OpenSpan
from asynctrack._capture.tracebacks import verdict_on

ROOT, CHILD, MODEL = UUID(int=1), UUID(int=2), UUID(int=3)


class Captured:
    """A capture whose clock goes on by a second each time, and what it has made."""

    def __init__(self) -> None:
        self.observations = Observations()
        self.abandoned: list[dict[str, Any]] = []
        seconds = itertools.count(1)
        self.capture = Capture(
            tokens="stream",
            redactor=Redactor(),
            observations=self.observations,
            time_ns=lambda: 0,
            perf_ns=lambda: next(seconds) * 10**9,
        )
        self.capture.events.spans.on_abandon = self._abandon

    def _abandon(self, span: OpenSpan, reason: str, final: bool) -> bool:
        self.abandoned.append(json.loads(self.capture.events.abandoned(span, reason)))
        return True

    def __call__(self, which: str, /, *args: Any, **kwargs: Any) -> Any:
        body = getattr(self.capture, f"on_{which}")(*args, **kwargs)
        return None if body is None else json.loads(body)


def test_an_end_has_its_duration() -> None:
    """It is measured by the monotonic clock; without a start there is none."""
    do = Captured()
    do("chain_start", None, {}, run_id=ROOT)
    end = do("chain_end", {}, run_id=ROOT)
    assert end["duration"] == 1.0 and "outcome" not in end and "cause" not in end
    assert "duration" not in do("chain_end", {}, run_id=CHILD)


@pytest.mark.parametrize(
    ("error", "outcome", "cause"),
    [
        (ValueError("no"), None, None),
        (KeyboardInterrupt(), None, None),
        (asyncio.CancelledError(), "cancelled", "cancel"),
        (GeneratorExit(), "cancelled", "stream_left"),
        (GraphInterrupt((Interrupt(value="sure?"),)), "interrupted", "pause"),
        (ParentCommand(Command(goto="x")), "interrupted", "handoff"),
    ],
    ids=repr,
)
def test_an_error_says_what_it_is(
    error: BaseException, outcome: str | None, cause: str | None
) -> None:
    """What directs the program has an outcome of its own, and fails no trace of the Run's."""
    do = Captured()
    do("chain_start", None, {}, run_id=ROOT)
    end = do("chain_error", error, run_id=ROOT)
    assert (end.get("outcome"), end.get("cause")) == (outcome, cause)
    window = do.observations.take_window()
    assert (window.traces, window.errors) == (1, outcome is None)


def test_what_langgraph_hands_on_is_kept() -> None:
    """The values of interrupts, and the command of a handoff, redacted as everything."""
    do = Captured()
    value = {"question": "sure?", "api_key": "sk-1234567890abcdefghij"}
    do("chain_start", None, {}, run_id=ROOT)
    end = do("chain_error", GraphInterrupt((Interrupt(value=value),)), run_id=ROOT)
    assert end["error"]["value"][0]["value"] == {"question": "sure?", "api_key": "[REDACTED]"}
    do("chain_start", None, {}, run_id=ROOT)
    end = do("chain_error", ParentCommand(Command(goto="x", update={"a": 1})), run_id=ROOT)
    assert (end["error"]["value"]["goto"], end["error"]["value"]["update"]) == ("x", {"a": 1})

    class Odd(GraphInterrupt):
        @property
        def args(self) -> Any:
            raise RuntimeError("no arguments")

    do("chain_start", None, {}, run_id=ROOT)
    assert do("chain_error", Odd(), run_id=ROOT)["cause"] == "pause"


def test_a_time_out_is_an_error() -> None:
    """Of a socket, a library or a time limit of one's own: the call that raises it has failed."""

    def of_a_limit() -> None:
        try:
            raise asyncio.CancelledError
        except asyncio.CancelledError as cancelled:
            raise TimeoutError from cancelled

    with pytest.raises(TimeoutError) as caught:
        of_a_limit()
    for error in (caught.value, TimeoutError("mine"), ConnectionError()):
        assert verdict_on(error) is None


def test_nobody_asks_a_tool_that_is_none() -> None:
    """Called from elsewhere there is no verdict, also from a function of that name."""

    def run() -> Any:
        status = "error"
        assert status
        return caught_by_tool()

    assert run() is None


def test_a_million_cancelled_calls_take_no_memory() -> None:
    """LangChain calls nobody for a cancelled model call; what its parent ends is let go.

    Here it is twenty thousand: what grows with their number shows.
    """
    do = Captured()
    errors = asyncio.CancelledError()

    def cancelled(numbers: Iterator[int]) -> None:
        for number in numbers:
            root, model = UUID(int=2 * number), UUID(int=2 * number + 1)
            do("chain_start", None, {}, run_id=root)
            do("chat_model_start", None, [["x"]], run_id=model, parent_run_id=root)
            do.capture.on_llm_new_token("so far", run_id=model)
            do("chain_error", errors, run_id=root)
            assert do.abandoned.pop()["data"]["stream"]["text"] == "so far"

    cancelled(iter(range(1, 2_000)))
    assert len(do.capture.events.spans) == 0
    tracemalloc.start()
    try:
        cancelled(iter(range(2_000, 6_000)))
        before = tracemalloc.get_traced_memory()[0]
        cancelled(iter(range(6_000, 20_000)))
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 300_000, "a kilobyte for each would be 14 MB"


def test_a_child_that_outlives_its_parent_still_ends() -> None:
    """A task in the background is said to be abandoned when its parent ends; its end counts."""
    do = Captured()
    do("chain_start", None, {}, run_id=ROOT)
    do("chat_model_start", None, [["x"]], run_id=MODEL, parent_run_id=ROOT)
    do("chain_end", {}, run_id=ROOT)
    (gone,) = do.abandoned
    assert (gone["span_id"], gone["data"]["reason"]) == (str(MODEL), "parent_ended")
    assert gone["trace_id"] == str(ROOT) and gone["data"]["open_seconds"] > 0
    end = do("llm_end", None, run_id=MODEL, parent_run_id=ROOT)
    assert end["duration"] > gone["data"]["open_seconds"]
    assert do.observations.take_window().model_calls == 1


def test_a_double_has_its_own_id_in_its_own_context() -> None:
    """Who copies the context of a run with a new id knows it; others do not, nor when it ended."""
    doubles, others = Doubles(), Doubles()

    async def first(release: asyncio.Event) -> UUID:
        await release.wait()
        return doubles.of(ROOT)

    async def main() -> None:
        release = asyncio.Event()
        before = asyncio.create_task(first(release))
        await asyncio.sleep(0)
        new = doubles.begin(ROOT, None)
        assert doubles.of(ROOT) == new != ROOT
        assert await asyncio.create_task(first(release_now())) == new
        release.set()
        assert await before == ROOT, "it began before"
        assert others.of(ROOT) == ROOT
        assert doubles.end(ROOT, None) == new
        assert doubles.of(ROOT) == doubles.end(ROOT, None) == ROOT
        assert not doubles.open

    def release_now() -> asyncio.Event:
        event = asyncio.Event()
        event.set()
        return event

    asyncio.run(main())


def test_a_double_is_known_by_what_it_is_called_in() -> None:
    """Also where LangChain called its start in a context that is gone by its end."""
    doubles = Doubles()
    made = contextvars.copy_context().run(doubles.begin, ROOT, CHILD)
    assert doubles.end(ROOT, None) == ROOT, "the first run of this id"
    assert doubles.end(ROOT, MODEL) == ROOT
    assert doubles.end(ROOT, CHILD) == made
    assert doubles.end(ROOT, CHILD) == ROOT, "it has ended"


def test_what_goes_on_after_many_others_is_measured_still() -> None:
    """A task in the background whose parent ended well is known for long; one that was cancelled
    with its parent is not."""
    do = Captured()
    for number, error in enumerate((None, asyncio.CancelledError())):
        root, child = UUID(int=10 + number), UUID(int=20 + number)
        do("chain_start", None, {}, run_id=root)
        do("chain_start", None, {}, run_id=child, parent_run_id=root)
        if error is None:
            do("chain_end", {}, run_id=root)
        else:
            do("chain_error", error, run_id=root)
    do.observations.take_window()
    for number in range(100, 100 + 2 * MAX_ENDED):
        do("chain_start", None, {}, run_id=UUID(int=number))
        do("chain_end", {}, run_id=UUID(int=number))
    do.observations.take_window()
    late = do("chain_error", ValueError("no"), run_id=UUID(int=20), parent_run_id=UUID(int=10))
    assert late["trace_id"] == str(UUID(int=10)) and late["duration"] > 0
    assert do.observations.take_window().errors == 0, "it is no root"
    assert not do.capture.events.spans._going_on


def test_another_call_with_a_run_id_in_use_is_never_lost() -> None:
    """A model call that was cancelled alone never ends. Whatever is asked under its id then is a
    call of its own, whether its messages lie where the first ones lay or not."""
    do = Captured()
    seen = set()
    for number in range(50):
        messages = [[HumanMessage(f"question {number}")]]
        start = do("chat_model_start", None, messages, run_id=MODEL)
        assert start is not None
        seen.add(start["span_id"])
        del messages
    assert len(seen) == 50


def test_the_same_inputs_at_the_same_time_are_two_calls() -> None:
    """Once something below it has started, or a token has come, a second start is another call."""
    do = Captured()
    do("chain_start", None, "same", run_id=ROOT, name="x")
    assert do("chain_start", None, "same", run_id=ROOT, name="x") is None
    do("chain_start", None, "same", run_id=CHILD, parent_run_id=ROOT)
    assert do("chain_start", None, "same", run_id=ROOT, name="x") is not None
    prompts = ["same"]
    do("llm_start", None, prompts, run_id=MODEL)
    assert do("llm_start", None, prompts, run_id=MODEL) is None
    do.capture.on_llm_new_token("a", run_id=MODEL)
    assert do("llm_start", None, prompts, run_id=MODEL) is not None


def test_a_handler_given_twice_leaves_no_streams() -> None:
    """Only what streams has tokens to count once."""
    do = Captured()
    for number in range(10):
        for _ in range(2):
            do("chain_start", None, "x", run_id=UUID(int=number))
        for _ in range(2):
            do("chain_end", "x", run_id=UUID(int=number))
    assert not do.capture.events.streams._open
