"""The second process: a new tracker on the same spool, which is all that a replay takes.

Reads servers and spools on standard input, one line of JSON each, and answers each with a line. It
tracks nothing itself: what it delivers is what other processes left behind. One process serves all
cells, as importing the SageMaker SDK takes longer than a cell.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

PATIENCE = 60.0
"""Seconds that a replay may take before it is given up; the auditor then tells what is missing."""


def waiting(spool_dir: Path, skip: str = "") -> int:
    """Return how many segments of other writers than ``skip`` are in the spool."""
    return sum(
        path.suffix in (".open", ".sealed") and path.parent.name != skip
        for path in spool_dir.rglob("*.*")
    )


async def replay(servers: dict[str, str], spool_dir: Path) -> dict[str, Any]:
    """Open a tracker and wait until no other writer has anything left in the spool."""
    from asynctrack import tracker
    from benchmarks._servers import make_run

    before = waiting(spool_dir)
    second = tracker(make_run(servers, "replay"), spool_dir=str(spool_dir))
    started = time.monotonic()
    async with second as handler:
        while waiting(spool_dir, second.writer_id) and time.monotonic() - started < PATIENCE:
            await asyncio.sleep(0.05)
        seconds = time.monotonic() - started
    return {
        "segments": before,
        "replayed": handler.statistics().replayed,
        "seconds": round(seconds, 2),
        "left": waiting(spool_dir),
    }


def main() -> None:
    """Replay until standard input is closed; whatever libraries print goes to standard error."""
    report = os.dup(1)
    os.dup2(2, 1)
    for line in sys.stdin:
        spec = json.loads(line)
        try:
            answer = asyncio.run(replay(spec["servers"], Path(spec["spool_dir"])))
        except Exception as error:
            answer = {"failed": f"{type(error).__name__}: {error}"}
        os.write(report, json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    main()
