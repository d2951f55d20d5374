"""Errors that a tool catches itself (``handle_tool_error=True``) and answers with.

An answer to a model's call is a ``ToolMessage`` that says so. Called otherwise, the tool returns
the bare text of the error, and LangChain tells no callback: only the frame that called it knows.
"""

from __future__ import annotations

from sys import _getframe
from types import FrameType
from typing import Final

from asynctrack._common.outcome import Verdict

_TOOLS: Final = "langchain_core.tools.base"
_CALLS: Final = frozenset({"run", "arun"})
_FRAMES: Final = 12
"""Frames between a callback and the tool that calls it, at most; there are five or six."""


def caught_by_tool() -> Verdict | None:
    """Return the verdict on a tool that calls this and has caught its error; None elsewhere.

    None as well where LangChain calls from another thread: a synchronous handler of an asynchronous
    tool.
    """
    frame: FrameType | None = _getframe(1)
    for _ in range(_FRAMES):
        if frame is None:
            return None
        if frame.f_code.co_name in _CALLS and frame.f_globals.get("__name__") == _TOOLS:
            return ("error", None) if frame.f_locals.get("status") == "error" else None
        frame = frame.f_back
    return None
