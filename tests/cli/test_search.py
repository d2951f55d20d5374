"""``asynctrack search``: where a phrase occurs, over all Runs of a place."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from asynctrack._reading.search import AROUND, excerpt, occurrences
from tests.cli.conftest import Command
from tests.cli.runs import HOSTILE, make_run, trace_id
from tests.cli.talking import talk
from tests.reading.making import START, RunFolder, event

pytestmark = pytest.mark.may_block("no event loop in here")


def where(document: Any) -> list[tuple[str, str, str]]:
    """Which trace, span and side each match is in, by number and name."""
    return [
        (trace["trace_id"][:8].lstrip("0"), match["name"], match["side"])
        for trace in document["traces"]
        for match in trace["matches"]
    ]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Two Runs of three traces: prompts, answers and an error that tell them apart."""
    chains: list[dict[str, Any]] = [
        {"topic": 'a "quoted" fish', "answer": "Ha"},
        {"answer": "A Fish\nwalks in", "prompt": "Say"},
        {"error": "no such fish", "answer": "hm", "prompt": "Say"},
    ]
    chains = [{"topic": "nothing", **chain} for chain in chains]
    make_run(tmp_path, "one", chains)
    make_run(tmp_path, "two", [{"topic": "whales"}, {"topic": "sharks"}])
    return tmp_path


def test_prompts_answers_and_errors_are_found_in_any_case(command: Command, place: Path) -> None:
    """The latest trace first; a text that a chain and its model share comes once, as the model's;
    one that only the chain has is the chain's."""
    document = command("search", place, "FISH", "--json").document
    assert document["total"] == 3
    assert where(document) == [
        ("3", "joke", "error"),
        ("2", "ChatOpenAI", "answer"),
        ("1", "joke", "prompt"),
        ("1", "ChatOpenAI", "prompt"),
    ]
    (match,) = document["traces"][1]["matches"]
    assert (match["text"], match["marks"], match["count"]) == ("A Fish walks in", [[2, 6]], 1)
    (error,) = document["traces"][0]["matches"]
    assert error["text"] == "ValueError: no such fish"
    assert document["traces"][0]["start_unix_nano"] == START + 3 * 10**10


@pytest.mark.parametrize(
    ("phrase", "found"),
    [
        ('a "quoted" fish', ["1"]),
        ("fish\nwalks", ["2"]),
        ("ValueError", ["3"]),
        ("chain.py:7", ["3"]),
        ("ChatOpenAI", ["2", "1", "3", "2", "1"]),
        (trace_id(2)[:13], ["2", "2"]),
        ("Ha\nTell", []),
        ("generations", []),
        ("%", []),
    ],
)
def test_what_is_searched(command: Command, place: Path, phrase: str, found: list[str]) -> None:
    """Quotes, line breaks, types of errors, tracebacks, names and ids are found; names of fields
    and what two texts have together are not."""
    document = command("search", place, phrase, "--json").document
    assert sorted(trace["trace_id"][:8].lstrip("0") for trace in document["traces"]) == sorted(
        found
    )
    assert document["total"] == len(found)


def test_the_error_of_a_real_graph_is_the_one_of_its_tool(command: Command, tmp_path: Path) -> None:
    """An error that went up through a tool, a node and a graph is found once, where it came from;
    sessions and users are found as metadata."""
    talk(tmp_path)
    for phrase in ("CarrierDownError", "503 from the carrier\nfor 6"):
        document = command("search", tmp_path, phrase, "--json").document
        assert [(one["name"], one["session_id"]) for one in document["traces"]] == [
            ("support", "b-session")
        ]
        matches = document["traces"][0]["matches"]
        assert {(one["name"], one["side"]) for one in matches} == {("track_order", "error")}
    (trace,) = command("search", tmp_path, "b-session", "--json").document["traces"]
    assert [(one["side"], one["text"]) for one in trace["matches"]] == [("metadata", "b-session")]


def test_the_lines_show_the_text_around_the_match(command: Command, place: Path) -> None:
    """A line for each trace and for each text; what is left out is said; the command that shows
    the first trace works."""
    printed = command("search", place, "whales")
    assert (printed.code, printed.err) == (0, "")
    lines = printed.out.splitlines()
    assert lines[1] == f"{trace_id(1)}  2026-01-01 00:00:10Z  joke  ok"
    assert "  ChatOpenAI prompt  Tell me a joke about whales" in lines
    assert "Found in 1 trace." in lines
    assert "whales" in command(*lines[-1].split()[1:]).out
    out = command("search", place, "joke about", "--limit", 2).out
    assert "The latest 2 of 3 traces: --limit 0 shows all." in out
    assert "Found in no trace." in command("search", place, "nowhere").out
    printed = command("search", place, " ")
    assert (printed.code, printed.out) == (2, "")


