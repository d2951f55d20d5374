"""Users and their sessions: what they cost, and what was said."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final

from tests.questions.asking import OLDER, RUNS, Asker, Played, Question, rows_of, usd
from tests.questions.versions import answer_of
from tests.support.bot import EXPERIMENT, Conversation

# -- tokens and cost by user, and by session ----------------------------------------------------


def _by_user(played: Played) -> Any:
    return {
        (run.run, user): _used(conversations)
        for run in played.truth.runs
        for user, conversations in run.by_user.items()
    }


def _by_session(played: Played) -> Any:
    return {
        (run.run, one.session_id): _used([one])
        for run in played.truth.runs
        for one in run.conversations
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
        costs.update(asker.played.frames[run].groupby("trace_id")["cost"].sum().to_dict())
    for run, trace in asker.traces():
        used = found[run, getattr(trace, name)]
        used[0] += 1
        used[1] += trace.failed
        used[2] += trace.input_tokens
        used[3] += trace.output_tokens
        used[4] += costs[trace.trace_id]
    return {key: (*used[:4], usd(used[4])) for key, used in found.items()}


def _used_of(row: Mapping[str, Any]) -> Any:
    names = ("turns", "failed", "input_tokens", "output_tokens")
    return (*(row[name] for name in names), usd(row["cost"]))


def _by_threads(asker: Asker, by: str) -> Any:
    found = {}
    for run in RUNS:
        shown = asker.cli("threads", asker.played.folder(run), "--by", by)
        assert shown["total"] == len(shown[f"{by}s"])
        assert shown["traces_without"] == 0
        found.update({(run, row["id"]): _used_of(row) for row in shown[f"{by}s"]})
    return found


def _by_view(asker: Asker, by: str) -> Any:
    return {
        (run, row["id"]): _used_of(row)
        for run in RUNS
        for row in asker.pages("sessions", "sessions", run, by=by)
    }


def _costs_most(played: Played) -> Any:
    """The user, their sessions, turns and tokens, and the cost in USD, of both Runs together."""
    used: dict[str, list[Conversation]] = defaultdict(list)
    for run in played.truth.runs:
        for user, conversations in run.by_user.items():
            used[user] += conversations
    user, most = max(used.items(), key=lambda one: sum(talk.usage.cost for talk in one[1]))
    turns, failed, read, written, cost = _used(most)
    return (
        user,
        f"{len(most)}",
        f"{turns}",
        f"{failed}",
        f"{read:,}",
        f"{written:,}",
        f"${cost:.3g}",
    )


def _costs_most_by_text(asker: Asker) -> Any:
    text = asker.text("threads", asker.played.place, "--by", "user", "--sort", "cost")
    _, first, *_ = rows_of(text)
    user, sessions, turns, failed, _, read, written, cost, *_ = first
    return user, sessions, turns, failed, read, written, cost


# -- conversations ------------------------------------------------------------------------------


def _conversations(played: Played) -> Any:
    return {
        one.session_id: (one.user_id, one.thread_id, [turn.trace_id for turn in one.turns])
        for run in played.truth.runs
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


def _some(played: Played) -> Any:
    """One conversation of each kind, in each Run: its user, thread and turns."""
    found = {}
    for run in played.truth.runs:
        for one in {one.kind: one for one in run.conversations}.values():
            turns = [turn.trace_id for turn in one.turns]
            found[run.run, one.session_id] = one.user_id, one.thread_id, turns
    return found


def _some_by_view(asker: Asker) -> Any:
    found = {}
    for run, session in _some(asker.played):
        shown = asker.page("conversation", run, session=session)
        (user,), (thread,) = shown["users"], {turn["thread_id"] for turn in shown["list"]}
        found[run, session] = user, thread, [turn["trace_id"] for turn in shown["list"]]
    return found


def _some_by_thread(asker: Asker) -> Any:
    found = {}
    for run, session in _some(asker.played):
        turns = asker.cli("thread", asker.played.folder(run), session)["turns"]
        (user,), (thread,) = ({turn[of] for turn in turns} for of in ("user_id", "thread_id"))
        found[run, session] = user, thread, [turn["trace_id"] for turn in turns]
    return found


def _went_wrong(played: Played) -> Any:
    wrong = played.truth.runs[0].went_wrong
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
    run = asker.played.run(OLDER)
    failed = Counter(trace.session_id for trace in run.traces(failed=True))
    ((name, _),) = failed.most_common(1)
    turns = sorted(run.traces(session=name), key=lambda one: one.start_unix_nano or 0)
    return name, [
        (turn.trace_id, turn.root.inputs["messages"][-1]["content"], turn.outcome, answer_of(turn))
        for turn in turns
    ]


def _went_wrong_by_thread(asker: Asker) -> Any:
    place = asker.played.folder(OLDER)
    (worst,) = asker.cli("threads", place, "--sort", "failed", "--limit", 1)["sessions"]
    shown = asker.cli("thread", place, worst["id"])
    return shown["id"], [_said(turn) for turn in shown["turns"]]


def _went_wrong_by_view(asker: Asker) -> Any:
    worst = asker.page("sessions", OLDER, sort="failed")["sessions"][0]
    shown = asker.site("conversation", experiment=EXPERIMENT, session=worst["id"])
    assert (shown["failed_turns"], shown["turns"]) == (worst["failed"], len(shown["list"]))
    return worst["id"], [_said(turn) for turn in shown["list"]]


def _said(turn: Mapping[str, Any]) -> Any:
    answer = turn["answered"] if turn["outcome"] == "ok" else None
    return turn["trace_id"], turn["asked"], turn["outcome"], answer


def _went_wrong_printed(played: Played) -> Any:
    """What is said, in order: question, answer or error, and the trace's id."""
    said = []
    for turn in played.truth.runs[0].went_wrong.turns:
        error = (turn.error or "").rpartition(".")[2]
        said.append((turn.text, turn.answer or error, turn.trace_id))
    return said


