"""What the event of an end says: how, why, and how long it took."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import json
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import anyio
import pytest
from langgraph.errors import GraphInterrupt, ParentCommand
from langgraph.types import Command, Interrupt

from asynctrack._capture.capture import Capture
from asynctrack._capture.doubles import Doubles
from asynctrack._capture.observations import Observations
from asynctrack._capture.redact import Redactor
from asynctrack._capture.reported import caught_by_tool
from asynctrack._capture.spans import OpenSpan
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

    def __call__(self, name: str, *args: Any, **kwargs: Any) -> Any:
        body = getattr(self.capture, f"on_{name}")(*args, **kwargs)
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


def _limited_by_anyio() -> None:
    async def main() -> None:
        with anyio.fail_after(0):
            await anyio.sleep_forever()

    asyncio.run(main())


def _limited_by_wait_for() -> None:
    async def main() -> None:
        await asyncio.wait_for(asyncio.Event().wait(), 0.001)

    asyncio.run(main())


def _limited_by_timeout() -> None:
    async def main() -> None:
        async with asyncio.timeout(0):
            await asyncio.Event().wait()

    asyncio.run(main())


LIMITS: list[Callable[[], None]] = [_limited_by_anyio, _limited_by_wait_for]
if sys.version_info >= (3, 11):
    LIMITS.append(_limited_by_timeout)


@pytest.mark.parametrize("limit", LIMITS)
def test_a_time_limit_cancels(limit: Callable[[], None]) -> None:
    """A TimeoutError that asyncio or anyio makes of its own cancellation is one."""
    with pytest.raises((TimeoutError, asyncio.TimeoutError)) as caught:
        limit()
    assert verdict_on(caught.value) == ("cancelled", "timeout")


def test_other_time_outs_are_errors() -> None:
    """One of a socket, of a library, of the user's own: the call has failed."""

    def of_a_library() -> None:
        try:
            raise asyncio.CancelledError
        except asyncio.CancelledError as cancelled:
            raise TimeoutError("the server is too slow") from cancelled

    with pytest.raises(TimeoutError) as caught:
        of_a_library()
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
