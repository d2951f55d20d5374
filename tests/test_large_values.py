"""Large values on their way: the callback does not wait for them, and nothing overtakes them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import os
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from asynctrack import open_run, tracker
from tests.e2e.waiting import Wall, until, until_in_thread
from tests.support.auditor import audit_folder, events_in_folder

durabilities = pytest.mark.parametrize("durability", ["memory", "process", "power"])
MIB = 1 << 20


def text(number: int, size: int = 5 * MIB) -> str:
    """A text that no other number has."""
    return f"{number:06} " + "words " * (size // 6)


def end(handler: Any, value: Any) -> Any:
    """One event through a handler."""
    return handler.on_chain_end(value, run_id=uuid.uuid4())


class Gate:
    """A redact function that waits with large texts until it is opened."""

    def __init__(self) -> None:
        self.threads: list[str] = []
        self._open = threading.Event()

    def __call__(self, given: str) -> str:
        if len(given) > 100_000:
            self.threads.append(threading.current_thread().name)
            assert self._open.wait(60)
        return given

    def open(self) -> None:
        """Let them through from now on."""
        self._open.set()


@pytest.fixture
def gate() -> Iterator[Gate]:
    """One that is open in the end."""
    made = Gate()
    yield made
    made.open()


def outputs(folder: Path) -> list[Any]:
    """What was delivered, in the order of the numbers."""
    audit = audit_folder(folder)
    assert [text for text in audit.problems if "the span " not in text] == []
    return [event.get("outputs") for event in events_in_folder(folder)]


@durabilities
def test_no_callback_waits_for_a_large_text(gate: Gate, durability: str, tmp_path: Path) -> None:
    """It is another thread's; later events keep their numbers, and all adds up at each moment."""
    given = [text(1), "a", {"b": [text(2)]}, "c"]
    with tracker(tmp_path / "out", redact=gate, durability=durability) as handler:
        for number, one in enumerate(given, 1):
            end(handler, one)
            now = handler.statistics()
            assert now.balanced and now.accepted == number
        assert now.pending + now.spooled == 4 and now.delivered == 0
        assert now.waiting_bytes > 10 * MIB, "counted before it is encoded"
        until_in_thread(lambda: gate.threads)
        gate.open()
        assert handler.flush()
        done = handler.statistics()
        assert done.delivered == 4 and done.waiting_bytes == 0
    assert threading.current_thread().name not in gate.threads
    assert outputs(tmp_path / "out") == given


@durabilities
def test_it_is_the_value_of_its_moment(gate: Gate, durability: str, tmp_path: Path) -> None:
    """What holds large texts may change once the callback has returned."""
    state: dict[str, Any] = {"text": text(1), "messages": [{"content": text(2)}], "n": 1}
    with tracker(tmp_path / "out", redact=gate, durability=durability) as handler:
        end(handler, state)
        state["messages"].append({"content": text(3)})
        state["messages"][0]["content"] = "other"
        state["n"] = 2
        end(handler, state)
        gate.open()
    first, second = outputs(tmp_path / "out")
    assert first == {"text": text(1), "messages": [{"content": text(2)}], "n": 1}
    assert second["messages"] == [{"content": "other"}, {"content": text(3)}]


def test_memory_is_counted_before(gate: Gate, tmp_path: Path) -> None:
    """``max_buffer_bytes`` holds for what is not encoded yet: the next one is dropped, counted."""
    options: Any = {"max_buffer_bytes": 8 * MIB, "overflow": "drop_newest", "durability": "memory"}
    with tracker(tmp_path / "out", redact=gate, **options) as handler:
        end(handler, text(1))
        end(handler, text(2))
        end(handler, "small")
        now = handler.statistics()
        assert now.balanced and now.accepted == 2
        assert now.dropped == {"buffer_full": 1}
        gate.open()
    assert outputs(tmp_path / "out") == [text(1), "small"]


def test_who_waits_for_room_gets_it_when_one_is_finished(gate: Gate, tmp_path: Path) -> None:
    """Callbacks that wait behind large values go on, in order; one that is cancelled is let go."""

    async def main() -> None:
        options: Any = {"max_buffer_bytes": 8 * MIB, "overflow": "block", "durability": "memory"}
        async with tracker(tmp_path / "out", redact=gate, **options) as handler:
            await end(handler, text(1))
            waiting = [asyncio.create_task(end(handler, text(number))) for number in (2, 3, 4)]
            await until(lambda: handler._sink._buffer.counts().waiting == 3)
            waiting[1].cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await waiting[1]
            assert handler.statistics().balanced
            gate.open()
            await asyncio.gather(waiting[0], waiting[2])

    asyncio.run(main())
    assert outputs(tmp_path / "out") == [text(1), text(2), text(4)]


@pytest.mark.parametrize("durability", ["process", "power"])
def test_what_is_not_delivered_in_time_is_on_disk(durability: str, tmp_path: Path) -> None:
    """close_timeout is over and nothing can be delivered: the next tracker finds large values."""
    wall, spool = Wall(tmp_path), tmp_path / "spool"
    given = [
        text(1),
        "a",
        {"b": text(1)},
        [{"content": text(number, 2_000)} for number in range(9)],
    ]
    options: Any = {"durability": durability, "spool_dir": str(spool)}
    with tracker(wall.folder, close_timeout=2.0, **options) as handler:
        for one in given:
            end(handler, one)
        # When the time is over, the disk gets no more than a moment.
        until_in_thread(lambda: handler.statistics().spooled == 4)
    left = handler.statistics()
    assert left.balanced and (left.spooled, left.pending) == (4, 0)
    wall.mend()
    with tracker(tmp_path / "other", **options) as handler:
        until_in_thread(lambda: handler.statistics().replayed == 4)
    assert outputs(wall.folder) == given


