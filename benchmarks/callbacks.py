"""What each callback costs inside asynctrack: ``python -m benchmarks.callbacks [--sync]``.

The callbacks of the LCEL workload, as LangChain passes them, go through the real handler into the
spool; LangChain's own part is left out. Microseconds, the lowest of many short rounds: on a shared
machine that is what the work itself takes. Beside it bare orjson on the same event, already plain:
the floor of any handler that encodes.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import orjson

from benchmarks import _measure
from benchmarks.stages import Captured, captured_callbacks, new_capture

INVOCATIONS = 50


def measure(spec: dict[str, Any]) -> dict[str, Any]:
    """Measure in this process.

    Args:
        spec: ``rounds``, ``sync``.
    """
    from asynctrack import tracker

    calls = captured_callbacks(INVOCATIONS)
    per = len(calls) // INVOCATIONS
    labels = [f"{number} {calls[number][0]}" for number in range(per)]
    with tempfile.TemporaryDirectory(prefix="asynctrack-callbacks-") as folder:
        options: dict[str, Any] = {"spool_dir": f"{folder}/spool", "max_delay": 3600.0}
        loop = asyncio.new_event_loop()
        tracked = tracker(folder, **options)
        handler = (
            tracked.__enter__() if spec["sync"] else loop.run_until_complete(tracked.__aenter__())
        )
        call = _call_sync if spec["sync"] else _call_async
        best = dict.fromkeys([*labels, "whole invocation"], float("inf"))
        floor = dict.fromkeys(best, float("inf"))
        plain = _plain(calls)
        gc.collect()
        gc.freeze()
        gc.disable()
        for _ in range(spec["rounds"]):
            # In the chain's order: one kind after the other would flatter the caches.
            seconds = dict.fromkeys(labels, 0.0)
            bare = dict.fromkeys(labels, 0.0)
            clock = time.perf_counter
            for name, arguments, options_ in calls[: 2 * per]:  # the first one wakes the worker
                call(getattr(handler, name), arguments, options_)
            time.sleep(0.01)
            whole = time.thread_time()
            for number, (name, arguments, options_) in enumerate(calls):
                started = clock()
                call(getattr(handler, name), arguments, options_)
                seconds[labels[number % per]] += clock() - started
            whole = time.thread_time() - whole
            for number, record in enumerate(plain):
                started = clock()
                orjson.dumps(record)
                bare[labels[number % per]] += clock() - started
            for label in labels:
                best[label] = min(best[label], seconds[label] / INVOCATIONS * 1e6)
                floor[label] = min(floor[label], bare[label] / INVOCATIONS * 1e6)
            best["whole invocation"] = min(best["whole invocation"], whole / INVOCATIONS * 1e6)
            if not spec["sync"]:
                loop.run_until_complete(handler.flush())
            else:
                handler.flush()
        floor["whole invocation"] = sum(floor[label] for label in labels)
        gc.enable()
        if spec["sync"]:
            tracked.close()
        else:
            loop.run_until_complete(tracked.aclose())
        loop.close()
    return {"callbacks": per, "rows": [[name, best[name], floor[name]] for name in best]}


def _call_sync(callback: Callable[..., Any], arguments: Any, options: Any) -> None:
    callback(*arguments, **options)


def _call_async(callback: Callable[..., Any], arguments: Any, options: Any) -> None:
    try:
        callback(*arguments, **options).send(None)
    except StopIteration:
        pass


def _plain(calls: list[Captured]) -> list[Any]:
    capture = new_capture()
    bodies = (getattr(capture, name)(*arguments, **options) for name, arguments, options in calls)
    return [orjson.loads(body) for body in bodies]


def run(*, processes: int = 2, rounds: int = 60) -> dict[str, Any]:
    """Measure both handlers in fresh processes; the lowest of all."""
    found: dict[str, Any] = {"processes": processes, "rounds": rounds}
    for kind, sync in (("async", False), ("sync", True)):
        answers = [
            _measure.fresh_process("benchmarks.callbacks", {"rounds": rounds, "sync": sync})
            for _ in range(processes)
        ]
        found["callbacks"] = answers[0]["callbacks"]
        found[kind] = [
            {
                "callback": name,
                "us": round(min(answer["rows"][at][1] for answer in answers), 3),
                "orjson_us": round(min(answer["rows"][at][2] for answer in answers), 3),
            }
            for at, (name, _, _) in enumerate(answers[0]["rows"])
        ]
    return found


def text(result: dict[str, Any]) -> str:
    """Return the result as a table for a terminal."""
    lines = [f"{'':28}{'async µs':>10}{'sync µs':>10}{'orjson µs':>11}"]
    for one, other in zip(result["async"], result["sync"], strict=True):
        lines.append(
            f"{one['callback']:28}{one['us']:>10.2f}{other['us']:>10.2f}{one['orjson_us']:>11.2f}"
        )
    return "\n".join(lines)


def main() -> None:
    """Run from the command line, or as the measuring process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=40)
    arguments = parser.parse_args()
    if not sys.stdin.isatty() and (spec := sys.stdin.read()):
        print(json.dumps(measure(json.loads(spec))))
        return
    print(text(run(processes=arguments.processes, rounds=arguments.rounds)))


if __name__ == "__main__":
    main()
