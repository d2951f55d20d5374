"""A Run that was compacted says the same to every command; what it takes is what is there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Command
from tests.cli.runs import make_run, trace_id


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """A Run of six traces, in a folder or in S3: where it is, and options."""
    run = make_run(tmp_path / "runs", chains=[{}, {"error": "bad"}, {}, {"seconds": 3.0}, {}, {}])
    if request.param == "folder":
        return [str(run.root)]
    store: Callable[[Path], list[str]] = request.getfixturevalue("bucket")
    return store(run.root)


def told(command: Command, place: list[str], scratch: Path) -> dict[str, Any]:
    """What each command says of the Run, but for where things are."""
    root, *options = place
    one = ["jokes/one", "--root", root, *options]
    show = command("show", *one, "--json").document
    followed = command("tail", *one, "--json", "-n", "5", "--until-closed")
    file = scratch / "events.jsonl"
    command("export", *one, "--format", "jsonl", "--output", file, "--force")
    rows = command("query", root, "SELECT * FROM spans ORDER BY start", "--json", *options)
    ls = command("ls", root, "--json", *options).document["experiments"][0]["runs"][0]
    verified = command("verify", *one, "--json")
    return {
        "show": {name: value for name, value in show.items() if name != "uri"},
        "trace": command("trace", one[0], trace_id(2), *one[1:], "--json").document,
        "tail": [json.loads(line) for line in followed.out.splitlines()],
        "export": [json.loads(line) for line in file.read_text().splitlines()],
        "query": rows.document["rows"],
        "ls": {name: ls[name] for name in ("state", "events", "traces", "failed", "input_tokens")},
        "verify": (verified.code, verified.document["ok"], verified.document["events"]),
        "diff": command("diff", *one[:1], *one, "--exit-code").code,
    }


def sizes(command: Command, place: list[str]) -> tuple[int, int]:
    """Objects and bytes, as ``ls`` says."""
    root, *options = place
    run = command("ls", root, "--json", *options).document["experiments"][0]["runs"][0]
    return run["objects"], run["bytes"]


def test_every_command_says_the_same(place: list[str], command: Command, tmp_path: Path) -> None:
    """Compacted, with its segments and without, a Run is what it was; sizes are what is stored."""
    before = told(command, place, tmp_path)
    assert len(before["export"]) == before["ls"]["events"] == 24 and len(before["tail"]) == 5
    assert before["verify"] == (0, True, 24) and len(before["query"]) == 12
    objects, size = sizes(command, place)
    assert objects == 3
    root, *options = place
    assert command("compact", root, *options).code == 0
    if not options:  # the same code; it takes seconds in S3
        assert told(command, place, tmp_path) == before
    both = sizes(command, place)
    assert both[0] == 4 and both[1] > size, "the segments, and the file that they are in"
    assert command("compact", root, "--delete", *options).code == 0
    assert told(command, place, tmp_path) == before
    assert sizes(command, place) == (1, both[1] - size), "the file alone"
