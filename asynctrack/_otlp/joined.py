"""Traces that were sent as part of a service's: what comes later of them goes there, too."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from asynctrack._reading.export.otlp_span import trace_id_of

MANY: Final = 10_000
"""The latest such traces that are known."""


class Joined:
    """Knows OpenTelemetry's ids of the traces of one feed. Touched by one thread."""

    def __init__(self) -> None:
        self._ids: OrderedDict[str, str] = OrderedDict()

    def note(self, trace_id: str, sent_as: str) -> None:
        """Note what a trace was sent as.

        Args:
            trace_id: Our id of it.
            sent_as: OpenTelemetry's.
        """
        if sent_as != trace_id_of(trace_id):
            self._ids[trace_id] = sent_as
            if len(self._ids) > MANY:
                self._ids.popitem(last=False)

    def id_of(self, trace_id: str) -> str:
        """Return OpenTelemetry's id of a trace of ours."""
        return self._ids.get(trace_id) or trace_id_of(trace_id)
