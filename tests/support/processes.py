"""What another process does right now."""

from __future__ import annotations

from pathlib import Path


def state_of(pid: int) -> str:
    """The letter for what its main thread does (Linux); empty when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def is_asleep(pid: int) -> bool:
    """Whether its main thread waits in the kernel, where a signal wakes it up.

    CPython does not see a signal that comes when a thread has let go of the GIL for a wait and is
    not in it yet. Where there is no /proc nothing can be told.
    """
    return state_of(pid) in ("S", "")
