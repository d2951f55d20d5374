"""Large values, whole lives and compression, measured small; what the report says of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
import zstandard

from benchmarks import _measure, compression, life, report, values
from benchmarks._life_child import FOLDER, S3
from benchmarks._report_values import BEFORE, value_goals
from benchmarks._servers import all_servers
from benchmarks._values_cases import Conversation, Graph, text
from benchmarks._values_lines import stored_once, with_repeats
from benchmarks.tracers import BASE, EMPTY

SEED = 7
MEASURED = {"value": 0.1, "low": 0.09, "high": 0.11}


def test_text_is_as_long_as_asked_and_as_hard_to_compress_as_language() -> None:
    """Another seed gives another text; zstd makes a quarter or a third of it."""
    one, other = text(100_000, 1), text(100_000, 2)
    assert len(one) == len(other) == 100_000
    assert one != other
    assert text(100_000, 1) == one
    assert 2.5 < len(one) / len(zstandard.ZstdCompressor(level=3).compress(one.encode())) < 5


@pytest.mark.parametrize("case", [Graph(steps=10, size=20_000), Conversation(turns=2, size=9_000)])
def test_a_run_holds_what_is_called_its_information(case: Graph | Conversation) -> None:
    """Every large text that is handed to a callback is in the information."""
    run, information = case.make(SEED)
    seen = {one for line in with_repeats(run) for one in _texts(orjson.loads(line))}
    assert seen
    held = {*_texts(orjson.loads(information))}
    assert seen <= held


def test_a_block_of_langchain_is_two_forms_of_an_image() -> None:
    """What LangChain makes of a block for the handlers of a model is in the information, too."""
    run, information = Conversation(block=True, turns=1, size=9_000).make(SEED)
    seen = {one for line in with_repeats(run) for one in _texts(orjson.loads(line))}
    assert len(seen) == 2
    assert seen == {*_texts(orjson.loads(information))}


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value] if len(value) > 4096 else []
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [one for part in inner for one in _texts(part)]


def test_lines_with_values_once_say_the_same_as_those_with_repeats() -> None:
    """With each reference resolved, they are the lines they were made of."""
    lines = with_repeats(Graph(steps=15, size=20_000).make(SEED)[0])
    once = [orjson.loads(line) for line in stored_once(lines)]
    held: dict[str, Any] = {}
    events = []
    for line in once:
        if line["event"] != "value":
            events.append({**_resolved(line, held), "v": 1})
        elif isinstance(line["data"], str):
            held[line["name"]] = line["data"]
        else:
            items = held.setdefault(line["name"], [])
            assert line["data"]["from"] == len(items)
            items += line["data"]["items"]
    assert events == [orjson.loads(line) for line in lines]
    assert sum(map(len, stored_once(lines))) < sum(map(len, lines)) / 5


def _resolved(value: Any, held: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        if "$ref" in value:
            found = held[value["$ref"]]
            return found[: value["items"]] if "items" in value else found
        return {key: _resolved(one, held) for key, one in value.items()}
    return [_resolved(one, held) for one in value] if isinstance(value, list) else value


def test_a_tracked_run_is_measured_beside_one_without() -> None:
    """Every event is delivered, and what is stored and how long the loop stood still are noted."""
    options = {"steps": 4, "size": 20_000}
    spec = {"part": "graph", "rounds": 2, "seed": SEED, "options": options}
    for ticking in (False, True):
        found = _measure.fresh_process("benchmarks.values", {**spec, "ticking": ticking})
        none, ours = found["rows"][values.NONE], found["rows"][values.OURS]
        assert len(none) == len(ours) == len(found["holds"]) == 2
        for row, hold in zip(ours, found["holds"], strict=True):
            assert row["accepted"] == 18
            assert row["lines"] > hold["information"] > hold["compressed"] > 0
            assert 0 < row["stored"] < row["lines"]
        clocks = {"stop", "callback"} if ticking else {"wall", "thread", "process"}
        assert all(set(row) == clocks for row in none)
        assert all(row[clock] > 0 for row in ours for clock in clocks)


def test_each_kind_of_a_text_has_its_times() -> None:
    """A round has the callback with a new text, one seen before, a short one, and bare orjson."""
    spec = {"part": "texts", "size": 20_000, "calls": 2, "rounds": 2, "seed": SEED}
    found = _measure.fresh_process("benchmarks.values", spec)
    assert {name: len(one) for name, one in found["us"].items()} == dict.fromkeys(
        ("bare", "short", *values.KINDS), 2
    )
    assert all(value > 0 for one in found["us"].values() for value in one)
    assert {*found["stops"]} == {values.NONE, *values.KINDS}


def test_a_life_is_measured_from_before_the_tracker_until_after_the_block() -> None:
    """Warm and cold lives of asynctrack deliver all their callbacks, into a folder and into S3."""
    spec: dict[str, Any] = {"seed": SEED, "rounds": {"1": 2, "12": 1}}
    with all_servers() as servers:
        for name in (FOLDER, S3):
            asked = {**spec, "tracer": name, "servers": dict(servers)}
            warm = _measure.fresh_process("benchmarks.life", {**asked, "cold": False})
            cold = _measure.fresh_process("benchmarks.life", {**asked, "cold": True})
            lives = warm["rows"]["1"]
            assert {key: len(one) for key, one in lives.items()} == {BASE: 2, EMPTY: 2, name: 2}
            assert [one["delivered"] for one in lives[name]] == [1.0, 1.0]
            assert cold["first"]["delivered"] == 1.0
            assert cold["first"]["process"] > 0
            warm["rows"]["1250"] = warm["rows"]["12"]  # the line needs its two ends
            row = life.summarize(name, [warm], [cold])
            assert "imports_process_ms" not in row
            assert row["first_process_ms"]["value"] > 0


def test_a_line_divides_lives_into_what_is_fixed_and_what_each_callback_costs() -> None:
    """3 ms and 5 µs for each callback are found again in lives with 8 and with 10,000."""
    fixed, each = life.line([[3.04, 3.04]], [[53.0, 53.0]], 8, 10_000)
    assert fixed == [[pytest.approx(3.0), pytest.approx(3.0)]]
    assert each == [[pytest.approx(5.0), pytest.approx(5.0)]]


def test_settings_of_zstd_are_compared_on_the_same_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each setting has a time and a size, of that of level 3."""
    lines = {"lines": b"".join(b'{"seq":%d,"text":"the same"}\n' % seq for seq in range(2_000))}
    monkeypatch.setattr(compression, "batches", lambda: lines)
    monkeypatch.setattr(compression, "_short_runs", lambda rounds: [])
    found = compression.measure({"rounds": 2})["batches"]["lines"]
    assert {*found["sizes"]} == {*found["times"]} == {*compression.SETTINGS}
    assert all(0 < size < found["bytes"] / 5 for size in found["sizes"].values())


