"""What large values cost: ``python -m benchmarks.values``.

A LangGraph graph with a document in its state, an image that goes through a conversation, texts of
100 KB and of 5 MB: what tracking them takes of the application's thread, of the process and of the
event loop, and what is stored for what they hold. *Information* is what a run holds, each of it
once, as JSON. Everything is tracked into a folder; what is large is made anew for each round.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import itertools
import random
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import orjson
import zstandard

from benchmarks import _measure
from benchmarks._values_cases import Conversation, Graph, Run, text

TICK: Final = 0.001
NONE: Final = "no handler"
OURS: Final = "asynctrack"
SHORT: Final = "short"
KINDS: Final = {
    "same": "seen before, the same object",
    "equal": "seen before, equal content in another object",
    "new": "new",
}
"""Of a large text, whether the segment has it already."""
SIZES: Final = {"100 KB": (100_000, 10), "5 MB": (5_000_000, 1)}
"""Size of the text, and calls of each kind in a round."""
CASES: Final[dict[str, Callable[..., Graph | Conversation]]] = {
    "graph": Graph,
    "image": Conversation,
    "image block": functools.partial(Conversation, block=True),
}
IMAGES: Final = {"image": "as a data URL", "image block": "as a block of LangChain's"}


class _Ticks:
    """How late a task of the loop is woken that asks for it each millisecond."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def __aenter__(self) -> _Ticks:
        self._task = asyncio.ensure_future(self._sample())
        await asyncio.sleep(0.02)
        self.longest = 0.0
        return self

    async def __aexit__(self, *error: object) -> None:
        await asyncio.sleep(0.02)  # so that it is told of a stop that has just ended
        self._task.cancel()

    async def _sample(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + TICK
            await asyncio.sleep(TICK)
            self.longest = max(self.longest, loop.time() - due)


def _timed(handler: Any) -> Any:
    """Return a handler that hands all on to another, and notes the longest it took."""
    from langchain_core.callbacks import AsyncCallbackHandler

    def method(name: str) -> Any:
        async def call(self: Any, *arguments: Any, **options: Any) -> None:
            started = time.perf_counter()
            await getattr(handler, name)(*arguments, **options)
            self.longest = max(self.longest, time.perf_counter() - started)

        return call

    names = [name for name in dir(AsyncCallbackHandler) if name.startswith("on_")]
    members: dict[str, Any] = {name: method(name) for name in names}
    return type("Timed", (AsyncCallbackHandler,), {**members, "run_inline": True, "longest": 0.0})()


def _stored(folder: Path) -> dict[str, int]:
    """Return how large the artifacts in a folder are, and the lines in them."""
    stored = lines = 0
    for path in folder.rglob("dt=*/*.jsonl.zst"):
        content = path.read_bytes()
        stored += len(content)
        lines += len(zstandard.ZstdDecompressor().decompressobj().decompress(content))
    return {"stored": stored, "lines": lines}


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="asynctrack-values-") as name:
        yield Path(name)


# -- whole runs -------------------------------------------------------------------------------


async def _tracked(run: Run, tracked: bool, ticking: bool) -> dict[str, float]:
    """Run once, with a tracker of its own whose opening and closing are not measured."""
    from asynctrack import tracker

    with _folder() as folder:
        inner = tracker(folder / "runs", spool_dir=folder / "spool") if tracked else None
        handler = await inner.__aenter__() if inner else None
        row: dict[str, float] = {}
        # The graph's time is measured without a second task, which would be in both.
        if ticking:
            timed = _timed(handler) if handler else None
            async with _Ticks() as ticks:
                await run({"callbacks": [timed]} if timed else {})
                if handler:
                    await handler.flush(120.0)
            row = {"stop": ticks.longest, "callback": timed.longest if timed else 0.0}
        else:
            process, thread = time.process_time(), time.thread_time()
            started = time.perf_counter()
            await run({"callbacks": [handler]} if handler else {})
            row = {"wall": time.perf_counter() - started, "thread": time.thread_time() - thread}
            if handler:
                await handler.flush(120.0)
            row["process"] = time.process_time() - process
        if inner and handler:
            await inner.aclose()
            told = handler.statistics()
            assert told.delivered == told.accepted, told
            row |= {"accepted": told.accepted, **_stored(folder / "runs")}
    return row


def _measure_runs(case: Graph | Conversation, spec: dict[str, Any]) -> dict[str, Any]:
    """Run a case with and without a tracker, in turns, each round with something new in it."""
    rows: dict[str, list[dict[str, float]]] = {NONE: [], OURS: []}
    holds: list[dict[str, int]] = []
    loop = asyncio.new_event_loop()
    generator = random.Random(spec["seed"])
    for number in range(spec["rounds"] + 1):
        run, information = case.make(spec["seed"] + 1000 * number)
        order = [NONE, OURS]
        generator.shuffle(order)
        for name in order:
            gc.collect()
            row = loop.run_until_complete(_tracked(run, name == OURS, spec["ticking"]))
            if number:  # the first ones warm up
                rows[name].append(row)
        if number:
            alone = zstandard.ZstdCompressor(level=3).compress(information)
            holds.append({"information": len(information), "compressed": len(alone)})
    loop.close()
    return {"rows": rows, "holds": holds}


