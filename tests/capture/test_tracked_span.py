"""Spans of plain Python: their place among chains, their outcome, and that they never hold up."""

from __future__ import annotations

import asyncio
import contextvars
import os
import tempfile
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, TypedDict

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.runnables import RunnableConfig, RunnableGenerator, RunnableLambda
from langchain_core.tools import tool
from langgraph.graph import StateGraph

import asynctrack
from asynctrack import StateError, open_run, tracker
from asynctrack._capture import current
from asynctrack._reading.trees.span import Span
from tests.capture.stored import only, shape, traces
from tests.e2e.waiting import Wall, until

leaf = RunnableLambda(lambda value: value).with_config(run_name="leaf")


# -- their place --------------------------------------------------------------------------------


def test_spans_and_chains_around_each_other(tmp_path: Path) -> None:
    """A chain in a span is part of it, a span in a chain of that, a chain in such a span of the
    span, and so on: one trace."""
    with tracker(tmp_path) as handler:

        def answer(value: int) -> int:
            with handler.span("in the step", inputs=value), handler.span("deeper"):
                return int(leaf.invoke(value))

        chain = RunnableLambda(answer) | leaf
        with handler.span("request", inputs={"n": 1}) as span:
            with handler.span("before"):
                pass
            span.outputs = chain.invoke(1, {"callbacks": [handler]})
    trace = only(tmp_path)
    assert shape(trace.root) == (
        "request",
        [
            "before",
            (
                "RunnableSequence",
                [("answer", [("in the step", [("deeper", ["leaf"])])]), "leaf"],
            ),
        ],
    )
    assert (trace.root.inputs, trace.root.outputs, trace.root.outcome) == ({"n": 1}, 1, "ok")
    assert {span.trace_id for span in trace.walk()} == {trace.trace_id}
    assert not any(span.orphan for span in trace.walk())
    assert trace.root.duration is not None


async def test_asynchronous_spans(tmp_path: Path) -> None:
    """Tasks that start in a span are part of it, each with its own spans; both forms nest."""
    async with tracker(tmp_path) as handler:

        async def answer(value: int) -> int:
            async with handler.span("step"):
                with handler.span("plain"):
                    return int(await leaf.ainvoke(value))

        async def serve(number: int) -> None:
            async with handler.span(f"request {number}", inputs=number) as span:
                span.outputs = await RunnableLambda(answer).ainvoke(
                    number, {"callbacks": [handler]}
                )

        async with handler.span("all"):
            await asyncio.gather(*map(serve, range(3)))
    trace = await asyncio.to_thread(only, tmp_path)
    below = [("answer", [("step", [("plain", ["leaf"])])])]
    assert shape(trace.root) == ("all", [(f"request {n}", below) for n in range(3)])
    assert [child.outputs for child in trace.root.children] == [0, 1, 2]


def test_events_of_a_chain_agree_about_its_parent(tmp_path: Path) -> None:
    """Every event of a chain in a span names the span as its parent: starts, ends, and the rest."""
    with tracker(tmp_path, tokens="each") as handler:

        def step(value: str) -> str:
            from langchain_core.callbacks import dispatch_custom_event

            with handler.span("span"):
                inner = RunnableLambda(lambda text: (dispatch_custom_event("seen", {}), text)[1])
                return str(inner.invoke(value))

        with handler.span("request"):
            RunnableLambda(step).invoke("a", {"callbacks": [handler]})
    parents: dict[Any, set[Any]] = {}
    for event in open_run(tmp_path).events():
        assert event.trace_id is not None
        parents.setdefault(event.span_id, set()).add(event.parent_span_id)
    trace = only(tmp_path)
    inner = next(span for span in trace.walk() if span.name == "RunnableLambda")
    assert [note.name for note in inner.notes] == ["seen"]
    (chain,) = trace.root.children
    assert parents[chain.span_id] == {trace.trace_id}
    above = next(span for span in trace.walk() if span.name == "span")
    assert parents[inner.span_id] == {above.span_id}


class State(TypedDict):
    """What the graph works on."""

    value: int


