"""Answers over the index: numbers, components, changes and pairs, against the truth apart."""

from __future__ import annotations

import os
from array import array
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asynctrack import open_run
from asynctrack._reading.answers.changes import MEASURES, Sample, changes, samples
from asynctrack._reading.answers.components import Component, components
from asynctrack._reading.answers.numbers import numbers, remarkable
from asynctrack._reading.answers.pairs import (
    Asked,
    differing_parameters,
    match,
    traces_of,
)
from asynctrack._reading.index.tables import open_tables
from asynctrack._reading.run import RecordedRun
from asynctrack._reading.trees.summary import Percentiles, RunSummary, percentiles
from asynctrack.cli._folded import Watched
from tests.reading.making import OTHER, START, WRITER, RunFolder, event
from tests.reading.spooling import SpoolFolder, folder_of
from tests.reading.turns import DOWN, LATE, Turn, make_turns, turn_id

PRICES: dict[str, Any] = {"gpt": [1.0, 2.0], "big": {"in": 5, "out": 10, "cache_read": 0.5}}


pytestmark = pytest.mark.usefixtures("place")


def answer(run: RecordedRun, of: Any, *more: Any) -> Any:
    """What a function answers over a Run's tables."""
    with open_tables([run], ("spans", "traces")) as tables:
        return of(tables, *more)


@st.composite
def steps(draw: st.DrawFn, number: int) -> list[dict[str, Any]]:
    """The events of a trace: a model and a tool in a chain, each of which may end in any way."""
    root, tool, model = (f"{number}-{one}" for one in "rtm")
    ends: list[dict[str, Any]] = [
        {},
        {"error": {"type": "a.E", "message": "m"}},
        {"error": {"type": "F", "message": ""}},
        {"error": {"type": "asyncio.exceptions.CancelledError", "message": ""}},
        {"error": {"type": "langgraph.errors.GraphInterrupt", "message": "?", "value": []}},
    ]

    def end(of: str) -> dict[str, Any]:
        found = draw(st.sampled_from(ends))
        return {"kind": f"{of}_{'error' if found else 'end'}", **found}

    seconds = st.sampled_from([None, 0.0, 0.5, 0.5, 1.25, 7.0])
    stream: dict[str, Any] = {}
    if draw(st.booleans()):
        first = draw(st.sampled_from([0.1, 0.2, -1, "?"]))
        stream = {"stream": {"time_to_first_token": first, "trace_time_to_first_token": first}}
    usage = draw(
        st.fixed_dictionaries(
            {},
            optional={
                f"gen_ai.usage.{name}": st.integers(0, 90)
                for name in ("input_tokens", "output_tokens", "cache_read.input_tokens",
                             "audio.input_tokens", "reasoning.output_tokens")
            },
        )
    )  # fmt: skip
    asks = {"gen_ai.request.model": draw(st.sampled_from(["gpt", "big", "other"]))}
    made: list[dict[str, Any]] = [
        {"kind": "chain_start", "span_id": root, "name": draw(st.sampled_from(["one", "two"]))},
        {"kind": "tool_start", "span_id": tool, "parent_span_id": root, "name": "look"},
        {"span_id": tool, "parent_span_id": root, **end("tool"), "duration": draw(seconds)},
        {"kind": "chat_model_start", "span_id": model, "parent_span_id": root, "attributes": asks},
        {"span_id": model, "parent_span_id": root, **end("llm"), "duration": draw(seconds),
         "attributes": usage, "data": stream},
        {"span_id": root, **end("chain"), "duration": draw(seconds)},
    ]  # fmt: skip
    gone = draw(st.sets(st.sampled_from([1, 2, 4, 5]), max_size=1))
    return [{"trace_id": root, **one} for n, one in enumerate(made) if n not in gone]


@st.composite
def runs(draw: st.DrawFn) -> list[tuple[str, list[dict[str, Any]]]]:
    """Events of two writers, in artifacts."""
    found = []
    for writer in (WRITER, OTHER)[: draw(st.integers(1, 2))]:
        events: list[dict[str, Any]] = []
        for number in range(draw(st.integers(0, 4))):
            for one in draw(steps(number)):
                seq = len(events) + 1
                time = START + seq * 1000 + (writer == OTHER)  # which is first is no accident
                events.append(event(seq, writer=writer, time=time, **one))
        while events:
            size = draw(st.integers(1, len(events)))
            found.append((writer, events[:size]))
            events = events[size:]
    return found