# -- texts ------------------------------------------------------------------------------------


def _bare(texts: list[str]) -> float:
    """Return the seconds orjson takes for one, at its best: text and memory are in the caches."""
    spent = 0.0
    for one in texts:
        orjson.dumps({"text": one})
        thread = time.thread_time()
        for _ in range(_REPEATS):
            orjson.dumps({"text": one})
        spent += time.thread_time() - thread
    return spent / len(texts) / _REPEATS


_REPEATS: Final = 5


def _measure_texts(spec: dict[str, Any]) -> dict[str, Any]:
    """Time one callback with texts of a size, and how long the loop is stopped by each."""
    from asynctrack import tracker

    size, calls = spec["size"], spec["calls"]
    settle = SETTLE * size * calls / 1e6
    bodies = [text(size - 13, spec["seed"] + number) for number in range(calls)]
    rows: dict[str, list[float]] = {name: [] for name in ("bare", SHORT, *KINDS)}
    stops: dict[str, list[float]] = {name: [] for name in (NONE, *KINDS)}
    in_memory: list[float] = []
    generator = random.Random(spec["seed"])

    async def call(handler: Any, texts: list[str]) -> float:
        """Return the seconds of this thread that each start took."""
        root, ids = uuid.uuid4(), [uuid.uuid4() for _ in texts]
        thread = time.thread_time()
        for one, span in zip(texts, ids, strict=True):
            await handler.on_chain_start(
                None, {"text": one}, run_id=span, parent_run_id=root, tags=["seq:step:1"],
                metadata={"user": "u-1"}, name="RunnableSequence",
            )  # fmt: skip
        seconds = (time.thread_time() - thread) / len(texts)
        for span in ids:
            await handler.on_chain_end({}, run_id=span, parent_run_id=root)
        return seconds

    async def rounds(handler: Any) -> None:
        for number in range(spec["rounds"] + 2):
            new = [f"{number:012d} {body}" for body in bodies]
            seconds: dict[str, float] = {}
            lag: dict[str, float] = {}
            equal = [f"{one} "[:-1] for one in new]
            order = ["same", "equal"]
            generator.shuffle(order)
            # In one segment: nothing is flushed between a text's first time and its second.
            for name in ("new", *order):
                texts = equal if name == "equal" else new
                gc.collect()
                gc.disable()
                async with _Ticks() as ticks:
                    seconds[name] = await call(handler, texts)
                    # Until what the callback left to another thread is done, or soon after.
                    await asyncio.sleep(settle)
                gc.enable()
                lag[name] = ticks.longest
            gc.disable()
            seconds[SHORT] = await call(handler, ["Tell me a joke."] * calls)
            seconds["bare"] = _bare(new)
            gc.enable()
            async with _Ticks() as ticks:
                await asyncio.sleep(settle)
            lag[NONE] = ticks.longest
            async with _Ticks() as ticks:
                await handler.flush(120.0)
            lag["new"] = max(lag["new"], ticks.longest)  # to compress it is part of it
            await call(handler, [f"{number:012d}~{bodies[0]}"])
            returned = time.perf_counter()
            while handler.statistics().pending:
                await asyncio.sleep(0)
            waited = time.perf_counter() - returned
            await handler.flush(120.0)
            if number >= 2:  # the first ones warm up
                in_memory.append(waited * 1e3)
                for name, value in seconds.items():
                    rows[name].append(value * 1e6)
                for name, value in lag.items():
                    stops[name].append(value * 1e3)

    async def main() -> None:
        with _folder() as folder:
            # A batch is cut by the flush only, and one segment takes all of a round.
            async with tracker(
                folder / "runs", spool_dir=folder / "spool", max_delay=3600.0
            ) as handler:
                await rounds(handler)

    asyncio.run(main())
    return {"us": rows, "stops": stops, "in_memory": in_memory}


SETTLE: Final = 0.05
"""Seconds to wait for each megabyte that was handed over."""


def measure(spec: dict[str, Any]) -> dict[str, Any]:
    """Measure one part in this process.

    Args:
        spec: ``part``, ``rounds``, ``seed``; of texts ``size`` and ``calls``, else ``ticking`` and
            ``options`` of the case.
    """
    if spec["part"] == "texts":
        return _measure_texts(spec)
    return _measure_runs(CASES[spec["part"]](**spec.get("options", {})), spec)


# -- figures ----------------------------------------------------------------------------------