def test_in_a_node_and_in_a_tool(tmp_path: Path) -> None:
    """LangGraph's nodes and tools that a node calls are runs like any other."""
    with tracker(tmp_path) as handler:

        @tool
        def add(value: int) -> int:
            """Add one."""
            with handler.span("adding"):
                return value + 1

        def node(state: State) -> State:
            with handler.span("in the node"):
                return {"value": add.invoke({"value": state["value"]})}

        graph = StateGraph(State)
        graph.add_node("node", node)
        graph.set_entry_point("node")
        graph.set_finish_point("node")
        with handler.span("request"):
            graph.compile().invoke({"value": 1}, {"callbacks": [handler]})
    assert shape(only(tmp_path).root) == (
        "request",
        [("LangGraph", [("node", [("in the node", [("add", ["adding"])])])])],
    )


async def test_streaming(tmp_path: Path) -> None:
    """A span in a step that streams is part of it, and what is called while it goes on is not in
    the consumer's place."""
    async with tracker(tmp_path) as handler:

        async def words(given: AsyncIterator[str]) -> AsyncIterator[str]:
            async for text in given:
                async with handler.span("splitting"):
                    for word in text.split():
                        yield await leaf.ainvoke(word)

        async with handler.span("request"):
            async for word in RunnableGenerator(words).astream(
                "a b", {"callbacks": [handler], "run_name": "words"}
            ):
                async with handler.span(f"got {word}"):
                    pass
    trace = await asyncio.to_thread(only, tmp_path)
    assert shape(trace.root) == (
        "request",
        [("words", [("splitting", ["leaf", "leaf"])]), "got a", "got b"],
    )


def test_synchronous_code_in_threads(tmp_path: Path) -> None:
    """A thread with a copied context is in the span, any other is not; chains' own threads are."""
    with tracker(tmp_path) as handler:
        config: Any = {"callbacks": [handler]}
        with handler.span("request"):
            context = contextvars.copy_context()
            for target in (lambda: context.run(leaf.invoke, 1, config), lambda: None):
                thread = threading.Thread(target=target)
                thread.start()
                thread.join()

            def step(value: int) -> int:
                with handler.span(f"step {value}"):
                    return value

            RunnableLambda(step).batch([1, 2], config)
        thread = threading.Thread(target=leaf.invoke, args=(1, config))
        thread.start()
        thread.join()
    request, alone = traces(tmp_path)
    assert alone.root.name == "leaf"
    inside, *steps = (shape(child) for child in request.root.children)
    assert inside == "leaf"
    assert sorted(steps) == [("step", ["step 1"]), ("step", ["step 2"])]


@pytest.mark.may_block("LangChain waits for the callback")
async def test_a_chain_that_blocks_the_loop(tmp_path: Path) -> None:
    """LangChain calls an asynchronous handler from another thread then: the span is around it."""
    async with tracker(tmp_path) as handler:

        def step(value: int) -> int:
            with handler.span("inside"):
                return value

        with handler.span("request"):
            RunnableLambda(step).invoke(1, {"callbacks": [handler]})
    assert shape((await asyncio.to_thread(only, tmp_path)).root) == (
        "request", [("step", ["inside"])],
    )  # fmt: skip


def test_callbacks_given_again(tmp_path: Path) -> None:
    """A chain that is given the handler in a step, and so no parent by LangChain, is part of the
    step; with another run's config, of the span around that run."""
    with tracker(tmp_path) as handler:
        own: Any = {"callbacks": [handler]}

        def outer(value: int, config: RunnableConfig) -> int:
            given: Any = {**config, "run_name": "outer's"}

            def inner(value: int) -> int:
                with handler.span("innermost"):
                    return int(RunnableLambda(lambda value: value).invoke(value, given))

            with handler.span("around"):
                leaf.with_config(run_name="in the span").invoke(value, own)
                RunnableLambda(inner).invoke(value)
            return int(leaf.with_config(run_name="in the step").invoke(value, own))

        with handler.span("request"):
            RunnableLambda(outer).invoke(1, own)
    assert shape(only(tmp_path).root) == (
        "request",
        [
            (
                "outer",
                [
                    ("around", ["in the span", ("inner", ["innermost"]), "outer's"]),
                    "in the step",
                ],
            )
        ],
    )


