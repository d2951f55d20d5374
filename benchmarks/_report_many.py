"""What ``many`` measured, for the report: its goals and its section."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from benchmarks._report_format import judged, shown, table

_CPU_LIMITS: Final = {"folder": 3.0, "s3": 6.0}
"""Milliseconds for each tracker."""
_FLAT: Final = (0.7, 1.3)
_FEW: Final = 10
"""From so many on a tracker costs the same."""
_NAMES: Final = {"none": "nothing opened", "folder": "folder", "s3": "S3"}

Row = tuple[str, str, str, str]


def many_goals(many: dict[str, Any] | None) -> Iterator[Row]:
    """Yield issue 10's goals with what was measured."""
    places: tuple[str, ...] = tuple(_CPU_LIMITS)
    rows = many["at_once"] if many else []
    for place in places:
        yield _delivered(place, [row for row in rows if row["place"] == place])
    for place, limit in _CPU_LIMITS.items():
        each = [r["cpu_ms"] for r in rows if r["place"] == place and r["trackers"] >= _FEW]
        worst = max(each, key=lambda one: one["high"]) if each else None
        name = f"CPU for each of {_FEW} trackers or more at once, {_NAMES[place]}"
        yield judged(name, limit, worst, "ms")
    for place in places:
        yield _flat(place, many["flat"].get(place) if many else None)
    wall = {row["place"]: row["wall_ms"] for row in many["in_turn"]} if many else {}
    yield judged("one after another, wall time of each, folder", 10.0, wall.get("folder"), "ms")
    most = max((row["trackers"] for row in rows), default=1_000)
    largest = [row for row in rows if row["trackers"] == most]
    for what, name, limit, unit, scale in (
        ("threads", "threads", 4, "", 1),
        ("memory added", "memory_added", 100, " MB", 1e6),
        ("disk at its height, of each", "disk_blocks", 64, " KiB", 1024),
    ):
        figure = max((row[name] / scale for row in largest), default=None)
        yield _at_most(f"{what}, {most:,} trackers at once", limit, figure, unit)
    hanging = many["hanging"] if many else None
    yield judged(
        "trackers beside one whose S3 hangs, wall time, of as many healthy ones",
        1.1,
        hanging["wall_ratio"] if hanging else None,
    )
    stops = {row["place"]: row["stop_ms"] for row in many["opening"]} if many else {}
    for place in places:
        name = f"opening the first tracker, longest stop of the event loop, {_NAMES[place]}"
        yield judged(name, 20.0, stops.get(place), "ms")


def _delivered(place: str, rows: list[dict[str, Any]]) -> Row:
    what = f"trackers at once, delivered, {_NAMES[place]}"
    goal = "all, 0 lines of warning"
    if not rows:
        return what, goal, "not measured", "–"
    delivered, expected, lines = (
        sum(row[name] for row in rows) for name in ("delivered", "expected", "warnings")
    )
    reached = delivered == expected and not lines
    measured = f"{delivered:,} of {expected:,}, {lines} line{'' if lines == 1 else 's'}"
    return what, goal, measured, "yes" if reached else "no"


def _flat(place: str, ratio: dict[str, float] | None) -> Row:
    what = f"CPU for each of 1,000 trackers, of that for each of {_FEW}, {_NAMES[place]}"
    low, high = _FLAT
    goal = f"{low:g}–{high:g} ×"
    if ratio is None:
        return what, goal, "not measured", "–"
    if low <= ratio["low"] and ratio["high"] <= high:
        return what, goal, f"{shown(ratio)} ×", "yes"
    outside = ratio["high"] < low or ratio["low"] > high
    return what, goal, f"{shown(ratio)} ×", "no" if outside else "not shown"


def _at_most(what: str, limit: float, figure: float | None, unit: str) -> Row:
    goal = f"≤ {limit:g}{unit}"
    if figure is None:
        return what, goal, "not measured", "–"
    return what, goal, f"{figure:.3g}{unit}", "yes" if figure <= limit else "no"


def many_in_the_way(many: dict[str, Any] | None) -> str:
    """Say what of the CPU for each tracker is not asynctrack's, from what was measured."""
    if not many:
        return ""
    asked = {floor["floor"]: shown(floor["cpu_ms"]) for floor in many["floors"]}
    if not {"files", "requests"} <= asked.keys():
        return ""
    return (
        "**CPU for each of many trackers.** What a tracker asks of the system by itself, in one"
        f" thread and without a tracker: the files {asked['files']} ms, as the spool is on disk"
        " before an event is accepted and a file in a folder is synced before it is called"
        f" delivered ({_CPU_LIMITS['folder']:g} is the goal); the four requests"
        f" {asked['requests']} ms, as a Run has to be read before it is written to: it takes 300"
        f" parameters in all, and others write there, too ({_CPU_LIMITS['s3']:g} is the goal). The"
        " rest is the tracker: options, stages, 16 events, six turns between the engine's thread"
        " and the one for the disk. With 1,000 at once Python's garbage collector walks all of"
        " them several times."
    )


def many_section(many: dict[str, Any] | None) -> Iterator[str]:
    """Yield what was measured."""
    if many is None:
        return
    yield (
        f"## Many trackers\n\n{many['events']} events each; at once: all of them are open before"
        f" the first is left. {many['processes']} processes each; times are medians, everything"
        " else is the worst of them. A tracker that is not counted comes first in each process."
    )
    hanging = many["hanging"] or {}
    named = [
        *((f"{_NAMES[row['place']]}, at once", row) for row in many["at_once"]),
        *((f"{_NAMES[row['place']]}, one after another", row) for row in many["in_turn"]),
        *(
            (title, hanging[name])
            for name, title in (
                ("healthy", "S3, all of them well"),
                ("beside", "S3, beside one whose S3 hangs (what it says is counted)"),
            )
            if name in hanging
        ),
    ]
    yield table(
        ("", "trackers", "delivered", "lines of warning", "CPU, ms each", "wall, ms each",
         "threads", "memory added, MB", "disk, KiB each"),
        [
            (name, f"{row['trackers']:,}", f"{row['delivered']:,} of {row['expected']:,}",
             f"{row['warnings']}", shown(row["cpu_ms"]), shown(row["wall_ms"]), f"{row['threads']}",
             f"{row['memory_added'] / 1e6:.1f}", f"{row['disk_blocks'] / 1024:.1f}")
            for name, row in named
        ],
    )  # fmt: skip
    if many["floors"]:
        yield "What they ask of the disk and of AWS, by itself; for each of as many."
        yield table(
            ("", "CPU, ms each", "wall, ms each"),
            [
                (f"{_NAMES[floor['place']]}: {floor['what']}", shown(floor["cpu_ms"]),
                 shown(floor["wall_ms"]))
                for floor in many["floors"]
            ],
        )  # fmt: skip
    yield (
        "The first tracker of a process, nothing imported beforehand: the longest stop of the event"
        " loop from before `tracker(...)` until after the block; milliseconds."
    )
    yield table(
        ("", "processes", "longest stop", "the longest of all"),
        [
            (_NAMES[row["place"]], f"{row['samples']}", shown(row["stop_ms"]),
             f"{row['max_ms']:.3g}")
            for row in many["opening"]
        ],
    )  # fmt: skip
