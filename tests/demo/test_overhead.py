"""What tracking costs, as the demo measures and tells it."""

from __future__ import annotations

import asyncio
import gc
import io
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from asynctrack import open_run
from asynctrack.cli._demo_show import _show_overhead
from asynctrack.cli._screen import Screen
from asynctrack.demo import _workload
from asynctrack.demo._estimates import UNBOUNDED, Estimate
from asynctrack.demo._overhead import Clocks, Overhead, measure

FIRM = Estimate(10.0, 8.0, 12.0)
LOOSE = Estimate(10.0, 4.0, 15.0)

MEASURED = Overhead(
    rounds=9,
    invocations=200,
    concurrency=100,
    callbacks=8,
    chain=70.0,
    empty=Clocks(Estimate(17.0, 15.5, 19.0), Estimate(18.0, 16.0, 20.0)),
    asynctrack=Clocks(Estimate(34.0, 30.0, 40.0), Estimate(45.0, 41.0, 52.0)),
    ratio=Clocks(Estimate(2.0, 1.8, 2.3), Estimate(2.5, 2.2, 2.8)),
    life_cpu=12_000.0,
    life=35_000.0,
)


def told(overhead: Overhead) -> str:
    out = io.StringIO()
    report: Any = SimpleNamespace(overhead=overhead)
    _show_overhead(report, Screen(out))
    return out.getvalue()


def test_a_measurement_tracks_its_own_rounds_and_whole_trackers(tmp_path: Path) -> None:
    """One tracker stays open for all rounds, each of the others has one ainvoke; all arrives."""
    overhead = measure(lambda name: tmp_path / name, rounds=2, invocations=5)
    events = {
        run.relative_to(tmp_path).parts[0]: sum(1 for _ in open_run(run).events())
        for run in tmp_path.glob("*/asynctrack/v1/*/*")
    }
    # One ainvoke to count its callbacks, one round to warm up, two that are measured.
    assert events.pop("measured") == 8 * (1 + 3 * 5)
    assert len(events) > 2 and set(events.values()) == {8}
    assert overhead.callbacks == 8
    assert 1.0 < overhead.chain < 10_000.0  # microseconds
    assert overhead.life_cpu > 0.0 and 100.0 < overhead.life < 60e6


def test_a_measurement_leaves_the_collector_as_it_was() -> None:
    """Nothing stays frozen, also where a Run cannot be made."""

    def make(name: str) -> Any:
        raise ConnectionError(name)

    with pytest.raises(ConnectionError):
        measure(make)
    assert gc.get_freeze_count() == 0


@pytest.mark.parametrize(
    ("thread", "process", "clear"),
    [
        (FIRM, FIRM, True),
        (FIRM, LOOSE, False),
        (LOOSE, FIRM, False),
        (Estimate(-10.0, -12.0, -8.0), FIRM, False),
        (FIRM, Estimate(2.0, 1.9, UNBOUNDED), False),
        (Estimate(UNBOUNDED, 2.0, UNBOUNDED), FIRM, False),
    ],
)
def test_an_interval_wider_than_its_figure_says_nothing(
    thread: Estimate, process: Estimate, clear: bool
) -> None:
    """A comparison counts only where both intervals are narrower than what they are of."""
    assert Clocks(thread, process).clear is clear


def test_what_is_told_has_both_clocks_and_the_fixed_cost_on_a_line_of_its_own() -> None:
    """Each handler has a line with its intervals, the ratio another, opening and closing one."""
    lines = told(MEASURED).splitlines()
    rows = {line.split("  ")[0]: line for line in lines}
    assert "+17.0 µs (15.5 to 19.0)" in rows["empty async handler"]
    assert "+18.0 µs (16.0 to 20.0)" in rows["empty async handler"]
    assert "+34.0 µs (30.0 to 40.0)" in rows["asynctrack"]
    assert "+45.0 µs (41.0 to 52.0)" in rows["asynctrack"]
    assert "2.00 × (1.80 to 2.30)" in rows["asynctrack ÷ empty"]
    assert "2.50 × (2.20 to 2.80)" in rows["asynctrack ÷ empty"]
    [fixed] = [line for line in lines if "opening and closing" in line]
    assert "12 ms of CPU, 35 ms in all" in fixed
    assert "tasks that langchain-core makes" in told(MEASURED)
    assert "scatter too much" not in told(MEASURED)


def test_a_busy_machine_gets_no_comparison() -> None:
    """Where the rounds scatter too much, it says so, and says no ratio."""
    said = told(replace(MEASURED, ratio=None))
    assert "scatter too much to compare" in said
    assert "÷" not in said and "×" not in said


def test_round_runs_every_invocation_once_within_the_concurrency() -> None:
    """A round is exactly its invocations, and never more of them at a time than it says."""
    seen: list[int] = []
    running = most = 0

    async def invoke(number: int, config: dict[str, Any]) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        seen.append(number)
        await asyncio.sleep(0)
        running -= 1

    asyncio.run(_workload.drive(invoke, 23, 5, {}))
    assert sorted(seen) == list(range(23))
    assert most == 5


def test_clocks_of_a_round_end_where_they_are_said_to() -> None:
    """The thread's CPU ends with the last answer, the process's with the delivery."""

    def work() -> None:
        end = time.thread_time() + 0.02
        while time.thread_time() < end:
            pass

    # Of several rounds one in which the machine has not stood still where nothing is done.
    played = [_workload.timed(work, lambda: None) for _ in range(5)]
    assert all(one.thread >= 0.02 and one.wall >= 0.02 for one in played)
    assert any(one.flush < one.wall for one in played)
    flushed = [_workload.timed(lambda: None, work) for _ in range(5)]
    assert all(one.process >= 0.02 and one.flush >= 0.02 for one in flushed)
    assert all(one.thread < 0.02 for one in flushed)
    assert any(one.wall < one.flush for one in flushed)


def test_the_empty_handler_is_told_of_messages() -> None:
    """It takes a chat model's start as it is: LangChain makes no text of the messages for it."""
    with_text: list[str] = []

    class Noted(_workload.EmptyAsync):
        async def on_llm_start(self, *arguments: Any, **options: Any) -> None:
            with_text.append("llm_start")

    asyncio.run(_workload.jokes(_workload.LocalModel())(1, {"callbacks": [Noted()]}))
    assert not with_text
