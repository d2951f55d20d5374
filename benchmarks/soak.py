"""Steady load, random faults, nothing may grow: ``python -m benchmarks.soak [--minutes 10]``.

An application in a process of its own tracks LangChain chains at a steady rate into a real S3
server, through a proxy that makes another kind of trouble every few seconds, drawn with a seed.
Memory, open files, sockets and threads of the application are sampled once a second, and in every
sample the accounting equation must hold. In the end the servers are healed, the tracker is closed,
and an independent auditor must find every accepted event in S3 exactly once.

The exit code is 1 when anything is not flat, not balanced or not there. Writes
``results/soak.json``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from multiprocessing.connection import wait
from pathlib import Path
from random import Random
from typing import Any, Final

from benchmarks import _measure
from benchmarks._scoreboard_cell import Site, site
from benchmarks._scoreboard_replay import waiting
from benchmarks._soak_faults import Trouble
from benchmarks._soak_verdict import judge, text
from tests.support.auditor import assert_exactly_once, audit_s3
from tests.support.proxy import fault_proxy

OPTIONS: Final[Mapping[str, Any]] = {
    "max_delay": 0.5,
    "close_timeout": 60.0,
    "close_patience": 60.0,
}
"""Batches twice a second, so that there are uploads to disturb; and in the end all is delivered,
also when the last trouble has just made the waits between two attempts long."""
KEPT_SAMPLES: Final = 60
KEPT: Final = (
    *("seconds", "accepted", "delivered", "spooled", "pending", "dead_lettered", "retries"),
    *("memory", "private_memory", "files", "spool_files", "sockets", "threads"),
)
START_LIMIT: Final = 120.0
SILENCE_LIMIT: Final = 60.0
"""Seconds without a sample after which the application counts as hanging."""


def run(
    servers: Site, *, seconds: float, rate: float, seed: int, interval: float = 1.0
) -> dict[str, Any]:
    """Soak for some time, and judge.

    Args:
        servers: From ``_scoreboard_cell.site``.
        seconds: How long the load lasts.
        rate: Chains a second.
        seed: Of the faults.
        interval: Seconds between two samples.

    Raises:
        RuntimeError: The application failed or hangs; the message ends with what it wrote.
    """
    with ExitStack() as stack:
        s3 = servers.s3.with_fresh_bucket()
        s3_proxy = stack.enter_context(fault_proxy(s3.endpoint_url, keep_body_bytes=0))
        sagemaker_proxy = stack.enter_context(fault_proxy(servers.sagemaker, keep_body_bytes=0))
        spool = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="asynctrack-soak-")))
        spec = {
            "workload": "lcel-1",
            "rate": rate,
            "interval": interval,
            "options": dict(OPTIONS),
            "spool_dir": str(spool),
            "servers": {
                "s3": s3_proxy.endpoint_url,
                "sagemaker": sagemaker_proxy.endpoint_url,
                "bucket": s3.bucket,
                "key": s3.access_key,
                "secret": s3.secret_key,
            },
        }
        application = stack.enter_context(_Application(spec))
        # Connections, models and modules are loaded in the background: flat is what comes after.
        application.read_until(
            lambda lines: bool(lines and lines[-1].get("delivered")), START_LIMIT
        )
        warm = len(application.lines)
        trouble = Trouble(Random(seed), s3_proxy, sagemaker_proxy)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            trouble.go_on()
            application.read(0.1)
        trouble.stop()
        application.close()
        application.read_until(lambda lines: "ended" in lines[-1], OPTIONS["close_timeout"] + 60)
        final = application.lines[-1]
        client = s3.boto_client(timeout=30.0)
        try:
            audit = audit_s3(client, s3.bucket)
        finally:
            client.close()
        problem = ""
        try:
            assert_exactly_once(audit, {final["writer"]: final["accepted"]})
        except AssertionError as error:
            problem = str(error)
        left = waiting(spool)
    samples = application.lines[warm:-1]
    findings = judge(samples, final)
    findings.append(
        {"what": "every accepted event is in S3 exactly once", "ok": not problem, "found": problem}
    )
    findings.append({"what": "the spool is empty", "ok": not left, "found": f"{left} segments"})
    return {
        "seconds": seconds,
        "rate": rate,
        "seed": seed,
        "workload": spec["workload"],
        "options": dict(OPTIONS),
        "findings": findings,
        "ok": all(finding["ok"] for finding in findings),
        "faults": trouble.applied(),
        "audit": {"objects": len(audit.objects), "events": audit.events},
        "final": final,
        "samples": thinned(samples),
    }


def thinned(samples: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return at most ``KEPT_SAMPLES`` of the samples, evenly spread: enough to draw them.

    All of them were judged.
    """
    step = max(1, -(-len(samples) // KEPT_SAMPLES))
    return [{key: sample[key] for key in KEPT} for sample in samples[::step]]


class _Application:
    """The process under load."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self._spec = spec
        self._last = time.monotonic()
        self.lines: list[dict[str, Any]] = []

    def __enter__(self) -> _Application:
        self._log = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks._soak_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            bufsize=0,
            cwd=_measure.ROOT,
            env=_measure.clean_environment(),
        )
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(self._spec).encode() + b"\n")
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._log):
            assert stream is not None
            stream.close()

    def read(self, timeout: float, silence: float = SILENCE_LIMIT) -> None:
        """Take in a line where there is one within ``timeout`` seconds."""
        assert self._process.stdout is not None
        if wait([self._process.stdout], timeout):
            # Unbuffered, and one line is one write: a line that begins is whole.
            line = self._process.stdout.readline()
            if not line:
                raise self._failed("ended")
            self.lines.append(json.loads(line))
            self._last = time.monotonic()
        elif time.monotonic() - self._last > silence:
            raise self._failed("hangs")

    def read_until(self, condition: Any, limit: float) -> None:
        """Take in lines until they fulfil the condition."""
        while not condition(self.lines):
            self.read(0.1, limit)

    def close(self) -> None:
        """Tell it to leave its tracker."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"close\n")

    def _failed(self, what: str) -> RuntimeError:
        self._log.seek(0)
        said = self._log.read()[-4000:].decode(errors="replace")
        return RuntimeError(f"the application {what}; it said:\n{said}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=30.0, help="chains a second")
    parser.add_argument("--seed", type=int, default=_measure.SEED)
    parser.add_argument("--results", type=Path, default=_measure.RESULTS)
    parsed = parser.parse_args(arguments)
    with site() as servers:
        result = run(servers, seconds=parsed.minutes * 60, rate=parsed.rate, seed=parsed.seed)
    path = _measure.save("soak", result, parsed.results)
    print(text(result))
    print(f"{path} is written")
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
