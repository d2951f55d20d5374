"""The figures in the README, the guides and the reports are those of the committed results."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks import _measure, _scoreboard_table, questions, report
from benchmarks._report_format import Results, overhead_of
from benchmarks._report_many import many_section
from benchmarks.tracers import OURS
from tests.guide.pages import text


def committed(name: str) -> dict[str, Any]:
    found = _measure.load(name, _measure.RESULTS)
    assert found is not None, name
    return found


def tables(text: str) -> set[str]:
    """The lines of tables."""
    return {line for line in text.splitlines() if line.startswith("| ")}


def prose(page: str) -> str:
    """A page in one line: a figure may stand at the end of one."""
    return re.sub(r"\s+", " ", text(page))


def test_the_report_is_made_of_the_results_beside_it(tmp_path: Path) -> None:
    """report.md is what the committed JSON files give, to the letter; plots apart."""
    for path in _measure.RESULTS.glob("*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    made = report.write(tmp_path).read_text(encoding="utf-8")
    there = (_measure.RESULTS / "report.md").read_text(encoding="utf-8")

    def words(text: str) -> list[str]:
        return [line for line in text.splitlines() if line and not line.startswith("![")]

    assert words(made) == words(there)


def test_the_scoreboard_is_the_committed_one() -> None:
    """scoreboard.md is what scoreboard.json gives, and the guide has its lines."""
    board = (_measure.RESULTS / "scoreboard.md").read_text(encoding="utf-8")
    assert _scoreboard_table.markdown(committed("scoreboard")).strip() == board.strip()
    lines = tables(board)
    assert len(lines) == 9
    assert lines <= tables(text("durability"))


@pytest.mark.parametrize("name", ["readback", "readback-1m"])
def test_reading_back_is_the_committed_one(name: str) -> None:
    """The table of how fast a Run is read has what was measured."""
    result = committed(name)
    lines = tables(text("performance"))
    for asked in result["questions"].values():
        # Dask's work is done in other processes than the one that was measured.
        workers = "Dask" in asked["title"]
        per_cpu = "" if workers else f"{result['events'] / asked['cpu_seconds']:,.0f}"
        line = (
            f"| {asked['title']} | {result['events']:,} | {asked['rows_per_second']:,}"
            f" | {per_cpu} | {asked['peak_bytes'] / 1e6:,.0f} MB |"
        )
        assert line in lines, line


def test_questions_are_the_committed_ones() -> None:
    """The table of how long commands take is what was measured, of every size."""
    results = [committed(f"questions{size}") for size in ("-bot", "-1m", "-10m")]
    lines = [line for line in questions.markdown(results).splitlines() if line.startswith("| ")]
    assert {*lines} <= tables(text("performance")), "\n".join(lines)


def test_what_it_costs_is_the_committed_one() -> None:
    """The README's line of cost, and the guide's, have the figures of overhead.json."""
    results: Results = {"overhead": committed("overhead")}
    core = overhead_of(results, "lcel-100", "core")
    frozen = overhead_of(results, "lcel-100", "frozen")
    peers = overhead_of(results, "lcel-100", "peers")
    assert core and frozen and peers
    langsmith = peers["tracers"]["LangSmith"]["process_over_ours"]["value"]
    ours = core["tracers"][OURS]
    over, without_collections = (
        plan["tracers"][OURS]["thread_over_empty"]["value"] for plan in (core, frozen)
    )
    cost = f"asynctrack adds {ours['thread_us']['value']:.1f} µs of CPU a callback to your thread,"
    beside = f"**{over:.2f} ×** what an empty `AsyncCallbackHandler` adds"
    frozen_beside = f"(**{without_collections:.2f} ×** after `gc.freeze()`"
    assert f"{cost} {beside} {frozen_beside})" in prose("README.md")
    for line in (
        f"{core['invocations']:,} `ainvoke` of an LCEL chain, {core['callbacks']} callbacks each,"
        f" {core['concurrency']} at a time: {cost} {beside} {frozen_beside},",
        f"LangSmith adds {langsmith:.1f} × as much to the whole process",
    ):
        assert line in prose("performance"), line


def test_what_durability_costs_is_the_committed_one() -> None:
    """The three levels' costs are those of one run of the variants."""
    variants = overhead_of({"overhead": committed("overhead")}, "lcel-100", "variants")
    assert variants
    for level in ("process", "power", "memory"):
        name = f"{OURS} durability={level}"
        [line] = [one for one in tables(text("durability")) if one.startswith(f'| `"{level}"`')]
        cost = f"{variants['tracers'][name]['thread_us']['value']:.1f} µs"
        assert cost in line.split("|")[3], (level, cost)


def test_many_trackers_are_the_committed_ones() -> None:
    """The guide's tables of many trackers are the report's."""
    result = committed("many")
    lines = tables("\n".join(many_section(result)))
    assert len(lines) > 15
    assert lines <= tables(text("performance"))
    stops = [row for row in result["opening"] if row["place"] != "none"]
    said = prose("limits")
    for figure in (
        f"stop of your loop is {max(row['stop_ms']['value'] for row in stops):.0f} ms, and"
        f" {max(row['max_ms'] for row in stops):.0f} ms in the worst",
    ):
        assert figure in said, figure


def test_the_viewers_figures_are_the_committed_ones() -> None:
    """First paint, interactions, live and the index are those of view.json."""
    result = committed("view")
    said = prose("viewer")
    times = result["interactions_seconds"]
    medians = [one["median"] * 1e3 for one in times.values()]
    for figure in (
        f"first paint {result['first_paint_seconds']['median']:.2f} s",
        f"with the runs in it {result['first_paint_with_runs_seconds']['median']:.2f} s",
        f"{len(times)} interactions, 20 times each",
        f"medians {min(medians):.0f}–{max(medians):.0f} ms",
        f"slowest of all {max(one['max'] for one in times.values()) * 1e3:.0f} ms",
        f"{result['live_seconds']['median']:.2f} s after its delivery",
        f"The index takes {result['index_seconds']:.0f} s",
        f"the viewer {result['server_memory_bytes'] / 1e6:.0f} MB of memory",
    ):
        assert figure in said, figure


def test_what_kept_values_save_is_the_committed_one() -> None:
    """The sizes of Parquet with values kept and resolved are those that were measured."""
    result = committed("compact_values")
    keep, resolve = (result["values"][name] for name in ("keep", "resolve"))
    said = prose("engines")
    for figure in (
        f"{result['states']} LangGraph states with a document of"
        f" {result['document_bytes'] // 1000} KB",
        f"{result['events']} events, are {keep['file_bytes'] / 1e6:.2f} MB of Parquet kept and"
        f" {resolve['file_bytes'] / 1e6:.2f} MB resolved",
        f"take {keep['cpu_seconds']:.2f} s and {resolve['cpu_seconds']:.2f} s of CPU",
    ):
        assert figure in said, figure


def test_how_long_a_new_text_is_in_memory_only_is_the_committed_one() -> None:
    """The boundary of what a killed process loses has what was measured."""
    texts = committed("values")["texts"]
    said = " and ".join(
        f"{texts[size]['in_memory_ms']['value']:.3g} ms for {size}" for size in ("100 KB", "5 MB")
    )
    assert f"({said}, on an idle machine)" in prose("durability")