# -- the report -------------------------------------------------------------------------------


def figures(**names: float) -> dict[str, dict[str, float]]:
    return {name: {"value": v, "low": v * 0.99, "high": v * 1.01} for name, v in names.items()}


def values_result(factor: float = 1.0) -> dict[str, Any]:
    case = {
        **figures(wall_ratio=1.1 * factor, thread_ratio=1.1, process_ratio=1.2, wall_ms=30.0),
        **figures(lines_ratio=1.5 * factor, stored_ratio=1.05 * factor),
        **figures(stop_ms=4.0 * factor, callback_ms=1.0, none_stop_ms=0.5),
        **figures(thread_ms=30.0, thread_us=9.0),
        "events": 242,
    }
    kind = figures(us=100.0 * factor, whole_ratio=3.0, added_ratio=0.4 * factor, stop_ms=3 * factor)
    size = {**figures(bare_us=3.0, short_us=9.0, none_stop_ms=0.5, in_memory_ms=4.0)}
    texts = {
        name: {**size, "kinds": dict.fromkeys(values.KINDS, kind)} for name in values.SIZES
    }  # fmt: skip
    return {"graph": case, "images": dict.fromkeys(values.IMAGES, case), "texts": texts}


def life_result(factor: float = 1.0) -> dict[str, Any]:
    size = {
        "invocations": life.WHOLE,
        "callbacks": 8 * life.WHOLE,
        **figures(process_ms=90.0, thread_ms=80.0, wall_ms=90.0),
        **figures(process_over_empty=0.4 * factor, thread_over_empty=0.3, wall_over_empty=0.4),
    }
    row = {
        "sizes": [size],
        "delivered": 1.0,
        **figures(process_fixed_ms=2.5 * factor, thread_fixed_ms=1.0, wall_fixed_ms=4.0),
        **figures(process_each_us=9.0, thread_each_us=8.0, wall_each_us=9.0),
    }
    return {"rows": [{"tracer": name, **row} for name in (FOLDER, S3)], "missing": {}, "failed": {}}


