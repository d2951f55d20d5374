"""``open_experiment``: Runs side by side."""

from __future__ import annotations

import sys
from array import array
from pathlib import Path

import pytest

from asynctrack._errors import MissingExtraError, NotFoundError, OptionError, SeveralRunsError
from asynctrack._reading.experiment import open_experiment
from asynctrack._reading.trees.summary import percentiles
from tests.reading.making import RunFolder, event


def filled(folder: RunFolder, temperature: float, nanos: int) -> RunFolder:
    """A Run with ten traces of one model call each, the last of which fails."""
    events, seq, time = [], 0, 1_767_225_600 * 10**9
    for number in range(1, 11):
        span = f"s{number}"
        seq += 2
        time += nanos * 10
        events.append(
            event(seq - 1, time=time, kind="chat_model_start", span_id=span, trace_id=span)
        )
        failed = number == 10
        events.append(
            event(
                seq, time=time + nanos * number, kind="llm_error" if failed else "llm_end",
                span_id=span, trace_id=span, error={"type": "E"} if failed else None,
                attributes={"gen_ai.usage.input_tokens": number},
            )
        )  # fmt: skip
    folder.artifact(events)
    score = {"count": 1, "sum": 1.0, "min": 1.0, "max": 1.0, "last": temperature * 2}
    folder.manifest(parameters={"temperature": temperature}, metrics={"score": score})
    return folder


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """An experiment of two Runs."""
    filled(RunFolder(tmp_path, run="cold"), 0.1, 10**6)
    filled(RunFolder(tmp_path, run="hot"), 0.9, 10**7)
    return tmp_path


def test_runs_are_compared(experiment: Path) -> None:
    """Parameters, metrics, percentiles of latency and tokens, and errors of each Run."""
    found = open_experiment(experiment)
    assert (found.name, [run.name for run in found]) == ("jokes", ["cold", "hot"])
    cold, hot = found.summaries
    assert (cold.traces, cold.spans, cold.failed, cold.errors, cold.unfinished) == (10, 10, 1, 1, 0)
    assert (cold.trace_seconds.p50, cold.trace_seconds.p95) == (0.005, 0.01)
    assert (hot.model_seconds.p90, hot.model_seconds.max) == (0.09, 0.1)
    assert (cold.input_tokens, cold.call_input_tokens.p50, cold.output_tokens) == (55, 5.0, 0)
    assert cold.call_output_tokens.p50 is None
    assert cold.closed
    frame = found.to_pandas()
    assert list(frame["parameters.temperature"]) == [0.1, 0.9]
    assert list(frame["metrics.score"]) == [0.2, 1.8]
    assert list(frame["trace_seconds.p50"]) == [0.005, 0.05]
    assert list(frame["errors"]) == [1, 1]


def test_an_experiment_is_found_by_its_name(experiment: Path) -> None:
    """By name below a folder, and by its own folder, among others."""
    filled(RunFolder(experiment, experiment="other"), 0.5, 10**6)
    assert len(open_experiment("jokes", root=experiment)) == 2
    folder = experiment / "asynctrack/v1/experiment=jokes"
    assert open_experiment(folder)["hot"].name == "hot"
    with pytest.raises(SeveralRunsError, match="there are 2 experiments") as caught:
        open_experiment(experiment)
    assert [open_experiment(one).name for one in caught.value.found] == ["jokes", "other"]


def test_what_is_not_there_is_an_error(experiment: Path) -> None:
    """A name that is not there, a Run that is not there, a source of another kind."""
    with pytest.raises(NotFoundError, match="nobody"):
        open_experiment("nobody", root=experiment)
    with pytest.raises(KeyError, match="run=cold"):
        open_experiment(experiment)["warm"]
    with pytest.raises(OptionError):
        open_experiment(7)  # type: ignore[arg-type]  # wrong on purpose


def test_a_missing_extra_is_named(experiment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pandas the numbers are there, and the table names the extra."""
    monkeypatch.setitem(sys.modules, "pandas", None)
    found = open_experiment(experiment)
    assert len(found.summaries) == 2
    with pytest.raises(MissingExtraError, match=r"\[read\]"):
        found.to_pandas()


def test_percentiles_are_exact() -> None:
    """A percentile is the smallest value that so many are at most."""
    found = percentiles(array("d", range(100, 0, -1)))
    assert (found.p50, found.p90, found.p95, found.p99, found.max) == (50, 90, 95, 99, 100)
    assert percentiles(array("d", [7.0])).p50 == 7
    assert percentiles(array("d")).max is None
