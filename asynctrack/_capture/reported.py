"""Errors that a tool catches itself (``handle_tool_error=True``) and answers with.

An answer to a model's call is a ``ToolMessage`` that says so. Called otherwise, the tool returns
the bare text of the error, and LangChain tells no callback: only the frame that called it knows.
"""

from __future__ import annotations

from sys import _getframe
from types import FrameType
from typing import Any, Final

from asynctrack._common.outcome import Verdict

_TOOLS: Final = "langchain_core.tools.base"
_REPORTED: Final[Verdict] = ("error", None)
_CALLS: Final = frozenset({"run", "arun"})
_FRAMES: Final = 20
"""Frames between a callback and the tool that calls it, at most; there are about a dozen."""


def reported_by(output: Any) -> Verdict | None:
    """Return the verdict on a tool whose answer says that it failed; None on any other.

    Args:
        output: A message of LangChain's, a result of the Model Context Protocol, or anything.
    """
    try:
        if output.__class__ is str:
            return caught_by_tool()
        if isinstance(output, dict):
            return _REPORTED if output.get("isError") is True else caught_by_tool()
        if getattr(output, "isError", None) is True:
            return _REPORTED
        failed = getattr(output, "type", None) == "tool" and output.status == "error"
    except Exception:  # an object of the user's
        return None
    return _REPORTED if failed is True else caught_by_tool()


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
            return _REPORTED if frame.f_locals.get("status") == "error" else None
        frame = frame.f_back
    return None
