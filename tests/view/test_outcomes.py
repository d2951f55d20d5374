"""How traces and spans ended, as the viewer counts it: with the definitions of the library."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from asynctrack import open_run
from asynctrack._common.outcome import OUTCOMES, Outcome, said_outcome
from asynctrack._reading.trees.trace import Trace
from asynctrack.view import _queries
from asynctrack.view._filters import CHOICES, Filters
from asynctrack.view._index import Index
from asynctrack.view._indexer import Indexer
from asynctrack.view._pages import Pages
from tests.reading.making import RunFolder, event
from tests.view import endings
from tests.view.test_index import found, wait_for


class Indexed:
    """An index of all Runs in a folder.

    Args:
        place: The folder.
    """

    def __init__(self, place: Path) -> None:
        self.index = Index()
        self.indexer = Indexer(self.index, lambda: found(place), ())
        ready: list[Any] = []
        self.indexer.start(found(place), ready.append)
        wait_for(lambda: len(ready) >= len(self.indexer.runs), self.indexer)
        self.pages = Pages(self.index, self.indexer, "endings", priced=False)
        self.traces = {
            run.name: {one.trace_id: one for one in open_run(run.uris[0], spool_dir=False).traces()}
            for run in self.indexer.runs
        }

    def close(self) -> None:
        """Stop it."""
        self.indexer.stop()
        self.index.close()

    def id(self, name: str) -> str:
        """A Run's name in links."""
        return next(run.id for run in self.indexer.runs if run.name == name)

    def page(self, name: str, run: str, **asked: str) -> dict[str, Any]:
        """Ask for a page."""
        answer: dict[str, Any] = getattr(self.pages, name)({"run": self.id(run), **asked})
        return answer

    def one(self, name: str, outcome: Outcome = "ok", *, resumes: bool = False) -> Trace:
        """The trace of the real Run with this name and outcome."""
        (trace,) = [
            one
            for one in self.traces["all"].values()
            if (one.root.name, one.outcome, bool(one.resumes)) == (name, outcome, resumes)
        ]
        return trace

    def shown(self, trace: Trace, run: str = "all") -> dict[str, Any]:
        """The page of a trace."""
        return self.page("trace", run, trace=trace.trace_id)

    def span(self, trace: Trace, place: int, run: str = "all") -> dict[str, Any]:
        """The page of a span."""
        return self.page("span", run, trace=trace.trace_id, place=str(place))


@pytest.fixture(scope="module")
def indexed(endings_place: Path) -> Iterator[Indexed]:
    """The index of the Runs whose traces end in every way."""
    made = Indexed(endings_place)
    yield made
    made.close()


@pytest.mark.parametrize("name", ["all", "each", "fewer"])
def test_endings_are_those_of_the_summary(indexed: Indexed, name: str) -> None:
    """Failed, recovered, cancelled, …: totals, charts and models count what ``summary`` counts."""
    run = next(run for run in indexed.indexer.runs if run.name == name)
    summary = open_run(run.uris[0], spool_dir=False).summary()
    (home,) = [row for row in indexed.pages.home({})["runs"] if row["name"] == name]
    overview = indexed.page("overview", name)
    for totals in (home, overview["totals"]):
        for counted in _queries.COUNTED:
            if counted != "ok":
                assert totals[counted] == getattr(summary, counted), counted
        assert totals["ok"] + totals["failed"] == summary.traces - sum(
            totals[one] for one in OUTCOMES if one not in ("ok", "error")
        )
        first = summary.trace_first_token_seconds
        shown = totals["first_token"] or {"p50": None, "p95": None}
        assert (shown["p50"], shown["p95"]) == (first.p50, first.p95)
    failed = [one for one in indexed.traces[name].values() if one.failed]
    for chart in ("bins", "buckets"):
        assert sum(one["failed"] for one in overview[chart]) == len(failed) == summary.failed
    calls = [
        span
        for trace in indexed.traces[name].values()
        for span in trace.walk()
        if span.kind == "chat_model"
    ]
    models = indexed.page("run", name)["models"]
    assert sum(one["failed"] for one in models) == sum(one.outcome == "error" for one in calls)
    assert models[0]["latency"][2] == summary.model_seconds.p95


