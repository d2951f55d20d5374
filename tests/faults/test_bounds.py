"""What is bounded, what is shed first, and what waits. Rows 29, 37, 40 and 41."""

from __future__ import annotations

import asyncio
import shutil
import sys
import threading
import tracemalloc
import uuid
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import anyio
import pytest
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.outputs import LLMResult
from langchain_core.runnables import RunnableLambda

from asynctrack import open_run, tracker
from asynctrack._buffer.buffer import Buffer
from asynctrack._spool.homes import Homes
from asynctrack._spool.segment_format import FORMAT_VERSION, HEADER_BYTES
from tests.e2e.waiting import Wall, until, until_in_thread
from tests.faults.ground import elsewhere, end, finish, outputs, start_child
from tests.support.auditor import audit_folder, events_in_folder
from tests.support.scale import at_scale

# -- row 29 ---------------------------------------------------------------------------------------

LIMITED = """
    import resource, sys, uuid
    from asynctrack import open_run, tracker
    folder, overflow, durability = sys.argv[1:]

    def data():
        lines = open("/proc/self/status").read().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmData:"))

    with tracker(folder, overflow=overflow, durability=durability, close_timeout=0.2,
                 max_buffer_bytes=16 << 20, max_spool_bytes=32 << 20) as handler:
        handler.on_chain_end("first", run_id=uuid.uuid4())
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        # On top of what Python has already: address space, so that nothing can be hidden in it.
        resource.setrlimit(resource.RLIMIT_AS, (used + (192 << 20), used + (192 << 20)))
        text, before = "x" * 20_000, data()
        for number in range(20_000):
            handler.on_chain_end(f"{number} {text}", run_id=uuid.uuid4())  # nothing is shared
        # What waits, what is remembered and not written, and half as much between them.
        assert data() - before < 64 << 20, data() - before
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
    out, errors = finish(child, timeout=240)
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
    # As it closes, with room again, it also says which spans never ended.
    assert handler.statistics().delivered == 1_000 + kinds["span_abandoned"] == 4_000


# -- memory full, and the disk not -----------------------------------------------------------------


def test_a_burst_waits_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Far more than memory takes, at once, nothing delivered: on disk, and nothing is dropped."""
    monkeypatch.setattr("asynctrack._engine.sink.SPOOL_WAIT", 120.0)
    wall = Wall(tmp_path)
    with tracker(wall.folder, max_buffer_bytes=64 << 10, close_patience=0.2) as handler:
        for number in range(400):
            end(handler, f"{number} {'x' * 5_000}")  # nothing is shared
        statistics = handler.statistics()
        assert (statistics.accepted, statistics.dropped) == (400, {})
        assert statistics.pending * 5_000 <= 64 << 10
    assert handler.statistics().spooled == 400


def test_a_burst_awaits_the_disk_in_any_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for many tasks at once, and with chain.invoke in the middle of a running loop."""
    monkeypatch.setattr("asynctrack._engine.sink.SPOOL_WAIT", 120.0)
    wall = Wall(tmp_path)
    chain = RunnableLambda(lambda value: value)

    async def main() -> Any:
        options: Any = {"max_buffer_bytes": 64 << 10, "close_timeout": 0.2}
        async with tracker(wall.folder, **options) as handler:
            config: Any = {"callbacks": [handler]}
            with anyio.fail_after(240):
                await asyncio.gather(*(chain.ainvoke("y" * 5_000, config) for _ in range(100)))
                for _ in range(100):
                    chain.invoke("z" * 5_000, config)
            return handler.statistics()

    statistics = elsewhere(main)
    assert (statistics.accepted, statistics.dropped) == (400, {})


def test_a_burst_into_a_disk_that_refuses_does_not_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the disk has said no, what does not fit into memory is dropped at once, and counted."""
    usage = type(shutil.disk_usage(tmp_path))
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(1 << 40, 1 << 40, 0))
    monkeypatch.setattr("asynctrack._engine.sink.SPOOL_WAIT", 3600.0)
    wall = Wall(tmp_path)
    with tracker(wall.folder, max_buffer_bytes=64 << 10, close_timeout=0.2) as handler:
        for number in range(100):
            end(handler, f"{number} {'x' * 5_000}")  # nothing is shared
        statistics = handler.statistics()
    assert statistics.balanced and 5 <= statistics.accepted <= 13
    assert statistics.dropped == {"buffer_full": 100 - statistics.accepted}


