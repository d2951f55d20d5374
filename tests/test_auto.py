"""``asynctrack.auto``: programs that know nothing of asynctrack, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.auditor import audit_folder, events_in_folder
from tests.support.s3 import REGION, S3Server
from tests.support.trees import counted

PROGRAM = """
import asyncio, sys
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import FakeListChatModel, FakeListLLM
from langchain_core.runnables import RunnableLambda

upper = RunnableLambda(str.upper).with_config(run_name="upper")

class Neighbour(BaseCallbackHandler):
    starts = 0
    def on_llm_start(self, *args, **kwargs):
        self.starts += 1

async def in_a_loop():
    upper.invoke("called in a loop")
    neighbour = Neighbour()
    await FakeListLLM(responses=["x"]).ainvoke("hi", config={"callbacks": [neighbour]})
    assert neighbour.starts == 1
    return await (upper | FakeListChatModel(responses=["hello"])).ainvoke("awaited")

if __name__ == "__main__":
    upper.invoke("called")
    upper.batch(["a", "b"])
    print(asyncio.run(in_a_loop()).content, *sys.argv[1:])
    sys.exit(3)
"""
TREES = {"upper": 4, "FakeListLLM": 1, "RunnableSequence(FakeListChatModel, upper)": 1}


def run(
    folder: Path, *arguments: str, address: str | None = "runs", **more: str
) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder, with the address to track to."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), **more}
    if address is not None:
        environment["ASYNCTRACK_RUN"] = address
    return subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A folder with a program in it, that is a module too."""
    (tmp_path / "program.py").write_text(PROGRAM)
    return tmp_path


@pytest.mark.parametrize("called", [["program.py"], ["-m", "program"]])
def test_a_program_is_tracked_that_knows_nothing(program: Path, called: list[str]) -> None:
    """It gets its arguments, its output and its exit code are its own, nothing is said."""
    ended = run(program, "-m", "asynctrack.auto", *called, "with", "--arguments")
    assert (ended.returncode, ended.stdout, ended.stderr) == (3, "hello with --arguments\n", "")
    assert counted(program / "runs") == TREES


def test_one_line_is_enough(program: Path) -> None:
    """It may come before LangChain, which it does not import, or after it."""
    line = """
import sys
import asynctrack.auto
assert not [name for name in sys.modules if name.startswith(("langchain", "orjson", "anyio."))]
"""
    early = line + PROGRAM.replace("sys.exit(3)", "")
    late = PROGRAM.replace("if __name__ ==", "import asynctrack.auto\n\nif __name__ ==")
    for name, code in (("early", early), ("late", late)):
        (program / f"{name}.py").write_text(code)
        ended = run(program, f"{name}.py", address=name)
        assert (ended.stdout, ended.stderr) == ("hello\n", "")
        assert counted(program / name) == TREES


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (None, "ASYNCTRACK_RUN is not set. Set it to"),
        ("gs://bucket/x", "run='gs://bucket/x' is not allowed: run must be"),
        ("", ""),
    ],
)
def test_where_it_cannot_be_tracked_a_program_runs_all_the_same(
    program: Path, address: str | None, said: str
) -> None:
    """One warning says what to do; none where the variable is empty, which is meant."""
    ended = run(program, "-m", "asynctrack.auto", "program.py", address=address)
    assert (ended.returncode, ended.stdout) == (3, "hello\n")
    assert said in ended.stderr and ended.stderr.count("\n") == bool(said)
    assert sorted(path.name for path in program.iterdir() if path.is_dir()) in ([], ["__pycache__"])


def test_an_option_that_is_not_allowed_stops_no_program(program: Path) -> None:
    """The warning names the variable."""
    ended = run(program, "-m", "asynctrack.auto", "program.py", ASYNCTRACK_MAX_DELAY="soon")
    assert (ended.returncode, ended.stdout) == (3, "hello\n")
    assert "ASYNCTRACK_MAX_DELAY='soon' is not allowed" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_into_s3_by_an_address(program: Path, s3: S3Server) -> None:
    """With what boto3 finds in the environment, and no SageMaker."""
    ended = run(
        program,
        "-W", "ignore::DeprecationWarning:dateutil",  # botocore's, on Python 3.12 and later
        "-m", "asynctrack.auto", "program.py",
        address=f"s3://{s3.bucket}/team/a",
        AWS_ENDPOINT_URL_S3=s3.endpoint_url,
        AWS_ACCESS_KEY_ID=s3.access_key,
        AWS_SECRET_ACCESS_KEY=s3.secret_key,
        AWS_DEFAULT_REGION=REGION,
        ASYNCTRACK_EXPERIMENT_NAME="nightly",
        ASYNCTRACK_RUN_NAME="first",
    )  # fmt: skip
    assert (ended.returncode, ended.stdout, ended.stderr) == (3, "hello\n", "")
    assert counted(s3.folder) == TREES
    assert (s3.folder / "team/a/asynctrack/v1/experiment=nightly/run=first/_manifest").is_dir()


