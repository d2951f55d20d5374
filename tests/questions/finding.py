"""Questions that leave most out: all prompts with a phrase, everything since a moment."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Final

from tests.questions.asking import NEWER, OLDER, RUNS, Asker, Played, Question
from tests.support.bot import PHRASE

# -- all prompts with a phrase ------------------------------------------------------------------


def _with_phrase(played: Played) -> Any:
    return set().union(*(run.with_phrase for run in played.truth.runs))


def _with_phrase_by_sql(asker: Asker) -> Any:
    rows = asker.sql(f"SELECT DISTINCT trace_id FROM spans WHERE inputs ILIKE '%{PHRASE}%'")
    return {row["trace_id"] for row in rows}


def _with_phrase_by_python(asker: Asker) -> Any:
    return {
        trace.trace_id
        for _, trace in asker.traces()
        if any(PHRASE in json.dumps(span.inputs).lower() for span in trace.walk())
    }


def _with_phrase_by_search(asker: Asker) -> Any:
    found = asker.cli("search", asker.played.place, PHRASE.upper())
    assert found["total"] == len(found["traces"])
    for trace in found["traces"]:
        assert any(match["side"] == "prompt" for match in trace["matches"])
        for match in trace["matches"]:
            marked = {match["text"][begin:end].lower() for begin, end in match["marks"]}
            assert marked == {PHRASE}
    return {trace["trace_id"] for trace in found["traces"]}


def _with_phrase_by_text(asker: Asker) -> Any:
    text = asker.text("search", asker.played.place, PHRASE)
    blocks = text.split("\n\n")
    assert all(PHRASE in block.lower() for block in blocks[:-1])
    return {block.split()[0] for block in blocks[:-1]}


def _with_phrase_by_view(asker: Asker) -> Any:
    return {
        row["trace_id"]
        for run in RUNS
        for row in asker.pages("traces", "traces", run, text=f'"{PHRASE}"')
    }


# -- everything since ---------------------------------------------------------------------------


def _since(played: Played) -> int:
    """Return the moment when the newer version began, in nanoseconds, to the microsecond."""
    return min(turn.began for turn in played.truth.runs[1].turns) // 1000 * 1000


def _until(played: Played) -> int:
    """Return a moment when about half of its turns had begun, to the microsecond: amid the longest
    time near there in which none did."""
    began = sorted(root.start for root in played.stored[NEWER].roots.values())
    near = began[len(began) // 3 : 2 * len(began) // 3]
    _, first, second = max(
        (after - at, at, after) for at, after in zip(near, near[1:], strict=False)
    )
    return (first + second) // 2000 * 1000


def _period(played: Played) -> list[str]:
    """Return how a command is told of the time between."""
    return [f"--since={_iso(_since(played))}", f"--until={_iso(_until(played))}"]


def _iso(moment: int) -> str:
    return _at(moment).isoformat(timespec="microseconds")


def _at(moment: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=moment // 1000)


def _between(played: Played) -> set[str]:
    """The traces that began in that time."""
    until = _until(played)
    found = {id_ for id_, root in played.stored[NEWER].roots.items() if root.start < until}
    turns = played.truth.runs[1].turns
    assert {turn.trace_id for turn in turns if turn.ended < until} <= found
    assert found <= {turn.trace_id for turn in turns if turn.began < until}
    assert len(found) < len(turns)
    return found


def _between_by_query(asker: Asker) -> Any:
    rows = asker.sql("SELECT trace_id FROM traces", *_period(asker.played))
    spans = asker.sql("SELECT DISTINCT trace_id FROM spans", *_period(asker.played))
    assert sorted(row["trace_id"] for row in rows) == sorted(row["trace_id"] for row in spans)
    return {row["trace_id"] for row in rows}


def _between_by_sql(asker: Asker) -> Any:
    since, until = (moment(asker.played) // 1000 for moment in (_since, _until))
    rows = asker.sql(
        f"SELECT trace_id FROM traces WHERE start >= make_timestamptz({since})"
        f" AND start < make_timestamptz({until})"
    )
    return {row["trace_id"] for row in rows}


def _between_by_python(asker: Asker) -> Any:
    since, until = _at(_since(asker.played)), _at(_until(asker.played))
    return {
        trace.trace_id
        for run in RUNS
        for trace in asker.played.run(run).traces(since=since, until=until)
    }


def _between_by_view(asker: Asker) -> Any:
    since, until = (moment(asker.played) / 1e9 for moment in (_since, _until))
    return {
        row["trace_id"]
        for run in RUNS
        for row in asker.pages("traces", "traces", run, since=since, until=until)
    }


def _between_by_diff(asker: Asker) -> Any:
    found = asker.diff(*_period(asker.played))
    assert (found["first"]["traces"], found["traces"]["matched"]) == (0, 0)
    assert found["second"]["traces"] == len(found["traces"]["only_second"])
    return set(found["traces"]["only_second"])


def _exported(asker: Asker, *arguments: str) -> Iterable[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        for run in RUNS:
            path = Path(folder) / run
            asker.text(
                "export", asker.played.folder(run), "--format=jsonl", f"--output={path}",
                *arguments, *_period(asker.played),
            )  # fmt: skip
            yield from map(json.loads, path.read_text().splitlines())


def _between_by_export(asker: Asker) -> Any:
    return {span["trace_id"] for span in _exported(asker, "--table=spans")}


def _in_time(moment: int, played: Played) -> bool:
    return _since(played) <= moment < _until(played)


def _events(played: Played) -> Any:
    """The events of that time, by writer and number."""
    return {
        (event["writer_id"], event["seq"])
        for stored in played.stored.values()
        for event in stored.events
        if _in_time(event["time_unix_nano"], played)
    }


def _events_by_query(asker: Asker) -> Any:
    rows = asker.sql("SELECT writer_id, seq FROM events", *_period(asker.played))
    return {(row["writer_id"], row["seq"]) for row in rows}


def _events_by_export(asker: Asker) -> Any:
    return {(event["writer_id"], event["seq"]) for event in _exported(asker)}


def _numbers(played: Played) -> Any:
    """Traces, failures, tokens in and out of that time, of each Run."""
    chosen = _between(played)
    turns = [turn for turn in played.truth.runs[1].turns if turn.trace_id in chosen]
    return {
        OLDER: (0, 0, 0, 0),
        NEWER: (
            len(turns),
            sum(turn.outcome == "error" for turn in turns),
            sum(turn.usage.input_tokens for turn in turns),
            sum(turn.usage.output_tokens for turn in turns),
        ),
    }


def _numbers_by(ask: Callable[[Asker, str], Any]) -> Callable[[Asker], Any]:
    names = ("traces", "failed", "input_tokens", "output_tokens")
    return lambda asker: {run: tuple(ask(asker, run)[name] or 0 for name in names) for run in RUNS}


def _shown_by_view(asker: Asker, run: str) -> Any:
    since, until = (moment(asker.played) / 1e9 for moment in (_since, _until))
    return asker.page("overview", run, since=since, until=until)["totals"]


def _sessions(played: Played) -> Any:
    """Sessions with turns in that time, and how many."""
    chosen = _between(played)
    turns = {
        one.session_id: sum(turn.trace_id in chosen for turn in one.turns)
        for one in played.truth.runs[1].conversations
    }
    return {name: count for name, count in turns.items() if count}


def _sessions_by_threads(asker: Asker) -> Any:
    found = asker.cli("threads", asker.played.place, *_period(asker.played))
    return {session["id"]: session["turns"] for session in found["sessions"]}


def _phrase_since(played: Played) -> Any:
    return played.truth.runs[1].with_phrase


def _phrase_since_by_search(asker: Asker) -> Any:
    since, _ = _period(asker.played)
    found = asker.cli("search", asker.played.place, PHRASE, since)
    return {trace["trace_id"] for trace in found["traces"]}


def _written(_: Played) -> Any:
    """The Runs that were written to before the older one ended, and after the newer one began."""
    return {"until": [OLDER], "since": [NEWER], "1h": [*RUNS], "text": [NEWER]}


def _written_by_ls(asker: Asker) -> Any:
    moment = _iso(_since(asker.played))
    ended = _iso(max(turn.ended for turn in asker.played.truth.runs[0].turns))
    found: dict[str, Any] = {}
    for name, option in (
        ("until", f"--until={ended}"), ("since", f"--since={moment}"), ("1h", "--since=1h"),
    ):  # fmt: skip
        (shown,) = asker.cli("ls", asker.played.place, option)["experiments"]
        found[name] = sorted(run["run"] for run in shown["runs"])
    text = asker.text("ls", asker.played.place, f"--since={moment}")
    return {**found, "text": [run for run in RUNS if run in text]}


QUESTIONS: Final = (
    Question(
        "all prompts with a phrase",
        _with_phrase,
        {
            "sql": _with_phrase_by_sql,
            "python": _with_phrase_by_python,
            "search": _with_phrase_by_search,
            "text": _with_phrase_by_text,
            "view": _with_phrase_by_view,
        },
    ),
    Question(
        "everything of a time: traces",
        _between,
        {
            "query": _between_by_query,
            "sql": _between_by_sql,
            "python": _between_by_python,
            "view": _between_by_view,
            "diff": _between_by_diff,
            "export": _between_by_export,
        },
    ),
    Question(
        "everything of a time: events",
        _events,
        {"query": _events_by_query, "export": _events_by_export},
    ),
    Question(
        "everything of a time: in numbers",
        _numbers,
        {
            "show": _numbers_by(lambda asker, run: asker.show(run, *_period(asker.played))),
            "view": _numbers_by(_shown_by_view),
        },
    ),
    Question("everything of a time: sessions", _sessions, {"threads": _sessions_by_threads}),
    Question(
        "everything since a moment: prompts with a phrase",
        _phrase_since,
        {"search": _phrase_since_by_search},
    ),
    Question("everything since a moment: Runs", _written, {"ls": _written_by_ls}),
)
