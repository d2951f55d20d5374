"""``verify``: each event once, each object as it was written, or the name of what is not."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asynctrack._errors import NotFoundError
from asynctrack._reading.sources.ranges import SeqRange, subtract, sweep, union
from asynctrack._reading.verify import verify
from asynctrack._spool.layout import default_spool_dir
from tests.reading.making import OTHER, WRITER, RunFolder, event
from tests.reading.spooling import SpoolFolder, folder_of


def numbers(first: int, last: int, **fields: Any) -> list[dict[str, Any]]:
    return [event(seq, **fields) for seq in range(first, last + 1)]


def test_all_there(folder: RunFolder) -> None:
    """Two writers, closed, every event once: ok, with counts."""
    folder.artifact(numbers(1, 3))
    folder.artifact(numbers(4, 9), suffix=".gz")
    folder.artifact(numbers(1, 2, writer=OTHER), writer=OTHER, suffix="")
    folder.manifest(dropped={"full": 4})
    folder.manifest(OTHER)
    report = verify(folder.root)
    assert report.ok
    assert (report.events, report.objects) == (11, 3)
    first, second = report.writers
    assert (first.events, first.objects, first.verified, first.dropped) == (9, 2, 2, 4)
    assert (first.state, first.accepted, second.events) == ("closed", 9, 2)
    assert "all there exactly once" in str(report)


def test_a_missing_object_is_named(folder: RunFolder) -> None:
    """An object that the manifest lists and that is gone is named with its events."""
    folder.artifact(numbers(1, 3))
    gone = folder.artifact(numbers(4, 6))
    folder.artifact(numbers(7, 8))
    folder.manifest()
    gone.unlink()
    report = verify(folder.path)
    assert not report.ok
    assert report.writers[0].missing == (SeqRange(4, 6, (str(gone),)),)
    assert f"missing: events 4 to 6 ({gone})" in str(report)


def test_a_changed_object_is_named(folder: RunFolder) -> None:
    """An object with another checksum counts for nothing, and is named."""
    changed = folder.artifact(numbers(1, 3))
    folder.manifest()
    folder.artifact(numbers(1, 3, name="other"), listed=False)
    report = verify(folder.path)
    (writer,) = report.writers
    assert [problem.object for problem in writer.damaged] == [str(changed)]
    assert writer.missing == (SeqRange(1, 3, (str(changed),)),)
    assert writer.verified == 0


def test_a_double_is_named_with_both_objects(folder: RunFolder) -> None:
    """Events that are stored twice are named with the objects that hold them."""
    one = folder.artifact(numbers(1, 5))
    two = folder.artifact(numbers(4, 6))
    folder.manifest()
    (writer,) = verify(folder.path).writers
    assert writer.doubled == (SeqRange(4, 5, (str(one), str(two))),)
    assert (writer.events, writer.missing) == (6, ())


def test_events_a_closed_writer_could_not_deliver_are_missing(folder: RunFolder) -> None:
    """What was accepted and never stored is missing once the writer is closed; what the backend
    refused is named apart, and is no surprise."""
    folder.artifact(numbers(1, 3))
    folder.manifest(accepted=9, refused_ranges=[[6, 7]], pending=4, dead_lettered=2)
    (writer,) = verify(folder.path).writers
    assert writer.missing == (SeqRange(4, 5), SeqRange(8, 9))
    assert writer.refused == (SeqRange(6, 7),)


def test_an_open_writer_may_still_deliver(folder: RunFolder) -> None:
    """Of a writer that is still writing only what it called delivered can be missing."""
    folder.artifact(numbers(1, 3))
    gone = folder.artifact(numbers(4, 5))
    gone.unlink()
    newer = folder.artifact(numbers(8, 9), listed=False)
    folder.manifest(state="open", accepted=12, ranges=[[1, 5]])
    (writer,) = verify(folder.path).writers
    assert writer.missing == (SeqRange(4, 5, (str(gone),)),)
    assert writer.undelivered == (SeqRange(6, 7), SeqRange(10, 12))
    assert writer.unlisted == (str(newer),)


def test_without_a_manifest_gaps_are_missing(folder: RunFolder) -> None:
    """Without a manifest, the numbers alone tell what is missing."""
    folder.artifact(numbers(2, 3))
    folder.artifact(numbers(6, 6))
    (writer,) = verify(folder.path).writers
    assert (writer.state, writer.accepted) == ("unknown", None)
    assert writer.missing == (SeqRange(1, 1), SeqRange(4, 5))


def test_broken_manifests_are_problems(folder: RunFolder) -> None:
    """A manifest that cannot be read makes the report not ok, and is named."""
    folder.artifact(numbers(1, 3))
    path = folder.manifest()
    path.write_text("{")
    report = verify(folder.path)
    assert not report.ok
    assert [problem.object for problem in report.problems] == [str(path)]
    assert str(path) in str(report)


def test_nothing_to_verify_is_an_error(tmp_path: Path) -> None:
    """A place without Runs is an error, not an empty success."""
    with pytest.raises(NotFoundError):
        verify(tmp_path)


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_any_damage_is_found(data: st.DataObject) -> None:
    """Whatever byte of whatever object changes, whatever is cut or deleted: it is never ok."""
    with tempfile.TemporaryDirectory() as name:
        folder = RunFolder(Path(name))
        for number in range(4):
            suffix = data.draw(st.sampled_from([".zst", ".gz", ""]))
            folder.artifact(numbers(number * 3 + 1, number * 3 + 3), suffix=suffix)
        folder.manifest(WRITER)
        assert verify(name).ok
        victim = data.draw(st.sampled_from(sorted(folder.path.glob("dt=*/*"))))
        content = victim.read_bytes()
        at = data.draw(st.integers(0, len(content) - 1))
        how = data.draw(st.sampled_from(["flip", "cut", "delete"]))
        if how == "delete":
            victim.unlink()
        elif how == "cut":
            victim.write_bytes(content[:at])
        else:
            flip = data.draw(st.integers(1, 255))
            victim.write_bytes(content[:at] + bytes([content[at] ^ flip]) + content[at + 1 :])
        report = verify(name)
        assert not report.ok
        assert str(victim) in str(report)
        assert report.events == 9


RANGES = st.lists(
    st.tuples(st.integers(1, 40), st.integers(0, 10)).map(lambda pair: (pair[0], sum(pair)))
)


@given(left=RANGES, right=RANGES)
def test_ranges_are_sets(left: list[tuple[int, int]], right: list[tuple[int, int]]) -> None:
    """Unions and differences of ranges are those of the sets of numbers they stand for."""

    def members(ranges: list[tuple[int, int]]) -> list[int]:
        return [seq for first, last in ranges for seq in range(first, last + 1)]

    one, two = union(left), union(right)
    assert members(one) == sorted(set(members(left)))
    assert members(subtract(one, two)) == sorted(set(members(left)) - set(members(right)))
    pieces = sorted((SeqRange(*pair) for pair in left), key=lambda r: (r.first_seq, r.last_seq))
    covered, doubled = sweep(pieces)
    assert covered == one
    twice = {seq for seq in members(left) if members(left).count(seq) > 1}
    assert set(members([(piece.first_seq, piece.last_seq) for piece in doubled])) == twice


# -- where what is missing may be ------------------------------------------------------------------


def waiting(folder: RunFolder) -> SpoolFolder:
    return SpoolFolder(default_spool_dir(), folder_of(folder.path))


def test_what_waits_in_the_spool_is_not_lost_but_not_there(folder: RunFolder) -> None:
    """Events of a writer that died wait in a file that is named: not missing, not complete."""
    folder.artifact(numbers(1, 3))
    folder.manifest(state="open", accepted=6)
    spool = waiting(folder)
    segment = spool.segment(numbers(4, 5))
    spool.die()
    report = verify(folder.path)
    (writer,) = report.writers
    assert report.ok and not report.complete
    assert writer.waiting == (SeqRange(4, 5, (str(segment.path),)),)
    assert writer.missing == () and writer.undelivered == (SeqRange(6, 6),)
    assert f"waiting in this machine's spool: events 4 to 5 ({segment.path})" in str(report)
    assert str(report).startswith("INCOMPLETE")
    elsewhere = verify(folder.path, spool_dir=False)
    assert elsewhere.writers[0].undelivered == (SeqRange(4, 6),)


def test_dead_letters_are_named_with_their_file(folder: RunFolder) -> None:
    """Events that were refused for good lie beside the spool's segments."""
    folder.artifact(numbers(1, 2))
    folder.artifact(numbers(5, 6))
    folder.manifest(refused_ranges=[[3, 4]], ranges=[[1, 2], [5, 6]])
    spool = waiting(folder)
    dead = spool.path / f"{3:012d}-{4:012d}.dead"
    dead.write_bytes(b"{}\n")
    aside = spool.path / "00000007.damaged"
    aside.write_bytes(b"?")
    spool.die()
    report = verify(folder.path)
    (writer,) = report.writers
    assert not report.complete and report.ok
    assert writer.dead_letters == (SeqRange(3, 4, (str(dead),)),)
    assert (writer.refused, writer.set_aside) == ((), (str(aside),))
    assert verify(folder.path, spool_dir=False).writers[0].refused == (SeqRange(3, 4),)


def test_a_writer_that_is_only_in_the_spool_is_looked_at(folder: RunFolder) -> None:
    """Nothing of it is delivered: its events are named with their file."""
    folder.artifact(numbers(1, 2))
    folder.manifest()
    spool = SpoolFolder(default_spool_dir(), folder_of(folder.path), writer=OTHER)
    spool.segment(numbers(1, 3, writer=OTHER))
    report = verify(folder.path)
    first, second = report.writers
    assert first.complete and not second.complete
    assert (second.state, second.events, second.accepted) == ("unknown", 0, None)
    assert [one.events for one in second.waiting] == [3]


def test_what_was_delivered_twice_is_told_from_what_waits(folder: RunFolder) -> None:
    """A segment whose artifact is there already takes nothing away from being complete."""
    folder.artifact(numbers(1, 3))
    folder.manifest()
    spool = waiting(folder)
    spool.segment(numbers(1, 3), seal=True)
    report = verify(folder.path)
    assert report.complete and report.writers[0].waiting == ()
