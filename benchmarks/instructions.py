"""What each handler adds to the LCEL chain, in instructions: ``python -m benchmarks.instructions``.

Times on a busy machine scatter by more than what is looked for; instructions repeat exactly. They
are no times: a cache miss counts like an addition. What they are good for is the ratio of variants
that do the same kind of work, and to see a change of a per cent. Needs valgrind; takes minutes.

asynctrack tracks into a folder here, so that no network stack is counted; what its worker does
for the same events (compress, write, record) is counted apart, as the flush after the round.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import _measure, cases
from benchmarks.tracers import BASE, CORE, EMPTY, INLINE, OURS, Asynctrack, Tracer, option_choices

INVOCATIONS = 30
REPETITIONS = 3

Marks = list[list[str]]


def _tracers() -> dict[str, Tracer]:
    # A batch is cut by the flush only: the worker sleeps while the round is counted.
    quiet: dict[str, Any] = {"max_delay": 3600.0}
    found: dict[str, Tracer] = {name: CORE[name]() for name in (BASE, EMPTY, INLINE)}
    found[OURS] = Asynctrack(options=quiet, into="folder")
    for durability in option_choices("durability")[1:]:  # the first is the default
        options = {**quiet, "durability": durability}
        found[f"{OURS} durability={durability}"] = Asynctrack(options=options, into="folder")
    return found


def run_once(name: str) -> Marks:
    """Run one workload with each tracer; at each getppid valgrind writes its counters."""
    workload = replace(cases.WORKLOADS[name], invocations=INVOCATIONS)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    invoke = workload.make()
    running = _tracers()
    for tracer in running.values():
        if not isinstance(tracer, Asynctrack):
            tracer.prepare()
    marks: Marks = []
    callbacks, _ = cases.count_callbacks(loop, invoke, workload)
    for tracer in running.values():
        tracer.start({}, sync=workload.sync, loop=loop)
        for _ in range(3):  # specialised bytecode, filled caches, the first segment there
            cases.run_round(loop, invoke, workload, tracer.config())
            tracer.flush()
    gc.collect()
    gc.freeze()
    gc.disable()  # collections are another question, and come at other moments each time
    for _ in range(REPETITIONS):
        for label, tracer in running.items():
            config = tracer.config()
            os.getppid()
            cases.run_round(loop, invoke, workload, config)
            os.getppid()
            tracer.flush()
            os.getppid()
            marks.append([label, str(callbacks)])
    for tracer in running.values():
        tracer.stop()
    loop.close()
    return marks


def count(name: str) -> dict[str, Any]:
    """Count one workload.

    Args:
        name: The workload's.

    Raises:
        RuntimeError: valgrind is not there, or it failed.
    """
    with tempfile.TemporaryDirectory(prefix="asynctrack-callgrind-") as folder:
        answer, totals = under_callgrind("benchmarks.instructions", ["--once", name], Path(folder))
    found: dict[str, list[tuple[int, int]]] = {}
    for number, (label, _) in enumerate(answer):
        # Three dumps each: what came before, the round, the flush.
        found.setdefault(label, []).append((totals[3 * number + 1], totals[3 * number + 2]))
    per = INVOCATIONS * int(answer[0][1])
    rounds = {label: min(pair[0] for pair in pairs) / per for label, pairs in found.items()}
    flushes = {label: min(pair[1] for pair in pairs) / per for label, pairs in found.items()}
    empty = rounds[EMPTY] - rounds[BASE]
    return {
        "workload": name,
        "callbacks": int(answer[0][1]),
        "base": round(rounds[BASE]),
        "rows": [
            {
                "tracer": label,
                "added": round(rounds[label] - rounds[BASE]),
                "over_empty": round((rounds[label] - rounds[BASE]) / empty, 3),
                "flush": round(flushes[label] - flushes[BASE]),
                "with_flush_over_empty": round(
                    (rounds[label] + flushes[label] - rounds[BASE] - flushes[BASE]) / empty, 3
                ),
            }
            for label in rounds
            if label != BASE
        ],
    }


def under_callgrind(module: str, arguments: list[str], folder: Path) -> tuple[Any, list[int]]:
    """Run a module of ours under callgrind.

    Returns:
        The JSON that it wrote last, and the instructions of each dump.

    Raises:
        RuntimeError: valgrind is not there, or it failed.
    """
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise RuntimeError("counting instructions needs valgrind: install the system's package")
    out = folder / "out"
    done = subprocess.run(
        [
            *(valgrind, "-q", "--tool=callgrind", "--dump-before=getppid"),
            *(f"--callgrind-out-file={out}", sys.executable, "-m", module, *arguments),
        ],
        capture_output=True,
        cwd=_measure.ROOT,
        env=_measure.clean_environment(),
    )
    if done.returncode:
        raise RuntimeError(f"valgrind failed:\n{done.stderr.decode()[-2000:]}")
    answer = json.loads(done.stdout.decode().strip().splitlines()[-1])
    totals = []
    for number in range(1, 1_000_000):
        dump = Path(f"{out}.{number}")
        if not dump.exists():
            break
        match = re.search(r"^totals: (\d+)", dump.read_text(), re.MULTILINE)
        totals.append(int(match[1]) if match else 0)
    return answer, totals


def text(result: dict[str, Any]) -> str:
    """Return a result as a table for a terminal."""
    lines = [
        f"{result['workload']}: {result['base']:,} instructions a callback without a handler",
        f"{'':32}{'added':>12}{'× empty':>10}{'flush':>12}{'with it ×':>10}",
    ]
    lines += [
        f"{row['tracer']:32}{row['added']:>12,}{row['over_empty']:>10}{row['flush']:>12,}"
        f"{row['with_flush_over_empty']:>10}"
        for row in result["rows"]
    ]
    return "\n".join(lines)


def main() -> None:
    """Run from the command line, or as the counted process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workload", nargs="*", default=["lcel-100"])
    parser.add_argument("--once", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.once:
        print(json.dumps(run_once(arguments.once)))
        return
    for workload in arguments.workload:
        print(text(count(workload)), flush=True)


if __name__ == "__main__":
    main()
