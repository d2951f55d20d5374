"""When closing stops trying: a decision, the clock passed in."""

from __future__ import annotations

import pytest

from asynctrack._buffer.ledger import BufferCounts
from asynctrack._engine.closing import SLOWEST, Patience


def counts(spooled: int, pending: int = 0) -> BufferCounts:
    return BufferCounts(spooled + pending, 0, 0, spooled, pending, 0, {}, 0)


def test_patience_is_lost_when_nothing_moves() -> None:
    """After so many seconds in which no counter moved, where all that is left is on disk."""
    patience = Patience(4.0)
    assert not patience.lost(100.0, (1, 0), 0, counts(5))
    assert not patience.lost(103.9, (1, 0), 0, counts(5))
    assert patience.lost(104.0, (1, 0), 0, counts(5))


def test_anything_that_moves_begins_anew() -> None:
    """A single counter that moved gives it all its time again."""
    patience = Patience(4.0)
    assert not patience.lost(100.0, (1, 0), 0, counts(5))
    assert not patience.lost(104.0, (1, 1), 0, counts(5))
    assert not patience.lost(107.9, (1, 1), 0, counts(5))
    assert patience.lost(108.0, (1, 1), 0, counts(5))


@pytest.mark.parametrize("left", [counts(5, pending=1), counts(0, pending=1)], ids=["some", "all"])
def test_never_while_an_event_would_be_lost(left: BufferCounts) -> None:
    """As long as any event is in memory only, it goes on."""
    patience = Patience(4.0)
    assert not patience.lost(0.0, (), 0, left)
    assert not patience.lost(1e6, (), 0, left)


def test_what_only_the_run_lacks_is_given_up() -> None:
    """With all events delivered, what does not get into the Run is waited for no longer."""
    patience = Patience(4.0)
    assert not patience.lost(100.0, (1, 0), 0, counts(0))
    assert patience.lost(104.0, (1, 0), 0, counts(0))


def test_a_large_upload_gives_it_more_time() -> None:
    """What is under way gets the time that it takes on a slow line."""
    patience = Patience(4.0)
    assert not patience.lost(0.0, (1,), 3 * SLOWEST, counts(5))
    assert not patience.lost(6.9, (1,), 3 * SLOWEST, counts(5))
    assert patience.lost(7.0, (1,), 3 * SLOWEST, counts(5))
