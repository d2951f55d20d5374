"""``asynctrack threads`` and ``asynctrack thread``: sessions in numbers, conversations in words."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Command
from tests.cli.runs import HOSTILE
from tests.cli.talking import ANSWER, QUESTION, talk
from tests.reading.making import OTHER, START, WRITER, RunFolder, event

pytestmark = pytest.mark.may_block("no event loop in here")

HOUR = 3_600 * 10**9
PRICES = '{"big": [10.0, 20.0], "small": [1.0, 2.0]}'


def turn(
    number: int,
    hour: int,
    *,
    model: str = "big",
    tokens: tuple[int, int] = (1_000_000, 0),
    error: str = "",
    writer: str = WRITER,
    said: tuple[Any, Any] = ("Hi", "Ho"),
    **metadata: Any,
) -> list[dict[str, Any]]:
    """The events of a trace that began in this hour and called a model."""
    root, call = f"trace-{number:04d}", f"call-{number:04d}"
    first = 4 * number + 1
    begin = START + hour * HOUR + number
    shared = {"trace_id": root, "writer": writer}
    used = {"gen_ai.request.model": model, "gen_ai.usage.input_tokens": tokens[0],
            "gen_ai.usage.output_tokens": tokens[1]}  # fmt: skip
    ends: dict[str, Any] = {"kind": "chain_end", "outputs": said[1]}
    if error:
        ends = {"kind": "chain_error", "error": {"type": "app.Refused", "message": error}}
    return [
        event(first, kind="chain_start", span_id=root, time=begin, name="bot",
              inputs=said[0], metadata=metadata, **shared),
        event(first + 1, kind="chat_model_start", span_id=call, parent_span_id=root,
              time=begin + 1, name="Chat", inputs={"messages": [[]]}, **shared),
        event(first + 2, kind="llm_end", span_id=call, parent_span_id=root, time=begin + 2,
              outputs={"generations": [[]]}, attributes=used, **shared),
        event(first + 3, span_id=root, time=begin + 10**9, **ends, **shared),
    ]  # fmt: skip


def judged(seq: int, trace: str, name: str, score: float | None, hour: int = 90) -> dict[str, Any]:
    """A feedback, given long after the trace."""
    data = {"trace_id": trace, "score": score, "comment": "so so"}
    return event(seq, kind="feedback", name=name, data=data, time=START + hour * HOUR)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Two Runs. By hand: session s1 is ann's and has 3 turns in both Runs, s2 is bob's and ann's,
    s3 is nobody's; two traces name none."""
    one = RunFolder(tmp_path, run="one")
    one.artifact([*turn(0, 1, session_id="s1", user_id="ann"),
                  *turn(1, 2, session_id="s1", user_id="ann", error="no", tokens=(0, 0)),
                  *turn(2, 3, session_id="s2", user_id="bob", model="small"),
                  *turn(3, 4, session_id="s3"), *turn(4, 5, tokens=(7, 8)),
                  judged(21, "trace-0000", "thumbs", 1.0), judged(22, "trace-0001", "thumbs", 0.0),
                  judged(23, "trace-0002", "note", None)])  # fmt: skip
    one.manifest()
    two = RunFolder(tmp_path, run="two")
    two.artifact([*turn(0, 26, session_id="s1", user_id="ann", writer=OTHER, model="small"),
                  *turn(1, 27, session_id="s2", user_id="ann", writer=OTHER, model="unpriced"),
                  *turn(2, 28, user_id="cy", writer=OTHER)],
                 writer=OTHER, day="2026-01-02")  # fmt: skip
    two.manifest(OTHER)
    return tmp_path


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    """What models cost."""
    file = tmp_path / "prices.json"
    file.write_text(PRICES)
    return file


def test_sessions_are_counted_over_all_runs(command: Command, place: Path, prices: Path) -> None:
    """Turns, failures, tokens, cost, feedback and users of each session, the latest first."""
    document = command("threads", place, "--json", "--prices", prices).document
    assert (document["by"], document["total"], document["traces_without"]) == ("session", 3, 2)
    first, second, third = document["sessions"]
    assert second == {
        "id": "s1",
        "users": ["ann"],
        "sessions": 1,
        "turns": 3,
        "start_unix_nano": START + HOUR,
        "last_unix_nano": START + 26 * HOUR,
        "failed": 1,
        "model_calls": 3,
        "input_tokens": 2_000_000,
        "output_tokens": 0,
        "cost": 11.0,
        "unpriced": 0,
        "feedback": [{"name": "thumbs", "count": 2, "mean": 0.5}],
    }
    assert (first["id"], first["users"], first["cost"], first["unpriced"]) == (
        "s2", ["ann", "bob"], 1.0, 1
    )  # fmt: skip
    assert first["feedback"] == [{"name": "note", "count": 1, "mean": None}]
    assert (third["id"], third["users"], third["cost"]) == ("s3", [], 10.0)


