"""When a batch is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynctrack._buffer.batch import CutPolicy
from tests.property.strategies import quick

POLICY = CutPolicy(max_delay=5.0)


@pytest.mark.parametrize(
    ("events", "oldest", "now", "hurry", "expected"),
    [
        (0, None, 100.0, False, None),
        (0, None, 100.0, True, None),
        (1, 100.0, 100.0, False, 5.0),
        (1, 100.0, 103.0, False, 2.0),
        (1, 100.0, 105.0, False, 0.0),
        (1, 100.0, 1_000.0, False, 0.0),
        (1, 100.0, 100.0, True, 0.0),
        (1, None, 100.0, False, 0.0),
        (1, 1_000.0, 100.0, False, 5.0),
    ],
    ids=[
        "nothing", "nothing to hurry with", "new", "waiting", "due", "overdue", "hurry",
        "age unknown", "a clock that went back",
    ],
)  # fmt: skip
def test_wait(
    events: int, oldest: float | None, now: float, hurry: bool, expected: float | None
) -> None:
    """A batch is cut when it is due, at once when there is a hurry, and never without events."""
    assert POLICY.wait(events, oldest, now, hurry=hurry) == expected


@quick
@given(
    st.integers(0, 10**6),
    st.none() | st.floats(0, 1e9),
    st.floats(0, 1e9),
    st.booleans(),
    st.floats(0.01, 3_600),
)
def test_the_wait_is_never_longer_than_the_delay(
    events: int, oldest: float | None, now: float, hurry: bool, delay: float
) -> None:
    """Whatever the clock has done, nothing waits longer than the delay, nor less than nothing."""
    wait = CutPolicy(delay).wait(events, oldest, now, hurry=hurry)
    assert (wait is None) is (events == 0)
    assert wait is None or 0 <= wait <= delay
