"""Watches a measuring process from outside, so that the watching costs that process nothing.

``python -m benchmarks._many_watch PID SPOOL`` looks at it until its standard input is closed, then
prints what was the most at any one time: memory, threads, and what the spool takes on the disk.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks import _measure

PAUSE: Final = 0.05
"""Seconds between two looks. A segment that is there for less may be missed."""
_BLOCK: Final = 512
"""Bytes that ``st_blocks`` counts, whatever the file system's own are."""


def seen(pid: int, spool: Path) -> dict[str, int]:
    """Return what a process and its spool take now.

    Returns:
        ``memory`` (resident, in bytes), ``threads``, and of the spool's files ``blocks`` and
        ``size``, in bytes, and ``files``, their number.
    """
    blocks = size = files = 0
    for parent, _, names in os.walk(spool):
        for name in names:
            try:
                found = os.lstat(os.path.join(parent, name))
            except OSError:  # removed meanwhile
                continue
            blocks += found.st_blocks * _BLOCK
            size += found.st_size
            files += 1
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return {
        "memory": pages * os.sysconf("SC_PAGE_SIZE"),
        "threads": len(os.listdir(f"/proc/{pid}/task")),
        "blocks": blocks,
        "size": size,
        "files": files,
    }


class Watching:
    """What was seen at most; there once the block is left."""

    most: dict[str, int]


@contextmanager
def watched(spool: Path) -> Iterator[Watching]:
    """Have another process watch this one as long as the block lasts."""
    seen = Watching()
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks._many_watch", str(os.getpid()), str(spool)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=_measure.ROOT,
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdout.readline()  # it has begun
        try:
            yield seen
        finally:
            process.stdin.close()
            seen.most = json.loads(process.stdout.read())


def _watch(pid: int, spool: Path) -> dict[str, int]:
    most = seen(pid, spool)
    while not select.select([sys.stdin], [], [], PAUSE)[0]:
        now = seen(pid, spool)
        most = {name: max(value, now[name]) for name, value in most.items()}
    return most


if __name__ == "__main__":
    print("begun", flush=True)
    print(json.dumps(_watch(int(sys.argv[1]), Path(sys.argv[2]))))
