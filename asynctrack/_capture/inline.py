"""The handler for a program of which nobody knows whether it awaits.

LangChain calls it in the task or thread where things happen: no thread and no event loop for each
callback, on either path. So it does not wait where an event loop runs, as that would stand still.
"""

from __future__ import annotations

import asyncio
from functools import partial

from asynctrack._capture.handlers import AsyncHandler, SyncHandler, call_in


def _is_outside_of_loops() -> bool:
    return asyncio._get_running_loop() is None


class InlineHandler(SyncHandler):
    """Called inline from synchronous and asynchronous code alike.

    May be called from any thread and any event loop. In a loop it never waits for room: what finds
    none is dropped and counted, also with ``overflow="block"``.
    """

    _bind = staticmethod(partial(call_in, waits=_is_outside_of_loops))
    run_inline = AsyncHandler.run_inline  # with its exception for on_llm_start
