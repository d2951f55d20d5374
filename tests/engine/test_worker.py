"""The worker: when it cuts, what it uploads, and what it leaves when it cannot go on."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from asynctrack import tracker
from asynctrack._backends.local import LocalBackend
from asynctrack._buffer import buffer
from asynctrack._errors import PermanentError
from asynctrack._spool.segment import Segment
from tests.e2e.chains import CHAIN_EVENTS, joke_chain
from tests.e2e.waiting import Wall, until_in_thread
from tests.support.auditor import audit_folder, events_in_folder

durabilities = pytest.mark.parametrize("durability", ["memory", "process"])


def log(handler: Any, first: int, last: int, text: str = "") -> None:
    for number in range(first, last + 1):
        handler.on_chain_end({"n": number, "text": text}, run_id=uuid.uuid4())


def numbers(folder: Path) -> list[int]:
    return [event["outputs"]["n"] for event in events_in_folder(folder)]


def ranges(folder: Path) -> list[tuple[int, int]]:
    return sorted((found.first_seq, found.last_seq) for found in audit_folder(folder).objects)


def manifest(folder: Path) -> dict[str, Any]:
    (path,) = folder.glob("asynctrack/v1/*/*/_manifest/*.json")
    return dict(json.loads(path.read_bytes()))


@durabilities
def test_a_small_run_is_one_object(durability: str, tmp_path: Path) -> None:
    """A run that is over before the first batch is due lands in one object."""
    with tracker(tmp_path / "out", max_delay=600, durability=durability) as handler:
        for _ in range(10):
            joke_chain().invoke({"topic": "x"}, {"callbacks": [handler]})
    assert ranges(tmp_path / "out") == [(1, 10 * CHAIN_EVENTS)]


@durabilities
def test_batches_by_count(durability: str, tmp_path: Path) -> None:
    """A batch is cut at max_batch_events; the last one holds the rest."""
    out = tmp_path / "out"
    with tracker(out, max_batch_events=40, max_delay=60, durability=durability) as handler:
        log(handler, 1, 100)
    found = ranges(out)
    assert all(last - first + 1 <= 40 for first, last in found)
    assert len(found) == 3
    assert numbers(out) == list(range(1, 101))


@durabilities
def test_batches_by_size(durability: str, tmp_path: Path) -> None:
    """A batch is cut before it is larger than max_batch_bytes."""
    out = tmp_path / "out"
    with tracker(
        out, max_batch_bytes=50_000, max_delay=60, compression="none", durability=durability
    ) as handler:
        log(handler, 1, 125, "x" * 4_000)
    assert max(found.size for found in audit_folder(out).objects) <= 50_000
    assert 11 <= len(ranges(out)) <= 15
    assert numbers(out) == list(range(1, 126))


@durabilities
def test_batches_with_values_by_size(durability: str, tmp_path: Path) -> None:
    """A value counts in each batch that has it, and there is room for the events beside it."""
    out = tmp_path / "out"
    with tracker(
        out, max_batch_bytes=50_000, max_delay=60, compression="none", durability=durability
    ) as handler:
        log(handler, 1, 500, "x" * 20_000)
    assert max(found.size for found in audit_folder(out).objects) <= 50_000
    assert 5 <= len(ranges(out)) <= 10
    assert numbers(out) == list(range(1, 501))


@durabilities
def test_an_event_larger_than_a_batch(durability: str, tmp_path: Path) -> None:
    """An event larger than max_batch_bytes has an object of its own, between its neighbours."""
    out = tmp_path / "out"
    with tracker(out, max_batch_bytes=10_000, durability=durability) as handler:
        log(handler, 1, 3)
        handler.on_chain_end({"n": 4, "text": ["x" * 1_000] * 100}, run_id=uuid.uuid4())
        log(handler, 5, 6)
    assert numbers(out) == [1, 2, 3, 4, 5, 6]
    (large,) = [found for found in audit_folder(out).objects if 4 in found.seqs]
    assert large.seqs == (4,)


def test_batches_by_age(tmp_path: Path) -> None:
    """A batch is cut when its first event is max_delay old, without any call."""
    with tracker(tmp_path / "out", max_delay=0.3) as handler:
        began = time.monotonic()
        log(handler, 1, 5)
        until_in_thread(lambda: handler.statistics().delivered == 5)
        assert time.monotonic() - began >= 0.25


@pytest.mark.parametrize("compression", ["zstd", "gzip", "none"])
def test_compressions(compression: str, tmp_path: Path) -> None:
    """Each compression is read back by tools that know nothing of us."""
    out = tmp_path / "out"
    with tracker(out, compression=compression, max_delay=600) as handler:
        log(handler, 1, 200, "the same again and again")
    suffix = {"zstd": ".jsonl.zst", "gzip": ".jsonl.gz", "none": ".jsonl"}[compression]
    (found,) = audit_folder(out).objects
    assert found.key.endswith(suffix)
    assert numbers(out) == list(range(1, 201))
    assert (found.size > 20_000) == (compression == "none")


def test_the_manifest_lists_what_is_there(tmp_path: Path) -> None:
    """The manifest has every artifact with size and digest, the counters, and says it is closed."""
    out = tmp_path / "out"
    with tracker(out, max_batch_events=10, run_name="r", experiment_name="e") as handler:
        log(handler, 1, 95)
        handler.log_parameters({"lr": 0.1})
        handler.log_metric("m", 2.0)
        handler.log_metric("m", 4.0)
    found = manifest(out)
    assert (found["experiment"], found["run"], found["state"]) == ("e", "r", "closed")
    assert found["accepted"] == found["delivered"] == 98
    assert found["ranges"] == [[1, 98]]
    assert found["parameters"]["lr"] == 0.1
    assert found["metrics"]["m"] == {"count": 2, "sum": 6.0, "min": 2.0, "max": 4.0, "last": 4.0}
    root = out / "asynctrack/v1/experiment=e/run=r"
    listed = {one["name"]: one for one in found["artifacts"]}
    there = {path.relative_to(root).as_posix(): path for path in root.glob("dt=*/*")}
    assert set(listed) == set(there)
    for name, path in there.items():
        content = path.read_bytes()
        assert listed[name]["bytes"] == len(content)
        assert listed[name]["sha256"] == hashlib.sha256(content).hexdigest()


def test_a_long_list_of_artifacts_is_put_aside_in_pages(tmp_path: Path) -> None:
    """More artifacts than a page go into pages of their own; together they list each one once."""
    out = tmp_path / "out"
    with tracker(
        out, max_batch_events=1, run_name="r", experiment_name="e", durability="memory"
    ) as handler:
        log(handler, 1, 1_050)
    root = out / "asynctrack/v1/experiment=e/run=r"
    names = {path.relative_to(root).as_posix() for path in root.glob("dt=*/*")}
    (main,) = [path for path in root.glob("_manifest/*.json") if path.name.count(".") == 1]
    found = json.loads(main.read_bytes())
    pages = [json.loads((root / page).read_bytes()) for page in found["pages"]]
    assert [len(page["artifacts"]) for page in pages] == [1_000]
    listed = [one["name"] for part in (*pages, found) for one in part["artifacts"]]
    assert len(listed) == 1_050
    assert set(listed) == names
    assert found["ranges"] == [[1, 1_050]]


def test_what_is_accepted_is_on_disk_whenever_a_batch_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between a batch and the next one no event is in memory only, however many come in."""
    monkeypatch.setattr(buffer, "SEGMENT_WAIT", 60.0)  # for a machine that does too much at once
    with tracker(tmp_path / "out", max_delay=0.01) as handler:
        for number in itertools.count():
            log(handler, number, number)
            now = handler.statistics()
            assert now.pending == 0
            if now.artifacts > 10:
                break
    assert numbers(tmp_path / "out") == list(range(number + 1))


