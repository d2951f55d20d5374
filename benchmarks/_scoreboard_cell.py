"""One cell of the scoreboard: one tracer, one thing that goes wrong, and what is left of its spans.

Every tracer speaks to its server through a proxy, which is told to hang or to answer 503 once the
application is connected. What arrived is counted behind the proxy, when the process is gone: for
the peers by the stub, for asynctrack by an auditor that reads S3 and shares no code with it, after
a second process has replayed the spool.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Final, Literal

from asynctrack.demo._aws import embedded_aws
from benchmarks import _measure, tracers
from benchmarks._scoreboard_child import status
from benchmarks._scoreboard_replay import waiting
from benchmarks._stub import stub_server
from tests.support.auditor import audit_s3, events_in_s3
from tests.support.faults import Answer, Fault, Hang
from tests.support.proxy import FaultProxy, fault_proxy
from tests.support.s3 import S3Server, rclone_s3

End = Literal["close", "kill", "term", "fork", "fork_exit"]
FAULTS: Final[Mapping[str, Fault]] = {"hang": Hang("before"), "503": Answer(503)}
CONNECT_LIMIT: Final = 120.0
"""Seconds that imports and connecting may take: they are not measured."""
WORK_LIMIT: Final = 300.0
"""Seconds that the workload may take: no cell measures it."""
SETTLE: Final = 5.0
"""Seconds that requests of a dead process may still be on their way behind the proxy."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """What goes wrong.

    Attributes:
        name: Short, for files and command lines.
        title: For the table.
        end: How the application ends once the last callback has returned.
        fault: What the server does from before the first callback on: a key of ``FAULTS``.
        workload: One of ``cases.WORKLOADS``.
    """

    name: str
    title: str
    end: End = "close"
    fault: str | None = None
    workload: str = "lcel-100"


@dataclass(frozen=True, slots=True)
class Row:
    """Who is measured.

    Attributes:
        title: For the table.
        tracer: A key of ``tracers.TRACERS``.
        options: More options of asynctrack; the peers are as they come.
    """

    title: str
    tracer: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cell:
    """What was measured.

    Attributes:
        spans: How many the application ran: one for each LangChain run.
        lost: How many of them the server does not have in the end. A span of asynctrack must be
            there with its start and its end; for the peers any part of it is enough.
        exit_seconds: From the return of the last callback to the end of the process.
        killed: Whether it had to be killed because it did not end within the limit.
        memory: Growth of peak resident memory from before the first callback on, in bytes.
        seconds: What the whole cell took.
        details: What the application, the replay and the auditor said.
    """

    spans: int
    lost: int
    exit_seconds: float
    killed: bool
    memory: int
    seconds: float
    details: Mapping[str, Any]


class Replayer:
    """The second process, started with the first replay; see ``_scoreboard_replay``."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Replayer:
        return self

    def __exit__(self, *error: object) -> None:
        if self._process is not None:
            self._process.communicate()  # ends with its standard input

    def replay(self, addresses: Mapping[str, str], spool: str) -> dict[str, Any]:
        """Have a spool replayed; return what the process says about it.

        Raises:
            RuntimeError: It could not.
        """
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks._scoreboard_replay"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=_measure.ROOT,
                env=_measure.clean_environment(),
            )
        assert self._process.stdin is not None and self._process.stdout is not None
        spec = {"servers": dict(addresses), "spool_dir": spool}
        self._process.stdin.write(json.dumps(spec).encode() + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"failed": "the process has ended"}
        if "failed" in answer:
            raise RuntimeError(f"the replay failed: {answer['failed']}")
        return answer


@dataclass(frozen=True, slots=True)
class Site:
    """The servers, shared by all cells."""

    s3: S3Server
    sagemaker: str
    stub: str
    replayer: Replayer


@contextmanager
def site() -> Iterator[Site]:
    """Run the servers until the block is left."""
    with (
        tempfile.TemporaryDirectory(prefix="asynctrack-scoreboard-") as folder,
        rclone_s3(Path(folder)) as s3,
        embedded_aws() as aws,
        stub_server() as stub,
        Replayer() as replayer,
    ):
        yield Site(s3, aws.endpoint_url, stub, replayer)


def measure(row: Row, scenario: Scenario, servers: Site, *, invocations: int, limit: float) -> Cell:
    """Measure one cell.

    Args:
        row: Who.
        scenario: What goes wrong.
        servers: From ``site``.
        invocations: How many chains the application runs.
        limit: Seconds after the last callback that it may take to end before it is killed.

    Raises:
        RuntimeError: The application failed by itself; the message ends with what it wrote.
    """
    began = time.monotonic()
    with ExitStack() as stack:
        ours = row.tracer == tracers.OURS
        s3 = servers.s3.with_fresh_bucket()
        upstreams = (s3.endpoint_url, servers.sagemaker) if ours else (servers.stub,)
        proxies = [stack.enter_context(fault_proxy(one, keep_body_bytes=0)) for one in upstreams]
        spool = stack.enter_context(tempfile.TemporaryDirectory(prefix="asynctrack-spool-"))
        addresses = {
            # A peer's application has a Run of its own, which nothing goes wrong with.
            "s3": proxies[0].endpoint_url if ours else s3.endpoint_url,
            "sagemaker": proxies[-1].endpoint_url if ours else servers.sagemaker,
            "stub": proxies[0].endpoint_url,
            "bucket": s3.bucket,
            "key": s3.access_key,
            "secret": s3.secret_key,
        }
        _stub_counts(servers.stub)  # starts counting anew
        spec = {
            "tracer": row.tracer,
            "options": dict(row.options),
            "workload": scenario.workload,
            "invocations": invocations,
            "concurrency": min(50, invocations),
            "end": scenario.end,
            "servers": addresses,
            "spool_dir": spool,
        }
        child = stack.enter_context(_Child(spec))
        child.go(proxies, None if scenario.fault is None else FAULTS[scenario.fault])
        child.wait(limit)
        _settle(proxies)
        spans = child.told["spans"] * invocations
        details: dict[str, Any] = {
            key: child.told[key] for key in ("accepted", "told", "code") if key in child.told
        }
        if row.tracer == tracers.BASE:
            arrived = 0
        elif ours:
            for proxy in proxies:
                proxy.heal()
            if waiting(Path(spool)):
                details["replay"] = servers.replayer.replay(addresses, spool)
            arrived, details["audit"] = _audit(s3)
        else:
            # Not healed before: what the proxy holds back has not arrived.
            details["stub"] = _stub_counts(servers.stub)
            arrived = details["stub"]["spans"]
    return Cell(
        spans=spans,
        lost=spans - arrived,
        exit_seconds=round(child.exit_seconds, 3),
        killed=child.killed,
        memory=max(0, child.peak - child.told["memory"]),
        seconds=round(time.monotonic() - began, 1),
        details=details,
    )