def test_beside_a_tracker_of_the_programs_own(program: Path) -> None:
    """Both get each event once: the one that is given, and the one of the process."""
    (program / "own.py").write_text("""
from asynctrack import tracker
from langchain_core.runnables import RunnableLambda
shout = RunnableLambda(str.upper) | RunnableLambda(str.lower)
with tracker("own") as handler:
    shout.invoke("both", config={"callbacks": [handler]})
shout.invoke("only the process's")
""")
    ended = run(program, "-m", "asynctrack.auto", "own.py")
    assert (ended.returncode, ended.stderr) == (0, "")
    tree = "RunnableSequence(lower, upper)"
    assert counted(program / "own") == {tree: 1}
    assert counted(program / "runs") == {tree: 2}


def test_children_of_a_fork_track_into_the_same_run(program: Path) -> None:
    """Each as a writer of its own, whether the parent had tracked before or not."""
    (program / "forking.py").write_text("""
import os, sys
from langchain_core.runnables import RunnableLambda
shout = RunnableLambda(str.upper)

def child(name):
    pid = os.fork()
    if not pid:
        shout.invoke(name)
        sys.exit(0)
    assert os.waitpid(pid, 0)[1] == 0

child("before")
shout.invoke("parent")
child("after")
""")
    ended = run(program, "-W", "ignore::DeprecationWarning", "-m", "asynctrack.auto", "forking.py")
    assert (ended.returncode, ended.stderr) == (0, "")
    inputs = [event["inputs"] for event in events_in_folder(program / "runs") if "inputs" in event]
    assert sorted(inputs) == ["after", "before", "parent"]
    audit = audit_folder(program / "runs")
    assert len(audit.writers) == 3
    assert len({one.key.partition("/dt=")[0] for one in audit.objects}) == 1


def test_what_it_wants_is_said(tmp_path: Path) -> None:
    """Without a program, and of one that is not there."""
    for arguments, code, said in (
        ([], 2, "usage:"),
        (["--help"], 0, "usage:"),
        (["no.py"], 2, "no.py"),
    ):
        ended = run(tmp_path, "-m", "asynctrack.auto", *arguments)
        assert ended.returncode == code and said in ended.stdout + ended.stderr


def test_a_log_record_opens_no_tracker(tmp_path: Path) -> None:
    """A record before the first chain imports nothing, and waits for nobody who opens the tracker;
    one after it is stored."""
    (tmp_path / "program.py").write_text(
        """
import logging, sys, threading
import asynctrack, asynctrack.auto

log = logging.getLogger("shop")
log.addHandler(asynctrack.LogHandler())
log.warning("before")
assert "langchain_core" not in sys.modules

place = asynctrack._capture.installed._everywhere
held, done = threading.Event(), threading.Event()

def open_slowly():
    with place._lock:
        held.set()
        done.wait(60)

opens = threading.Thread(target=open_slowly)
opens.start()
held.wait()
logs = threading.Thread(target=log.warning, args=["meanwhile"], daemon=True)
logs.start()
logs.join(30)
assert not logs.is_alive()
done.set()
opens.join()

with asynctrack.span("buy"):
    log.warning("inside")
log.warning("after")
"""
    )
    done = run(tmp_path, "program.py")
    assert done.returncode == 0, done.stderr
    events = events_in_folder(tmp_path / "runs")
    messages = [one["data"]["message"] for one in events if one["event"] == "custom_event"]
    assert messages == ["inside", "after"]


def test_a_chain_that_begins_while_it_is_installed(tmp_path: Path) -> None:
    """Another thread's chain asks for the handler at any moment; it finds one or none."""
    (tmp_path / "program.py").write_text(
        """
import threading
from asynctrack import auto
from asynctrack._capture.installed import asked

class Meanwhile:
    @staticmethod
    def RLock():
        asked.get()
        return threading.RLock()

auto.threading = Meanwhile
auto._Late("runs", {})
"""
    )
    done = run(tmp_path, "program.py", address="")
    assert done.returncode == 0, done.stderr
