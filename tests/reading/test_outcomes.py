"""What is read back says how calls ended, for real chains, graphs and tools."""

from __future__ import annotations

import asyncio
import operator
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.callbacks import (
    AsyncCallbackManagerForLLMRun,
    CallbackManagerForLLMRun,
)
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langchain_core.tools import ToolException, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphBubbleUp, GraphInterrupt
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt

from asynctrack import open_run, tracker
from asynctrack._backends.s3_read import Access
from asynctrack._reading.overview import RunOverview, overview
from asynctrack._reading.sources.locate import locate_runs
from asynctrack._reading.trees.span import Span
from asynctrack._reading.trees.summary import RunSummary
from asynctrack._reading.trees.trace import Trace

Use = Callable[[Any], Awaitable[Any]]


async def tracked(folder: Path, use: Use, **options: Any) -> list[Trace]:
    """Track what is done with an asynchronous handler, and read it back."""
    async with tracker(folder, **options) as handler:
        await use(handler)
    return await asyncio.to_thread(read, folder)


def read(folder: Path) -> list[Trace]:
    """Read back what was tracked into a folder."""
    return list(open_run(folder).traces())


def tracked_sync(folder: Path, use: Callable[[Any], Any]) -> list[Trace]:
    """The same with a synchronous handler."""
    with tracker(folder) as handler:
        use(handler)
    return read(folder)


def counted(folder: Path) -> tuple[RunSummary, RunOverview]:
    """Return a Run in numbers: by its events, and at a glance."""
    (found,) = locate_runs(folder, None, Access())
    return open_run(folder).summary(), overview(found)


def named(trace: Trace, name: str) -> Span:
    """The span of this name."""
    (span,) = [span for span in trace.walk() if span.name == name]
    return span


def endings(trace: Trace) -> dict[str | None, tuple[str, str | None]]:
    """How each span ended, and why, by its name."""
    return {span.name: (span.outcome, span.cause) for span in trace.walk()}


