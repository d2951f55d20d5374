"""What each callback costs inside asynctrack: ``python -m benchmarks.callbacks``.

The callbacks of the LCEL workload, as LangChain passes them, go through the real handler into the
spool; LangChain's own part is left out. Microseconds of the calling thread, collections switched
off. Beside each, bare orjson on the same event, already plain: the floor of any handler that
encodes. *350 bytes* is a start and an end as ``scale`` feeds them, of about that size each.
"""

from __future__ import annotations

import asyncio
import gc
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import orjson

from benchmarks import _measure
from benchmarks.scale import calls_of_350_bytes
from benchmarks.stages import Captured, captured_callbacks, new_capture

INVOCATIONS: Final = 50
PAIRS: Final = 100
SMALL: Final = "350 bytes"
CHAIN: Final = "LCEL chain, mean"


def measure(spec: dict[str, Any]) -> dict[str, Any]:
    """Measure one handler in this process.

    Args:
        spec: ``rounds``, ``sync``.
    """
    from asynctrack import tracker

    sync = spec["sync"]
    chain = captured_callbacks(INVOCATIONS)
    per = len(chain) // INVOCATIONS
    labels = [f"{number + 1}. {chain[number][0]}" for number in range(per)]
    small = calls_of_350_bytes(PAIRS)
    times: dict[str, list[float]] = {name: [] for name in (*labels, CHAIN, SMALL)}
    bare = {name: float("inf") for name in times}
    plain, small_plain = _plain(chain), _plain(small)
    loop = asyncio.new_event_loop()
    with tempfile.TemporaryDirectory(prefix="asynctrack-callbacks-") as folder:
        # A batch is cut by the flush only: the worker sleeps while the callbacks are timed.
        tracked = tracker(folder, spool_dir=f"{folder}/spool", max_delay=3600.0)
        handler: Any = (
            tracked.__enter__() if sync else loop.run_until_complete(tracked.__aenter__())
        )
        call = _call_sync if sync else _call_async
        gc.collect()
        gc.freeze()
        gc.disable()
        for number in range(spec["rounds"] + 2):
            for name, arguments, options in small[:20]:  # the first event wakes the worker
                call(getattr(handler, name), arguments, options)
            time.sleep(0.02)
            seconds = _by_label(handler, call, chain, labels)
            thread = time.thread_time()
            for name, arguments, options in chain:
                call(getattr(handler, name), arguments, options)
            seconds[CHAIN] = (time.thread_time() - thread) / per
            thread = time.thread_time()
            for name, arguments, options in small:
                call(getattr(handler, name), arguments, options)
            seconds[SMALL] = (time.thread_time() - thread) / len(small) * INVOCATIONS
            if number >= 2:  # the first ones warm up
                for name, value in seconds.items():
                    times[name].append(value / INVOCATIONS * 1e6)
            _time_orjson(bare, plain, small_plain, labels)
            if sync:
                handler.flush()
            else:
                loop.run_until_complete(handler.flush())
        gc.enable()
        if sync:
            tracked.close()
        else:
            loop.run_until_complete(tracked.aclose())
    loop.close()
    sizes = [len(orjson.dumps(record)) for record in small_plain]
    return {"callbacks": per, "times": times, "orjson": bare, "bytes": sum(sizes) / len(sizes)}


def _by_label(
    handler: Any, call: Callable[..., None], chain: list[Captured], labels: list[str]
) -> dict[str, float]:
    # In the chain's order: one kind after the other would flatter the caches.
    seconds = dict.fromkeys(labels, 0.0)
    clock = time.perf_counter
    for number, (name, arguments, options) in enumerate(chain):
        callback = getattr(handler, name)
        started = clock()
        call(callback, arguments, options)
        seconds[labels[number % len(labels)]] += clock() - started
    return seconds


def _time_orjson(
    bare: dict[str, float], plain: list[Any], small: list[Any], labels: Sequence[str]
) -> None:
    spent = dict.fromkeys(labels, 0.0)
    clock = time.perf_counter
    for number, record in enumerate(plain):
        started = clock()
        orjson.dumps(record)
        spent[labels[number % len(labels)]] += clock() - started
    started = clock()
    for record in small:
        orjson.dumps(record)
    spent[SMALL] = (clock() - started) / len(small) * INVOCATIONS
    spent[CHAIN] = sum(spent[label] for label in labels) / len(labels)
    for name, value in spent.items():
        bare[name] = min(bare[name], value / INVOCATIONS * 1e6)


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


def run(*, processes: int = 2, rounds: int = 40) -> dict[str, Any]:
    """Measure both handlers in fresh processes."""
    answers: dict[str, list[dict[str, Any]]] = {"async": [], "sync": []}
    for _ in range(processes):
        for kind, found in answers.items():
            spec = {"rounds": rounds, "sync": kind == "sync"}
            found.append(_measure.fresh_process("benchmarks.callbacks", spec))
    first = answers["async"][0]
    rows = []
    for name in first["times"]:
        row: dict[str, Any] = {"callback": name, "orjson_us": round(first["orjson"][name], 3)}
        for kind, found in answers.items():
            rounds_of = [answer["times"][name] for answer in found]
            row[f"{kind}_us"] = _measure.median(rounds_of).as_dict()
            row[f"{kind}_min_us"] = round(min(map(min, rounds_of)), 3)
        rows.append(row)
    return {
        "processes": processes,
        "rounds": rounds,
        "callbacks": first["callbacks"],
        "small_bytes": round(first["bytes"]),
        "rows": rows,
    }


def text(result: dict[str, Any]) -> str:
    """Return the result as a table for a terminal."""
    lines = [f"{'':28}{'async µs':>10}{'lowest':>10}{'sync µs':>10}{'lowest':>10}{'orjson µs':>11}"]
    lines += [
        f"{row['callback']:28}{row['async_us']['value']:>10.2f}{row['async_min_us']:>10.2f}"
        f"{row['sync_us']['value']:>10.2f}{row['sync_min_us']:>10.2f}{row['orjson_us']:>11.2f}"
        for row in result["rows"]
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    _measure.main(__doc__, measure, run, text, rounds=30)
