"""A local server in a process of its own: how the demo starts one, and how it ends.

The server prints one line of JSON when it is ready, and ends when its standard input is closed.
The operating system closes that pipe also when the parent is killed, so no server outlives it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

#: Seconds a server may take from its start to its line of JSON (a cold import of moto is slow).
START_TIMEOUT = 120.0
#: Seconds a server may take to end after its standard input was closed.
STOP_TIMEOUT = 5.0


class ServerNotStarted(RuntimeError):
    """A local server ended, or stayed silent, before it was ready."""


@contextmanager
def server_process(
    module: str, arguments: Sequence[str] = (), *, environment: Mapping[str, str] | None = None
) -> Iterator[dict[str, Any]]:
    """Run ``python -m module`` until the block is left.

    Args:
        module: A module that calls `announce` when it is ready.
        arguments: Its command line.
        environment: Environment variables added to this process's own.

    Yields:
        What the server announced.

    Raises:
        ServerNotStarted: The server was not ready within `START_TIMEOUT` seconds; the message
            ends with what it wrote to its standard error.
    """
    # What the server says goes to a file: a pipe nobody reads would fill up and stop it.
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, **_import_path(), **(environment or {})},
        )
        assert process.stdin is not None and process.stdout is not None
        try:
            yield _announcement(process, module, log)
        finally:
            process.stdin.close()
            try:
                process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()


def ignore_interrupts() -> None:
    """Leave Ctrl-C to the parent, which still needs this server for its final flush."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def end_with_parent() -> None:
    """End this process as soon as its standard input is closed."""

    def watch() -> None:
        # os.read and not sys.stdin: a buffered reader's lock would be held at interpreter exit.
        while os.read(0, 4096):
            pass
        os._exit(0)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()


def announce(message: Mapping[str, Any]) -> None:
    """Tell the parent that this server is ready, then send later prints to standard error."""
    print(json.dumps(message), flush=True)
    os.dup2(2, 1)


def _announcement(process: subprocess.Popen[bytes], module: str, log: Any) -> dict[str, Any]:
    timer = threading.Timer(START_TIMEOUT, process.kill)
    timer.daemon = True
    timer.start()
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
    finally:
        timer.cancel()
    try:
        message = json.loads(line)
    except ValueError:
        process.kill()
        process.wait()
        log.seek(0)
        said = log.read()[-2000:].decode(errors="replace").strip() or "(it said nothing)"
        raise ServerNotStarted(
            f"The local server `python -m {module}` did not start within {START_TIMEOUT:.0f} s. "
            f"Nothing was tracked. It said:\n{said}"
        ) from None
    if not isinstance(message, dict):
        raise ServerNotStarted(f"The local server {module} announced {message!r}, not an object.")
    return message


def _import_path() -> dict[str, str]:
    # So that the server finds this package also when it was imported from a source tree.
    root = str(Path(__file__).resolve().parents[2])
    rest = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": f"{root}{os.pathsep}{rest}" if rest else root}
