"""Outcomes: how a span ended, and why, in one place for who writes it and who reads it.

An exception that LangGraph or asyncio raises to direct the program is no error. It is known by the
names in its ancestry, so nothing is imported for that.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, get_args

Outcome = Literal["ok", "error", "cancelled", "interrupted", "unfinished", "abandoned"]
"""How a span ended. ``ok`` and ``error``: as it says. ``cancelled``: nobody wanted its result any
more. ``interrupted``: LangGraph's control flow left it, to pause or to go on elsewhere.
``unfinished``: its end is not there. ``abandoned``: its writer gave up waiting for it."""
OUTCOMES: Final[tuple[Outcome, ...]] = get_args(Outcome)

Cause = Literal["cancel", "timeout", "stream_left", "parent_ended", "pause", "handoff", "other"]
"""Why. Of ``cancelled``: its task was cancelled, a time limit was over, the consumer of its stream
left, or what it is part of has ended without it. Of ``interrupted``: LangGraph waits for a human,
hands over to another graph, or does something else of its own."""
CAUSES: Final[tuple[Cause, ...]] = get_args(Cause)

Verdict = tuple[Outcome, "Cause | None"]

PARENT_ENDED: Final = "parent_ended"
"""The reason in a ``span_abandoned`` event that means: cancelled with its parent."""

_CANCEL: Final[Verdict] = ("cancelled", "cancel")
_DIRECTING: Final[dict[str, Verdict]] = {
    "asyncio.exceptions.CancelledError": _CANCEL,
    "concurrent.futures._base.CancelledError": _CANCEL,
    "GeneratorExit": ("cancelled", "stream_left"),
    "langgraph.errors.GraphInterrupt": ("interrupted", "pause"),
    "langgraph.errors.ParentCommand": ("interrupted", "handoff"),
    "langgraph.errors.GraphBubbleUp": ("interrupted", "other"),
}


def verdict_of(names: Iterable[str]) -> Verdict | None:
    """Return what an exception says that directs the program; None for an error.

    Args:
        names: Its type and the ancestry of that, nearest first, as ``module.Class``; builtins
            without their module.

    Example:
        >>> verdict_of(["langgraph.errors.NodeInterrupt", "langgraph.errors.GraphInterrupt"])
        ('interrupted', 'pause')
    """
    return next((_DIRECTING[name] for name in names if name in _DIRECTING), None)


_SAID: Final[dict[Cause, str]] = {
    "cancel": "",
    "timeout": "by a time limit",
    "stream_left": "its stream was left",
    "parent_ended": "with its parent",
    "pause": "it waits",
    "handoff": "it handed over",
    "other": "",
}


def said_outcome(outcome: Outcome, cause: Cause | None) -> str:
    """Return an outcome in words.

    Example:
        >>> said_outcome("cancelled", "timeout")
        'cancelled: by a time limit'
    """
    why = "" if cause is None else _SAID[cause]
    return f"{outcome}: {why}" if why else outcome
