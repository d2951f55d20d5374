"""Runs the engine's coroutine in an event loop of its own, as ``asyncio.run`` does.

Two things differ. ``asyncio.run`` starts a thread at its end to wait for those that resolved names;
and each of these is a daemon here, so that a name server that hangs keeps no program from ending.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Thread
from typing import Any, TypeVar

from asynctrack._common.offload import close_threads
from asynctrack._common.own import own_work
from asynctrack._common.turns import new_event_loop, turns

_T = TypeVar("_T")


def run_loop(main: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine in an event loop of its own, as ``asyncio.run`` does, but for its threads.

    ``asyncio.run`` starts a thread at its end to wait for those that resolved names.

    Args:
        main: The coroutine.

    Raises:
        OSError: No descriptors are left for a loop; the coroutine has not begun.
        RuntimeError: Another event loop runs in this thread, as with threads that are none
            (gevent); the coroutine has not begun.
    """
    with own_work():
        try:
            loop = _new_loop()
        except BaseException:
            main.close()
            raise
        with turns.taken():
            try:
                loop.run_until_complete(main)
            finally:
                try:
                    loop.run_until_complete(_cancel_others())
                    loop.run_until_complete(loop.shutdown_asyncgens())
                finally:
                    close_threads(loop)
                    loop.close()


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise RuntimeError("another event loop runs in its thread")
    loop = new_event_loop()
    # Debugging is meant for the program's loop. Of ours it would report each import as slow.
    loop.set_debug(False)
    loop.set_default_executor(_ThreadEach())
    return loop


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


class _ThreadEach(ThreadPoolExecutor):
    """A thread for each call, which are few: names that are resolved."""

    def submit(self, fn: Callable[..., _T], /, *args: Any, **kwargs: Any) -> Future[_T]:
        future: Future[_T] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                with own_work():
                    future.set_result(fn(*args, **kwargs))
            except BaseException as error:
                future.set_exception(error)

        try:
            Thread(target=run, name="asynctrack-resolver", daemon=True).start()
        except RuntimeError:
            run()
        return future
