"""The index of a run that grows: every event once, in order, with the library's own numbers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from asynctrack import open_run
from asynctrack._backends.s3_read import Access
from asynctrack._reading.compaction.compact import compact_run
from asynctrack._reading.decoding.events import Event
from asynctrack._reading.index.news import PATIENCE, News
from asynctrack._reading.sources.locate import Found, locate_runs
from asynctrack._reading.sources.manifests import Problem
from asynctrack._reading.sources.ranges import SeqSet
from asynctrack._reading.trees.build import TraceBuilder
from asynctrack._reading.trees.prices import read_prices
from asynctrack._spool.layout import spool_places
from asynctrack.view import _indexer, _pages, _queries
from asynctrack.view._filters import Filters
from asynctrack.view._index import Index
from asynctrack.view._indexer import Indexer
from asynctrack.view._pages import Pages
from asynctrack.view._progress import RunState
from asynctrack.view._question import GivenUpError, Question
from tests.cli.runs import chain, make_run, trace_id
from tests.reading.making import RunFolder, event
from tests.reading.spooling import SpoolFolder, folder_of
from tests.view import demo


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        """The time."""
        return self.now


def found(place: Path) -> list[Found]:
    """The runs in a folder."""
    return locate_runs(place, None, Access(None, None, None, None))


class Reader:
    """Reads what is new in a run."""

    def __init__(self, folder: RunFolder) -> None:
        self.clock = Clock()
        self.problems: list[Problem] = []
        (run,) = found(folder.root)
        self.news = News(run, (), self.problems.append, self.clock)

    def read(self) -> list[int]:
        """The numbers of the events that are new."""
        self.news.look()
        return [one.seq for one in self.news.events()]


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run in a folder, with its first two events."""
    made = RunFolder(tmp_path)
    made.artifact([event(1), event(2)])
    return made


def test_each_event_is_news_once(folder: RunFolder) -> None:
    """What is new is told once, in whatever artifacts it is stored, and how often."""
    reader = Reader(folder)
    assert reader.read() == [1, 2]
    assert reader.read() == []
    folder.artifact([event(3), event(4)])
    folder.artifact([event(2), event(3)])
    assert reader.read() == [3, 4]
    folder.artifact([event(4), event(5)])
    assert reader.read() == [5]
    assert reader.problems == []


def test_what_follows_a_gap_waits_for_it(folder: RunFolder) -> None:
    """Events wait for those before them, which may be on their way; not for ever."""
    reader = Reader(folder)
    folder.artifact([event(5)])
    assert reader.read() == [1, 2]
    assert reader.news.look().waiting == 1
    folder.artifact([event(3), event(4)])
    assert reader.read() == [3, 4, 5]
    folder.artifact([event(9)])
    assert reader.read() == []
    reader.clock.now += PATIENCE - 0.1
    assert reader.read() == []
    reader.clock.now += 0.2
    assert reader.read() == [9]
    folder.artifact([event(7)])
    assert reader.read() == [7], "it came too late, and is read all the same"


def test_nothing_waits_for_a_closed_writer(folder: RunFolder) -> None:
    """A writer that has ended delivers nothing more: what it left out is not waited for."""
    folder.artifact([event(5)])
    folder.manifest()
    reader = Reader(folder)
    assert reader.read() == [1, 2, 5]
    assert reader.news.look().closed


def test_what_cannot_be_read_is_told_once(folder: RunFolder) -> None:
    """A damaged artifact is set aside and named; the others are read."""
    damaged = folder.artifact([event(3)])
    folder.artifact([event(4)])
    folder.manifest()
    damaged.write_bytes(b"damaged")
    reader = Reader(folder)
    assert reader.read() == [1, 2, 4]
    assert reader.read() == []
    assert [Path(one.object).name for one in reader.problems] == [damaged.name]


def test_first_missing_number() -> None:
    """The first number that was not seen is the one after the range that a number is in."""
    seen = SeqSet()
    seen.add(3, 5)
    seen.add(6, 7)
    assert [seen.first_missing(seq) for seq in (1, 3, 7, 8)] == [1, 8, 8, 8]


def test_changed_traces_are_told_until_they_are_complete() -> None:
    """A trace that is open is told of when events were added to it, and not otherwise."""
    builder = TraceBuilder(0)
    ids: dict[str, Any] = {"trace_id": "a", "span_id": "a"}
    assert list(builder.add(Event(event(1, kind="chain_start", **ids)))) == []
    assert [one.trace_id for one in builder.changed()] == ["a"]
    assert builder.changed() == []
    (trace,) = builder.add(Event(event(2, kind="chain_end", **ids)))
    assert trace.complete and builder.changed() == []


