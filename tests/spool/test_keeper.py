"""The keeper: segments ahead of time, and a disk that refuses, fails, or is taken away."""

from __future__ import annotations

import errno
import gc
import logging
import os
import shutil
import threading
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from asynctrack._buffer.buffer import SEGMENT_WAIT, Buffer
from asynctrack._buffer.store import SegmentPiece, Store
from asynctrack._common.notices import Notices
from asynctrack._common.offload import offload
from asynctrack._engine.loop import run_loop
from asynctrack._spool import homes
from asynctrack._spool.descriptor import Descriptor, open_new
from asynctrack._spool.folder import WriterFolder, sweep
from asynctrack._spool.homes import Homes
from asynctrack._spool.journal import Journal
from asynctrack._spool.keeper import HELD_PIECES, Keeper
from asynctrack._spool.layout import (
    HELD,
    SpoolPlace,
    is_alive,
    read_description,
    spool_places,
    waiting_segments,
    writer_folder,
)
from asynctrack._spool.recovery import held_events
from asynctrack._spool.segment import FIRST_CLAIM, Segment, Shape
from asynctrack._spool.segment_content import read_segment
from asynctrack._spool.usage import AGAIN, Usage, folder_size
from tests.buffer.test_holding import holding_of
from tests.buffer.test_store import body
from tests.common.test_offload import no_threads as no_threads  # a fixture
from tests.spool.test_segment import WRITER
from tests.support.descriptors import open_below

PIECE_BYTES, PIECE_EVENTS = 4000, 10
SIZE = Shape(PIECE_BYTES, PIECE_EVENTS).claim

pytestmark = pytest.mark.may_block("the keeper runs in the worker's loop, which may; tests look")


class Parts:
    """A keeper and its buffer, without a worker."""

    def __init__(
        self,
        spool: Path,
        *,
        power: bool = False,
        max_spool_bytes: int = 1 << 30,
        piece: tuple[int, int] = (PIECE_BYTES, PIECE_EVENTS),
        holds: bool = False,
    ) -> None:
        self.spool = spool
        self.ticks = anyio.Event()
        self.slept = 0
        self.buffer = Buffer(
            writer_id=WRITER,
            store=Store(WRITER, *piece, spooled=True),
            max_bytes=1 << 20,
            max_events=1000,
            spool_bytes=1 << 30,
            wake=lambda: None,
        )
        self.now = 0.0
        self.usage = Usage(lambda: self.now)
        self.homes = Homes(
            places=lambda: spool_places(spool),
            writer_id=WRITER,
            info=self.info,
            notices=Notices(),
            usage=self.usage,
            max_spool_bytes=max_spool_bytes,
            power=power,
        )
        self.holding = holding_of(self.buffer)
        self.holding.journal = journal = Journal(WRITER, lambda: None)
        self.keeper = Keeper(
            homes=self.homes,
            buffer=self.buffer,
            notices=Notices(),
            power=power,
            sleep=self.sleep,
            holding=self.holding if holds else None,
            journal=journal if holds else None,
        )

    def info(self) -> Mapping[str, Any]:
        return {"run": "r", "compression": "none"}

    async def sleep(self, seconds: float) -> None:
        self.slept += 1
        await anyio.sleep(0)

    def put(self, count: int) -> None:
        for _ in range(count):
            assert self.buffer.put_nowait(body("x"))

    def fail(self, events: int) -> None:
        """Hold a trace of so many events, which fails."""
        trace = self.holding.begin()
        for _ in range(events):
            self.holding.put(trace, body("x"), None)
        trace.root_ended(failed=True)

    async def cut(self) -> SegmentPiece:
        """Take the next piece and seal it, as the worker does before it uploads one."""
        piece = self.buffer.take()
        assert isinstance(piece, SegmentPiece)
        await self.seal(piece)
        return piece

    async def seal(self, piece: SegmentPiece) -> None:
        """Mark it as complete, in a thread."""
        self.keeper.cut(piece)
        await offload(self.keeper.seal, piece)

    def seqs_on_disk(self) -> list[int]:
        found = []
        for path in waiting_segments(writer_folder(self.spool, WRITER)):
            content = read_segment(path)
            assert not content.damaged
            found += [seq for seq, _ in content.lines]
        return found


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return Parts(tmp_path)


