"""A viewer as a user starts it: ``asynctrack view`` in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO


@dataclass(frozen=True)
class Viewer:
    """A viewer that runs.

    Attributes:
        url: The whole address, with its token.
        port: Its port.
        process: Its process.
        said: What it writes to standard error.
    """

    url: str
    port: int
    process: subprocess.Popen[str]
    said: IO[str]

    def errors(self) -> str:
        """Return what it has written to standard error."""
        self.said.seek(0)
        return self.said.read()

    @property
    def place(self) -> str:
        """The path of its pages."""
        return "/" + self.url.split("/", 3)[3].partition("?")[0]

    @property
    def base(self) -> str:
        """The address of its pages, without the token."""
        return self.url.partition("?")[0]


@contextmanager
def viewer(place: Path | str, *more: str, env: Mapping[str, str] | None = None) -> Iterator[Viewer]:
    """Start a viewer, and stop it as Ctrl-C does."""
    command = [sys.executable, "-m", "asynctrack.cli", "view", str(place), "--no-open", "--json"]
    # What it says goes into a file: a pipe that nobody reads is full one day.
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            [*command, *more],
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            env={**os.environ, **(env or {})},
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                process.wait(60)
                said.seek(0)
                raise RuntimeError(f"the viewer did not start: {said.read()}")
            started = json.loads(line)
            yield Viewer(started["url"], started["port"], process, said)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            try:
                process.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