def test_a_full_spool_does_not_make_callbacks_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With max_spool_bytes reached, the rest is dropped and counted, and nobody waits for it."""
    monkeypatch.setattr("asynctrack._engine.sink.SPOOL_WAIT", 3600.0)
    wall = Wall(tmp_path)
    options: dict[str, Any] = {"max_buffer_bytes": 64 << 10, "max_spool_bytes": 16 << 20}
    with tracker(wall.folder, close_timeout=0.2, **options) as handler:
        for number in range(2_000):
            end(handler, f"{number} {'x' * 20_000}")  # nothing is shared
        statistics = handler.statistics()
    assert statistics.balanced and statistics.accepted + statistics.dropped["buffer_full"] == 2_000
    assert 400 <= statistics.accepted <= 850


def test_a_disk_that_hangs_holds_callbacks_up_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither taken nor refused: one callback waits its time, the others drop at once."""
    wall = Wall(tmp_path)
    hanging = threading.Event()
    here = tracker(wall.folder, max_buffer_bytes=64 << 10, close_timeout=0.2)
    waits: list[str] = []
    make = Homes.make

    def hang(self: Homes, *arguments: int) -> Any:
        hanging.wait(240)
        return make(self, *arguments)

    enqueue = Buffer.enqueue

    def counted(self: Buffer, waiter: Any) -> str | None:
        waits.append("waits")
        return enqueue(self, waiter)

    with here as handler:
        until_in_thread(lambda: handler._sink._buffer.segment_wanted() is None)
        monkeypatch.setattr(Homes, "make", hang)
        monkeypatch.setattr(Buffer, "enqueue", counted)
        monkeypatch.setattr("asynctrack._engine.sink.SPOOL_WAIT", 0.05)
        for number in range(300):
            end(handler, f"{number} {'x' * 5_000}")  # nothing is shared
        dropped = handler.statistics().dropped
        hanging.set()
    assert len(waits) == 1 and dropped["buffer_full"] > 100
    assert handler.statistics().balanced


# -- row 40 ---------------------------------------------------------------------------------------


