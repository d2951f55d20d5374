"""Events to tables: one row for each, flat and typed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from asynctrack._reading.decoding.events import Event, json_text

COLUMNS: Final[tuple[tuple[str, str, Callable[[Event], Any]], ...]] = (
    ("writer_id", "text", lambda event: event.raw["writer_id"]),
    ("seq", "count", lambda event: event.raw["seq"]),
    ("time", "time", lambda event: event.raw["time_unix_nano"]),
    ("time_unix_nano", "count", lambda event: event.raw["time_unix_nano"]),
    ("event", "text", lambda event: event.raw["event"]),
    ("span_id", "text", lambda event: event.raw.get("span_id")),
    ("parent_span_id", "text", lambda event: event.raw.get("parent_span_id")),
    ("trace_id", "text", lambda event: event.raw.get("trace_id")),
    ("name", "text", lambda event: event.raw.get("name")),
    ("tags", "texts", lambda event: event.raw.get("tags") or []),
    ("metadata", "text", lambda event: json_text(event.raw.get("metadata"))),
    ("inputs", "text", lambda event: json_text(event.raw.get("inputs"))),
    ("outputs", "text", lambda event: json_text(event.raw.get("outputs"))),
    ("error", "text", lambda event: json_text(event.raw.get("error"))),
    ("data", "text", lambda event: json_text(event.raw.get("data"))),
    ("attributes", "text", lambda event: json_text(event.raw.get("attributes"))),
)
"""Name, type and value of each column of ``events``. Payloads are JSON text."""
