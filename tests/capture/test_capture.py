"""Capture beside langchain-core's own tracer: the same chains and streams, the same traces."""

from __future__ import annotations

import asyncio
import json
import operator
import warnings
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Annotated, Any

import pytest
from langchain.agents import create_agent
from langchain_core._api import LangChainBetaWarning
from langchain_core.callbacks import adispatch_custom_event, dispatch_custom_event
from langchain_core.callbacks.manager import (
    AsyncCallbackManagerForRetrieverRun,
    CallbackManagerForRetrieverRun,
)
from langchain_core.documents import Document
from langchain_core.language_models import FakeListLLM
from langchain_core.load import load
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import GenerationChunk
from langchain_core.prompts import ChatPromptTemplate, PromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import (
    Runnable,
    RunnableBranch,
    RunnableConfig,
    RunnableLambda,
    RunnableParallel,
    RunnablePassthrough,
)
from langchain_core.tools import tool
from langchain_core.tracers.base import AsyncBaseTracer, BaseTracer
from langchain_core.tracers.schemas import Run as TracedRun
from langgraph.graph import END, START, StateGraph
from pydantic import Field
from typing_extensions import TypedDict

from asynctrack import tracker
from asynctrack._common.careful import to_plain
from tests.e2e.chains import joke_chain, model
from tests.support.auditor import assert_exactly_once, audit_folder, events_in_folder

# -- langchain-core's side ------------------------------------------------------------------------

# Wraps what chains take and return as {"input": ...} and {"output": ...} always, so that a chain
# that takes {"input": 1} is not mistaken for one that takes 1.
FORMAT: Any = "streaming_events"
ANY_TEXT = "any text"
# Newer ones of langchain-core ask for it; the oldest does not know it.
LOADING: dict[str, Any] = (
    {"allowed_objects": "messages"} if "allowed_objects" in signature(load).parameters else {}
)


class Traced(BaseTracer):
    """langchain-core's tracer, keeping whole trees."""

    def __init__(self) -> None:
        super().__init__(_schema_format=FORMAT)
        self.roots: list[TracedRun] = []
        self.outputs: dict[str, Any] = {}

    def _on_run_update(self, run: TracedRun) -> None:
        # Now: LangGraph gives messages their id later, and a tracer holds the very object.
        self.outputs[str(run.id)] = _their_outputs(run)

    def _persist_run(self, run: TracedRun) -> None:
        self.roots.append(run)


class AsyncTraced(AsyncBaseTracer):
    """The same for asynchronous chains."""

    def __init__(self) -> None:
        super().__init__(_schema_format=FORMAT)
        self.roots: list[TracedRun] = []
        self.outputs: dict[str, Any] = {}

    async def _on_run_update(self, run: TracedRun) -> None:
        self.outputs[str(run.id)] = _their_outputs(run)

    async def _persist_run(self, run: TracedRun) -> None:
        self.roots.append(run)


def theirs(tracer: Traced | AsyncTraced) -> dict[str, dict[str, Any]]:
    """The spans langchain-core traced, as plain data."""
    spans: dict[str, dict[str, Any]] = {}
    for run in _all(tracer.roots):
        spans[str(run.id)] = {
            "type": run.run_type,
            "name": run.name,
            "parent": None if run.parent_run_id is None else str(run.parent_run_id),
            "trace": str(run.trace_id),
            "inputs": _their_inputs(run),
            "outputs": tracer.outputs[str(run.id)],
            "error": run.error is not None,
            "tokens": sum(event["name"] == "new_token" and _says(event) for event in run.events),
            "tags": sorted(run.tags or ()),
            "retries": sum(event["name"] == "retry" for event in run.events),
        }
    return spans


def _says(event: Mapping[str, Any]) -> bool:
    """Return whether a token has content; the last one, which says why it ends, has none."""
    chunk = event["kwargs"].get("chunk")
    calls = getattr(getattr(chunk, "message", None), "tool_call_chunks", ())
    return bool(event["kwargs"]["token"]) or any(call.get("args") for call in calls)


