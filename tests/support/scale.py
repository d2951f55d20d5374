"""How often a test does what it does: little with every push, the matrix's numbers on demand."""

from __future__ import annotations

import os

SCALE = int(os.environ.get("FAULT_SCALE", "0"))
"""0 with every push; 10 are the numbers of the fault matrix. See ``python -m tests.faults``."""


def at_scale(usual: int, full: int) -> int:
    """Return a number of repetitions: the usual one, or so many tenths of the full one."""
    return usual if not SCALE else max(usual, full * SCALE // 10)
