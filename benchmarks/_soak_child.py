"""The application of the soak: steady load from LangChain, for as long as it is told.

Reads what to do on standard input as one line of JSON, answers with one line of JSON for each
sample and one at the end. It keeps going until its standard input says ``close`` (or is closed).
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import threading
import time
from dataclasses import asdict
from typing import Any

from benchmarks import cases
from benchmarks._scoreboard_child import status
from benchmarks._servers import make_run


def sample_process(spool_dir: str) -> dict[str, int]:
    """Return memory in bytes, and how many files, sockets and threads this process has.

    Files of the spool are counted apart: there are more of them while S3 is in trouble.
    """
    counts = {"files": 0, "sockets": 0, "spool_files": 0}
    for number in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue  # the folder's own descriptor, closed by now
        kind = "sockets" if target.startswith("socket:") else "files"
        counts["spool_files" if target.startswith(spool_dir) else kind] += 1
    return {
        "memory": status("self", "VmRSS") or 0,
        "private_memory": status("self", "RssAnon") or 0,
        "threads": status("self", "Threads", unit=1) or 0,
        **counts,
    }


async def run(spec: dict[str, Any], report: int) -> None:
    """Track until told to close; report a sample every ``spec["interval"]`` seconds."""
    from asynctrack import tracker

    def say(**message: Any) -> None:
        os.write(report, json.dumps(message).encode() + b"\n")

    invoke = cases.WORKLOADS[spec["workload"]].make()
    made = make_run(spec["servers"], "soak")
    closing = asyncio.Event()
    loop = asyncio.get_running_loop()

    def watch() -> None:
        sys.stdin.readline()
        loop.call_soon_threadsafe(closing.set)

    threading.Thread(target=watch, name="soak-watch", daemon=True).start()
    soaked = tracker(made, spool_dir=spec["spool_dir"], **spec["options"])
    async with soaked as handler:
        # What is there by now stays. Without this each full collection walks the SDK's objects too,
        # and the load comes in bursts.
        gc.collect()
        gc.freeze()
        say(ready=True)
        config = {"callbacks": [handler]}
        started = time.monotonic()
        sampled = invoked = late = 0
        while not closing.is_set():
            due = started + invoked / spec["rate"]
            wait = due - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            elif wait < -1.0:
                late += 1
            await invoke(invoked, config)
            invoked += 1
            now = time.monotonic()
            if now >= started + sampled * spec["interval"]:
                sampled = int((now - started) / spec["interval"]) + 1
                told = handler.statistics()
                say(
                    seconds=round(now - started, 2),
                    invoked=invoked,
                    late=late,
                    balanced=told.balanced,
                    **asdict(told),
                    **sample_process(spec["spool_dir"]),
                )
        closed = time.monotonic()
    told = handler.statistics()
    say(
        ended=True,
        writer=soaked.writer_id,
        invoked=invoked,
        close_seconds=round(time.monotonic() - closed, 2),
        balanced=told.balanced,
        **asdict(told),
        **sample_process(spec["spool_dir"]),
    )


def main() -> None:
    """Run it; whatever libraries print goes to standard error."""
    report = os.dup(1)
    os.dup2(2, 1)
    spec = json.loads(sys.stdin.readline())
    asyncio.run(run(spec, report))


if __name__ == "__main__":
    main()
