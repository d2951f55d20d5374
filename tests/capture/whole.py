"""What is stored of an event, with the values that it refers to in place."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from asynctrack._capture.event import Body
from asynctrack._format import line_prefix, number_line
from tests.support.auditor import Values

WRITER = "w"


def lines(bodies: Iterable[Body], held: dict[str, int] | None = None) -> list[bytes]:
    """The lines of an artifact of these events, one list entry for each line.

    Args:
        bodies: The events.
        held: The values that the artifact has.
    """
    prefix, held, raw = line_prefix(WRITER), {} if held is None else held, b""
    for seq, body in enumerate(bodies, 1):
        if isinstance(body, bytes):
            raw += number_line(prefix, seq, body)
            continue
        body.prepare()
        raw += body.lines(prefix, seq, held)
        body.hold(held)
    return raw.splitlines(keepends=True)


def events(bodies: Iterable[Body]) -> list[dict[str, Any]]:
    """The events as they are read back, without their numbers."""
    values, found = Values(), []
    for line in lines(bodies):
        event = values.event(json.loads(line), line)
        assert not values.take_problems()
        if event is not None:
            found.append({name: event[name] for name in list(event)[3:]})
    assert not values.end()
    return found


def whole(body: Body | None) -> dict[str, Any]:
    """One event as it is read back, without its number."""
    assert body is not None
    return events([body])[0]
