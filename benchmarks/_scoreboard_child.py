"""The application that is killed, terminated, forked or left with a broken server.

Started by ``_scoreboard_cell``: reads what to do as one line of JSON, answers with lines of JSON on
its standard output. It connects its tracer, says that it is ready, waits for the word to go, runs
the workload and then ends in the way it was told to. Times are of the system-wide monotonic clock,
so that the starting process can subtract them from its own.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks import cases, tracers
from benchmarks._servers import Servers, make_run


@dataclass
class Spooling(tracers._WithHandler):
    """asynctrack into a Run, its spool in a folder that outlives the process."""

    spool_dir: str
    options: dict[str, Any] = field(default_factory=dict)

    def prepare(self) -> None:
        """Import what it needs, as for the other benchmarks."""
        tracers.Asynctrack().prepare()

    def start(self, servers: Servers, *, sync: bool, loop: asyncio.AbstractEventLoop) -> None:
        """Enter the tracker."""
        from asynctrack import tracker

        run = make_run(servers, "scoreboard")
        self._tracker = tracker(run, spool_dir=self.spool_dir, **self.options)
        self.handler = loop.run_until_complete(self._tracker.__aenter__())

    def accepted(self) -> int:
        """Return how many events were accepted, by this process."""
        return int(self._tracker.statistics().accepted)

    def stop(self) -> dict[str, Any]:
        """Leave the ``async with`` block."""
        asyncio.run(self._tracker.aclose())
        told = self._tracker.statistics()
        return {
            "accepted": told.accepted,
            "delivered": told.delivered,
            "spooled": told.spooled,
            "pending": told.pending,
            "dropped": dict(told.dropped),
        }


def status(pid: int | str, name: str = "VmHWM", *, unit: int = 1024) -> int | None:
    """Return a figure from ``/proc/<pid>/status``; None when the process is gone.

    Args:
        pid: The process, or ``"self"``.
        name: Which line of it.
        unit: What it is multiplied with: sizes are in KiB there, and are returned in bytes.
    """
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return int(found[0]) * unit if found else None


def forget_peak() -> None:
    """Let the kernel count this process's peak memory anew from here."""
    Path("/proc/self/clear_refs").write_text("5")


class Application:
    """One child process; ``report`` is where its lines of JSON go."""

    def __init__(self, spec: dict[str, Any], report: int) -> None:
        self._spec = spec
        self._report = report
        workload = cases.WORKLOADS[spec["workload"]]
        self._workload = replace(
            workload, invocations=spec["invocations"], concurrency=spec["concurrency"]
        )
        self._tracer: tracers.Tracer = (
            Spooling(spec["spool_dir"], dict(spec["options"]))
            if spec["tracer"] == tracers.OURS
            else tracers.TRACERS[spec["tracer"]]()
        )

    def run(self) -> None:
        """Do it all; returns where the process is to end as programs usually do."""
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        self._tracer.prepare()
        self._invoke = self._workload.make()
        callbacks, spans = cases.count_callbacks(loop, self._invoke, self._workload)
        if not isinstance(self._tracer, Spooling):
            # The same application for all: one that uses SageMaker Experiments. Its objects alone
            # make the interpreter's end take half a second and more.
            self._run = make_run(self._spec["servers"], "application")
        self._tracer.start(self._spec["servers"], sync=False, loop=loop)
        self._tracer.on()
        gc.collect()
        forget_peak()
        self._say(ready=True, callbacks=callbacks, spans=spans, memory=status("self", "VmRSS"))
        sys.stdin.readline()
        end = self._spec["end"]
        if end in ("fork", "fork_exit"):
            self._fork(loop, at_once=end == "fork_exit")
            return
        self._track(loop)
        if end in ("kill", "term"):
            os.kill(os.getpid(), signal.SIGKILL if end == "kill" else signal.SIGTERM)
            signal.pause()
        loop.close()
        self._say(told=self._tracer.stop())

    def _track(self, loop: asyncio.AbstractEventLoop) -> None:
        cases.run_round(loop, self._invoke, self._workload, self._tracer.config())
        tracked = time.monotonic()
        accepted = self._tracer.accepted() if isinstance(self._tracer, Spooling) else None
        self._say(tracked=tracked, accepted=accepted, peak=status("self"))

    def _fork(self, loop: asyncio.AbstractEventLoop, *, at_once: bool) -> None:
        loop.close()  # what the child would share of it is not what is looked at here
        child = os.fork()
        if not child:
            gc.collect()
            forget_peak()
            self._say(memory=status("self", "VmRSS"))
            self._track(asyncio.new_event_loop())
            if at_once:
                os._exit(0)
            return  # to the end of the program, with all that Python does there
        _, code = os.waitpid(child, 0)
        self._say(ended=time.monotonic(), code=os.waitstatus_to_exitcode(code))
        self._tracer.stop()

    def _say(self, **message: Any) -> None:
        os.write(self._report, json.dumps(message).encode() + b"\n")


def main() -> None:
    """Run it; whatever libraries print goes to standard error."""
    report = os.dup(1)
    os.dup2(2, 1)
    Application(json.loads(sys.stdin.readline()), report).run()


if __name__ == "__main__":
    main()