async def test_a_segment_is_ready_before_the_first_event(parts: Parts) -> None:
    """One supply makes the spare; after that each event is on disk when the put returns."""
    assert await parts.keeper.supply()
    for number in range(1, 25):
        parts.put(1)
        assert parts.seqs_on_disk() == list(range(1, number + 1))
        assert await parts.keeper.supply()
    assert parts.buffer.counts().pending == 0
    assert read_description(writer_folder(parts.spool, WRITER))["run"] == "r"
    parts.keeper.close()


@pytest.mark.usefixtures("no_threads")
def test_without_threads_the_worker_does_it_all_itself(parts: Parts) -> None:
    """Also while the interpreter ends, and starts none, segments are made and let go."""

    async def main() -> None:
        assert await parts.keeper.supply()
        parts.put(25)
        assert await parts.keeper.supply()
        piece = parts.buffer.take()
        assert isinstance(piece, SegmentPiece)
        await parts.keeper.let_go(piece)
        assert not piece.segment.held
        await parts.keeper.supply()
        await parts.keeper.settled(piece)
        parts.keeper.close()

    run_loop(main())


async def test_close_leaves_what_was_not_delivered_and_nothing_else(parts: Parts) -> None:
    """Segments are trimmed to their lines, the spare is deleted, the lock is given back."""
    await parts.keeper.supply()
    parts.put(3)
    await parts.keeper.supply()
    parts.keeper.close()
    folder = writer_folder(parts.spool, WRITER)
    assert [path.name for path in sorted(folder.glob("0*"))] == ["00000001.open"]
    assert (folder / "00000001.open").stat().st_size < 500
    assert parts.seqs_on_disk() == [1, 2, 3]
    with WriterFolder(folder):
        pass


async def test_nothing_is_accepted_once_the_keeper_has_closed(parts: Parts) -> None:
    """A worker that fails closes the keeper first: a callback must not meet a closed segment."""
    await parts.keeper.supply()
    parts.put(1)
    parts.keeper.close()
    assert not parts.buffer.put_nowait(body("x"))
    assert parts.buffer.closed_reason == "worker_failed"
    assert parts.buffer.counts().accepted == 1


async def test_a_spool_of_delivered_events_vanishes(parts: Parts) -> None:
    """Nothing is left of a writer that delivered all."""
    await parts.keeper.supply()
    parts.put(3)
    piece = await parts.cut()
    assert piece.segment.path.suffix == ".sealed"
    await parts.keeper.settled(piece)
    parts.buffer.settle(piece)
    parts.keeper.close()
    assert not writer_folder(parts.spool, WRITER).exists()


async def test_before_a_segment_goes_the_journal_forgets_what_is_in_it(tmp_path: Path) -> None:
    """Of a trace whose rest is in memory, nobody recovers what was delivered."""
    parts = Parts(tmp_path, holds=True)
    await parts.keeper.supply()
    parts.fail(PIECE_EVENTS + 3)
    await parts.keeper.settled(await parts.cut())
    assert held_events(parts.keeper.path) == 3
    await parts.keeper.supply()
    await parts.keeper.settled(await parts.cut())
    assert held_events(parts.keeper.path) == 0
    await parts.keeper.aclose()
    assert not parts.keeper.path.exists()


def test_the_journal_stays_in_one_place(tmp_path: Path) -> None:
    """A better place that comes back takes the next segments, not the next file of the journal:
    whoever recovers it needs all of it."""
    better, worse = SpoolPlace(tmp_path / "better"), SpoolPlace(tmp_path / "worse")
    places = [worse]
    homes = Homes(
        places=lambda: places,
        writer_id=WRITER,
        info=dict,
        notices=Notices(),
        usage=Usage(),
        max_spool_bytes=1 << 30,
        power=False,
    )
    made = [homes.make(PIECE_BYTES, PIECE_EVENTS, ending=HELD)]
    places = [better, worse]
    made += [homes.make(PIECE_BYTES, PIECE_EVENTS, ending=one) for one in (".open", HELD)]
    assert [one.path.parents[2] for one in made] == [worse.path, better.path, worse.path]
    places = [better]
    with pytest.raises(OSError, match="worse"):
        homes.make(PIECE_BYTES, PIECE_EVENTS, ending=HELD)
    for one in made:
        one.let_go()
    homes.close()