def plain(summary: RunSummary) -> dict[str, Any]:
    """Its fields, with costs that may differ by the order in which they were added up."""
    fields = {name: getattr(summary, name) for name in summary.__slots__}
    if fields["cost"] is not None:
        fields["cost"] = round(fields["cost"], 15)
    return fields


@settings(max_examples=80)
@given(runs(), st.booleans(), st.booleans(), st.booleans())
def test_numbers_by_sql_are_those_of_the_fold(
    tmp_path_factory: pytest.TempPathFactory,
    artifacts: list[tuple[str, list[dict[str, Any]]]],
    priced: bool,
    spooled: bool,
    damaged: bool,
) -> None:
    """Of any Run: errors, other endings, streams, prices, two writers, a spool, damage."""
    root = tmp_path_factory.mktemp("law")
    os.environ["ASYNCTRACK_INDEX_DIR"] = str(root / "index")
    folder = RunFolder(root)
    spool = SpoolFolder(root / "spool", folder_of(folder.path))
    paths = []
    for n, (writer, events) in enumerate(artifacts):
        last = n + 1 == len(artifacts) or artifacts[n + 1][0] != writer
        if spooled and writer == WRITER and last:
            spool.segment(events)
        else:
            paths.append(folder.artifact(events, writer=writer))
    for writer in {writer for writer, _ in artifacts}:
        folder.manifest(writer, state="open" if spooled else "closed")
    if damaged and paths:
        paths[-1].write_bytes(b"rubbish")
    prices = PRICES if priced else None
    folder.path.mkdir(parents=True, exist_ok=True)

    def opened() -> RecordedRun:
        return open_run(folder.path, spool_dir=root / "spool", prices=prices, damaged="set_aside")

    run, watched = opened(), Watched(2)
    list(watched.watch(run.traces()))
    for _ in range(2):  # the second time from the index
        again = opened()
        with open_tables([again], ("spans", "traces")) as tables:
            found = numbers(tables, again, again.prices)
            seen = remarkable(tables, 2)
            read = tables.read.total()
        assert plain(found) == plain(run.summary())
        assert seen == watched.remarkable
        assert read == sum(1 for _ in run.events())
    spool.die()


@settings(max_examples=200)
@given(st.lists(st.sampled_from([0.0, 0.1, 0.25, 1e-9, 3.0, 3.0, 1e6]) | st.floats(0, 10)))
def test_percentiles_by_sql_are_exact(values: list[float]) -> None:
    """``quantile_disc`` gives the smallest value that so many are at most, as the fold does."""
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE t (v DOUBLE)")
        if values:
            connection.executemany("INSERT INTO t VALUES (?)", [[one] for one in values])
        marks = connection.execute(
            "SELECT quantile_disc(v, 0.5), quantile_disc(v, 0.9), quantile_disc(v, 0.95),"
            " quantile_disc(v, 0.99), max(v) FROM t"
        ).fetchone()
    assert marks is not None
    assert Percentiles(len(values), *marks) == percentiles(array("d", values))