@durabilities
def test_who_logs_while_a_value_is_finished_comes_in_behind(
    durability: str, tmp_path: Path
) -> None:
    """The user's function logs large values itself, in the midst of the search: no deadlock."""
    handlers: list[Any] = []

    def redact(given: str) -> str:
        if len(given) > 100_000 and given.startswith("000001") and handlers:
            handler = handlers.pop()
            end(handler, text(2))
            end(handler, "small")
        return given

    with tracker(tmp_path / "out", redact=redact, durability=durability) as handler:
        handlers.append(handler)
        end(handler, text(1))
        until_in_thread(lambda: handler.statistics().accepted == 3)
        assert handler.flush()
    assert outputs(tmp_path / "out") == [text(1), text(2), "small"]


class Logs:
    """Logs a large value when it is collected."""

    def __init__(self, handler: Any, number: int) -> None:
        self.handler = handler
        self.number = number
        self.self = self

    def __del__(self) -> None:
        end(self.handler, text(self.number, MIB))


@durabilities
def test_a_finalizer_may_log_a_large_value(durability: str, tmp_path: Path) -> None:
    """Wherever the collector runs, in the worker's thread too; each is there once."""

    def redact(given: str) -> str:
        gc.collect()
        return given

    with tracker(tmp_path / "out", redact=redact, durability=durability) as handler:
        for number in range(1, 6):
            Logs(handler, number)
            end(handler, text(100 + number, MIB))
        gc.collect()
        assert handler.statistics().balanced
    found = outputs(tmp_path / "out")
    wanted = [text(number, MIB) for one in range(1, 6) for number in (one, 100 + one)]
    assert sorted(found) == sorted(wanted)


@durabilities
def test_many_threads_log_the_same_large_values(durability: str, tmp_path: Path) -> None:
    """They share what is remembered; each thread's own events keep their order."""
    shared = [text(number, 300_000) for number in range(4)]
    messages = [{"content": text(number, 1_000)} for number in range(20)]
    options: Any = {"durability": durability, "max_batch_bytes": 700_000}
    with tracker(tmp_path / "out", **options) as handler:

        def work(name: int) -> None:
            for number in range(30):
                some = messages[: 8 + (name + number) % 12]
                end(handler, [name, number, shared[(name + number) % 4], some])

        threads = [threading.Thread(target=work, args=(name,)) for name in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found = outputs(tmp_path / "out")
    assert len(found) == 150
    for name in range(5):
        assert [one[1] for one in found if one[0] == name] == list(range(30))
    for name, number, large, some in found:
        assert large == shared[(name + number) % 4]
        assert some == messages[: 8 + (name + number) % 12]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:unclosed <asynctrack:ResourceWarning")
def test_a_fork_while_a_value_is_finished(gate: Gate, tmp_path: Path) -> None:
    """The child has a writer of its own and none of the parent's values under way."""
    with tracker(tmp_path / "out", redact=gate) as handler:
        end(handler, text(1))
        until_in_thread(lambda: gate.threads)
        child = os.fork()
        if child == 0:
            status = 1
            with contextlib.suppress(BaseException):
                gate.open()
                end(handler, text(2))
                status = 0 if handler.flush() else 2
            os._exit(status)
        _, status = os.waitpid(child, 0)
        assert status == 0
        end(handler, "after")
        gate.open()
    audit = audit_folder(tmp_path / "out")
    assert sorted(len(one.seqs) for one in audit.writers.values()) == [1, 2]
    assert sorted(outputs(tmp_path / "out")) == sorted([text(1), text(2), "after"])


def test_every_form_of_a_value_is_read_back(tmp_path: Path) -> None:
    """Texts, bytes that are one and that are none, lists, and what a redact function refuses."""

    def refuse(given: str) -> str:
        if given.startswith("refuse "):
            raise ValueError(given)
        return given

    words = "some words " * 900
    rows = [{"number": number, "text": "x" * 600} for number in range(9)]
    cut = {"$cut": "redaction", "error": "ValueError"}
    given = {
        "text": words,
        "bytes": b"\x00\xff" * 4_000,
        "utf8": words.encode(),
        "rows": rows,
        "refused": f"refuse {words}",
        "refused rows": [{"text": f"refuse {words[:600]}"}, *rows],
    }
    with tracker(tmp_path / "out", redact=refuse, run_name="r") as handler:
        end(handler, given)
    run = open_run(tmp_path / "out")
    found = [event.outputs for event in run.events(kind="chain_end")]
    binary = {"$type": "bytes", "base64": base64.b64encode(given["bytes"]).decode()}
    assert found == [
        {
            "text": words,
            "bytes": binary,
            "utf8": {"$type": "bytes", "utf8": words},
            "rows": rows,
            "refused": cut,
            "refused rows": [cut] * 10,
        }
    ]
    assert run.problems == ()
