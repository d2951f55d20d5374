"""Real servers of others, each in a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

START_TIMEOUT: float = 300.0
"""Seconds: they import two hundred packages and make a database, on whatever machine."""


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """Run ``mlflow server`` with a SQL store, which keeps all it has in a folder; its address.

    Artifacts are in the folder ``artifacts``, as MLflow's clients reach them themselves.
    """
    port = free_port()
    arguments = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"),
        *("--port", str(port), "--workers", "1", "--no-serve-artifacts"),
        *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db"),
        *("--default-artifact-root", f"{folder}/artifacts"),
    ]
    environ = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    address = f"http://127.0.0.1:{port}"
    with _running(arguments, f"{address}/health", folder / "server.log", environ):
        yield address


@contextmanager
def phoenix_server(folder: Path) -> Iterator[str]:
    """Run Phoenix, which keeps all it has in a folder; its address."""
    port = free_port()
    environ = {
        "PHOENIX_HOST": "127.0.0.1", "PHOENIX_PORT": str(port),
        "PHOENIX_GRPC_PORT": str(free_port()), "PHOENIX_WORKING_DIR": str(folder),
        "PHOENIX_TELEMETRY_ENABLED": "false",
    }  # fmt: skip
    arguments = [sys.executable, "-m", "phoenix.server.main", "serve"]
    address = f"http://127.0.0.1:{port}"
    with _running(arguments, f"{address}/healthz", folder / "server.log", environ):
        yield address


def free_port() -> int:
    """A port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def _running(
    arguments: Sequence[str], health: str, log: Path, environ: Mapping[str, str]
) -> Iterator[None]:
    """Run a server from the time when it answers until the block ends."""
    with log.open("wb") as said:
        process = subprocess.Popen(
            arguments,
            env={**os.environ, **environ},
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
        try:
            deadline = time.monotonic() + START_TIMEOUT
            while not _answers(health):
                assert process.poll() is None, log.read_text()[-2_000:]
                assert time.monotonic() < deadline, log.read_text()[-2_000:]
                time.sleep(0.1)
            yield
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
        with urllib.request.urlopen(address, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
