"""Sampling: whole traces or nothing, by the trace's id, decided at its root."""

from __future__ import annotations

import asyncio
import json
import logging
import multiprocessing
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.language_models import FakeListChatModel
from langchain_core.runnables import RunnableLambda

from asynctrack import Root, Trace, open_run, session, tracker
from asynctrack._capture.event import Events
from asynctrack._capture.sampling import share
from asynctrack._options import Options
from tests.property.strategies import quick

ALL: Mapping[str, Any] = {"sample": 1.0}
NOTHING: Mapping[str, Any] = {"sample": 0.0}


def traces_of(folder: Path) -> list[Trace]:
    return list(open_run(folder).traces())


class Calls:
    """Callbacks of a trace, called by hand."""

    def __init__(self, handler: Any) -> None:
        self.handler = handler

    def start(self, parent: uuid.UUID | None = None, **more: Any) -> uuid.UUID:
        span = uuid.uuid4()
        self.handler.on_chain_start({}, {"in": 1}, run_id=span, parent_run_id=parent, **more)
        return span

    def end(self, span: uuid.UUID, parent: uuid.UUID | None = None) -> None:
        self.handler.on_chain_end({"out": 1}, run_id=span, parent_run_id=parent)


# -- the decision ---------------------------------------------------------------------------------


@quick
@given(st.uuids(), st.floats(0, 1), st.floats(0, 1))
def test_a_lower_rate_keeps_a_part_of_a_higher_ones(
    trace_id: uuid.UUID, one: float, other: float
) -> None:
    """What the lower of two rates keeps, the higher keeps, too; an id says so as text as well."""
    low, high = sorted((one, other))
    assert 0 <= share(trace_id) < 1
    assert not share(trace_id) < low or share(trace_id) < high
    assert share(str(trace_id)) == share(trace_id)


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5])
def test_as_many_are_kept_as_the_rate_says(rate: float) -> None:
    """Of ids of one moment, which differ in a few bits only, the part is kept that the rate says:
    within five standard deviations."""
    ids = [uuid.UUID(int=(0x01A2 << 112) | (7 << 76) | (1 << 63) | n) for n in range(20_000)]
    kept = sum(share(one) < rate for one in ids)
    assert abs(kept - 20_000 * rate) < 5 * (20_000 * rate * (1 - rate)) ** 0.5


IN_ANOTHER = """
import sys, uuid
from asynctrack import open_run, tracker
with tracker(sys.argv[1], sample=0.3) as handler:
    for line in sys.stdin:
        span = uuid.UUID(line.strip())
        handler.on_chain_start({}, {"in": 1}, run_id=span)
        handler.on_chain_end({"out": 1}, run_id=span)
print(*sorted(trace.trace_id for trace in open_run(sys.argv[1]).traces()))
"""


def test_two_processes_decide_alike(tmp_path: Path) -> None:
    """The same traces, told to two processes, are kept by both, or by neither."""
    ids = "\n".join(str(uuid.uuid4()) for _ in range(200))
    kept = [
        subprocess.run(
            [sys.executable, "-c", IN_ANOTHER, str(tmp_path / name)],
            input=ids, capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONHASHSEED": name},
        ).stdout
        for name in ("1", "2")
    ]  # fmt: skip
    assert kept[0] == kept[1] and 20 < len(kept[0].split()) < 100


# -- whole or nothing -----------------------------------------------------------------------------


def test_what_is_kept_is_whole_and_the_rest_is_absent(tmp_path: Path) -> None:
    """A chain's trace has all its spans, or nothing of it is there; the counters say how many."""
    chain = RunnableLambda(lambda x: x) | FakeListChatModel(responses=["yes"])
    with tracker(tmp_path, sample=0.5) as handler:
        for number in range(60):
            list(chain.stream(str(number), {"callbacks": [handler]}))
    found = traces_of(tmp_path)
    assert 10 < len(found) < 50
    assert {sum(1 for _ in trace.walk()) for trace in found} == {3}
    assert all(trace.complete and trace.find(kind="chat_model") for trace in found)
    assert all(share(trace.trace_id) < 0.5 for trace in found)
    now = handler.statistics()
    assert (now.traces_sampled_out, now.sampled_out) == (60 - len(found), (60 - len(found)) * 6)
    assert (now.accepted, dict(now.dropped), now.held) == (len(found) * 6, {}, 0)


def test_nothing_is_kept_at_a_rate_of_zero(tmp_path: Path) -> None:
    """With a rate of 0 no event of a trace is accepted; what the user logs is, and the manifest
    says what was left out."""
    with tracker(tmp_path, sample=0) as handler:
        RunnableLambda(str.upper).invoke("x", {"callbacks": [handler]})
        handler.log_metric("score", 1.0)
        handler.log_parameters({"a": 1})
    run = open_run(tmp_path)
    assert [event.event for event in run.events()] == ["metric", "parameters"]
    assert run.parameters["a"] == 1 and run.metrics["score"].last == 1.0
    assert run.sampling is not None and str(run.sampling) == "0 of 1 traces kept (sample=0)"


