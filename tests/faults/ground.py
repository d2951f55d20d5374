"""What the fault tests stand on: a Run with a proxy in front of S3, children, and an auditor."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from tests.faults.light import Place
from tests.support.auditor import Audit, audit_s3, events_in_s3
from tests.support.proxy import FaultProxy
from tests.support.s3 import S3Server
from tests.support.seen import Request

_T = TypeVar("_T")

EVENTS = "*/dt=*"
"""Paths of artifacts: faults here leave the manifest alone."""


@dataclass(frozen=True)
class Ground:
    """One Run, its S3 behind a proxy, and how a test looks at it past both."""

    place: Place
    s3: S3Server
    proxy: FaultProxy
    sagemaker: Any
    """A boto3 client, past every proxy."""
    sagemaker_proxy: FaultProxy

    def run(self, credentials: Callable[[], Any] | None = None) -> Any:
        """What ``tracker`` takes."""
        return self.place.run(credentials)

    def at(self, **changes: str) -> Ground:
        """The same Run at another address."""
        return replace(self, place=replace(self.place, **changes))

    def audit(self) -> Audit:
        """What an independent reader finds."""
        client = self.s3.boto_client()
        try:
            return audit_s3(client, self.s3.bucket, self.place.prefix)
        finally:
            client.close()

    def events(self) -> list[dict[str, Any]]:
        """All events that are in S3."""
        client = self.s3.boto_client()
        try:
            return events_in_s3(client, self.s3.bucket, self.place.prefix)
        finally:
            client.close()

    def problems(self) -> list[str]:
        """What the auditor finds, but for spans: most tests here call single callbacks."""
        return [text for text in self.audit().problems if "the span " not in text]

    def puts(self) -> list[Request]:
        """The requests for artifacts that the proxy saw, but those that the server itself failed:
        rclone answers 500 once in thousands, of its own accord, and that is sent again."""
        return [
            one
            for one in self.proxy.requests
            if one.method == "PUT"
            and "/dt=" in one.path
            and (one.fault is not None or one.server_status != 500)
        ]

    def parameters(self) -> dict[str, Any]:
        """What SageMaker holds."""
        answer = self.sagemaker.describe_trial_component(
            TrialComponentName=self.place.trial_component
        )
        return {
            key: value.get("NumberValue", value.get("StringValue"))
            for key, value in answer.get("Parameters", {}).items()
        }


def end(handler: Any, value: Any = 0) -> Any:
    """One event through a handler."""
    return handler.on_chain_end(value, run_id=uuid.uuid4())


def outputs(events: list[dict[str, Any]]) -> list[Any]:
    """What `end` was given."""
    return [event.get("outputs") for event in events]


def elsewhere(main: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    """Run an event loop in another thread, where the work of the worker may block as it does."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(main())).result()


def start_child(
    code: str, *arguments: str, flags: tuple[str, ...] = (), **environment: str
) -> subprocess.Popen[str]:
    """Run a program in a process of its own; its `argv` has the arguments from 1 on."""
    return subprocess.Popen(
        [sys.executable, *flags, "-c", textwrap.dedent(code), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, **environment},
    )


def finish(child: subprocess.Popen[str], timeout: float = 120.0) -> tuple[str, str]:
    """Wait for a child; kill it where it does not end."""
    try:
        return child.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        child.kill()
        out, errors = child.communicate()
        raise AssertionError(f"the child did not end. It wrote:\n{out}\n{errors}") from None


def line_of(child: subprocess.Popen[str]) -> str:
    """The next line that a child writes."""
    assert child.stdout is not None
    return child.stdout.readline().rstrip("\n")


def tell(child: subprocess.Popen[str], line: str = "go") -> None:
    """Write a line to a child."""
    assert child.stdin is not None
    child.stdin.write(f"{line}\n")
    child.stdin.flush()


def resident_bytes(pid: int | str = "self") -> int:
    """Memory that a process has now (Linux)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
