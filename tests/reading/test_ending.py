"""How a span ended, by its last event, also of events that an earlier version has stored."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from asynctrack._reading.decoding.events import Event
from asynctrack._reading.trees.build import Pairs, build_traces
from asynctrack._reading.trees.ending import duration_of, exception_of, verdict_on
from tests.reading.making import event
from tests.reading.test_build import Log, only


def made(kind: str, **fields: Any) -> Event:
    """An event."""
    return Event(event(1, kind=kind, span_id="s", **fields))


def raised(kind: str, message: str = "", **fields: Any) -> Event:
    """The error of a chain."""
    return made("chain_error", error={"type": kind, "message": message}, **fields)


@pytest.mark.parametrize(
    ("end", "verdict"),
    [
        (made("chain_end"), ("ok", None)),
        (raised("ValueError"), ("error", None)),
        (made("chain_error"), ("error", None)),
        (raised("asyncio.exceptions.CancelledError"), ("cancelled", "cancel")),
        (raised("langgraph.errors.GraphInterrupt"), ("interrupted", "pause")),
        (raised("X", outcome="interrupted", cause="handoff"), ("interrupted", "handoff")),
        (raised("X", outcome="cancelled", cause="timeout"), ("cancelled", "timeout")),
        (raised("X", outcome="cancelled"), ("cancelled", None)),
        (raised("X", outcome="unheard of", cause="timeout"), ("error", None)),
        (raised("X", outcome="cancelled", cause=["odd"]), ("cancelled", None)),
        (raised("X", outcome={"odd": 1}), ("error", None)),
        (made("tool_end", outcome="error", outputs="no"), ("error", None)),
    ],
)
def test_an_end_says_how_it_was(end: Event, verdict: object) -> None:
    """What the writer says counts; without it, the type of the exception does."""
    assert verdict_on(end, None) == verdict


def test_without_an_end() -> None:
    """Unfinished; abandoned where the writer says so; cancelled where its parent has ended."""
    assert verdict_on(None, None) == ("unfinished", None)
    for reason, verdict in (
        ("closed", ("abandoned", None)),
        ("too_many", ("abandoned", None)),
        ("parent_ended", ("cancelled", "parent_ended")),
    ):
        gone = made("span_abandoned", data={"reason": reason, "open_seconds": 2.5})
        assert verdict_on(None, gone) == verdict
        assert verdict_on(made("chain_end"), gone) == ("ok", None)
        assert duration_of(None, None, gone) == 2.5


REPORTS = {
    "message": {"type": "tool", "status": "error", "content": "no"},
    "blocks": {"type": "tool", "status": "error", "content": [{"type": "text", "text": "no"}, "1"]},
    "the last one": [{"type": "tool", "status": "success"}, {"type": "tool", "status": "error"}],
    "mcp": {"isError": True, "content": [{"type": "text", "text": "no"}, {"type": "image"}]},
    "command": {"update": {"messages": [{"type": "tool", "status": "error", "content": "no"}]}},
}


SAID = {"blocks": "no\n1", "the last one": ""}


@pytest.mark.parametrize("shape", REPORTS)
def test_a_tool_reports_its_error(shape: str) -> None:
    """In a message, a list of them, an MCP result or a command; of other spans it is an answer."""
    outputs: Any = REPORTS[shape]
    end = made("tool_end", outputs=outputs)
    assert verdict_on(end, None) == ("error", None)
    error = exception_of(end)
    assert error is not None
    assert error.type == ("CallToolResult" if shape == "mcp" else "ToolMessage")
    assert error.message == SAID.get(shape, "no")
    assert verdict_on(made("chain_end", outputs=outputs), None) == ("ok", None)
    assert exception_of(made("chain_end", outputs=outputs)) is None


@pytest.mark.parametrize(
    "outputs",
    [
        None, "error", 5, [], {}, {"status": "error"}, {"type": "tool", "status": "success"},
        [{"type": "tool", "status": "error"}, {"type": "tool", "status": "success"}],
        {"isError": "yes"}, {"isError": False}, {"update": [1]}, {"update": {"messages": "x"}},
        [[[[[[[[{"isError": True}]]]]]]]],
    ],
    ids=str,
)  # fmt: skip
def test_other_answers_of_tools_are_none(outputs: Any) -> None:
    """Only what is known to say so is an error."""
    assert verdict_on(made("tool_end", outputs=outputs), None) == ("ok", None)


def test_a_message_without_words() -> None:
    """An exception that has an object for its text says nothing; its type does."""
    error = exception_of(raised("asyncio.exceptions.CancelledError", "<object object at 0x7f01ab>"))
    assert error is not None
    assert (error.message, error.line) == ("", "asyncio.exceptions.CancelledError")
    error = exception_of(raised("ValueError", "no <object object at 0x7f01ab> here"))
    assert error is not None and error.line == "ValueError: no <object object at 0x7f01ab> here"


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({"duration": 0.25}, 0.25),
        ({"duration": 3}, 3.0),
        ({}, 2e-6),
        ({"duration": -1}, 2e-6),
        ({"duration": "1"}, 2e-6),
        ({"duration": True}, 2e-6),
        ({"duration": 1e300}, 2e-6),
        ({"time": 5}, None),
    ],
)
def test_a_duration(fields: Any, seconds: float | None) -> None:
    """The writer's counts; else the wall clock's, unless that was set back."""
    start = made("chain_start")
    end = Event(event(3, kind="chain_end", span_id="s", **fields))
    assert duration_of(start, end, None) == seconds


def test_the_same_start_and_end_again_are_one() -> None:
    """A handler given twice, as an earlier version stored it: one span, nothing beside it."""
    log = Log()
    for _ in range(2):
        log("chain_start", "root", inputs=1)
    log("tool_start", "t", "root")
    log("tool_end", "t", "root")
    for _ in range(2):
        log("chain_end", "root", outputs=2)
    trace = only(build_traces(log.events))
    assert [span.span_id for span in trace.walk()] == ["root", "t"]
    assert trace.complete and trace.root.notes == ()


def test_another_start_of_an_open_span_is_another_trace() -> None:
    """With other inputs it is another call."""
    log = Log()
    log("chain_start", "root", inputs=1)
    log("chain_start", "root", inputs=2)
    log("chain_end", "root", outputs=3)
    first, second = build_traces(log.events)
    assert (first.root.inputs, first.outcome) == (1, "unfinished")
    assert (second.root.inputs, second.outcome, second.root.outputs) == (2, "ok", 3)


def test_a_partial_text_is_the_streams() -> None:
    """What a cancelled call had streamed is its stream, as if it had ended."""
    log = Log()
    log("chain_start", "root")
    log("chat_model_start", "m", "root")
    log("span_abandoned", "m", "root", data={"reason": "parent_ended", "stream": {"text": "so f"}})
    log("chain_error", "root", error={"type": "asyncio.exceptions.CancelledError"})
    trace = only(build_traces(log.events))
    _, call = trace.walk()
    assert call.stream == {"text": "so f"} and trace.complete


def test_what_is_followed_ends_with_its_parent_too() -> None:
    """Spans in the order in which they end: one that its parent has ended is among them."""
    log, pairs = Log(), Pairs()
    log("chat_model_start", "m", "root", name="model")
    log("span_abandoned", "m", data={"reason": "parent_ended"})
    log("span_abandoned", "x", data={"reason": "closed"})
    found = [pairs.add(one) for one in log.events]
    assert [one and (one.name, one.outcome) for one in found] == [
        None,
        ("model", "cancelled"),
        None,
    ]


def test_cancelled_calls_leave_the_readers_memory() -> None:
    """A trace whose calls ended with their parent waits for nothing."""
    log = Log()
    for number in range(50):
        root, call = f"r{number}", f"m{number}"
        log("chain_start", root, trace_id=root)
        log("chat_model_start", call, root, trace_id=root)
        log("span_abandoned", call, data={"reason": "parent_ended"}, trace_id=root)
        error = {"type": "asyncio.exceptions.CancelledError"}
        log("chain_error", root, trace_id=root, error=error)
    read = 0

    def reading() -> Iterator[Event]:
        nonlocal read
        for one in log.events:
            read += 1
            yield one

    traces = build_traces(reading(), linger=4)
    assert [next(traces).trace_id for _ in range(20)] == [f"r{number}" for number in range(20)]
    assert read <= 4 * 20 + 8, "each comes soon after its last event"


def test_a_span_that_names_itself_is_a_root() -> None:
    """It has no other parent, and is no orphan."""
    log = Log()
    log("chain_start", "root")
    log("chain_end", "root", "root")
    trace = only(build_traces(log.events))
    assert (trace.root.parent_span_id, trace.root.orphan, trace.complete) == (None, False, True)


def test_a_late_end_is_waited_for_unless_its_trace_was_cancelled() -> None:
    """What may go on in the background ends in its trace, many events later."""
    log = Log()
    for root, kind in (("root", "chain_end"), ("other", "chain_error")):
        log("chain_start", root, trace_id=root)
        log("chain_start", f"{root} task", root, trace_id=root)
        log("span_abandoned", f"{root} task", data={"reason": "parent_ended"}, trace_id=root)
        error = {"type": "asyncio.exceptions.CancelledError"}
        log(kind, root, trace_id=root, **({"error": error} if kind == "chain_error" else {}))
    for number in range(3_000):
        log("chain_start", f"r{number}", trace_id=f"r{number}")
        log("chain_end", f"r{number}", trace_id=f"r{number}")
    log("chain_end", "root task", "root", outputs="done")
    traces = {trace.trace_id: trace for trace in build_traces(log.events)}
    assert len(traces) == 3_002
    assert [span.outcome for span in traces["root"].walk()] == ["ok", "ok"]
    assert next(iter(traces)) == "other", "it waits for nothing"


def test_parents_in_a_circle_have_each_child_once() -> None:
    """Also one that came before them."""
    log = Log()
    for span, parent in (("c", "a"), ("a", "b"), ("b", "a")):
        log("chain_start", span, parent)
    trace = only(build_traces(log.events))
    assert sorted(span.span_id for span in trace.walk()) == ["a", "b", "c"]


COMMAND = {"graph": None, "update": None, "goto": []}


@pytest.mark.parametrize(
    ("inputs", "resumes"),
    [
        ({**COMMAND, "resume": "yes"}, True),
        ({**COMMAND, "resume": False}, True),
        ({**COMMAND, "resume": None}, False),
        (None, True),
        ({"resume": "my curriculum vitae"}, False),
        ({"question": "?"}, False),
    ],
    ids=str,
)
def test_a_thread_is_resumed_by_a_command_or_by_nothing(inputs: Any, resumes: bool) -> None:
    """Anything else is another question, and the pause is over then, too."""
    log = Log()

    def call(root: str, given: Any, *, waits: bool) -> None:
        metadata = {"thread_id": "t"}
        fields = {} if given is None else {"inputs": given}
        log("chain_start", root, trace_id=root, metadata=metadata, **fields)
        node = {**metadata, "langgraph_node": "ask"}
        log("chain_start", f"{root} ask", root, trace_id=root, metadata=node)
        if waits:
            error = {"type": "langgraph.errors.GraphInterrupt"}
            log("chain_error", f"{root} ask", root, trace_id=root, error=error)
        else:
            log("chain_end", f"{root} ask", root, trace_id=root)
        log("chain_end", root, trace_id=root)

    call("first", {"question": "?"}, waits=True)
    call("second", inputs, waits=False)
    call("third", None, waits=False)
    first, second, third = build_traces(log.events)
    assert (first.outcome, first.resumes) == ("interrupted", None)
    assert second.resumes == ("first" if resumes else None)
    assert third.resumes is None