class Words(BaseChatModel):
    """Streams words; hangs before the answer, or in the middle of it, where it is told to."""

    words: tuple[str, ...] = ("one ", "two ", "three")
    hangs_at: int | None = None
    hanging: Any = None
    """An event that is set when it hangs."""

    @property
    def _llm_type(self) -> str:
        return "words"

    def _generate(
        self, messages: list[BaseMessage], stop: Any = None,
        run_manager: CallbackManagerForLLMRun | None = None, **kwargs: Any,
    ) -> ChatResult:  # fmt: skip
        message = AIMessage("".join(self.words))
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _agenerate(
        self, messages: list[BaseMessage], stop: Any = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None, **kwargs: Any,
    ) -> ChatResult:  # fmt: skip
        for number, word in enumerate(self.words):
            if number == self.hangs_at:
                if self.hanging is not None:
                    self.hanging.set()
                await asyncio.Event().wait()
            if run_manager is not None:
                await run_manager.on_llm_new_token(word)
        return self._generate(messages)

    def _stream(
        self, messages: list[BaseMessage], stop: Any = None,
        run_manager: CallbackManagerForLLMRun | None = None, **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:  # fmt: skip
        for word in self.words:
            chunk = ChatGenerationChunk(message=AIMessageChunk(word))
            if run_manager is not None:
                run_manager.on_llm_new_token(word, chunk=chunk)
            yield chunk

    async def _astream(
        self, messages: list[BaseMessage], stop: Any = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None, **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:  # fmt: skip
        for number, word in enumerate(self.words):
            if number == self.hangs_at:
                await asyncio.Event().wait()
            chunk = ChatGenerationChunk(message=AIMessageChunk(word))
            if run_manager is not None:
                await run_manager.on_llm_new_token(word, chunk=chunk)
            yield chunk


class State(TypedDict):
    log: Annotated[list[str], operator.add]


def asking() -> Any:
    """A graph that asks its user before it goes on."""

    def ask(state: State) -> dict[str, Any]:
        return {"log": [interrupt({"question": "sure?"})]}

    graph = StateGraph(State)
    graph.add_node("ask", ask)
    graph.add_edge(START, "ask")
    graph.add_edge("ask", END)
    return graph.compile(checkpointer=InMemorySaver())


def handing_over() -> Any:
    """A graph whose subgraph hands over to another node of its parent."""

    def leave(state: State) -> Command[Any]:
        return Command(goto="other", graph=Command.PARENT, update={"log": ["left"]})

    inner = StateGraph(State)
    inner.add_node("leave", leave)
    inner.add_edge(START, "leave")
    graph = StateGraph(State)
    graph.add_node("team", inner.compile(), destinations=("other",))
    graph.add_node("other", lambda state: {"log": ["other"]})
    graph.add_edge(START, "team")
    graph.add_edge("other", END)
    return graph.compile()


# -- LangGraph's control flow ---------------------------------------------------------------------


async def test_a_paused_graph_is_interrupted_and_resumed(tmp_path: Path) -> None:
    """A graph that waits for a human has not failed; what it asks is there, and the trace that
    goes on is linked to it by the thread."""
    graph = asking()

    async def use(handler: Any) -> None:
        config: Any = {"callbacks": [handler], "configurable": {"thread_id": "t-1"}}
        await graph.ainvoke({"log": ["a"]}, config)
        other: Any = {"callbacks": [handler], "configurable": {"thread_id": "t-2"}}
        await graph.ainvoke({"log": ["b"]}, other)
        await graph.ainvoke(Command(resume="yes"), config)
        await graph.ainvoke(Command(resume="no"), other)

    paused, also_paused, resumed, also_resumed = await tracked(tmp_path, use)
    assert endings(paused) == {
        "LangGraph": ("interrupted", "pause"), "ask": ("interrupted", "pause"),
    }  # fmt: skip
    assert (paused.failed, paused.complete, paused.errors, paused.recovered) == (
        False,
        True,
        (),
        (),
    )
    (waiting,) = paused.waits_for
    assert waiting.name == "ask" and waiting.exception is not None
    assert waiting.exception.value == {"question": "sure?"}
    assert paused.thread_id == "t-1"
    assert endings(resumed) == {"LangGraph": ("ok", None), "ask": ("ok", None)}
    assert (paused.resumes, also_paused.resumes) == (None, None)
    assert resumed.resumes == paused.trace_id
    assert also_resumed.resumes == also_paused.trace_id


async def test_a_handoff_is_no_error(tmp_path: Path) -> None:
    """A subgraph that hands over to its parent is interrupted by that; the run is good."""
    graph = handing_over()
    (trace,) = await tracked(
        tmp_path, lambda handler: graph.ainvoke({"log": []}, {"callbacks": [handler]})
    )
    assert trace.outcome == "ok" and not trace.errors and not trace.recovered
    left = [span for span in trace.walk() if span.outcome == "interrupted"]
    assert {span.cause for span in left} == {"handoff"} and len(left) == 3
    (leaving,) = [span for span in left if span.hands_on]
    assert leaving.name == "leave" and leaving.exception is not None
    assert leaving.exception.value["goto"] == "other"


async def test_a_subclass_of_langgraphs_is_known_by_its_ancestry(tmp_path: Path) -> None:
    """Whatever derives from LangGraph's GraphBubbleUp interrupts; so does a pause of one's own."""

    class Mine(GraphBubbleUp):
        pass

    class Wait(GraphInterrupt):
        pass

    causes = []
    for kind in (Mine, Wait):

        def leave(_: Any, kind: type[BaseException] = kind) -> None:
            raise kind("x")

        (trace,) = await tracked(
            tmp_path / kind.__name__,
            lambda handler: _raises(RunnableLambda(leave).ainvoke("x", {"callbacks": [handler]})),
        )
        causes.append((trace.outcome, trace.root.cause))
    assert causes == [("interrupted", "other"), ("interrupted", "pause")]


async def _raises(call: Awaitable[Any]) -> None:
    with pytest.raises(BaseException):  # noqa: B017  # whatever: what is read back counts
        await call


async def test_a_chain_waits_with_the_graph_that_is_its_last_step(tmp_path: Path) -> None:
    """The pause of a graph is that of the chain around it; one that goes on by itself is good."""
    graph = asking()
    chain = RunnableLambda(lambda text: {"log": [text]}) | graph

    async def resumes(x: Any, config: RunnableConfig) -> Any:
        await graph.ainvoke({"log": [x]}, config)
        return await graph.ainvoke(Command(resume="yes"), config)

    async def catches(state: State) -> dict[str, Any]:
        try:
            interrupt("?")
        except GraphBubbleUp:
            pass
        return {"log": ["went on"]}

    catching = StateGraph(State)
    catching.add_node("catches", catches)
    catching.add_edge(START, "catches")

    async def use(handler: Any) -> None:
        config: Any = {"callbacks": [handler], "configurable": {"thread_id": "t-1"}}
        await chain.ainvoke("a", config)
        await chain.ainvoke("b", config)  # another question: the first one is dropped
        await graph.ainvoke(Command(resume="yes"), config)
        other: Any = {"callbacks": [handler], "configurable": {"thread_id": "t-2"}}
        await RunnableLambda(resumes).ainvoke("c", other)
        await catching.compile().ainvoke({"log": []}, {"callbacks": [handler]})

    first, second, resumed, by_itself, caught = await tracked(tmp_path, use)
    for trace in (first, second):
        assert (trace.outcome, trace.root.cause) == ("interrupted", "pause")
        assert [span.name for span in trace.waits_for] == ["ask"]
    assert (first.resumes, second.resumes, resumed.resumes) == (None, None, second.trace_id)
    assert by_itself.outcome == caught.outcome == "ok"
    assert [(span.name, span.outcome) for span in by_itself.walk()] == [
        ("resumes", "ok"),
        ("LangGraph", "interrupted"), ("ask", "interrupted"),
        ("LangGraph", "ok"), ("ask", "ok"),
    ]  # fmt: skip


# -- cancelled ------------------------------------------------------------------------------------


async def _cancel(call: Any, started: Callable[[], bool]) -> None:
    task = asyncio.ensure_future(call)
    while not started():
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancelled_call_ends_with_what_it_is_part_of(tmp_path: Path) -> None:
    """LangChain calls nobody when a model call is cancelled: it ends with its parent, as cancelled,
    with the text that had come, and nothing stays open."""
    open_spans = []
    chain = RunnableLambda(lambda x: x) | Words(hangs_at=2)

    async def use(handler: Any) -> None:
        events = handler._sink.capture.events
        started = lambda: any(len(one.pieces) == 2 for one in list(events.streams._open.values()))  # noqa: E731
        await _cancel(chain.ainvoke("x", {"callbacks": [handler]}), started)
        open_spans.append((len(events.spans), len(events.streams._open)))

    (trace,) = await tracked(tmp_path, use)
    assert open_spans == [(0, 0)]
    assert endings(trace) == {
        "RunnableSequence": ("cancelled", "cancel"),
        "RunnableLambda": ("ok", None),
        "Words": ("cancelled", "cancel"),
    }
    assert trace.complete and not trace.failed and not trace.errors
    call = named(trace, "Words")
    assert call.stream is not None and call.stream["text"] == "one two "
    assert call.duration is not None and call.end_unix_nano is not None
    assert trace.root.error is None and trace.root.exception is not None
    assert trace.root.exception.message == ""


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.timeout is new in Python 3.11")
async def test_a_time_limit_is_a_cause_of_its_own(tmp_path: Path) -> None:
    """What the time limit of a caller has cancelled says so, and the caller has failed; a limit
    outside of the trace is a cancellation like any other. A server that is too slow is an error."""
    model = Words(hangs_at=0, hanging=asyncio.Event())
    hanging = (RunnableLambda(lambda x: x) | model).with_config(run_name="answer")

    async def call(x: Any, config: Any) -> asyncio.Task[Any]:
        """The call, when it hangs: before that a busy machine takes longer than any limit here."""
        model.hanging.clear()
        task = asyncio.ensure_future(hanging.ainvoke(x, config))
        await model.hanging.wait()
        return task

    async def limited(x: Any, config: RunnableConfig) -> Any:
        task = await call(x, config)
        async with asyncio.timeout(0.02):
            return await task

    async def waited(x: Any, config: RunnableConfig) -> Any:
        return await asyncio.wait_for(await call(x, config), 0.02)

    async def slow_server(x: Any) -> Any:
        try:
            raise asyncio.CancelledError
        except asyncio.CancelledError:
            raise TimeoutError("the server is too slow") from None

    async def use(handler: Any) -> None:
        for caller in (limited, waited, slow_server):
            with pytest.raises(TimeoutError):
                await RunnableLambda(caller).ainvoke("x", {"callbacks": [handler]})
        task = await call("x", {"callbacks": [handler]})
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await task

    inside, also_inside, slow, outside = await tracked(tmp_path, use)
    by_limit = ("cancelled", "timeout")
    for trace in (inside, also_inside):
        assert trace.failed and trace.blame is trace.root, "its own limit was over"
        assert endings(trace)["answer"] == endings(trace)["Words"] == by_limit
    assert slow.failed
    assert endings(outside)["answer"] == endings(outside)["Words"] == ("cancelled", "cancel")


@pytest.mark.parametrize("how", ["astream", "stream"])
async def test_who_leaves_a_stream_cancels_it(how: str, tmp_path: Path) -> None:
    """A consumer that leaves a stream makes no failed trace, and no good one either."""
    chain = (RunnableLambda(lambda x: x) | Words()).with_config(run_name="answer")

    async def leave(handler: Any) -> None:
        stream = chain.astream("x", {"callbacks": [handler]})
        async for _ in stream:
            break
        await stream.aclose()  # type: ignore[attr-defined]  # an async generator
        del stream
        for _ in range(20):
            await asyncio.sleep(0)

    def leave_sync(handler: Any) -> None:
        stream = chain.stream("x", {"callbacks": [handler]})
        for _ in stream:
            break
        stream.close()  # type: ignore[attr-defined]  # a generator

    if how == "stream":
        (trace,) = await asyncio.to_thread(tracked_sync, tmp_path, leave_sync)
    else:
        (trace,) = await tracked(tmp_path, leave)
    assert endings(trace)["answer"] == endings(trace)["Words"] == ("cancelled", "stream_left")
    assert not trace.failed and not trace.errors
    call = named(trace, "Words")
    assert call.stream is not None and call.stream["text"] == "one "
    assert trace.time_to_first_token is not None


async def test_who_leaves_a_stream_and_goes_on_has_ended_well(tmp_path: Path) -> None:
    """A step that takes the first words of a stream and answers is good; the stream was left."""
    model = Words()

    async def first(x: Any, config: RunnableConfig) -> str:
        stream = model.astream(x, config)
        word = ""
        async for chunk in stream:
            word = str(chunk.content)
            break
        await stream.aclose()  # type: ignore[attr-defined]  # an async generator
        return word

    (trace,) = await tracked(
        tmp_path, lambda handler: RunnableLambda(first).ainvoke("x", {"callbacks": [handler]})
    )
    assert endings(trace) == {"first": ("ok", None), "Words": ("cancelled", "stream_left")}


# -- errors ---------------------------------------------------------------------------------------


async def test_the_span_to_blame_is_where_the_error_came_up(tmp_path: Path) -> None:
    """Not the sibling that was cancelled because of it, and not one whose error was caught."""
    going = asyncio.Event()

    async def waits(x: Any) -> None:
        going.set()
        await asyncio.Event().wait()

    async def breaks(x: Any) -> None:
        await going.wait()
        raise ValueError("no")

    async def caught(x: Any) -> None:
        raise KeyError("caught")

    async def both(x: Any, config: RunnableConfig) -> None:
        with pytest.raises(KeyError):
            await RunnableLambda(caught).ainvoke(x, config)
        tasks = [
            asyncio.ensure_future(RunnableLambda(one).ainvoke(x, config)) for one in (breaks, waits)
        ]
        try:
            await asyncio.gather(*tasks)
        except ValueError as error:
            tasks[1].cancel()
            await asyncio.wait(tasks)
            raise RuntimeError("both failed") from error

    (trace,) = await tracked(
        tmp_path,
        lambda handler: _raises(RunnableLambda(both).ainvoke("x", {"callbacks": [handler]})),
    )
    assert trace.failed
    assert trace.blame is named(trace, "breaks")
    assert endings(trace)["waits"] == ("cancelled", "cancel")
    assert trace.recovered == (), "of a failed trace nothing counts as recovered"


async def test_errors_that_do_not_fail_the_trace_are_recovered(tmp_path: Path) -> None:
    """Each counts once, where it came up, however many spans it passed."""

    async def breaks(x: Any) -> None:
        raise ValueError(f"no {x}")

    chain = RunnableLambda(lambda x: x) | RunnableLambda(breaks)

    async def tries(x: Any, config: RunnableConfig) -> str:
        for number in range(3):
            with pytest.raises(ValueError):
                await chain.ainvoke(number, config)
        return "done"

    (trace,) = await tracked(
        tmp_path, lambda handler: RunnableLambda(tries).ainvoke("x", {"callbacks": [handler]})
    )
    assert trace.outcome == "ok" and trace.blame is None
    assert len(trace.errors) == 6
    assert [span.name for span in trace.recovered] == ["breaks"] * 3


@tool
def broken(x: int) -> str:
    """Fails, and says so in its answer."""
    raise ToolException(f"no {x}")


broken.handle_tool_error = True


@tool
def mcp(x: int) -> Any:
    """Returns an answer of the Model Context Protocol."""
    return {"content": [{"type": "text", "text": f"no {x}"}], "isError": True}


@tool
def answers(x: int) -> Any:
    """Returns a message that says that it failed."""
    return ToolMessage(f"no {x}", tool_call_id="1", status="error")


@tool
def updates(x: int) -> Any:
    """Returns a command with such a message in it."""
    message = ToolMessage(f"no {x}", tool_call_id="1", status="error")
    return Command(update={"messages": [message]})


@tool
def fine(x: int) -> str:
    """Does not fail."""
    return "error"


@pytest.mark.parametrize("called", ["by a model", "bare"])
@pytest.mark.parametrize("which", [broken, mcp, answers, updates, fine], ids=lambda one: one.name)
@pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])
async def test_an_error_that_a_tool_reports_is_one(
    which: Any, called: str, sync: bool, tmp_path: Path
) -> None:
    """However a tool says that it failed, its span has an error with that message; the trace has
    recovered from it."""
    given: Any = {"x": 3}
    if called == "by a model":
        given = {"type": "tool_call", "id": "1", "name": which.name, "args": {"x": 3}}
    agent: Runnable[Any, Any] = RunnableLambda(lambda x, config: which.invoke(x, config))
    if sync:
        use_sync = lambda handler: agent.invoke(given, {"callbacks": [handler]})  # noqa: E731
        (trace,) = await asyncio.to_thread(tracked_sync, tmp_path, use_sync)
    else:

        async def step(x: Any, config: RunnableConfig) -> Any:
            return await which.ainvoke(x, config)

        (trace,) = await tracked(
            tmp_path, lambda handler: RunnableLambda(step).ainvoke(given, {"callbacks": [handler]})
        )
    span = named(trace, which.name)
    assert trace.outcome == "ok"
    glance = (await asyncio.to_thread(counted, tmp_path))[1]
    assert (glance.traces, glance.failed) == (1, 0)
    if which is fine or (which is mcp and called == "by a model"):
        # LangChain makes a text of the latter before anybody sees it.
        assert (span.outcome, span.error, trace.recovered) == ("ok", None, ())
        return
    assert span.outcome == "error" and span.error is not None
    assert span.error.message == "no 3"
    assert trace.recovered == (span,)


@pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])
async def test_a_tool_alone_that_reports_its_error_has_failed(sync: bool, tmp_path: Path) -> None:
    """By its events and by the Run's own sums, whatever way it is called."""
    call: Any = {"type": "tool_call", "id": "1", "name": "broken", "args": {"x": 3}}

    async def use(handler: Any) -> None:
        await broken.ainvoke(call, {"callbacks": [handler]})
        await answers.ainvoke({"x": 3}, {"callbacks": [handler]})
        await mcp.ainvoke({"x": 3}, {"callbacks": [handler]})

    if sync:
        await asyncio.to_thread(tracked_sync, tmp_path, lambda handler: asyncio.run(use(handler)))
    else:
        await tracked(tmp_path, use)
    summary, glance = await asyncio.to_thread(counted, tmp_path)
    assert (summary.traces, summary.failed) == (glance.traces, glance.failed) == (3, 3)


# -- roots, handlers, ids -------------------------------------------------------------------------


async def test_a_handler_of_the_model_alone_has_whole_traces(tmp_path: Path) -> None:
    """A span whose parent nobody has seen is a root, as in langchain-core; it says so."""
    async with tracker(tmp_path) as handler:
        model = Words(callbacks=[handler])
        chain = RunnableLambda(str) | model | RunnableLambda(str) | model
        await chain.ainvoke("x")
    traces = await asyncio.to_thread(read, tmp_path)
    assert len(traces) == 2
    for trace in traces:
        assert trace.complete and trace.outcome == "ok" and trace.duration is not None
        assert trace.root.name == "Words" and trace.root.orphan
        assert trace.trace_id == trace.root.span_id
    summary, glance = await asyncio.to_thread(counted, tmp_path)
    assert (summary.traces, summary.failed, summary.incomplete) == (2, 0, 0)
    assert (glance.traces, glance.failed) == (2, 0)


