"""What type checkers say of a user's program, with the package as users and developers have it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

import asynctrack

ROOT = Path(asynctrack.__file__).parents[1]
MAIN = """
import asyncio
from pathlib import Path
from uuid import uuid4

from asynctrack import Feedback, Session, aopen_run, open_run, session, tracker


async def main() -> None:
    async with tracker(
        "runs", experiment_name="jokes", run_name="one", max_delay=1, close_timeout=2.5,
        spool_dir=Path("spool"), overflow="block", redact=["[0-9]{4}"], session_keys=("chat",),
        s3_options={"StorageClass": "STANDARD_IA"}, max_value_bytes=None,
    ) as handler:
        with handler.session(user_id=7, thread_id="c7") as asked:
            named: Session = asked
            handler.log_feedback(named.trace_id or uuid4(), "thumbs", True, comment="nice")
    run = await aopen_run("runs")
    await run.alog_feedback(uuid4(), "tone", "rude", user_id="ada")


with tracker(Path("runs"), durability="memory") as handler, session(session_id="s"):
    handler.log_feedback(str(uuid4()), "correctness", 0.5)
open_run("runs").log_feedback(uuid4(), "thumbs", 1)
given: list[Feedback] = list(open_run("runs").feedback())
asyncio.run(main())
"""
WRONG = """
from asynctrack import open_run, session, tracker

tracker("runs", experiment_nmae="jokes")
tracker("runs", max_delay="soon")
tracker("runs", overflow="wait")
tracker("runs", None)
with tracker("runs") as handler:
    handler.log_feedback(5, "thumbs", 1)
    handler.log_feedback("0b7e", "thumbs", 1, coment="nice")
    handler.session(user="ada")
session("ada")
open_run("runs").log_feedback("0b7e", 1)
"""


class Checkers:
    """The type checkers, in front of an environment in which asynctrack is installed.

    Args:
        folder: Where to make it.
        hook: How it is installed: the hook of the build backend.
    """

    def __init__(self, folder: Path, hook: str) -> None:
        self.folder = folder
        venv.create(folder / "env", symlinks=True)
        (site,) = (folder / "env").glob("lib/python*/site-packages")
        self.python = folder / "env/bin/python"
        source = folder / "source"
        source.mkdir()
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, source)
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "asynctrack", source / "asynctrack", ignore=ignored)
        code = f"from setuptools.build_meta import {hook}; {hook}({str(folder)!r})"
        told = self.run(sys.executable, "-c", code, cwd=source)
        built = next(folder.glob("*.whl"), None)
        assert built is not None, told
        with zipfile.ZipFile(built) as wheel:
            wheel.extractall(site)

    def run(self, *command: str, cwd: Path | None = None) -> str:
        """Return what a program says."""
        # What the tests are run with is not what the user's Python has.
        environ = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
        ended = subprocess.run(
            command,
            capture_output=True,
            text=True,
            cwd=cwd or self.folder,
            env=environ if cwd is None else None,
            timeout=240,
        )
        return ended.stdout + ended.stderr

    def mypy(self, path: Path) -> str:
        """Return what mypy says of a file."""
        options = ("--strict", "--no-incremental", "--python-executable", str(self.python))
        return self.run(sys.executable, "-m", "mypy", *options, str(path))

    def pyright(self, path: Path) -> str:
        """Return what pyright says of a file."""
        program = Path(sys.executable).with_name("basedpyright")
        (self.folder / "pyrightconfig.json").write_text('{"typeCheckingMode": "standard"}')
        return self.run(str(program), "--pythonpath", str(self.python), str(path))


@pytest.fixture(scope="module", params=["build_wheel", "build_editable"])
def checkers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Checkers:
    """Both checkers, with a wheel and with an editable install."""
    return Checkers(tmp_path_factory.mktemp("types"), request.param)


@pytest.mark.parametrize("name", ["mypy", "pyright"])
def test_a_users_program(checkers: Checkers, name: str) -> None:
    """What is right passes, and each mistake is told at its line."""
    check = getattr(checkers, name)
    main, wrong = checkers.folder / "main.py", checkers.folder / "wrong.py"
    main.write_text(MAIN)
    told = check(main)
    assert "Success" in told or "0 errors, 0 warnings" in told, told
    wrong.write_text(WRONG)
    told = check(wrong)
    lines = {int(line) for line in re.findall(r"wrong\.py:(\d+)[:\d]*.{0,3}error", told)}
    calls = {
        n for n, line in enumerate(WRONG.splitlines(), 1) if re.match(r" *[a-z_.\"()]+\(", line)
    }
    assert lines == calls, told
    assert "experiment_nmae" in told
