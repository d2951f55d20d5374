"""What a writer's metrics count, and what its events add up to later, are the same."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import FakeListChatModel
from langchain_core.runnables import Runnable, RunnableLambda

from asynctrack import open_run, tracker
from asynctrack._common.measured import Measured, measured_in
from tests.crash.stops import Counting


class Broken(FakeListChatModel):
    """A model that fails."""

    def _call(self, *_: Any, **__: Any) -> str:
        raise ConnectionError("no")


def _fail(_: Any) -> Any:
    raise ValueError("no")


async def _hang(_: Any) -> Any:
    await asyncio.sleep(60)


@pytest.mark.anyio
async def test_events_add_up_to_what_was_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For calls that end in every way, the manifest's sums are those of the stored events."""
    monkeypatch.setattr("asynctrack._record.recorder.WINDOW", 3600.0)  # one, on a busy machine too
    first: Runnable[Any, Any] = RunnableLambda(lambda text: text)
    async with tracker(tmp_path) as handler:
        config: Any = {"callbacks": [handler]}
        for number in range(3):
            await (first | Counting()).ainvoke(f"{number + 5} 3", config)
        await Counting().ainvoke("40 7", config)
        async for _ in FakeListChatModel(responses=["a b c"]).astream("x", config):
            pass
        for fails in (
            first | RunnableLambda(_fail),
            Broken(responses=[]),
            first | Broken(responses=[]),
        ):
            with pytest.raises((ValueError, ConnectionError)):
                await fails.ainvoke("1 1", config)
        hanging = asyncio.create_task(RunnableLambda(_hang).ainvoke("x", config))
        await asyncio.sleep(0)
        hanging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hanging

    def stored() -> tuple[Any, Measured]:
        run = open_run(tmp_path)
        found = Measured()
        for event in run.events():
            found.add_event(event.raw)
        return run.metrics, found

    metrics, found = await asyncio.to_thread(stored)
    assert (found.traces, found.errors, found.model_calls) == (9, 3, 7)
    assert (found.input_tokens, found.output_tokens) == (5 + 6 + 7 + 40, 16)
    for name, value in found.points():
        one = metrics[name]
        assert one.count == 1, "one window: its point is what the events add up to"
        assert one.sum == pytest.approx(value)
    assert {name for name, _ in found.points()} == metrics.keys()


def test_what_is_no_event_is_said() -> None:
    """A line that is none is an error, not a count that is wrong."""
    with pytest.raises(ValueError):
        measured_in([b"{"])
    with pytest.raises(ValueError, match="not an event"):
        measured_in([b"[1]"])
    assert measured_in([b'{"event":"chain_start"}', b"{}"]).empty
