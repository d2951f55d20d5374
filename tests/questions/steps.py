"""The slowest step of the slowest trace: what each step takes itself, and what is waited for."""

from __future__ import annotations

from typing import Any, Final

from tests.questions.asking import RUNS, Asker, Played, Question, near


def _slowest(played: Played) -> Any:
    return {run.run: run.slowest for run in played.truth.runs}


def _slowest_by_sql(asker: Asker) -> Any:
    rows = asker.sql(
        "SELECT run, trace_id, name FROM spans WHERE (run, trace_id) IN"
        " (SELECT (run, arg_max(trace_id, duration)) FROM traces GROUP BY run)"
        " QUALIFY row_number() OVER (PARTITION BY run ORDER BY self_time DESC) = 1"
    )
    return {row["run"]: (row["trace_id"], row["name"]) for row in rows}


def _slowest_by_pandas(asker: Asker) -> Any:
    found = {}
    for run in RUNS:
        trace = max(asker.played.traces[run], key=lambda one: one.duration or 0)
        frame = asker.played.frames[run].query(f"trace_id == '{trace.trace_id}'")
        slowest = frame.sort_values("self_time").iloc[-1]
        step = trace.find(slowest["span_id"])
        assert step is not None
        assert trace.find(name=step.name, kind=step.kind) is not None
        found[run] = trace.trace_id, step.name
    return found


def _slowest_by_text(asker: Asker) -> Any:
    found = {}
    for run in RUNS:
        shown = asker.text("show", asker.played.folder(run)).rstrip()
        command = shown.rpartition("\n")[2].split()  # it says what to ask next
        assert command[:2] == ["asynctrack", "trace"]
        tree = asker.text(*command[1:], "--timings")
        name = tree.partition("Slowest step: ")[2].partition(",")[0]
        lines = [line for line in tree.splitlines() if f"◆ {name} " in line]
        assert lines, "it is marked"
        assert not any("itself" in line for line in lines), "with none below it, that is all of it"
        found[run] = command[3], name
    return found


def _times(played: Played) -> Any:
    """Of each step how long it took itself and, in the viewer and for trace, how long it decided
    when the trace was over."""
    return {
        run: {
            span_id: (own, decides)
            for span_id, (own, decides) in stored.times(stored.slowest.trace_id).items()
        }
        for run, stored in played.stored.items()
    }


def _times_by_trace(asker: Asker) -> Any:
    found = {}
    for run, stored in asker.played.stored.items():
        shown = asker.cli("trace", asker.played.folder(run), stored.slowest.trace_id)
        found[run] = {
            span["span_id"]: (span["self_time"], span["critical_time"]) for span in shown["spans"]
        }
    return found


def _times_by_view(asker: Asker) -> Any:
    found = {}
    for run in RUNS:
        first = asker.page("traces", run, sort="slowest")["traces"][0]
        shown = asker.page("trace", run, trace=first["trace_id"])
        found[run] = {
            row["span_id"]: (row["self_time"], sum(end - begin for begin, end in row["critical"]))
            for row in shown["rows"]
        }
    return found


QUESTIONS: Final = (
    Question(
        "the slowest step of the slowest trace",
        _slowest,
        {"sql": _slowest_by_sql, "pandas": _slowest_by_pandas, "text": _slowest_by_text},
    ),
    Question(
        "what each step of the slowest trace took itself, and what of it was waited for",
        _times,
        {"trace": _times_by_trace, "view": _times_by_view},
        near,
    ),
)
