"""How a span ended, by its last event: outcome, cause, exception, duration (pure)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from asynctrack._common.outcome import CAUSES, OUTCOMES, PARENT_ENDED, Verdict, verdict_of
from asynctrack._reading.decoding.events import Event
from asynctrack._reading.trees.span import SpanError, seconds

MAX_REPORTED: Final = 100_000
"""Characters of an answer in which a tool reports its error."""
_NO_TEXT: Final = re.compile(r"<[\w.<>]+ object at 0x[0-9a-fA-F]+>")
"""An exception's text where its argument has none: Python's default for any object."""
_DEPTH: Final = 5


def verdict_on(end: Event | None, gone: Event | None) -> Verdict:
    """Return how a span ended, by itself, and why.

    Args:
        end: Its end, or its error.
        gone: The event that says that nobody waits for its end; the end counts if it came.
    """
    if end is None:
        if gone is None:
            return "unfinished", None
        parent_ended = data_of(gone).get("reason") == PARENT_ENDED
        return ("cancelled", "parent_ended") if parent_ended else ("abandoned", None)
    stored, cause = end.raw.get("outcome"), end.raw.get("cause")
    if stored in OUTCOMES:
        return stored, cause if cause in CAUSES else None
    if end.event.endswith("_error"):
        raw = end.error if isinstance(end.error, dict) else {}
        return verdict_of([str(raw.get("type"))]) or ("error", None)
    if end.event == "tool_end" and _reported(end.outputs) is not None:
        return "error", None
    return "ok", None


def exception_of(end: Event | None) -> SpanError | None:
    """Return the exception that a span ended with, or the error that a tool reports."""
    if end is None:
        return None
    if not end.event.endswith("_error"):
        if end.event != "tool_end":
            return None
        reported = _reported(end.outputs)
        if reported is None:
            if end.raw.get("outcome") != "error":
                return None
            reported = ("ToolMessage", end.outputs)
        return SpanError(reported[0], _text_of(reported[1])[:MAX_REPORTED], "", None)
    raw = end.error if isinstance(end.error, dict) else {}
    texts = [raw.get(name) for name in ("type", "message", "traceback")]
    kind, message, traceback = (text if isinstance(text, str) else "" for text in texts)
    if _NO_TEXT.fullmatch(message):
        message = ""
    return SpanError(kind, message, traceback, end.error)


def duration_of(start: Event | None, end: Event | None, gone: Event | None) -> float | None:
    """Return the seconds that a span took; None where that is not known.

    The writer's monotonic clock counts. Events of before it was stored have the wall clock, which
    may have been set meanwhile: back, and there is no telling.
    """
    if end is None:
        return seconds(data_of(gone).get("open_seconds"))
    measured = seconds(end.raw.get("duration"))
    if measured is not None or start is None:
        return measured
    passed = end.time_unix_nano - start.time_unix_nano
    return passed / 1e9 if passed >= 0 else None


def data_of(event: Event | None) -> Mapping[str, Any]:
    """Return what else an event has, if that is an object."""
    return event.data if event is not None and isinstance(event.data, dict) else {}


def _reported(outputs: Any, depth: int = 0) -> tuple[str, Any] | None:
    """Return the kind of answer in which a tool reports an error, and its content; None without."""
    if depth > _DEPTH:
        return None
    if isinstance(outputs, list):  # the last one: those before may be history that it hands on
        return _reported(outputs[-1], depth + 1) if outputs else None
    if not isinstance(outputs, dict):
        return None
    if outputs.get("isError") is True:  # the Model Context Protocol's
        return "CallToolResult", outputs.get("content")
    if outputs.get("status") == "error" and outputs.get("type") == "tool":
        return "ToolMessage", outputs.get("content")
    update = outputs.get("update")  # LangGraph's command
    return _reported(update.get("messages"), depth + 1) if isinstance(update, dict) else None


def _text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(filter(None, map(_text_of, content)))
    text = content.get("text") if isinstance(content, dict) else None
    return text if isinstance(text, str) else ""
