"""Generated Runs are what a tracker would have written."""

from __future__ import annotations

from pathlib import Path

import asynctrack
from benchmarks import generate


def test_generated_runs_are_sound_and_varied(tmp_path: Path) -> None:
    """Keys, checksums, numbers and trees are in order; models, days, errors and times differ."""
    events = generate.generate(
        tmp_path, 6_000, runs=2, writers=2, days=2, batch_events=500, experiment="made"
    )
    report = asynctrack.verify(tmp_path)
    assert report.ok, str(report)
    assert report.events == events >= 6_000
    experiment = asynctrack.open_experiment(tmp_path)
    assert [run.name for run in experiment] == ["run-1", "run-2"]
    run = experiment["run-1"]
    traces = list(run.traces())
    assert all(trace.complete and len(trace.roots) == 1 for trace in traces)
    spans = [span for trace in traces for span in trace.walk()]
    assert len({span.span_id for span in spans}) == len(spans)
    assert {span.model for span in spans if span.kind == "chat_model"} == set(generate.MODELS)
    assert {"tool", "retriever", "prompt", "parser"} < {span.kind for span in spans}
    assert any(span.error for span in spans)
    assert any(span.stream for span in spans)
    assert len({(span.start_unix_nano or 0) // (86_400 * 10**9) for span in spans}) == 2
    assert len({span.duration for span in spans if span.kind == "chat_model"}) > 100
    sums = {name: metric.sum for name, metric in run.metrics.items()}
    summary = run.summary()
    assert sums["asynctrack.trace.count"] == summary.traces == len(traces)
    assert sums["asynctrack.trace.errors"] == summary.failed > 0
    assert sums["gen_ai.usage.input_tokens"] == summary.input_tokens
    assert sums["gen_ai.usage.output_tokens"] == summary.output_tokens
    assert all("fish 0" not in str(span.inputs) for span in spans)


def test_the_same_arguments_draw_the_same(tmp_path: Path) -> None:
    """Ids, models and token counts are drawn from the seed."""
    drawn = []
    for name in ("a", "b"):
        generate.generate(tmp_path / name, 500, seed=3)
        run = asynctrack.open_run(tmp_path / name)
        drawn.append([(event.trace_id, event.attributes) for event in run.events()])
    assert sorted(drawn[0], key=str) == sorted(drawn[1], key=str)