def test_two_trackers(tmp_path: Path) -> None:
    """Each tracker's trees are made of its own spans, however they lie in each other."""
    with tracker(tmp_path / "a") as one, tracker(tmp_path / "b") as two:
        with one.span("a1"), two.span("b1"), one.span("a2"), two.span("b2"):
            leaf.invoke(1, {"callbacks": [one, two]})
            leaf.invoke(1, {"callbacks": [one]})

        def step(value: int) -> int:
            with two.span("b's"):
                return int(leaf.invoke(value))

        RunnableLambda(step).invoke(1, {"callbacks": [one]})
    nested, chain = traces(tmp_path / "a")
    assert shape(nested.root) == ("a1", [("a2", ["leaf", "leaf"])])
    assert shape(chain.root) == ("step", ["leaf"])
    assert [shape(trace.root) for trace in traces(tmp_path / "b")] == [
        ("b1", [("b2", ["leaf"])]),
        "b's",
    ]


def test_one_run_id_for_two_chains_in_spans(tmp_path: Path) -> None:
    """A run id that is in use makes a span of its own in the span that it is called in."""
    with tracker(tmp_path) as handler:
        from uuid import UUID

        config: Any = {"callbacks": [handler], "run_id": UUID(int=7)}

        def step(value: int) -> int:
            with handler.span("again"):
                return int(leaf.invoke(value, config))

        with handler.span("request"):
            RunnableLambda(step).invoke(1, config)
    assert shape(only(tmp_path).root) == ("request", [("step", [("again", ["leaf"])])])


def test_a_task_that_outlives_the_block(tmp_path: Path) -> None:
    """What starts in its context later is still part of the trace, as long as the span is known;
    then it is a root of its own."""
    with tracker(tmp_path) as handler:
        config: Any = {"callbacks": [handler]}
        with handler.span("request"):
            context = contextvars.copy_context()
        context.run(leaf.invoke, 1, config)
        for _ in range(1_001):
            with handler.span("another"):
                pass
        context.run(leaf.with_config(run_name="late").invoke, 1, config)
    found = [shape(trace.root) for trace in traces(tmp_path)]
    assert found[0] == ("request", ["leaf"])
    assert found[1:] == ["another"] * 1_001 + ["late"]


def test_blocks_left_in_any_order_and_context(tmp_path: Path) -> None:
    """A block that is left in another context, or before one that is in it, leaves nothing behind
    that has ended."""
    with tracker(tmp_path) as handler:
        outer, inner = handler.span("outer"), handler.span("inner")
        outer.__enter__()
        inner.__enter__()
        outer.__exit__(None, None, None)
        assert current.here() is inner._here
        inner.__exit__(None, None, None)
        assert current.here() is None
        other = contextvars.copy_context()
        span = handler.span("elsewhere")
        other.run(span.__enter__)
        span.__exit__(None, None, None)
        assert current.here() is None


# -- sessions -----------------------------------------------------------------------------------


def test_sessions_in_and_around_spans(tmp_path: Path) -> None:
    """The trace of a span has the session around it, and the one that a chain in it is given."""
    with tracker(tmp_path) as handler:
        with asynctrack.session(user_id="ada") as around, handler.span("a"):
            leaf.invoke(1, {"callbacks": [handler], "configurable": {"thread_id": "t1"}})
        with handler.span("b") as span, asynctrack.session(session_id="s") as inside:
            leaf.invoke(1, {"callbacks": [handler]})
            assert (inside.trace_id, around.trace_id) == (span.trace_id, around.trace_ids[0])
    a, b = traces(tmp_path)
    assert (a.user_id, a.thread_id, a.trace_id) == ("ada", "t1", around.trace_id)
    assert b.session_id == "s"


# -- how they end -------------------------------------------------------------------------------


