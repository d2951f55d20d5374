"""What is bounded, and what is shed first. Rows 29, 37, 40 and 41."""

from __future__ import annotations

import struct
import sys
import tracemalloc
import uuid
import zlib
from pathlib import Path

import pytest

from asynctrack import tracker
from asynctrack._segment_format import FORMAT_VERSION
from tests.e2e.waiting import Wall, until_in_thread
from tests.faults.ground import end, finish, outputs, start_child
from tests.support.auditor import audit_folder, events_in_folder

# -- row 29 ---------------------------------------------------------------------------------------

LIMITED = """
    import resource, sys, uuid
    from asynctrack import tracker
    folder, overflow, durability = sys.argv[1:]
    with tracker(folder, overflow=overflow, durability=durability, close_timeout=0.2,
                 max_buffer_bytes=16 << 20, max_spool_bytes=32 << 20) as handler:
        handler.on_chain_end("first", run_id=uuid.uuid4())
        used = int(open("/proc/self/statm").read().split()[0]) * 4096
        # On top of what Python has already: address space, so that nothing can be hidden in it.
        resource.setrlimit(resource.RLIMIT_AS, (used + (192 << 20), used + (192 << 20)))
        text = "x" * 20_000
        for number in range(20_000):
            handler.on_chain_end(text, run_id=uuid.uuid4())
    statistics = handler.statistics()
    assert statistics.balanced
    assert statistics.accepted + sum(statistics.dropped.values()) == 20_001, statistics
    print(statistics.dropped["buffer_full"] > 10_000, flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is one of Linux")
@pytest.mark.parametrize(
    ("overflow", "durability"), [("spool", "process"), ("drop_newest", "memory")]
)
def test_a_memory_limit_with_the_sink_down(overflow: str, durability: str, tmp_path: Path) -> None:
    """400 MB into a tracker that cannot deliver: no MemoryError, drops counted, spool bounded."""
    wall = Wall(tmp_path)
    child = start_child(LIMITED, str(wall.folder), overflow, durability)
    out, errors = finish(child, timeout=120)
    assert (child.returncode, out) == (0, "True\n"), errors
    assert "MemoryError" not in errors
    assert "dropped an event" in errors
    spool = tmp_path / "state" / "asynctrack" / "spool"
    size = sum(path.stat().st_size for path in spool.rglob("*") if path.is_file())
    assert size <= 32 << 20


# -- row 37 ---------------------------------------------------------------------------------------


def test_overload_sheds_tokens_and_starts_first(tmp_path: Path) -> None:
    """Many times what fits, nothing delivered: ends and errors find room when starts do not."""
    wall = Wall(tmp_path)
    with tracker(
        wall.folder,
        overflow="drop_newest",
        durability="memory",
        max_buffer_events=1_000,
        max_batch_events=1_000,
        tokens="each",
        close_timeout=30,
    ) as handler:
        for _ in range(3_000):
            handler.on_llm_new_token("t", run_id=uuid.uuid4())
            handler.on_chain_start(None, "x", run_id=uuid.uuid4())
        assert handler.statistics().accepted == 900, "a tenth is kept"
        for number in range(50):
            end(handler, number)
            handler.on_chain_error(ValueError(number), run_id=uuid.uuid4())
        statistics = handler.statistics()
        assert (statistics.accepted, statistics.dropped) == (1_000, {"buffer_full": 5_100})
        end(handler, "too late")
        assert handler.statistics().dropped == {"buffer_full": 5_101}
        wall.mend()
    kinds = audit_folder(wall.folder).kinds
    assert (kinds["chain_end"], kinds["chain_error"]) == (50, 50)
    assert handler.statistics().delivered == 1_000


# -- row 40 ---------------------------------------------------------------------------------------


def test_a_newer_spool_is_refused_and_kept(
    tmp_path: Path, state_home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A segment of a newer version stays as it is, is named once, and holds no other one up."""
    wall = Wall(tmp_path)
    for value in ("newer", "ours"):
        with tracker(wall.folder, close_timeout=0.2) as handler:
            end(handler, value)
        assert handler.statistics().spooled == 1
    newer, ours = sorted(state_home.rglob("*.idx"))
    header = bytearray(newer.read_bytes())
    struct.pack_into("<H", header, 8, FORMAT_VERSION + 1)
    size = struct.calcsize("<8sHHIQ32s")
    struct.pack_into("<I", header, size, zlib.crc32(bytes(header[:size])))
    newer.write_bytes(header)
    before = {path.name: path.read_bytes() for path in newer.parent.iterdir()}
    wall.mend()
    with tracker(tmp_path / "next") as handler:
        until_in_thread(lambda: handler.statistics().replayed == 1)
    assert outputs(events_in_folder(wall.folder)) == ["ours"]
    assert {path.name: path.read_bytes() for path in newer.parent.iterdir()} == before
    assert not ours.parent.exists()
    told = [r.getMessage() for r in caplog.records if str(newer.parent) in r.getMessage()]
    assert len([text for text in told if "cannot read" in text and "version" in text]) == 1


# -- row 41 ---------------------------------------------------------------------------------------


def test_spans_that_never_end_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Starts without an end: memory stays flat, and spans that do end are still stored whole."""
    import asynctrack._spans as spans

    monkeypatch.setattr(spans.OpenSpans.__init__, "__defaults__", (1_000,))
    with tracker(tmp_path, max_buffer_bytes=1 << 20, max_batch_events=500) as handler:

        def start(count: int) -> None:
            for _ in range(count):
                handler.on_chain_start(None, "x", run_id=uuid.uuid4())

        forgotten = uuid.uuid4()
        handler.on_chain_start(None, "forgotten", run_id=forgotten)
        start(3_000)
        assert handler.flush(30)
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            start(10_000)
            assert handler.flush(30)
            grown = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        assert len(handler._sink.capture._spans) == 1_000
        assert grown < 500_000, f"{grown:,} bytes for 10,000 spans that never ended"
        handler.on_chain_end("late", run_id=forgotten)
    assert "late" in outputs(events_in_folder(tmp_path))
    assert handler.statistics().delivered == 13_002


def test_the_bound_of_open_spans_is_in_force(tmp_path: Path) -> None:
    """A tracker's own bound, which the test above makes smaller, is the one that is documented."""
    from asynctrack._spans import MAX_OPEN_SPANS

    with tracker(tmp_path) as handler:
        assert handler._sink.capture._spans._max_open == MAX_OPEN_SPANS == 100_000