async def test_close_forgets_what_was_delivered_from_memory(tmp_path: Path) -> None:
    """The journal of a trace that never was in a segment goes with its writer."""
    parts = Parts(tmp_path, holds=True)
    await parts.keeper.supply()
    parts.put(PIECE_EVENTS)
    parts.fail(1)
    await parts.keeper.settled(await parts.cut())
    parts.buffer.disk_answered(False)
    piece = parts.buffer.take()
    assert piece is not None and held_events(parts.keeper.path) == 1
    parts.buffer.settle(piece)
    await parts.keeper.aclose()
    assert not parts.keeper.path.exists()


@pytest.mark.parametrize("refuses", [False, True])
async def test_what_is_settled_is_forgotten(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, refuses: bool
) -> None:
    """A tracker that lives for months keeps nothing of what it delivered, even if not deleted."""

    def refuse(path: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    await parts.keeper.supply()
    parts.put(1)
    piece = await parts.cut()
    if refuses:
        monkeypatch.setattr("asynctrack._spool.segment.remove_files", refuse)
    await parts.keeper.settled(piece)
    parts.buffer.settle(piece)
    segment = weakref.ref(piece.segment)
    del piece
    parts.put(1)
    await parts.keeper.supply()  # a thread remembers its last call
    gc.collect()
    assert segment() is None
    parts.keeper.close()


async def test_free_space_is_left_to_others(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With less than 512 MiB free, nothing is written; it is tried again when asked again."""
    usage = type(shutil.disk_usage(parts.spool))
    free = [homes.KEEP_FREE + SIZE - 1]
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(1 << 40, 0, free[0]))
    assert not await parts.keeper.supply()
    parts.put(2)
    assert parts.buffer.counts().pending == 2 and parts.seqs_on_disk() == []
    assert "would be left free" in caplog.text and str(parts.spool) in caplog.text
    free[0] += 2 * SIZE
    assert await parts.keeper.supply()
    assert parts.seqs_on_disk() == [1, 2] and parts.buffer.counts().spooled == 2
    parts.keeper.close()


async def test_of_a_small_disk_an_eighth_is_left(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk of 512 MiB in all, as Lambda's, is used as well."""
    usage = type(shutil.disk_usage(parts.spool))
    free = [(64 << 20) + SIZE - 1]
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(512 << 20, 0, free[0]))
    assert not await parts.keeper.supply()
    free[0] += 1
    assert await parts.keeper.supply()
    parts.keeper.close()


async def test_the_spool_is_bounded_together(tmp_path: Path) -> None:
    """What other writers hold counts: the bound is that of the whole folder."""
    other = WriterFolder(writer_folder(tmp_path, "0" * 24))
    segment = other.new_segment(Shape(50_000, 10))
    parts = Parts(tmp_path, max_spool_bytes=segment.claimed + SIZE - 1)
    assert not await parts.keeper.supply()
    segment.remove()
    parts.now += AGAIN
    assert await parts.keeper.supply()
    parts.keeper.close()
    other.close()


async def test_a_description_that_cannot_be_written_holds_no_lock(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk fails at any step; the next try begins at the beginning."""

    def full(folder: Path, info: Mapping[str, Any], *, sync: bool = False) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("asynctrack._spool.folder._describe", full)
        for _ in range(3):
            assert not await parts.keeper.supply()
    assert list((parts.spool / "v1").iterdir()) == []
    assert await parts.keeper.supply()
    parts.keeper.close()


def test_who_sweeps_the_spool_meanwhile_does_no_harm(tmp_path: Path) -> None:
    """A new folder is nobody else's from its first moment, and what was left half made goes."""
    left = tmp_path / "v1" / ".new-left"
    left.mkdir(parents=True)
    young = tmp_path / "v1" / ".new-young"
    young.mkdir()
    an_hour_ago = time.time() - 3600
    os.utime(left, (an_hour_ago, an_hour_ago))
    swept = threading.Event()

    def sweep_all() -> None:
        for path in (tmp_path / "v1").glob(".new-*"):
            sweep(path)

    def go_on() -> None:
        while not swept.is_set():
            sweep_all()

    sweeper = threading.Thread(target=go_on)
    sweeper.start()
    try:
        for number in range(300):
            WriterFolder(writer_folder(tmp_path, f"{number:024x}"), info={"run": "r"}).close()
    finally:
        swept.set()
        sweeper.join()
    sweep_all()
    assert list((tmp_path / "v1").iterdir()) == [young]


async def test_a_folder_held_for_good_is_a_disk_that_refuses(
    parts: Parts, caplog: pytest.LogCaptureFixture
) -> None:
    """It must never happen; when it does, events wait in memory and the worker goes on."""
    with WriterFolder(writer_folder(parts.spool, WRITER)):
        assert not await parts.keeper.supply()
        assert "another process holds the lock" in caplog.text
    assert await parts.keeper.supply()
    parts.keeper.close()


async def test_a_folder_removed_in_use_is_made_anew(
    parts: Parts, caplog: pytest.LogCaptureFixture
) -> None:
    """The old segments go on in their open files; their ends do not touch the new ones."""
    await parts.keeper.supply()
    parts.put(3)
    await parts.keeper.supply()
    shutil.rmtree(parts.spool)
    parts.put(PIECE_EVENTS * 2)  # fills the first, the spare, and begins one that is not there
    assert await parts.keeper.supply()
    assert "was removed while it was in use" in caplog.text
    old = parts.buffer.take()
    assert isinstance(old, SegmentPiece)
    assert len(old.raw().splitlines()) == PIECE_EVENTS
    before = sorted(path.name for path in writer_folder(parts.spool, WRITER).iterdir())
    await parts.seal(old)
    await parts.keeper.settled(old)
    parts.buffer.settle(old)
    assert sorted(path.name for path in writer_folder(parts.spool, WRITER).iterdir()) == before
    assert parts.seqs_on_disk() == [21, 22, 23]
    parts.keeper.close()
    assert parts.seqs_on_disk() == list(range(11, 24)), "what was not delivered is saved again"
    counts = parts.buffer.counts()
    assert counts.accepted == counts.delivered + counts.spooled + counts.pending == 23


async def test_a_folder_removed_before_the_end_is_saved_again(parts: Parts) -> None:
    """Closing writes what was not delivered anew, with the description of where it belongs."""
    await parts.keeper.supply()
    parts.put(3)
    shutil.rmtree(parts.spool)
    parts.keeper.close()
    assert parts.seqs_on_disk() == [1, 2, 3]
    assert read_description(writer_folder(parts.spool, WRITER))["run"] == "r"


async def test_close_knows_what_is_under_way(parts: Parts) -> None:
    """With S3 away, pieces that are sealed and not settled are trimmed and let go, too."""
    await parts.keeper.supply()
    parts.put(PIECE_EVENTS + 1)
    await parts.keeper.supply()
    pieces = [await parts.cut() for _ in range(2)]
    parts.keeper.close()
    assert not open_below(parts.spool)
    assert all(piece.segment.path.stat().st_size < SIZE for piece in pieces)
    assert parts.seqs_on_disk() == list(range(1, PIECE_EVENTS + 2))


async def test_close_saves_what_is_under_way_and_was_removed(parts: Parts) -> None:
    """Whoever deletes the spool while S3 is away costs no event: they are in the open file."""
    await parts.keeper.supply()
    parts.put(3)
    await parts.cut()
    shutil.rmtree(parts.spool)
    parts.keeper.close()
    assert parts.seqs_on_disk() == [1, 2, 3]
    assert not open_below(parts.spool)


async def test_two_supplies_at_once_do_not_get_in_each_others_way(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker's own and that of the closing: each segment has a number of its own."""
    both = threading.Event()
    calls = []

    def slow(path: Path, size: int) -> Descriptor:
        calls.append(path)
        if len(calls) > 1:
            both.set()
        both.wait(0.2)  # for another thread that is at it, too
        return open_new(path, size)

    monkeypatch.setattr("asynctrack._spool.segment.open_new", slow)
    parts.put(3 * PIECE_EVENTS)
    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(parts.keeper.supply)
    assert len(set(calls)) == len(calls) == 4, "three for what waits, and a spare"
    assert parts.seqs_on_disk() == list(range(1, 3 * PIECE_EVENTS + 1))
    assert not caplog.records
    parts.keeper.close()


async def test_closed_while_a_segment_is_made(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that hangs holds closing up no longer than it is patient, and leaves no file open."""
    made, closed = threading.Event(), threading.Event()

    def hanging(path: Path, size: int) -> Descriptor:
        made.set()
        assert closed.wait(60)
        return open_new(path, size)

    await parts.keeper.supply()
    parts.put(3)
    monkeypatch.setattr("asynctrack._spool.segment.open_new", hanging)
    thread = threading.Thread(target=parts.keeper.supply_now)
    thread.start()
    await anyio.to_thread.run_sync(made.wait, 60)
    parts.keeper.close()
    assert open_below(parts.spool), "they are the other thread's to close"
    closed.set()
    await anyio.to_thread.run_sync(thread.join, 60)
    assert not open_below(parts.spool)
    assert parts.seqs_on_disk() == [1, 2, 3]
    assert not is_alive(writer_folder(parts.spool, WRITER))


@pytest.mark.parametrize("closes", [False, True])
async def test_a_spare_that_takes_no_line_is_closed(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, closes: bool
) -> None:
    """The disk refuses the first line of a segment: it is deleted, at the next look or at close."""

    def full(number: int, content: bytes, at: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    await parts.keeper.supply()
    with monkeypatch.context() as refusing:
        refusing.setattr("asynctrack._spool.descriptor._write_at", full)
        parts.put(1)
    (failed,) = writer_folder(parts.spool, WRITER).glob("*.open")
    if not closes:
        await parts.keeper.supply()
        assert not failed.exists() and parts.seqs_on_disk() == [1]
    parts.keeper.close()
    assert not open_below(parts.spool)
    assert not failed.exists()


async def test_full_segments_are_let_go_and_read_back(parts: Parts) -> None:
    """With S3 down, only a few descriptors are used; all events are there when it is back."""
    count = HELD_PIECES + 7
    for _ in range(count):
        await parts.keeper.supply()
        parts.put(PIECE_EVENTS)
    segments = parts.buffer.segments()
    await parts.keeper.supply()
    held = [segment.held for segment in segments]
    assert held == [True] * HELD_PIECES + [False] * (count - 1 - HELD_PIECES) + [True]
    assert len(open_below(parts.spool)) <= HELD_PIECES + 3, "these, the open one, spare and lock"
    seqs = []
    while (piece := parts.buffer.take()) is not None:
        await parts.seal(piece)  # type: ignore[arg-type]  # all are segments here
        seqs += [int(one.split(b'"seq":')[1].split(b",")[0]) for one in piece.raw().splitlines()]
    assert seqs == list(range(1, count * PIECE_EVENTS + 1))
    parts.keeper.close()


class Syncs:
    """What was synced, by file; may fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        self.failing = False
        monkeypatch.setattr("asynctrack._spool.segment._sync", self)

    def __call__(self, descriptor: int) -> None:
        self.names.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        if self.failing:
            raise OSError(errno.EIO, "Input/output error")
        os.fdatasync(descriptor)


async def _commits(parts: Parts, rounds: int) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(parts.keeper.commit)
        end = parts.slept + rounds
        while parts.slept < end:
            await anyio.sleep(0)
        tasks.cancel_scope.cancel()


async def test_power_commits_what_is_new_and_only_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sync for all events since the last one; none where nothing came in."""
    syncs = Syncs(monkeypatch)
    parts = Parts(tmp_path, power=True)
    await parts.keeper.supply()
    parts.put(3)
    await _commits(parts, 5)
    assert syncs.names == ["00000001.open"]
    parts.put(1)
    await _commits(parts, 5)
    assert syncs.names == ["00000001.open"] * 2
    parts.keeper.close()


async def test_power_syncs_before_a_file_is_let_go_and_before_sealing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a segment that is let go nor one that is sealed escapes its commit."""
    syncs = Syncs(monkeypatch)
    parts = Parts(tmp_path, power=True)
    monkeypatch.setattr("asynctrack._spool.keeper.HELD_PIECES", 2)
    for _ in range(6):
        await parts.keeper.supply()
        parts.put(PIECE_EVENTS)
    await parts.keeper.supply()
    assert syncs.names == [f"0000000{number}.open" for number in (3, 4, 5)]
    await parts.cut()
    assert syncs.names[3:] == ["00000001.open"]
    parts.keeper.close()


async def test_process_never_syncs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default costs no wait for the disk."""
    syncs = Syncs(monkeypatch)
    parts = Parts(tmp_path)
    await parts.keeper.supply()
    parts.put(3)
    await parts.keeper.commit()
    await parts.cut()
    assert syncs.names == []
    parts.keeper.close()


async def test_a_commit_that_fails_is_said_once_and_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """EIO from a sync: a warning, no second sync of that file, and the events go on."""
    syncs = Syncs(monkeypatch)
    syncs.failing = True
    parts = Parts(tmp_path, power=True)
    await parts.keeper.supply()
    for _ in range(4):
        parts.put(1)
        await _commits(parts, 3)
    assert syncs.names == ["00000001.open"]
    piece = await parts.cut()
    assert syncs.names == ["00000001.open"]
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 2, caplog.text  # the commit, and that it could not be sealed
    assert len(piece.raw().splitlines()) == 4
    parts.keeper.close()


async def test_a_segment_that_cannot_be_deleted_is_no_trouble(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Delivered is delivered: a replay stores the same object again."""
    await parts.keeper.supply()
    parts.put(1)
    piece = parts.buffer.take()
    assert isinstance(piece, SegmentPiece)

    def refuse(path: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr("asynctrack._spool.segment.remove_files", refuse)
        await parts.keeper.settled(piece)
        await parts.keeper.supply()
        segment = Segment(parts.spool, 99, Shape(PIECE_BYTES, PIECE_EVENTS))

        def one_too_many(*wanted: int) -> Segment:
            parts.buffer.supply(Segment(parts.spool, 98, Shape(PIECE_BYTES, PIECE_EVENTS)))
            return segment

        patch.setattr(parts.homes, "make", one_too_many)
        parts.put(1)
        assert await parts.keeper.supply()
    assert segment.path.exists() and not segment.held, "given back"
    parts.keeper.close()


class Clock:
    """Time by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


async def test_lines_go_to_disk_before_they_are_cut(tmp_path: Path) -> None:
    """What waits in memory for its segment is not cut: cut, it would never be on disk."""
    parts = Parts(tmp_path)
    parts.put(25)
    assert parts.buffer.take() is None
    assert await parts.keeper.supply()
    assert (await parts.cut()).events == 10
    parts.keeper.close()


@pytest.mark.parametrize("how", ["refuses", "hangs"])
async def test_lines_are_cut_from_memory_where_the_disk_does_not_take_them(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that refuses, or does not answer for a second, does not hold delivery up."""
    parts = Parts(tmp_path)
    clock = Clock()
    monkeypatch.setattr(parts.buffer, "_monotonic", clock)
    parts.put(25)
    assert parts.buffer.take() is None
    if how == "refuses":
        parts.buffer.disk_answered(False)
    else:
        clock.now += SEGMENT_WAIT - 0.01
        assert parts.buffer.take() is None
        clock.now += 0.02
    pieces = [parts.buffer.take() for _ in range(3)]
    assert [(piece.durable, piece.events) for piece in pieces if piece is not None] == [
        (False, 10),
        (False, 10),
        (False, 5),
    ]


def large_parts(folder: Path) -> Parts:
    """Pieces that are never full."""
    return Parts(folder, piece=(1 << 20, 10_000))


def assert_counted(parts: Parts, size: int) -> None:
    """The spool counts as holding so many bytes, no more and no less."""
    assert parts.usage.fits([parts.spool], 1000, size + 1000)
    assert not parts.usage.fits([parts.spool], 1001, size + 1000)


async def test_the_next_segment_is_there_before_a_cut(tmp_path: Path) -> None:
    """A piece that is cut early leaves no moment in which lines are in memory only."""
    parts = large_parts(tmp_path)
    await parts.keeper.supply()
    assert parts.buffer.may_cut(), "there is nothing to cut"
    parts.put(3)
    assert parts.buffer.segment_wanted() is None, "nothing is made that may never be filled"
    assert not parts.buffer.may_cut()
    assert await parts.keeper.supply()
    assert parts.buffer.may_cut()
    piece = await parts.cut()
    parts.put(2)
    assert (piece.events, parts.buffer.counts().spooled, parts.buffer.counts().pending) == (3, 5, 0)
    parts.keeper.close()


async def test_a_disk_that_hangs_holds_no_cut_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next segment is waited for a second, and not again before the disk has answered."""
    parts = large_parts(tmp_path)
    clock = Clock()
    monkeypatch.setattr(parts.buffer, "_monotonic", clock)
    await parts.keeper.supply()
    parts.put(3)
    assert not parts.buffer.may_cut()
    clock.now += SEGMENT_WAIT - 0.01
    assert not parts.buffer.may_cut()
    clock.now += 0.02
    assert parts.buffer.may_cut()
    await parts.cut()
    parts.put(1)
    assert parts.buffer.may_cut() and parts.buffer.counts().pending == 1
    assert await parts.keeper.supply()
    assert not parts.buffer.may_cut(), "the disk answers again"
    parts.keeper.close()


async def test_a_piece_that_is_cut_early_gives_its_room_back(tmp_path: Path) -> None:
    """Sealed, it takes no more lines, and no more of the disk than it has."""
    parts = large_parts(tmp_path)
    await parts.keeper.supply()
    parts.put(3)
    piece = await parts.cut()
    path = piece.segment.path
    size = path.stat().st_size
    assert path.suffix == ".sealed" and size < 1024
    assert_counted(parts, folder_size(path.parent))
    assert piece.raw().count(b"\n") == 3
    parts.keeper.close()


async def test_a_piece_that_outgrew_its_claim_is_counted_as_it_is(tmp_path: Path) -> None:
    """A burst that was cut before the segment could grow is counted off as often as counted."""
    parts = large_parts(tmp_path)
    await parts.keeper.supply()
    parts.put(600)
    piece = await parts.cut()
    held = folder_size(piece.segment.path.parent)
    assert held > FIRST_CLAIM
    assert_counted(parts, held)
    parts.keeper.close()


async def test_a_lock_that_others_closed_is_taken_again(parts: Parts) -> None:
    """The folder is nobody's then: with the next segment it is ours again, numbers go on."""
    await parts.keeper.supply()
    parts.put(3)
    (folder,) = parts.homes._folders.values()
    os.close(folder._lock.number)
    assert not is_alive(folder.path)
    parts.put(PIECE_EVENTS)
    assert await parts.keeper.supply()
    assert is_alive(folder.path)
    parts.put(PIECE_EVENTS)
    assert parts.seqs_on_disk() == list(range(1, 4 + 2 * PIECE_EVENTS))
    parts.keeper.close()
    assert not is_alive(folder.path)


async def test_a_segment_that_fails_is_said_and_the_rest_goes_on(
    parts: Parts, caplog: pytest.LogCaptureFixture
) -> None:
    """Its descriptor is gone: what is in it stays on disk, what comes goes into the next one."""
    await parts.keeper.supply()
    parts.put(3)
    await parts.keeper.supply()
    (segment,) = parts.buffer.segments()
    os.close(segment._file.number)
    parts.put(2)
    assert await parts.keeper.supply()
    assert parts.seqs_on_disk() == [1, 2, 3, 4, 5]
    assert f"could not go on writing {segment.path}" in caplog.text
    assert parts.buffer.counts().pending == 0
    parts.keeper.close()
    assert parts.seqs_on_disk() == [1, 2, 3, 4, 5]


async def test_a_disk_that_takes_segments_and_no_lines_is_one_that_refuses(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said once, nothing is left of the tries, and events wait in memory."""
    parts.put(3)

    def refuse(self: Segment, lines: list[bytes]) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(Segment, "fill", refuse)
        for _ in range(3):
            assert not await parts.keeper.supply()
    assert parts.buffer.counts().pending == 3
    assert list(parts.keeper.path.glob("0*")) == []
    assert "cannot write to its spool" in caplog.text and "Input/output error" in caplog.text
    assert await parts.keeper.supply()
    assert parts.seqs_on_disk() == [1, 2, 3]
    parts.keeper.close()
