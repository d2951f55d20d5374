"""From blocking calls and generators to async ones: the work is done in anyio's threads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator
from itertools import islice
from typing import TypeVar

_T = TypeVar("_T")


async def in_thread(call: Callable[[], _T]) -> _T:
    """Run what blocks in a thread."""
    import anyio.to_thread  # only here: who reads from synchronous code does without

    return await anyio.to_thread.run_sync(call)


async def from_thread(items: Generator[_T, None, None], chunk: int) -> AsyncIterator[_T]:
    """Yield what a generator yields, which runs in threads, so many items in one visit."""
    import anyio

    try:
        finished = False
        while not finished:
            some = await in_thread(lambda: list(islice(items, chunk)))
            finished = len(some) < chunk
            for item in some:
                yield item
    finally:
        with anyio.CancelScope(shield=True):
            await in_thread(items.close)
