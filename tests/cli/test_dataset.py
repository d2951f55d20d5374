"""``asynctrack dataset``, as a user runs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.cli.conftest import Command
from tests.cli.runs import HOSTILE, make_run


def test_a_file_of_examples(tmp_path: Path, command: Command) -> None:
    """A line for each call from outside; what was written is said, and nothing is written over."""
    folder = make_run(tmp_path / "runs", chains=[{"topic": "fish"}, {"error": "boom"}])
    path = tmp_path / "jokes.jsonl"
    said = command("dataset", folder.path, "--output", path, "--json")
    assert (said.code, said.document) == (
        0, {"output": str(path), "examples": 2, "without_outputs": 1}
    )  # fmt: skip
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [one["inputs"] for one in lines] == [{"topic": "fish"}, {"topic": "fish"}]
    assert [one["outputs"] for one in lines] == [{"output": "Ha"}, None]
    assert lines[0]["expectations"] == {"expected_response": "Ha"}
    again = command("dataset", folder.path, "--output", path)
    assert again.code == 2 and "a new file; --force writes over one" in again.err
    forced = command("dataset", folder.path, "--output", path, "--force")
    assert "2 examples" in forced.out and "--where \"outcome = 'ok'\"" in forced.out
    chosen = ["--where", "outcome = 'ok'", "--output", path, "--force"]
    assert command("dataset", folder.path, *chosen).out.strip() == f"1 example: {path}"


def test_standard_output_is_the_lines(tmp_path: Path) -> None:
    """``-`` gives the lines to the next program."""
    import subprocess
    import sys

    folder = make_run(tmp_path / "runs", chains=[{"answer": HOSTILE}])
    arguments = ["dataset", str(folder.path), "--kind", "chat_model", "--output", "-"]
    done = subprocess.run(
        [sys.executable, "-m", "asynctrack.cli", *arguments], capture_output=True, check=True
    )
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["outputs"]["message"] == {"role": "assistant", "content": HOSTILE}


def test_which_calls(tmp_path: Path, command: Command) -> None:
    """Kinds, names, a limit, and a time choose; where none is left, that is said."""
    folder = make_run(tmp_path / "runs", chains=[{}, {}, {}])

    def count(*options: str) -> int:
        path = tmp_path / "x.jsonl"
        said = command("dataset", folder.path, "--output", path, "--force", "--json", *options)
        assert said.code == 0, said.err
        assert len(path.read_text().splitlines()) == said.document["examples"]
        return int(said.document["examples"])

    assert count() == 3
    assert count("--kind", "chat_model,tool") == 3
    assert count("--span-name", "ChatOpenAI", "--limit", "2") == 2
    assert count("--span-name", "nobody") == 0
    assert count("--since", "1s") == 0
    none = command("dataset", folder.path, "--output", tmp_path / "y", "--where", "false")
    assert none.code == 0 and "No call matches what is asked for." in none.out


def test_what_is_wrong_is_said(tmp_path: Path, command: Command) -> None:
    """Wrong calls end with 2, damage with 1, and neither leaves a file."""
    folder = make_run(tmp_path / "runs")
    path = tmp_path / "new" / "x.jsonl"
    path.parent.mkdir()
    for arguments, says in (
        (["--where", "outcom = 1"], '--where: Binder Error: Referenced column "outcom"'),
        (["--kind", "chat_modl"], "did you mean 'chat_model'?"),
        (["--limit", "x"], "0 or more"),
    ):
        try:
            said = command("dataset", folder.path, "--output", path, *arguments)
            assert (said.code, says in said.err) == (2, True), said.err
        except SystemExit as ended:
            assert ended.code == 2
    said = command("dataset", folder.path, "--output", "-", "--json")
    assert said.code == 2 and "--json is not allowed" in said.err
    segment = next(folder.path.glob("dt=*/*"))
    segment.write_bytes(b"x")
    said = command("dataset", folder.path, "--output", path)
    assert said.code == 1 and str(segment) in said.err
    assert list(path.parent.iterdir()) == []
    said = command("dataset", folder.path, "--output", path, "--set-aside")
    assert said.code == 0 and "set aside" in said.err


def test_from_s3(tmp_path: Path, command: Command, bucket: Callable[[Path], list[str]]) -> None:
    """A Run in S3 gives the same lines."""
    folder = make_run(tmp_path / "runs")
    for name, source in (("a", [str(folder.path)]), ("b", bucket(tmp_path / "runs"))):
        assert command("dataset", *source, "--output", tmp_path / name).code == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() != b""
