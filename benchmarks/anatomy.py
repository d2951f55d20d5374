"""What a callback's cost is made of, inside a running chain: ``python -m benchmarks.anatomy``.

Handlers that do more and more of what asynctrack does, interleaved on the LCEL workload: what the
next one adds is what its part costs where LangChain's code runs in between, as in an application.
``stages`` measures the same parts by themselves, with everything in the processor's caches.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from benchmarks import _measure, cases

WORKLOAD: Final = "lcel-100"
PARTS: Final = (
    ("LangChain's call", "an inline handler that does nothing"),
    ("record", "what the callback was given, its trace and its attributes, in a dictionary"),
    ("encode", "that as a line of JSON"),
    ("redact", "the search for secrets in it"),
    ("enqueue", "its number and its place in the buffer"),
    ("let go", "a call to the system that does nothing, and lets other threads run meanwhile"),
    ("write", "its place in the spool, instead of that call"),
)
"""Name of each part, and what it is. Each handler does the parts up to its own."""


def measure(spec: dict[str, Any]) -> dict[str, Any]:
    """Measure all handlers in this process.

    Args:
        spec: ``rounds``, ``invocations``, ``freeze``.
    """
    import sagemaker  # noqa: F401  # what an application has imported, too

    workload = cases.WORKLOADS[WORKLOAD]
    workload = workload.shrunk(spec["invocations"] / workload.invocations)
    invoke = workload.make()
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    with tempfile.TemporaryDirectory(prefix="asynctrack-anatomy-") as folder:
        tracked = [_tracked(Path(folder) / name, name) for name, _ in PARTS[1:]]
        handlers = [loop.run_until_complete(one.__aenter__()) for one in tracked]
        for handler, (name, _) in zip(handlers, PARTS[1:], strict=True):
            if name in _CHANGES:
                _CHANGES[name](handler)
            handler._sink = handler._sink  # binds the callbacks anew
        callbacks, _ = cases.count_callbacks(loop, invoke, workload)
        seconds: list[list[float]] = [[] for _ in range(len(PARTS) + 1)]
        gc.collect()
        if spec["freeze"]:
            gc.freeze()
        turns = list(zip(seconds, (None, _inline(), *handlers), strict=True))
        generator = random.Random(_measure.SEED)
        for number in range(spec["rounds"] + 2):
            generator.shuffle(turns)
            for into, handler in turns:
                config = {} if handler is None else {"callbacks": [handler]}
                gc.collect()
                started = time.thread_time()
                cases.run_round(loop, invoke, workload, config)
                spent = time.thread_time() - started
                if number >= 2:  # the first ones warm up
                    into.append(spent / workload.invocations / callbacks * 1e6)
        for one in tracked:
            loop.run_until_complete(one.aclose())
    loop.close()
    return {"seconds": seconds, "invocations": workload.invocations}


def _tracked(folder: Path, part: str) -> Any:
    from asynctrack import tracker

    # A batch is cut at the end only: the worker's turns are the whole process's figure, not this.
    if part in ("enqueue", "let go"):
        return tracker(folder, durability="memory", max_delay=3600.0)
    return tracker(folder, spool_dir=folder / "spool", max_delay=3600.0)


def _inline() -> Any:
    from langchain_core.callbacks import AsyncCallbackHandler

    return type("Inline", (AsyncCallbackHandler,), {"run_inline": True})()


def _without_enqueue(handler: Any) -> None:
    handler._sink.put_nowait = lambda body, sheddable: True


def _without_redact(handler: Any) -> None:
    _without_enqueue(handler)
    handler._sink.capture.events._redactor.body = lambda body: body


def _without_encode(handler: Any) -> None:
    _without_enqueue(handler)
    handler._sink.capture.events.encode = lambda record, values=None: b"{}"


def _let_go(handler: Any) -> None:
    put, number = handler._sink.put_nowait, os.open(os.devnull, os.O_RDONLY)

    def put_nowait(body: Any, sheddable: bool) -> Any:
        os.lseek(number, 0, os.SEEK_CUR)
        return put(body, sheddable)

    handler._sink.put_nowait = put_nowait


_CHANGES: Final[dict[str, Callable[[Any], None]]] = {
    "record": _without_encode,
    "encode": _without_redact,
    "redact": _without_enqueue,
    "let go": _let_go,
}
"""What the handler of a part does not do, or does instead; the others are left as they are."""


def run(*, processes: int = 3, rounds: int = 12, invocations: int = 500) -> dict[str, Any]:
    """Measure in fresh processes, with ``gc.freeze()``: collections are ``garbage``'s question."""
    spec = {"rounds": rounds, "invocations": invocations, "freeze": True}
    found = [
        _measure.fresh_process("benchmarks.anatomy", spec)["seconds"] for _ in range(processes)
    ]
    rows = []
    for number, (name, what) in enumerate(PARTS):
        added, before = ([process[at] for process in found] for at in (number + 1, number))
        rows.append(
            {
                "part": name,
                "what": what,
                "us": _measure.median(_measure.differences(added, before)).as_dict(),
            }
        )
    base = [process[0] for process in found]
    total = _measure.median(_measure.differences([process[-1] for process in found], base))
    return {
        "processes": processes,
        **spec,
        "rows": rows,
        "total_us": total.as_dict(),
        "base_us": _measure.median(base).as_dict(),
    }


def text(result: dict[str, Any]) -> str:
    """Return the result as a table for a terminal."""
    lines = [
        f"{row['part']:20}{row['us']['value']:>8.2f} µs"
        f"  ({row['us']['low']:.2f}–{row['us']['high']:.2f})  {row['what']}"
        for row in result["rows"]
    ]
    return "\n".join([*lines, f"{'together':20}{result['total_us']['value']:>8.2f} µs"])


if __name__ == "__main__":
    _measure.main(__doc__, measure, run, text, rounds=12, processes=3)
