"""What tracking needs is imported and built beforehand: in a thread, where that would stall a loop.

A quarter of a second, the first time in a process.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future as ThreadFuture

from asynctrack._turns import turns


def prepare() -> None:
    """Import the stages and build what they search with, in this thread."""
    from asynctrack import (  # noqa: F401  # for the time it takes
        _callback,
        _pipeline,
        _redact,
    )
    from asynctrack._backends import _aws, _local  # noqa: F401  # for the time it takes

    _redact.prepare()


async def prepare_to_await() -> None:
    """Do the same for asynchronous use, in a thread; anyio imports most of itself at first use."""
    if not _prepared:
        await _in_thread(_prepare_to_await)


def _prepare_to_await() -> None:
    prepare()
    from asynctrack._offload import run_loop

    run_loop(_enter_a_scope())
    global _prepared
    _prepared = True


async def _enter_a_scope() -> None:
    import anyio

    with anyio.CancelScope(shield=True):
        await asyncio.sleep(0)


_prepared = False


async def _in_thread(call: Callable[[], None]) -> None:
    """Run what is slow in a thread that is nobody else's, neither the loop's nor a pool's."""
    done: ThreadFuture[None] = ThreadFuture()

    def run() -> None:
        try:
            with turns.taken():
                call()
        except BaseException as error:
            done.set_exception(error)
        else:
            done.set_result(None)

    try:
        threading.Thread(target=run, name="asynctrack-prepare", daemon=True).start()
    except RuntimeError:  # the interpreter ends
        run()
    await asyncio.wrap_future(done)
