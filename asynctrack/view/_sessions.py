"""Sessions, users and conversations, as pages show them. Every function blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from asynctrack._common.outcome import said_outcome
from asynctrack._errors import NotFoundError, OptionError
from asynctrack._reading.conversations import SORTS, Feedback, Session, Turn, sessions, turns
from asynctrack._reading.conversations import Group as By

from . import _queries
from ._filters import Filters, of_runs
from ._index import Index
from ._progress import RunState
from ._scope import Scope
from ._shapes import Asked, Data, page_of

SESSIONS: Final = 50
"""Sessions, or users, on one page."""
TURNS: Final = 100
"""Turns on one page of a conversation."""
USERS: Final = 5
"""Users of a session that a list names."""
SAID: Final = 20_000
"""Characters of a question and of an answer that a conversation shows; its trace shows all."""
_GROUPS: Final[Mapping[str, By]] = {"session": "session", "user": "user"}


def sessions_page(index: Index, runs: Sequence[RunState], asked: Asked) -> Data:
    """Return a page of sessions, or of users."""
    by, sort = asked.get("by") or "session", asked.get("sort") or "last"
    if by not in _GROUPS:
        raise OptionError("by", by[:40], f"one of {', '.join(_GROUPS)}")
    if sort not in SORTS:
        raise OptionError("sort", sort[:40], f"one of {', '.join(SORTS)}")
    page, filters = page_of(asked), Filters.of(asked)
    version = sum(run.version for run in runs)
    where, values = _queries.chosen(index, _numbers(runs), version, filters)
    scope = Scope(index, where, values)
    last = (page + 1) * SESSIONS
    found = sessions(scope, by=_GROUPS[by], sort=sort, limit=last)
    return {
        "version": version,
        "by": by,
        "sorts": list(SORTS),
        "total": found.total,
        "without": found.without,
        "page": page,
        "pages": max(1, -(-found.total // SESSIONS)),
        "sessions": [_session(one) for one in found.found[last - SESSIONS :]],
    }


def conversation_page(index: Index, runs: Sequence[RunState], asked: Asked) -> Data:
    """Return a page of the turns of a conversation, in order.

    Raises:
        NotFoundError: No trace is of such a session or thread.
    """
    session, page = asked.get("session", ""), page_of(asked)
    of, values = of_runs(_numbers(runs))
    where = f"{of} AND (session_id = $session OR thread_id = $session)"
    given = {**values, "session": session}
    (count,) = index.query(
        "SELECT count(*) AS turns, count(DISTINCT run) AS runs, coalesce(list_sort("
        "list(DISTINCT user_id) FILTER (user_id IS NOT NULL)), []) AS users,"
        " sum(input_tokens)::BIGINT AS input_tokens,"
        " sum(output_tokens)::BIGINT AS output_tokens, sum(cost) AS cost,"
        f" count(*) FILTER (outcome = 'error') AS failed_turns FROM traces WHERE {where}",
        given,
    ) or [{"turns": 0}]
    if not count["turns"]:
        raise NotFoundError("there is no such session here, or it is not read yet")
    shown = (
        f"no IN (SELECT no FROM traces WHERE {where}"
        f" ORDER BY start NULLS LAST, no LIMIT {TURNS} OFFSET $skip)"
    )
    scope = Scope(index, shown, {**given, "skip": page * TURNS})
    ids = {(run.experiment, run.name): run.id for run in runs}
    return {
        **count,
        "session": session,
        "page": page,
        "pages": max(1, -(-count["turns"] // TURNS)),
        "list": [
            {**_turn(turn), "run_id": ids.get((turn.experiment, turn.run)), "number": n}
            for n, turn in enumerate(turns(scope, session), page * TURNS + 1)
        ],
    }


def feedback_of(index: Index, run: RunState, trace_id: str) -> list[Data]:
    """Return what was said of a trace, in order."""
    rows = index.query(
        "SELECT time / 1e9 AS time, span_id, name, score, value, comment, user_id FROM feedback"
        " WHERE experiment = $experiment AND run = $name AND trace_id = $trace ORDER BY time",
        {"experiment": run.experiment, "name": run.name, "trace": trace_id},
    )
    return [{**row, "score": row["value"] if row["score"] is None else row["score"]}
            for row in rows]  # fmt: skip


def where_of(runs: Sequence[RunState], asked: Asked) -> Data:
    """Return the names of the experiment and, if only one is asked for, of the Run."""
    return {"experiment": runs[0].experiment, "run": runs[0].name if asked.get("run") else None}


def _numbers(runs: Sequence[RunState]) -> list[int]:
    return [run.number for run in runs]


def _session(one: Session) -> Data:
    shown = asdict(one)
    for name, seconds in (("start_unix_nano", "started"), ("last_unix_nano", "last")):
        shown[seconds] = _seconds(shown.pop(name))
    return {**shown, "users": one.users[:USERS], "user_count": len(one.users),
            "feedback": _feedback(one.feedback)}  # fmt: skip


def _turn(one: Turn) -> Data:
    shown = asdict(one)
    shown["start"] = _seconds(shown.pop("start_unix_nano"))
    for name in ("asked", "answered"):
        text = getattr(one, name)
        shown[name] = text[:SAID]
        shown[f"{name}_length"] = len(text)
    return {
        **shown,
        "said": said_outcome(one.outcome, one.cause),
        "feedback": _feedback(one.feedback),
    }


def _feedback(given: Sequence[Feedback]) -> list[Data]:
    return [asdict(one) for one in given]


def _seconds(nanoseconds: Any) -> float | None:
    return None if nanoseconds is None else nanoseconds / 1e9