def _went_wrong_by_text(asker: Asker) -> Any:
    name = asker.played.truth.runs[0].went_wrong.session_id
    text = asker.text("thread", asker.played.folder(OLDER), name)
    said = []
    for turn in text.split("\nuser\n")[1:]:
        lines = turn.splitlines()
        quoted = [line.removeprefix("  │ ") for line in lines if line.startswith("  │ ")]
        failed = [line.split(": ")[1] for line in lines if line.startswith("  in ")]
        command = next(line.split() for line in lines if line.startswith("  asynctrack trace "))
        said.append((*quoted, *failed, command[-1]))
    return said


QUESTIONS: Final = (
    Question(
        "tokens and cost by user",
        _by_user,
        {
            "sql": lambda asker: _by_sql(asker, "user_id"),
            "python": lambda asker: _by_python(asker, "user_id"),
            "threads": lambda asker: _by_threads(asker, "user"),
            "view": lambda asker: _by_view(asker, "user"),
        },
    ),
    Question(
        "tokens and cost by session",
        _by_session,
        {
            "sql": lambda asker: _by_sql(asker, "session_id"),
            "python": lambda asker: _by_python(asker, "session_id"),
            "threads": lambda asker: _by_threads(asker, "session"),
            "view": lambda asker: _by_view(asker, "session"),
        },
    ),
    Question("who cost most, as it is printed", _costs_most, {"threads": _costs_most_by_text}),
    Question(
        "all conversations, whose they are, their turns in order",
        _conversations,
        {"sql": _conversations_by_sql, "python": _conversations_by_python},
    ),
    Question(
        "some conversations, their turns in order",
        _some,
        {"thread": _some_by_thread, "view": _some_by_view},
    ),
    Question(
        "the conversation that went wrong, all turns in order",
        _went_wrong,
        {
            "sql": _went_wrong_by_sql,
            "python": _went_wrong_by_python,
            "thread": _went_wrong_by_thread,
            "view": _went_wrong_by_view,
        },
    ),
    Question(
        "the conversation that went wrong, as it is printed",
        _went_wrong_printed,
        {"thread": _went_wrong_by_text},
    ),
)
