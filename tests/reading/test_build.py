"""Events to trees of spans."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from itertools import islice
from typing import Any

from asynctrack._reading.decoding.events import Event
from asynctrack._reading.trees.build import LINGER_WITHOUT_ROOT, build_traces
from asynctrack._reading.trees.trace import Trace
from tests.reading.making import OTHER, WRITER, event


class Log:
    """Events with numbers of their own."""

    def __init__(self, writer: str = WRITER) -> None:
        self.events: list[Event] = []
        self.writer = writer

    def __call__(self, kind: str, span: str, parent: str | None = None, **fields: Any) -> None:
        if parent is not None:
            fields["parent_span_id"] = parent
        fields.setdefault("trace_id", "root")
        seq = len(self.events) + 1
        self.events.append(Event(event(seq, writer=self.writer, kind=kind, span_id=span, **fields)))


def only(traces: Iterator[Trace]) -> Trace:
    (trace,) = traces
    return trace


def shape(trace: Trace) -> list[tuple[str, str, bool]]:
    return [(span.span_id, span.outcome, span.orphan) for span in trace.walk()]


def test_a_tree_with_everything_in_it() -> None:
    """A trace holds its spans as a tree, with inputs, outputs, tokens, notes and times."""
    log = Log()
    log("chain_start", "root", name="seq", inputs={"a": 1}, tags=["t"], metadata={"m": 2})
    log("chain_start", "p", "root", data={"run_type": "prompt"}, inputs="x")
    log("chain_end", "p", "root", outputs="y")
    log("chat_model_start", "m", "root", attributes={"gen_ai.request.model": "gpt"})
    log("retry", "m", "root", data={"attempt": 1})
    log("llm_end", "m", "root", outputs="z", attributes={"gen_ai.usage.input_tokens": 3},
        data={"stream": {"text": "z", "count": 1}})  # fmt: skip
    log("chain_end", "root", outputs=[1])
    trace = only(build_traces(log.events))
    assert trace.complete
    root = trace.root
    assert root is not None
    assert (root.inputs, root.outputs, root.tags, root.metadata) == (
        {"a": 1},
        [1],
        ("t",),
        {"m": 2},
    )
    assert root.duration == 6e-6
    prompt, model = root.children
    assert (prompt.kind, model.kind, model.model) == ("prompt", "chat_model", "gpt")
    assert (model.input_tokens, model.output_tokens, trace.input_tokens) == (3, None, 3)
    assert [note.event for note in model.notes] == ["retry"]
    assert model.stream == {"text": "z", "count": 1}
    assert trace.find("p") is prompt


def test_a_stream_has_its_inputs_from_its_end() -> None:
    """Inputs that are known only at the end of a stream take the place of those at its start."""
    log = Log()
    log("chain_start", "root", inputs="")
    log("chain_end", "root", inputs={"q": 1}, outputs=2)
    root = only(build_traces(log.events)).root
    assert root is not None
    assert root.inputs == {"q": 1}


def test_unfinished_orphans_and_lost_starts_are_kept_and_marked() -> None:
    """What lacks an end, a start or a parent is there, and says so."""
    log = Log()
    log("chain_start", "root")
    log("tool_start", "t", "root")
    log("tool_error", "t", "root", error={"type": "ValueError", "message": "no", "traceback": "f"})
    log("llm_start", "lost child", "never seen")
    log("chain_end", "no start", "root", outputs=1)
    log("custom_event", "only a note", "root", name="x")
    trace = only(build_traces(log.events))
    assert shape(trace) == [
        ("root", "unfinished", False),
        ("t", "error", False),
        ("no start", "ok", False),
        ("only a note", "unfinished", False),
        ("lost child", "unfinished", True),
    ]
    assert not trace.complete
    (failed,) = trace.errors
    assert failed.error is not None
    assert (failed.error.type, failed.error.message) == ("ValueError", "no")
    lost = trace.find("no start")
    assert lost is not None
    assert not lost.started


def test_abandoned_spans_say_so_and_a_late_end_still_counts() -> None:
    """Its writer gave up on a span: it is no finished one, unless its end comes all the same."""
    log = Log()
    log("chain_start", "root")
    log("tool_start", "never", "root")
    log("tool_start", "late", "root")
    log("span_abandoned", "never", data={"reason": "too_many"})
    log("span_abandoned", "late", data={"reason": "too_many"})
    for _ in range(3):
        log("custom_event", "root", name="x")
    log("tool_end", "late", "root", outputs=1)
    trace = only(build_traces(log.events, linger=1))
    assert shape(trace) == [
        ("root", "unfinished", False),
        ("never", "abandoned", False),
        ("late", "ok", False),
    ]
    spans = {span.span_id: span for span in trace.walk()}
    assert spans["late"].outputs == 1 and not trace.complete


def test_a_child_that_ends_late_is_in_its_trace() -> None:
    """A background task that starts after its parent ended belongs to it, whatever the writer,
    which has forgotten the trace by then, calls its trace."""
    log = Log()
    log("chain_start", "root")
    log("chain_start", "a", "root")
    log("chain_end", "a", "root")
    log("chain_end", "root")
    log("tool_start", "late", "a", trace_id="a")
    log("tool_end", "late", "a", trace_id="a")
    trace = only(build_traces(log.events))
    assert shape(trace) == [("root", "ok", False), ("a", "ok", False), ("late", "ok", False)]


def test_an_id_that_is_used_twice_is_two_traces() -> None:
    """The same run id given to two calls, one after the other, gives two traces."""
    log = Log()
    for number in (1, 2):
        log("chain_start", "root", inputs=number)
        log("chain_end", "root", outputs=-number)
    traces = list(build_traces(log.events))
    assert [(one.root.inputs, one.root.outputs) for one in traces] == [(1, -1), (2, -2)]


def test_two_writers_of_the_same_spans_are_two_traces() -> None:
    """Two trackers on the same chain each have their own whole trace."""
    logs = [Log(), Log(OTHER)]
    for log in logs:
        log("chain_start", "root")
        log("tool_start", "t", "root")
        log("tool_end", "t", "root")
        log("chain_end", "root")
    mixed = [one for pair in zip(logs[0].events, logs[1].events, strict=True) for one in pair]
    traces = list(build_traces(mixed))
    assert [one.writer_id for one in traces] == [WRITER, OTHER]
    assert all(one.complete and len(list(one.walk())) == 2 for one in traces)


def test_parents_in_a_circle_are_cut() -> None:
    """Spans that are each other's parents are all there, once, with the first one marked."""
    log = Log()
    for span, parent in (("a", "c"), ("b", "a"), ("c", "b"), ("self", "self")):
        log("chain_start", span, parent)
        log("chain_end", span, parent)
    trace = only(build_traces(log.events))
    assert sorted(shape(trace)) == [
        ("a", "ok", True), ("b", "ok", False), ("c", "ok", False), ("self", "ok", False),
    ]  # fmt: skip


