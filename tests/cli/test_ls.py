"""``asynctrack ls``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from langchain_core.runnables import RunnableLambda

from asynctrack import tracker
from asynctrack._reading.trees.span import TOKEN_PARTS
from asynctrack._spool.layout import default_spool_dir
from tests.cli.conftest import Command
from tests.cli.runs import HOSTILE, PARTS, cached_prices, chain, make_run, prices
from tests.reading.making import OTHER, RunFolder
from tests.reading.spooling import SpoolFolder, folder_of

pytestmark = pytest.mark.may_block("no event loop in here")


def row(out: str, run: str) -> list[str]:
    (line,) = [line for line in out.splitlines() if line.startswith(f"{run} ")]
    return line.split()


def test_what_a_folder_and_a_bucket_hold(
    tmp_path: Path, command: Command, bucket: Callable[[Path], list[str]]
) -> None:
    """Experiments, each with its Runs: counts, tokens, size; the same from S3."""
    make_run(tmp_path, "one", [{}, {"error": "no"}, {"tokens": (5, 7)}])
    make_run(tmp_path, "two")
    size = sum(path.stat().st_size for path in tmp_path.rglob("run=one/dt=*/*"))
    for place in ([tmp_path], ["--root", tmp_path], bucket(tmp_path)):
        printed = command("ls", *place)
        assert printed.code == 0 and printed.err == ""
        assert "jokes: 2 runs, 9 traces, 1 failed, 36 events" in printed.out
        assert row(printed.out, "one")[:8] == [
            "one",
            "closed",
            "3",
            "1",
            "25",
            "47",
            "12",
            f"{size}",
        ]
        assert "From manifests" in printed.out
        assert "Cost: give --prices FILE; no price is built in." in printed.out
        shown = command("ls", *place, "--json").document["experiments"]
        assert [one["experiment"] for one in shown] == ["jokes"]
        assert (shown[0]["traces"], shown[0]["events"], shown[0]["cost"]) == (9, 36, None)
        first = shown[0]["runs"][0]
        assert (first["run"], first["based_on"], first["bytes"]) == ("one", "manifests", size)


def test_cost_is_of_the_prices_given(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With prices there is a cost, from the option or the environment; none for another model."""
    make_run(tmp_path, "one", [{"tokens": (1_000_000, 500_000)}])
    file = prices(tmp_path / "prices.json")
    assert row(command("ls", tmp_path, "--prices", file).out, "one")[6] == "$2.00"
    monkeypatch.setenv("ASYNCTRACK_PRICES", str(file))
    assert command("ls", tmp_path, "--json").document["experiments"][0]["cost"] == 2.0
    make_run(tmp_path, "one", [{}], **{"gen_ai.request.model.2": "other"})
    printed = command("ls", tmp_path)
    assert row(printed.out, "one")[6] == "?" and "--exact" in printed.out
    assert row(command("ls", tmp_path, "--exact").out, "one")[6] == "$0.0000500"


def test_what_came_from_the_cache_has_its_price(tmp_path: Path, command: Command) -> None:
    """Cached tokens and reasoning have columns where there are any; manifests price them too."""
    folder = make_run(tmp_path, "one", [{"tokens": (1_000_000, 500_000), "parts": PARTS}])
    make_run(tmp_path, "two", [{}])
    file = cached_prices(tmp_path / "prices.json")
    for more in ([], ["--exact"]):
        printed = command("ls", tmp_path, "--prices", file, *more)
        (cells,) = [line.split() for line in printed.out.splitlines() if " one " in f" {line}"]
        assert cells[4:9] == ["1,000,000", "600,000", "500,000", "40", "$1.56"], printed.out
        assert "cached: of the tokens in" in printed.out
        shown = command("ls", tmp_path, "--json", *more).document["experiments"][0]
        assert [shown[name] for name in TOKEN_PARTS] == list(PARTS.values())
        assert [shown["runs"][0][name] for name in TOKEN_PARTS] == list(PARTS.values())
        assert [shown["runs"][1][name] for name in TOKEN_PARTS] == [0] * 5
    folder.manifest(metrics={})
    shown = command("ls", tmp_path, "--json", "--exact").document["experiments"][0]
    assert [shown[name] for name in TOKEN_PARTS] == list(PARTS.values())


