"""Moments: what users say of a point in time."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynctrack import OptionError
from asynctrack._common.moments import moment_of
from tests.property.strategies import quick

HOUR = 3600 * 10**9
NOW = 1_795_773_600 * 10**9
"""2026-11-27 10:00 UTC."""


@pytest.mark.parametrize(
    ("text", "before_now"),
    [
        ("0s", 0), ("30s", 30 * 10**9), ("90m", 3 * HOUR // 2), ("1h", HOUR),
        ("1.5H", 3 * HOUR // 2), ("2d", 48 * HOUR), ("1w", 168 * HOUR), (" 1 h ", HOUR),
        (timedelta(hours=1), HOUR), (timedelta(microseconds=1), 1000),
    ],
)  # fmt: skip
def test_an_age_counts_back_from_now(text: str | timedelta, before_now: int) -> None:
    """An age is so long before now, to the nanosecond."""
    assert moment_of(text, now=NOW) == NOW - before_now


@pytest.mark.parametrize(
    "same",
    [
        "2026-11-27T10:00", "2026-11-27 10:00", "2026-11-27T10:00Z", "2026-11-27t10:00:00z",
        "2026-11-27T11:00+01:00", "2026-11-27T11:00+0100", "2026-11-27 02:00:00.000 -08",
        "2026-11-27T15:30:00,000000000+05:30", datetime(2026, 11, 27, 10),
        datetime(2026, 11, 27, 11, tzinfo=timezone(timedelta(hours=1))),
    ],
)  # fmt: skip
def test_a_time_is_utc_where_it_says_nothing_else(same: str | datetime) -> None:
    """Text and datetimes without a zone are UTC; with one they are what they say."""
    assert moment_of(same, now=0) == NOW


@pytest.mark.parametrize("day", ["2026-11-27", date(2026, 11, 27)])
def test_a_date_is_its_first_moment(day: str | date) -> None:
    """A date is midnight, UTC, where the day begins."""
    assert moment_of(day, now=0) == NOW - 10 * HOUR


@pytest.mark.parametrize(
    "nonsense",
    [
        "", "soon", "1", "1y", "-1h", "1h ago", "h", "1.h", "２h", "2026", "2026-11", "2026-02-30",
        "2026-11-27T25:00", "2026-11-27T10", "2026-11-27T10:00+24:00", "2026-11-27T10:00+01:60",
        "9" * 5000 + "h", "27.11.2026", 5, 1.5, True, None,
    ],
)  # fmt: skip
def test_what_is_no_moment_is_refused_with_what_is_one(nonsense: object) -> None:
    """The error names option and value, and shows what may be given."""
    with pytest.raises(OptionError, match=r"(?s)^until=.*1h.*2026-11-27T10:00") as raised:
        moment_of(nonsense, now=NOW, option="until")  # type: ignore[arg-type]
    assert (raised.value.option, raised.value.value) == ("until", nonsense)


@pytest.mark.parametrize(
    ("beyond", "kept"),
    [
        ("1900-01-01", 0), ("999999999w", 0), (datetime.min, 0), (timedelta.max, 0),
        ("9999-12-31T23:59:59-23:59", 2**63 - 1), (datetime.max, 2**63 - 1), (date.max, 2**63 - 1),
    ],
)  # fmt: skip
def test_what_no_event_can_reach_is_the_nearest_that_can(beyond: str | date, kept: int) -> None:
    """What 64 bits of nanoseconds cannot hold is the first or the last that they can."""
    assert moment_of(beyond, now=NOW) == kept


@quick
@given(
    at=st.datetimes(
        min_value=datetime(1970, 1, 2), max_value=datetime(2262, 4, 10), allow_imaginary=False
    ),
    offset=st.integers(-1439, 1439),
    nanos=st.integers(0, 999),
)
def test_every_time_comes_back_from_its_text(at: datetime, offset: int, nanos: int) -> None:
    """ISO text of any time in any zone, and the datetime itself, are the same moment."""
    aware = at.replace(tzinfo=timezone(timedelta(minutes=offset)))
    whole = (at - datetime(1970, 1, 1)) // timedelta(microseconds=1) * 1000 - offset * 60 * 10**9
    sign, (hours, minutes) = "-" if offset < 0 else "+", divmod(abs(offset), 60)
    text = f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond:06d}{nanos:03d}{sign}{hours:02d}:{minutes:02d}"
    assert moment_of(aware, now=0) == whole
    assert moment_of(text, now=0) == whole + nanos
