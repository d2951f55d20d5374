"""Sampled Runs read back: what part is there, and what each trace stands for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.runnables import RunnableLambda

from asynctrack import open_run, tracker, verify
from asynctrack._common.outcome import OUTCOMES, Outcome
from asynctrack._reading.sources.sampled import Sampled, sampled_of, together
from asynctrack._reading.trees.sampling import weight_of
from asynctrack.cli import main
from tests.property.strategies import json_like, quick


def odd(number: int) -> int:
    if number % 4 == 0:
        raise ValueError("bad")
    return number


@pytest.fixture
def sampled(tmp_path: Path) -> Path:
    """80 traces, 20 of which fail, at a rate of a quarter; the failed ones are kept."""
    chain = RunnableLambda(lambda x: x) | RunnableLambda(odd)
    with tracker(tmp_path, sample=0.25, keep_errors=True) as handler:
        chain.with_config({"callbacks": [handler]}).batch([*range(80)], return_exceptions=True)
    return tmp_path


def test_weights(sampled: Path) -> None:
    """A failed trace counts once, any other four times, in Python, in tables and in SQL."""
    run = open_run(sampled)
    traces = list(run.traces())
    assert {(trace.outcome, trace.weight) for trace in traces} == {("error", 1.0), ("ok", 4.0)}
    assert sum(trace.weight for trace in traces if trace.failed) == 20
    about = sum(trace.weight for trace in traces)
    assert 20 < about <= 20 + 4 * 60
    frame = run.to_pandas()
    roots = frame[frame["parent_span_id"].isna()]
    assert roots["weight"].sum() == about and len(frame) == 3 * len(traces)
    rows = run.to_duckdb().execute("SELECT sum(weight) FROM spans").fetchall()
    assert rows == [(3 * about,)]


def test_weights_in_questions(sampled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``asynctrack query`` has the weight on traces and on spans."""
    about = sum(trace.weight for trace in open_run(sampled).traces())
    for table, times in (("traces", 1), ("spans", 3)):
        assert main(["query", str(sampled), f"SELECT sum(weight) w FROM {table}", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["rows"] == [{"w": times * about}]


def test_what_part_is_there(sampled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The Run, ``verify`` and ``asynctrack show`` say how many of how many traces are there."""
    run = open_run(sampled)
    sampling = run.sampling
    assert sampling is not None
    assert (sampling.rate, sampling.keep_errors, sampling.traces) == (0.25, True, 80)
    assert sampling.kept == len(list(run.traces())) == 80 - sampling.traces_left_out
    assert sampling.events_left_out == 6 * sampling.traces_left_out
    said = f"{sampling.kept} of 80 traces kept (sample=0.25;"
    assert str(sampling).startswith(said)
    assert said in str(verify(sampled))
    assert said in run._repr_html_()
    assert main(["show", str(sampled)]) == 0
    assert said in capsys.readouterr().out
    assert main(["show", str(sampled), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sampling"]["traces_kept"] == sampling.traces_kept


def test_metrics_are_of_what_is_kept(sampled: Path) -> None:
    """The Run's metrics count the traces that are there: those that were held when it was known."""
    run = open_run(sampled)
    traces = list(run.traces())
    assert run.metrics["asynctrack.trace.count"].sum == len(traces)
    assert run.metrics["asynctrack.trace.errors"].sum == 20


def test_without_sampling_nothing_is_said(tmp_path: Path) -> None:
    """Where all is kept each trace counts once, and nobody speaks of a sample."""
    with tracker(tmp_path) as handler:
        RunnableLambda(str.upper).invoke("x", {"callbacks": [handler]})
    run = open_run(tmp_path)
    assert [trace.weight for trace in run.traces()] == [1.0]
    assert run.sampling is None and "sample" not in str(verify(tmp_path))
    (manifest,) = tmp_path.rglob("_manifest/*.json")
    assert "sampling" not in json.loads(manifest.read_bytes())


@pytest.mark.parametrize(
    ("said", "outcome", "weight"),
    [
        ({"rate": 0.1}, "ok", 10.0),
        ({"rate": 0.1}, "error", 10.0),
        ({"rate": 0.1, "keep_errors": True}, "error", 1.0),
        ({"rate": 0.1, "keep_errors": True}, "unfinished", 1.0),
        ({"rate": 0.1, "keep_errors": True}, "abandoned", 1.0),
        ({"rate": 0.1, "keep_errors": True}, "interrupted", 10.0),
        ({"rate": 0.0, "keep_errors": True}, "error", 1.0),
        ({"rate": 0}, "ok", 1.0),
    ],
)
def test_the_weight(said: Any, outcome: Outcome, weight: float) -> None:
    """It is one over how likely a trace of this rate and outcome is kept."""
    assert weight_of({"sampling": said}, outcome) == weight


@quick
@given(json_like, st.sampled_from(OUTCOMES))
def test_whatever_stands_there(said: Any, outcome: Outcome) -> None:
    """What is logged under that name, or in a manifest, is never believed to be something else."""
    assert weight_of({"sampling": said}, outcome) >= 1
    assert weight_of({"sampling": {"rate": said}}, outcome) >= 1
    for one in (said, {"rate": said, "traces_kept": said, "keep_errors": said}):
        read = sampled_of(one)
        assert read is None or (read.traces >= 0 and str(read))


@quick
@given(
    st.lists(
        st.none() | st.builds(Sampled, st.none() | st.floats(0, 1), st.booleans(), st.integers(0))
    )
)
def test_several_writers(several: Sequence[Sampled | None]) -> None:
    """Counts add up; the rate is said where there is one."""
    total = together(several)
    given_ = [one for one in several if one is not None]
    assert (total is None) is (not given_)
    if total is not None:
        assert total.traces == sum(one.traces for one in given_)
        assert total.rate in {one.rate for one in given_} | {None}
