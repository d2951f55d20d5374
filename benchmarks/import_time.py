"""``import asynctrack`` beside ``import langchain_core.callbacks``, in fresh processes."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from benchmarks import _measure

STATEMENTS = {
    "nothing": "pass",
    "langchain_core.callbacks": "import langchain_core.callbacks",
    "asynctrack": "import asynctrack",
    "asynctrack and its handlers": "from asynctrack import AsyncHandler, SyncHandler",
    "both": "import langchain_core.callbacks, asynctrack",
}
_TIMED = """
import time
started = time.perf_counter(), time.process_time()
{statement}
print(time.perf_counter() - started[0], time.process_time() - started[1])
"""


def run(*, repetitions: int = 15) -> dict[str, Any]:
    """Measure; the first of each kind fills the file cache and is thrown away."""
    times: dict[str, list[list[float]]] = {name: [] for name in STATEMENTS}
    for number in range(repetitions + 1):
        for name, statement in STATEMENTS.items():
            done = subprocess.run(
                [sys.executable, "-c", _TIMED.format(statement=statement)],
                check=True,
                capture_output=True,
                cwd=_measure.ROOT,
                env=_measure.clean_environment(),
            )
            if number:
                # A process of its own each time: each counts as one, with one round.
                times[name].append([1e3 * float(value) for value in done.stdout.split()])
    rows = []
    base = [[cpu] for _, cpu in times["langchain_core.callbacks"]]
    for name, pairs in times.items():
        cpu = [[value] for _, value in pairs]
        rows.append(
            {
                "import": name,
                "wall_ms": _measure.median([[wall] for wall, _ in pairs]).as_dict(),
                "cpu_ms": _measure.median(cpu).as_dict(),
                "ratio": _measure.ratio(cpu, base).as_dict(),
            }
        )
    return {"repetitions": repetitions, "goal": 1.1, "rows": rows}


def main() -> None:
    """Run from the command line."""
    for row in run()["rows"]:
        print(
            f"{row['import']:30}{row['cpu_ms']['value']:>9} ms CPU{row['wall_ms']['value']:>9} ms"
            f"{row['ratio']['value']:>8} ×"
        )


if __name__ == "__main__":
    main()
