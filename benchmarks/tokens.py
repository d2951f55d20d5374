"""What a streamed token costs, LangChain's call included: ``python -m benchmarks.tokens``.

A run manager of langchain-core is told of tokens in a row, with no handler, the empty inline
handler and asynctrack in turns, in short rounds: what the *stream* workload measures end to end
between much other work, here by itself. CPU of the calling thread, differences to no handler.
"""

from __future__ import annotations

import asyncio
import gc
import random
import time
import uuid
from typing import Any, Final

from benchmarks import _measure
from benchmarks.tracers import BASE, INLINE, OURS, Asynctrack, Empty, Tracer

TOKENS: Final = 500


def measure(spec: dict[str, Any]) -> dict[str, Any]:
    """Measure in this process.

    Args:
        spec: ``rounds``.
    """
    from langchain_core.callbacks import AsyncCallbackManagerForLLMRun
    from langchain_core.messages import AIMessageChunk
    from langchain_core.outputs import ChatGenerationChunk

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    running: dict[str, Tracer] = {
        BASE: Tracer(),
        INLINE: Empty("inline"),
        OURS: Asynctrack(options={"max_delay": 3600.0}, into="folder"),
    }
    running[INLINE].prepare()
    for tracer in running.values():
        tracer.start({}, sync=False, loop=loop)
    chunk = ChatGenerationChunk(message=AIMessageChunk(content="word "))

    async def stream(manager: Any) -> float:
        started = time.thread_time()
        for _ in range(TOKENS):
            await manager.on_llm_new_token("word ", chunk=chunk)
        return time.thread_time() - started

    times: dict[str, list[float]] = {name: [] for name in running}
    generator = random.Random(_measure.SEED)
    gc.collect()
    gc.disable()
    for number in range(spec["rounds"] + 3):
        order = list(running)
        generator.shuffle(order)
        for name in order:
            handlers = running[name].config().get("callbacks", [])
            manager = AsyncCallbackManagerForLLMRun(
                run_id=uuid.uuid4(), handlers=handlers, inheritable_handlers=handlers
            )
            seconds = loop.run_until_complete(stream(manager))
            if number >= 3:  # the first ones warm up
                times[name].append(seconds / TOKENS * 1e6)
    gc.enable()
    for tracer in running.values():
        tracer.stop()
    loop.close()
    return times


def run(*, processes: int = 2, rounds: int = 60) -> dict[str, Any]:
    """Measure in fresh processes."""
    answers = [
        _measure.fresh_process("benchmarks.tokens", {"rounds": rounds}) for _ in range(processes)
    ]
    base = [answer[BASE] for answer in answers]
    added = {
        name: _measure.differences([answer[name] for answer in answers], base)
        for name in (INLINE, OURS)
    }
    return {
        "processes": processes,
        "rounds": rounds,
        "inline_us": _measure.median(added[INLINE]).as_dict(),
        "ours_us": _measure.median(added[OURS]).as_dict(),
        "ratio": _measure.ratio(added[OURS], added[INLINE]).as_dict(),
    }


def text(result: dict[str, Any]) -> str:
    """Return the result for a terminal."""
    ratio = result["ratio"]
    return (
        f"a token: {INLINE} {result['inline_us']['value']} µs,"
        f" {OURS} {result['ours_us']['value']} µs,"
        f" {ratio['value']} × ({ratio['low']}–{ratio['high']})"
    )


if __name__ == "__main__":
    _measure.main(__doc__, measure, run, text, rounds=40)
