"""The measuring process of ``life``: whole lives of one tracer, between others of none.

Started fresh for each tracer: reads what to do on standard input, answers with one line of JSON.
A life goes from before the tracker is made until after the end of its block.
"""

from __future__ import annotations

import asyncio
import gc
import random
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from benchmarks import cases, tracers
from benchmarks._many_child import Targets
from benchmarks._servers import Servers
from benchmarks.tracers import BASE, EMPTY

FOLDER: Final = "asynctrack, folder"
S3: Final = "asynctrack, S3"
WORKLOAD: Final = "lcel-100"


class _Ours(tracers.Asynctrack):
    """asynctrack; what it imports beyond ``import asynctrack`` is part of its first life."""

    _targets: Targets | None = None
    _number = 0

    def prepare(self) -> None:
        pass  # imported already, by what makes its Runs here; ``import_time`` has what it costs

    def place(self, servers: Servers) -> None:
        if self.into == "folder":
            super().place(servers)
            return
        if self._targets is None:
            self._targets = Targets({"place": "s3", "servers": servers}, Path())
        self._folder = tempfile.TemporaryDirectory(prefix="asynctrack-bench-")
        # The program's Run, made by its session; each life has a new one.
        self.run, _ = self._targets(self._number)
        self._number += 1


def make(name: str) -> tracers.Tracer:
    """Return a tracer by the name it has in ``life``."""
    if name in (FOLDER, S3):
        return _Ours(into="folder" if name == FOLDER else "run")
    return tracers.TRACERS[name]()


def measure(spec: dict[str, Any]) -> dict[str, Any]:
    """Measure one tracer in this process.

    Args:
        spec: ``tracer``, ``servers``, ``seed``, ``cold``; where that is false also ``rounds``, by
            the number of invocations.
    """
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    workload = cases.WORKLOADS[WORKLOAD]
    invoke = workload.make()
    if not spec["cold"]:
        # The same modules for all: a larger heap makes each collection dearer, for everybody.
        tracers.Asynctrack().prepare()
    elif spec["tracer"] == S3:
        import sagemaker.experiments.run  # noqa: F401  # the program's, as it has a Run
    callbacks, spans = cases.count_callbacks(loop, invoke, workload)
    facts = {"callbacks": callbacks, "spans": spans}
    measured = _cold if spec["cold"] else _warm
    found = measured(spec, _Lives(loop, invoke, workload, spec["servers"], facts))
    loop.close()
    return {"callbacks": callbacks, **found}


class _Lives:
    """Runs lives, and tells what each cost."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        invoke: cases.Invoke,
        workload: cases.Workload,
        servers: Servers,
        facts: dict[str, int],
    ) -> None:
        self._loop, self._invoke, self._workload = loop, invoke, workload
        self._servers, self._facts = servers, facts

    def __call__(self, tracer: tracers.Tracer, invocations: int) -> dict[str, float]:
        """Return milliseconds of one life, and the share that was delivered where it is known."""
        factor = invocations / self._workload.invocations
        some = self._workload.shrunk(factor)
        tracer.place(self._servers)
        gc.collect()
        process, thread, wall = time.process_time(), time.thread_time(), time.perf_counter()
        tracer.open(sync=False, loop=self._loop)
        tracer.on()
        cases.run_round(self._loop, self._invoke, some, tracer.config())
        tracer.close()
        wall = time.perf_counter() - wall
        thread = time.thread_time() - thread
        process = time.process_time() - process
        tracer.off()
        row = {"process": 1e3 * process, "thread": 1e3 * thread, "wall": 1e3 * wall}
        told = tracer.told()
        if isinstance(tracer, tracers.Stubbed):
            spans = tracer.received()["spans"]
            row["delivered"] = spans / (self._facts["spans"] * invocations)
        elif told:
            row["delivered"] = told["delivered_events"] / (self._facts["callbacks"] * invocations)
        return row


def _cold(spec: dict[str, Any], live: _Lives) -> dict[str, Any]:
    """Return what the imports cost, and the first life after them."""
    tracer = make(spec["tracer"])
    process, wall = time.process_time(), time.perf_counter()
    tracer.prepare()
    imports = {
        "process": 1e3 * (time.process_time() - process),
        "wall": 1e3 * (time.perf_counter() - wall),
    }
    return {"imports": imports, "first": live(tracer, 1)}


def _warm(spec: dict[str, Any], live: _Lives) -> dict[str, Any]:
    """Return all lives but the first, by invocations and tracer, in turns."""
    running = {BASE: make(BASE), EMPTY: make(EMPTY), spec["tracer"]: make(spec["tracer"])}
    for tracer in running.values():
        tracer.prepare()
        live(tracer, 1)
        live(tracer, 125)
    generator = random.Random(spec["seed"])
    rows: dict[str, dict[str, list[dict[str, float]]]] = {}
    for invocations, rounds in spec["rounds"].items():
        lives: dict[str, list[dict[str, float]]] = {name: [] for name in running}
        for _ in range(rounds):
            order = list(running)
            generator.shuffle(order)
            for name in order:
                lives[name].append(live(running[name], int(invocations)))
        rows[invocations] = lives
    return {"rows": rows}
