"""LangGraph's threads that wait: which trace goes on with which one.

A graph that pauses remembers its state by ``thread_id``. The next trace of that thread resumes it,
if it comes with ``Command(resume=…)`` or without inputs; any other one lets the question drop.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

from asynctrack._reading.trees.trace import Trace

MAX_THREADS: Final = 10_000
"""Threads whose last pause is remembered."""
_COMMAND: Final = frozenset({"graph", "update", "resume", "goto"})


class Pauses:
    """The threads that wait, as the starts and ends of traces come.

    Args:
        waiting: By thread, the traces that wait already; those that came last are the last.
    """

    def __init__(self, waiting: Mapping[str, str] | None = None) -> None:
        self._waiting: OrderedDict[str, str] = OrderedDict(waiting or {})

    @property
    def waiting(self) -> dict[str, str]:
        """By thread, the traces that wait."""
        return dict(self._waiting)

    def begin(self, thread: str, inputs: Any) -> str | None:
        """Return the trace that one resumes which starts; None if it resumes none.

        Args:
            thread: Its thread.
            inputs: What goes into the graph.
        """
        waiting = self._waiting.pop(thread, None)
        return waiting if _resumes(inputs) else None

    def end(self, thread: str, ended: Trace) -> None:
        """Note whether a trace of a thread waits that has ended."""
        if ended.root.cause == "pause":
            self._waiting[thread] = ended.trace_id
            if len(self._waiting) > MAX_THREADS:
                self._waiting.popitem(last=False)


def _resumes(inputs: Any) -> bool:
    if inputs is None:
        return True
    return isinstance(inputs, dict) and inputs.keys() >= _COMMAND and inputs["resume"] is not None
