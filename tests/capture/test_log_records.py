"""Log records in the spans around them: kept whole, never in the way, never about ourselves."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from langchain_core.runnables import RunnableLambda

from asynctrack import LogHandler, StructlogProcessor, open_run, tracker
from asynctrack._common.log_record import said_by
from asynctrack._common.own import own_work
from asynctrack._reading.decoding.events import Event
from asynctrack.cli import main
from asynctrack.view._shapes import extra_of
from tests.e2e.waiting import Wall

log = logging.getLogger("shop")


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Loggers are the process's."""
    level, root = log.level, logging.getLogger()
    handlers = list(root.handlers)
    log.setLevel(logging.DEBUG)
    yield
    log.setLevel(level)
    root.handlers[:] = handlers


@pytest.fixture
def listening() -> Iterator[LogHandler]:
    """A handler of the root logger, for whatever tracks where it logs."""
    handler = LogHandler()
    logging.getLogger().addHandler(handler)
    yield handler
    logging.getLogger().removeHandler(handler)


def records(folder: Path) -> list[Event]:
    return [event for event in open_run(folder).events() if event.event == "custom_event"]


def only(folder: Path) -> dict[str, Any]:
    (event,) = records(folder)
    assert isinstance(event.data, dict)
    return event.data


# -- what is kept -------------------------------------------------------------------------------


def test_a_record(tmp_path: Path, listening: LogHandler) -> None:
    """Level, logger, message, place, exception, stack and extras are kept, in the span that it is
    in."""
    with tracker(tmp_path, install=True) as handler, handler.span("buy") as span:
        try:
            raise KeyError("fish")
        except KeyError:
            log.exception("no %s left", "fish", extra={"shelf": 3}, stack_info=True)
    (event,) = records(tmp_path)
    assert (event.name, event.span_id, event.trace_id) == ("log", span.span_id, span.trace_id)
    data = event.data
    assert (data["level"], data["level_number"], data["logger"]) == ("ERROR", 40, "shop")
    assert (data["message"], data["extra"]) == ("no fish left", {"shelf": 3})
    assert data["file"] == __file__ and data["function"] == "test_a_record"
    assert data["exception"]["type"] == "KeyError" and __file__ in data["exception"]["traceback"]
    assert "test_a_record" in data["stack"]


