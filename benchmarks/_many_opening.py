"""The measuring process of how long a process's first tracker stops the event loop.

Nothing is warm: what opening imports, makes and collects is part of it. A task of the program's
loop asks to be woken each millisecond and notes how late it was, from before ``tracker(...)`` until
after the block.
"""

from __future__ import annotations

import asyncio
import gc
import tempfile
import time
from pathlib import Path
from typing import Any, Final

TICK: Final = 0.001
NOTHING_OPENED: Final = 0.5
"""Seconds that are measured where there is no tracker: how late the machine alone makes it."""


def measure(spec: dict[str, Any]) -> dict[str, Any]:
    """Open one tracker in this process.

    Args:
        spec: ``place`` (``none``, ``folder`` or ``s3``), ``servers``.
    """
    run = None
    if spec["place"] == "s3":
        from benchmarks._servers import make_run

        run = make_run(spec["servers"], "opening")  # the user's, and before
    import asynctrack

    lags: list[float] = []
    took: dict[str, float] = {}

    async def sample() -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + TICK
            await asyncio.sleep(TICK)
            lags.append(loop.time() - due)

    async def main(folder: Path) -> None:
        sampler = asyncio.ensure_future(sample())
        await asyncio.sleep(0.05)
        lags.clear()
        collected = _full_collections()
        started = time.perf_counter()
        if spec["place"] == "none":
            await asyncio.sleep(NOTHING_OPENED)
        else:
            target = folder / "runs" if run is None else run
            async with asynctrack.tracker(target, spool_dir=folder / "spool") as handler:
                took["entered_ms"] = (time.perf_counter() - started) * 1e3
                handler.log_metric("score", 0.5)
                await handler.flush(30.0)
                took["delivered_ms"] = (time.perf_counter() - started) * 1e3
            told = handler.statistics()
            assert told.delivered == told.accepted == 1, told
        await asyncio.sleep(0.05)
        sampler.cancel()
        took["full_collections"] = _full_collections() - collected

    with tempfile.TemporaryDirectory(prefix="asynctrack-opening-") as name:
        asyncio.run(main(Path(name)))
    return {"stop_ms": max(lags) * 1e3, **took}


def _full_collections() -> int:
    return int(gc.get_stats()[-1]["collections"])