def test_a_tree_of_any_depth() -> None:
    """A trace twenty thousand spans deep is built and walked."""
    depth = 20_000
    log = Log()
    for level in range(depth):
        log("chain_start", str(level), None if level == 0 else str(level - 1), trace_id="0")
    trace = only(build_traces(log.events))
    assert sum(1 for _ in trace.walk()) == depth
    assert trace.root is not None


def test_values_of_the_user_belong_to_no_span() -> None:
    """log_parameters and log_metric make no trace."""
    events = [Event(event(1, kind="metric", name="score", data={"value": 1}))]
    assert list(build_traces(events)) == []


def test_complete_traces_leave_the_memory() -> None:
    """Traces come while the stream goes on, also those whose root was dropped, and memory is that
    of the events they wait for, not of the run."""

    def stream() -> Iterator[Event]:
        seq = 0
        for number in range(8_000):
            root = f"trace {number}"
            kinds = ["chain_start", "tool_start", "tool_end", "chain_end"]
            if number % 10 == 0:
                kinds.remove("chain_start")
            for kind in kinds:
                seq += 1
                span = root if kind.startswith("chain") else f"{root} tool"
                more = {} if span == root else {"parent_span_id": root}
                yield Event(
                    event(
                        seq, kind=kind, span_id=span, trace_id=root, outputs=f"{seq:01000d}", **more
                    )
                )

    tracemalloc.start()
    counts = [0, 0]
    for trace in build_traces(stream()):
        counts[trace.complete] += 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert counts == [800, 7_200]
    assert peak < 15 * 1024 * 1024


def test_what_is_left_of_dropped_traces_leaves_the_memory_too() -> None:
    """A trace of which only ended children are there is handed over before the end of the run."""

    def stream() -> Iterator[Event]:
        for number in range(LINGER_WITHOUT_ROOT):
            for kind in ("tool_start", "tool_end"):
                yield Event(
                    event(1, kind=kind, span_id=f"t{number}", parent_span_id=f"r{number}",
                          trace_id=f"r{number}")
                )  # fmt: skip
        raise AssertionError("the first trace comes before the end")

    (first,) = islice(build_traces(stream()), 1)
    assert first.trace_id == "r0"
    assert first.roots[0].orphan
