"""The servers' clock: learned from a refusal, and from nothing else."""

from __future__ import annotations

from email.utils import formatdate
from typing import Any

import pytest

from asynctrack._backends.clock import ServerClock

NOW = 1_800_000_000.0


def refusal(code: str, date: str | None) -> dict[str, Any]:
    headers = {} if date is None else {"date": date}
    return {"Error": {"Code": code}, "ResponseMetadata": {"HTTPHeaders": headers}}


@pytest.mark.parametrize("ahead", [-86_400.0, -1_200.0, 1_200.0, 86_400.0])
def test_learned_once(ahead: float) -> None:
    """The first refusal corrects; a request that was signed with the correction is not repeated."""
    clock = ServerClock(lambda: NOW)
    answer = refusal("RequestTimeTooSkewed", formatdate(NOW + ahead, usegmt=True))
    assert clock.corrected(0.0, answer)
    assert clock.offset == ahead and clock.now().timestamp() == NOW + ahead
    assert not clock.corrected(ahead, answer), "the clock is not what is wrong with it"
    assert clock.corrected(0.0, answer), "one that was under way at the same time"


def test_a_clock_that_was_set_right() -> None:
    """The correction goes when the difference has gone."""
    now = [NOW]
    clock = ServerClock(lambda: now[0])
    assert clock.corrected(0.0, refusal("RequestExpired", formatdate(NOW + 1200, usegmt=True)))
    now[0] = NOW + 1200
    answer = refusal("RequestTimeTooSkewed", formatdate(NOW + 1203, usegmt=True))
    assert clock.corrected(1200.0, answer)
    assert clock.offset == 0.0


@pytest.mark.parametrize(
    ("code", "date"),
    [
        ("AccessDenied", formatdate(NOW + 1200, usegmt=True)),
        ("SlowDown", formatdate(NOW + 1200, usegmt=True)),
        ("RequestTimeTooSkewed", None),
        ("RequestTimeTooSkewed", "yesterday"),
        ("SignatureDoesNotMatch", formatdate(NOW + 3, usegmt=True)),
    ],
)
def test_nothing_to_learn(code: str, date: str | None) -> None:
    """Other refusals, no date, or a clock that is right: nothing is corrected or repeated."""
    clock = ServerClock(lambda: NOW)
    assert not clock.corrected(0.0, refusal(code, date))
    assert clock.offset == 0.0