def test_a_newer_spool_is_refused_and_kept(
    tmp_path: Path, state_home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A segment of a newer version stays as it is, is named once, and holds no other one up."""
    wall = Wall(tmp_path)
    for value in ("newer", "ours"):
        with tracker(wall.folder, close_patience=0.2) as handler:
            end(handler, value)
        assert handler.statistics().spooled == 1
    newer, ours = sorted(state_home.rglob("0*.*"))
    text = (b"ATSPOOL %d " % (FORMAT_VERSION + 1)).ljust(HEADER_BYTES - 9)
    newer.write_bytes(text + b"%08x\n" % zlib.crc32(text) + newer.read_bytes()[HEADER_BYTES:])
    before = {path.name: path.read_bytes() for path in newer.parent.iterdir()}
    wall.mend()
    with tracker(tmp_path / "next") as handler:
        until_in_thread(lambda: handler.statistics().replayed == 1 and not ours.parent.exists())
    assert outputs(events_in_folder(wall.folder)) == ["ours"]
    assert {path.name: path.read_bytes() for path in newer.parent.iterdir()} == before
    assert not ours.parent.exists()
    told = [r.getMessage() for r in caplog.records if str(newer.parent) in r.getMessage()]
    assert len([text for text in told if "cannot read" in text and "version" in text]) == 1


# -- row 41 ---------------------------------------------------------------------------------------


def test_spans_that_never_end_are_bounded_and_abandoned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Starts without an end: memory stays flat, each is said to be abandoned, late ends count."""
    import asynctrack._capture.spans as spans

    monkeypatch.setattr(spans.OpenSpans.__init__, "__defaults__", (1_000,))
    with tracker(tmp_path, max_buffer_bytes=1 << 20, max_batch_events=500) as handler:

        def start(count: int) -> None:
            for number in range(count):
                handler.on_chain_start(None, "x", run_id=uuid.uuid4())
                if number % 500 == 499:  # with memory full, what is abandoned would be dropped
                    assert handler.flush(120)

        forgotten = uuid.uuid4()
        handler.on_chain_start(None, "forgotten", run_id=forgotten)
        start(3_000)
        assert handler.flush(120)
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            start(10_000)
            assert handler.flush(120)
            grown = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        assert 1_000 <= len(handler._sink.capture.events.spans) <= 2_000
        # Ten thousand that were kept would take two million and more.
        assert grown < 1_000_000, f"{grown:,} bytes for 10,000 spans that never ended"
        handler.on_chain_end("late", run_id=forgotten)
    events = events_in_folder(tmp_path)
    assert "late" in outputs(events)
    started = {event["span_id"] for event in events if event["event"] == "chain_start"}
    abandoned = [event["span_id"] for event in events if event["event"] == "span_abandoned"]
    assert len(started) == 13_001 and sorted(abandoned) == sorted(started), "each once"
    statistics = handler.statistics()
    assert statistics.delivered == statistics.accepted == 26_003 and not statistics.dropped
    run = open_run(tmp_path)
    statuses = Counter(span.outcome for trace in run.traces() for span in trace.walk())
    assert statuses == {"abandoned": 13_000, "ok": 1}


class Cancelled(GenericFakeChatModel):
    """Streams some tokens, and is cancelled then."""

    messages: Any = ()
    hanging: int = 0

    async def _agenerate(self, messages: Any, *_: Any, run_manager: Any, **__: Any) -> Any:
        for _ in range(3):
            await run_manager.on_llm_new_token("some text of a token")
        self.hanging += 1
        await asyncio.sleep(3600)


def test_model_calls_that_are_cancelled_leave_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 55: LangChain tells nobody. Spans and streams stay flat, and the next one is whole."""
    import asynctrack._capture.spans as spans
    import asynctrack._capture.streams as streams

    monkeypatch.setattr(spans.OpenSpans.__init__, "__defaults__", (500,))
    monkeypatch.setattr(streams, "MAX_OPEN_STREAMS", 500)
    monkeypatch.setattr(streams, "SILENCE", 0, raising=False)
    calls = at_scale(3_000, 1_000_000)

    async def main() -> None:
        async with tracker(tmp_path, max_batch_events=1_000) as handler:
            capture = handler._sink.capture.events
            capture.streams._max_streams = 200_000
            model = Cancelled()
            for _ in range(calls // 100):
                under_way = [
                    asyncio.create_task(model.ainvoke("x", {"callbacks": [handler]}))
                    for _ in range(100)
                ]
                await until(lambda: model.hanging == 100)
                model.hanging = 0
                for one in under_way:
                    one.cancel()
                await asyncio.gather(*under_way, return_exceptions=True)
                await handler.flush(120)
                assert len(capture.spans) <= 1_000
                assert len(capture.streams._open) + len(capture.streams._let_go) <= 1_001
            run_id = uuid.uuid4()
            await handler.on_chat_model_start({}, [[]], run_id=run_id)
            for _ in range(100):
                await handler.on_llm_new_token("good", run_id=run_id)
            await handler.on_llm_end(LLMResult(generations=[]), run_id=run_id)
        assert handler.statistics().balanced and not handler.statistics().dropped

    asyncio.run(main())
    (whole,) = [one for one in events_in_folder(tmp_path) if one["event"] == "llm_end"]
    assert whole["data"]["stream"]["text"] == "good" * 100


def test_the_bound_of_open_spans_is_in_force(tmp_path: Path) -> None:
    """A tracker's own bound, which the test above makes smaller, is the one that is documented."""
    from asynctrack._capture.spans import MAX_OPEN_SPANS

    with tracker(tmp_path) as handler:
        assert handler._sink.capture.events.spans._max_open == MAX_OPEN_SPANS == 100_000


def test_what_is_open_when_the_tracker_closes_is_abandoned(tmp_path: Path) -> None:
    """Also with the text that had been streamed until then."""
    with tracker(tmp_path) as handler:
        model, chain = uuid.uuid4(), uuid.uuid4()
        handler.on_chain_start(None, "x", run_id=chain)
        handler.on_llm_start(None, ["x"], run_id=model, parent_run_id=chain)
        handler.on_llm_new_token("until ", run_id=model)
        handler.on_llm_new_token("then", run_id=model)
    first, event = [e for e in events_in_folder(tmp_path) if e["event"] == "span_abandoned"]
    assert (first["span_id"], event["span_id"]) == (str(chain), str(model))
    assert event["trace_id"] == str(chain)
    assert event["data"]["reason"] == "closed" and event["data"]["open_seconds"] > 0
    assert event["data"]["stream"]["text"] == "until then"


def test_abandoned_with_the_server_down_is_on_disk(tmp_path: Path) -> None:
    """Closing in vain still says it, in the spool, and the next tracker delivers it."""
    wall = Wall(tmp_path)
    with tracker(wall.folder, close_patience=0.2) as handler:
        for _ in range(5):
            handler.on_chain_start(None, "x", run_id=uuid.uuid4())
    assert handler.statistics().spooled == 10 and handler.statistics().pending == 0
    wall.mend()
    with tracker(tmp_path / "next") as handler:
        until_in_thread(lambda: handler.statistics().replayed == 10)
    assert audit_folder(wall.folder).kinds["span_abandoned"] == 5


def test_too_many_spans_and_no_room_to_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What can be said neither now nor later is counted as dropped: nothing goes silently."""
    import asynctrack._capture.spans as spans

    monkeypatch.setattr(spans.OpenSpans.__init__, "__defaults__", (100,))
    wall = Wall(tmp_path)
    options = {"overflow": "drop_newest", "durability": "memory", "close_timeout": 0.2}
    with tracker(wall.folder, max_buffer_events=500, **options) as handler:
        for _ in range(1_000):
            handler.on_chain_start(None, "x", run_id=uuid.uuid4())
    statistics = handler.statistics()
    starts, said = 1_000, 1_000 - 200  # twice the bound is kept until the end
    assert statistics.accepted + statistics.dropped["buffer_full"] == starts + said