def test_a_tracker_that_keeps_nothing_says_so(tmp_path: Path) -> None:
    """Also where no event at all is accepted there is a manifest, with what was left out."""
    with tracker(tmp_path, sample=0) as handler:
        RunnableLambda(str.upper).invoke("x", {"callbacks": [handler]})
    (manifest,) = tmp_path.rglob("_manifest/*.json")
    assert json.loads(manifest.read_bytes())["sampling"] == {
        "rate": 0.0, "keep_errors": False, "traces_kept": 0, "traces_left_out": 1,
        "events_left_out": 2,
    }  # fmt: skip


def test_feedback_is_always_kept(tmp_path: Path) -> None:
    """What a person says of a trace is kept, whatever its sample."""
    with tracker(tmp_path, sample=0) as handler:
        calls = Calls(handler)
        span = calls.start()
        calls.end(span)
        handler.log_feedback(span, "thumbs", 1)
    assert [one.trace_id for one in open_run(tmp_path).feedback()] == [str(span)]
    assert traces_of(tmp_path) == []


def test_what_starts_after_its_root_has_ended(tmp_path: Path) -> None:
    """A span that starts below one that has ended decides as its root did, as do those below."""
    with tracker(tmp_path, sample=0) as handler:
        calls = Calls(handler)
        root = calls.start()
        child = calls.start(root)
        calls.end(child, root)
        calls.end(root)
        late = calls.start(child)
        below = calls.start(late)
        handler.on_custom_event("noted", {}, run_id=below)
        calls.end(below, late)
        calls.end(late, child)
    assert handler.statistics().accepted == 0
    assert handler.statistics().sampled_out == 9


def test_errors_tools_notes_and_streams_of_what_is_left_out(tmp_path: Path) -> None:
    """Whatever callback comes of a trace that is left out, nothing is stored and nothing kept."""
    with tracker(tmp_path, sample=0) as handler:
        calls = Calls(handler)
        root = calls.start()
        call, used, search = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
        handler.on_chat_model_start({}, [[]], run_id=call, parent_run_id=root)
        handler.on_llm_new_token("word", run_id=call, parent_run_id=root)
        handler.on_stream_event({"event": "x"}, run_id=call, parent_run_id=root)
        handler.on_retry(object(), run_id=call, parent_run_id=root)
        handler.on_llm_error(ValueError("x"), run_id=call, parent_run_id=root)
        handler.on_tool_start({}, "in", run_id=used, parent_run_id=root)
        handler.on_text("text", run_id=used, parent_run_id=root)
        handler.on_tool_end("out", run_id=used, parent_run_id=root)
        handler.on_retriever_start({}, "query", run_id=search, parent_run_id=root)
        handler.on_retriever_error(KeyError("x"), run_id=search, parent_run_id=root)
        handler.on_agent_action({}, run_id=root)
        handler.on_agent_finish({}, run_id=root)
        calls.end(root)
        streams = handler._sink.capture.events.streams
        assert not streams.has_tokens(call)
    assert handler.statistics().accepted == 0
    assert dict(handler.statistics().dropped) == {}


def test_the_same_id_twice_at_a_time(tmp_path: Path) -> None:
    """Of runs that share an id while they are open, all is left out that would be kept else."""
    chain = RunnableLambda(lambda x: inner.invoke(x) if x else x)
    inner = RunnableLambda(lambda x: x)
    shared = uuid.uuid4()

    async def both(handler: Any) -> None:
        config: Any = {"callbacks": [handler], "run_id": shared}
        await asyncio.gather(*(chain.ainvoke(number, config) for number in (1, 2)))

    kept: list[int] = []
    for rate in (1.0, 0.0):
        with tracker(tmp_path / str(rate), sample=lambda root, rate=rate: rate) as handler:
            asyncio.run(both(handler))
        now = handler.statistics()
        kept += [now.accepted, now.sampled_out]
    assert kept[0] >= 8 and kept[3] >= 8, "langchain's tasks decide how often one is abandoned"
    assert kept[1:3] == [0, 0]


@pytest.mark.skipif(sys.platform == "win32", reason="no fork there")
def test_a_forked_child_decides_as_its_parent(tmp_path: Path) -> None:
    """In a child that is forked in the midst of a trace, what belongs to it is left out as well;
    also below a span that had ended by then."""
    with tracker(tmp_path, sample=0) as handler:
        calls = Calls(handler)
        root = calls.start()
        gone = calls.start(root)
        calls.end(gone, root)

        def child() -> None:
            for parent in (root, gone):
                calls.end(calls.start(parent), parent)
            now = handler.statistics()
            os._exit(0 if (now.accepted, now.sampled_out) == (0, 4) else 1)

        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join(60)
        assert process.exitcode == 0
        calls.end(root)


# -- a function -----------------------------------------------------------------------------------