def test_where_it_is(tmp_path: Path) -> None:
    """It is in the innermost span of one's own code or of LangChain's, else by itself."""

    def step(value: int) -> int:
        log.info("step")
        return value

    with tracker(tmp_path) as handler:
        log.addHandler(LogHandler(handler, logging.INFO))
        log.info("alone")
        log.debug("too low")
        with handler.span("request"):
            log.info("request")
            RunnableLambda(step).invoke(1, {"callbacks": [handler]})
        log.removeHandler(log.handlers[-1])
    (trace,) = open_run(tmp_path).traces()
    assert {span.name: [note.data["message"] for note in span.notes] for span in trace.walk()} == {
        "request": ["request"],
        "step": ["step"],
    }
    alone = records(tmp_path)[0]
    assert (alone.data["message"], alone.span_id) == ("alone", None)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("%d fish", "no"), "%d fish"),
        (("%s %s", "one"), "%s %s"),
        ((7,), "7"),
        (({"a": 1},), "{'a': 1}"),
        (("%(a)s", {"a": 1}), "1"),
        (("100 %",), "100 %"),
    ],
)
def test_messages(
    tmp_path: Path,
    listening: LogHandler,
    given: tuple[Any, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Arguments are in the message; where they do not fit it is kept as it is, with them, and
    nothing is printed."""
    listening.setLevel(logging.INFO)
    with tracker(tmp_path, install=True):
        listening.handle(logging.LogRecord("shop", 20, "f", 1, given[0], given[1:], None))
    data = only(tmp_path)
    assert data["message"] == message
    assert ("args" in data) == (message == given[0] and len(given) > 1)
    assert capsys.readouterr().err == ""


def test_secrets(tmp_path: Path, listening: LogHandler) -> None:
    """A record is searched for secrets as everything is."""
    secret = "sk-proj-Zx8Kq2Lm9Vb4Nc7Tw1Rp5Yd3"
    with tracker(tmp_path, install=True):
        log.warning("key %s", secret, extra={"key": secret})
    text = repr([dict(event.raw) for event in records(tmp_path)])
    assert secret not in text and "[REDACTED" in text


# -- structlog ----------------------------------------------------------------------------------


def test_structlog(tmp_path: Path) -> None:
    """Its events are kept with level, logger, exception and all else that is bound, and go on as
    they are."""
    seen: list[Any] = []

    def render(logger: Any, method: str, event: Any) -> Any:
        seen.append(dict(event))
        raise structlog.DropEvent

    with tracker(tmp_path, install=True) as handler:
        shop = structlog.wrap_logger(
            structlog.PrintLogger(),
            processors=[
                structlog.stdlib.add_log_level,
                structlog.processors.StackInfoRenderer(),
                StructlogProcessor(),
                render,
            ],
            wrapper_class=structlog.BoundLogger,
        ).bind(shelf=3)
        with handler.span("buy"):
            shop.info("sold", fish=2)
            try:
                raise KeyError("fish")
            except KeyError as error:
                shop.error("none left", exc_info=True, stack_info=True, logger="shop.fish")
                shop.warning("again", exc_info=error)
    (trace,) = open_run(tmp_path).traces()
    sold, none, again = (note.data for note in trace.root.notes)
    assert sold == {
        "level": "INFO", "level_number": 20, "message": "sold", "extra": {"shelf": 3, "fish": 2},
    }  # fmt: skip
    assert (none["level"], none["logger"], none["message"]) == ("ERROR", "shop.fish", "none left")
    assert none["exception"]["type"] == again["exception"]["type"] == "KeyError"
    assert "test_structlog" in none["stack"] and none["extra"] == {"shelf": 3}
    assert [event["event"] for event in seen] == ["sold", "none left", "again"]
    assert seen[0] == {"event": "sold", "shelf": 3, "fish": 2, "level": "info"}


class Odd:
    """Whatever is asked of it raises."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError("odd")


class Unspeakable:
    def __str__(self) -> str:
        raise RuntimeError("odd")


def test_odd_events_of_structlog(tmp_path: Path) -> None:
    """Nothing that a logger says makes the processor raise."""
    with tracker(tmp_path) as handler:
        processor = StructlogProcessor(handler)
        for event in ({}, {"event": object()}, {"event": "x", "level": Odd(), "exc_info": (1,)}):
            assert processor(Odd(), "msg", event) is event
        names: Any = {"event": "sold", 1: 2}
        processor(None, "info", names)
    assert handler.statistics().balanced
    assert [one.raw["data"].get("extra") for one in open_run(tmp_path).events()][-1] == {"1": 2}


def test_a_record_of_a_logger_without_a_text_for_a_name(tmp_path: Path) -> None:
    """It is stored, whatever its name does when it is asked for its text."""
    with tracker(tmp_path) as handler:
        given = {"name": Unspeakable(), "msg": "sold", "levelno": 20}
        LogHandler(handler).emit(logging.makeLogRecord(given))
    (event,) = open_run(tmp_path).events()
    assert event.raw["data"]["message"] == "sold"


# -- never about ourselves ----------------------------------------------------------------------


def test_our_own_records(tmp_path: Path, listening: LogHandler) -> None:
    """What asynctrack logs, in any thread, is not stored; what a program calls alike is."""
    with tracker(tmp_path, install=True) as handler:
        logging.getLogger("asynctrack").warning("ours")
        logging.getLogger("asynctrack.view").warning("ours")
        with own_work():
            log.warning("of a library that works for us")
        logging.getLogger("asynctracker").warning("not ours")
        StructlogProcessor(handler)(None, "info", {"event": "ours", "logger": "asynctrack"})
    assert only(tmp_path)["message"] == "not ours"
    assert handler.statistics().dropped == {"own_record": 1}


def test_all_that_a_delivery_logs(tmp_path: Path, listening: LogHandler) -> None:
    """With everything logged at DEBUG, delivering a record makes no further one."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.DEBUG)
    try:
        with tracker(tmp_path, install=True) as handler:
            log.debug("one")
            assert handler.flush(120.0)
            assert handler.flush(120.0)
            assert handler.statistics().accepted == 1
    finally:
        root.setLevel(level)


def test_a_record_while_one_is_taken(tmp_path: Path) -> None:
    """An argument that logs as it is made a text is no circle."""
    alone = logging.Logger("alone")  # pytest's own handlers would go round in it

    class Talks:
        def __str__(self) -> str:
            alone.warning("I am %s", self)
            return "a fish"

    with tracker(tmp_path) as handler:
        alone.addHandler(LogHandler(handler))
        alone.warning("%s", Talks())
    assert only(tmp_path)["message"] == "a fish"


# -- never in the way ---------------------------------------------------------------------------


@pytest.mark.parametrize("asynchronous", [False, True])
def test_it_never_waits(tmp_path: Path, listening: LogHandler, asynchronous: bool) -> None:
    """With the buffer full, records are dropped and counted, those below ERROR first; no thread and
    no event loop waits."""
    wall = Wall(tmp_path)
    options: Any = {
        "durability": "memory", "overflow": "block", "max_buffer_events": 11,
        "max_batch_events": 5, "close_timeout": 0.0, "install": True,
    }  # fmt: skip

    def say(handler: Any) -> None:
        for _ in range(20):
            log.info("much")
        assert handler.statistics().accepted == 10
        log.error("more")
        log.error("too much")
        assert handler.statistics().accepted == 11
        assert handler.statistics().dropped == {"buffer_full": 11}

    async def run() -> None:
        async with tracker(wall.folder, **options) as handler:
            say(handler)

    if asynchronous:
        asyncio.run(run())
    else:
        with tracker(wall.folder, **options) as handler:
            say(handler)


def test_after_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A handler that outlives its tracker counts what comes, and one that finds none does nothing;
    neither prints."""
    with tracker(tmp_path) as handler:
        late = LogHandler(handler)
    log.addHandler(late)
    log.addHandler(LogHandler())
    log.warning("late")
    del log.handlers[-2:]
    assert capsys.readouterr().err == ""
    assert handler.statistics().dropped == {"closed": 1}


def test_many_threads(tmp_path: Path, listening: LogHandler) -> None:
    """Each thread's records are in its own span."""
    with tracker(tmp_path, install="process") as handler:

        def work(number: int) -> None:
            with handler.span(f"{number}"):
                for _ in range(20):
                    log.info("%d", number)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    traces = list(open_run(tmp_path).traces())
    assert len(traces) == 4
    for trace in traces:
        assert [note.data["message"] for note in trace.root.notes] == [trace.root.name] * 20


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_in_a_forked_child(tmp_path: Path, listening: LogHandler) -> None:
    """A child's records are in the span that it was forked in, by a writer of its own."""
    with tracker(tmp_path, install=True) as handler, handler.span("request") as span:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                log.warning("in the child")
                handler.flush(120.0)
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
    (event,) = records(tmp_path)
    assert (event.data["message"], event.span_id) == ("in the child", span.span_id)


def test_at_the_interpreters_end(tmp_path: Path) -> None:
    """What is logged by what runs last of all prints no traceback."""
    code = f"""
import atexit, logging, weakref
import asynctrack
log = logging.getLogger("shop")
log.addHandler(asynctrack.LogHandler())
log.propagate = False
class Last:
    def __del__(self):
        log.warning("last of all")
last = Last()
last.itself = last
atexit.register(log.warning, "at exit")
with asynctrack.tracker({str(tmp_path)!r}, install="process"):
    log.warning("as usual")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=120, capture_output=True, text=True
    )
    assert done.stderr == "" and only(tmp_path)["message"] == "as usual"


# -- shown --------------------------------------------------------------------------------------


def test_shown_with_their_spans(
    tmp_path: Path, listening: LogHandler, capsys: pytest.CaptureFixture[str]
) -> None:
    """`asynctrack trace` shows level, logger and message below the span, some of many; `tail` and
    an exported page do, too; with --full all of them."""
    with tracker(tmp_path / "runs", install=True) as handler, handler.span("buy") as span:
        log.warning("no \x1b[31mfish")
        for number in range(6):
            log.info("item %d", number)
        handler.log("log", {"level": "mine"})
    folder = str(tmp_path / "runs")
    assert main(["trace", folder, str(span.trace_id)]) == 0
    shown = capsys.readouterr().out
    assert "log: WARNING shop: no " in shown and "\x1b" not in shown
    assert "item 3" in shown and "item 4" not in shown and "2 more: --full" in shown
    assert main(["trace", folder, str(span.trace_id), "--full"]) == 0
    shown = capsys.readouterr().out
    assert "item 5" in shown and "mine" in shown and "more: --full" not in shown
    assert main(["tail", folder, "-n", "all", "--until-closed"]) == 0
    shown = capsys.readouterr().out
    assert "INFO shop: item 5" in shown
    assert [line.split()[2] for line in shown.splitlines() if "chain_end" in line] == ["buy"]
    page = tmp_path / "page.html"
    assert main(["export", folder, "--format", "html", "--output", str(page)]) == 0
    assert "INFO shop: item 5" in page.read_text("utf-8")


def test_shown_in_the_viewer(tmp_path: Path, listening: LogHandler) -> None:
    """Its page of a span has records as lines, and other notes apart from them."""
    with tracker(tmp_path, install=True) as handler, handler.span("buy"):
        log.warning("no fish")
        try:
            raise KeyError("fish")
        except KeyError:
            log.exception("none")
        handler.log("mine", 1)
    (trace,) = open_run(tmp_path).traces()
    shown = extra_of({"notes": [dict(note.raw) for note in trace.root.notes]})
    assert shown["log"] == "WARNING shop: no fish\nERROR shop: none (KeyError: 'fish')"
    assert '"mine"' in shown["notes"] and "no fish" not in shown["notes"]
    assert extra_of({"notes": ["odd", {"event": 1, "data": []}]}).keys() == {"notes"}


@pytest.mark.parametrize(
    "data",
    [None, "x", [], {}, {"level": 1, "message": "x"}, {"level": "x"}, {"message": "x"}],
)
def test_what_is_no_record(data: Any) -> None:
    """A custom event of the program's that has this name is shown as it is."""
    assert said_by("custom_event", "log", data) is None
    assert said_by("chain_start", "log", {"level": "INFO", "message": "x"}) is None


def test_an_odd_record() -> None:
    """Fields that anybody may have logged are taken as they are meant, or not at all."""
    data = {"level": "X", "message": "m", "logger": 3, "level_number": "9", "exception": {"a": 1}}
    said = said_by("custom_event", "log", data)
    assert said is not None and said.line == "X: m" and said.number == 0