def test_filters_choose_each_outcome(indexed: Indexed) -> None:
    """The filter by outcome chooses the traces whose root ended so; ``recovered`` those with an
    error that they did not fail of."""
    assert set(OUTCOMES) < set(CHOICES)
    traces = indexed.traces["each"]
    for choice in CHOICES:
        shown = indexed.page("traces", "each", outcome=choice)["traces"]
        wanted = {
            one.trace_id
            for one in traces.values()
            if (one.recovered if choice == "recovered" else one.outcome == choice)
        }
        assert {row["trace_id"] for row in shown} == wanted and wanted, choice
        assert Filters.of({"outcome": choice}).outcome == choice
        for row in shown:
            trace = traces[row["trace_id"]]
            assert row["recovered"] == len(trace.recovered)
            assert row["said"] == said_outcome(trace.outcome, trace.root.cause)


def test_components_count_outcomes_and_durations(indexed: Indexed) -> None:
    """What failed and how long it took is told of each kind and name by outcome and duration."""
    compared = indexed.pages.compare({"a": indexed.id("each"), "b": indexed.id("fewer")})
    for side in compared["sides"]:
        spans = [span for one in indexed.traces[side["name"]].values() for span in one.walk()]
        for row in side["components"]:
            same = [span for span in spans if (span.kind, span.name) == (row["kind"], row["name"])]
            assert row["failed"] == sum(span.outcome == "error" for span in same)
            took = sorted(span.duration for span in same if span.duration is not None)
            assert (row["latency"][-1] if took else None) == (took[-1] if took else None)


def test_a_pause_and_what_resumed_it(indexed: Indexed) -> None:
    """A paused trace says what it asks, opens where it waits, and both traces lead to the other."""
    paused, resumed = indexed.one("refund", "interrupted"), indexed.one("refund", resumes=True)
    page = indexed.shown(paused)
    assert page["said"] == "interrupted: it waits"
    (waits,) = page["waits"]
    assert waits["name"] == "ask" and endings.QUESTION in waits["asks"]
    assert page["chosen"] == waits["place"] and page["asks"] == waits["asks"]
    assert page["resumed_by"]["trace_id"] == resumed.trace_id and page["resumes"] is None
    after = indexed.shown(resumed)
    assert after["resumes"] == paused.trace_id and after["resumed_by"] is None
    assert after["waits"] == [] and after["asks"] is None
    span = indexed.span(paused, page["chosen"])
    assert span["handed"][0]["text"]["text"] == endings.QUESTION
    assert span["failure"] is None and span["why"] is None


def test_a_handoff(indexed: Indexed) -> None:
    """Where a graph hands over, its span says where it goes; the trace ended well all the same."""
    page = indexed.shown(indexed.one("support"))
    assert page["outcome"] == "ok" and page["recovered"] == 0
    handed = {row["name"]: row["hands_on"] for row in page["rows"] if row["hands_on"] is not None}
    assert handed == {"triage": "billing"}
    assert {row["said"] for row in page["rows"]} == {"ok", "interrupted: it handed over"}


def test_a_failed_trace_opens_where_it_failed(indexed: Indexed) -> None:
    """The span that is shown at first is the one that the trace failed of."""
    trace = indexed.one("answer", "error")
    page = indexed.shown(trace)
    assert trace.blame is not None
    assert page["rows"][page["chosen"]]["span_id"] == trace.blame.span_id


def test_among_several_errors_the_blame(tmp_path: Path) -> None:
    """Of several errors in a failed trace the one that it failed of is shown at first; none of
    them counts as recovered."""
    ids = {"trace_id": "r"}
    events = [event(1, kind="chain_start", span_id="r", **ids)]
    for name in ("before", "blame", "after"):
        error = {"type": "a.B", "message": name}
        for kind, more in (
            ("tool_start", {}),
            ("tool_error", {"outcome": "error", "error": error}),
        ):
            seq = len(events) + 1
            events.append(event(seq, kind=kind, span_id=name, parent_span_id="r", **ids, **more))
    last = {"outcome": "error", "error": {"type": "a.B", "message": "blame"}}
    events.append(event(len(events) + 1, kind="chain_error", span_id="r", **ids, **last))
    made = indexed_events(tmp_path, *events)
    try:
        page = made.page("trace", "one", trace="r")
        assert page["rows"][page["chosen"]]["span_id"] == "blame"
        assert page["recovered"] == 0 and page["error"] == "B: blame"
    finally:
        made.close()


def test_a_reported_error(indexed: Indexed) -> None:
    """An error that a tool reports in its answer is shown as an error, and counted as recovered."""
    trace = indexed.one("careful")
    assert indexed.shown(trace)["recovered"] == 1
    span = indexed.span(trace, 1)
    assert span["outcome"] == "error" and span["outputs"]
    assert "there is no order 7" in str(span["failure"])


