"""W3C's ``traceparent``: the trace of a service, and the span of it that calls us (pure).

The root of a trace has it in its metadata, under this name. Our trace keeps its own id; whoever
exports it to OpenTelemetry uses the service's, and makes its span the parent of our root.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

KEY: Final = "traceparent"

_FORM: Final = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})"
    r"(?P<more>-.*)?"
)


class Traceparent(NamedTuple):
    """Where a service calls us.

    Attributes:
        trace_id: Its trace: 32 hexadecimal digits.
        span_id: Its span, the parent of our root: 16 of them.
        flags: 2 of them; the last bit tells whether the service's own tracer keeps the trace.
    """

    trace_id: str
    span_id: str
    flags: str = "01"

    def __str__(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"


def parsed(text: object) -> Traceparent | None:
    """Return what a header says; None where it is no valid one, which is to be ignored.

    Args:
        text: The header, which anybody may have sent.

    Example:
        >>> parsed("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").span_id
        '00f067aa0ba902b7'
        >>> parsed("00-00000000000000000000000000000000-00f067aa0ba902b7-01")
    """
    found = _FORM.fullmatch(text.strip()) if isinstance(text, str) else None
    if found is None or found["version"] == "ff" or (found["version"] == "00" and found["more"]):
        return None
    if not int(found["trace"], 16) or not int(found["span"], 16):
        return None
    return Traceparent(found["trace"], found["span"], found["flags"])


def of_root(metadata: Mapping[str, Any] | None) -> Traceparent | None:
    """Return what a root's metadata say of it; None without, or where that is no valid one."""
    return parsed(metadata.get(KEY)) if metadata else None
