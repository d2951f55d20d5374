"""Celery's prefork pool: a real worker, over its broker in folders."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.guide.pages import block
from tests.support.auditor import audit_folder
from tests.support.trees import counted, inputs_of

APPLICATION = """
import os, pathlib, time
from celery import Celery
from langchain_core.runnables import RunnableLambda

here = pathlib.Path(__file__).parent
for name in ("in", "done", "working"):
    (here / name).mkdir(exist_ok=True)
app = Celery("application", broker="filesystem://", backend=f"file://{here}/done")
app.conf.broker_transport_options = {
    "data_folder_in": str(here / "in"), "data_folder_out": str(here / "in"),
    "control_folder": str(here / "control"),
}
app.conf.worker_prefetch_multiplier = 1
chain = RunnableLambda(str.upper).with_config(run_name="shout") | RunnableLambda(str.lower)

@app.task
def answer(text):
    (here / "working" / str(os.getpid())).touch()
    deadline = time.monotonic() + 100
    while len(os.listdir(here / "working")) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)  # or one of the two processes would do all, where the other starts late
    return chain.invoke(text)
"""
OPENED_BEFORE_THE_FORK = """
from asynctrack import tracker

tracker("runs", run_name="celery", install="process").__enter__()
"""
TREE = "RunnableSequence(lower, shout)"


def run_tasks(folder: Path, tracking: str, *options: str) -> None:
    """Run twenty tasks in a worker of two processes, and end it as a service manager does."""
    (folder / "application.py").write_text(APPLICATION + tracking)
    ask = (
        "from application import answer;"
        "tasks = [answer.delay(f'Task{n}') for n in range(20)];"
        "assert [one.get(timeout=120) for one in tasks] == [f'task{n}' for n in range(20)]"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    log = folder / "log"
    with log.open("wb") as said:
        worker = subprocess.Popen(
            [
                *(sys.executable, "-m", "celery", "-A", "application", "worker"),
                *("--pool=prefork", "--concurrency=2", "--without-gossip", "--without-mingle"),
                *("--without-heartbeat", *options),
            ],
            cwd=folder,
            env=environment,
            stdout=said,
            stderr=said,
        )
    try:
        subprocess.run(
            [sys.executable, "-c", ask], cwd=folder, env=environment, check=True, timeout=200
        )
    finally:
        worker.send_signal(signal.SIGTERM)
        try:
            worker.wait(240)
        finally:
            worker.kill()
    assert "asynctrack" not in log.read_text(), log.read_text()


def test_each_child_tracks_its_tasks(tmp_path: Path) -> None:
    """As the guide says: all of them are there once the worker has ended, of two writers."""
    run_tasks(tmp_path, block("everywhere", "celery"))
    assert counted(tmp_path / "runs") == {TREE: 20}
    assert inputs_of(tmp_path / "runs") == sorted(f"Task{n}" for n in range(20))
    assert len(audit_folder(tmp_path / "runs").writers) == 2


def test_opened_before_the_fork(tmp_path: Path) -> None:
    """By a module that the parent imports: its children are writers of their own, too."""
    run_tasks(tmp_path, OPENED_BEFORE_THE_FORK)
    deadline = time.monotonic() + 60
    while sum(counted(tmp_path / "runs").values()) < 20:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert counted(tmp_path / "runs") == {TREE: 20}
    assert len(audit_folder(tmp_path / "runs").writers) == 2
