"""What tracking needs is imported and built beforehand: in a thread, where that would stall a loop.

A quarter of a second, the first time in a process.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future as ThreadFuture

from asynctrack._own import own_work
from asynctrack._turns import turns


def prepare() -> None:
    """Import the stages and build what they search with, in this thread."""
    with own_work():
        from asynctrack import (  # noqa: F401  # for the time it takes
            _callback,
            _pipeline,
            _redact,
        )
        from asynctrack._backends import _aws, _local  # noqa: F401  # for the time it takes

        _redact.prepare()


async def prepare_to_await() -> None:
    """Do the same for asynchronous use, in a thread; anyio imports most of itself at first use."""
    global _prepared
    if not _prepared:
        done: ThreadFuture[None] = ThreadFuture()
        try:
            threading.Thread(
                target=_prepare_to_await, args=[done], name="asynctrack-prepare", daemon=True
            ).start()
        except RuntimeError:  # none is to be had
            prepare()
        else:
            await asyncio.wrap_future(done)
        if not _prepared:
            await _enter_a_scope()  # here, late as it makes others: leaving must not need it
            _prepared = True


def _prepare_to_await(done: ThreadFuture[None]) -> None:
    """Run what is slow in a thread that is nobody else's, neither the loop's nor a pool's."""
    done.set_running_or_notify_cancel()  # whoever waits may be cancelled, this is not
    try:
        with turns.taken():
            prepare()
            from asynctrack._offload import run_loop

            global _prepared
            try:
                run_loop(_enter_a_scope())
                _prepared = True
            except (OSError, RuntimeError):
                pass  # no loop is to be had in this thread
    except BaseException as error:
        done.set_exception(error)
    else:
        done.set_result(None)


async def _enter_a_scope() -> None:
    import anyio

    with anyio.CancelScope(shield=True):
        await asyncio.sleep(0)


_prepared = False
