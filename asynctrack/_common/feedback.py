"""Feedback: a score or a comment on a trace, as an event of its own (pure).

The event has no ``span_id``: it is no part of a span, and comes when the trace is long done. Its
``data`` name what it is about.
"""

from __future__ import annotations

import math
import re
from typing import Any, Final
from uuid import UUID

from asynctrack._common import payload
from asynctrack._common.sessions import id_text
from asynctrack._errors import OptionError

EVENT: Final = "feedback"
MAX_COMMENT: Final = 10_000
"""Characters of the longest comment."""
MAX_NAME: Final = 255
"""Characters of the longest name and label."""

_ID = re.compile(r"[^\s\x00-\x1f\x7f]{1,200}")
_SHOWN: Final = 60
_WHOLE: Final = 2**53
"""Whole numbers that every reader has as they are."""


def feedback_record(
    trace_id: object,
    name: object,
    score: object = None,
    comment: object = None,
    span_id: object = None,
    user_id: object = None,
) -> dict[str, Any]:
    """Return the event's fields, without its time; ``finished`` makes the line of them.

    Args:
        trace_id: The trace: a text or a UUID.
        name: What is scored.
        score: A number, True, False, a label, or None.
        comment: A text or None.
        span_id: A span of the trace, or None for all of it.
        user_id: Who says it.

    Raises:
        OptionError: One is not allowed.
    """
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
        raise OptionError("name", _short(name), f"a text of 1 to {MAX_NAME} characters")
    if comment is not None and not (isinstance(comment, str) and len(comment) <= MAX_COMMENT):
        allowed = f"a text of at most {MAX_COMMENT:,} characters, or None"
        raise OptionError("comment", _short(comment), allowed)
    number, label = _score(score)
    if number is None and label is None and not comment:
        raise OptionError("score", score, "given, or a comment")
    said = {
        "score": number,
        "value": label,
        "comment": comment or None,
        "user_id": id_text("user_id", user_id),
    }
    # The ids stand where no redaction of the user's own comes; ``finished`` moves the span's.
    record: dict[str, Any] = {"event": EVENT, "trace_id": run_id_text("trace_id", trace_id)}
    if span_id is not None:
        record["span_id"] = run_id_text("span_id", span_id)
    record["name"] = name
    record["data"] = {key: value for key, value in said.items() if value is not None}
    return record


def finished(body: bytes) -> bytes:
    """Return an encoded event that was searched for secrets as it is stored: with its ids in its
    data, and no ``span_id`` beside them."""
    record: dict[str, Any] = payload.decode(body)
    about = {"trace_id": record["trace_id"]}
    if "span_id" in record:
        about["span_id"] = record.pop("span_id")
    record["data"] = {**record.get("data", {}), **about}
    return payload.encode(record)


def _score(score: object) -> tuple[float | None, str | None]:
    """Return a score as a number, or as a label."""
    allowed = f"a finite number, True, False, a label of 1 to {MAX_NAME} characters, or None"
    if score is None:
        return None, None
    if isinstance(score, str):
        if not 0 < len(score) <= MAX_NAME:
            raise OptionError("score", _short(score), allowed)
        return None, score
    if isinstance(score, int) and abs(score) <= _WHOLE:
        return int(score), None
    try:
        number = float(score)  # type: ignore[arg-type]  # numpy's and decimals, too
    except Exception:  # whatever __float__ raises
        raise OptionError("score", _short(score), allowed) from None
    if not math.isfinite(number):
        raise OptionError("score", number, allowed)
    return number, None


def run_id_text(option: str, value: object) -> str:
    """Return an id of a trace or a span as events have it: of a UUID, in any form, the usual one.

    Args:
        option: What it is called.
        value: What the user gave.

    Raises:
        OptionError: It cannot be one.
    """
    text = str(value) if isinstance(value, (str, UUID)) else ""
    if not _ID.fullmatch(text):
        raise OptionError(option, _short(value), "the id of LangChain's run, a text or a UUID")
    try:
        return str(UUID(text))
    except ValueError:
        return text  # of a callback that was called by hand


def _short(value: object) -> object:
    """Return what an error tells of a value: a long text is not told whole."""
    if isinstance(value, str):
        return value if len(value) <= _SHOWN else f"{value[:_SHOWN]}… ({len(value):,} characters)"
    return type(value).__name__ if value is not None else None