@pytest.fixture(scope="module")
def indexed(demo_place: Path) -> Iterator[tuple[Index, Indexer]]:
    """The index of the demo."""
    prices = read_prices(demo_place / "prices.json")
    assert prices is not None
    index = Index(prices)
    place = demo_place / "runs"
    indexer = Indexer(index, lambda: found(place), ())
    ready: list[RunState] = []
    indexer.start(found(place), ready.append)
    wait_for(lambda: len(ready) >= len(indexer.runs), indexer)
    yield index, indexer
    assert ready == indexer.runs, "each is told once"
    indexer.stop()
    index.close()
    assert not index.path.exists()


def wait_for(condition: Callable[[], bool], indexer: Indexer) -> None:
    """Wait until the index is as it should be."""
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, [vars(run) for run in indexer.runs]
        indexer.watched(None)
        time.sleep(0.02)


def test_numbers_are_those_of_the_library(indexed: tuple[Index, Indexer], demo_place: Path) -> None:
    """Counts, percentiles, tokens and cost of each run are the ones that ``summary`` gives."""
    index, indexer = indexed
    totals = _queries.totals(index, [run.number for run in indexer.runs])
    assert len(indexer.runs) == len(demo.VERSIONS)
    for run in indexer.runs:
        summary = open_run(run.uris[0], spool_dir=False).summary(prices=demo_place / "prices.json")
        total = totals[run.number]
        seconds = summary.trace_seconds
        assert total["latency"] == [seconds.p50, seconds.p90, seconds.p95, seconds.p99]
        assert total["slowest"] == seconds.max
        assert (total["traces"], total["spans"]) == (summary.traces, summary.spans)
        assert (total["errors"], total["model_calls"]) == (summary.errors, summary.model_calls)
        assert total["input_tokens"] == summary.input_tokens
        assert total["output_tokens"] == summary.output_tokens
        assert total["cache_read_tokens"] == summary.cache_read_tokens > 0
        assert total["reasoning_tokens"] == summary.reasoning_tokens > 0
        assert total["cost"] == pytest.approx(summary.cost)
        assert run.parameters == summary.parameters and run.closed


def test_filters_choose_what_they_say(indexed: tuple[Index, Indexer]) -> None:
    """Every filter chooses exactly the traces that it describes; pages hold each of them once."""
    index, indexer = indexed
    run = next(run for run in indexer.runs if run.name == "v1-baseline").number

    def chosen(**asked: str) -> list[dict[str, Any]]:
        filters = Filters.of(asked)
        rows: list[dict[str, Any]] = []
        for page in range(10):
            part = _queries.traces(index, run, filters, "newest", page)
            rows += part[:50]
            if len(part) <= 50:
                break
        assert _queries.overview(index, run, filters)["totals"]["traces"] == len(rows)
        return rows

    every = chosen()
    assert len({row["trace_id"] for row in every}) == len(every) == 220
    conditions: dict[str, tuple[dict[str, str], Callable[[dict[str, Any]], bool]]] = {
        "slower": ({"slower": "1.5"}, lambda row: row["duration"] >= 1.5),
        "faster": ({"faster": "0.7"}, lambda row: row["duration"] < 0.7),
        "tokens": (
            {"tokens": "600"}, lambda row: row["input_tokens"] + row["output_tokens"] >= 600
        ),
        "tag": ({"tag": "us"}, lambda row: "us" in row["tags"]),
        "error": ({"outcome": "error"}, lambda row: row["outcome"] == "error"),
        "ok": ({"outcome": "ok"}, lambda row: row["outcome"] == "ok"),
        "text": ({"text": "STUDENT discount"}, lambda row: "student discount" in row["input"]),
        "both": (
            {"tag": "eu", "slower": "1.2"},
            lambda row: "eu" in row["tags"] and row["duration"] >= 1.2,
        ),
        "model": ({"model": "other"}, lambda row: False),
    }  # fmt: skip
    for name, (asked, condition) in conditions.items():
        got = {row["trace_id"] for row in chosen(**asked)}
        assert got == {row["trace_id"] for row in every if condition(row)}, name
        assert len(got) < len(every), name


def test_charts_hold_every_trace(indexed: tuple[Index, Indexer]) -> None:
    """The bins of the histogram and the buckets of the course over time add up to all traces."""
    index, indexer = indexed
    for run in indexer.runs:
        found = _queries.overview(index, run.number, Filters())
        assert sum(one["traces"] for one in found["bins"]) == found["totals"]["traces"]
        assert sum(one["traces"] for one in found["buckets"]) == found["totals"]["traces"]
        assert {one["bucket"] for one in found["buckets"]} <= set(range(found["bucket_count"]))
        for one in found["bins"]:
            filters = Filters(slower=one["from"], faster=one["to"])
            assert (
                _queries.overview(index, run.number, filters)["totals"]["traces"] == one["traces"]
            )