@pytest.mark.parametrize("kind", ["chain", "model", "stream"])
@pytest.mark.parametrize("times", ["config and call", "in a list", "three times"])
async def test_a_handler_given_several_times_tracks_once(
    kind: str, times: str, tmp_path: Path
) -> None:
    """One tree, one count of tokens, as if it was given once."""
    chain: Runnable[Any, Any] = Words() if kind != "chain" else RunnableLambda(str) | Words()

    async def use(handler: Any) -> None:
        given = {"config and call": [handler], "in a list": [handler] * 2}.get(times, [handler] * 3)
        called = chain
        if times == "config and call":
            called = chain.with_config(callbacks=[handler])
        if kind == "stream":
            assert [one async for one in called.astream("x", {"callbacks": given})]
        else:
            await called.ainvoke("x", {"callbacks": given})

    (trace,) = await tracked(tmp_path, use)
    assert trace.complete and len(trace.roots) == 1
    assert len(list(trace.walk())) == (3 if kind == "chain" else 1)
    assert all(not span.notes for span in trace.walk())
    if kind != "chain":
        assert trace.root.stream is not None
        assert (trace.root.stream["text"], trace.root.stream["count"]) == ("one two three", 3)
    events = await asyncio.to_thread(lambda: sum(1 for _ in open_run(tmp_path).events()))
    assert events == 2 * len(list(trace.walk()))


