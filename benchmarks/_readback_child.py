"""One question of ``benchmarks.readback``, in a process of its own."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks import readback

if __name__ == "__main__":
    spec = json.load(sys.stdin)
    print(json.dumps(readback.ask(spec["name"], Path(spec["folder"]))))
