"""What this process has open below a folder: what other tests hold open is not counted."""

from __future__ import annotations

import os
from pathlib import Path


def open_below(folder: Path) -> list[str]:
    """The files below a folder that are open now (Linux)."""
    return [*_numbers_below(folder).values()]


def close_below(folder: Path) -> None:
    """Close them, as the kernel does for a process that has died."""
    for number in _numbers_below(folder):
        os.close(number)


def _numbers_below(folder: Path) -> dict[int, str]:
    found = {}
    for number in os.listdir("/proc/self/fd"):
        try:
            found[int(number)] = os.readlink(f"/proc/self/fd/{number}")
        except OSError:  # closed meanwhile, such as that of the listing
            continue
    return {number: name for number, name in found.items() if name.startswith(f"{folder}/")}
