"""Names below a folder: as the user wrote them, or as the SageMaker SDK writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from asynctrack._errors import NotFoundError
from asynctrack._reading.experiment import open_experiment
from asynctrack._reading.run import open_run
from asynctrack._spool.layout import default_spool_dir
from tests.cli.conftest import Command, command
from tests.reading.making import RunFolder, event
from tests.reading.spooling import SpoolFolder, folder_of

__all__ = ["command"]  # a fixture


def tracked(root: Path, experiment: str, run: str) -> RunFolder:
    made = RunFolder(root, experiment=experiment, run=run)
    made.artifact([event(1)])
    return made


def place(root: Path, experiment: str, run: str) -> str:
    return open_run((experiment, run), root=root).uris[0].partition("experiment=")[2].rstrip("/")


def test_small_letters_are_found_by_what_the_user_wrote(tmp_path: Path) -> None:
    """What the SDK made small is found by the names that it was given, in any mix."""
    tracked(tmp_path, "myexp", "run-a")
    for names in (("MyExp", "Run-A"), ("myexp", "Run-A"), ("MYEXP", "run-a")):
        assert place(tmp_path, *names) == "myexp/run=run-a"
    assert open_experiment("MyExp", root=tmp_path).name == "myexp"
    with pytest.raises(NotFoundError, match="with the name MyExp/Run-B or myexp/run-b"):
        open_run(("MyExp", "Run-B"), root=tmp_path)
    with pytest.raises(NotFoundError, match="with the name Other or other"):
        open_experiment("Other", root=tmp_path)


def test_where_both_are_there_it_is_the_one_that_was_written(tmp_path: Path) -> None:
    """A folder that was tracked into has names as they were given: never the other one's Run."""
    for experiment, run in (("myexp", "run-a"), ("myexp", "Run-A"), ("MyExp", "Run-A")):
        tracked(tmp_path, experiment, run)
    tracked(tmp_path, "myexp", "run-b")
    assert place(tmp_path, "MyExp", "Run-A") == "MyExp/run=Run-A"
    assert place(tmp_path, "myexp", "Run-A") == "myexp/run=Run-A"
    assert place(tmp_path, "myexp", "run-a") == "myexp/run=run-a"
    with pytest.raises(NotFoundError):
        open_run(("MyExp", "Run-B"), root=tmp_path)
    experiment = open_experiment("MyExp", root=tmp_path)
    assert [run.name for run in experiment] == ["Run-A"]
    experiment = open_experiment("myexp", root=tmp_path)
    assert experiment["Run-A"].name == "Run-A" and experiment["RUN-B"].name == "run-b"
    with pytest.raises(NotFoundError):
        open_run(("myExp", "RUN-C"), root=tmp_path)


def test_large_letters_are_not_guessed(tmp_path: Path) -> None:
    """Nothing makes letters large: small ones name what is written in small ones only."""
    tracked(tmp_path, "MyExp", "Run-A")
    with pytest.raises(NotFoundError):
        open_run(("myexp", "run-a"), root=tmp_path)


def test_commands_and_the_spool_alike(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An address of the command line is matched in the same way, also one that only waits."""
    tracked(tmp_path / "runs", "myexp", "run-a")
    waits = tmp_path / "runs/asynctrack/v1/experiment=myexp/run=run-w"
    spool = SpoolFolder(default_spool_dir(), folder_of(waits), experiment="myexp", run="run-w")
    spool.segment([event(1)])
    monkeypatch.setenv("ASYNCTRACK_ROOT", str(tmp_path / "runs"))
    for run in ("Run-A", "Run-W"):
        assert command("show", f"MyExp/{run}").code == 0
        assert command("ls", f"MyExp/{run}").code == 0
    assert len(command("ls", "MyExp", "--json").document["experiments"][0]["runs"]) == 2
    missing = command("show", "MyExp/Run-B")
    assert missing.code == 2 and "MyExp/Run-B or myexp/run-b" in missing.err
