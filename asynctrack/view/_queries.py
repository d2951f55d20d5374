"""The questions that pages ask of the index. Every function blocks: it is called in a thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from asynctrack._common.outcome import OUTCOMES
from asynctrack._reading.answers.components import components as components_of

from ._filters import OF_SPAN, OF_TRACE, PAGE, SORTS, Filters, of_runs
from ._index import Index
from ._scope import Scope

WAITS: Final = 20
"""Questions of a paused trace that its page lists."""
SPANS: Final = 400
"""Spans of a trace that are sent together."""
FACETS: Final = 100
"""Names, tags and models that are offered to choose from."""
AROUND: Final = 80
"""Characters before and after the begin of a word that was found which a list shows."""
FACETED: Final = ("name", "model", "ended", "error", "tag", "session", "user")
"""What is offered of them."""
_LISTS: Final = {"name": "names", "model": "models", "tag": "tags"}
BINS: Final = 24
"""Bins of a histogram for each power of ten."""
BUCKETS: Final = 60
"""Buckets of a chart over time."""

Rows = list[dict[str, Any]]

_MARKS: Final = "[0.5, 0.9, 0.95, 0.99]"
_FAILED: Final = "count(*) FILTER (outcome = 'error') AS failed"
"""The only way in which a trace fails, or a span: an error below a good root is recovered."""
_OTHERS: Final = tuple(one for one in OUTCOMES if one != "error")
_OUTCOMES: Final = ", ".join(f"count(*) FILTER (outcome = '{one}') AS {one}" for one in _OTHERS)
COUNTED: Final = ("failed", *_OTHERS, "recovered")
"""What is counted of how traces ended."""
_TOTALS: Final = f"""
    count(*) AS traces, {_FAILED}, {_OUTCOMES},
    sum(recovered)::BIGINT AS recovered,
    sum(spans)::BIGINT AS spans, sum(errors)::BIGINT AS errors,
    sum(model_calls)::BIGINT AS model_calls,
    sum(input_tokens)::BIGINT AS input_tokens, sum(output_tokens)::BIGINT AS output_tokens,
    sum(cache_read_tokens)::BIGINT AS cache_read_tokens,
    sum(reasoning_tokens)::BIGINT AS reasoning_tokens,
    sum(cost) AS cost,
    min(start) AS first_start, max(start) AS last_start,
    quantile_disc(duration, {_MARKS}) AS latency, max(duration) AS slowest,
    quantile_disc(first_token, {_MARKS}) AS first_token
"""  # nothing of it comes from outside
_LISTED: Final = """
    trace_id, writer_id, session_id, user_id, thread_id,
    name, outcome, cause, start, duration, spans, recovered, model_calls,
    input_tokens, output_tokens, cache_read_tokens, reasoning_tokens, cost, error, asks, models,
    tags, input, output, spooled
"""


def totals(index: Index, runs: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Return counts and percentiles of Runs, by their numbers."""
    rows = index.query(
        f"SELECT run, {_TOTALS} FROM traces WHERE run IN (SELECT unnest($runs)) GROUP BY run",
        {"runs": list(runs)},
    )
    return {row.pop("run"): row for row in rows}


def chosen(
    index: Index, runs: Sequence[int], version: int, filters: Filters
) -> tuple[str, dict[str, Any]]:
    """Return the conditions for the traces that filters choose, searched by their text already."""
    search = filters.search(runs)
    matches = None
    if search is not None:
        matches = index.matches(runs, version, filters.text, *search)
    return filters.where(runs, matches)


def traces(
    index: Index, run: int, filters: Filters, sort: str, page: int, version: int = 0
) -> Rows:
    """Return one page of traces, and the first one of the next page."""
    where, values = chosen(index, [run], version, filters)
    words = filters.words[:1]
    around, given = "NULL AS found", {}
    if words:
        around = (
            "CASE WHEN contains(words, $found) THEN substr(words,"
            f" greatest(1, instr(words, $found) - {AROUND}), {2 * AROUND}) END AS found"
        )
        given = {"found": words[0]}
    # Find the page's rows by two small columns, and only then read the rest of them.
    rows = index.query(
        f"SELECT {_LISTED}, {around} FROM traces WHERE no IN"
        f" (SELECT no FROM traces WHERE {where} ORDER BY {SORTS[sort]}"
        f" LIMIT {PAGE + 1} OFFSET $skip) ORDER BY {SORTS[sort]}",
        {**values, **given, "skip": page * PAGE},
    )
    for row in rows:
        if row["found"] is not None:
            shown = (row["name"], row["input"], row["output"], row["error"], row["asks"])
            seen = any(words[0] in (text or "").lower() for text in shown)
            row["found"] = None if seen else _line_of(row["found"], words[0])
    return rows