def test_an_exception_makes_it_an_error(tmp_path: Path) -> None:
    """The exception passes on as it is; the span has it, and what its outputs were until then."""
    error = ValueError("no such fish")
    with (
        tracker(tmp_path) as handler,
        pytest.raises(ValueError, match="fish") as caught,
        handler.span("request"),
        handler.span("search") as span,
    ):
        span.outputs = ["partial"]
        raise error
    assert caught.value is error
    request = only(tmp_path).root
    (search,) = request.children
    assert (request.outcome, search.outcome) == ("error", "error")
    assert search.error is not None and search.error.line == "ValueError: no such fish"
    assert search.raised and not request.raised
    assert search.outputs == ["partial"]


async def test_a_cancelled_block(tmp_path: Path) -> None:
    """A task that is cancelled makes its spans cancelled, none of them an error."""
    async with tracker(tmp_path) as handler:
        entered = anyio.Event()

        async def serve() -> None:
            async with handler.span("request"):
                with handler.span("waiting"):
                    entered.set()
                    await anyio.sleep_forever()

        task = asyncio.create_task(serve())
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    trace = await asyncio.to_thread(only, tmp_path)
    assert [(span.outcome, span.cause) for span in trace.walk()] == [("cancelled", "cancel")] * 2


def test_a_block_that_is_open_as_the_tracker_ends(tmp_path: Path) -> None:
    """It is abandoned; leaving it afterwards raises nothing."""
    with tracker(tmp_path) as handler:
        span = handler.span("open")
        span.__enter__()
    span.__exit__(None, None, None)
    assert only(tmp_path).root.outcome == "abandoned"
    assert handler.statistics().dropped == {"closed": 1}


@pytest.mark.parametrize(
    ("kind", "event"),
    [("chain", "chain"), ("tool", "tool"), ("retriever", "retriever"), ("embedding", "chain")],
)
def test_kinds(tmp_path: Path, kind: str, event: str) -> None:
    """Tools and retrievers have their own events, with the fields of LangChain's; a word of one's
    own is the kind that readers see."""
    given: Any = {"kind": kind, "inputs": "fish", "tags": ["t"], "metadata": {"m": 1}}
    with tracker(tmp_path) as handler, handler.span("it", **given) as span:
        span.outputs = ["found"]
    assert [one.event for one in open_run(tmp_path).events()] == [f"{event}_start", f"{event}_end"]
    root = only(tmp_path).root
    assert (root.kind, root.tags, dict(root.metadata)) == (kind, ("t",), {"m": 1})
    retriever = kind == "retriever"
    assert root.inputs == ({"query": "fish"} if retriever else "fish")
    assert root.outputs == ({"documents": ["found"]} if retriever else ["found"])


def test_secrets(tmp_path: Path) -> None:
    """What goes in and out, names and metadata are searched for secrets as everything is."""
    secret = "sk-proj-Zx8Kq2Lm9Vb4Nc7Tw1Rp5Yd3"
    given: Any = {"inputs": secret, "metadata": {"key": secret}, "tags": [secret]}
    with tracker(tmp_path) as handler, handler.span(secret, **given) as span:
        span.outputs = {"token": secret}
    text = repr([dict(event.raw) for event in open_run(tmp_path).events()])
    assert secret not in text and "[REDACTED" in text


def test_entered_once(tmp_path: Path) -> None:
    """A second block needs another span; what a span tells is there once it is entered."""
    with tracker(tmp_path) as handler:
        span = handler.span("it")
        assert (span.span_id, span.trace_id) == (None, None)
        assert "not entered" in repr(span)
        with span, pytest.raises(StateError, match="each block"):
            span.__enter__()
        assert span.span_id == span.trace_id and "ended" in repr(span)


# -- never in the way ---------------------------------------------------------------------------