def test_users_are_counted_over_all_their_sessions(
    command: Command, place: Path, prices: Path
) -> None:
    """``--by user`` puts the traces of a user together, also those without a session."""
    document = command("threads", place, "--by", "user", "--json", "--prices", prices).document
    assert document["traces_without"] == 2
    found = {one["id"]: one for one in document["users"]}
    assert list(found) == ["cy", "ann", "bob"]
    assert {name: (one["turns"], one["sessions"], one["cost"]) for name, one in found.items()} == {
        "ann": (4, 2, 11.0),
        "bob": (1, 1, 1.0),
        "cy": (1, 0, 10.0),
    }


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("last", ["s2", "s1", "s3"]),
        ("cost", ["s1", "s3", "s2"]),
        ("tokens", ["s2", "s1", "s3"]),
        ("turns", ["s1", "s2", "s3"]),
        ("failed", ["s1", "s2", "s3"]),
    ],
)
def test_the_most_comes_first(
    command: Command, place: Path, prices: Path, sort: str, order: list[str]
) -> None:
    """``--sort`` names what counts; where it is the same, the later one is first."""
    printed = command("threads", place, "--sort", sort, "--json", "--prices", prices)
    assert [one["id"] for one in printed.document["sessions"]] == order


def test_the_table_leaves_nothing_out_silently(command: Command, place: Path, prices: Path) -> None:
    """A line for each session; what names none, what is cut and what has no price is said."""
    printed = command("threads", place, "--limit", 2, "--prices", prices)
    assert (printed.code, printed.err) == (0, "")
    lines = printed.out.splitlines()
    assert lines[0].split() == [
        "session", "user", "turns", "failed", "calls", "tokens", "in", "tokens", "out", "cost",
        "feedback", "first", "last",
    ]  # fmt: skip
    assert "s2" in lines[1] and "ann, bob" in lines[1] and "$1.00" in lines[1]
    assert "thumbs 0.5 (of 2)" in lines[2] and "2026-01-02 02:00Z" in lines[2]
    assert "The first 2 of 3 sessions: --limit 0 lists all." in printed.out
    assert "2 traces name no session." in printed.out
    assert "The cost lacks 1 model calls without a price or tokens." in printed.out
    assert f"asynctrack thread {place} s2" in printed.out
    assert "cost" not in command("threads", place).out.splitlines()[0]


def test_a_period_narrows_the_turns(command: Command, place: Path) -> None:
    """``--since`` and ``--until`` count turns that started then, and feedback of any time."""
    asked = ("threads", place, "--json")
    late = command(*asked, "--since", "2026-01-02").document
    assert {one["id"]: one["turns"] for one in late["sessions"]} == {"s1": 1, "s2": 1}
    assert late["traces_without"] == 1
    early = command(*asked, "--until", "2026-01-01T02:00").document
    assert [(one["id"], one["turns"]) for one in early["sessions"]] == [("s1", 1)]
    assert early["sessions"][0]["feedback"] == [{"name": "thumbs", "count": 1, "mean": 1.0}]
    age = f"{int(time.time()) - START // 10**9 - 27 * 3600 + 1}s"
    assert [one["id"] for one in command(*asked, "--since", age).document["sessions"]] == ["s2"]


@pytest.mark.parametrize(
    ("period", "says"),
    [
        (("--since", "soon"), "--since='soon'"),
        (("--until", "2026-02-30"), "--until='2026-02-30'"),
        (("--since", "2026-01-02", "--until", "2026-01-01"), "nothing is between"),
    ],
)
def test_a_period_that_is_none_is_refused(
    command: Command, place: Path, period: tuple[str, ...], says: str
) -> None:
    """What is no time, and a period that ends before it begins, is a wrong call."""
    printed = command("threads", place, *period)
    assert (printed.code, printed.out) == (2, "")
    assert says in printed.err


def test_no_session_at_all_is_said(command: Command, tmp_path: Path) -> None:
    """A Run whose traces name none is no empty table."""
    folder = RunFolder(tmp_path)
    folder.artifact(turn(0, 1))
    folder.manifest()
    printed = command("threads", tmp_path)
    assert printed.code == 0
    assert "No trace names a session." in printed.out
    assert "1 trace names no session." in printed.out