def test_a_period_narrows_the_search(command: Command, place: Path) -> None:
    """``--since`` and ``--until`` search the traces that started then."""
    asked = ("search", place, "fish", "--json")
    since = command(*asked, "--since", "2026-01-01T00:00:20").document
    assert [one["trace_id"] for one in since["traces"]] == [trace_id(3), trace_id(2)]
    until = command(*asked, "--until", "2026-01-01T00:00:20").document
    assert [one["trace_id"] for one in until["traces"]] == [trace_id(1)]


def test_very_long_texts_are_searched_to_their_end(command: Command, tmp_path: Path) -> None:
    """The index holds the beginning of a very long text; the phrase is found behind it, too, and
    what stands beside the beginning only is not."""
    long = "x" * 100_000
    make_run(tmp_path, "one", [{"topic": f"{long} needle \u00e4pfel"}, {"topic": long}])
    for phrase in ("Needle", "NEEDLE \u00c4PFEL"):
        document = command("search", tmp_path, phrase, "--json").document
        assert [one["trace_id"] for one in document["traces"]] == [trace_id(1)]
        assert document["total"] == 1
        (match,) = [one for one in document["traces"][0]["matches"] if one["name"] != "joke"]
        ((begin, end),) = match["marks"]
        assert match["text"][begin:end].lower() == phrase.lower()
        assert len(match["text"]) <= 2 * AROUND + len(phrase) + 2


def test_the_data_of_an_image_is_no_text(command: Command, tmp_path: Path) -> None:
    """An image is found by what it is, never by its base64."""
    folder = RunFolder(tmp_path)
    image = {"type": "image", "base64": "QUJDREVG" * 100, "mime_type": "image/png"}
    inputs = {"messages": [[{"type": "human", "content": [image]}]]}
    folder.artifact(
        [event(1, kind="chat_model_start", span_id="a", trace_id="a", name="m", inputs=inputs),
         event(2, kind="llm_end", span_id="a", trace_id="a")]
    )  # fmt: skip
    folder.manifest()
    assert command("search", tmp_path, "QUJDREVG", "--json").document["total"] == 0
    assert command("search", tmp_path, "600 B", "--json").document["total"] == 1


def test_a_match_cannot_reach_the_terminal(command: Command, tmp_path: Path) -> None:
    """Escapes in what was found are shown, also where the phrase is in them."""
    make_run(tmp_path, "one", [{"topic": f"{HOSTILE} needle", "answer": HOSTILE}])
    for phrase in ("needle", "owned", "\x1b]0"):
        out = command("search", tmp_path, phrase).out
        assert "Found in 1 trace." in out
        assert "\x1b" not in out and "\u202e" not in out


def test_matches_are_marked_on_a_terminal(place: Path) -> None:
    """On a terminal the phrase is in other colours than the text around it."""
    terminal, tty = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "asynctrack.cli", "search", str(place), "whales"],
        stdout=tty,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "200"},
    )
    os.close(tty)
    shown = b""
    try:
        while chunk := os.read(terminal, 65_536):
            shown += chunk
    except OSError:  # the other end is closed
        pass
    os.close(terminal)
    assert process.wait() == 0
    assert b"joke about \x1b[30;43mwhales\x1b[0m" in shown


@pytest.mark.parametrize(
    ("text", "wanted", "places"),
    [
        ("aXbx", "x", [(1, 2), (3, 4)]),
        ("aaaa", "aa", [(0, 2), (2, 4)]),
        ("\u0130stanbul, \u0130STANBUL", "stanbul", [(1, 8), (11, 18)]),
        ("nothing", "x", []),
    ],
)
def test_occurrences(text: str, wanted: str, places: list[tuple[int, int]]) -> None:
    """Places are those in the text as it is, also where it is longer in lower case."""
    assert occurrences(text, wanted) == places
    assert all(text[begin:end].lower() == wanted for begin, end in places)


def test_an_excerpt_is_one_line_and_says_where_it_was_cut() -> None:
    """White space becomes one space, marks stay right, and further matches in it are marked."""
    text = "0123456789\n\n  ab \t ab 0123456789 ab"
    line, marks = excerpt(text, occurrences(text, "ab"), around=8)
    assert line == "…6789 ab ab 01…"
    assert [line[begin:end] for begin, end in marks] == ["ab", "ab"]
    assert excerpt("ab", [(0, 2)]) == ("ab", ((0, 2),))
