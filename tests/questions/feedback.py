"""What users think, and what they say of it."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Final

from tests.questions.asking import RUNS, Asker, Played, Question


def _feedback(played: Played) -> Any:
    given = [one for run in played.truth.runs for one in run.feedback]
    return sorted((one.trace_id, one.name, one.score, one.comment or "") for one in given)


def _feedback_by_sql(asker: Asker) -> Any:
    rows = asker.sql("SELECT trace_id, name, score, comment FROM feedback")
    return sorted(
        (row["trace_id"], row["name"], row["score"], row["comment"] or "") for row in rows
    )


def _feedback_by_python(asker: Asker) -> Any:
    return sorted(
        (one.trace_id, one.name, one.score, one.comment or "")
        for run in RUNS
        for one in asker.played.run(run).feedback()
    )


def _comments(played: Played) -> Any:
    """What users say of traces, where they say something."""
    given = [one for run in played.truth.runs for one in run.feedback]
    return {one.trace_id: [(one.name, one.score, one.comment)] for one in given if one.comment}


def _comments_by_view(asker: Asker) -> Any:
    asked = [
        (run.run, one.trace_id)
        for run in asker.played.truth.runs
        for one in run.feedback
        if one.comment
    ]
    return {
        trace_id: [
            (one["name"], one["score"], one["comment"])
            for one in asker.page("trace", run, trace=trace_id)["feedback"]
        ]
        for run, trace_id in asked
    }


def _thumbs(played: Played) -> Any:
    scores: dict[str, list[int]] = defaultdict(list)
    for run in played.truth.runs:
        users = {turn.trace_id: one.user_id for one in run.conversations for turn in one.turns}
        for one in run.feedback:
            scores[users[one.trace_id]].append(one.score)
    return {user: (len(each), round(sum(each) / len(each), 6)) for user, each in scores.items()}


def _thumbs_by_threads(asker: Asker) -> Any:
    users = asker.cli("threads", asker.played.place, "--by", "user")["users"]
    return {
        user["id"]: (one["count"], round(one["mean"], 6))
        for user in users
        for one in user["feedback"]
        if one["name"] == "thumbs"
    }


QUESTIONS: Final = (
    Question(
        "what users think",
        _feedback,
        {"sql": _feedback_by_sql, "python": _feedback_by_python},
    ),
    Question("what users say", _comments, {"view": _comments_by_view}),
    Question("what users think, by user", _thumbs, {"threads": _thumbs_by_threads}),
)
