"""Moments: what users say of a point in time, as nanoseconds since 1970."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta, timezone
from typing import Final

from asynctrack._errors import OptionError

Moment = str | date | timedelta
"""A point in time: a ``datetime`` or ``date``, ISO 8601 text, or an age as text or ``timedelta``.
"""

ALLOWED: Final = (
    "an age such as 30s, 15m, 1h, 2d or 1w, or a time as 2026-11-27, 2026-11-27T10:00 or"
    " 2026-11-27T10:00+01:00 (UTC if it says nothing else)"
)
"""What may be given as text, for messages and help."""

_SECOND: Final = 10**9
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_LATEST: Final = 2**63 - 1
_AGE: Final = re.compile(r"(\d{1,9})(?:\.(\d{1,9}))?\s*([smhdw])", re.ASCII | re.IGNORECASE)
# By hand: fromisoformat of Python 3.10 knows no Z, and no fraction but of three or six digits.
_ISO: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)"
    r"(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?\s?(Z|[+-]\d\d(?::?\d\d)?)?)?",
    re.ASCII | re.IGNORECASE,
)


def moment_of(given: Moment, *, now: int, option: str = "since") -> int:
    """Return a point in time as nanoseconds since 1970.

    What names no time zone is UTC, as all times that asynctrack stores and shows: also a
    ``datetime`` without one. A date is its first moment. An age counts back from ``now``. Before
    1970 and after 2262, where no event can be, the nearest moment between is returned.

    Args:
        given: Text such as ``"1h"``, ``"2026-11-27"``, ``"2026-11-27T10:00"``,
            ``"2026-11-27T10:00:30.5+01:00"``; a ``datetime``, a ``date``, or a ``timedelta`` for
            an age. Ages as text: seconds ``s``, minutes ``m``, hours ``h``, days ``d``,
            weeks ``w``.
        now: The time now, in nanoseconds since 1970.
        option: What the error calls it.

    Raises:
        OptionError: It is none of these; the text names option and value.

    Example:
        >>> moment_of("1970-01-02", now=0)
        86400000000000
        >>> moment_of("1.5h", now=5_400_000_000_001)
        1
    """
    nanoseconds = _nanoseconds(given, now)
    if nanoseconds is None:
        raise OptionError(option, given, ALLOWED)
    return min(max(0, nanoseconds), _LATEST)


def _nanoseconds(given: object, now: int) -> int | None:
    if isinstance(given, str):
        text = given.strip()
        age = _AGE.fullmatch(text)
        if age is not None:
            unit = _UNITS[age[3].lower()] * _SECOND
            billionths = int((age[2] or "").ljust(9, "0"))
            return now - int(age[1]) * unit - billionths * unit // 10**9
        iso = _ISO.fullmatch(text)
        return None if iso is None else _of_text(iso)
    if isinstance(given, datetime):
        return _since_epoch(given)
    if isinstance(given, date):
        return _since_epoch(datetime(given.year, given.month, given.day))
    if isinstance(given, timedelta):
        return now - _of_delta(given)
    return None


def _of_text(iso: re.Match[str]) -> int | None:
    year, month, day, hour, minute, second, fraction, zone = iso.groups()
    try:
        at = datetime(
            int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0),
            tzinfo=_zone(zone),
        )  # fmt: skip
    except ValueError:  # the 30th of February, an hour 25
        return None
    return _since_epoch(at) + int((fraction or "0").ljust(9, "0"))


def _zone(text: str | None) -> timezone:
    if text is None or text in "Zz":
        return timezone.utc
    digits = text[1:].replace(":", "").ljust(4, "0")
    minutes = int(digits[2:])
    if minutes > 59:
        raise ValueError("an hour has 60 minutes")
    offset = timedelta(hours=int(digits[:2]), minutes=minutes)
    return timezone(-offset if text[0] == "-" else offset)


def _since_epoch(at: datetime) -> int:
    known = at if at.utcoffset() is not None else at.replace(tzinfo=timezone.utc)
    return _of_delta(known - _EPOCH)


def _of_delta(delta: timedelta) -> int:
    return (delta.days * 86_400 + delta.seconds) * _SECOND + delta.microseconds * 1000