class _Child:
    """The application's process, from its start to its end."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self._spec = spec
        self.told: dict[str, Any] = {}
        self.peak = 0
        self.exit_seconds = 0.0
        self.killed = False
        self._closed = False

    def __enter__(self) -> _Child:
        # What it says goes to a file: a pipe nobody reads would fill up and stop it.
        self._log = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks._scoreboard_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            cwd=_measure.ROOT,
            env=_measure.clean_environment(),
            bufsize=0,
            start_new_session=True,  # a group of its own: what it forked ends with it
        )
        self._send(json.dumps(self._spec))
        return self

    def __exit__(self, *error: object) -> None:
        self._kill()
        for stream in (self._process.stdin, self._process.stdout, self._log):
            assert stream is not None
            stream.close()

    def go(self, proxies: Sequence[FaultProxy], fault: Fault | None) -> None:
        """Wait until it is connected, break its servers, let it run and track."""
        self._until("ready", CONNECT_LIMIT)
        if fault is not None:
            for proxy in proxies:
                proxy.add(fault)
        self._send("go")
        self._until("tracked", WORK_LIMIT)
        self.peak = self.told["peak"]

    def wait(self, limit: float) -> None:
        """Wait for its end, at most ``limit`` seconds from the last callback on."""
        tracked = self.told["tracked"]
        forked = str(self._spec["end"]).startswith("fork")
        while self._process.poll() is None:
            self.peak = max(self.peak, 0 if forked else status(self._process.pid) or 0)
            if time.monotonic() > tracked + limit:
                self.killed = True
                self._kill()
            self._read(0.01)
        ended = time.monotonic()
        while self._read(0.0):
            pass
        # Of a fork it is the child that counts; the parent only waits for it.
        self.exit_seconds = (self.told.get("ended", ended) if forked else ended) - tracked
        expected = {"kill": -signal.SIGKILL, "term": -signal.SIGTERM}.get(self._spec["end"], 0)
        if not self.killed and self._process.returncode != expected:
            raise self._failed()

    def _until(self, key: str, limit: float) -> None:
        deadline = time.monotonic() + limit
        while key not in self.told:
            self._read(0.1)
            if self._closed or time.monotonic() > deadline:
                raise self._failed()

    def _read(self, timeout: float) -> bool:
        """Take in a line where there is one within ``timeout`` seconds; tell whether."""
        assert self._process.stdout is not None
        stream = self._process.stdout
        if self._closed:
            time.sleep(timeout)
            return False
        if not wait([stream], timeout):
            return False
        # Unbuffered, and one line is one write: a line that begins is whole.
        line = stream.readline()
        self._closed = not line
        if line:
            self.told.update(json.loads(line))
        return bool(line)

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def _kill(self) -> None:
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it has ended, and what it forked too
        self._process.wait()

    def _failed(self) -> RuntimeError:
        self._kill()
        self._log.seek(0)
        said = self._log.read()[-4000:].decode(errors="replace")
        return RuntimeError(
            f"the application with {self._spec['tracer']} ended with"
            f" {self._process.returncode} before it was to; it said:\n{said}"
        )


def _settle(proxies: Sequence[FaultProxy]) -> None:
    deadline = time.monotonic() + SETTLE
    while any(proxy.open_connections for proxy in proxies) and time.monotonic() < deadline:
        time.sleep(0.02)


def _stub_counts(stub: str) -> dict[str, int]:
    with urllib.request.urlopen(f"{stub}/__counts") as answer:
        counts: dict[str, int] = json.load(answer)
    return counts


def _audit(s3: S3Server) -> tuple[int, dict[str, Any]]:
    """Return how many spans are whole in S3, and what the auditor says."""
    client = s3.boto_client(timeout=30.0)
    try:
        audit = audit_s3(client, s3.bucket)
        starts: set[str] = set()
        ends: set[str] = set()
        for event in events_in_s3(client, s3.bucket):
            if event["event"].endswith("_start"):
                starts.add(event["span_id"])
            elif event["event"].endswith(("_end", "_error")):
                ends.add(event["span_id"])
    finally:
        client.close()
    found = {
        "objects": len(audit.objects),
        "events": audit.events,
        "writers": len(audit.writers),
        "duplicates": sum(len(writer.duplicates) for writer in audit.writers.values()),
        "problems": list(audit.problems[:20]),
    }
    return len(starts & ends), found