@pytest.mark.parametrize("name", ["slow_tale", "left"])
def test_a_cancelled_call_shows_what_it_had_said(indexed: Indexed, name: str) -> None:
    """A call that was cancelled shows the text that it had streamed, and no object's address."""
    trace = indexed.one(name, "cancelled")
    page = indexed.shown(trace)
    span = indexed.span(trace, page["chosen"])
    assert span["kind"] == "chat_model" and span["outcome"] == "cancelled"
    assert span["outputs"] and span["failure"] is None
    for place in range(page["spans"]):
        shown = {**indexed.span(trace, place), "extra": None}  # the model's own parameters
        assert "object at 0x" not in str(shown)


def test_bars_are_as_long_as_calls_took(indexed: Indexed) -> None:
    """Where the clock was set meanwhile, a span ends as long after its start as it took; of one
    whose parent nobody has seen, that is said."""
    page = indexed.page("trace", "torn", trace="torn")
    assert page["length"] == page["duration"] == 4.0
    rows = {row["name"]: row for row in page["rows"]}
    assert (rows["set"]["at"], rows["set"]["duration"]) == (1.0, 2.0)
    assert [name for name, row in rows.items() if row["orphan"]] == ["lost"]
    sides = indexed.pages.compare({"a": indexed.id("torn"), "b": indexed.id("torn")})["sides"]
    latency = {row["name"]: row["latency"][0] for row in sides[0]["components"]}
    assert latency == {"torn": 4.0, "set": 2.0, "lost": 0.5}


def test_answers_differ_by_outcome(tmp_path: Path) -> None:
    """Two traces to the same input whose outcomes differ were not answered the same."""
    for run, outcome in (("a", "ok"), ("b", "cancelled")):
        writer = run * 24
        ids = {"writer": writer, "span_id": run, "trace_id": run}
        folder = RunFolder(tmp_path, "e", run)
        events = [
            event(1, kind="chain_start", name="same", inputs="x", **ids),
            event(2, kind="chain_end", outcome=outcome, duration=1.0, **ids),
        ]
        folder.artifact(events, writer=writer)
        folder.manifest(writer)
    made = Indexed(tmp_path)
    try:
        for other, differ in (("b", 1), ("a", 0)):
            compared = made.pages.compare({"a": made.id("a"), "b": made.id(other)})
            assert (compared["same_input"], compared["differ"]) == (1, differ)
        (pair,) = compared["pairs"]
        assert pair["x_said"] == "ok"
    finally:
        made.close()


def indexed_events(tmp_path: Path, *events: dict[str, Any]) -> Indexed:
    """An index of a Run with these events."""
    folder = RunFolder(tmp_path)
    folder.artifact(list(events))
    folder.manifest()
    return Indexed(tmp_path)


def test_partial_text_and_an_address(tmp_path: Path) -> None:
    """Where a call was cancelled before it had an answer, its streamed text stands for that; a
    message that is only an object's address is left out, any other one is told."""
    stream = {"text": "so far" * 9_000, "count": 2, "time_to_first_token": 0.1}
    address = "<object object at 0x7f00aa>"
    ids = {"trace_id": "r", "parent_span_id": "r"}
    made = indexed_events(
        tmp_path,
        event(1, kind="chain_start", span_id="r", trace_id="r"),
        event(2, kind="chat_model_start", span_id="a", **ids),
        event(3, kind="llm_error", span_id="a", outcome="cancelled", cause="cancel", duration=1.0,
              error={"type": "asyncio.exceptions.CancelledError", "message": address},
              data={"stream": stream, "response": {"generations": [[]]}}, **ids),
        event(4, kind="tool_start", span_id="b", **ids),
        event(5, kind="tool_error", span_id="b", outcome="cancelled", cause="cancel", duration=1.0,
              error={"type": "asyncio.exceptions.CancelledError", "message": "we close"}, **ids),
        event(6, kind="chain_end", span_id="r", trace_id="r", outcome="ok", duration=2.0),
    )  # fmt: skip
    try:
        trace = made.traces["one"]["r"]
        call = made.span(trace, 1, "one")
        assert call["partial"] and call["why"] is None
        (part,) = call["outputs"][0]["parts"]
        assert part["text"]["text"].startswith("so far")
        asked = {"trace": "r", "place": "1", "side": "outputs", "at": "0"}
        whole = made.page("text", "one", number=str(part["text"]["number"]), **asked)
        assert whole["piece"] == stream["text"], "the rest of it can be asked for"
        assert address not in str(call) + made.page("download", "one", trace="r", place="1")
        tool = made.span(trace, 2, "one")
        assert tool["why"] == "we close" and not tool["partial"]
        assert made.page("traces", "one", text="so far")["traces"], "it is found by it"
    finally:
        made.close()
