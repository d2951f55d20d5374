"""A real ``mlflow server`` with a SQL store, in a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

START_TIMEOUT = 300.0
"""Seconds: it imports MLflow in two processes and makes a database, on whatever machine."""


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """Run a server that keeps all it has in a folder; its address.

    Artifacts are in the folder ``artifacts``, as MLflow's clients reach them themselves.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    environ = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"),
                *("--port", str(port), "--workers", "1", "--no-serve-artifacts"),
                *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db"),
                *("--default-artifact-root", f"{folder}/artifacts"),
            ],
            env=environ,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            deadline = time.monotonic() + START_TIMEOUT
            while not _answers(address):
                assert process.poll() is None, (folder / "server.log").read_text()
                assert time.monotonic() < deadline, (folder / "server.log").read_text()
                time.sleep(0.1)
            yield address
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, 15)  # its own group: the server and what it has started
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                process.wait()


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
