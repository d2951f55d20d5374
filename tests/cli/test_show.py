"""``asynctrack show``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from asynctrack._install import install_command
from asynctrack._reading.trees.span import TOKEN_PARTS
from asynctrack.cli._screen import Screen
from tests.cli.conftest import Command
from tests.cli.runs import HOSTILE, PARTS, cached_prices, make_run, prices, trace_id
from tests.reading.making import RunFolder, event
from tests.reading.spooling import SpoolFolder, folder_of
from tests.reading.turns import DOWN, LATE, Turn, make_turns

pytestmark = pytest.mark.may_block("no event loop in here")


def test_a_run_in_numbers(
    tmp_path: Path, command: Command, bucket: Callable[[Path], list[str]]
) -> None:
    """Counts, percentiles, parameters, the slowest and the failed traces; the same from S3."""
    make_run(tmp_path, "one", [{"seconds": 1 + n} for n in range(8)] + [{"error": "no fun"}], t=0.1)
    for place in ([tmp_path], ["jokes/one", "--root", tmp_path], bucket(tmp_path)):
        printed = command("show", *place)
        assert printed.code == 0 and printed.err == ""
        assert "9, of them 1 failed" in printed.out
        assert "18, of them 9 model calls, 1 with an error" in printed.out
        assert "90 in, 180 out" in printed.out
        assert "not known: give --prices FILE; no price is built in" in printed.out
        slowest = [line.split()[0] for line in printed.out.splitlines() if " joke " in line][:5]
        assert slowest == [trace_id(number) for number in (8, 7, 6, 5, 4)]
        assert "in joke: ValueError: no fun" in printed.out
        shown = command("show", *place, "--json", "--top", 2).document
        assert (shown["traces"], shown["failed"], shown["errors"]) == (9, 1, 1)
        assert shown["trace_seconds"]["max"] == 8.0 and shown["trace_seconds"]["count"] == 9
        assert [one["trace_id"] for one in shown["slowest_traces"]] == [trace_id(8), trace_id(7)]
        assert [one["error"] for one in shown["failed_traces"]] == ["ValueError: no fun"]
        assert shown["parameters"]["t"] == 0.1


def test_only_the_last_failed_traces_are_shown(tmp_path: Path, command: Command) -> None:
    """Of many the last ones are listed, and it is said that there are more."""
    make_run(tmp_path, "one", [{"error": f"e{n}"} for n in range(9)])
    printed = command("show", tmp_path, "--top", 2)
    assert "Failed: 9, the last 2" in printed.out
    assert "ValueError: e8" in printed.out and "ValueError: e6" not in printed.out
    assert "ValueError" not in command("show", tmp_path, "--top", 0).out


def test_parts_of_the_tokens_are_summed_up(tmp_path: Path, command: Command) -> None:
    """What came from the cache and went into it, audio and reasoning are named, and priced."""
    make_run(tmp_path, "one", [{"tokens": (1_000_000, 500_000), "parts": PARTS}] * 2)
    file = cached_prices(tmp_path / "prices.json")
    out = command("show", tmp_path, "--prices", file).out
    assert (
        "2,000,000 in (1,200,000 from the cache, 200,000 into the cache, 10 audio),"
        " 1,000,000 out (80 reasoning, 12 audio)"
    ) in " ".join(out.split())
    assert "$3.12" in out
    shown = command("show", tmp_path, "--json").document
    assert [shown[name] for name in TOKEN_PARTS] == [1_200_000, 200_000, 80, 10, 12]


def test_cost_and_what_has_no_price(tmp_path: Path, command: Command) -> None:
    """With prices a cost is shown, and how many calls it leaves out."""
    make_run(tmp_path, "one", [{"tokens": (2_000_000, 1_000_000)}])
    file = prices(tmp_path / "prices.json")
    assert "$4.00" in command("show", tmp_path, "--prices", file).out
    file.write_text('{"other": [1, 2]}')
    assert (
        "not known: 1 model calls without a price"
        in command("show", tmp_path, "--prices", file).out
    )
    file.write_text('{"other": 1}')
    wrong = command("show", tmp_path, "--prices", file)
    assert wrong.code == 2 and "USD per million" in wrong.err


def test_a_damaged_object_is_named_and_the_rest_is_shown(tmp_path: Path, command: Command) -> None:
    """What cannot be read is said; it does not keep the rest from being shown."""
    folder = make_run(tmp_path, "one")
    next(folder.path.glob("dt=*/*")).write_bytes(b"rubbish")
    printed = command("show", tmp_path)
    assert printed.code == 0 and "Could not be read: 1" in printed.out
    assert "4, of them 0 failed" in printed.out
    assert len(command("show", tmp_path, "--json").document["problem_list"]) == 1


def test_nothing_logged_can_steer_the_terminal(tmp_path: Path, command: Command) -> None:
    """Errors, names and parameters are shown as text."""
    make_run(tmp_path, "one", [{"error": HOSTILE}], hostile=HOSTILE)
    for printed in (command("show", tmp_path), command("show", tmp_path, "--json")):
        assert "\x1b" not in printed.out and "\u202e" not in printed.out
        assert "[bold]not bold[/bold]" in printed.out


def test_what_is_not_there_is_said(tmp_path: Path, command: Command) -> None:
    """No such place, no Run in it, or several: what to do is said, and the code is 2."""
    make_run(tmp_path, "one")
    make_run(tmp_path, "two")
    several = command("show", tmp_path)
    assert several.code == 2 and several.err.count("run=") == 2 + several.err.count("run=<")
    for name in (tmp_path / "nowhere", "a/b/c", ""):
        for one in ("show", "verify", "ls"):
            printed = command(one, name)
            assert printed.code == 2 and printed.out == ""
    assert "there is no Run" in command("show", "jokes/three", "--root", tmp_path).err


def test_dead_letters_are_counted_and_named(command: Command, tmp_path: Path) -> None:
    """What S3 refused for good is counted by ``show`` and ``ls``, and named with its file."""
    folder = make_run(tmp_path / "runs")
    folder.manifest(refused_ranges=[[25, 27]], accepted=27)
    spool = SpoolFolder(tmp_path / "spool", folder_of(folder.path))
    dead = spool.path / f"{26:012d}-{28:012d}.dead"
    dead.write_bytes(b"{}\n")
    spool.die()
    where = ("--root", folder.root, "--spool-dir", tmp_path / "spool")
    shown = command("show", "jokes/one", *where)
    assert shown.code == 0
    assert "refused  4 events, refused for good: --dead-letters shows them" in shown.out
    assert f"{dead}: dead letters, not read: events 26 to 28" in shown.out.replace("\n", "")
    told = command("show", "jokes/one", *where, "--json").document
    assert told["dead_letters"] == [
        {"first_seq": 26, "last_seq": 28, "objects": [str(dead)]},
    ]
    assert told["problem_list"][0]["object"] == str(dead) and shown.err == ""
    listed = command("ls", *where)
    assert "refused: dead letters" in listed.out
    (experiment,) = command("ls", *where, "--json").document["experiments"]
    assert experiment["refused"] == experiment["runs"][0]["refused"] == 4
    elsewhere = command("ls", "--root", folder.root, "--no-spool", "--json").document
    assert elsewhere["experiments"][0]["refused"] == 3, "as the manifest says"


def test_dead_letters_are_shown_with_the_reason(command: Command, tmp_path: Path) -> None:
    """--dead-letters shows the events that lie on this machine and why; what is elsewhere, too."""
    folder = make_run(tmp_path / "runs")
    where = ("jokes/one", "--root", folder.root, "--spool-dir", tmp_path / "spool")
    none = command("show", *where, "--dead-letters")
    assert none.code == 0 and "Nothing was refused" in none.out
    assert command("show", *where, "--dead-letters", "--json").document["dead_letters"] == []
    folder.manifest(refused_ranges=[[25, 29]], accepted=29)
    spool = SpoolFolder(tmp_path / "spool", folder_of(folder.path))
    dead = spool.dead_letters([event(26, inputs=HOSTILE), event(27)], "EntityTooLarge: \x1b[31mno")
    spool.die()
    shown = command("show", *where, "--dead-letters")
    assert (shown.code, shown.err) == (0, "")
    assert str(dead) in shown.out.replace("\n", "")
    assert "refused for good: EntityTooLarge: \\x1b[31mno" in shown.out
    assert "\x1b" not in shown.out and "2 events on this machine only" in shown.out
    assert "5 events were refused for good, 3 of them are not here" in shown.out
    told = command("show", *where, "--dead-letters", "--json").document
    assert [one["event"]["seq"] for one in told["dead_letters"]] == [26, 27]
    assert told["dead_letters"][0]["event"]["inputs"] == HOSTILE
    assert {one["reason"] for one in told["dead_letters"]} == {"EntityTooLarge: \x1b[31mno"}
    assert (told["refused"], told["problem_list"]) == (5, [])
    dead.write_bytes(b"{}\n{}\n")
    broken = command("show", *where, "--dead-letters")
    assert f"could not be read: {dead}, line 1" in broken.out


def test_a_run_without_events_is_shown(command: Command, tmp_path: Path) -> None:
    """A tracker that has just begun has made a folder: that is a Run, and said to be empty."""
    RunFolder(tmp_path).path.mkdir(parents=True)
    shown = command("show", tmp_path)
    assert (shown.code, shown.err) == (0, "")
    assert "empty: nothing is delivered yet" in shown.out
    assert command("show", tmp_path, "--json").document["events"] == 0
    for name in ("ls", "diff"):
        assert command(name, *[tmp_path] * (1 + (name == "diff"))).code == 0
    verified = command("verify", tmp_path)
    assert verified.code == 2 and "there is nothing to verify" in verified.err


def test_warnings_of_the_logger_reach_a_terminal_as_text(command: Command, tmp_path: Path) -> None:
    """What could not be read is named once, with nothing in it that a terminal would obey."""
    folder = make_run(tmp_path)
    (folder.path / "dt=2026-01-01" / "\x1b[31m.txt").write_text("?")
    for arguments in (("ls", "--exact"), ("show",), ("show", "--json"), ("diff", tmp_path)):
        printed = command(arguments[0], tmp_path, *arguments[1:])
        assert printed.code == 0 and "\x1b" not in printed.out + printed.err, arguments
        named = (printed.out + printed.err).count("not the key of an artifact")
        assert named == (2 if arguments[0] == "diff" else 1), arguments


def turns() -> list[Turn]:
    """A hundred turns: a tool fails in 13 of them, three of which fail of it."""
    return [
        Turn(
            tool_error=LATE if n < 3 else DOWN if n < 13 else "",
            failed=n < 3,
            model="big" if n % 4 == 0 else "gpt",
            tool_seconds=(n + 1) / 100,
            first_token=0.25 if n % 2 else None,
            retrieves=n == 50,
        )
        for n in range(100)
    ]


def test_a_table_of_each_kind_of_component(tmp_path: Path, command: Command) -> None:
    """Which tool fails most, and why; p95 by model; time to first token as its user feels it."""
    make_turns(tmp_path, turns())
    printed = command("show", tmp_path)
    assert (printed.code, printed.err) == (0, "")
    lines = [" ".join(line.split()) for line in printed.out.splitlines()]
    for kind, heads, row in (
        ("Tools", "calls failed p50 p95 errors",
         "lookup_order 100 13 (13.0%) 500 ms 950 ms CarrierDown 10, TimeoutError 3"),
        ("Retrievers", "calls failed p50 p95", "shelf 1 0 100 ms 100 ms"),
        ("Models", "calls failed p50 p95 first p50 first p95 tokens in tokens out",
         "gpt 73 0 1 s 1 s 250 ms 250 ms 730 1,460"),
        ("Chains", "calls failed p50 p95 first p50 first p95 tokens in tokens out errors",
         "support 100 3 (3.0%) 1.5 s 1.95 s 500 ms 500 ms 970 1,940 TimeoutError 3"),
    ):  # fmt: skip
        at = lines.index(kind)
        assert lines[at + 1 : at + 3] == [f"name {heads}", row]
    costs = command("show", tmp_path, "--prices", prices(tmp_path / "prices.json")).out
    assert "gpt      73       0  1 s  1 s     250 ms     250 ms        730       1,460" in costs
    assert "$0.00365" in costs
    shown = command("show", tmp_path, "--json").document["components"]
    (tool,) = (one for one in shown if one["kind"] == "tool")
    assert tool["errors"] == [[DOWN, 10], [LATE, 3]]
    assert (tool["name"], tool["calls"], tool["failed"]) == ("lookup_order", 100, 13)
    assert (tool["p50"], tool["p95"], tool["cost"]) == (0.5, 0.95, None)


def test_of_many_components_the_first_are_shown(tmp_path: Path, command: Command) -> None:
    """As many of each kind as are asked for, and how many more there are."""
    make_turns(tmp_path, [Turn(model=f"model-{n}") for n in range(9)])
    out = command("show", tmp_path, "--top", 2).out
    assert "model-1" in out and "model-2" not in out
    assert "and 7 more: --top N shows more of them" in out
    assert len(command("show", tmp_path, "--json").document["components"]) == 11


def test_long_lists_are_cut(tmp_path: Path, command: Command) -> None:
    """Of many parameters the first are shown; --json has all."""
    make_run(tmp_path, **{f"p{n:02}": n for n in range(40)})
    out = command("show", tmp_path).out
    assert "p18" in out and "p19" not in out and "and 21 more" in out
    assert len(command("show", tmp_path, "--json").document["parameters"]) == 41


def test_components_fit_a_narrow_terminal(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a table is too wide, each component takes two lines, with all that is known of it."""
    make_turns(tmp_path, turns())

    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    for name, value in (("TERM", "dumb"), ("COLUMNS", "60")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("asynctrack.cli._show.Screen", lambda: Screen(terminal))
    assert command("show", tmp_path).code == 0
    told = " ".join(terminal.getvalue().split())
    assert "lookup_order calls 100 failed 13 (13.0%) p50 500 ms p95 950 ms errors Carr" in told


def without(document: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in names}


def test_without_duckdb_it_tells_the_rest(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plain install shows all but the table by component, and names the extra in one line."""
    make_turns(tmp_path, turns(), temperature=0.1)
    for when in ((), ("--since", "2026-01-01T00:03:00Z", "--until", "2026-01-01T00:10:00Z")):
        names = ["show", tmp_path, *when]
        with monkeypatch.context() as plain:
            indexed, told = command(*names).out, command(*names, "--json").document
            plain.setitem(sys.modules, "duckdb", None)
            folded, alone = command(*names), command(*names, "--json").document
        assert told["traces"] == (42 if when else 100)
        assert alone["components"] is None
        assert without(alone, "components") == without(told, "components")
        assert (folded.code, folded.err) == (0, "")
        lacking = [line for line in folded.out.splitlines() if line not in indexed.splitlines()]
        assert lacking == [
            "The table by tool, model, retriever and chain needs duckdb, which is not installed:"
            f" {install_command('read')}"
        ]


def test_a_new_answer_reads_new_artifacts_only(tmp_path: Path, command: Command) -> None:
    """What was read is not read again: it is in the index."""
    folder = make_run(tmp_path)
    first = command("show", tmp_path, "--json").document
    for path in folder.path.glob("dt=*/*"):
        path.write_bytes(b"x" * path.stat().st_size)  # nobody looks at it any more
    assert command("show", tmp_path, "--json").document == first
    assert first["events"] == 24