def test_without_duckdb_the_package_to_install_is_named(
    command: Command, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing package is a wrong call, and the text names the extra."""
    monkeypatch.setitem(sys.modules, "duckdb", None)
    for arguments in (("threads", place), ("thread", place, "s1")):
        printed = command(*arguments)
        assert printed.code == 2
        assert f"asynctrack {arguments[0]} needs duckdb" in printed.err
        assert "[read]" in printed.err


def test_a_conversation_is_shown_in_order_over_all_runs(command: Command, tmp_path: Path) -> None:
    """LangGraph's history is told apart: each turn has its own question and answer, whole, though
    the outputs hold all of them."""
    talk(tmp_path)
    document = command("thread", tmp_path, "late", "--json").document
    first, second = document["turns"]
    assert (first["asked"], first["answered"]) == (QUESTION, ANSWER)
    assert (second["asked"], second["answered"]) == ("And order 7?\nPlease.", "Gladly.")
    assert [one["run"] for one in document["turns"]] == ["monday", "tuesday"]
    assert first["start_unix_nano"] < second["start_unix_nano"]
    assert (first["user_id"], first["thread_id"], first["outcome"]) == ("ann", "late", "ok")
    assert (first["input_tokens"], first["output_tokens"], first["model_calls"]) == (3, 5, 1)


def test_a_turn_that_failed_names_what_is_to_blame(command: Command, tmp_path: Path) -> None:
    """An error stands in its turn, with the span it came from; both ids name the conversation."""
    talk(tmp_path)
    for name in ("b-session", "broken"):
        printed = command("thread", tmp_path, name)
        assert printed.code == 0
        assert "  in track_order: CarrierDownError: 503 from the carrier for 6" in printed.out
        assert "1 turn, 1 failed" in printed.out
        assert "  error  " in printed.out


def test_a_turn_that_waits_shows_its_question_and_the_next_one_the_reply(
    command: Command, tmp_path: Path
) -> None:
    """A pause is no answer: an earlier turn's is not shown for it. The reply is the next turn."""
    talk(tmp_path)
    paused, resumed = command("thread", tmp_path, "wants", "--json").document["turns"]
    assert (paused["asked"], paused["answered"]) == ("I want a refund", "")
    assert (paused["asks"], paused["outcome"], paused["cause"]) == (
        "May I pay 20 EUR?", "interrupted", "pause"
    )  # fmt: skip
    assert (resumed["asked"], resumed["answered"]) == ("yes", "Paid.")
    assert resumed["resumes"] == paused["trace_id"]
    out = command("thread", tmp_path, "wants").out
    assert "interrupted: it waits" in out and "│ May I pay 20 EUR?" in out


def test_the_printed_command_shows_the_trace(command: Command, tmp_path: Path) -> None:
    """Each turn names the command that shows its trace, and that command works."""
    talk(tmp_path)
    out = command("thread", tmp_path, "late").out
    asked = [line.split()[1:] for line in out.splitlines() if "asynctrack trace" in line]
    assert len(asked) == 2
    for arguments in asked:
        assert "order" in command(*arguments).out


def test_an_unknown_conversation_suggests_the_nearest(command: Command, place: Path) -> None:
    """A wrong id is a wrong call; ids that look like it are listed."""
    printed = command("thread", place, "S1")
    assert (printed.code, printed.out) == (2, "")
    assert "did you mean:\n  s1" in printed.err
    printed = command("thread", place, "something else")
    assert printed.code == 2
    assert f"asynctrack threads {place}" in printed.err


def test_what_was_said_cannot_reach_the_terminal(command: Command, tmp_path: Path) -> None:
    """Escapes in ids, questions, answers and errors are shown, never sent."""
    folder = RunFolder(tmp_path)
    folder.artifact(
        [*turn(0, 1, session_id=HOSTILE, user_id=HOSTILE, said=(HOSTILE, HOSTILE)),
         *turn(1, 2, session_id=HOSTILE, error=HOSTILE)]
    )  # fmt: skip
    folder.manifest()
    for printed in (
        command("threads", tmp_path),
        command("thread", tmp_path, HOSTILE),
        command("thread", tmp_path, HOSTILE[:-2]),
    ):
        assert "\x1b" not in printed.out + printed.err
        assert "\u202e" not in printed.out + printed.err
        assert r"\x1b]0;owned\x07" in printed.out + printed.err
