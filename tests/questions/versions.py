"""What changed between the two versions: how often a tool fails, and what is answered."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from statistics import NormalDist
from typing import Any, Final

from asynctrack import Trace
from tests.questions.asking import NEWER, OLDER, RUNS, Asker, Played, Question, near
from tests.questions.failing import components

TOOL: Final = "lookup_order"

# -- the tool that fails less -------------------------------------------------------------------


def _failing(played: Played) -> Any:
    older, newer = (run.tools[TOOL] for run in played.truth.runs)
    assert older.failed / older.calls > newer.failed / newer.calls, "it fails less"
    return (older.calls, older.failed), (newer.calls, newer.failed)


def _failing_by_sql(asker: Asker) -> Any:
    rows = asker.sql(
        "SELECT count(*) AS calls, count(*) FILTER (outcome = 'error') AS failed FROM spans"
        f" WHERE kind = 'tool' AND name = '{TOOL}' GROUP BY run ORDER BY run"
    )
    return tuple((row["calls"], row["failed"]) for row in rows)


def _failing_by_python(asker: Asker) -> Any:
    found = []
    for run in RUNS:
        calls = [one for trace in asker.played.traces[run] for one in trace.find_all(name=TOOL)]
        found.append((len(calls), sum(call.outcome == "error" for call in calls)))
    return tuple(found)


def _failing_by_show(asker: Asker) -> Any:
    found = {run: row for run, row in components(asker, "show") if row["name"] == TOOL}
    return tuple((found[run]["calls"], found[run]["failed"]) for run in RUNS)


def _failing_by_diff(asker: Asker) -> Any:
    row = _row(asker.diff()["components"])
    return tuple((row[side]["calls"], row[side]["failed"]) for side in ("first", "second"))


def _failing_by_view(asker: Asker) -> Any:
    sides = _row(asker.compared()["components"])["sides"]
    return tuple((side["calls"], side["failed"]) for side in sides)


def _failing_by_text(asker: Asker) -> Any:
    text = asker.text("diff", *map(asker.played.folder, RUNS), "--full")
    older, newer, *_ = text[text.index(f"\n{TOOL} ") + 1 :].splitlines()
    found = []
    for line in (older, newer):
        calls, share = re.findall(r"[AB] +(\d+) +([\d.]+)%", line)[0]
        found.append((int(calls), round(int(calls) * float(share) / 100)))
    return tuple(found)


def _row(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    (row,) = [one for one in rows if (one["kind"], one["name"]) == ("tool", TOOL)]
    return row


# -- how sure that is ---------------------------------------------------------------------------


def _sure(played: Played) -> Any:
    """By how much the share of failures changed, the least and the most that it may be in 99 of 100
    cases, and whether it is more than chance: by Newcombe's tenth method."""
    older, newer = (run.tools[TOOL] for run in played.truth.runs)
    (p, low_p, high_p), (q, low_q, high_q) = (
        _share(calls.failed, calls.calls) for calls in (older, newer)
    )
    low = q - p - math.sqrt((q - low_q) ** 2 + (high_p - p) ** 2)
    high = q - p + math.sqrt((high_q - q) ** 2 + (p - low_p) ** 2)
    return q - p, low, high, high < 0


def _share(failed: int, calls: int) -> tuple[float, float, float]:
    """Return a share, and where the true one lies: the roots x of
    (share - x)² = z² x (1 - x) / calls, which is Wilson's interval."""
    share, zz = failed / calls, NormalDist().inv_cdf(0.995) ** 2
    a, b, c = 1 + zz / calls, -(2 * share + zz / calls), share**2
    root = math.sqrt(b * b - 4 * a * c)
    return share, (-b - root) / (2 * a), (-b + root) / (2 * a)


def _sure_by_diff(asker: Asker) -> Any:
    return _change(_row(asker.diff()["components"]))


def _sure_by_view(asker: Asker) -> Any:
    return _change(_row(asker.compared()["components"]))


def _change(row: dict[str, Any]) -> Any:
    found = row["differences"]["failure_rate"]
    return found["value"], found["low"], found["high"], found["beyond_noise"]


def _noise(played: Played) -> Any:
    """Which components are shown with a change of their failures: those that changed by more."""
    *_, beyond = _sure(played)
    return {TOOL: beyond}


def _noise_by_text(asker: Asker) -> Any:
    text = asker.text("diff", *map(asker.played.folder, RUNS))
    _, _, after, *_ = text[text.index(f"\n{TOOL} ") + 1 :].splitlines()
    return {TOOL: "B−A" in after and " pts" in after}


# -- what is answered ---------------------------------------------------------------------------