def _their_inputs(run: TracedRun) -> Any:
    inputs: Any = run.inputs
    if run.run_type == "tool" and inputs["input"] is None:
        return ANY_TEXT  # it keeps the text a tool is called with in another of its formats only
    if run.run_type in ("chain", "prompt", "parser", "tool"):
        inputs = inputs["input"]
    elif run.run_type in ("llm", "chat_model"):
        inputs = _loaded(inputs)
    return to_plain(inputs)


def _their_outputs(run: TracedRun) -> Any:
    if not run.outputs:
        return None
    if run.run_type in ("llm", "chat_model"):
        return _generations(run.outputs["generations"])
    outputs: Any = run.outputs
    return to_plain(outputs.get("output", outputs))


def _loaded(value: Any) -> Any:
    """LangChain's serialized form of a message back to the message."""
    if isinstance(value, list):
        return [_loaded(item) for item in value]
    if isinstance(value, dict):
        if value.get("lc") == 1:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", LangChainBetaWarning)
                return load(value, **LOADING)
        return {key: _loaded(item) for key, item in value.items()}
    return value


def _generations(generations: Any) -> Any:
    return [
        [
            _without_empty(
                {
                    "text": choice.get("text", ""),
                    "message": to_plain(_loaded(choice.get("message"))),
                    "generation_info": to_plain(choice.get("generation_info")),
                }
            )
            for choice in choices
        ]
        for choices in generations
    ]


def _without_empty(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value or key == "text"}


# -- our side -------------------------------------------------------------------------------------


