"""Full collections: when they begin while a thread of ours imports, and what is left of it."""

from __future__ import annotations

import gc
import os
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from asynctrack import tracker
from asynctrack._common.garbage import NEVER, FullCollections, full_collections

USUAL = (500, 5, 3)


@pytest.fixture(autouse=True)
def usual_thresholds() -> Iterator[None]:
    """The program's own thresholds, and no module of this test's."""
    before = gc.get_threshold()
    gc.collect()
    gc.set_threshold(*USUAL)
    yield
    gc.set_threshold(*before)
    sys.modules.pop("made_by_test_garbage", None)


def import_one() -> None:
    sys.modules["made_by_test_garbage"] = ModuleType("made_by_test_garbage")


def full_collections_so_far() -> int:
    return int(gc.get_stats()[2]["collections"])


class Knot:
    """Garbage once nobody holds it, and only a collection finds it."""

    def __init__(self) -> None:
        self.itself = self


def test_none_begins_in_the_block() -> None:
    """Half a million objects that stay start no full collection, neither inside nor afterwards."""
    before = full_collections_so_far()
    with FullCollections().held_up():
        import_one()
        kept = [[number] for number in range(500_000)]
    assert full_collections_so_far() == before
    young = [[number] for number in range(20 * USUAL[0])]
    assert full_collections_so_far() == before
    del kept, young


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="there they come in small steps")
def test_they_begin_without_it() -> None:
    """The same objects start some where nothing holds them up: the test above can fail."""
    before = full_collections_so_far()
    kept = [[number] for number in range(500_000)]
    assert full_collections_so_far() > before
    del kept


def test_young_garbage_is_collected_meanwhile() -> None:
    """What the program makes and drops while others import does not pile up."""
    with FullCollections().held_up():
        gone = weakref.ref(Knot())
        young = [[number] for number in range(20 * USUAL[0])]
        assert gone() is None
    del young


def test_the_last_thread_puts_the_thresholds_back() -> None:
    """They are what they were after the last block, also one that raises."""
    own = FullCollections()
    with own.held_up():
        with pytest.raises(KeyError), own.held_up():
            raise KeyError
        assert gc.get_threshold() == (USUAL[0], NEVER, USUAL[2])
    assert gc.get_threshold() == USUAL


def test_thresholds_that_the_program_sets_meanwhile_stay() -> None:
    """Whoever sets others while the block lasts has them afterwards."""
    with FullCollections().held_up():
        gc.set_threshold(900, 9, 9)
    assert gc.get_threshold() == (900, 9, 9)


def test_collections_that_are_off_stay_off() -> None:
    """A program without collections is left alone."""
    gc.disable()
    try:
        with FullCollections().held_up():
            import_one()
            assert gc.get_threshold() == USUAL
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_what_the_program_froze_stays_frozen() -> None:
    """Objects out of the collector's reach are there still, and it is asked for once only."""
    own = FullCollections()
    gc.freeze()
    try:
        frozen = gc.get_freeze_count()
        with own.held_up():
            import_one()
        assert gc.get_freeze_count() > frozen // 2  # some were freed since
        assert gc.get_threshold() == USUAL
        with own.held_up():
            assert gc.get_threshold() == USUAL
    finally:
        gc.unfreeze()


def test_where_nothing_is_imported_nothing_is_moved() -> None:
    """A block that makes what goes away again leaves its garbage to the next young collection."""
    with FullCollections().held_up():
        gone = weakref.ref(Knot())
    gc.collect(1)
    assert gone() is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_child_of_a_fork_has_the_usual_thresholds() -> None:
    """A fork in the midst of the block leaves the child with what was before."""
    with full_collections.held_up():
        child = os.fork()
        if not child:
            os._exit(0 if gc.get_threshold() == USUAL else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_tracking_leaves_the_thresholds_as_they_were(tmp_path: Path) -> None:
    """After a tracker the program's thresholds are its own, and nothing is frozen."""
    frozen = gc.get_freeze_count()
    with tracker(tmp_path / "runs", spool_dir=tmp_path / "spool") as handler:
        handler.log_metric("score", 0.5)
    assert gc.get_threshold() == USUAL
    assert gc.get_freeze_count() == frozen
