"""The workload table."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from typing import Any

import pytest

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


def test_round_runs_every_invocation_once_within_the_concurrency() -> None:
    """A round is exactly its invocations, and never more of them at a time than it says."""
    workload = replace(cases.WORKLOADS["lcel-100"], invocations=23, concurrency=5)
    seen: list[int] = []
    running = most = 0

    async def invoke(number: int, config: dict[str, Any]) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        seen.append(number)
        await asyncio.sleep(0)
        running -= 1

    asyncio.run(cases.drive(invoke, workload, {}))
    assert sorted(seen) == list(range(23))
    assert most == 5


def test_shrinking_keeps_at_least_one_invocation() -> None:
    """A workload can be shrunk to try it out, but not to nothing."""
    small = cases.WORKLOADS["payload-5mb"].shrunk(0.01)
    assert (small.invocations, small.concurrency) == (1, 1)