def test_components_are_what_the_plan_says(tmp_path: Path) -> None:
    """Calls, failures with their commonest types, percentiles, tokens and cost of each."""
    turns = [
        Turn(
            tool_error=(DOWN if n % 2 else LATE) if n % 5 == 0 else "",
            failed=n % 10 == 0,
            model="big" if n % 3 == 0 else "gpt",
            tokens=(100 + n, n),
            tool_seconds=n / 100,
            model_seconds=n / 10,
            first_token=n / 1000 if n % 4 == 0 else None,
            retrieves=n % 7 == 0,
        )
        for n in range(1, 121)
    ]
    run = open_run(make_turns(tmp_path, turns).path, prices=PRICES)
    found = {(one.kind, one.name): one for one in answer(run, components)}
    assert list(found) == [
        ("chain", "support"), ("model", "gpt"), ("model", "big"), ("tool", "lookup_order"),
        ("retriever", "shelf"),
    ]  # fmt: skip

    def mark(values: list[float], percent: int) -> float:
        ordered = sorted(values)
        return next(one for n, one in enumerate(ordered, 1) if n * 100 >= len(ordered) * percent)

    tool = found["tool", "lookup_order"]
    errors = Counter(one.tool_error for one in turns if one.tool_error)
    assert (tool.calls, tool.failed) == (120, 24) and dict(tool.errors) == errors
    assert (tool.p50, tool.p95) == (0.6, 1.14) and tool.input_tokens is None
    answered = [one for one in turns if not one.failed]
    for name, rates in (("gpt", (1, 2)), ("big", (5, 10))):
        calls = [one for one in answered if one.model == name]
        model = found["model", name]
        assert (model.calls, model.failed, model.errors) == (len(calls), 0, ())
        assert model.p50 == mark([one.model_seconds for one in calls], 50)
        assert model.p95 == mark([one.model_seconds for one in calls], 95)
        firsts = [one.first_token for one in calls if one.first_token is not None]
        assert (model.first_p50, model.first_p95) == (mark(firsts, 50), mark(firsts, 95))
        read, written = (sum(one.tokens[n] for one in calls) for n in (0, 1))
        assert (model.input_tokens, model.output_tokens) == (read, written)
        assert model.cost == pytest.approx((read * rates[0] + written * rates[1]) / 1e6)
    chain = found["chain", "support"]
    assert (chain.calls, chain.failed) == (120, 12)
    assert chain.errors == ((LATE, 12),)
    assert chain.p95 == mark([one.seconds for one in turns], 95)
    felt = [2 * one.first_token for one in answered if one.first_token is not None]
    assert chain.first_p95 == mark(felt, 95)
    assert chain.input_tokens == sum(one.tokens[0] for one in answered)
    shelf = found["retriever", "shelf"]
    assert (shelf.calls, shelf.p95) == (sum(one.retrieves for one in answered), 0.1)


def test_steps_are_told_where_errors_came_up(tmp_path: Path) -> None:
    """A step inside a chain is told with its errors; one that only passes an error on is not."""
    folder = RunFolder(tmp_path)
    error = {"error": {"type": "x.Bad", "message": "?"}}
    tree: list[dict[str, Any]] = []
    for n in range(3):
        ids = {"trace_id": f"r{n}"}
        root, outer, parse = (
            {"span_id": f"r{n}", **ids},
            {"span_id": f"o{n}", "parent_span_id": f"r{n}", **ids},
            {"span_id": f"p{n}", "parent_span_id": f"o{n}", **ids},
        )
        bad = n == 0
        tree += [
            {"kind": "chain_start", "name": "root", **root},
            {"kind": "chain_start", "name": "outer", **outer},
            {"kind": "chain_start", "name": "parse", **parse},
            *({"kind": "chain_error", **error, **one} if bad else {"kind": "chain_end", **one}
              for one in (parse, outer, root)),
        ]  # fmt: skip
    folder.artifact([event(n, **one) for n, one in enumerate(tree, 1)])
    folder.manifest()
    found = answer(open_run(folder.path), components)
    assert [(one.kind, one.name, one.calls, one.failed, one.errors) for one in found] == [
        ("chain", "root", 3, 1, (("x.Bad", 1),)),
        ("step", "parse", 3, 1, (("x.Bad", 1),)),
    ]
    assert all(isinstance(one, Component) for one in found)


def test_what_fails_most_comes_first(tmp_path: Path) -> None:
    """Of each kind, however often others are called."""
    folder = RunFolder(tmp_path)
    error = {"error": {"type": "x.Bad", "message": "?"}}
    calls: list[dict[str, Any]] = []
    for n, name in enumerate(["busy", "busy", "rare", "odd", "odd", "odd"]):
        bad = name == "rare" or (name == "odd" and n > 3)
        ids = {"span_id": f"r{n}", "trace_id": f"r{n}"}
        ends = {"kind": "tool_error", **error} if bad else {"kind": "tool_end"}
        calls += [{"kind": "tool_start", "name": name, **ids}, {**ends, **ids}]
    folder.artifact([event(n, **one) for n, one in enumerate(calls, 1)])
    folder.manifest()
    found = answer(open_run(folder.path), components)
    assert [(one.kind, one.name, one.calls, one.failed) for one in found] == [
        ("tool", "odd", 3, 2), ("tool", "rare", 1, 1), ("tool", "busy", 2, 0)
    ]  # fmt: skip


