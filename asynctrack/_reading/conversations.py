"""Sessions and their turns: who talked, what it took and what was said, over any number of Runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from asynctrack._common import payload
from asynctrack._common.nearest import nearest
from asynctrack._common.outcome import Cause, Outcome
from asynctrack._reading.index.asking import Asks
from asynctrack._reading.index.chat import answered, asked
from asynctrack._reading.index.said import answer_of

TABLES: Final = ("spans", "traces", "feedback")
"""What must be open for the questions here."""
Group = Literal["session", "user"]
Sort = Literal["last", "cost", "tokens", "turns", "failed"]
SORTS: Final[tuple[Sort, ...]] = get_args(Sort)
NEAREST: Final = 5
"""Ids that are suggested in place of an unknown one."""
LIKELY: Final = 100
"""Of all ids, those that they are taken from."""


@dataclass(frozen=True, slots=True)
class Feedback:
    """What users said of traces, under one name.

    Attributes:
        name: What was judged: ``thumbs``, say.
        count: How often.
        mean: The mean score; None where none had one.
    """

    name: str
    count: int
    mean: float | None


@dataclass(frozen=True, slots=True)
class Session:
    """The traces of one session, or of one user, in numbers.

    Attributes:
        id: The session's id, or the user's.
        users: Who took part, by id.
        sessions: How many sessions there are: 1, but for a user.
        turns: How many traces.
        start_unix_nano: When the first one started.
        last_unix_nano: When the last one did.
        failed: Traces that failed.
        model_calls: Calls of models.
        input_tokens: What they read.
        output_tokens: What they wrote.
        cost: In USD; None if unknown.
        unpriced: Calls of models that the cost lacks: without a price, or without tokens.
        feedback: What was said of them, by name.
    """

    id: str
    users: tuple[str, ...]
    sessions: int
    turns: int
    start_unix_nano: int | None
    last_unix_nano: int | None
    failed: int
    model_calls: int
    input_tokens: int
    output_tokens: int
    cost: float | None
    unpriced: int
    feedback: tuple[Feedback, ...]


@dataclass(frozen=True, slots=True)
class Sessions:
    """Sessions, or users.

    Attributes:
        found: The first ones, in the order that was asked for.
        total: How many there are.
        without: Traces that name none: they are in no session.
    """

    found: tuple[Session, ...]
    total: int
    without: int


@dataclass(frozen=True, slots=True)
class Turn:
    """A trace as a turn of a conversation.

    Attributes:
        experiment: The experiment's name.
        run: The Run's name.
        trace_id: The trace's id.
        name: The root's name.
        session_id: Its session.
        user_id: Its user.
        thread_id: Its thread.
        start_unix_nano: When it started.
        duration: Seconds its root took; None where it has not ended.
        outcome: How its root ended.
        cause: Why, where it was cancelled or interrupted.
        recovered: Errors that it did not fail of.
        model_calls: Calls of models.
        input_tokens: What they read.
        output_tokens: What they wrote.
        cost: In USD; None if unknown.
        asked: What the user said.
        answered: The answer; where there is none, what was streamed of it.
        asks: What it waits for, where it paused.
        error_span: The span to blame, where it failed.
        error: Its error, on one line.
        resumes: The trace that waited for this one.
        complete: Whether nothing of it is missing.
        feedback: What was said of it, by name.
    """

    experiment: str
    run: str
    trace_id: str
    name: str
    session_id: str | None
    user_id: str | None
    thread_id: str | None
    start_unix_nano: int | None
    duration: float | None
    outcome: Outcome
    cause: Cause | None
    recovered: int
    model_calls: int
    input_tokens: int
    output_tokens: int
    cost: float | None
    asked: str
    answered: str
    asks: str | None
    error_span: str | None
    error: str | None
    resumes: str | None
    complete: bool
    feedback: tuple[Feedback, ...]


def sessions(
    tables: Asks, *, by: Group = "session", sort: Sort = "last", limit: int = 0
) -> Sessions:
    """Return the sessions of traces, or their users. Blocks.

    Args:
        tables: Open, with ``TABLES``; a period narrows the traces.
        by: What they are put together by.
        sort: What comes first: the latest, or the most of the others.
        limit: How many are returned; 0 returns all.
    """
    key = _KEYS[by]
    rows = tables.rows(
        f"SELECT {key} AS id, list_sort(list(DISTINCT user_id) FILTER (user_id IS NOT NULL))"
        " AS users, count(DISTINCT session_id) AS sessions, count(*) AS turns,"
        " min(_start) AS start, max(_start) AS last,"
        " count(*) FILTER (outcome = 'error') AS failed, sum(model_calls)::BIGINT AS model_calls,"
        " sum(input_tokens)::BIGINT AS input_tokens, sum(output_tokens)::BIGINT AS output_tokens,"
        f" sum(cost) AS cost, count(*) OVER () AS total FROM inside.traces WHERE {key} IS NOT NULL"
        f" GROUP BY {key} ORDER BY {_ORDERS[sort]} DESC NULLS LAST,"
        " max(_start) DESC NULLS LAST, id"
        " LIMIT $most",
        {"most": limit or 2**62},
    )
    (count,) = tables.rows(f"SELECT count(*) AS n FROM inside.traces WHERE {key} IS NULL")
    feedback = _feedback(tables, key)
    unpriced = {row["id"]: row["model_calls"] for row in rows}
    if any(row["cost"] is not None for row in rows):
        calls = tables.rows(
            f"SELECT {key} AS id, count(*) FILTER (cost IS NULL) AS n FROM inside.spans"
            f" WHERE {_MODELS} GROUP BY {key}"
        )
        unpriced.update((row["id"], row["n"]) for row in calls)
    found = tuple(
        Session(
            id=row["id"],
            users=tuple(row["users"] or ()),
            sessions=row["sessions"],
            turns=row["turns"],
            start_unix_nano=row["start"],
            last_unix_nano=row["last"],
            failed=row["failed"],
            model_calls=row["model_calls"],
            input_tokens=row["input_tokens"],
            output_tokens=row["output_tokens"],
            cost=row["cost"],
            unpriced=unpriced.get(row["id"], 0),
            feedback=feedback.get(row["id"], ()),
        )
        for row in rows
    )
    return Sessions(found, rows[0]["total"] if rows else 0, count["n"])


def turns(tables: Asks, conversation: str) -> tuple[Turn, ...]:
    """Return the turns of a conversation, in order; empty if there is none. Blocks.

    Args:
        tables: As for ``sessions``.
        conversation: The id of a session or a thread.
    """
    traces = tables.rows(
        "SELECT * EXCLUDE (_words) FROM inside.traces"
        " WHERE session_id = $id OR thread_id = $id ORDER BY _start NULLS LAST, _no",
        {"id": conversation},
    )
    if not traces:
        return ()
    numbers = [trace["_no"] for trace in traces]
    feedback = _feedback(tables, "_no", numbers)
    shown = {(row["_no"], row["_place"]): row for row in _spans_shown(tables, numbers)}
    roots: dict[int, dict[str, Any]] = {}
    for row in shown.values():
        if row["root"] or row["_no"] not in roots:
            roots[row["_no"]] = row
    said = {number: _said(roots.get(number)) for number in numbers}
    silent = [number for number, (_, answer) in said.items() if not answer]
    streamed = _streamed(tables, silent)
    found = []
    for trace in traces:
        number = trace["_no"]
        question, answer = said[number]
        failed = trace["outcome"] == "error"
        blame = shown.get((number, trace["_chosen"])) if failed else None
        found.append(
            Turn(
                experiment=trace["experiment"],
                run=trace["run"],
                trace_id=trace["trace_id"],
                name=trace["name"],
                session_id=trace["session_id"],
                user_id=trace["user_id"],
                thread_id=trace["thread_id"],
                start_unix_nano=trace["_start"],
                duration=trace["duration"],
                outcome=trace["outcome"],
                cause=trace["cause"],
                recovered=trace["recovered"],
                model_calls=trace["model_calls"],
                input_tokens=trace["input_tokens"],
                output_tokens=trace["output_tokens"],
                cost=trace["cost"],
                asked=question,
                answered=answer or streamed.get(number, ""),
                asks=trace["_asks"],
                error_span=None if blame is None else blame["name"] or blame["kind"],
                error=_error(trace, blame) if failed else None,
                resumes=trace["resumes"],
                complete=trace["complete"],
                feedback=feedback.get(number, ()),
            )
        )
    return tuple(found)


def nearest_ids(tables: Asks, conversation: str) -> tuple[str, ...]:
    """Return ids of sessions and threads that look most like an unknown one. Blocks."""
    rows = tables.rows(
        "WITH ids AS (SELECT session_id AS id FROM inside.traces UNION"
        " SELECT thread_id FROM inside.traces) SELECT id FROM ids WHERE id IS NOT NULL"
        " ORDER BY contains(lower(id), lower($id)) DESC,"
        " jaro_winkler_similarity(lower(id), lower($id)) DESC, id LIMIT $most",
        {"id": conversation, "most": LIKELY},
    )
    return nearest(conversation, (row["id"] for row in rows), NEAREST)


_KEYS: Final[Mapping[Group, str]] = {"session": "session_id", "user": "user_id"}
_ORDERS: Final[Mapping[Sort, str]] = {
    "last": "max(_start)",
    "cost": "sum(cost)",
    "tokens": "sum(input_tokens + output_tokens)",
    "turns": "count(*)",
    "failed": "count(*) FILTER (outcome = 'error')",
}
_MODELS: Final = "kind IN ('llm', 'chat_model')"


def _feedback(
    tables: Asks, key: str, numbers: Sequence[int] | None = None
) -> dict[Any, tuple[Feedback, ...]]:
    """Return the feedback of traces by a column of theirs; feedback of any time counts."""
    rows = tables.rows(
        # Two writers may have recorded one trace: what was said of it counts once.
        f"WITH given AS (SELECT DISTINCT t.{key} AS key, coalesce(f.name, '') AS name, f.score,"
        " f.writer_id, f.seq FROM inside.all_feedback f JOIN inside.traces t"
        " USING (experiment, run, trace_id)"
        f" WHERE t.{key} IS NOT NULL AND ($numbers::BIGINT[] IS NULL OR"
        f" list_contains($numbers::BIGINT[], t._no)))"
        " SELECT key, name, count(*) AS n, avg(score) AS mean FROM given GROUP BY ALL ORDER BY ALL",
        {"numbers": None if numbers is None else list(numbers)},
    )
    found: dict[Any, tuple[Feedback, ...]] = {}
    for row in rows:
        given = Feedback(row["name"], row["n"], row["mean"])
        found[row["key"]] = (*found.get(row["key"], ()), given)
    return found


def _spans_shown(tables: Asks, numbers: Sequence[int]) -> list[dict[str, Any]]:
    """Return the roots of traces, and the spans that failed ones are to blame on."""
    return tables.rows(
        "SELECT s._no, s._place, s.name, s.kind, s.error_type, s.error_message, s._error,"
        " s.inputs, s.outputs, s.data, s.span_id = s.trace_id AS root"
        " FROM inside.spans s JOIN (SELECT _no, _chosen FROM inside.traces"
        " WHERE list_contains($numbers::BIGINT[], _no)) t USING (_no)"
        " WHERE s.span_id = s.trace_id OR s._place = 0 OR s._place = t._chosen"
        " ORDER BY s._no, s._place",
        {"numbers": list(numbers)},
    )


def _streamed(tables: Asks, numbers: Iterable[int]) -> dict[int, str]:
    """Return what models had streamed last in traces without an answer."""
    rows = tables.rows(
        "SELECT _no, outputs, data FROM inside.spans WHERE list_contains($numbers::BIGINT[], _no)"
        f" AND {_MODELS} AND outcome <> 'ok' ORDER BY _no, _place",
        {"numbers": list(numbers)},
    )
    return {row["_no"]: answered(answer_of(None, _decoded(row["data"]) or {})) for row in rows}


def _said(root: Mapping[str, Any] | None) -> tuple[str, str]:
    if root is None:
        return "", ""
    question = asked(_decoded(root["inputs"]))
    outputs = answer_of(_decoded(root["outputs"]), _decoded(root["data"]) or {})
    return question, answered(outputs, question)


def _error(trace: Mapping[str, Any], blame: Mapping[str, Any] | None) -> str:
    kind, message = trace["error_type"], trace["error_message"]
    if blame is not None and blame["error_type"] is not None:
        kind, message = blame["error_type"], blame["error_message"]
    kind = (kind or "").rpartition(".")[2] or "error"
    return f"{kind}: {message}" if message else kind


def _decoded(text: str | None) -> Any:
    return None if text is None else payload.decode(text.encode())
