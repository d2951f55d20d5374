"""``asynctrack ls`` after a kill: it says that the writer died, and counts what it did."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from asynctrack import open_run, tracker
from asynctrack._spool.layout import writers
from asynctrack.cli import main
from tests.crash.stops import fails, tokens
from tests.e2e.waiting import until_in_thread

pytestmark = pytest.mark.may_block("the loop of `spool replay` is the command's own")

ROOT = Path(__file__).parents[2]


def die(place: Path, *steps: str) -> None:
    """Let a program track into a place, and kill it after these steps."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.crash.stops",
            str(place / "out"),
            str(place / "spool"),
            *steps,
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"ready\n"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def listed(place: Path, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
    """What ``ls`` says of the Run."""
    spool = () if "--no-spool" in more else (f"--spool-dir={place / 'spool'}",)
    assert main(["ls", str(place / "out"), "--json", *spool, *more]) == 0
    (experiment,) = json.loads(capsys.readouterr().out)["experiments"]
    (run,) = experiment["runs"]
    found: dict[str, Any] = run
    return found


def truth(chains: int) -> dict[str, int]:
    """What so many chains add up to."""
    numbers = range(1, chains + 1)
    return {
        "traces": chains,
        "failed": sum(map(fails, numbers)),
        "model_calls": chains,
        "input_tokens": sum(tokens(number)[0] for number in numbers),
        "output_tokens": sum(tokens(number)[1] for number in numbers),
        "cache_read_tokens": sum(tokens(number)[0] // 2 for number in numbers),
    }


def counts(run: dict[str, Any]) -> dict[str, int]:
    """The same, as ``ls`` has it."""
    return {name: run[name] for name in truth(0)}


EVENTS = 8
"""Of each chain: four spans that start and end."""

STEPS = [
    pytest.param(["chains=23"], id="before its first manifest"),
    pytest.param(["chains=12", "delivered"], id="delivered, before its first manifest"),
    pytest.param(["chains=9", "flush", "chains=14"], id="after a manifest"),
    pytest.param(["chains=9", "flush", "chains=8", "delivered"], id="delivered after a manifest"),
    pytest.param(["chains=9", "flush", "chains=8", "delivered", "chains=5"], id="all of that"),
    pytest.param(["chains=11", "flush"], id="when all was listed"),
]


@pytest.mark.parametrize("steps", STEPS)
def test_a_killed_writer_died_and_its_counts_are_true(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], steps: list[str]
) -> None:
    """Wherever its events are when it is killed, ``ls`` counts each trace and each token once: on
    its machine at once, and everywhere once a replay has delivered them."""
    die(tmp_path, *steps)
    chains = sum(int(step.partition("=")[2] or 0) for step in steps)
    before = listed(tmp_path, capsys)
    assert (before["state"], counts(before)) == ("died", truth(chains))
    assert before["events"] + before["spooled"] >= EVENTS * chains
    assert main(["spool", "replay", f"--spool-dir={tmp_path / 'spool'}"]) == 0
    capsys.readouterr()
    assert writers(tmp_path / "spool") == []
    after = listed(tmp_path, capsys)
    elsewhere = listed(tmp_path, capsys, "--no-spool")
    assert after == elsewhere
    assert (after["state"], counts(after)) == ("died", truth(chains))
    assert (after["events"], after["spooled"]) == (EVENTS * chains, 0)
    exactly = listed(tmp_path, capsys, "--exact")
    assert counts(exactly) == truth(chains)


def test_what_was_replayed_is_in_the_metrics(tmp_path: Path) -> None:
    """The Run's metrics have what a replay delivered, for all who read the manifests only."""
    die(tmp_path, "chains=4", "flush", "chains=20")
    main(["spool", "replay", f"--spool-dir={tmp_path / 'spool'}"])
    metrics = open_run(tmp_path / "out", spool_dir=False).metrics
    replayed = metrics["asynctrack.trace.count"].sum
    assert 4 < replayed <= 24


def test_the_next_tracker_says_that_it_died(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A tracker that takes over an empty folder says so in the Run, and one that closed did not
    die."""
    die(tmp_path, "chains=6", "flush")
    spool = tmp_path / "spool"
    with tracker(tmp_path / "other", spool_dir=str(spool)) as handler:
        until_in_thread(lambda: len(writers(spool)) == 1)
    assert handler.statistics().replayed == 0
    run = listed(tmp_path, capsys, "--no-spool")
    assert (run["state"], counts(run)) == ("died", truth(6))


def test_a_manifest_that_says_too_little_is_not_guessed_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where an old manifest does not say which events it counts, what is not known is ``?``."""
    die(tmp_path, "chains=5", "flush", "chains=5")
    (manifest,) = (tmp_path / "out").rglob("_manifest/*.json")
    content = json.loads(manifest.read_bytes())
    del content["metrics_seq"]
    manifest.write_text(json.dumps(content))
    run = listed(tmp_path, capsys)
    assert (run["state"], run["traces"], run["input_tokens"]) == ("died", None, None)
    assert main(["ls", str(tmp_path / "out"), f"--spool-dir={tmp_path / 'spool'}"]) == 0
    printed = capsys.readouterr().out
    assert "?: no manifest counts it; --exact does." in printed
    assert "state died" in printed
