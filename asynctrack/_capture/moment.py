"""A moment of a span: what ``log`` and a log record put into the one that is around them."""

from __future__ import annotations

from typing import Any

from asynctrack._capture import current
from asynctrack._capture.tracked_span import Owner, text_of
from asynctrack._common.own import is_own


def note(owner: Owner, name: Any, data: Any, *, sheddable: bool = False) -> None:
    """Store an event in the span around the call, or without one. Never waits, raises nothing.

    Args:
        owner: The handler that it goes to.
        name: Its name.
        data: What it says.
        sheddable: It is dropped first where there is little room.
    """
    sink = owner._sink
    if is_own() and sink.leaves_out():
        return
    try:
        events = sink.capture.events
        span_id = current.around(owner._running(), events.spans.known)
        body = events.moment(span_id, text_of(name), data)
    except Exception as error:
        sink.capture_failed("log", error)
        return
    if body is not None:
        sink.put_without_waiting(body, sheddable)