def run(*, processes: int = 2, rounds: int = 6) -> dict[str, Any]:
    """Measure everything in fresh processes."""

    def ask(part: str, count: int, times: int, **more: Any) -> list[dict[str, Any]]:
        seeds = (_measure.SEED + 10**6 * number for number in range(count))
        return [
            _measure.fresh_process(
                "benchmarks.values", {"part": part, "rounds": times, "seed": seed, **more}
            )
            for seed in seeds
        ]

    few = max(2, rounds // 2)
    return {
        "processes": processes,
        "rounds": rounds,
        "graph": {
            **_ratios(ask("graph", processes, rounds, ticking=False)),
            **_stops(ask("graph", processes, few, ticking=True)),
        },
        "images": {
            name: {
                **_ratios(ask(name, 1, few, ticking=False)),
                **_stops(ask(name, processes, few, ticking=True)),
            }
            for name in IMAGES
        },
        "texts": {
            name: _text_figures(ask("texts", processes, 2 * rounds, size=size, calls=calls))
            for name, (size, calls) in SIZES.items()
        },
    }


def _series(answers: list[dict[str, Any]], name: str, figure: str) -> list[list[float]]:
    return [[row[figure] for row in answer["rows"][name]] for answer in answers]


def _ratios(answers: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what tracking costs a run, and what is stored of what it holds."""
    found: dict[str, Any] = {}
    for clock in ("wall", "thread", "process"):
        ours, none = _series(answers, OURS, clock), _series(answers, NONE, clock)
        found[f"{clock}_ratio"] = _measure.ratio(ours, none).as_dict()
        found[f"{clock}_ms"] = _measure.median([[1e3 * v for v in one] for one in none]).as_dict()
        added = _measure.differences(ours, none, 1e-6)
        events = answers[0]["rows"][OURS][0]["accepted"]
        found[f"{clock}_us"] = _measure.median(
            [[v / events for v in one] for one in added]
        ).as_dict()
    for figure, of in (("lines", "information"), ("stored", "compressed")):
        holds = [[hold[of] for hold in answer["holds"]] for answer in answers]
        sizes = _series(answers, OURS, figure)
        found[figure] = statistics.median(itertools.chain(*sizes))
        found[of] = statistics.median(itertools.chain(*holds))
        found[f"{figure}_ratio"] = _measure.ratio(sizes, holds).as_dict()
    return {**found, "events": answers[0]["rows"][OURS][0]["accepted"]}


def _stops(answers: list[dict[str, Any]]) -> dict[str, Any]:
    """Return for how long the loop stood still at the most, and the longest callback."""
    milliseconds = {
        name: [[1e3 * value for value in one] for one in _series(answers, *of)]
        for name, of in (
            ("stop_ms", (OURS, "stop")),
            ("callback_ms", (OURS, "callback")),
            ("none_stop_ms", (NONE, "stop")),
        )
    }
    return {name: _measure.median(values).as_dict() for name, values in milliseconds.items()}


def _text_figures(answers: list[dict[str, Any]]) -> dict[str, Any]:
    us = {name: [one["us"][name] for one in answers] for name in answers[0]["us"]}
    stops = {name: [one["stops"][name] for one in answers] for name in answers[0]["stops"]}
    bare = us["bare"]
    added = {name: _measure.differences(us[name], us[SHORT]) for name in KINDS}
    return {
        "bare_us": _measure.median(bare).as_dict(),
        "short_us": _measure.median(us[SHORT]).as_dict(),
        "none_stop_ms": _measure.median(stops[NONE]).as_dict(),
        "in_memory_ms": _measure.median([one["in_memory"] for one in answers]).as_dict(),
        "kinds": {
            name: {
                "us": _measure.median(us[name]).as_dict(),
                "whole_ratio": _measure.ratio(us[name], bare).as_dict(),
                "added_ratio": _measure.ratio(added[name], bare).as_dict(),
                "stop_ms": _measure.median(stops[name]).as_dict(),
            }
            for name in KINDS
        },
    }


def text_of(result: dict[str, Any]) -> str:
    """Return the result as lines for a terminal."""

    def show(figure: dict[str, float]) -> str:
        return f"{figure['value']:.3g} ({figure['low']:.3g}–{figure['high']:.3g})"

    lines = []
    for name, one in (("graph", result["graph"]), *result["images"].items()):
        ratios = ", ".join(f"{key} {show(one[f'{key}_ratio'])} ×" for key in _RATIOS)
        lines.append(f"{name}: {ratios}")
        lines.append(f"  stop {show(one['stop_ms'])} ms, callback {show(one['callback_ms'])} ms")
    for size, one in result["texts"].items():
        lines.append(
            f"{size}: bare {show(one['bare_us'])} µs, short {show(one['short_us'])} µs, in memory"
            f" only for {show(one['in_memory_ms'])} ms"
        )
        for kind, row in one["kinds"].items():
            lines.append(
                f"  {kind}: {show(row['us'])} µs, {show(row['whole_ratio'])} × bare, adds"
                f" {show(row['added_ratio'])} ×, stop {show(row['stop_ms'])} ms"
            )
    return "\n".join(lines)


_RATIOS: Final = ("wall", "thread", "process", "lines", "stored")


if __name__ == "__main__":
    _measure.main(__doc__, measure, run, text_of, rounds=4)
