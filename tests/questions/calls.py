"""Questions about calls: what fails, what it costs, what is slow."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from math import ceil
from typing import Any, Final

from asynctrack import Span
from tests.questions.asking import RUNS, Asker, Question, usd
from tests.support.bot import RunTruth, Truth

_KINDS: Final = {"tool": "tool", "retriever": "retriever", "chat_model": "model"}


# -- how the Runs did ---------------------------------------------------------------------------


def _totals(truth: Truth) -> Any:
    return {run.run: _totals_of(run) for run in truth.runs}


def _totals_of(run: RunTruth) -> Any:
    usages = run.usage.values()
    return {
        "traces": len(run.turns),
        "failed": run.outcomes["error"],
        "cancelled": run.outcomes["cancelled"],
        "recovered": run.recovered,
        "model_calls": sum(model.calls for model in run.models.values()),
        "input_tokens": sum(usage.input_tokens for usage in usages),
        "output_tokens": sum(usage.output_tokens for usage in usages),
        "cache_read_tokens": sum(usage.cache_read_tokens for usage in usages),
        "cost": usd(sum(usage.cost for usage in usages)),
    }


def _chosen(summary: Mapping[str, Any], truth: Truth) -> Any:
    names = _totals_of(truth.runs[0])
    return {name: usd(summary[name]) if name == "cost" else summary[name] for name in names}


def _totals_by_show(asker: Asker) -> Any:
    shown = {run: asker.cli("show", asker.run(run).uris[0]) for run in RUNS}
    return {run: _chosen(document, asker.played.truth) for run, document in shown.items()}


def _totals_by_python(asker: Asker) -> Any:
    rows = {run: asker.run(run).summary().row() for run in RUNS}
    return {run: _chosen(row, asker.played.truth) for run, row in rows.items()}


def _totals_by_sql(asker: Asker) -> Any:
    rows = asker.sql(
        "SELECT run, count(*) AS traces, count(*) FILTER (outcome = 'error') AS failed,"
        " count(*) FILTER (outcome = 'cancelled') AS cancelled, sum(recovered) AS recovered,"
        " sum(model_calls) AS model_calls, sum(input_tokens) AS input_tokens,"
        " sum(output_tokens) AS output_tokens, sum(cache_read_tokens) AS cache_read_tokens,"
        " sum(cost) AS cost FROM traces GROUP BY run"
    )
    return {row["run"]: _chosen(row, asker.played.truth) for row in rows}


# -- which tool fails most, and why -------------------------------------------------------------


def _failures(truth: Truth) -> Any:
    return {
        (run.run, kind, name): (one.calls, dict(one.errors))
        for run in truth.runs
        for kind, calls in (
            ("tool", run.tools),
            ("retriever", run.retrievers),
            ("model", run.models),
        )
        for name, one in calls.items()
    }


def _failures_by_sql(asker: Asker) -> Any:
    found: dict[Any, tuple[int, dict[str, int]]] = {}
    for row in asker.sql(
        "SELECT run, kind, coalesce(model, name) AS name, count(*) AS calls,"
        " CASE outcome WHEN 'error' THEN error_type END AS error FROM spans"
        " WHERE kind IN ('tool', 'retriever', 'chat_model') GROUP BY ALL"
    ):
        key = row["run"], _KINDS[row["kind"]], row["name"]
        calls, errors = found.get(key, (0, {}))
        if row["error"] is not None:
            errors[row["error"]] = row["calls"]
        found[key] = calls + row["calls"], errors
    return found


def _failures_by_python(asker: Asker) -> Any:
    calls: Counter[Any] = Counter()
    errors: dict[Any, Counter[str]] = defaultdict(Counter)
    for run, span in _spans(asker):
        if span.kind in _KINDS:
            key = run, _KINDS[span.kind], span.model or span.name
            calls[key] += 1
            if span.error is not None and span.outcome == "error":
                errors[key][span.error.type] += 1
    return {key: (count, dict(errors[key])) for key, count in calls.items()}


def _spans(asker: Asker) -> Iterable[tuple[str, Span]]:
    return ((run, span) for run, trace in asker.traces() for span in trace.walk())


# -- tokens and cost by model -------------------------------------------------------------------


def _usage(truth: Truth) -> Any:
    return {
        (run.run, model): (
            usage.input_tokens,
            usage.cache_read_tokens,
            usage.output_tokens,
            usd(usage.cost),
        )
        for run in truth.runs
        for model, usage in run.usage.items()
    }


def _usage_by_sql(asker: Asker) -> Any:
    rows = asker.sql(
        "SELECT run, model, sum(input_tokens) AS read,"
        " coalesce(sum(cache_read_tokens), 0) AS cached, sum(output_tokens) AS written,"
        " sum(cost) AS cost FROM spans WHERE kind = 'chat_model' GROUP BY ALL"
    )
    return {
        (row["run"], row["model"]): (row["read"], row["cached"], row["written"], usd(row["cost"]))
        for row in rows
    }


def _usage_by_python(asker: Asker) -> Any:
    names = ["input_tokens", "cache_read_tokens", "output_tokens", "cost"]
    return {
        (run, model): (*map(int, row[names[:3]]), usd(row["cost"]))
        for run in RUNS
        for model, row in asker.run(run).to_pandas().groupby("model")[names].sum().iterrows()
    }


# -- p95 by model -------------------------------------------------------------------------------


def _p95(truth: Truth) -> Any:
    """By model, the least and the most that it may be: a handler's time has the model's in it, and
    is in that of the turn."""
    return {
        (run.run, model): (
            _quantile(seconds),
            _quantile(seconds) + max(turn.ended - turn.began for turn in run.turns) / 1e9,
        )
        for run in truth.runs
        for model, seconds in run.model_seconds.items()
    }


def _quantile(seconds: Iterable[float]) -> float:
    ordered = sorted(seconds)
    return ordered[ceil(0.95 * len(ordered)) - 1]


def _p95_by_sql(asker: Asker) -> Any:
    rows = asker.sql(
        "SELECT run, model, quantile_disc(duration, 0.95) AS p95 FROM spans"
        " WHERE kind = 'chat_model' AND outcome = 'ok' GROUP BY ALL"
    )
    return {(row["run"], row["model"]): row["p95"] for row in rows}


def _p95_by_python(asker: Asker) -> Any:
    seconds: dict[Any, list[float]] = defaultdict(list)
    for run, span in _spans(asker):
        if span.kind == "chat_model" and span.outcome == "ok" and span.duration is not None:
            seconds[run, span.model].append(span.duration)
    return {key: _quantile(each) for key, each in seconds.items()}


def _within(bounds: Mapping[Any, tuple[float, float]], answer: Mapping[Any, float]) -> bool:
    return bounds.keys() == answer.keys() and all(
        least <= answer[key] <= most for key, (least, most) in bounds.items()
    )


# -- time to the first token --------------------------------------------------------------------


def _first_token(truth: Truth) -> Any:
    """By trace, the least and the most: a handler hears the model before the user does."""
    return {
        turn.trace_id: (0.0, turn.first_text)
        for run in truth.runs
        for turn in run.turns
        if turn.first_text is not None
    }


def _first_token_by_sql(asker: Asker) -> Any:
    rows = asker.sql(
        "SELECT trace_id, time_to_first_token AS first FROM traces"
        " WHERE time_to_first_token IS NOT NULL"
    )
    return {row["trace_id"]: row["first"] for row in rows}


def _first_token_by_python(asker: Asker) -> Any:
    firsts = {trace.trace_id: trace.time_to_first_token for _, trace in asker.traces()}
    return {trace_id: first for trace_id, first in firsts.items() if first is not None}


# -- the slowest step of the slowest trace ------------------------------------------------------


def _slowest(truth: Truth) -> Any:
    return {run.run: run.slowest for run in truth.runs}


def _slowest_by_sql(asker: Asker) -> Any:
    rows = asker.sql(
        "SELECT run, trace_id, name FROM spans WHERE (run, trace_id) IN"
        " (SELECT (run, arg_max(trace_id, duration)) FROM traces GROUP BY run)"
        " QUALIFY row_number() OVER (PARTITION BY run ORDER BY self_time DESC) = 1"
    )
    return {row["run"]: (row["trace_id"], row["name"]) for row in rows}


def _slowest_by_python(asker: Asker) -> Any:
    found = {}
    for run in RUNS:
        trace = max(asker.run(run).traces(), key=lambda one: one.duration or 0)
        leaves = [span for span in trace.walk() if not span.children]
        found[run] = trace.trace_id, max(leaves, key=lambda one: one.duration or 0).name
    return found


def _slowest_by_show(asker: Asker) -> Any:
    found = {}
    for run in RUNS:
        uri = asker.run(run).uris[0]
        trace_id = asker.cli("show", uri, "--top", 1)["slowest_traces"][0]["trace_id"]
        steps = asker.command("trace", uri, trace_id, "--json").document["spans"]
        steps = [one for one in steps if one["kind"] != "chain"]
        found[run] = trace_id, max(steps, key=lambda one: one["duration"])["name"]
    return found


QUESTIONS: Final = (
    Question(
        "how did the two Runs do",
        _totals,
        {"show": _totals_by_show, "python": _totals_by_python, "sql": _totals_by_sql},
    ),
    Question(
        "which tool fails most, and why",
        _failures,
        {"sql": _failures_by_sql, "python": _failures_by_python},
    ),
    Question(
        "tokens and cost by model",
        _usage,
        {"sql": _usage_by_sql, "python": _usage_by_python},
    ),
    Question("p95 by model", _p95, {"sql": _p95_by_sql, "python": _p95_by_python}, _within),
    Question(
        "time to the first token, as the user feels it",
        _first_token,
        {"sql": _first_token_by_sql, "python": _first_token_by_python},
        _within,
    ),
    Question(
        "the slowest step of the slowest trace",
        _slowest,
        {"sql": _slowest_by_sql, "python": _slowest_by_python, "show": _slowest_by_show},
    ),
)
