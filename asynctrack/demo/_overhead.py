"""What tracking costs: measured here and now, in this process.

The same LCEL chain with a local fake model runs without a handler, with an ``async def`` handler
that does nothing (what everybody writes) and with the tracker. The variants take turns in every
round, so that what else the machine does hits all of them; the medians of the rounds are compared.

Two times are taken of each round: what the application waited until its last answer, and the CPU
time of the whole process until everything was delivered, background work and flush included.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, NamedTuple

from ._sagemaker import sagemaker_sdk

VARIANTS = ("no handler", "do-nothing async handler", "asynctrack")


@dataclass(frozen=True)
class Measured:
    """What one variant cost.

    Attributes:
        variant: One of `VARIANTS`.
        seconds: The application's median time for a round.
        added_us: What that adds to a callback, in microseconds, compared to no handler.
        ratio: That time divided by the one without a handler.
        added_cpu_us: The CPU time added to a callback, in microseconds, by all threads, flush
            included.
        flush_seconds: The median time of the flush after a round, which only the tracker has.
    """

    variant: str
    seconds: float
    added_us: float
    ratio: float
    added_cpu_us: float
    flush_seconds: float


@dataclass(frozen=True)
class Overhead:
    """One measurement.

    Attributes:
        rounds: How often each variant ran.
        invocations: How many `ainvoke` a round has.
        concurrency: How many of them run at the same time.
        callbacks: How many callbacks one `ainvoke` makes.
        target: Where the tracker delivered to.
        measured: The variants, without a handler first.
    """

    rounds: int
    invocations: int
    concurrency: int
    callbacks: int
    target: str
    measured: tuple[Measured, ...]


def measure_into_run(experiment: str, session: Any) -> Overhead:
    """Measure the overhead of tracking into a Run of an embedded AWS.

    Args:
        experiment: The name of an experiment for this measurement alone.
        session: A session of the SageMaker SDK.
    """
    make_run = sagemaker_sdk().Run
    with make_run(
        experiment_name=experiment, run_name="measured", sagemaker_session=session
    ) as run:
        return asyncio.run(measure(run, target="the embedded S3 and SageMaker"))


async def measure(
    run: Any, *, target: str, rounds: int = 5, invocations: int = 200, concurrency: int = 50
) -> Overhead:
    """Measure the overhead.

    Args:
        run: What the tracker tracks into: a Run or a folder.
        target: What to call that in the result.
        rounds: How often each variant runs; one more is thrown away, to warm up.
        invocations: `ainvoke` calls in a round.
        concurrency: How many run at the same time.
    """
    from langchain_core.callbacks import AsyncCallbackHandler

    from asynctrack import tracker

    class DoNothing(AsyncCallbackHandler):
        async def _nothing(self, *arguments: Any, **options: Any) -> None:
            pass

        on_chain_start = on_chain_end = on_chat_model_start = on_llm_end = _nothing

    chain = _chain()
    callbacks = await _count_callbacks(chain)
    times: dict[str, list[_Round]] = {variant: [] for variant in VARIANTS}
    async with AsyncExitStack() as stack:
        tracked = await stack.enter_async_context(tracker(run))
        handlers: dict[str, Any] = dict(zip(VARIANTS, (None, DoNothing(), tracked), strict=True))
        for number in range(rounds + 1):
            # Another first one each time: whoever follows the tracker inherits its garbage.
            shift = number % len(VARIANTS)
            for variant in VARIANTS[shift:] + VARIANTS[:shift]:
                gc.collect()
                cpu, started = time.process_time(), time.perf_counter()
                await _round(chain, handlers[variant], invocations, concurrency)
                answered = time.perf_counter()
                if handlers[variant] is tracked:
                    await tracked.flush()
                flushed = time.perf_counter()
                if number:
                    used = time.process_time() - cpu
                    times[variant].append(_Round(answered - started, used, flushed - answered))
    return Overhead(
        rounds=rounds,
        invocations=invocations,
        concurrency=concurrency,
        callbacks=callbacks,
        target=target,
        measured=_compared(times, invocations * callbacks),
    )


class _Round(NamedTuple):
    wall: float
    cpu: float
    flush: float


def _compared(times: Mapping[str, Sequence[_Round]], callbacks: int) -> tuple[Measured, ...]:
    medians = [_Round(*map(statistics.median, zip(*times[v], strict=True))) for v in VARIANTS]
    base = medians[0]
    return tuple(
        Measured(
            variant=variant,
            seconds=median.wall,
            added_us=(median.wall - base.wall) / callbacks * 1e6,
            ratio=median.wall / base.wall,
            added_cpu_us=(median.cpu - base.cpu) / callbacks * 1e6,
            flush_seconds=median.flush,
        )
        for variant, median in zip(VARIANTS, medians, strict=True)
    )


async def _round(chain: Any, handler: Any, invocations: int, concurrency: int) -> None:
    config = {"callbacks": [handler]} if handler is not None else {}
    left = iter(range(invocations))

    async def work() -> None:
        for number in left:
            await chain.ainvoke({"topic": f"fish {number}"}, config=config)

    await asyncio.gather(*(work() for _ in range(concurrency)))


def _chain() -> Any:
    from langchain_core.language_models.chat_models import BaseChatModel
    from langchain_core.messages import AIMessage
    from langchain_core.output_parsers import StrOutputParser
    from langchain_core.outputs import ChatGeneration, ChatResult
    from langchain_core.prompts import ChatPromptTemplate

    class FakeModel(BaseChatModel):
        """Answers at once, asynchronously as real clients do: without a thread."""

        @property
        def _llm_type(self) -> str:
            return "fake"

        def _generate(self, *arguments: Any, **options: Any) -> ChatResult:
            message = AIMessage("Why did the fish cross the sea? To get to the other tide.")
            return ChatResult(generations=[ChatGeneration(message=message)])

        async def _agenerate(self, *arguments: Any, **options: Any) -> ChatResult:
            await asyncio.sleep(0)
            return self._generate()

    return ChatPromptTemplate.from_template("Tell me a joke about {topic}.") | (
        FakeModel() | StrOutputParser()
    )


async def _count_callbacks(chain: Any) -> int:
    from langchain_core.callbacks import AsyncCallbackHandler

    class Counting(AsyncCallbackHandler):
        count = 0

        async def _count(self, *arguments: Any, **options: Any) -> None:
            self.count += 1

        on_chain_start = on_chain_end = on_chat_model_start = on_llm_end = _count

    counting = Counting()
    await chain.ainvoke({"topic": "fish"}, config={"callbacks": [counting]})
    return counting.count
