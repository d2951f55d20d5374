"""What is slow: by component, and to the first token.

The truth is what is stored, summed up without asynctrack; the bot's own clock has bounds for it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final

from tests.questions.asking import RUNS, Asker, Played, Question, near
from tests.questions.failing import KINDS, components
from tests.questions.stored import mark

# -- p50 and p95 by component -------------------------------------------------------------------


def _marks(played: Played) -> Any:
    return {
        (run, kind, name): tuple(mark((call.duration for call in calls), at) for at in (50, 95))
        for run, stored in played.stored.items()
        for (kind, name), calls in stored.calls.items()
    }


_MARKS: Final = "quantile_disc(duration, 0.5) AS p50, quantile_disc(duration, 0.95) AS p95"


def _marks_by_sql(asker: Asker) -> Any:
    calls = asker.sql(
        f"SELECT run, kind, coalesce(model, name) AS name, {_MARKS} FROM spans"
        " WHERE kind IN ('tool', 'retriever', 'chat_model') GROUP BY ALL"
    )
    roots = asker.sql(f"SELECT run, 'chain' AS kind, name, {_MARKS} FROM traces GROUP BY ALL")
    return {
        (row["run"], KINDS.get(row["kind"], "chain"), row["name"]): (row["p50"], row["p95"])
        for row in calls + roots
    }


def _marks_by_python(asker: Asker) -> Any:
    seconds: dict[Any, list[float | None]] = defaultdict(list)
    for run, trace in asker.traces():
        seconds[run, "chain", trace.root.name].append(trace.duration)
        for span in trace.walk():
            if span.kind in KINDS:
                seconds[run, KINDS[span.kind], span.model or span.name].append(span.duration)
    return {key: (mark(each, 50), mark(each, 95)) for key, each in seconds.items()}


def _marks_by_table(asker: Asker, way: str) -> Any:
    return {
        (run, row["kind"], row["name"]): (row["p50"], row["p95"])
        for run, row in components(asker, way)
        if row["kind"] != "step"
    }


# -- the same, by the bot's own clock -----------------------------------------------------------


def _p95(played: Played) -> Any:
    """By model, the least and the most that it may be: a handler's time has the model's in it, and
    is in that of the turn."""
    return {
        (run.run, model): (
            mark(seconds, 95),
            (mark(seconds, 95) or 0) + max(turn.ended - turn.began for turn in run.turns) / 1e9,
        )
        for run in played.truth.runs
        for model, seconds in run.model_seconds.items()
    }


def _p95_by_sql(asker: Asker) -> Any:
    rows = asker.sql(
        "SELECT run, model, quantile_disc(duration, 0.95) AS p95 FROM spans"
        " WHERE kind = 'chat_model' AND outcome = 'ok' GROUP BY ALL"
    )
    return {(row["run"], row["model"]): row["p95"] for row in rows}


def _p95_by_pandas(asker: Asker) -> Any:
    found = {}
    for run in RUNS:
        frame = asker.played.frames[run].query("kind == 'chat_model' and outcome == 'ok'")
        for model, seconds in frame.groupby("model")["duration"]:
            found[run, model] = seconds.quantile(0.95, interpolation="higher")
    return found


def _within(bounds: Mapping[Any, tuple[float, float]], answer: Mapping[Any, float]) -> bool:
    return bounds.keys() == answer.keys() and all(
        least <= answer[key] <= most for key, (least, most) in bounds.items()
    )


# -- time to the first token, of each call ------------------------------------------------------


def _first_of_calls(played: Played) -> Any:
    return {
        (run, name): tuple(mark((call.first_token for call in calls), at) for at in (50, 95))
        for run, stored in played.stored.items()
        for (kind, name), calls in stored.calls.items()
        if kind == "model"
    }


def _first_of_calls_by_sql(asker: Asker) -> Any:
    rows = asker.sql(
        "SELECT run, model, quantile_disc(time_to_first_token, [0.5, 0.95]) AS marks FROM spans"
        " WHERE kind = 'chat_model' GROUP BY ALL"
    )
    return {(row["run"], row["model"]): tuple(row["marks"]) for row in rows}


def _first_of_calls_by_pandas(asker: Asker) -> Any:
    found = {}
    for run in RUNS:
        for model, frame in asker.played.frames[run].groupby("model"):
            seconds = frame["time_to_first_token"].dropna()
            found[run, model] = tuple(mark(seconds, at) for at in (50, 95))
    return found


def _first_by_table(asker: Asker, way: str, kind: str) -> Any:
    return {
        (run, row["name"]): (row["first_p50"], row["first_p95"])
        for run, row in components(asker, way)
        if row["kind"] == kind
    }


# -- time to the first token, of each trace -----------------------------------------------------


def _first(played: Played) -> Any:
    return {
        trace_id: first
        for stored in played.stored.values()
        for trace_id, first in stored.first_tokens.items()
    }


def _first_by_sql(asker: Asker) -> Any:
    rows = asker.sql(
        "SELECT trace_id, time_to_first_token AS first FROM traces"
        " WHERE time_to_first_token IS NOT NULL"
    )
    return {row["trace_id"]: row["first"] for row in rows}


def _first_by_python(asker: Asker) -> Any:
    firsts = {trace.trace_id: trace.time_to_first_token for _, trace in asker.traces()}
    return {trace_id: first for trace_id, first in firsts.items() if first is not None}


def _first_felt(played: Played) -> Any:
    """By trace, the least and the most: a handler hears the model before the user does."""
    return {
        turn.trace_id: (0.0, turn.first_text)
        for run in played.truth.runs
        for turn in run.turns
        if turn.first_text is not None
    }


def _first_of_chains(played: Played) -> Any:
    found = {}
    for run, stored in played.stored.items():
        for (kind, name), roots in stored.calls.items():
            if kind == "chain":
                firsts = [stored.first_tokens.get(root.trace_id) for root in roots]
                found[run, name] = mark(firsts, 50), mark(firsts, 95)
    return found


QUESTIONS: Final = (
    Question(
        "p50 and p95 by tool, model, retriever and chain",
        _marks,
        {
            "sql": _marks_by_sql,
            "python": _marks_by_python,
            "show": lambda asker: _marks_by_table(asker, "show"),
            "view": lambda asker: _marks_by_table(asker, "view"),
        },
        near,
    ),
    Question(
        "p95 by model, by the bot's own clock",
        _p95,
        {"sql": _p95_by_sql, "pandas": _p95_by_pandas},
        _within,
    ),
    Question(
        "time to the first token of calls, by model",
        _first_of_calls,
        {
            "sql": _first_of_calls_by_sql,
            "pandas": _first_of_calls_by_pandas,
            "show": lambda asker: _first_by_table(asker, "show", "model"),
            "view": lambda asker: _first_by_table(asker, "view", "model"),
        },
        near,
    ),
    Question(
        "time to the first token of each trace",
        _first,
        {"sql": _first_by_sql, "python": _first_by_python},
        near,
    ),
    Question(
        "time to the first token, as the user feels it",
        _first_felt,
        {"sql": _first_by_sql, "python": _first_by_python},
        _within,
    ),
    Question(
        "time to the first token of traces, by chain",
        _first_of_chains,
        {
            "show": lambda asker: _first_by_table(asker, "show", "chain"),
            "view": lambda asker: _first_by_table(asker, "view", "chain"),
        },
        near,
    ),
)
