"""Feedback, read back: what somebody thinks of a trace or a span."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from asynctrack._common.feedback import EVENT
from asynctrack._reading.decoding.events import Event


@dataclass(frozen=True, slots=True)
class Feedback:
    """What somebody thinks of a trace or a span.

    Attributes:
        trace_id: The trace.
        span_id: The span that it is about; None where it is about all of the trace.
        name: What is scored: ``thumbs``, ``correctness``.
        score: The score as a number; None where it is a label, or there is none.
        value: The score as a label; None where it is a number.
        comment: In words, or None.
        user_id: Who says so, or None.
        time_unix_nano: When it was logged, by the wall clock, in nanoseconds.
        writer_id: Who recorded it.
        seq: Its number there.
        spooled: Whether it was read from this machine's spool: not known to be delivered yet.
    """

    trace_id: str
    span_id: str | None
    name: str
    score: float | None
    value: str | None
    comment: str | None
    user_id: str | None
    time_unix_nano: int
    writer_id: str
    seq: int
    spooled: bool = False


def feedback_of(event: Event) -> Feedback | None:
    """Return the feedback that an event is; None where it is another event, or of no trace."""
    if event.event != EVENT:
        return None
    data = event.data if isinstance(event.data, Mapping) else {}
    trace_id = _text(event.trace_id) or _text(data.get("trace_id"))
    if trace_id is None:
        return None
    return Feedback(
        trace_id=trace_id,
        span_id=_text(data.get("span_id")),
        name=event.name or "",
        score=_number(data.get("score")),
        value=_text(data.get("value")),
        comment=_comment(data.get("comment")),
        user_id=_text(data.get("user_id")),
        time_unix_nano=event.time_unix_nano,
        writer_id=event.writer_id,
        seq=event.seq,
        spooled=event.spooled,
    )


def _number(value: Any) -> float | None:
    return value if type(value) in (int, float) and math.isfinite(value) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _comment(value: Any) -> str | None:
    if isinstance(value, Mapping):  # longer than max_value_bytes
        head = _text(value.get("head"))
        return None if head is None else f"{head}…"
    return _text(value)
