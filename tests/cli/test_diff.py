"""``asynctrack diff``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest

from asynctrack.cli._screen import Screen
from asynctrack.cli._textdiff import show_text_diff
from tests.cli.conftest import Command
from tests.cli.runs import HOSTILE, make_run, prices, trace_id
from tests.reading.turns import DOWN, Turn, make_turns, turn_id

pytestmark = pytest.mark.may_block("no event loop in here")


def two_runs(root: Path) -> None:
    """The same four questions; in the second Run the prompt, an answer and a latency differ."""
    topics = ("fish", "cats", "dogs", "ants")
    make_run(root, "a", [{"topic": one} for one in topics], temperature=0.1, kept="same")
    changed = [{"topic": one} for one in reversed(topics)]
    changed[0]["answer"] = "Ho ho"
    changed[1]["prompt"] = "Tell us a joke"
    changed[2]["seconds"] = 3.0  # type: ignore[assignment]
    make_run(root, "b", [*changed, {"topic": "owls"}], temperature=0.9, kept="same", added=[1])


def two_versions(root: Path) -> list[object]:
    """336 turns of a bot, twice: its tool failed 45 times, then 19 times; all else as before, but
    for ten answers."""
    for name, failures in (("a", 45), ("b", 19)):
        turns = [
            Turn(
                question=f"Where is {n}?",
                answer=f"In town {n}." if n < 326 or name == "a" else "Nobody knows.",
                tool_error=DOWN if n < failures else "",
                tool_seconds=0.2 + n % 7 / 100,
                message=name,
            )
            for n in range(336)
        ]
        make_turns(root, turns, name)
    return ["jokes/a", "jokes/b", "--root", root]


def lines_of(text: str) -> list[str]:
    """Lines with single spaces."""
    return [" ".join(line.split()) for line in text.splitlines()]


def test_what_differs_is_shown(
    tmp_path: Path, command: Command, bucket: Callable[[Path], list[str]]
) -> None:
    """Components side by side, parameters, and the answers to the same; no prompts."""
    two_runs(tmp_path)
    address, endpoint = bucket(tmp_path)
    stored = [f"{address}/asynctrack/v1/experiment=jokes/run={one}" for one in "ab"]
    for names in (["jokes/a", "jokes/b", "--root", tmp_path], [*stored, endpoint]):
        printed = command("diff", *names, "--prices", prices(tmp_path / "prices.json"))
        assert printed.code == 0 and printed.err == ""
        lines = lines_of(printed.out)
        assert "all A 4 0.0% 1 s 1 s 30 $0.0000500" in lines
        assert "B 5 0.0% 1 s 3 s 30 $0.0000500" in lines
        assert "gpt A 4 0.0% 998 ms 998 ms 30 $0.0000500" in lines
        assert not any(line.startswith("B−A") for line in lines), "so few tell nothing"
        assert "temperature 0.1 0.9" in lines and "added – [1]" in lines
        assert not any(line.startswith("kept ") for line in lines)
        assert "Final answers to the same questions: 1 of 4 changed" in lines
        assert "Only in B: 1 traces, the first is " + trace_id(5) in lines
        assert "- Ha" in lines and "+ Ho ho" in lines
        assert "Tell" not in printed.out, "prompts are in the traces"


def test_a_change_beyond_noise_is_found(tmp_path: Path, command: Command) -> None:
    """A tool that failed in 13.4 % of its calls, and now in 5.7 %, is the change that is shown."""
    names = two_versions(tmp_path)
    lines = lines_of(command("diff", *names).out)
    at = lines.index("lookup_order A 336 13.4% 230 ms 260 ms")
    assert lines[at + 1 : at + 3] == ["B 336 5.7% 230 ms 260 ms", "B−A −7.7 pts"]
    assert sum(line.startswith("B−A") for line in lines) == 1
    document = command("diff", *names, "--json").document
    components = {(one["kind"], one["name"]): one for one in document["components"]}
    assert list(components) == [
        ("trace", ""), ("chain", "support"), ("model", "gpt"), ("tool", "lookup_order")
    ]  # fmt: skip
    tool = components["tool", "lookup_order"]
    assert (tool["first"]["failed"], tool["second"]["failed"]) == (45, 19)
    assert tool["second"]["failure_rate"] == 19 / 336
    change = tool["differences"]["failure_rate"]
    assert change["beyond_noise"] and change["low"] < change["value"] < change["high"] < 0
    beyond = [
        (name, measure)
        for (_, name), one in components.items()
        for measure, difference in one["differences"].items()
        if difference["beyond_noise"]
    ]
    assert beyond == [("lookup_order", "failure_rate")]


def test_only_what_is_beyond_noise_is_coloured(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal the share that fell is green, and no other number has a colour."""
    names = two_versions(tmp_path)

    class Terminal(StringIO):
        encoding = "utf-8"

        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    for name, value in (("TERM", "xterm"), ("COLUMNS", "160"), ("NO_COLOR", "")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("asynctrack.cli._diff.Screen", lambda: Screen(terminal))
    assert command("diff", *names, "--top", 3).code == 0
    tables = terminal.getvalue().partition("Parameters")[0].splitlines()
    coloured = [line for line in tables if "\x1b[1;32m" in line and "jokes" not in line]
    assert len(coloured) == 2
    assert "\x1b[1;32m5.7%\x1b[0m" in coloured[0].replace(" ", "").replace("\x1b[1;32m\x1b", "\x1b")
    assert "−7.7 pts" in coloured[1]
    assert not any("\x1b[1;31m" in line for line in tables if "jokes" not in line)


def test_final_answers_only(tmp_path: Path, command: Command) -> None:
    """Of LangGraph's messages, with other ids in each Run, the last text counts; ten changed."""
    names = two_versions(tmp_path)
    printed = command("diff", *names)
    lines = lines_of(printed.out)
    assert "Final answers to the same questions: 10 of 336 changed" in lines
    assert "support Where is 326?" in lines and "- In town 326." in lines
    assert lines.count("+ Nobody knows.") == 5
    assert "5 more changed: --full shows all, and all of each" in lines
    full = lines_of(command("diff", *names, "--full").out)
    assert full.count("+ Nobody knows.") == 10 and "- In town 335." in full
    document = command("diff", *names, "--json", "--full").document
    assert document["traces"] == {
        "matched": 336, "same_outputs": 326, "only_first": [], "only_second": []
    }  # fmt: skip
    assert [one["first"]["trace_id"] for one in document["different"]] == [
        turn_id(n) for n in range(327, 337)
    ]


def test_long_answers_are_cut(tmp_path: Path, command: Command) -> None:
    """A few lines from where they begin to differ; --full gives all."""
    same = "It is as I said before. " * 40
    longer = "\n".join(f"line {n}" for n in range(30))
    make_run(tmp_path, "a", [{"topic": "x", "answer": f"{same}red"}, {"answer": "short"}])
    make_run(tmp_path, "b", [{"topic": "x", "answer": f"{same}blue"}, {"answer": longer}])
    names = ["diff", "jokes/a", "jokes/b", "--root", tmp_path]
    brief, full = command(*names).out, command(*names, "--full").out
    for out in (brief, full):
        assert "red" in out and "blue" in out
    assert f"{same}red" in full and "line 29" in full
    assert f"{same}red" not in brief and "- …" in brief and "line 29" not in brief
    assert "… 23 more lines" in brief


def test_the_document_has_all_of_it(tmp_path: Path, command: Command) -> None:
    """--json: numbers of both, parameters that differ, matches, and texts as they are."""
    two_runs(tmp_path)
    shown = command("diff", "jokes/a", "jokes/b", "--root", tmp_path, "--json").document
    assert shown["parameters"]["temperature"] == {"first": 0.1, "second": 0.9}
    assert shown["traces"]["matched"] == 4 and shown["traces"]["only_first"] == []
    assert shown["traces"]["same_outputs"] == 3
    assert shown["traces"]["only_second"] == [trace_id(5)]
    assert (shown["first"]["traces"], shown["second"]["traces"]) == (4, 5)
    (different,) = shown["different"]
    assert different["inputs"] == {"topic": "ants"} and different["name"] == "joke"
    assert different["texts"] == [{"what": "output", "first": "Ha", "second": "Ho ho"}]
    assert different["first"]["trace_id"] == trace_id(4)
    small = shown["components"][0]["differences"]["p95"]
    assert (small["low"], small["high"], small["beyond_noise"]) == (None, None, False)


def test_an_error_in_place_of_an_answer_is_a_change(tmp_path: Path, command: Command) -> None:
    """An answer that became an error, and one error that became another, are shown."""
    make_run(tmp_path, "a", [{"topic": "x"}, {"topic": "y", "error": "no"}, {"topic": "z"}])
    make_run(tmp_path, "b", [{"topic": "x", "error": "why"}, {"topic": "y", "error": "never"}, {}])
    lines = lines_of(command("diff", "jokes/a", "jokes/b", "--root", tmp_path).out)
    assert "Final answers to the same questions: 2 of 2 changed" in lines
    assert "- Ha" in lines and "+ ValueError: why" in lines
    assert "- ValueError: no" in lines and "+ ValueError: never" in lines


def test_the_exit_code_says_it_where_asked(tmp_path: Path, command: Command) -> None:
    """0 without --exit-code and for a Run against itself; 1 where something differs."""
    two_runs(tmp_path)
    root = ["--root", tmp_path]
    assert command("diff", "jokes/a", "jokes/b", *root).code == 0
    assert command("diff", "jokes/a", "jokes/b", "--exit-code", *root).code == 1
    same = command("diff", "jokes/a", "jokes/a", "--exit-code", *root)
    assert same.code == 0 and "Parameters: all the same" in same.out
    assert command("diff", "jokes/a", "jokes/nowhere", *root).code == 2


def test_only_traces_of_a_period_are_compared(tmp_path: Path, command: Command) -> None:
    """--since and --until leave out traces that began at another time, in all parts."""
    two_runs(tmp_path)
    when = ["--since", "2026-01-01T00:00:15Z", "--until", "2026-01-01T00:00:45Z"]
    names = ["diff", "jokes/a", "jokes/b", "--root", tmp_path, *when, "--json"]
    shown = command(*names).document
    assert (shown["first"]["traces"], shown["second"]["traces"]) == (3, 3)
    assert shown["components"][0]["first"]["calls"] == 3
    assert shown["traces"]["matched"] == 2, "cats and dogs"


def test_only_so_many_are_shown(tmp_path: Path, command: Command) -> None:
    """Of many that differ the first ones are shown, and how many more there are."""
    make_run(tmp_path, "a", [{"topic": str(n)} for n in range(8)])
    make_run(tmp_path, "b", [{"topic": str(n), "answer": "x"} for n in range(8)])
    printed = command("diff", "jokes/a", "jokes/b", "--root", tmp_path, "--top", 3)
    assert printed.out.count("    + x") == 3 and "5 more changed" in printed.out


def test_hostile_and_huge_texts_are_compared(tmp_path: Path, command: Command) -> None:
    """Escapes are shown as text; of megabytes a beginning is compared, at once."""
    huge = "".join(f"line {n}\n" for n in range(200_000))
    make_run(tmp_path, "a", [{"answer": HOSTILE}, {"topic": "big", "answer": huge}])
    make_run(tmp_path, "b", [{"answer": HOSTILE * 2}, {"topic": "big", "answer": "x" + huge}])
    names = ["diff", "jokes/a", "jokes/b", "--root", tmp_path]
    printed = command(*names)
    assert printed.code == 0 and not {"\x1b", "\u202e"} & set(printed.out)
    assert "- line 0" in printed.out and "+ xline 0" in printed.out
    assert len(printed.out) < 20_000
    full = command(*names, "--full").out
    assert "- line 199999" in full and "+ line 199999" in full


def test_a_text_that_is_not_there_differs_in_every_line() -> None:
    """Without a text on one side, all of the other is new."""
    out = StringIO()
    show_text_diff(None, "one\ntwo", Screen(out))
    assert out.getvalue().split() == ["+", "one", "+", "two"]


def test_it_says_what_it_needs(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without DuckDB the extra is named, and the code is 2."""
    two_runs(tmp_path)
    monkeypatch.setitem(sys.modules, "duckdb", None)
    printed = command("diff", "jokes/a", "jokes/b", "--root", tmp_path)
    assert printed.code == 2 and printed.out == ""
    assert "asynctrack diff needs duckdb" in printed.err and "[read]" in printed.err
