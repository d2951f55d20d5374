"""Blocking work of the worker's event loop in threads, also while the interpreter ends.

A program that ends without leaving its ``with`` block is flushed while the interpreter shuts down,
and from Python 3.12 on no thread can be started any more by then. What cannot have a thread runs
in the worker's own one: it holds up nobody but the worker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Thread, current_thread
from typing import Any, TypeVar

import anyio.to_thread

from asynctrack._common.own import own_work
from asynctrack._common.turns import new_event_loop, turns

_T = TypeVar("_T")


async def offload(call: Callable[..., _T], *args: Any, abandon_on_cancel: bool = False) -> _T:
    """Run what blocks in a thread; in this one where the interpreter starts none any more.

    Args:
        call: The function.
        *args: Its arguments.
        abandon_on_cancel: Whether a cancellation leaves it to itself instead of waiting for it.

    Returns:
        What it returns; it raises what it raises.
    """
    begun = False

    def run() -> _T:
        nonlocal begun
        begun = True
        current_thread().name = "asynctrack-offload"  # for who looks at threads, or at log records
        with turns.taken(), own_work():
            return call(*args)

    try:
        return await anyio.to_thread.run_sync(run, abandon_on_cancel=abandon_on_cancel)
    except RuntimeError:
        if begun:
            raise
        return call(*args)


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