def _counted(played: Played) -> Any:
    """How many turns are asked the same, and how many of them end otherwise."""
    return len(played.truth.same_questions), len(played.truth.changed)


def _counted_by_diff(asker: Asker) -> Any:
    found = asker.diff("--full")
    matched = found["traces"]["matched"]
    assert matched - found["traces"]["same_outputs"] == len(found["different"])
    assert found["traces"]["only_first"] == found["traces"]["only_second"] == []
    return matched, len(found["different"])


def _counted_by_text(asker: Asker) -> Any:
    text = asker.text("diff", *map(asker.played.folder, RUNS))
    ((changed, matched),) = re.findall(r"same questions: (\d+) of (\d+) changed", text)
    return int(matched), int(changed)


def _counted_by_view(asker: Asker) -> Any:
    found = asker.compared()
    assert found["only"] == [0, 0]
    return found["matched"], found["changed"]


def _changed(played: Played) -> Any:
    """The traces that have an answer both, and not the same, with these."""
    return {
        ((one.trace_id, one.answer), (other.trace_id, other.answer))
        for one, other in played.truth.changed_answers
    }


def _changed_by_sql(asker: Asker) -> Any:
    rows = asker.sql(
        "WITH roots AS (SELECT run, name, trace_id,"
        " coalesce(inputs->'messages'->-1->>'content', inputs->>'question') AS question,"
        " coalesce(outputs->'messages'->-1->>'content', outputs) AS answer"
        " FROM spans WHERE parent_span_id IS NULL AND outcome = 'ok')"
        " SELECT one.trace_id AS one, one.answer AS was, other.trace_id AS other,"
        " other.answer AS is FROM roots one JOIN roots other USING (name, question)"
        f" WHERE one.run = '{OLDER}' AND other.run = '{NEWER}' AND one.answer <> other.answer"
    )
    return {((row["one"], _text(row["was"])), (row["other"], _text(row["is"]))) for row in rows}


def _text(answer: str) -> str:
    """Return a chain's answer, which is JSON in SQL, and an agent's, which has been taken out."""
    return answer[1:-1] if answer.startswith('"') else answer


def _changed_by_python(asker: Asker) -> Any:
    others = {_asked(trace): trace for trace in asker.played.traces[NEWER]}
    found = set()
    for trace in asker.played.traces[OLDER]:
        other = others[_asked(trace)]
        if trace.outcome == other.outcome == "ok" and answer_of(trace) != answer_of(other):
            found.add(((trace.trace_id, answer_of(trace)), (other.trace_id, answer_of(other))))
    return found


def _asked(trace: Trace) -> tuple[str | None, str]:
    inputs = trace.root.inputs
    said = inputs["messages"][-1]["content"] if "messages" in inputs else inputs["question"]
    return trace.root.name, said


def answer_of(trace: Trace) -> str | None:
    """Return the final answer of a trace that has one."""
    if trace.outcome != "ok":
        return None
    said: Any = trace.root.outputs
    return str(said if isinstance(said, str) else said["messages"][-1]["content"])


def _changed_by_diff(asker: Asker) -> Any:
    found = set()
    for one in asker.diff("--full")["different"]:
        if one["first"]["outcome"] == one["second"]["outcome"] == "ok":
            (texts,) = one["texts"]
            sides = ((one[side]["trace_id"], texts[side]) for side in ("first", "second"))
            found.add(tuple(sides))
    return found


def _changed_by_view(asker: Asker) -> Any:
    shown = asker.compared()
    assert shown["pages"] == 1
    return {
        tuple((side["trace_id"], side["answer"]) for side in pair["sides"])
        for pair in shown["pairs"]
        if all(side["outcome"] == "ok" for side in pair["sides"])
    }


QUESTIONS: Final = (
    Question(
        f"how often {TOOL} fails, in each version",
        _failing,
        {
            "sql": _failing_by_sql,
            "python": _failing_by_python,
            "show": _failing_by_show,
            "diff": _failing_by_diff,
            "view": _failing_by_view,
            "text": _failing_by_text,
        },
    ),
    Question(
        "is that more than chance",
        _sure,
        {"diff": _sure_by_diff, "view": _sure_by_view},
        near,
    ),
    Question("is it shown as more than chance", _noise, {"diff": _noise_by_text}),
    Question(
        "how many turns end otherwise",
        _counted,
        {"diff": _counted_by_diff, "text": _counted_by_text, "view": _counted_by_view},
    ),
    Question(
        "which final answers changed",
        _changed,
        {
            "sql": _changed_by_sql,
            "python": _changed_by_python,
            "diff": _changed_by_diff,
            "view": _changed_by_view,
        },
    ),
)
