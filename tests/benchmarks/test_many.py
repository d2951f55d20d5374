"""Many trackers, measured small: what is counted, what a hanging S3 is, what the report says."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import _many_watch, _measure, many, report
from benchmarks._report_many import many_goals, many_in_the_way
from benchmarks._servers import Servers, all_servers

TRACKERS = 3
MEASURED = {"value": 1.0, "low": 0.9, "high": 1.1}


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with all_servers() as running:
        yield running


@pytest.mark.parametrize("place", many.PLACES)
def test_all_that_trackers_at_once_accept_is_delivered(servers: Servers, place: str) -> None:
    """Each has its 16 events, nothing is said, and what they take is seen at its height."""
    found = many._cell(servers, TRACKERS, place=place)
    assert found["accepted"] == found["delivered"] == TRACKERS * many.EVENTS
    assert (found["failed"], found["said"]) == ([], [])
    assert found["cpu_ms"] > 0
    assert found["threads"] >= 1
    assert found["disk_size"] >= many.EVENTS * 500, "the spool before the first was left"
    if place == "s3":
        assert found["requests"]["PUT S3"] == 1.0


@pytest.mark.parametrize(
    ("place", "floor"), [(place, floor) for floor, (place, _) in many.FLOORS.items()]
)
def test_what_trackers_ask_of_others_is_measured_by_itself(
    servers: Servers, place: str, floor: str
) -> None:
    """The same files and requests, without a tracker."""
    found = {"trackers": TRACKERS, "artifact_bytes": 1800.0}
    measured = many._floor(servers, floor, found, 1)
    assert measured["cpu_ms"]["value"] > 0
    assert measured["place"] == place


def test_the_one_that_hangs_is_not_counted_with_the_healthy(servers: Servers) -> None:
    """The healthy ones deliver all beside it; that it could not is said."""
    found = many._cell(servers, TRACKERS, place="s3", hanging=True)
    assert found["accepted"] == found["delivered"] == (TRACKERS - 1) * many.EVENTS
    assert found["warnings"] > 0


def test_opening_notes_how_late_the_loop_is(servers: Servers) -> None:
    """The first tracker of a fresh process has a figure, and so has none at all."""
    none, folder, s3 = many._opening(servers, 1)
    assert [row["place"] for row in (none, folder, s3)] == ["none", *many.PLACES]
    for row in (none, folder, s3):
        assert row["max_ms"] > 0
        assert row["stop_ms"]["value"] == pytest.approx(row["max_ms"], rel=1e-3)
        # Each stops the loop for 150 ms where SageMaker's SDK is loaded.
        assert row["full_collections"]["value"] == 0 or sys.version_info >= (3, 14)
    assert folder["delivered_ms"]["value"] > folder["entered_ms"]["value"]


def test_files_that_are_there_are_counted_by_their_blocks(tmp_path: Path) -> None:
    """A file with a hole has the size of all of it, and the blocks of what is written."""
    with (tmp_path / "segment").open("wb") as file:
        file.truncate(1 << 20)
    seen = _many_watch.seen(os.getpid(), tmp_path)
    assert (seen["size"], seen["files"]) == (1 << 20, 1)
    assert seen["blocks"] < 1 << 20
    assert seen["memory"] > 1 << 20
    assert seen["threads"] >= 1


def row(place: str, trackers: int, **other: Any) -> dict[str, Any]:
    expected = trackers * 16
    return {
        "place": place,
        "trackers": trackers,
        "delivered": expected,
        "expected": expected,
        "warnings": 0,
        "cpu_ms": MEASURED,
        "wall_ms": MEASURED,
        "threads": 3,
        "memory_added": 50_000_000,
        "disk_blocks": 8192.0,
        **other,
    }


def result(**other: Any) -> dict[str, Any]:
    return {
        "events": 16,
        "processes": 1,
        "at_once": [row(place, count) for place in many.PLACES for count in (10, 1000)],
        "flat": {"folder": MEASURED, "s3": MEASURED},
        "in_turn": [row("folder", 1000)],
        "floors": [
            {
                "place": place,
                "floor": floor,
                "what": floor,
                "trackers": 1000,
                "cpu_ms": MEASURED,
                "wall_ms": MEASURED,
            }
            for floor, (place, _) in many.FLOORS.items()
        ],
        "hanging": {
            "healthy": row("s3", 1000),
            "beside": row("s3", 1000),
            "wall_ratio": {**MEASURED, "high": 1.05},
        },
        "opening": [
            {"place": place, "samples": 3, "stop_ms": MEASURED, "max_ms": 9.0}
            for place in ("none", *many.PLACES)
        ],
        **other,
    }


def unreached(measured: dict[str, Any] | None) -> list[str]:
    return [what for what, _, _, reached in many_goals(measured) if reached != "yes"]


def test_goals_are_reached_where_all_is_well() -> None:
    """Nothing is held against figures within their bounds; without any, nothing is reached."""
    assert unreached(result()) == []
    assert len(unreached(None)) == len(list(many_goals(result())))


@pytest.mark.parametrize(
    ("worse", "goal"),
    [
        (row("s3", 1000, warnings=1), "trackers at once, delivered, S3"),
        (row("s3", 1000, delivered=15_999), "trackers at once, delivered, S3"),
        (row("s3", 1000, threads=5), "threads, 1,000 trackers at once"),
        (row("s3", 1000, memory_added=101e6), "memory added, 1,000 trackers at once"),
        (
            row("s3", 1000, disk_blocks=65_537),
            "disk at its height, of each, 1,000 trackers at once",
        ),
        (
            row("s3", 1000, cpu_ms={"value": 5.9, "low": 5.8, "high": 6.1}),
            "CPU for each of 10 trackers or more at once, S3",
        ),
    ],
)
def test_the_worst_row_counts(worse: dict[str, Any], goal: str) -> None:
    """One row outside of its bound is a goal that is not reached, and the only one."""
    measured = result()
    measured["at_once"][-1] = worse
    assert unreached(measured) == [goal]


def test_report_has_what_was_measured(tmp_path: Path) -> None:
    """The section has a line for each row, and the goals are among the others."""
    _measure.save("many", result(), tmp_path)
    written = report.write(tmp_path).read_text(encoding="utf-8")
    assert "## Many trackers" in written
    assert "| S3, at once | 1,000 | 16,000 of 16,000 | 0 |" in written
    assert "| folder, one after another | 1,000 |" in written
    assert "| threads, 1,000 trackers at once | ≤ 4 | 3 | yes |" in written


def test_what_stands_in_the_way_is_what_was_measured() -> None:
    """Without the floors nothing is said of them."""
    assert "the files 1 (0.9–1.1) ms" in many_in_the_way(result())
    assert many_in_the_way(result(floors=[])) == many_in_the_way(None) == ""
