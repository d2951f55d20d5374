"""What this process has open below a folder: what other tests hold open is not counted."""

from __future__ import annotations

import os
from pathlib import Path


def open_below(folder: Path) -> list[str]:
    """The files below a folder that are open now (Linux)."""
    found = []
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        except OSError:  # closed meanwhile, such as that of the listing
            continue
    return [name for name in found if name.startswith(f"{folder}/")]
