"""Which flushes have what they wait for: decisions of the worker."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynctrack._engine.flush import Flush, Flushes, FlushRequest
from tests.property.strategies import quick


def ended(request: FlushRequest) -> bool | None:
    """Return how a flush ended, or None where it has not."""
    return request.future.result(0) if request.future.done() else None


def test_a_flush_waits_for_all_pieces_up_to_its_last_event() -> None:
    """It goes on to the Run when each piece up to its target is settled, in whatever order."""
    flushes, request = Flushes(), FlushRequest(7)
    flushes.add(request)
    for first in (1, 4, 7, 10):
        flushes.cut(first, first + 2)
    for first in (7, 1, 10):
        flushes.settled(first)
        assert not flushes.move_on()
    flushes.settled(4)
    assert flushes.move_on()
    assert ended(request) is None, "the Run comes first"
    assert flushes.recording == (request,)
    assert not flushes.move_on()


def test_what_is_settled_grows_without_holes() -> None:
    """Events count as settled up to the first piece that is still on its way."""
    flushes = Flushes()
    assert flushes.settled_through == 0
    flushes.cut(1, 2)
    flushes.cut(3, 5)
    assert flushes.settled_through == 0
    flushes.settled(3)
    assert flushes.settled_through == 0
    flushes.settled(1)
    assert flushes.settled_through == 5


def test_nothing_accepted_nothing_to_wait_for() -> None:
    """Before anything was accepted a flush goes on to the Run at once."""
    flushes = Flushes()
    flushes.add(FlushRequest(0))
    assert not flushes.hurry
    assert flushes.move_on()


def test_events_not_cut_yet_are_cut_for_a_flush() -> None:
    """A flush makes haste until its last event is cut."""
    flushes = Flushes()
    flushes.add(FlushRequest(4))
    assert flushes.hurry
    flushes.cut(1, 3)
    assert flushes.hurry
    flushes.cut(4, 9)
    assert not flushes.hurry


def test_who_waits_for_the_run_waits_until_it_is_written() -> None:
    """A record that fails, or is cut off, leaves each flush where it was."""
    flushes, first, second = Flushes(), FlushRequest(0), FlushRequest(0)
    flushes.add(first)
    flushes.move_on()
    waiting = flushes.recording
    flushes.add(second)
    flushes.move_on()
    assert flushes.recording == (first, second)
    flushes.recorded(waiting, True)
    assert flushes.recording == (second,)
    assert [ended(first), ended(second)] == [True, None]
    flushes.end(False)
    assert ended(second) is False


@pytest.mark.parametrize("delivered", [True, False])
def test_who_comes_late_hears_how_it_ended(delivered: bool) -> None:
    """Once all is over, a flush ends as the tracker did: with everything delivered, or not."""
    flushes, early, late = Flushes(), FlushRequest(3), FlushRequest(3)
    flushes.add(early)
    flushes.end(delivered)
    flushes.add(late)
    assert [ended(early), ended(late)] == [delivered, delivered]


def test_a_worker_that_ends_fails_all() -> None:
    """Whatever still waits, for events or for the Run, hears that it is not all delivered."""
    flushes, requests = Flushes(), [FlushRequest(0), FlushRequest(5)]
    for request in requests:
        flushes.add(request)
    flushes.move_on()
    requests[1].end(True)  # told before
    flushes.fail()
    assert [ended(request) for request in requests] == [False, True]
    assert Flush(requests[0].future).result(0) is False


@quick
@given(st.lists(st.integers(1, 5), min_size=1, max_size=8), st.integers(0, 30), st.randoms())
def test_settled_in_any_order(sizes: list[int], target: int, chances: object) -> None:
    """A flush goes on to the Run exactly when no event up to its target is outstanding."""
    flushes, request = Flushes(), FlushRequest(target)
    flushes.add(request)
    pieces: list[tuple[int, int]] = []
    for size in sizes:
        first = pieces[-1][1] + 1 if pieces else 1
        pieces.append((first, first + size - 1))
        flushes.cut(*pieces[-1])
    target_cut = target <= pieces[-1][1]
    chances.shuffle(pieces)  # type: ignore[attr-defined]  # a random.Random
    while pieces:
        flushes.move_on()
        wanted = target_cut and all(first > target for first, _ in pieces)
        assert (flushes.recording == (request,)) == wanted
        flushes.settled(pieces.pop()[0])
    flushes.move_on()
    assert (flushes.recording == (request,)) == target_cut
