"""The waits between attempts."""

from __future__ import annotations

import random
import statistics
from datetime import datetime, timezone
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynctrack._common.retry import MAX_RETRY_AFTER, RetryBudget, RetryPolicy, parse_retry_after
from tests.property.strategies import any_text, quick

NOW = datetime(2026, 11, 22, 12, tzinfo=timezone.utc).timestamp()
ALMOST_ONE = 1 - 2**-53


@pytest.mark.parametrize(
    ("failures", "ceiling"),
    [(1, 0.5), (2, 1.0), (3, 2.0), (4, 4.0), (6, 16.0), (7, 30.0), (8, 30.0), (10**6, 30.0)],
)
def test_the_ceiling_doubles_up_to_the_cap(failures: int, ceiling: float) -> None:
    """Waits lie between nothing and a ceiling that doubles with each failure."""
    policy = RetryPolicy(base=0.5, cap=30.0)
    assert policy.wait(failures, 0.0) == 0.0
    assert policy.wait(failures, 0.5) == ceiling / 2
    assert policy.wait(failures, ALMOST_ONE) == pytest.approx(ceiling)


def test_the_jitter_is_full() -> None:
    """Waits are spread evenly over the whole range, so that clients do not come back together."""
    draw = random.Random(5).random  # the same numbers each time
    waits = sorted(RetryPolicy(base=0.5, cap=30.0).wait(5, draw()) for _ in range(4_000))
    assert waits[0] < 0.05
    assert waits[-1] > 7.95
    for tenths in range(1, 10):
        assert waits[400 * tenths] == pytest.approx(0.8 * tenths, abs=0.25)
    assert statistics.mean(waits) == pytest.approx(4.0, abs=0.15)


@pytest.mark.parametrize("asked", [0.0, 1.0, 7.5, 119.0])
@pytest.mark.parametrize("failures", [1, 5])
def test_what_the_service_asks_for_is_not_undercut(asked: float, failures: int) -> None:
    """A Retry-After is waited for in full, with a little on top."""
    policy = RetryPolicy()
    for uniform in (0.0, 0.5, ALMOST_ONE):
        assert asked <= policy.wait(failures, uniform, asked)
    assert policy.wait(1, 0.0, asked) == asked
    # Many clients that are told the same do not come back together.
    assert policy.wait(1, 0.5, asked) == pytest.approx(asked + 0.5 * policy.base)
    assert policy.wait(1, ALMOST_ONE, asked) <= asked + policy.base


def test_nobody_is_believed_for_ever() -> None:
    """A Retry-After of a week does not stop the delivery for a week."""
    policy = RetryPolicy()
    assert policy.wait(1, ALMOST_ONE, 7 * 86_400.0) <= MAX_RETRY_AFTER + policy.base


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("", None),
        ("0", 0.0),
        ("1", 1.0),
        (" 120 ", 120.0),
        ("007", 7.0),
        (format_datetime(datetime.fromtimestamp(NOW + 90, tz=timezone.utc), usegmt=True), 90.0),
        ("Sun, 22 Nov 2026 12:01:30 GMT", 90.0),
        ("Sun, 22 Nov 2026 13:01:30 +0100", 90.0),
        ("Sun, 22 Nov 2026 12:01:30 -0000", 90.0),
        ("Sunday, 22-Nov-26 12:01:30 GMT", 90.0),
        ("Sun, 22 Nov 2026 11:00:00 GMT", 0.0),
        ("Mon, 01 Jan 1990 00:00:00 GMT", 0.0),
        ("-5", None),
        ("1.5", None),
        ("5 seconds", None),
        ("soon", None),
        ("٥", None),
        ("²", None),
        ("Sun, 99 Nov 2026 12:01:30 GMT", None),
        ("\x00", None),
    ],
)
def test_retry_after(header: str | None, expected: float | None) -> None:
    """Seconds and dates are read; what is neither is ignored."""
    assert parse_retry_after(header, NOW) == expected


@pytest.mark.parametrize("digits", [9, 10, 400, 5_000])
def test_huge_retry_after(digits: int) -> None:
    """A number of any length is read, and is still a finite number of seconds."""
    assert parse_retry_after("9" * digits, NOW) == 999_999_999.0


@quick
@given(
    st.one_of(any_text, st.from_regex(r"\w{3}, \d{1,3} \w{3} \d{1,6} \d\d:\d\d:\d\d [+-]?\w{1,6}"))
)
def test_any_header(header: str) -> None:
    """No header raises, and none makes a wait negative."""
    seconds = parse_retry_after(header, NOW)
    assert seconds is None or seconds >= 0
    assert 0 <= RetryPolicy().wait(1, 0.5, seconds) <= MAX_RETRY_AFTER + 1


# -- the budget -----------------------------------------------------------------------------------


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["first", "retry", "recovered"]), st.floats(0.0, 0.5)),
        max_size=300,
    )
)
def test_retries_are_a_share_of_all_requests(steps: list[tuple[str, float]]) -> None:
    """Whatever is asked for and when: a fifth of all requests, what was saved up, and one a second.

    What is saved up is there once, and once more after each outage.
    """
    budget = RetryBudget(most=10.0, interval=1.0)
    now, firsts, retries, outages = 0.0, 0, 0, 0
    for what, seconds in steps:
        now += seconds
        if what == "first":
            budget.attempted()
            firsts += 1
        elif what == "recovered":
            budget.recovered()
            outages += 1
        elif budget.wait(now) == 0.0:
            assert budget.take(now)
            retries += 1
        else:
            assert not budget.take(now)
        assert retries <= 0.25 * firsts + 10 * (1 + outages) + now + 1


def test_a_budget_that_is_used_up() -> None:
    """Then one a second, as nothing is ever given up; four first attempts earn another."""
    budget = RetryBudget(most=2.0, interval=1.0)
    assert [budget.take(100.0) for _ in range(4)] == [True, True, True, False]
    assert budget.wait(100.25) == 0.75
    assert [budget.take(101.0), budget.take(101.0)] == [True, False]
    for _ in range(3):
        budget.attempted()
    assert not budget.take(101.5)
    budget.attempted()
    assert budget.take(101.5)
    budget.recovered()
    assert [budget.take(101.6) for _ in range(3)] == [True, True, False]
