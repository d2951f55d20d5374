"""How the Runs did, which tool fails most and why, and what models cost."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final

from asynctrack import Span, open_experiment
from tests.questions.asking import RUNS, Asker, Played, Question, rows_of, usd
from tests.support.bot import EXPERIMENT, RunTruth

KINDS: Final = {"tool": "tool", "retriever": "retriever", "chat_model": "model"}
"""What is called, by the kinds of spans."""


# -- how the Runs did ---------------------------------------------------------------------------


def _totals(played: Played) -> Any:
    return {run.run: _totals_of(run) for run in played.truth.runs}


def _totals_of(run: RunTruth) -> dict[str, Any]:
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


def _chosen(summary: Mapping[str, Any], asker: Asker, without: tuple[str, ...] = ()) -> Any:
    names = _totals_of(asker.played.truth.runs[0])
    return {
        name: usd(summary[name]) if name == "cost" else summary[name]
        for name in names
        if name not in without
    }


def _totals_by_show(asker: Asker) -> Any:
    return {run: _chosen(asker.show(run), asker) for run in RUNS}


def _totals_by_python(asker: Asker) -> Any:
    rows = {run: asker.played.run(run).summary().row() for run in RUNS}
    return {run: _chosen(row, asker) for run, row in rows.items()}


def _totals_by_pandas(asker: Asker) -> Any:
    frame = open_experiment(asker.played.place, prices=asker.played.prices).to_pandas()
    return {row["run"]: _chosen(row, asker) for row in frame.to_dict("records")}


def _totals_by_sql(asker: Asker) -> Any:
    rows = asker.sql(
        "SELECT run, count(*) AS traces, count(*) FILTER (outcome = 'error') AS failed,"
        " count(*) FILTER (outcome = 'cancelled') AS cancelled, sum(recovered) AS recovered,"
        " sum(model_calls) AS model_calls, sum(input_tokens) AS input_tokens,"
        " sum(output_tokens) AS output_tokens, sum(cache_read_tokens) AS cache_read_tokens,"
        " sum(cost) AS cost FROM traces GROUP BY run"
    )
    return {row["run"]: _chosen(row, asker) for row in rows}


def _totals_by_view(asker: Asker) -> Any:
    return {run: _chosen(asker.page("overview", run)["totals"], asker) for run in RUNS}


_UNLISTED: Final = ("cancelled", "recovered")


def _totals_listed(played: Played) -> Any:
    return {
        run: {name: count for name, count in totals.items() if name not in _UNLISTED}
        for run, totals in _totals(played).items()
    }


def _totals_by_ls(asker: Asker) -> Any:
    (found,) = asker.cli("ls", asker.played.place, "--exact")["experiments"]
    assert found["experiment"] == EXPERIMENT
    return {run["run"]: _chosen(run, asker, _UNLISTED) for run in found["runs"]}


# -- which tool fails most, and why -------------------------------------------------------------


def _failures(played: Played) -> Any:
    return {
        (run.run, kind, name): (one.calls, dict(one.errors))
        for run in played.truth.runs
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
        key = row["run"], KINDS[row["kind"]], row["name"]
        calls, errors = found.get(key, (0, {}))
        if row["error"] is not None:
            errors[row["error"]] = row["calls"]
        found[key] = calls + row["calls"], errors
    return found


def _failures_by_python(asker: Asker) -> Any:
    calls: Counter[Any] = Counter()
    errors: dict[Any, Counter[str]] = defaultdict(Counter)
    for run, span in _spans(asker):
        if span.kind in KINDS:
            key = run, KINDS[span.kind], span.model or span.name
            calls[key] += 1
            if span.error is not None and span.outcome == "error":
                errors[key][span.error.type] += 1
    return {key: (count, dict(errors[key])) for key, count in calls.items()}


def _spans(asker: Asker) -> Iterable[tuple[str, Span]]:
    return ((run, span) for run, trace in asker.traces() for span in trace.walk())


def components(asker: Asker, way: str) -> Iterable[tuple[str, dict[str, Any]]]:
    """Yield the rows of the table by component, each with its Run's name: of ``asynctrack show``
    or of the Run's page in the viewer."""
    for run in RUNS:
        found = asker.show(run) if way == "show" else asker.page("components", run)
        for row in found["components"]:
            yield run, row


