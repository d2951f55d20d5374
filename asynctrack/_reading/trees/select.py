"""Which traces are asked for, and which artifacts cannot hold any of them (no input, no output).

The key of an artifact has the UTC day of its first event. So all events before an artifact began
no later than that day, by a clock that nobody sets; a day more on each side is for one that
somebody does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Final

from asynctrack._common.moments import Moment, moment_of
from asynctrack._common.period import ALL, Period
from asynctrack._errors import OptionError
from asynctrack._format import ArtifactName
from asynctrack._reading.decoding.events import Event
from asynctrack._reading.trees.build import LINGER, TraceBuilder
from asynctrack._reading.trees.trace import Trace

_DAY: Final = 86_400 * 10**9
_EVERY: Final = 1_000
"""Events after which it is asked again whether a trace that is wanted may go on."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What traces are asked for; see ``RecordedRun.traces``.

    Attributes:
        failed: Whether their roots ended with an error; None takes all.
        period: When they began.
        name: What their roots are called.
        session: Their session.
        user: Their user.
    """

    failed: bool | None = None
    period: Period = ALL
    name: str | None = None
    session: str | None = None
    user: str | None = None

    def takes(self, trace: Trace) -> bool:
        """Return whether a trace is asked for."""
        return (
            self.failed in (None, trace.failed)
            and self.name in (None, trace.root.name)
            and self.in_time(trace)
            and self.session in (None, trace.session_id)
            and self.user in (None, trace.user_id)
        )

    def in_time(self, trace: Trace) -> bool:
        """Return whether a trace began in the time that is asked for.

        What a trace began with may lie in artifacts that are not read. What is left of it has
        other roots than the one that it is called by.
        """
        root = trace.root
        return self.period.holds(root.start_unix_nano if root.span_id == trace.trace_id else None)


def wanted(
    failed: bool | None,
    since: Moment | None,
    until: Moment | None,
    name: str | None,
    session: str | int | None,
    user: str | int | None,
    *,
    now: int,
) -> Wanted:
    """Return what is asked for, checked; see ``RecordedRun.traces``.

    Raises:
        OptionError: One of them is not allowed.
    """
    if failed is not None and type(failed) is not bool:
        raise OptionError("failed", failed, "True, False, or None for all")
    if name is not None and not isinstance(name, str):
        raise OptionError("name", name, "the name of a trace's root")
    for option, given in (("session", session), ("user", user)):
        if given is not None and (isinstance(given, bool) or not isinstance(given, (str, int))):
            raise OptionError(option, given, "an id as the metadata have it")
    return Wanted(
        failed=failed,
        period=Period(
            None if since is None else moment_of(since, now=now, option="since"),
            None if until is None else moment_of(until, now=now, option="until"),
        ),
        name=name,
        session=None if session is None else str(session),
        user=None if user is None else str(user),
    )


def first_needed(places: Sequence[ArtifactName], since: int | None) -> int:
    """Return the first of a writer's artifacts that may hold what began since a moment.

    All before it are over by then: it follows them, and it began more than a day before, as all of
    them did. Where days come in any other order, somebody has set the clock, and nothing is left
    out from there on.

    Args:
        places: What the artifacts' keys say, by sequence number.
        since: The moment, in nanoseconds since 1970; None takes all.
    """
    if since is None:
        return 0
    limit = day_of(since - _DAY)
    needed = last_seq = 0
    for number, place in enumerate(places):
        if place.day >= limit:  # as text: "2026-11-27"
            break
        if place.first_seq > last_seq:
            needed = number
        last_seq = max(last_seq, place.last_seq)
    return needed


def day_of(unix_nano: int) -> str:
    """Return the UTC day of a moment, as in the keys of artifacts."""
    at = datetime.fromtimestamp(max(0, unix_nano) // 10**9, tz=timezone.utc)
    return at.strftime("%Y-%m-%d")


def last_needed(places: Sequence[ArtifactName], until: int | None) -> int:
    """Return the sequence number up to which a writer's events may tell of what began before a
    moment; all that begins behind it began later.

    Args:
        places: What the artifacts' keys say, by sequence number.
        until: The moment, in nanoseconds since 1970; None takes all.
    """
    limit = "" if until is None else day_of(until + _DAY)
    needed = 0
    for place in places:
        if until is None or place.day <= limit:
            needed = 2**64
        elif needed == 2**64:
            needed = place.first_seq
    return min(needed, max((place.last_seq for place in places), default=0))


def select(
    events: Iterable[Event],
    asked: Wanted,
    needed: Mapping[str, int],
    ends: Mapping[str, int],
    *,
    linger: int = LINGER,
) -> Iterator[Trace]:
    """Yield the traces that are asked for in a stream of events; end early where none can follow.

    Args:
        events: In order.
        asked: What is asked for.
        needed: Each writer's ``last_needed``.
        ends: Each writer's last sequence number.
        linger: As for ``build_traces``.
    """
    builder = TraceBuilder(linger)
    waiting = {writer_id: seq for writer_id, seq in needed.items() if seq}
    going_on = dict(ends)
    after = 0
    for event in events:
        yield from filter(asked.takes, builder.add(event))
        writer_id, seq = event.writer_id, event.seq
        if seq >= going_on.get(writer_id, seq + 1):
            del going_on[writer_id]
        if seq >= waiting.get(writer_id, seq + 1):
            del waiting[writer_id]
        if not waiting:
            after += 1
            if after % _EVERY == 1 and not any(
                trace.writer_id in going_on and asked.in_time(trace) for trace in builder.open()
            ):
                break
    yield from filter(asked.takes, builder.rest())