def ours(events: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The spans in stored events, in the same form."""
    spans: dict[str, dict[str, Any]] = {}
    for event in events:
        kind, _, phase = event["event"].rpartition("_")
        if phase == "start":
            inputs = event["inputs"]
            spans[event["span_id"]] = {
                "type": _type(kind, event),
                "name": event.get("name", "Unnamed"),
                "parent": event.get("parent_span_id"),
                "trace": event["trace_id"],
                "inputs": inputs,
                "outputs": None,
                "error": False,
                "tokens": 0,
                "tags": sorted(event.get("tags", ())),
                "retries": 0,
            }
        elif event["event"] == "retry":
            spans[event["span_id"]]["retries"] += 1
        elif phase in ("end", "error"):
            span = spans[event["span_id"]]
            assert event["trace_id"] == span["trace"]
            assert event.get("parent_span_id") == span["parent"]
            if "inputs" in event:
                span["inputs"] = event["inputs"]
            if phase == "end":
                span["outputs"] = _our_outputs(kind, event["outputs"])
            else:
                span["error"] = True
            stream = event.get("data", {}).get("stream")
            span["tokens"] = 0 if stream is None else stream["count"]
    return spans


def _our_outputs(kind: str, outputs: Any) -> Any:
    if kind == "llm":
        return [
            [
                _without_empty(
                    {
                        "text": choice.get("text", ""),
                        "message": choice.get("message"),
                        "generation_info": choice.get("generation_info"),
                    }
                )
                for choice in choices
            ]
            for choices in outputs["generations"]
        ]
    return outputs


def _type(kind: str, event: dict[str, Any]) -> str:
    if kind == "chain":
        return str(event.get("data", {}).get("run_type") or "chain")
    return kind


def assert_same(tracer: Traced | AsyncTraced, folder: Path, accepted: int) -> list[dict[str, Any]]:
    """Fail unless both sides saw the same spans; return our events."""
    assert_exactly_once(audit_folder(folder), accepted)
    events = events_in_folder(folder)
    their_spans, our_spans = theirs(tracer), ours(events)
    assert their_spans, "the scenario traced nothing"
    assert set(our_spans) == set(their_spans)
    for span_id, their_span in their_spans.items():
        our_span = our_spans[span_id]
        for name, value in their_span.items():
            if value == ANY_TEXT:
                assert isinstance(our_span[name], str)
            else:
                assert our_span[name] == _as_json(value), f"{name} of {their_span['name']}"
    errors = [event for event in events if event["event"].endswith("_error")]
    their_errors = {str(run.id): run.error or "" for run in _all(tracer.roots) if run.error}
    for event in errors:
        error = event["error"]
        short = error["type"].rpartition(".")[2]
        assert their_errors[event["span_id"]].startswith(f"{short}("), error
        assert error["message"] in their_errors[event["span_id"]]
        assert "line " in error["traceback"]
    return events


def _all(roots: Sequence[TracedRun]) -> list[TracedRun]:
    found, waiting = [], list(roots)
    while waiting:
        found.append(waiting.pop())
        waiting += found[-1].child_runs
    return found


def _as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


# -- the chains -----------------------------------------------------------------------------------


class Keywords(BaseRetriever):
    """A retriever that needs no index."""

    fails: bool = False

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        if self.fails:
            raise LookupError("the index is gone")
        return [Document(f"about {query}", metadata={"score": 0.5})]

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun
    ) -> list[Document]:
        if self.fails:
            raise LookupError("the index is gone")
        return [Document(f"about {query}", metadata={"score": 0.5})]


@tool
def power(base: float, exponent: float) -> float:
    """Raise a number to a power."""
    return float(base**exponent)


@tool
def broken(text: str) -> str:
    """Always fail."""
    raise ValueError(f"cannot {text}")


def _fails(value: Any) -> Any:
    raise KeyError(f"no {value}")


class _Flaky:
    """Fails twice, then works."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, value: Any) -> Any:
        self.calls += 1
        if self.calls < 3:
            raise ConnectionError(f"try {self.calls}")
        return value


class State(TypedDict):
    numbers: Annotated[list[int], operator.add]


def _graph() -> Runnable[Any, Any]:
    graph = StateGraph(State)
    graph.add_node("one", lambda state: {"numbers": [1]})
    graph.add_node("two", lambda state: {"numbers": [len(state["numbers"])]})
    graph.add_node("three", RunnableLambda(lambda state: {"numbers": [3]}))
    graph.add_edge(START, "one")
    graph.add_conditional_edges("one", lambda state: ["two", "three"])
    graph.add_edge("two", END)
    graph.add_edge("three", END)
    return graph.compile()


def _agent() -> Runnable[Any, Any]:
    script = [
        AIMessage(
            "", tool_calls=[{"name": "power", "args": {"base": 2, "exponent": 3}, "id": "c1"}]
        ),
        AIMessage(
            "",
            tool_calls=[
                {"name": "power", "args": {"base": 8, "exponent": 2}, "id": "c2"},
                {"name": "power", "args": {"base": 1, "exponent": 1}, "id": "c3"},
            ],
        ),
        AIMessage("64"),
    ]
    return create_agent(model(script), [power])


PROMPT = ChatPromptTemplate.from_messages([("system", "be brief"), ("human", "{topic}")])
TEXT = PromptTemplate.from_template("about {topic}:")


@dataclass(frozen=True)
class Scenario:
    """A runnable, its input, and whether it raises."""

    make: Callable[[], Runnable[Any, Any]]
    input: Any
    raises: type[Exception] | None = None


SCENARIOS: dict[str, Scenario] = {
    "sequence": Scenario(joke_chain, {"topic": "fish"}),
    "text model": Scenario(
        lambda: TEXT | FakeListLLM(responses=["one", "two"]) | StrOutputParser(), {"topic": "x"}
    ),
    "parallel": Scenario(
        lambda: RunnableParallel(joke=joke_chain(), same=RunnablePassthrough()), {"topic": "x"}
    ),
    "assign": Scenario(
        lambda: RunnablePassthrough.assign(n=lambda values: len(values)), {"topic": "x"}
    ),
    "branch": Scenario(
        lambda: RunnableBranch(
            (lambda number: number > 3, lambda number: "large"), lambda number: "small"
        ),
        5,
    ),
    "lambda": Scenario(lambda: RunnableLambda(lambda text: [text, {"n": 1.5}]), "in"),
    "lambda that calls a chain": Scenario(
        lambda: RunnableLambda(lambda topic: joke_chain()), {"topic": "x"}
    ),
    "retries": Scenario(
        lambda: RunnableLambda(_Flaky()).with_retry(
            wait_exponential_jitter=False, stop_after_attempt=3
        ),
        "value",
    ),
    "fallbacks": Scenario(
        lambda: RunnableLambda(_fails).with_fallbacks([RunnableLambda(lambda value: "saved")]),
        "value",
    ),
    "error": Scenario(lambda: PROMPT | RunnableLambda(_fails), {"topic": "x"}, KeyError),
    "error in a prompt": Scenario(lambda: PROMPT | model(), {"wrong": "x"}, KeyError),
    "tool": Scenario(lambda: power, {"base": 2.0, "exponent": 3.0}),
    "tool with one text": Scenario(lambda: broken, "this", ValueError),
    "retriever": Scenario(lambda: RunnablePassthrough() | Keywords(), "whales"),
    "retriever that fails": Scenario(lambda: Keywords(fails=True), "whales", LookupError),
    "named, tagged": Scenario(
        lambda: joke_chain().with_config(run_name="my chain", tags=["a"], metadata={"k": 1}),
        {"topic": "x"},
    ),
    "graph": Scenario(_graph, {"numbers": [0]}),
    "agent": Scenario(_agent, {"messages": [("human", "2 ** 3, then squared?")]}),
}

Config = RunnableConfig


def run_sync(
    folder: Path, scenario: Scenario, use: Callable[[Runnable[Any, Any], Any, Config], Any]
) -> list[dict[str, Any]]:
    """Run synchronously with both handlers; return our events once they are equal."""
    traced = Traced()
    with tracker(folder) as handler:
        config: Config = {"callbacks": [handler, traced]}
        if scenario.raises is not None:
            with pytest.raises(scenario.raises):
                use(scenario.make(), scenario.input, config)
        else:
            use(scenario.make(), scenario.input, config)
    return assert_same(traced, folder, handler.statistics().accepted)


def run_async(
    folder: Path,
    scenario: Scenario,
    use: Callable[[Runnable[Any, Any], Any, Config], Awaitable[Any]],
) -> list[dict[str, Any]]:
    """Run asynchronously with both handlers; return our events once they are equal."""
    traced = AsyncTraced()
    chain = scenario.make()  # not in the loop: LangGraph looks at the source of functions

    async def main() -> int:
        async with tracker(folder) as handler:
            config: Config = {"callbacks": [handler, traced]}
            if scenario.raises is not None:
                with pytest.raises(scenario.raises):
                    await use(chain, scenario.input, config)
            else:
                await use(chain, scenario.input, config)
        return handler.statistics().accepted

    accepted = asyncio.run(main())
    return assert_same(traced, folder, accepted)


every_scenario = pytest.mark.parametrize("name", SCENARIOS)
# A stream of these ends differently in langchain-core itself, or they do not stream.
streaming = pytest.mark.parametrize(
    "name", [name for name in SCENARIOS if not name.startswith(("retries",))]
)


@every_scenario
def test_invoke(name: str, tmp_path: Path) -> None:
    """invoke: the spans are those langchain-core traces."""
    run_sync(tmp_path, SCENARIOS[name], lambda chain, value, config: chain.invoke(value, config))


@every_scenario
def test_ainvoke(name: str, tmp_path: Path) -> None:
    """ainvoke: the spans are those langchain-core traces."""
    run_async(tmp_path, SCENARIOS[name], lambda chain, value, config: chain.ainvoke(value, config))


@streaming
def test_stream(name: str, tmp_path: Path) -> None:
    """stream: the spans are those langchain-core traces, inputs known late included."""
    run_sync(
        tmp_path, SCENARIOS[name], lambda chain, value, config: list(chain.stream(value, config))
    )


async def _consume(stream: Any) -> list[Any]:
    return [item async for item in stream]


@streaming
def test_astream(name: str, tmp_path: Path) -> None:
    """astream: the spans are those langchain-core traces, token counts included."""
    run_async(
        tmp_path,
        SCENARIOS[name],
        lambda chain, value, config: _consume(chain.astream(value, config)),
    )


@streaming
def test_astream_events_v2(name: str, tmp_path: Path) -> None:
    """astream_events v2: the spans are those langchain-core traces."""
    run_async(
        tmp_path,
        SCENARIOS[name],
        lambda chain, value, config: _consume(chain.astream_events(value, config, version="v2")),
    )


@pytest.mark.parametrize("name", ["sequence", "text model", "graph", "fallbacks", "tool"])
def test_batch(name: str, tmp_path: Path) -> None:
    """batch: several threads call one handler, and every trace stays whole."""
    events = run_sync(
        tmp_path,
        SCENARIOS[name],
        lambda chain, value, config: chain.batch([value] * 5, config),
    )
    assert len({event["trace_id"] for event in events}) == 5


@pytest.mark.parametrize("name", ["sequence", "text model", "graph", "fallbacks", "tool"])
def test_abatch(name: str, tmp_path: Path) -> None:
    """abatch: several tasks call one handler, and every trace stays whole."""
    events = run_async(
        tmp_path,
        SCENARIOS[name],
        lambda chain, value, config: chain.abatch([value] * 5, config),
    )
    assert len({event["trace_id"] for event in events}) == 5


@pytest.mark.may_block("chain.invoke is a blocking call: LangChain waits there for a thread")
@pytest.mark.parametrize("name", ["sequence", "parallel", "named, tagged", "graph", "agent"])
def test_invoke_inside_a_running_loop(name: str, tmp_path: Path) -> None:
    """invoke on the loop's own thread works with the async handler: LangChain runs it elsewhere."""
    scenario = SCENARIOS[name]
    traced = AsyncTraced()
    chain = scenario.make()

    async def main() -> int:
        async with tracker(tmp_path) as handler:
            chain.invoke(scenario.input, {"callbacks": [handler, traced]})
        return handler.statistics().accepted

    accepted = asyncio.run(main())
    assert_same(traced, tmp_path, accepted)


def test_custom_events(tmp_path: Path) -> None:
    """Events that the user's code dispatches are stored below the span that dispatched them."""

    async def step(value: str, config: Config) -> str:
        await adispatch_custom_event("progress", {"done": 0.5}, config=config)
        return value

    async def main() -> None:
        async with tracker(tmp_path) as handler:
            await RunnableLambda(step).ainvoke("x", {"callbacks": [handler], "tags": ["t"]})

    asyncio.run(main())
    start, custom, _end = events_in_folder(tmp_path)
    assert (custom["event"], custom["name"]) == ("custom_event", "progress")
    assert custom["data"] == {"done": 0.5}
    assert custom["span_id"] == start["span_id"]
    assert custom["trace_id"] == start["trace_id"]
    assert custom["tags"] == ["t"]


def test_custom_events_of_synchronous_code(tmp_path: Path) -> None:
    """The same for the synchronous dispatch."""

    def step(value: str) -> str:
        dispatch_custom_event("progress", {"done": 1})
        return value

    with tracker(tmp_path) as handler:
        RunnableLambda(step).invoke("x", {"callbacks": [handler]})
    kinds = [event["event"] for event in events_in_folder(tmp_path)]
    assert kinds == ["chain_start", "custom_event", "chain_end"]


# -- streams --------------------------------------------------------------------------------------

WORDS = "a fish walks into a bar"
PIECES = 11
"""Six words, five spaces; LangChain adds an empty last chunk where there is none."""


def _end(folder: Path, kind: str = "llm_end") -> dict[str, Any]:
    (event,) = [event for event in events_in_folder(folder) if event["event"] == kind]
    return event


def test_a_stream_is_one_record(tmp_path: Path) -> None:
    """The end of a streamed model call has the text, the count and the times of its tokens."""

    async def main() -> None:
        async with tracker(tmp_path) as handler:
            chunks = joke_chain_of(WORDS).astream({"topic": "x"}, {"callbacks": [handler]})
            assert "".join([chunk async for chunk in chunks]) == WORDS

    asyncio.run(main())
    kinds = {event["event"] for event in events_in_folder(tmp_path)}
    assert "llm_new_token" not in kinds
    stream = _end(tmp_path)["data"]["stream"]
    assert stream["text"] == WORDS
    assert PIECES <= stream["count"] <= PIECES + 1
    assert len(stream["inter_token_times"]) == stream["count"] - 1
    assert 0 < stream["time_to_first_token"] < 60


def joke_chain_of(answer: str) -> Runnable[Any, Any]:
    return PROMPT | model([answer]) | StrOutputParser()


def test_a_model_call_that_is_not_streamed_has_no_stream(tmp_path: Path) -> None:
    """invoke leads to no stream record."""
    with tracker(tmp_path) as handler:
        joke_chain_of(WORDS).invoke({"topic": "x"}, {"callbacks": [handler]})
    assert "stream" not in _end(tmp_path).get("data", {})


class Breaks(FakeListLLM):
    """Streams two tokens, then the connection is gone."""

    responses: list[str] = Field(default_factory=list)

    def _stream(self, *args: Any, run_manager: Any = None, **kwargs: Any) -> Any:
        for token in ("one ", "two "):
            if run_manager is not None:
                run_manager.on_llm_new_token(token)
            yield GenerationChunk(text=token)
        raise ConnectionError("gone")

    async def _astream(self, *args: Any, run_manager: Any = None, **kwargs: Any) -> Any:
        for token in ("one ", "two "):
            if run_manager is not None:
                await run_manager.on_llm_new_token(token)
            yield GenerationChunk(text=token)
        raise ConnectionError("gone")


@pytest.mark.parametrize("sync", [True, False], ids=["sync", "async"])
def test_an_error_keeps_what_was_streamed(sync: bool, tmp_path: Path) -> None:
    """A stream that breaks leaves its text so far beside the error."""

    async def main() -> None:
        async with tracker(tmp_path) as handler:
            with pytest.raises(ConnectionError):
                async for _ in Breaks().astream("x", {"callbacks": [handler]}):
                    pass

    if sync:
        with tracker(tmp_path) as handler, pytest.raises(ConnectionError):
            for _ in Breaks().stream("x", {"callbacks": [handler]}):
                pass
    else:
        asyncio.run(main())
    event = _end(tmp_path, "llm_error")
    assert event["error"]["type"] == "ConnectionError"
    assert event["data"]["stream"]["text"] == "one two "
    assert event["data"]["stream"]["count"] == 2


@pytest.mark.parametrize("tokens", ["stream", "each", "none"])
def test_v3_events_count_once(tokens: str, tmp_path: Path) -> None:
    """A v3 stream counts each piece of content once, whatever else the protocol says."""
    pytest.importorskip("langchain_protocol", reason="this langchain-core has no v3 streams")

    async def main() -> None:
        async with tracker(tmp_path, tokens=tokens) as handler:
            stream = await model([WORDS]).astream_events(
                "x", {"callbacks": [handler]}, version="v3"
            )
            async for _ in stream:
                pass

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LangChainBetaWarning)
        asyncio.run(main())
    events = events_in_folder(tmp_path)
    end = _end(tmp_path)
    deltas = [
        event["data"]["event"]["delta"]
        for event in events
        if event["event"] == "stream_event"
        and event["data"]["event"]["event"] == "content-block-delta"
    ]
    if tokens == "stream":
        assert len(events) == 2
        stream = end["data"]["stream"]
        assert (stream["text"], stream["count"]) == (WORDS, PIECES)
    else:
        assert "stream" not in end.get("data", {})
        assert "".join(delta["text"] for delta in deltas) == (WORDS if tokens == "each" else "")
        assert bool(deltas) == (tokens == "each")
