"""What tracking costs: measured here and now, in this process, as the benchmarks do.

The chain runs without a handler, with an ``async def`` handler that does nothing (what everybody
writes) and with one tracker that stays open. They take turns in every round, so that what else the
machine does hits all of them; what is told are medians of the differences within a round.

`gc.freeze()` comes first: a full garbage collection walks all that an application has imported,
takes longer than a round and comes with every few rounds only, so that a measurement of seconds
would tell where it fell and nothing else. The benchmarks have the time to measure with them, too.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from asynctrack import tracker

from ._estimates import UNBOUNDED, Estimate, differences, median, ratio
from ._sagemaker import sagemaker_sdk
from ._workload import CONCURRENCY, INVOCATIONS, EmptyAsync, LocalModel, Round, drive, jokes, timed

ROUNDS: Final = 7
SHORT: Final = 100
"""Rounds of the demo, and `ainvoke` calls in each: some seconds, so its intervals are wide."""
_INVOKE: Final = jokes(LocalModel())
_LIVES: Final = 5


@dataclass(frozen=True)
class Clocks:
    """A figure by each of two clocks, with its 95 % confidence interval.

    Attributes:
        thread: CPU of the application's thread, until the last answer.
        process: CPU of all threads, until everything was delivered.
    """

    thread: Estimate
    process: Estimate

    @property
    def clear(self) -> bool:
        """Whether they say more of the handlers than of what else the machine did meanwhile."""
        both = (self.thread, self.process)
        return all(one.high < UNBOUNDED and one.high - one.low <= one.value for one in both)


@dataclass(frozen=True)
class Overhead:
    """One measurement; all times in microseconds, those of the rounds for each callback.

    Attributes:
        rounds: How often each variant ran.
        invocations: How many `ainvoke` a round has.
        concurrency: How many of them run at the same time.
        callbacks: How many callbacks one `ainvoke` makes.
        chain: CPU of the application's thread without a handler.
        empty: What an empty ``async def`` handler adds.
        asynctrack: What the tracker adds.
        ratio: The second to the first; None where they scatter too much to say.
        life_cpu: CPU of a whole tracker with one `ainvoke`, opening and closing included.
        life: How long that takes.
    """

    rounds: int
    invocations: int
    concurrency: int
    callbacks: int
    chain: float
    empty: Clocks
    asynctrack: Clocks
    ratio: Clocks | None
    life_cpu: float
    life: float


def measure_into_run(experiment: str, session: Any) -> Overhead:
    """Measure the overhead of tracking into Runs of an embedded AWS.

    Args:
        experiment: The name of an experiment for this measurement alone.
        session: A session of the SageMaker SDK.
    """

    def make(name: str) -> Any:
        run = sagemaker_sdk().Run
        return run(experiment_name=experiment, run_name=name, sagemaker_session=session)

    return measure(make, rounds=ROUNDS, invocations=SHORT)


def measure(
    make: Callable[[str], Any], *, rounds: int = 9, invocations: int = INVOCATIONS
) -> Overhead:
    """Measure the overhead.

    Args:
        make: Makes what a tracker tracks into, a Run or a folder, by its name: another one for
            each tracker, since a Run is written to once a second.
        rounds: How often each variant runs; one more warms up.
        invocations: `ainvoke` calls in a round.
    """
    loop = asyncio.new_event_loop()
    gc.collect()
    gc.freeze()
    try:
        callbacks, times = _in_turns(loop, make("measured"), rounds, invocations)
        runs = [make(f"life-{number}") for number in range(_LIVES)]
        lives = [timed(partial(_live, loop, run), _nothing) for run in runs]
    finally:
        gc.unfreeze()
        loop.close()
    per = 1e6 / (invocations * callbacks)

    def told(clock: str) -> tuple[Estimate, Estimate, Estimate]:
        base, *others = ([[getattr(one, clock) * per for one in variant]] for variant in times)
        below, above = (differences(other, base) for other in others)
        return median(below), median(above), ratio(above, below)

    both = zip(told("thread"), told("process"), strict=True)
    empty, ours, ours_over_empty = (Clocks(*figures) for figures in both)
    return Overhead(
        rounds=rounds,
        invocations=invocations,
        concurrency=CONCURRENCY,
        callbacks=callbacks,
        chain=statistics.median(one.thread for one in times[0]) * per,
        empty=empty,
        asynctrack=ours,
        ratio=ours_over_empty if ours_over_empty.clear else None,
        life_cpu=statistics.median(one.process for one in lives) * 1e6,
        life=statistics.median(one.wall for one in lives) * 1e6,
    )


def _in_turns(
    loop: asyncio.AbstractEventLoop, run: Any, rounds: int, invocations: int
) -> tuple[int, list[list[Round]]]:
    """Return how many callbacks an `ainvoke` makes, and the rounds of each variant."""
    tracked = tracker(run)
    handler = loop.run_until_complete(tracked.__aenter__())

    def deliver() -> None:
        loop.run_until_complete(handler.flush())

    try:
        _play(loop, handler, 1)
        callbacks = handler.statistics().accepted
        variants = ((None, _nothing), (EmptyAsync(), _nothing), (handler, deliver))
        times: list[list[Round]] = [[] for _ in variants]
        for number in range(rounds + 1):
            # Another first one each time: whoever follows the tracker inherits its garbage.
            for which in (number % 3, (number + 1) % 3, (number + 2) % 3):
                variant, flush = variants[which]
                gc.collect()
                took = timed(partial(_play, loop, variant, invocations), flush)
                if number:
                    times[which].append(took)
    finally:
        loop.run_until_complete(tracked.aclose())
    return callbacks, times


def _live(loop: asyncio.AbstractEventLoop, run: Any) -> None:
    tracked = tracker(run)
    _play(loop, loop.run_until_complete(tracked.__aenter__()), 1)
    loop.run_until_complete(tracked.aclose())


def _play(loop: asyncio.AbstractEventLoop, handler: Any, invocations: int) -> None:
    config = {} if handler is None else {"callbacks": [handler]}
    loop.run_until_complete(drive(_INVOKE, invocations, CONCURRENCY, config))


def _nothing() -> None:
    pass
