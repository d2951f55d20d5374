"""What tracking needs is imported and built beforehand: in a thread, where that would stall a loop.

A quarter of a second, the first time in a process.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future as ThreadFuture

from asynctrack._capture import installed
from asynctrack._common.importing import gate
from asynctrack._common.own import own_work
from asynctrack._common.turns import turns


def prepare(installing: bool = False) -> None:
    """Import the stages and build what they search with, in this thread.

    Args:
        installing: Whether the handler is installed, too: LangChain asks for it then.
    """
    global _prepared
    with own_work(), gate.importing():
        from asynctrack._common.garbage import full_collections  # not in the user's event loop

        with full_collections.held_up():
            _prepare(installing)
    _prepared = True


def _prepare(installing: bool) -> None:
    # anyio reads most of itself when it is first used: in the user's loop, or where no
    # descriptor is left, which would end the worker.
    import anyio._backends._asyncio  # noqa: F401  # for the time it takes
    from anyio import (  # noqa: F401  # for the time it takes
        CancelScope,
        create_task_group,
        move_on_after,
        sleep,
        to_thread,
    )

    from asynctrack._backends import aws, bucket, local  # noqa: F401  # for the time it takes
    from asynctrack._backends.mlflow import place  # noqa: F401  # for the time it takes
    from asynctrack._capture import handlers, redact  # noqa: F401  # for the time it takes
    from asynctrack._engine import pipeline  # noqa: F401  # for the time it takes

    redact.prepare()
    if installing:
        installed.offer()


async def prepare_to_await(installing: bool = False) -> None:
    """Do the same for asynchronous use, in a thread that is neither the loop's nor a pool's."""
    if _prepared and not (installing and installed.is_unknown()):
        return
    done: ThreadFuture[None] = ThreadFuture()
    thread = threading.Thread(
        target=_prepare_in_thread, args=[done, installing], name="asynctrack-prepare", daemon=True
    )
    try:
        thread.start()
    except RuntimeError:  # none is to be had
        prepare(installing)
    else:
        await asyncio.wrap_future(done)


def _prepare_in_thread(done: ThreadFuture[None], installing: bool) -> None:
    done.set_running_or_notify_cancel()  # whoever waits may be cancelled, this is not
    try:
        with turns.taken():
            prepare(installing)
    except BaseException as error:
        done.set_exception(error)
    else:
        done.set_result(None)


_prepared = False
