"""Several writers on one spool: one owner for each folder, and nobody replays a living writer."""

from __future__ import annotations

import threading
import tracemalloc
import uuid
from pathlib import Path
from typing import Any

import pytest

from asynctrack import tracker
from asynctrack._backends.local import LocalBackend
from asynctrack._spool.folder import SpoolBusyError, WriterFolder
from asynctrack._spool.layout import writer_folder, writers
from asynctrack._spool.segment import Shape
from asynctrack.testing import end_engine
from tests.crash.kills import SMALL, Tally, replay_all
from tests.crash.nursery import Nursery
from tests.delivery.test_replay import event
from tests.e2e.waiting import Wall, until_in_thread
from tests.support.auditor import assert_exactly_once, audit_folder
from tests.support.spoiled import make_rubbish

MIB = 1 << 20


def chain_end(handler: Any, payload: Any = "x") -> None:
    handler.on_chain_end(payload, run_id=uuid.uuid4())


def leave(spool: Path, out: Path, writer: str, segments: int, lines: int, size: int) -> int:
    """What a writer that died leaves: so many full segments. Returns its events."""
    root = out / "asynctrack" / "v1" / "experiment=default" / "run=dead"
    seq = 0
    with WriterFolder(writer_folder(spool, writer)) as folder:
        folder.describe(
            {
                "experiment": "default",
                "run": "dead",
                "compression": "zstd",
                "destination": {"kind": "folder", "root": root.as_posix()},
            }
        )
        for _ in range(segments):
            segment = folder.new_segment(Shape(lines * (size + 200), lines))
            segment.begin(writer, seq + 1)
            for _ in range(lines):
                seq += 1
                segment.append(event(writer, seq, f"{seq:0{size}d}"))
            segment.let_go()
    return seq


def test_two_trackers_in_one_process(tmp_path: Path) -> None:
    """Each has a folder of its own, and neither takes over the other's while it lives."""
    spool, wall = tmp_path / "spool", Wall(tmp_path)
    options: dict[str, Any] = {"spool_dir": str(spool), "max_delay": 0.05}
    first = tracker(wall.folder, close_patience=0.2, **options)
    with first as handler:
        for _ in range(5):
            chain_end(handler)
        second = tracker(tmp_path / "two", **options)
        with second as other:
            for _ in range(3):
                chain_end(other)
            both = {first.writer_id, second.writer_id}
            until_in_thread(lambda: {path.name for path in writers(spool)} == both)
            assert other.flush()
        assert other.statistics().replayed == 0
        assert [path.name for path in writers(spool)] == [first.writer_id]
        until_in_thread(lambda: handler.statistics().spooled == 5)
    wall.mend()
    assert replay_all(tmp_path / "own", spool) == 5
    audit = audit_folder(tmp_path)
    assert {writer: found.seqs for writer, found in audit.writers.items()} == {
        first.writer_id: (1, 2, 3, 4, 5),
        second.writer_id: (1, 2, 3),
    }


def test_several_processes_on_one_spool(nest: Nursery, tmp_path: Path) -> None:
    """Half of them are killed while the others live and replay: all events are there, once."""
    spool, out = tmp_path / "spool", tmp_path / "out"
    request: dict[str, Any] = {"out": str(out), "spool": str(spool), "options": dict(SMALL)}
    tally = Tally()
    children = []
    for wave in range(3):
        living = [nest.birth({**request, "seed": wave * 10 + n, "chains": 60}) for n in range(3)]
        doomed = [nest.birth({**request, "seed": wave * 10 + n}) for n in range(3)]
        for child in doomed:
            child.listen(20)
        for child in doomed:
            child.kill()
        for child in (*doomed, *living):
            child.end()
        assert all(child.closed for child in living)
        children += [*living, *doomed]
    replay_all(tmp_path / "own", spool)
    tally.add(audit_folder(out), children)
    assert tally.good, "\n".join([str(tally), *tally.problems])
    for child in children:
        if child.closed:
            assert child.accepted == 120


def test_many_takers_and_one_owner(tmp_path: Path) -> None:
    """Of eight that look at the same moment, exactly one gets each folder."""
    spool = tmp_path / "spool"
    for number in range(10):
        leave(spool, tmp_path, f"{number:024x}", 1, 1, 10)
    taken: list[WriterFolder] = []
    start = threading.Barrier(8)

    def take() -> None:
        start.wait()
        for path in writers(spool):
            try:
                taken.append(WriterFolder(path, make=False))
            except SpoolBusyError:
                continue

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(folder.path.name for folder in taken) == [f"{n:024x}" for n in range(10)]
    for folder in taken:
        folder.close()


def test_entering_does_not_wait_for_a_replay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """100 MiB wait, and a destination that hangs: the handler is there and takes events at once.

    Memory holds a few segments at a time, not all that waits.
    """
    spool, out = tmp_path / "spool", tmp_path / "out"
    monkeypatch.setattr("asynctrack._spool.homes.KEEP_FREE", 0)
    count = leave(spool, out, "0" * 24, segments=30, lines=450, size=9000)
    assert sum(file.stat().st_size for file in spool.rglob("*")) > 100 * MIB
    gate = threading.Event()
    waits = threading.Event()
    original = LocalBackend.put

    async def put(self: LocalBackend, name: str, content: bytes, **options: Any) -> None:
        if name.startswith("dt=") and "0" * 24 in name and not gate.is_set():
            waits.set()
            await _in_thread(gate.wait)
        await original(self, name, content, **options)

    monkeypatch.setattr(LocalBackend, "put", put)
    tracemalloc.start()
    with tracker(tmp_path / "own", spool_dir=str(spool), max_delay=0.05) as handler:
        before, _ = tracemalloc.get_traced_memory()
        chain_end(handler)
        assert waits.wait(120), "the replay has begun"
        assert handler.statistics().replayed == 0, "and hangs, while events are tracked"
        chain_end(handler)
        assert handler.flush()
        assert handler.statistics().delivered == 2
        tracemalloc.reset_peak()
        gate.set()
        until_in_thread(lambda: handler.statistics().replayed == count)
        _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak - before < 40 * MIB, "a few segments of 4 MiB, with all that is made of them"
    assert_exactly_once(audit_folder(out), {"0" * 24: count})


async def _in_thread(wait: Any) -> None:
    import anyio.to_thread

    await anyio.to_thread.run_sync(wait)


def test_damage_in_the_spool_is_named_and_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A tracker delivers what is sound, names what is not, and stays at work."""
    spool, out = tmp_path / "spool", tmp_path / "out"
    leave(spool, out, "a" * 24, segments=2, lines=5, size=10)
    leave(spool, out, "b" * 24, segments=1, lines=5, size=10)
    broken = writer_folder(spool, "a" * 24) / "00000001.open"
    make_rubbish(broken)
    for _ in range(2):  # the next tracker meets it again
        caplog.clear()
        with tracker(tmp_path / "own", spool_dir=str(spool)) as handler:
            chain_end(handler)
            until_in_thread(lambda: "leaves it as it is" in caplog.text)
            until_in_thread(lambda: len(writers(spool)) == 2)
            assert handler.flush()
        assert str(broken) in caplog.text
        assert broken.exists()
        assert end_engine(120.0)  # which tells of one cause once
    audit = audit_folder(out)
    assert audit.writers["a" * 24].seqs == (6, 7, 8, 9, 10)
    assert audit.writers["b" * 24].seqs == (1, 2, 3, 4, 5)