def test_exact_counts_from_the_events(tmp_path: Path, command: Command) -> None:
    """Where a manifest says otherwise, --exact reads what is there."""
    folder = make_run(tmp_path, "one", [{}, {"error": "x"}])
    folder.manifest(metrics={})
    assert row(command("ls", tmp_path).out, "one")[2:6] == ["0", "0", "0", "0"]
    printed = command("ls", tmp_path, "--exact")
    assert row(printed.out, "one")[2:6] == ["2", "1", "20", "40"]
    assert "Counted from all events." in printed.out


def test_states_are_told_apart(tmp_path: Path, command: Command) -> None:
    """Closed, open, being written on this machine, without a manifest, died: each is said."""
    make_run(tmp_path, "closed")
    make_run(tmp_path, "open").manifest(state="open")
    unknown = RunFolder(tmp_path, run="unknown")
    unknown.artifact(chain(1, 1))
    waiting = RunFolder(tmp_path, run="writing")
    spool = SpoolFolder(
        default_spool_dir(), folder_of(waiting.path), writer=OTHER, run="writing"
    )  # fmt: skip
    spool.segment(chain(1, 1, writer=OTHER))
    printed = command("ls", tmp_path)
    for name in ("closed", "open", "unknown", "writing"):
        assert row(printed.out, name)[1] == name
    assert row(printed.out, "writing")[2:9] == ["?", "?", "?", "?", "0", "4", "0"], (
        "traces, failed, tokens in and out, events, spooled, size"
    )
    assert row(printed.out, "unknown")[2:7] == ["?", "?", "?", "?", "4"]
    assert "?: no manifest counts it; --exact does." in printed.out
    assert "state died" not in printed.out
    spool.die()
    printed = command("ls", tmp_path)
    assert row(printed.out, "writing")[1] == "died"
    assert row(printed.out, "writing")[6:8] == ["0", "4"], "events, spooled"
    assert "asynctrack spool replay delivers the rest" in printed.out
    assert "writing" not in command("ls", tmp_path, "--no-spool").out.replace("being written", "")


def test_names_are_looked_for_below_the_root(tmp_path: Path, command: Command) -> None:
    """An experiment, or one Run of it; without a place it says what to give."""
    make_run(tmp_path, "one")
    make_run(tmp_path, "two")
    assert "2 runs" in command("ls", "jokes", "--root", tmp_path).out
    assert "1 run," in command("ls", "jokes/two", "--root", tmp_path).out
    assert command("ls").code == 2 and "say where" in command("ls").err
    nothing = command("ls", "songs", "--root", tmp_path)
    assert nothing.code == 2 and "there is no Run" in nothing.err
    assert command("ls", tmp_path / "asynctrack/v1/experiment=jokes").code == 0


def test_names_cannot_steer_the_terminal(tmp_path: Path, command: Command) -> None:
    """A Run's name is whatever somebody called a folder."""
    make_run(tmp_path, "x" + HOSTILE.replace("/", ""))
    printed = command("ls", tmp_path)
    assert printed.code == 0
    assert "\x1b" not in printed.out and "\u202e" not in printed.out and "\\x1b" in printed.out


def test_a_manifest_that_cannot_be_read_is_named(command: Command, tmp_path: Path) -> None:
    """What cannot be counted is not passed over in silence."""
    for name in ("one", "two"):
        make_run(tmp_path, name).manifest().write_text('{"v": 1, nonsense')
    make_run(tmp_path, "sound")
    printed = command("ls", tmp_path)
    assert printed.code == 0
    assert printed.out.count("cannot be read, and not counted: ") == 2
    (experiment,) = command("ls", tmp_path, "--json").document["experiments"]
    problems = {one["run"]: len(one["problems"]) for one in experiment["runs"]}
    assert problems == {"one": 1, "two": 1, "sound": 0}


def test_what_was_sampled(tmp_path: Path, command: Command) -> None:
    """A Run whose traces were sampled says how many of how many were kept, beside one with all."""
    for name, sample in (("whole", 1.0), ("part", 0.5)):
        with tracker(tmp_path, experiment_name="e", run_name=name, sample=sample) as handler:
            RunnableLambda(str.upper).batch(["x"] * 20, {"callbacks": [handler]})
    kept = 20 - handler.statistics().traces_sampled_out
    out = command("ls", tmp_path).out
    assert row(out, "part")[2:7] == [str(kept), "0", str(kept), "of", "20"]
    assert row(out, "whole")[2:5] == ["20", "0", "all"]
    assert "kept: traces that were sampled, of all" in out
    assert "kept" not in command("ls", tmp_path / "asynctrack/v1/experiment=e/run=whole").out
