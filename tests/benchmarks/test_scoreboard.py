"""The scoreboard and the soak: that they notice what they are there to notice.

Small: a few chains, the servers shared; the real ones are `python -m benchmarks.scoreboard` and
`python -m benchmarks.soak`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks import _scoreboard_table, _soak_verdict, scoreboard, soak
from benchmarks._scoreboard_cell import Row, Scenario, Site, measure, site
from benchmarks.tracers import OURS

MIB = 1 << 20


@pytest.fixture(scope="module")
def servers() -> Iterator[Site]:
    with site() as running:
        yield running


def scenario(name: str) -> Scenario:
    [chosen] = [one for one in scoreboard.SCENARIOS if one.name == name]
    return chosen


def test_what_is_lost_is_counted(servers: Site) -> None:
    """Without a spool the same kill loses everything, and the scoreboard says so."""
    row = Row("asynctrack", OURS, {"durability": "memory", "max_delay": 3600.0})
    cell = measure(row, scenario("kill"), servers, invocations=10, limit=60.0)
    assert (cell.spans, cell.lost) == (40, 40)


def test_process_that_does_not_end_is_killed_and_replayed(servers: Site) -> None:
    """Behind a server that hangs, the process is killed at the limit, and still nothing is lost."""
    row = Row("asynctrack", OURS, {"close_timeout": 240.0, "close_patience": 240.0})
    cell = measure(row, scenario("hang"), servers, invocations=10, limit=3.0)
    assert cell.killed
    assert 3.0 <= cell.exit_seconds < 200.0, "not its close_timeout"
    assert (cell.spans, cell.lost) == (40, 0)
    assert cell.details["replay"]["replayed"] == cell.details["accepted"] == 80
    assert not cell.details["audit"]["problems"]


def cell(lost: int = 0, seconds: float = 0.0, memory: int = 0, killed: bool = False) -> Any:
    return {"lost": lost, "exit_seconds": seconds, "memory": memory, "killed": killed}


def result(name: str, **cells: Any) -> dict[str, Any]:
    chosen = scenario(name)
    return {
        "environment": {
            "versions": {"langsmith": "1.2"},
            "python": "3",
            "cpus": 2,
            "cpu": "c",
            "system": "s",
            "load_1_minute": 0.1,
            "git": "abc",
            "when": "now",
        },
        "invocations": 250,
        "limit": 60.0,
        "scenarios": [{"name": chosen.name, "title": chosen.title}],
        "rows": [*cells],
        "not_installed": {},
        "failed": [],
        "cells": {name: cells},
    }


def test_table_says_where_a_peer_is_better_or_as_good() -> None:
    """Every figure in which asynctrack is not ahead is named beside the table, and no other."""
    ours, theirs = cell(0, 30.0, 50_000_000), cell(700, 5.0, 49_000_000)
    measured = result("hang", asynctrack=ours, X=theirs)
    said = [text for _, text in _scoreboard_table.not_better(measured)]
    assert said == ["X is better: 5.0 s against 30.0 s", "X is as good in memory"]
    assert "X is better: 5.0 s" in _scoreboard_table.markdown(measured)
    ahead = result("hang", asynctrack=cell(0, 1.0, 0), X=cell(1, 60.0, 99_000_000, True))
    assert not [*_scoreboard_table.not_better(ahead)]
    assert "> 60.0 s" in _scoreboard_table.markdown(ahead)


def samples(growing: str = "", step: float = 0.0, count: int = 30) -> list[dict[str, Any]]:
    base: dict[str, Any] = {
        "accepted": 10,
        "delivered": 4,
        "spooled": 3,
        "pending": 2,
        "dead_lettered": 1,
        "memory": 100 * MIB,
        "private_memory": 50 * MIB,
        "dropped": {},
        "files": 20,
        "spool_files": 0,
        "sockets": 5,
        "threads": 9,
    }
    return [{**base, growing: base.get(growing, 0) + step * number} for number in range(count)]


FINAL = {**samples()[0], "delivered": 10, "spooled": 0, "pending": 0, "dead_lettered": 0}


def failed(found: list[dict[str, Any]]) -> list[str]:
    return [finding["what"] for finding in found if not finding["ok"]]


def test_flat_and_balanced_soak_passes() -> None:
    """Samples that stay as they are, with everything delivered in the end, are well."""
    assert failed(_soak_verdict.judge(samples(), FINAL)) == []


@pytest.mark.parametrize("key", _soak_verdict.SLACK)
def test_anything_that_grows_fails_the_soak(key: str) -> None:
    """A leak of half its slack in each second of thirty is noticed, and named."""
    step = _soak_verdict.SLACK[key] / 2
    assert f"{key.replace('_', ' ')} is flat" in failed(
        _soak_verdict.judge(samples(key, step), FINAL)
    )


def test_one_unbalanced_sample_fails_the_soak() -> None:
    """The equation is added up anew in every sample, the last one included."""
    wrong = samples()
    wrong[7]["pending"] += 1
    assert failed(_soak_verdict.judge(wrong, FINAL)) == [
        "the accounting equation holds in every sample"
    ]


def test_undelivered_or_dropped_events_fail_the_soak() -> None:
    """What is still on disk or was dropped at the end is not delivered."""
    for final in ({**FINAL, "delivered": 9, "spooled": 1}, {**FINAL, "dropped": {"full": 1}}):
        assert failed(_soak_verdict.judge(samples(), final)) == [
            "everything is delivered at the end, nothing was dropped"
        ]


def test_soak_of_a_few_seconds_delivers_exactly_once(servers: Site) -> None:
    """The real thing, small: load, faults, healing, closing, audit."""
    found = soak.run(servers, seconds=6.0, rate=20.0, seed=1, interval=0.25)
    assert found["final"]["accepted"] == found["final"]["delivered"] > 0
    assert sum(fault["times"] for fault in found["faults"].values()) >= 1
    said = failed(found["findings"])
    # Six seconds are all warm-up, and a busy machine's are few: what is flat, or bounded, is for
    # the long run to say.
    of_the_long_run = ("flat", "stay bounded", "samples enough to tell")
    assert [what for what in said if not what.endswith(of_the_long_run)] == []