def _failures_by_table(asker: Asker, way: str) -> Any:
    found = {}
    for run, row in components(asker, way):
        assert row["failed"] == sum(count for _, count in row["errors"])
        if row["kind"] in KINDS.values():
            found[run, row["kind"], row["name"]] = row["calls"], dict(row["errors"])
    return found


def _worst(played: Played) -> Any:
    """The tool that comes first, its calls, its failures as they are printed, its errors."""
    found = {}
    for run in played.truth.runs:
        name, calls = max(run.tools.items(), key=lambda one: one[1].failed)
        share = f"{calls.failed / calls.calls:.1%}"
        errors = {error.rpartition(".")[2]: count for error, count in calls.errors.items()}
        found[run.run] = name, f"{calls.calls}", f"{calls.failed} ({share})", errors
    return found


def _worst_by_show(asker: Asker) -> Any:
    found = {}
    for run in RUNS:
        text = asker.text("show", asker.played.folder(run))
        tools = text.partition("\nTools\n")[2].splitlines()
        (name, calls, failed, *_, errors), *_ = rows_of(tools[1])
        said = {error: int(count) for error, count in re.findall(r"(\w+) (\d+)", errors)}
        found[run] = name, calls, failed, said
    return found


# -- tokens and cost by model -------------------------------------------------------------------


def _usage(played: Played) -> Any:
    return {
        (run.run, model): (
            usage.input_tokens,
            usage.cache_read_tokens,
            usage.output_tokens,
            usd(usage.cost),
        )
        for run in played.truth.runs
        for model, usage in run.usage.items()
    }


_BY_MODEL: Final = (
    "SELECT run, model, sum(input_tokens) AS read,"
    " coalesce(sum(cache_read_tokens), 0) AS cached, sum(output_tokens) AS written,"
    " sum(cost) AS cost FROM spans WHERE kind = 'chat_model' GROUP BY ALL"
)


def _usage_by_sql(asker: Asker) -> Any:
    return {
        (row["run"], row["model"]): (row["read"], row["cached"], row["written"], usd(row["cost"]))
        for row in asker.sql(_BY_MODEL)
    }


def _usage_by_duckdb(asker: Asker) -> Any:
    found = {}
    for run in RUNS:
        with asker.played.run(run).to_duckdb() as connection:
            asked = connection.sql(_BY_MODEL.replace("SELECT run", f"SELECT '{run}'"))
            found.update({(row[0], row[1]): (*row[2:5], usd(row[5])) for row in asked.fetchall()})
    return found


def _usage_by_python(asker: Asker) -> Any:
    names = ["input_tokens", "cache_read_tokens", "output_tokens", "cost"]
    return {
        (run, model): (*map(int, row[names[:3]]), usd(row["cost"]))
        for run in RUNS
        for model, row in asker.played.frames[run].groupby("model")[names].sum().iterrows()
    }


def _costs(played: Played) -> Any:
    return {key: (read, written, cost) for key, (read, _, written, cost) in _usage(played).items()}


def _costs_by_table(asker: Asker, way: str) -> Any:
    return {
        (run, row["name"]): (row["input_tokens"], row["output_tokens"], usd(row["cost"]))
        for run, row in components(asker, way)
        if row["kind"] == "model"
    }


QUESTIONS: Final = (
    Question(
        "how did the two Runs do",
        _totals,
        {
            "show": _totals_by_show,
            "python": _totals_by_python,
            "pandas": _totals_by_pandas,
            "sql": _totals_by_sql,
            "view": _totals_by_view,
        },
    ),
    Question("what does ls say of the Runs", _totals_listed, {"ls": _totals_by_ls}),
    Question(
        "which tool fails most, and why",
        _failures,
        {
            "sql": _failures_by_sql,
            "python": _failures_by_python,
            "show": lambda asker: _failures_by_table(asker, "show"),
            "view": lambda asker: _failures_by_table(asker, "view"),
        },
    ),
    Question("which tool fails most, as it is printed", _worst, {"show": _worst_by_show}),
    Question(
        "tokens and cost by model, and what the cache gave",
        _usage,
        {"sql": _usage_by_sql, "python": _usage_by_python, "duckdb": _usage_by_duckdb},
    ),
    Question(
        "tokens and cost by model",
        _costs,
        {
            "show": lambda asker: _costs_by_table(asker, "show"),
            "view": lambda asker: _costs_by_table(asker, "view"),
        },
    ),
)
