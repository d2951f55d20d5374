"""Questions about people: users, their sessions, what was said, and what they think of it."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any, Final

from asynctrack import Trace
from tests.questions.asking import RUNS, Asker, Question, usd
from tests.support.bot import PHRASE, Conversation, Truth

# -- tokens and cost by user, and by session ----------------------------------------------------


def _by_user(truth: Truth) -> Any:
    return {
        (run.run, user): _used(conversations)
        for run in truth.runs
        for user, conversations in run.by_user.items()
    }


def _by_session(truth: Truth) -> Any:
    return {
        (run.run, one.session_id): _used([one]) for run in truth.runs for one in run.conversations
    }


def _used(conversations: Iterable[Conversation]) -> Any:
    turns = [turn for one in conversations for turn in one.turns]
    return (
        len(turns),
        sum(turn.outcome == "error" for turn in turns),
        sum(turn.usage.input_tokens for turn in turns),
        sum(turn.usage.output_tokens for turn in turns),
        usd(sum(turn.usage.cost for turn in turns)),
    )


def _by_sql(asker: Asker, column: str) -> Any:
    rows = asker.sql(
        f"SELECT run, {column} AS whose, count(*) AS turns,"
        " count(*) FILTER (outcome = 'error') AS failed, sum(input_tokens) AS read,"
        " sum(output_tokens) AS written, coalesce(sum(cost), 0) AS cost"
        " FROM traces GROUP BY ALL"
    )
    names = ("turns", "failed", "read", "written")
    return {
        (row["run"], row["whose"]): (*(row[name] for name in names), usd(row["cost"]))
        for row in rows
    }


def _by_python(asker: Asker, name: str) -> Any:
    found: dict[Any, list[Any]] = defaultdict(lambda: [0, 0, 0, 0, 0.0])
    costs: Counter[str] = Counter()
    for run in RUNS:
        frame = asker.run(run).to_pandas()
        costs.update(frame.groupby("trace_id")["cost"].sum().to_dict())
    for run, trace in asker.traces():
        used = found[run, getattr(trace, name)]
        used[0] += 1
        used[1] += trace.failed
        used[2] += trace.input_tokens
        used[3] += trace.output_tokens
        used[4] += costs[trace.trace_id]
    return {key: (*used[:4], usd(used[4])) for key, used in found.items()}


# -- conversations ------------------------------------------------------------------------------


def _conversations(truth: Truth) -> Any:
    return {
        one.session_id: (one.user_id, one.thread_id, [turn.trace_id for turn in one.turns])
        for run in truth.runs
        for one in run.conversations
    }


def _conversations_by_sql(asker: Asker) -> Any:
    rows = asker.sql(
        "SELECT session_id, any_value(user_id) AS user, any_value(thread_id) AS thread,"
        " list(trace_id ORDER BY start) AS turns FROM traces GROUP BY session_id"
    )
    return {row["session_id"]: (row["user"], row["thread"], row["turns"]) for row in rows}


def _conversations_by_python(asker: Asker) -> Any:
    found: dict[Any, Any] = {}
    for _, trace in sorted(asker.traces(), key=lambda one: one[1].start_unix_nano or 0):
        one = found.setdefault(trace.session_id, (trace.user_id, trace.thread_id, []))
        one[2].append(trace.trace_id)
    return found


def _went_wrong(truth: Truth) -> Any:
    wrong = truth.runs[0].went_wrong
    turns = [(turn.trace_id, turn.text, turn.outcome, turn.answer) for turn in wrong.turns]
    return wrong.session_id, turns


def _went_wrong_by_sql(asker: Asker) -> Any:
    (worst,) = asker.sql(
        "SELECT session_id AS id FROM traces WHERE run = 'prompt-v1' AND outcome = 'error'"
        " GROUP BY session_id ORDER BY count(*) DESC LIMIT 1"
    )
    rows = asker.sql(
        "SELECT trace_id, outcome, inputs->'messages'->-1->>'content' AS said,"
        " CASE outcome WHEN 'ok' THEN outputs->'messages'->-1->>'content' END AS answer FROM spans"
        f" WHERE session_id = '{worst['id']}' AND parent_span_id IS NULL ORDER BY start"
    )
    return worst["id"], [
        (row["trace_id"], row["said"], row["outcome"], row["answer"]) for row in rows
    ]


def _went_wrong_by_python(asker: Asker) -> Any:
    sessions: dict[Any, list[Trace]] = defaultdict(list)
    for trace in asker.run("prompt-v1").traces():
        sessions[trace.session_id].append(trace)
    name = max(sessions, key=lambda one: sum(trace.failed for trace in sessions[one]))
    turns = sorted(sessions[name], key=lambda one: one.start_unix_nano or 0)
    return name, [
        (turn.trace_id, turn.root.inputs["messages"][-1]["content"], turn.outcome, _answer(turn))
        for turn in turns
    ]


def _answer(trace: Trace) -> str | None:
    if trace.outcome != "ok":
        return None
    said: Any = trace.root.outputs
    return str(said if isinstance(said, str) else said["messages"][-1]["content"])


# -- what is said -------------------------------------------------------------------------------


def _changed(truth: Truth) -> Any:
    return {(one.trace_id, other.trace_id) for one, other in truth.changed_answers}


def _changed_by_sql(asker: Asker) -> Any:
    rows = asker.sql(
        "WITH roots AS (SELECT run, trace_id, inputs, coalesce(outputs->'messages'->-1->>'content',"
        " outputs) AS answer FROM spans WHERE parent_span_id IS NULL AND outcome = 'ok')"
        " SELECT one.trace_id AS one, other.trace_id AS other FROM roots one"
        " JOIN roots other ON one.inputs = other.inputs AND one.answer <> other.answer"
        " WHERE one.run = 'prompt-v1' AND other.run = 'prompt-v2'"
    )
    return {(row["one"], row["other"]) for row in rows}


def _changed_by_python(asker: Asker) -> Any:
    by_inputs: dict[str, Trace] = {}
    for trace in asker.run("prompt-v2").traces():
        by_inputs[json.dumps(trace.root.inputs)] = trace
    found = set()
    for trace in asker.run("prompt-v1").traces():
        other = by_inputs.get(json.dumps(trace.root.inputs))
        answers = {_answer(trace), _answer(other) if other else None}
        if other and len(answers) == 2 and None not in answers:
            found.add((trace.trace_id, other.trace_id))
    return found


def _with_phrase(truth: Truth) -> Any:
    return set().union(*(run.with_phrase for run in truth.runs))


def _with_phrase_by_sql(asker: Asker) -> Any:
    rows = asker.sql(f"SELECT DISTINCT trace_id FROM spans WHERE inputs ILIKE '%{PHRASE}%'")
    return {row["trace_id"] for row in rows}


def _with_phrase_by_python(asker: Asker) -> Any:
    return {
        trace.trace_id
        for _, trace in asker.traces()
        if any(PHRASE in json.dumps(span.inputs).lower() for span in trace.walk())
    }


# -- everything since ---------------------------------------------------------------------------


def _moment(truth: Truth) -> int:
    """Return the moment after the older version, in nanoseconds."""
    return max(turn.ended for turn in truth.runs[0].turns)


def _since(truth: Truth) -> Any:
    moment = _moment(truth)
    return {turn.trace_id for run in truth.runs for turn in run.turns if turn.began >= moment}


def _since_by_sql(asker: Asker) -> Any:
    moment = _moment(asker.played.truth) // 1000
    rows = asker.sql(f"SELECT trace_id FROM traces WHERE start >= make_timestamptz({moment})")
    return {row["trace_id"] for row in rows}


def _since_by_python(asker: Asker) -> Any:
    moment = _moment(asker.played.truth)
    return {trace.trace_id for _, trace in asker.traces() if (trace.start_unix_nano or 0) >= moment}


# -- what users think ---------------------------------------------------------------------------


def _feedback(truth: Truth) -> Any:
    given = [one for run in truth.runs for one in run.feedback]
    return sorted((one.trace_id, one.name, one.score, one.comment or "") for one in given)


def _feedback_by_sql(asker: Asker) -> Any:
    rows = asker.sql("SELECT trace_id, name, score, comment FROM feedback")
    return sorted(
        (row["trace_id"], row["name"], row["score"], row["comment"] or "") for row in rows
    )


QUESTIONS: Final = (
    Question(
        "tokens and cost by user",
        _by_user,
        {
            "sql": lambda asker: _by_sql(asker, "user_id"),
            "python": lambda asker: _by_python(asker, "user_id"),
        },
    ),
    Question(
        "tokens and cost by session",
        _by_session,
        {
            "sql": lambda asker: _by_sql(asker, "session_id"),
            "python": lambda asker: _by_python(asker, "session_id"),
        },
    ),
    Question(
        "all conversations, whose they are, their turns in order",
        _conversations,
        {"sql": _conversations_by_sql, "python": _conversations_by_python},
    ),
    Question(
        "the conversation that went wrong, all turns in order",
        _went_wrong,
        {"sql": _went_wrong_by_sql, "python": _went_wrong_by_python},
    ),
    Question(
        "which final answers changed between the versions",
        _changed,
        {"sql": _changed_by_sql, "python": _changed_by_python},
    ),
    Question(
        "all prompts with a phrase",
        _with_phrase,
        {"sql": _with_phrase_by_sql, "python": _with_phrase_by_python},
    ),
    Question(
        "everything since a moment",
        _since,
        {"sql": _since_by_sql, "python": _since_by_python},
    ),
    Question("what users think", _feedback, {"sql": _feedback_by_sql}),
)