def test_what_is_refused_and_cannot_be_read_again_stays_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fails as dead letters are set aside keeps them: a later tracker reads them."""
    fails: list[bool] = []
    content, left, put = Segment.content, Segment.left, LocalBackend.put

    def read(self: Segment) -> bytes:
        if fails:
            raise OSError(errno.EIO, "the disk fails")
        return content(self)

    async def refuse(self: LocalBackend, name: str, body: bytes, **more: Any) -> None:
        if "_manifest" in name:
            await put(self, name, body, **more)
        else:
            fails.append(True)
            raise PermanentError("Refused", "for good")

    with monkeypatch.context() as patch:
        patch.setattr(Segment, "content", read)
        patch.setattr(Segment, "left", lambda self: () if fails else left(self))
        patch.setattr(LocalBackend, "put", refuse)
        with tracker(tmp_path / "out", run_name="r") as handler:
            log(handler, 1, 5)
        statistics = handler.statistics()
        assert (statistics.dead_lettered, statistics.balanced) == (5, True)
    with tracker(tmp_path / "out", run_name="next"):
        until_in_thread(lambda: numbers(tmp_path / "out") == [1, 2, 3, 4, 5])


def test_nothing_tracked_leaves_nothing(tmp_path: Path) -> None:
    """A block in which nothing happened leaves no artifact."""
    with tracker(tmp_path / "out"):
        pass
    audit = audit_folder(tmp_path / "out")
    assert (audit.objects, audit.problems) == ((), ())


def test_a_flush_waits_for_what_came_before_it_only(wall: Wall) -> None:
    """A flush under way is not held up by events that come after it."""
    with tracker(wall.folder, max_delay=3600) as handler:
        log(handler, 1, 5)
        flush = handler.flush_tracker()
        log(handler, 6, 9)
        wall.mend()
        assert flush.result(120) is True
        assert handler.statistics().delivered >= 5
    assert numbers(wall.folder) == list(range(1, 10))


@pytest.fixture
def wall(tmp_path: Path) -> Wall:
    """A folder that cannot be written to until it is mended."""
    return Wall(tmp_path)


def test_it_goes_on_when_the_way_is_free(wall: Wall, caplog: pytest.LogCaptureFixture) -> None:
    """What could not be written waits and is written once it can, told once in between."""
    with tracker(wall.folder, max_delay=0.05) as handler:
        log(handler, 1, 5)
        until_in_thread(lambda: caplog.records)
        log(handler, 6, 9)
        assert handler.statistics().delivered == 0
        wall.mend()
        until_in_thread(lambda: handler.statistics().delivered == 9)
    assert numbers(wall.folder) == list(range(1, 10))
    assert len(caplog.records) == 1
