"""An event loop whose clock is turned by hand: waiting costs no time, and every run is the same."""

from __future__ import annotations

import asyncio
import gc
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


class Stuck(Exception):
    """Nothing is left that could ever happen, and the main task has not ended."""


class _Selector(selectors.DefaultSelector):
    """Never waits: where the loop would, it turns the clock to what comes next."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise Stuck
            self.now += max(0.0, timeout)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop; ``time()`` starts at zero."""

    def __init__(self) -> None:
        self.clock = _Selector()
        super().__init__(self.clock)
        self._clock_resolution = 1e-9
        self.reported: list[str] = []
        self.set_exception_handler(lambda _, context: self.reported.append(str(context)))

    def time(self) -> float:
        return self.clock.now


def run(main: Callable[[VirtualLoop], Coroutine[Any, Any, _T]]) -> _T:
    """Run a coroutine to its end in a loop of its own.

    Raises:
        Stuck: It waits for what never comes.
        AssertionError: Something failed and nobody asked for it.
    """
    gc.freeze()  # only what is made from here on is looked through at the end
    loop = VirtualLoop()
    try:
        result = loop.run_until_complete(main(loop))
    finally:
        try:
            tasks = asyncio.all_tasks(loop)
            for task in tasks:
                task.cancel()
            if tasks:
                loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()
        gc.collect()  # a task says when it is deleted that nobody asked what it failed with
        gc.unfreeze()
    assert not loop.reported, loop.reported
    return result