@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")
async def test_a_stream_of_the_third_version_counts_each_token_once(tmp_path: Path) -> None:
    """Also of a model that says its tokens itself beside the protocol's events."""

    async def use(handler: Any) -> None:
        stream = await Words().astream_events("x", {"callbacks": [handler]}, version="v3")
        async for _ in stream:
            pass

    (trace,) = await tracked(tmp_path, use)
    assert trace.root.stream is not None
    assert (trace.root.stream["text"], trace.root.stream["count"]) == ("one two three", 3)


async def test_a_stream_that_outlives_its_parent_is_whole(tmp_path: Path) -> None:
    """Its beginning was told of when its parent ended, the rest when it did."""
    release, begun, tasks = asyncio.Event(), asyncio.Event(), []

    class Slow(Words):
        async def _astream(self, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
            number = 0
            async for chunk in super()._astream(*args, **kwargs):
                yield chunk
                number += 1
                if number == 2:
                    begun.set()
                    await release.wait()

    async def reads(x: Any, config: RunnableConfig) -> None:
        assert [one async for one in Slow().astream(x, config)]

    async def starts(x: Any, config: RunnableConfig) -> str:
        tasks.append(asyncio.ensure_future(reads(x, config)))
        await begun.wait()
        return "started"

    async def use(handler: Any) -> None:
        await RunnableLambda(starts).ainvoke("x", {"callbacks": [handler]})
        release.set()
        await asyncio.gather(*tasks)

    (trace,) = await tracked(tmp_path, use)
    call = named(trace, "Slow")
    assert call.outcome == "ok" and call.stream is not None and call.duration is not None
    assert (call.stream["text"], call.stream["count"]) == ("one two three", 3)
    assert call.stream["time_to_first_token"] < call.duration


async def test_a_run_id_used_again_at_the_same_time_is_a_trace_of_its_own(tmp_path: Path) -> None:
    """Two calls with one id side by side: a whole tree each, with its own steps and its answer."""
    ready = asyncio.Event()
    inside = 0

    async def step(x: str) -> str:
        nonlocal inside
        inside += 1
        if inside == 2:
            ready.set()
        await ready.wait()
        return x.upper()

    chain = RunnableLambda(lambda x: x) | RunnableLambda(step)
    run_id = uuid.uuid4()

    async def use(handler: Any) -> None:
        calls = [
            chain.ainvoke(text, {"callbacks": [handler], "run_id": run_id}) for text in ("a", "b")
        ]
        assert await asyncio.gather(*calls) == ["A", "B"]

    traces = await tracked(tmp_path, use)
    assert sorted((one.root.inputs, one.root.outputs) for one in traces) == [("a", "A"), ("b", "B")]
    for trace in traces:
        assert trace.complete and len(trace.roots) == 1
        assert {span.inputs for span in trace.walk()} == {trace.root.inputs}
    ids = {trace.trace_id for trace in traces}
    assert len(ids) == 2 and str(run_id) in ids
    (other,) = [trace for trace in traces if trace.trace_id != str(run_id)]
    assert other.root.data["run_id"] == str(run_id)


@pytest.mark.parametrize("how", ["as a root", "as a child"])
@pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])
async def test_a_call_in_itself_with_its_run_id_is_another_call(
    how: str, sync: bool, tmp_path: Path
) -> None:
    """Also with the same inputs: its error is its own, and is recovered from."""
    run_id = uuid.uuid4()

    def fails(x: Any) -> Any:
        raise ValueError("no")

    inner = RunnableLambda(fails).with_config(run_name="inner")

    def calls(x: Any, config: RunnableConfig) -> str:
        given: Any = {"callbacks": handlers, "run_id": run_id}
        with pytest.raises(ValueError):
            inner.invoke(x, given if how == "as a root" else {**config, "run_id": run_id})
        return "recovered"

    handlers: list[Any] = []
    outer = RunnableLambda(calls).with_config(run_name="outer")

    def use(handler: Any) -> None:
        handlers.append(handler)
        outer.invoke("x", {"callbacks": [handler], "run_id": run_id})

    async def use_async(handler: Any) -> None:
        await asyncio.to_thread(use, handler)

    if sync:
        traces = await asyncio.to_thread(tracked_sync, tmp_path, use)
    else:
        traces = await tracked(tmp_path, use_async)
    spans = [span for trace in traces for span in trace.walk()]
    assert sorted((one.name, one.outcome, one.outputs) for one in spans) == [
        ("inner", "error", None), ("outer", "ok", "recovered"),
    ]  # fmt: skip
    assert len(traces) == 1, "LangChain knows what it is called in"


