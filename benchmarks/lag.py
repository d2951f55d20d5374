"""Event-loop lag while tracking, start and close included: ``python -m benchmarks.lag``.

A task of the application's loop asks to be woken each millisecond and notes how late it was. The
application runs chains at a steady rate meanwhile. Each sample is a fresh process, because what
the first tracker of a process imports is part of its start: ``warm`` has it imported before, as
an application may do, ``cold`` has not. S3 is well, never answers, or answers 503. *Beside*: the
application has no handler, and another process tracks at the same time: what is late then is late
because they and the servers share the processors of one machine, not because of its own process.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks import _measure, cases
from benchmarks._servers import Servers, all_servers, make_run

TICK = 0.001
BESIDE = "no handler, asynctrack beside"
RATE = 50
"""Invocations a second: about a tenth of what one core can do without a handler."""


_BEGUN = "begun"


@dataclass(frozen=True, slots=True)
class Situation:
    """One way to run.

    Attributes:
        name: For tables.
        tracked: Whether there is a tracker.
        warm: Whether what the worker imports was imported before.
        s3: ``ok``, ``hang`` or ``fail``.
        beside: Whether another process tracks meanwhile.
    """

    name: str
    tracked: bool
    warm: bool
    s3: str = "ok"
    beside: bool = False


SITUATIONS = (
    Situation("no handler, warm", False, True),
    Situation(BESIDE, False, True, beside=True),
    Situation("asynctrack, warm", True, True),
    Situation("asynctrack, warm, S3 hangs", True, True, "hang"),
    Situation("asynctrack, warm, S3 fails", True, True, "fail"),
    Situation("no handler, cold", False, False),
    Situation("asynctrack, cold", True, False),
)


def measure(spec: dict[str, Any]) -> dict[str, Any]:
    """Measure one situation in this process."""
    if spec["warm"]:
        import aioboto3  # noqa: F401  # what the worker imports
    run = None
    # The Run is made in every situation: the same modules are there, and its cost is the user's.
    base_url = {"ok": None, "hang": "/__hang", "fail": "/__fail"}[spec["s3"]]
    s3_url = None if base_url is None else spec["servers"]["stub"] + base_url
    run = make_run(spec["servers"], "lag", s3_url=s3_url)
    from asynctrack import tracker
    from asynctrack._tracker import make_tracker

    assert make_tracker is not None  # imported for all alike
    invoke = cases.WORKLOADS["lcel-100"].make()
    asyncio.run(invoke(0, {}))
    gc.collect()
    if spec["announce"]:
        print(_BEGUN, flush=True)
    lags: list[float] = []
    phases: list[float] = []

    async def sample() -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + TICK
            await asyncio.sleep(TICK)
            lags.append(loop.time() - due)

    async def work(config: dict[str, Any]) -> None:
        tasks: set[asyncio.Task[Any]] = set()
        end = time.monotonic() + spec["seconds"]
        number = 0
        while time.monotonic() < end:
            tasks.add(asyncio.ensure_future(invoke(number, config)))
            number += 1
            await asyncio.sleep(1 / RATE)
        await asyncio.gather(*tasks)

    async def main() -> None:
        sampler = asyncio.ensure_future(sample())
        await asyncio.sleep(0.05)
        if spec["tracked"]:
            options = {"close_timeout": spec["close"]}
            if spec["s3"] != "ok":
                options["max_delay"] = 0.5  # so that it is tried, and fails, all the time
            async with tracker(run, **options, **_spool(spec)) as handler:
                await work({"callbacks": [handler]})
                phases.append(time.monotonic())
            phases.append(time.monotonic())
        else:
            await work({})
        await asyncio.sleep(0.05)
        sampler.cancel()

    with _beside(spec):
        asyncio.run(main())
    lags.sort()
    return {
        "samples": len(lags),
        "p50": _percentile(lags, 0.50),
        "p90": _percentile(lags, 0.90),
        "p99": _percentile(lags, 0.99),
        "p999": _percentile(lags, 0.999),
        "max": lags[-1] * 1e3,
        "close_seconds": phases[1] - phases[0] if phases else 0.0,
        "sorted_ms": [round(_percentile(lags, step / 100), 4) for step in range(101)],
    }


@contextmanager
def _beside(spec: dict[str, Any]) -> Iterator[None]:
    """Let another process track as long as the block lasts; both begin at the same time."""
    if not spec["beside"]:
        yield
        return
    other = {**spec, "beside": False, "tracked": True, "announce": True}
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.lag", _measure.ASKED],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps(other))
        process.stdin.close()
        for line in process.stdout:
            if line.strip() == _BEGUN:
                break
        yield
        process.stdout.read()


def _spool(spec: dict[str, Any]) -> dict[str, Any]:
    from benchmarks.tracers import option_names

    if "spool_dir" not in option_names():
        return {}
    return {"spool_dir": f"{spec['servers']['folder']}-spool"}


def _percentile(values: list[float], share: float) -> float:
    """Return milliseconds."""
    return values[min(len(values) - 1, int(share * len(values)))] * 1e3


def run(
    servers: Servers,
    *,
    samples: int = 5,
    seconds: float = 4.0,
    close: float = 3.0,
    situations: Sequence[Situation] = SITUATIONS,
) -> dict[str, Any]:
    """Measure situations, in turns.

    Args:
        servers: What is tracked into.
        samples: Fresh processes for each situation.
        seconds: How long each works.
        close: ``close_timeout``: how long closing takes where S3 does not answer.
        situations: Which; what they are compared with has to be one of them.
    """
    answers: dict[str, list[dict[str, Any]]] = {situation.name: [] for situation in situations}
    for _ in range(samples):
        for situation in situations:
            spec = {
                "tracked": situation.tracked,
                "warm": situation.warm,
                "s3": situation.s3,
                "beside": situation.beside,
                "announce": False,
                "seconds": seconds,
                "close": close,
                "servers": dict(servers),
            }
            answers[situation.name].append(_measure.fresh_process("benchmarks.lag", spec))
    rows = []
    for situation in situations:
        base = answers["no handler, warm" if situation.warm else "no handler, cold"]
        mine = answers[situation.name]
        row: dict[str, Any] = {"situation": situation.name, "samples": mine[0]["samples"]}
        for figure in ("p50", "p99", "p999", "max"):
            values = [[answer[figure]] for answer in mine]
            row[f"{figure}_ms"] = _measure.median(values).as_dict()
            row[f"{figure}_ratio"] = _measure.ratio(
                values, [[answer[figure]] for answer in base]
            ).as_dict()
        row["close_seconds"] = round(statistics.median(one["close_seconds"] for one in mine), 3)
        row["sorted_ms"] = [
            round(statistics.median(step), 4)
            for step in zip(*(one["sorted_ms"] for one in mine), strict=True)
        ]
        rows.append(row)
    return {"rate": RATE, "seconds": seconds, "samples": samples, "goal": 1.1, "rows": rows}


def lines(result: dict[str, Any]) -> Iterator[str]:
    """Yield the result as a table for a terminal."""
    yield f"{'milliseconds':32}{'p50':>9}{'p99':>9}{'p99.9':>9}{'max':>9}{'p99 ×':>9}{'max ×':>9}"
    for row in result["rows"]:
        figures = (*(row[f"{name}_ms"]["value"] for name in ("p50", "p99", "p999", "max")),)
        ratios = (row["p99_ratio"]["value"], row["max_ratio"]["value"])
        yield f"{row['situation']:32}" + "".join(f"{value:>9.3f}" for value in (*figures, *ratios))


def main() -> None:
    """Run from the command line, or as the measuring process."""
    if (spec := _measure.asked()) is not None:
        print(json.dumps(measure(spec)))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    arguments = parser.parse_args()
    with all_servers() as servers:
        result = run(servers, samples=arguments.samples, seconds=arguments.seconds)
    print("\n".join(lines(result)))


if __name__ == "__main__":
    main()