def test_a_function_of_the_root(tmp_path: Path) -> None:
    """It is asked once for each trace, with name, tags and metadata, the session's among them; it
    says yes, no or a rate."""
    asked: list[Root] = []

    def sample(root: Root) -> bool | float:
        asked.append(root)
        return "keep" in root.tags or (0.0 if root.name == "never" else 1 / 4)

    chain = RunnableLambda(lambda x: x) | RunnableLambda(lambda x: x)
    with tracker(tmp_path, sample=sample) as handler, session(user_id="ada"):
        for name, tags in (("never", []), ("never", ["keep"]), ("quarter", [])):
            config: Any = {"callbacks": [handler], "run_name": name, "tags": tags}
            chain.invoke(1, {**config, "metadata": {"plan": "free"}})
    assert [(one.name, one.tags) for one in asked] == [
        ("never", ()), ("never", ("keep",)), ("quarter", ()),
    ]  # fmt: skip
    assert {(one.metadata["plan"], one.metadata["user_id"]) for one in asked} == {("free", "ada")}
    by_name = {trace.root.name: trace.weight for trace in traces_of(tmp_path)}
    assert by_name.pop("never") == 1.0
    assert by_name in ({}, {"quarter": 4.0})


def test_a_rate_of_a_function(tmp_path: Path) -> None:
    """What it returns is a rate for the trace's id, as a number would be."""
    ids = [uuid.UUID(int=number) for number in range(40)]
    with tracker(tmp_path, sample=lambda root: 1 / 4) as handler:
        for one in ids:
            RunnableLambda(str).invoke(1, {"callbacks": [handler], "run_id": one})
    kept = {str(one) for one in ids if share(one) < 1 / 4}
    assert 0 < len(kept) < len(ids)
    assert {(one.trace_id, one.weight) for one in traces_of(tmp_path)} == {
        (one, 4.0) for one in kept
    }


def raises(root: Root) -> bool:
    raise KeyError("secret")


WRONG: list[tuple[Callable[[Root], Any], str]] = [
    (raises, "it raised KeyError"),
    (lambda root: "yes", "it returned str"),
    (lambda root: None, "it returned NoneType"),
    (lambda root: 2, "it returned 2"),
    (lambda root: float("nan"), "it returned nan"),
]


@pytest.mark.parametrize(("sample", "why"), WRONG)
def test_a_function_that_fails_keeps_the_trace(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, sample: Callable[[Root], Any], why: str
) -> None:
    """It never gets in the way: the traces are kept, and that is said once, without its words."""
    with caplog.at_level(logging.WARNING, "asynctrack"), tracker(tmp_path, sample=sample) as one:
        for number in range(3):
            RunnableLambda(lambda x: x).invoke(number, {"callbacks": [one]})
    assert [trace.weight for trace in traces_of(tmp_path)] == [1.0] * 3
    said = [record.getMessage() for record in caplog.records if "sample=" in record.getMessage()]
    assert len(said) == 1 and why in said[0] and "secret" not in said[0]


# -- its price ------------------------------------------------------------------------------------


def test_nothing_is_made_of_what_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No event is encoded, no answer of a model looked at, no error described: those come behind
    the check."""

    def never(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("too late")

    chain = RunnableLambda(lambda x: x) | FakeListChatModel(responses=["yes"])
    with tracker(tmp_path, **NOTHING) as handler:
        monkeypatch.setattr(Events, "encode", never)
        for name in ("request_attributes", "response_attributes", "describe_error"):
            monkeypatch.setattr(f"asynctrack._capture.capture.{name}", never)
        chain.invoke("x", {"callbacks": [handler]})
    assert (handler.statistics().sampled_out, dict(handler.statistics().dropped)) == (6, {})


def test_nothing_stands_in_front_where_all_is_kept(tmp_path: Path) -> None:
    """Without sampling, callbacks go the short way."""
    with tracker(tmp_path, **ALL) as handler:
        assert "on_chain_start" not in vars(handler._sink.capture)
        assert handler._sink.capture.events.sampling is None
    with tracker(tmp_path, sample=0.5) as handler:
        assert "on_chain_start" in vars(handler._sink.capture)


def test_options() -> None:
    """Keywords and environment say the same."""
    assert Options.resolve({}, {"ASYNCTRACK_SAMPLE": "0.25"}).sample == 0.25
    assert Options.resolve({}, {"ASYNCTRACK_KEEP_ERRORS": "true"}).keep_errors is True


@pytest.fixture(autouse=True)
def _no_sample_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("ASYNCTRACK_SAMPLE", raising=False)
    yield


def test_each_token_that_is_left_out_is_counted(tmp_path: Path) -> None:
    """With an event for each token, what is left out counts as many events as are stored else."""
    counts = []
    for sample in (0.0, 1.0):
        with tracker(tmp_path, tokens="each", sample=sample) as handler:
            list(FakeListChatModel(responses=["hello"]).stream("x", {"callbacks": [handler]}))
        counts.append((handler.statistics().accepted, handler.statistics().sampled_out))
    assert counts[0] == counts[1][::-1] and counts[0][1] >= 7
