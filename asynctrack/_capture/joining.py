"""A trace that begins in a service's span of OpenTelemetry's: its root says which it is."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from asynctrack._common import traceparent
from asynctrack._common.traceparent import Traceparent


def joined(metadata: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Return the metadata of a root with the ``traceparent`` of what is around. Raises nothing.

    Args:
        metadata: As they are given; a ``traceparent`` in them counts more.
    """
    try:
        around = current()
        if around is None or traceparent.of_root(metadata) is not None:
            return metadata
        return {**(metadata or {}), traceparent.KEY: str(around)}
    except Exception:  # an odd mapping, or another's context: the trace is worth more
        return metadata


def current() -> Traceparent | None:
    """Return OpenTelemetry's span around this call; None without. Imports nothing: who has not
    imported it has no span of it."""
    trace = sys.modules.get("opentelemetry.trace")
    find = getattr(trace, "get_current_span", None)
    if find is None:
        return None
    context = find().get_span_context()
    if not context.is_valid:
        return None
    return Traceparent(
        f"{context.trace_id:032x}", f"{context.span_id:016x}", f"{int(context.trace_flags):02x}"
    )


def sampled_by(metadata: Mapping[str, Any] | None, trace_id: UUID) -> UUID:
    """Return the id that a trace is sampled by: the service's, so that all services that sample by
    one rate keep the same traces; its own where it is in none."""
    try:
        found = traceparent.of_root(metadata)
    except Exception:  # an odd mapping
        found = None
    return trace_id if found is None else UUID(found.trace_id)