def _line_of(text: str, word: str) -> str:
    """Return the text that a word is in, of several, each on lines of its own."""
    before, found, after = text.partition(word)
    return before.rpartition("\n")[2] + found + after.partition("\n")[0]


def overview(index: Index, run: int, filters: Filters, version: int = 0) -> dict[str, Any]:
    """Return counts, percentiles, the latency histogram and the course over time of traces."""
    where, values = chosen(index, [run], version, filters)
    query = f"""
        WITH chosen AS MATERIALIZED (
            SELECT outcome, cause, recovered, spans, errors, model_calls, input_tokens,
                output_tokens, cache_read_tokens, reasoning_tokens, cost, start, duration,
                first_token
            FROM traces WHERE {where}
        ), counted AS (SELECT {_TOTALS} FROM chosen),
        bins AS (
            SELECT floor(log10(greatest(duration, 1e-6)) * {BINS})::INT AS bin, count(*) AS traces,
                {_FAILED}
            FROM chosen WHERE duration IS NOT NULL GROUP BY bin
        ), buckets AS (
            SELECT least({BUCKETS - 1}, (start - first_start)
                    // greatest(1, (last_start - first_start) // {BUCKETS} + 1))::INT AS bucket,
                count(*) AS traces,
                count(*) FILTER (chosen.outcome = 'error') AS failed,
                quantile_disc(duration, 0.5) AS p50, quantile_disc(duration, 0.95) AS p95,
                sum(chosen.input_tokens + chosen.output_tokens)::BIGINT AS tokens
            FROM chosen, counted WHERE start IS NOT NULL GROUP BY bucket
        )
        SELECT (SELECT counted FROM counted) AS totals,
            (SELECT list(bins ORDER BY bin) FROM bins) AS bins,
            (SELECT list(buckets ORDER BY bucket) FROM buckets) AS buckets
    """
    rows = index.query(query, values)
    found = rows[0] if rows else {"totals": None, "bins": None, "buckets": None}
    return {
        "totals": found["totals"],
        "bins": [
            {**one, "from": 10 ** (one["bin"] / BINS), "to": 10 ** ((one["bin"] + 1) / BINS)}
            for one in found["bins"] or ()
        ],
        "per_ten": BINS,
        "bucket_count": BUCKETS,
        "buckets": found["buckets"] or [],
    }


def facets(
    index: Index, runs: Sequence[int], filters: Filters, version: int = 0
) -> dict[str, Rows]:
    """Return what the traces can be chosen by, the most frequent first.

    Each is counted as the other filters have it: what can be chosen in its place, too.
    """
    found: dict[str, Rows] = {}
    for name in FACETED:
        others = filters.without(name)
        where, values = chosen(index, runs, version, others)
        span, given = others.span()
        if name in _LISTS and not (given and name in OF_SPAN):
            rows = f"SELECT unnest({_LISTS[name]}) AS value, no FROM traces WHERE {where}"
        elif name in OF_SPAN:
            of, _ = of_runs(runs)
            rows = (
                f"SELECT DISTINCT {OF_SPAN[name]} AS value, no FROM spans WHERE {of} AND {span}"
                f" AND no IN (SELECT no FROM traces WHERE {where})"
            )
        else:
            rows = f"SELECT {OF_TRACE[name]} AS value, no FROM traces WHERE {where}"
        found[name] = index.query(
            f"SELECT value, count(*) AS traces FROM ({rows}) WHERE value IS NOT NULL"
            f" GROUP BY value ORDER BY traces DESC, value LIMIT {FACETS}",
            values,
        )
    return found


