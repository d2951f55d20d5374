"""Blocking calls and generators as async ones: they run in anyio's threads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator
from itertools import islice
from typing import TypeVar

_T = TypeVar("_T")


async def in_thread(call: Callable[[], _T]) -> _T:
    """Run what blocks in a thread."""
    import anyio.to_thread  # only here: synchronous code does not need it

    return await anyio.to_thread.run_sync(call)


async def from_thread(items: Generator[_T, None, None], chunk: int) -> AsyncIterator[_T]:
    """Yield the items of a generator that runs in threads, ``chunk`` items in one visit."""
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
