"""What a callback costs where traces are sampled: ``python -m benchmarks.sampling``.

The callbacks of the LCEL workload, as LangChain passes them, go through the synchronous handler:
kept (without sampling), left out, and held until the root ends well. Microseconds of the calling
thread, the least of several rounds, collections switched off. LangChain's own part is left out.
"""

from __future__ import annotations

import gc
import tempfile
import time
from typing import Any, Final

from asynctrack import tracker
from benchmarks.stages import captured_callbacks

INVOCATIONS: Final = 50
CASES: Final[dict[str, dict[str, Any]]] = {
    "kept": {},
    "left out": {"sample": 0},
    "held": {"sample": 0, "keep_errors": True},
}


def run(*, rounds: int = 20) -> dict[str, float]:
    """Return the microseconds of a callback, by case."""
    calls = captured_callbacks(INVOCATIONS)
    found: dict[str, float] = {}
    gc.collect()
    gc.disable()
    try:
        for case, options in CASES.items():
            found[case] = min(_rounds(calls, options, rounds)) / len(calls) * 1e6
    finally:
        gc.enable()
    return found


def _rounds(calls: Any, options: dict[str, Any], rounds: int) -> list[float]:
    """Return the seconds of each round."""
    seconds = []
    with tempfile.TemporaryDirectory(prefix="asynctrack-sampling-") as folder:
        # A batch is cut by the flush only: the worker sleeps while the callbacks are timed.
        tracked = tracker(folder, spool_dir=f"{folder}/spool", max_delay=3600.0, **options)
        with tracked as handler:
            for _ in range(rounds):
                started = time.thread_time()
                for name, arguments, given in calls:
                    getattr(handler, name)(*arguments, **given)
                seconds.append(time.thread_time() - started)
                handler.flush()
    return seconds


if __name__ == "__main__":
    for one, microseconds in run().items():
        print(f"{one:<9} {microseconds:6.2f} µs a callback")