def test_goals_stand_beside_what_was_before() -> None:
    """Each goal has a column before and one after; it is reached by the latter."""
    results = {
        "values": values_result(),
        "life": life_result(),
        f"values{BEFORE}": values_result(100.0),
        f"life{BEFORE}": life_result(100.0),
    }
    rows = {
        what: (before, after, reached) for what, _, before, after, reached in value_goals(results)
    }
    assert len(rows) == len([*value_goals({})])
    graph = rows["LangGraph, 200 KB in the state, 60 steps: graph with tracking against without"]
    assert graph == ("110 (109–111) ×", "1.1 (1.09–1.11) ×", "yes")
    measured = {what: row for what, row in rows.items() if row[0]}
    assert len(measured) == 15
    assert {reached for _, _, reached in measured.values()} == {"yes"}
    assert rows["fixed cost of a tracker, warm, folder, CPU"][0] == "250 (248–252) ms"
    assert {row for what, row in rows.items() if not row[0]} == {("", "not measured", "–")}


@pytest.mark.parametrize("earlier", [False, True])
def test_report_has_values_lives_and_compression(tmp_path: Path, earlier: bool) -> None:
    """Every part that was measured has its section; what was before is told apart."""
    _measure.save("values", values_result(), tmp_path)
    _measure.save("life", life_result(), tmp_path)
    if earlier:
        _measure.save(f"values{BEFORE}", values_result(100.0), tmp_path)
        _measure.save(f"life{BEFORE}", life_result(100.0), tmp_path)
    shown = {**figures(ms_per_mb=1.0, time_ratio=1.0), "size": 50, "size_ratio": 0.5}
    row = {"batch": "states", "bytes": 100, "setting": compression.TODAY, **shown}
    short = {"size": 10, "us": MEASURED}
    run = {"events": 16, "bytes": 100, "plain": short, "dictionary": short}
    result = {"rows": [row], "short": [run], "dictionary_bytes": 16_384}
    _measure.save("compression", result, tmp_path)
    written = report.write(tmp_path).read_text(encoding="utf-8")
    for line in (
        "### Large values, and whole lives",
        "## Large values",
        "| 100 KB, new | 100 (99–101) |",
        "## The whole life of a tracker",
        "| asynctrack, S3 | 16,000 | 90 (89.1–90.9) | 0.4 (0.396–0.404) |",
        "## Compression",
        "| states | 0.00 | level 3 |",
        "| 16 events | 100 | 10 | 10 |",
    ):
        assert line in written, line
    assert ("| graph, before |" in written) is earlier
    assert ("| asynctrack, folder, before |" in written) is earlier


def test_figures_are_json() -> None:
    """What a small comparison gives can be written, and is finite."""
    answer = {
        "rows": {
            name: [{"wall": 2.0, "thread": 1.0, "process": 1.5, "accepted": 10, "lines": 30,
                    "stored": 12}]
            for name in (values.NONE, values.OURS)
        },
        "holds": [{"information": 10, "compressed": 6}],
    }  # fmt: skip
    found = values._ratios([answer])
    assert json.dumps(found, allow_nan=False)
    assert (found["lines_ratio"]["value"], found["stored_ratio"]["value"]) == (3.0, 2.0)
