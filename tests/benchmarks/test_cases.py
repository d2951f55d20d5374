"""The workload table."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest
from langchain_core.callbacks import AsyncCallbackHandler

from asynctrack.demo import _workload
from benchmarks import cases

CALLBACKS = {
    "lcel-1": (8, 4),
    "lcel-100": (8, 4),
    "lcel-10000": (8, 4),
    "lcel-latency": (8, 4),
    "payload-1kb": (8, 4),
    "payload-100kb": (8, 4),
    "payload-5mb": (8, 4),
    "sync": (8, 4),
    # LangGraph hands callbacks on in the context of tasks, which take none until Python 3.11.
    "agent": (30, 15) if sys.version_info >= (3, 11) else (22, 11),
}


@pytest.mark.parametrize("name", cases.WORKLOADS)
def test_workload_makes_the_callbacks_it_is_measured_by(name: str) -> None:
    """Each workload runs, and makes as many callbacks and spans as its figures are divided by."""
    workload = cases.WORKLOADS[name]
    loop = asyncio.new_event_loop()
    try:
        callbacks, spans = cases.count_callbacks(loop, workload.make(), workload)
    finally:
        loop.close()
    if name == "stream":
        assert callbacks > 500
    elif name == "retrieval":
        assert spans * 2 == callbacks
    else:
        assert (callbacks, spans) == CALLBACKS[name]


def test_the_demo_measures_the_headline_workload() -> None:
    """The demo's chain and rounds are those of the README's line: the same calls and answers."""

    class Told(AsyncCallbackHandler):
        def __init__(self) -> None:
            self.calls: list[Any] = []

        async def on_chain_start(self, serialized: Any, inputs: Any, **options: Any) -> None:
            self.calls.append(getattr(inputs, "content", inputs))  # ids of messages differ

        async def on_chat_model_start(self, serialized: Any, inputs: Any, **options: Any) -> None:
            self.calls.append((inputs, options["invocation_params"], options["name"]))

        async def on_llm_end(self, response: Any, **options: Any) -> None:
            [[one]] = response.generations
            self.calls.append(one.message.model_dump(exclude={"id"}))

        async def on_chain_end(self, outputs: Any, **options: Any) -> None:
            self.calls.append(getattr(outputs, "content", outputs))

    workload = cases.WORKLOADS["lcel-100"]
    here, there = Told(), Told()
    asyncio.run(workload.make()(7, {"callbacks": [here]}))
    asyncio.run(_workload.jokes(_workload.LocalModel())(7, {"callbacks": [there]}))
    assert len(here.calls) == 8
    assert here.calls == there.calls
    demo = (_workload.INVOCATIONS, _workload.CONCURRENCY)
    assert (workload.invocations, workload.concurrency) == demo


def test_shrinking_keeps_at_least_one_invocation() -> None:
    """A workload can be shrunk to try it out, but not to nothing."""
    small = cases.WORKLOADS["payload-5mb"].shrunk(0.01)
    assert (small.invocations, small.concurrency) == (1, 1)