class Odd:
    """Whatever is asked of it raises."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError("odd")


def test_odd_arguments(tmp_path: Path) -> None:
    """Nothing that a span is given makes it raise; what could not be captured is counted."""
    with tracker(tmp_path) as handler:
        given: Any = [None, 1, Odd(), "x", b"\xff", {1: 2}]
        for one in given:
            with handler.span(one, inputs=one, kind=one, tags=one, metadata=one) as span:
                span.outputs = one
    numbers = handler.statistics()
    assert numbers.balanced
    assert numbers.accepted + sum(numbers.dropped.values()) == 2 * len(given)


FULL: dict[str, Any] = {
    "durability": "memory", "overflow": "block", "max_buffer_events": 11, "max_batch_events": 5,
    "block_timeout": 0.2, "close_timeout": 0.0,
}  # fmt: skip
"""Room for ten events of what waits, and for one more of what does not."""


@pytest.fixture
def wall(tmp_path: Path) -> Wall:
    """A folder that cannot be written to."""
    return Wall(tmp_path)


async def test_a_plain_block_in_a_loop_never_waits(wall: Wall) -> None:
    """With the buffer full, ``with`` in an event loop drops and counts, its end after its start;
    ``async with`` awaits room."""
    async with tracker(wall.folder, **FULL) as handler:
        for _ in range(10):
            with handler.span("plain"):
                pass
        numbers = handler.statistics()
        # What had waited would be counted as "block_timeout".
        assert (numbers.accepted, numbers.dropped) == (11, {"buffer_full": 9})
        began = time.monotonic()
        async with handler.span("awaits"):
            pass
        assert handler.statistics().dropped == {"buffer_full": 9, "block_timeout": 2}
        assert time.monotonic() - began >= 0.4


async def test_a_block_that_is_cancelled_while_it_waits_is_not_open(wall: Wall) -> None:
    """``async with`` that awaits room, and is cancelled, leaves no span behind."""
    async with tracker(wall.folder, **{**FULL, "block_timeout": None}) as handler:
        for _ in range(5):
            with handler.span("plain"):
                pass
        task = asyncio.create_task(waiting(handler))
        await until(lambda: current_spans(handler) == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert current_spans(handler) == 0


async def waiting(handler: Any) -> None:
    async with handler.span("waits for room"):
        raise AssertionError("there is none")


def current_spans(handler: Any) -> int:
    """How many spans are open."""
    return len(handler._sink.capture.events.spans)


def test_names_that_are_no_texts(tmp_path: Path) -> None:
    """A number or an object as a name is stored as its text, so that the event can be read."""
    with tracker(tmp_path) as handler, handler.span(404) as span:  # type: ignore[arg-type]  # on purpose
        handler.log(("a", 1), "payload")  # type: ignore[arg-type]  # on purpose
    assert repr(span) == "<asynctrack.TrackedSpan '404': ended>"
    root = only(tmp_path).root
    assert (root.name, root.outcome) == ("404", "ok")
    assert [(note.name, note.data) for note in root.notes] == [("('a', 1)", "payload")]


def test_a_plain_block_in_a_thread_waits(wall: Wall) -> None:
    """Where no event loop runs, ``with`` waits for room as callbacks do."""
    with tracker(wall.folder, **FULL) as handler:
        for _ in range(5):
            with handler.span("plain"):
                pass
        began = time.monotonic()
        with handler.span("waits"):
            pass
        assert time.monotonic() - began >= 0.4
        assert handler.statistics().dropped == {"block_timeout": 2}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child(tmp_path: Path) -> None:
    """A child that is forked in a span goes on in it, as a writer of its own."""
    with tracker(tmp_path) as handler, handler.span("request"):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                with handler.span("in the child"):
                    leaf.invoke(1, {"callbacks": [handler]})
                handler.flush(120.0)
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
    events = [event for event in open_run(tmp_path).events() if event.event == "chain_start"]
    names = {event.name: event for event in events}
    request, inside = names["request"], names["in the child"]
    assert request.writer_id != inside.writer_id
    assert inside.parent_span_id == request.span_id == inside.trace_id
    assert names["leaf"].parent_span_id == inside.span_id


# -- the law ------------------------------------------------------------------------------------

HOW = st.sampled_from(["here", "task", "thread"])
WHAT = st.sampled_from(["span", "async span", "chain", "tool", "graph", "tool span"])
NODES = st.recursive(
    st.tuples(WHAT, HOW, st.booleans(), st.just([])),
    lambda below: st.tuples(WHAT, HOW, st.booleans(), st.lists(below, max_size=3)),
    max_leaves=8,
)


class Interpreter:
    """Does what a plan says, and notes for each node what a plain stack says is around it."""

    def __init__(self, handler: Any) -> None:
        self.handler = handler
        self.parents: dict[str, str | None] = {}

    def name(self, around: tuple[str, ...], what: str) -> str:
        name = f"{what} {len(self.parents)}"
        self.parents[name] = around[-1] if around else None
        return name

    def config(self, around: tuple[str, ...], name: str, explicit: bool) -> Any:
        """Callbacks where nothing passes them on, and sometimes where something would: with a span
        around, that changes nothing."""
        chains = [one for one in around if "span" not in one]
        if not chains or (explicit and len(chains) < len(around)):
            return {"run_name": name, "callbacks": [self.handler]}
        return {"run_name": name}

    async def awaiting(self, node: Any, around: tuple[str, ...]) -> None:
        what, how, explicit, below = node
        if how == "thread":
            await asyncio.to_thread(self.calling, (what, "here", explicit, below), around)
            return
        if how == "task":
            await asyncio.create_task(self.awaiting((what, "here", explicit, below), around))
            return
        name = self.name(around, what)

        async def body(_: Any = None) -> None:
            tasks = [one for one in below if one[1] == "task"]
            for one in below:
                if one[1] != "task":
                    await self.awaiting(one, (*around, name))
            await asyncio.gather(*(self.awaiting(one, (*around, name)) for one in tasks))

        if what == "async span":
            async with self.handler.span(name):
                await body()
        elif "span" in what:
            with self.handler.span(name, kind=what.split()[0]):
                await body()
        else:
            config = self.config(around, name, explicit)
            await self.made(what, name, body).ainvoke({"value": {"v": 1}}, config)

    def calling(self, node: Any, around: tuple[str, ...]) -> None:
        what, how, explicit, below = node
        if how != "here":
            context = contextvars.copy_context()
            args = (self.calling, (what, "here", explicit, below), around)
            thread = threading.Thread(target=context.run, args=args)
            thread.start()
            thread.join()
            return
        name = self.name(around, what)

        def body(_: Any = None) -> None:
            for one in below:
                self.calling(one, (*around, name))

        if "span" in what:
            with self.handler.span(name):
                body()
        else:
            config = self.config(around, name, explicit)
            self.made(what, name, body).invoke({"value": {"v": 1}}, config)

    def made(self, what: str, name: str, body: Any) -> Any:
        if what == "graph":
            graph = StateGraph(dict)
            graph.add_node("node", body)
            graph.set_entry_point("node")
            graph.set_finish_point("node")
            return graph.compile()
        if what == "tool":
            if asyncio.iscoroutinefunction(body):

                async def awaited(value: dict[str, int]) -> None:
                    """Do it."""
                    await body()

                return tool(name)(awaited)

            def called(value: dict[str, int]) -> None:
                """Do it."""
                body()

            return tool(name)(called)
        return RunnableLambda(body)


@settings(max_examples=40)
@given(st.lists(NODES, min_size=1, max_size=3), st.booleans())
def test_any_nesting_is_the_tree_of_a_plain_stack(plan: list[Any], asynchronous: bool) -> None:
    """Any nesting of spans, chains, tools and graphs, over tasks and threads, is stored as the tree
    that a stack of them makes."""
    with tempfile.TemporaryDirectory() as folder:
        if asynchronous:

            async def run() -> Interpreter:
                async with tracker(folder) as handler:
                    interpreter = Interpreter(handler)
                    for node in plan:
                        await interpreter.awaiting(node, ())
                return interpreter

            interpreter = asyncio.run(run())
        else:
            with tracker(folder) as handler:
                interpreter = Interpreter(handler)
                for node in plan:
                    interpreter.calling(node, ())
        found: dict[str, str | None] = {}
        for trace in open_run(folder).traces():
            walk(trace.root, None, found)
    assert found == interpreter.parents


def walk(span: Span, above: str | None, found: dict[str, str | None]) -> None:
    """Note each span's parent; nodes of graphs are part of their graph."""
    if span.name in ("node", "__start__"):
        name = above
    else:
        name = str(span.name)
        found[name] = above
    for child in span.children:
        walk(child, name, found)