async def test_a_run_id_used_again_later_is_a_trace_of_its_own(tmp_path: Path) -> None:
    """One after the other, also while something of the first still runs."""
    release = asyncio.Event()
    tasks = []

    async def background(x: Any) -> Any:
        await release.wait()
        return x

    async def start(x: Any, config: RunnableConfig) -> Any:
        tasks.append(asyncio.ensure_future(RunnableLambda(background).ainvoke(x, config)))
        await asyncio.sleep(0)
        return x

    run_id = uuid.uuid4()

    async def use(handler: Any) -> None:
        config: Any = {"callbacks": [handler], "run_id": run_id}
        for text in ("a", "b"):
            await RunnableLambda(start).ainvoke(text, config)
        release.set()
        await asyncio.gather(*tasks)

    traces = await tracked(tmp_path, use)
    assert [(one.root.inputs, one.root.outputs) for one in traces] == [("a", "a"), ("b", "b")]
    for trace in traces:
        assert trace.complete and [span.name for span in trace.walk()] == ["start", "background"]
        assert named(trace, "background").outputs == trace.root.inputs


# -- time, names ----------------------------------------------------------------------------------


async def test_durations_do_not_depend_on_the_clock_that_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the clock set back by five seconds in a call, everything has the time it really took."""
    from asynctrack._capture.capture import Capture

    class Setting:
        """A wall clock that is set back."""

        now = 1_767_225_605 * 10**9

        def __call__(self) -> int:
            return self.now

    clock = Setting()
    made = Capture.__init__
    monkeypatch.setattr(
        Capture, "__init__", lambda self, **given: made(self, **{**given, "time_ns": clock})
    )

    async def step(x: Any) -> Any:
        clock.now -= 5 * 10**9
        return x

    chain = RunnableLambda(lambda x: x) | RunnableLambda(step)
    (trace,) = await tracked(tmp_path, lambda handler: chain.ainvoke("x", {"callbacks": [handler]}))
    assert [span.name for span in trace.walk()] == ["RunnableSequence", "RunnableLambda", "step"]
    assert all(span.duration is not None and 0 <= span.duration < 5 for span in trace.walk())
    run = await asyncio.to_thread(open_run, tmp_path)
    table = await asyncio.to_thread(run.to_pandas)
    assert list(table["name"]) == ["RunnableSequence", "RunnableLambda", "step"]
    assert table["duration"].between(0, 5).all()
    summary = await asyncio.to_thread(run.summary)
    assert summary.trace_seconds.p50 == trace.duration
    named_step = named(trace, "step")
    assert trace.duration is not None and named_step.duration is not None
    assert trace.duration >= named_step.duration


async def test_a_trace_has_the_time_until_its_user_sees_something(tmp_path: Path) -> None:
    """What a user waits for is the steps before the model, too."""

    async def search(x: Any) -> Any:
        await asyncio.to_thread(lambda: sum(range(2_000_000)))
        return x

    chain = RunnableLambda(search) | Words()

    async def use(handler: Any) -> None:
        assert [one async for one in chain.astream("x", {"callbacks": [handler]})]

    (trace,) = await tracked(tmp_path, use)
    call, searched = named(trace, "Words"), named(trace, "search").duration
    assert call.stream is not None and searched is not None
    waited = trace.time_to_first_token
    assert waited is not None and waited >= searched + call.stream["time_to_first_token"]
    assert trace.duration is not None and waited <= trace.duration


async def test_a_retriever_has_a_name(tmp_path: Path) -> None:
    """A span without a name of its own has the one that langchain-core gives it."""

    async def use(handler: Any) -> None:
        run_id = uuid.uuid4()
        await handler.on_retriever_start(None, "fish", run_id=run_id)
        await handler.on_retriever_end([], run_id=run_id)
        run_id = uuid.uuid4()
        await handler.on_tool_end("x", run_id=run_id, name="calc")

    retriever, calc = await tracked(tmp_path, use)
    assert (retriever.root.name, calc.root.name) == ("Retriever", "calc")