def test_a_large_run_is_prepared(
    indexed: tuple[Index, Indexer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the page of a large run shows first is known before it is opened; small ones wait."""
    index, indexer = indexed
    asked: list[str] = []
    for name in ("totals", "facets", "components", "overview"):
        question = getattr(_queries, name)

        def noted(*given: Any, name: str = name, question: Any = question) -> Any:
            asked.append(name)
            return question(*given)

        monkeypatch.setattr(_queries, name, noted)
    run = indexer.runs[0]
    pages = Pages(index, indexer, "demo", priced=True)
    pages.warm(run)
    assert asked == []
    monkeypatch.setattr(_pages, "LARGE", run.traces)
    pages.warm(run)
    assert sorted(asked) == ["components", "facets", "overview", "totals"]
    asked.clear()
    assert pages.components({"run": run.id})["components"]
    assert pages.facets({"run": run.id})["name"]
    assert pages.overview({"run": run.id})["totals"]["traces"] == run.traces
    assert asked == []
    assert pages.home({})["count"] == len(indexer.runs)
    run.changed()
    assert pages.home({})["count"] == len(indexer.runs)
    assert asked == ["totals", "totals"], "of the others; then of what has changed"


def test_a_question_that_is_given_up(indexed: tuple[Index, Indexer]) -> None:
    """Nobody works on for a page that does not wait; other questions are answered all the same."""
    index, _ = indexed
    question = Question()
    endless = "SELECT count(*) AS n FROM range(10_000_000) a, range(10_000_000) b WHERE a + b = 1"
    raised: list[type[Exception]] = []

    def ask() -> None:
        try:
            question.answer(index.query, endless)
        except GivenUpError as error:
            raised.append(type(error))

    working = threading.Thread(target=ask)
    working.start()
    until = time.monotonic() + 60
    while working.is_alive():
        assert time.monotonic() < until
        assert index.query("SELECT 1 AS one") == [{"one": 1}]
        question.give_up()
        working.join(0.02)
    assert raised == [GivenUpError]
    with pytest.raises(GivenUpError):
        question.answer(index.query, "SELECT 1 AS one")
    assert Question().answer(index.query, "SELECT 1 AS one") == [{"one": 1}]


@pytest.mark.parametrize("when", ["before", "while it is shown"])
def test_a_compacted_run(tmp_path: Path, when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run whose segments were compacted and deleted is shown as it was, and no event twice."""
    monkeypatch.setattr(_indexer, "EVERY_CLOSED", 0.05)
    folder = make_run(tmp_path, chains=[{}, {"error": "bad"}, {}, {}, {}, {}])

    def compact() -> None:
        (run,) = found(tmp_path)
        report = compact_run(run.locations[0], now=time.time(), delete=True)
        assert report.deleted == 3 and not list(folder.path.glob("dt=*/*.jsonl*"))

    if when == "before":
        compact()
    index = Index()
    indexer = Indexer(index, lambda: found(tmp_path), ())
    ready: list[RunState] = []
    with closing(index):
        indexer.start(found(tmp_path), ready.append)
        try:
            wait_for(lambda: bool(ready), indexer)
            (run,) = ready
            if when != "before":
                compact()
                seen = run.version
                folder.artifact(chain(7, 25))
                folder.manifest()
                wait_for(lambda: run.traces == 7 and run.version > seen, indexer)
            count = 6 if when == "before" else 7
            rows = index.query("SELECT trace_id, outcome, spans FROM traces ORDER BY trace_id")
            assert [row["trace_id"] for row in rows] == [trace_id(n + 1) for n in range(count)]
            assert {row["spans"] for row in rows} == {2} and rows[1]["outcome"] == "error"
            assert run.events == run.total == 4 * count
            assert run.problems == [] and run.error is None
        finally:
            indexer.stop()


def test_dead_letters_are_told(tmp_path: Path) -> None:
    """What was refused for good is not shown, and the page says so."""
    folder = RunFolder(tmp_path)
    folder.artifact([event(1), event(2)])
    spool = SpoolFolder(tmp_path / "spool", folder_of(folder.path))
    dead = spool.path / f"{3:012d}-{4:012d}.dead"
    dead.write_bytes(b"{}\n")
    spool.die()
    problems: list[Problem] = []
    (run,) = found(tmp_path)
    news = News(run, spool_places(tmp_path / "spool"), problems.append, Clock())
    news.look()
    (problem,) = problems
    assert problem.object == str(dead) and "events 3 to 4, refused for good" in problem.reason
