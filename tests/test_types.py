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
PLAIN = """
import logging
from collections.abc import AsyncIterator, Callable, Iterator

import asynctrack
from asynctrack import (
    AsyncHandler, Installed, LogHandler, Root, StructlogProcessor, SyncHandler, TrackedSpan,
    install, open_run, tracker,
)
from asynctrack.testing import replay_model


def sample(root: Root) -> float:
    kept: bool = "vip" in root.tags or root.metadata.get("plan") == "enterprise"
    return 1.0 if kept or root.name == "jokes" else 0.1


@asynctrack.tracked
def rate(text: str, *, limit: int = 3) -> int:
    asynctrack.log("rated", {"length": len(text)})
    return min(limit, len(text))


@asynctrack.tracked(kind="tool", inputs=["text"], reduce=" ".join)
def words(text: str) -> Iterator[str]:
    yield from text.split()


class Shop:
    @asynctrack.tracked(name="sell", outputs=False)
    async def sell(self, what: str) -> list[str]:
        return [what]

    @asynctrack.tracked
    async def stream(self) -> AsyncIterator[int]:
        yield 1


def sync_side(handler: SyncHandler) -> None:
    @handler.tracked(tags=["a"])
    def double(number: float) -> float:
        return 2 * number

    kept: Callable[[float], float] = double
    with handler.span("one", inputs={"a": 1}, kind="tool", traceparent=None) as one:
        entered: TrackedSpan = one
        one.outputs = kept(1.5)
        handler.log("found", {"documents": 3})
        handler.log_feedback(entered.trace_id or "0b7e", "thumbs", 1)
    left_out: int = handler.statistics().traces_sampled_out


async def async_side(handler: AsyncHandler) -> None:
    @handler.tracked
    async def search(question: str) -> list[str]:
        return [question]

    found: list[str] = await search("fish")
    async with handler.span("many") as span:
        span.outputs = found
    async with asynctrack.span("any", metadata={"a": 1}):
        sold: list[str] = await Shop().sell("fish")
    async for number in Shop().stream():
        print(number + 1)


with tracker("runs", sample=sample, keep_errors=True, install="process") as handler:
    installed: Installed = install(handler, process=True)
    installed.undo()
    with install(None):
        score: int = rate("fish", limit=2)
        several: list[str] = list(words("a b"))
tracker("runs", sample=0.1, install=True, otlp="http://localhost:4318/v1/traces")
tracker("mlflow://jokes/first", folder="runs", traces=True)
records: logging.Handler = LogHandler(level=logging.INFO)
processor: Callable[..., object] = StructlogProcessor()
model = replay_model(("bot", "yesterday"), root="runs", model="gpt-4o")
text: str = model.invoke("hello").text
for example in open_run("runs").dataset("outcome = 'ok'", kind=["chat_model", "llm"], limit=3):
    print(example["inputs"], example["metadata"])
"""
WRONG = """
from asynctrack import LogHandler, install, log, open_run, session, span, tracked, tracker
from asynctrack.testing import replay_model

@tracked
def rate(text: str) -> int:
    return len(text)

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
install("runs")
span(5)
span("one", input=1)
log()
tracker("runs", sample="some")
tracker("runs", install="thread")
tracked(lambda text: text)("a", "b")
rate(5)
handler.tracked(kind=5)
replay_model("runs", model=5)
open_run("runs").dataset(kind=5)
LogHandler(5)
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
    main.write_text(MAIN + PLAIN)
    told = check(main)
    assert "Success" in told or "0 errors, 0 warnings" in told, told
    wrong.write_text(WRONG)
    told = check(wrong)
    lines = {int(line) for line in re.findall(r"wrong\.py:(\d+)[:\d]*.{0,3}error", told)}
    calls = {
        n for n, line in enumerate(WRONG.splitlines(), 1) if re.match(r" *[A-Za-z_.\"()]+\(", line)
    }
    assert lines == calls, told
    assert "experiment_nmae" in told