def trace(index: Index, run: int, trace_id: str, writer_id: str | None) -> Rows:
    """Return a trace; several if several writers recorded it, or if its id came again."""
    condition = "" if writer_id is None else " AND writer_id = $writer"
    values: dict[str, Any] = {"run": run, "trace": trace_id}
    if writer_id is not None:
        values["writer"] = writer_id
    return index.query(
        f"SELECT no, {_LISTED}, first_token, resumes, chosen FROM traces"
        f" WHERE run = $run AND trace_id = $trace{condition} ORDER BY no DESC LIMIT 20",
        values,
    )


def neighbours(
    index: Index, run: int, start: int | None, number: int, session: str | None
) -> dict[str, Any]:
    """Return the ids of the traces that started right before and after one: of all, and of its
    session."""
    found: dict[str, Any] = {}
    if start is None:
        return found
    values = {"run": run, "start": start, "no": number}
    for name, turn, sign, order in (
        ("older", "previous_turn", "<", "DESC"),
        ("newer", "next_turn", ">", "ASC"),
    ):
        for which, condition, more in (
            (name, "", {}),
            (turn, " AND session_id = $session", {"session": session}),
        ):
            if which == turn and session is None:
                continue
            rows = index.query(
                f"SELECT trace_id, writer_id FROM traces WHERE run = $run{condition}"
                f" AND (start, no) {sign} ($start, $no) ORDER BY start {order}, no {order} LIMIT 1",
                {**values, **more},
            )
            if rows:
                found[which] = rows[0]
    return found


def resumed_by(index: Index, run: int, trace_id: str) -> dict[str, Any] | None:
    """Return the ids of the trace that a paused one went on as; None where none did."""
    rows = index.query(
        "SELECT trace_id, writer_id FROM traces WHERE run = $run AND resumes = $trace"
        " ORDER BY no LIMIT 1",
        {"run": run, "trace": trace_id},
    )
    return rows[0] if rows else None


def waits(index: Index, number: int) -> Rows:
    """Return the spans where a paused trace waits, with what they ask."""
    return index.query(
        "SELECT place, name, hands_on AS asks FROM spans"
        " WHERE no = $no AND cause = 'pause' AND hands_on IS NOT NULL"
        f" ORDER BY place LIMIT {WAITS}",
        {"no": number},
    )


def spans(index: Index, number: int, after: int) -> Rows:
    """Return spans of a trace, parents before children, without their payloads."""
    return index.query(
        "SELECT place, depth, span_id, parent_span_id, name, kind, outcome, cause, start, duration,"
        " self_time, model, input_tokens, output_tokens, cost, first_token, error, hands_on, orphan"
        " FROM spans"
        f" WHERE no = $no AND place >= $after ORDER BY place LIMIT {SPANS}",
        {"no": number, "after": after},
    )


def shape(index: Index, number: int) -> Rows:
    """Return what is told of all spans of a trace by the others, parents before children."""
    return index.query(
        "SELECT depth, name, kind, outcome, start, duration, error, orphan FROM spans"
        " WHERE no = $no ORDER BY place",
        {"no": number},
    )


def bounds(index: Index, number: int) -> dict[str, Any]:
    """Return when the first span of a trace starts and the last one ends.

    A span ends so long after its start as it took: meanwhile the clock may have been set.
    """
    rows = index.query(
        "SELECT min(start) AS first,"
        " max(start::HUGEINT + (coalesce(duration, 0) * 1e9)::HUGEINT) AS last"
        " FROM spans WHERE no = $no",
        {"no": number},
    )
    return rows[0] if rows else {"first": None, "last": None}


def span(index: Index, number: int, place: int) -> dict[str, Any] | None:
    """Return a span with its payloads."""
    rows = index.query(
        "SELECT * FROM spans WHERE no = $no AND place = $place",
        {"no": number, "place": place},
    )
    return rows[0] if rows else None


def components(index: Index, runs: Sequence[int], filters: Filters, version: int = 0) -> Rows:
    """Return the chosen traces by tool, model, retriever and chain: those that fail most first."""
    where, values = chosen(index, runs, version, filters)
    return [asdict(one) for one in components_of(Scope(index, where, values))]
