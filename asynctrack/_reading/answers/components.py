"""A Run by its components: which tool fails most, which model is slow, what each of them costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from asynctrack._reading.index.asking import Asks

KINDS: Final = ("chain", "model", "tool", "retriever", "step")
"""The kinds of components, in the order in which they are shown."""
ERRORS: Final = 3
"""How many types of errors are told of each component."""


@dataclass(frozen=True, slots=True)
class Component:
    """What the calls of a tool, a model, a retriever or a chain have in common.

    Attributes:
        kind: ``tool``, ``model``, ``retriever``; ``chain``: the roots of traces, each with all
            that is in it; ``step``: a chain, a prompt or a parser inside a trace in which an error
            came up.
        name: Its name; of a model call, the model.
        calls: How many there are.
        failed: Calls that ended with an error.
        errors: The commonest types of their errors, and how many had them.
        p50: Seconds that half of the calls took at most; None where no call has ended.
        p95: Seconds that 95 of 100 took at most.
        first_p50: Seconds to the first token, of those that stream; of a chain, as its user feels
            it: from the start of the trace.
        first_p95: The same for 95 of 100.
        input_tokens: What its models read; None for tools, retrievers and steps.
        output_tokens: What its models wrote.
        cost: What its model calls cost, in USD; None where that is not known.
    """

    kind: str
    name: str
    calls: int
    failed: int
    errors: tuple[tuple[str, int], ...]
    p50: float | None
    p95: float | None
    first_p50: float | None
    first_p95: float | None
    input_tokens: int | None
    output_tokens: int | None
    cost: float | None


_LEAVES: Final = "('llm', 'chat_model', 'tool', 'retriever')"
_STEPS: Final = f"_depth > 0 AND kind NOT IN {_LEAVES}"
CALLS: Final = f"""
    SELECT if(kind IN ('llm', 'chat_model'), 'model', kind) AS kind,
        coalesce(if(kind IN ('llm', 'chat_model'), model, NULL), name, kind) AS name,
        outcome, error_type, duration, time_to_first_token AS first_token,
        input_tokens, output_tokens, cost
    FROM inside.spans WHERE kind IN {_LEAVES}
    UNION ALL
    SELECT 'chain', name, outcome, error_type, duration, time_to_first_token,
        input_tokens, output_tokens, cost
    FROM inside.traces WHERE _kind NOT IN {_LEAVES}
    UNION ALL
    SELECT 'step', coalesce(name, kind), outcome, error_type, duration, NULL, NULL, NULL, NULL
    FROM inside.spans WHERE {_STEPS} AND coalesce(name, kind) IN
        (SELECT coalesce(name, kind) FROM inside.spans WHERE _raised AND {_STEPS})
"""
"""Every call of a component."""


def components(tables: Asks) -> tuple[Component, ...]:
    """Return what the tables hold by component: by kind, those that fail most first. Blocks.

    Args:
        tables: With ``spans`` and ``traces``.
    """
    rows = tables.rows(
        f"WITH calls AS ({CALLS}) SELECT kind, name, count(*) AS calls,"
        " count(*) FILTER (outcome = 'error') AS failed,"
        " quantile_disc(duration, 0.5) AS p50, quantile_disc(duration, 0.95) AS p95,"
        " quantile_disc(first_token, 0.5) AS first_p50,"
        " quantile_disc(first_token, 0.95) AS first_p95,"
        " sum(input_tokens)::BIGINT AS input_tokens, sum(output_tokens)::BIGINT AS output_tokens,"
        " sum(cost) AS cost FROM calls GROUP BY kind, name"
    )
    errors = _errors(tables)
    found = [Component(errors=errors.get((row["kind"], row["name"]), ()), **row) for row in rows]
    return tuple(sorted(found, key=_place))


def _errors(tables: Asks) -> dict[tuple[str, str], tuple[tuple[str, int], ...]]:
    rows = tables.rows(
        f"WITH calls AS ({CALLS}), counted AS (SELECT kind, name,"
        " coalesce(error_type, '') AS type, count(*) AS count"
        " FROM calls WHERE outcome = 'error' GROUP BY ALL)"
        " SELECT * FROM counted QUALIFY row_number() OVER"
        f" (PARTITION BY kind, name ORDER BY count DESC, type) <= {ERRORS}"
        " ORDER BY count DESC, type"
    )
    found: dict[tuple[str, str], tuple[tuple[str, int], ...]] = {}
    for row in rows:
        of = row["kind"], row["name"]
        found[of] = (*found.get(of, ()), (row["type"], row["count"]))
    return found


def _place(one: Component) -> tuple[Any, ...]:
    return KINDS.index(one.kind), -one.failed, -one.calls, one.name