def test_failures_that_fell_are_beyond_noise(tmp_path: Path) -> None:
    """A tool's failures that fell from 13.4 to 5.7 % of 336 calls are found, and nothing else."""
    sides = []
    for name, failures in (("a", 45), ("b", 19)):
        turns = [
            Turn(
                tool_error=DOWN if n < failures else "",
                tool_seconds=0.2 + (n * 37 + len(name) + failures) % 101 / 1000,
                model_seconds=1 + (n * 53 + failures) % 97 / 100,
                tokens=(100 + (n * 31 + failures) % 89, 20),
            )
            for n in range(336)
        ]
        run = open_run(make_turns(tmp_path, turns, name).path, prices=PRICES)
        sides.append(answer(run, samples))
    found = changes(*sides)
    assert [(one.kind, one.name) for one in found] == [
        ("trace", ""), ("chain", "support"), ("model", "gpt"), ("tool", "lookup_order")
    ]  # fmt: skip
    told = [(one.name, name) for one in found
            for name, difference in one.differences.items() if difference.beyond_noise]  # fmt: skip
    assert told == [("lookup_order", "failure_rate")]
    fell = found[-1].differences["failure_rate"]
    assert fell.value == pytest.approx(19 / 336 - 45 / 336)
    assert set(found[2].differences) == set(MEASURES) - {"first_p50", "first_p95"}


def test_what_one_run_lacks_has_no_difference() -> None:
    """A component of one Run only is told, without a difference."""
    alone = Sample("tool", "x", 3, 1, {})
    (one,) = changes((alone,), ())
    (other,) = changes((), (alone,))
    assert (one.first, one.second, one.differences) == (alone, None, {})
    assert (other.first, other.second, other.beyond_noise) == (None, alone, False)


def asked(number: int, question: int = 1, session: str | None = None, answer: int = 1) -> Asked:
    """A trace that ended well."""
    return Asked(number, turn_id(number), "support", question, session, "ok", None, None, answer)


QUESTIONS = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from([None, "a", "b"])), max_size=12
).map(lambda rows: [asked(n, question, session) for n, (question, session) in enumerate(rows)])


@given(QUESTIONS, QUESTIONS)
def test_each_trace_is_in_one_pair_at_most(first: list[Asked], second: list[Asked]) -> None:
    """Pairs and what is left over are all traces, once; as many pairs as there can be."""
    found = match(first, second)
    ones = [pair.first for pair in found.pairs]
    assert sorted([*ones, *found.only_first], key=lambda one: one.number) == first
    others = [*(pair.second for pair in found.pairs), *found.only_second]
    assert sorted(others, key=lambda one: one.number) == second
    assert all(pair.first.question == pair.second.question for pair in found.pairs)
    left = {one.question for one in found.only_first} & {one.question for one in found.only_second}
    assert not left and ones == sorted(ones, key=lambda one: one.number)


def test_the_same_session_goes_first() -> None:
    """What several asked is compared within the session, where both Runs have it."""
    first = [asked(1, session="a"), asked(2, session="b"), asked(3)]
    second = [asked(4, session="b"), asked(5, session="x"), asked(6, session="a")]
    found = match(first, second)
    assert [(pair.first.number, pair.second.number) for pair in found.pairs] == [
        (1, 6), (2, 4), (3, 5)
    ]  # fmt: skip


def test_ids_of_messages_make_no_difference(tmp_path: Path) -> None:
    """LangGraph gives each message a new id: only a text that differs is another answer."""
    turns = [Turn(question=f"Where is {n}?", answer=f"There {n}.") for n in range(6)]
    others = [
        Turn(question=one.question, answer="Gone." if n == 4 else one.answer, message="other")
        for n, one in enumerate(turns)
    ]
    sides = [
        answer(open_run(make_turns(tmp_path, made, name).path), traces_of)
        for name, made in (("a", turns), ("b", others[::-1]))
    ]
    found = match(*sides)
    assert len(found.pairs) == 6 and not found.only_first and not found.only_second
    assert [pair.first.trace_id for pair in found.changed] == [turn_id(5)]


def test_parameters_that_differ() -> None:
    """Names in order; what is not there is None; where a Run is stored is no parameter."""
    first = {"b": 1, "a": 1, "same": 0, "asynctrack.events": "s3://x"}
    assert differing_parameters(first, {"b": 2, "same": 0, "c": 3}) == {
        "a": (1, None), "b": (1, 2), "c": (None, 3)
    }  # fmt: skip
