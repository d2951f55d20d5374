"""Exceptions as data: type, message, traceback and causes, without touching a file.

The standard library's formatter reads source files for the lines it shows. That blocks, which a
callback must not. File, line number and function are enough to find the line.
"""

from __future__ import annotations

from typing import Any, Final

from asynctrack._common import marker
from asynctrack._common.outcome import Verdict, verdict_of

MAX_FRAMES: Final = 60
"""Most frames kept of one traceback: a third from its beginning, two thirds from its end."""
MAX_CAUSES: Final = 10
MAX_MESSAGE: Final = 100_000
"""Characters kept of an exception's message."""


def describe_error(error: BaseException) -> dict[str, Any]:
    """Return type, message, traceback and the chain of causes of an exception.

    Args:
        error: Any exception, also one whose ``str`` raises.

    Returns:
        ``type``, ``message``, ``traceback`` (a text, innermost frame last), and where there are
        any, ``causes`` (the same fields, nearest first) and ``exceptions`` (of a group).
    """
    described = _describe(error)
    causes: list[dict[str, Any]] = []
    seen = {id(error)}
    current: BaseException = error
    while len(causes) < MAX_CAUSES:
        context = None if current.__suppress_context__ else current.__context__
        cause = context if current.__cause__ is None else current.__cause__
        if cause is None or id(cause) in seen:
            break
        seen.add(id(cause))
        causes.append(_describe(cause))
        current = cause
    if causes:
        described["causes"] = causes
    try:
        members = getattr(error, "exceptions", None)
    except Exception:  # a property of the user's
        members = None
    if isinstance(members, tuple):
        described["exceptions"] = [
            _describe(member) for member in members[:100] if isinstance(member, BaseException)
        ]
    return described


def verdict_on(error: BaseException) -> Verdict | None:
    """Return what an exception says that directs the program; None for an error.

    A ``TimeoutError`` is an error: what it cut short has heard of it by a cancellation.
    """
    return verdict_of(marker.type_names(type(error)))


def said_value(error: BaseException) -> Any:
    """Return what an exception hands on that directs the program: LangGraph's interrupt or command.

    Returns:
        Its first argument; None without one.
    """
    try:
        return error.args[0] if error.args else None
    except Exception:  # a property of the user's
        return None


def _describe(error: BaseException) -> dict[str, Any]:
    return {
        "type": marker.type_name(error),
        "message": marker.safe_str(error, MAX_MESSAGE),
        "traceback": _frames(error),
    }


def _frames(error: BaseException) -> str:
    lines = []
    step = error.__traceback__
    while step is not None:
        code = step.tb_frame.f_code
        name = getattr(code, "co_qualname", code.co_name)
        lines.append(f'  File "{code.co_filename}", line {step.tb_lineno}, in {name}')
        step = step.tb_next
    if len(lines) > MAX_FRAMES:
        head, tail = MAX_FRAMES // 3, MAX_FRAMES - MAX_FRAMES // 3
        cut = len(lines) - head - tail
        lines[head:-tail] = [f"  … {cut} frames left out …"]
    return "\n".join(lines)
