"""The measuring process: rounds of all tracers on one workload, interleaved.

Started fresh by ``overhead`` and ``garbage``: reads what to do on standard input, answers with one
line of JSON. Everything is imported before anything is measured, and it is the same for all
tracers of a process, because a larger heap makes every collection dearer for everybody.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import resource
import sys
import time
from functools import partial
from typing import Any

from asynctrack.demo._workload import timed
from benchmarks import cases, tracers


class Collections:
    """Counts garbage collections and the time they take, by generation."""

    def __init__(self) -> None:
        self.counts = [0, 0, 0]
        self.seconds = 0.0
        self._started = 0.0

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._started = time.perf_counter()
        else:
            self.seconds += time.perf_counter() - self._started
            self.counts[info["generation"]] += 1

    def reset(self) -> None:
        """Start over."""
        self.counts = [0, 0, 0]
        self.seconds = 0.0


def measure(spec: dict[str, Any]) -> dict[str, Any]:
    """Run the rounds.

    Args:
        spec: ``workload``, ``factor``, ``tracers``, ``rounds``, ``seed``, ``servers``, ``freeze``,
            ``collections``.
    """
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    workload = cases.WORKLOADS[spec["workload"]].shrunk(spec["factor"])
    servers = spec["servers"]
    running = {name: tracers.TRACERS[name]() for name in spec["tracers"]}
    tracers.Asynctrack().prepare()
    for tracer in running.values():
        tracer.prepare()
    invoke = workload.make()
    callbacks, spans = cases.count_callbacks(loop, invoke, workload)
    for tracer in running.values():
        tracer.start(servers, sync=workload.sync, loop=loop)
    warm = workload.shrunk(0.25)
    for tracer in running.values():
        tracer.on()
        cases.run_round(loop, invoke, warm, tracer.config())
        tracer.flush()
        tracer.off()
        if isinstance(tracer, tracers._Stubbed):
            tracer.received()
    gc.collect()
    objects = len(gc.get_objects())
    if spec.get("freeze"):
        gc.freeze()
    collections = Collections()
    if spec.get("collections"):
        gc.callbacks.append(collections)
    generator = random.Random(spec["seed"])
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in running}
    received: dict[str, dict[str, int]] = {}
    for _ in range(spec["rounds"]):
        order = list(running)
        generator.shuffle(order)
        for name in order:
            tracer = running[name]
            config = tracer.config()
            gc.collect()
            collections.reset()
            tracer.on()
            play = partial(cases.run_round, loop, invoke, workload, config)
            row: dict[str, Any] = timed(play, tracer.flush)._asdict()
            tracer.off()
            if spec.get("collections"):
                row["gc"] = collections.seconds
                row["gc_counts"] = list(collections.counts)
            rows[name].append(row)
            if isinstance(tracer, tracers._Stubbed):
                total = received.setdefault(name, {"requests": 0, "bytes": 0, "spans": 0})
                for key, value in tracer.received().items():
                    total[key] += value
    told = {name: tracer.stop() for name, tracer in running.items()}
    for name, tracer in running.items():
        if isinstance(tracer, tracers._Stubbed) and name in received:
            for key, value in tracer.received().items():
                received[name][key] += value
    loop.close()
    return {
        "callbacks": callbacks,
        "spans": spans,
        "invocations": workload.invocations,
        "concurrency": workload.concurrency,
        "rows": rows,
        "told": told,
        "received": received,
        "objects": objects,
        "peak_memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


if __name__ == "__main__":
    print(json.dumps(measure(json.load(sys.stdin))))
