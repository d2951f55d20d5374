"""What is read back is what langchain-core's own tracer collected on the same execution."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import anyio.to_thread
import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel, FakeListLLM
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.prompts import ChatPromptTemplate, PromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import Runnable, RunnableLambda, RunnableParallel
from langchain_core.tools import tool
from langchain_core.tracers.base import BaseTracer
from langchain_core.tracers.schemas import Run
from pydantic import BaseModel

from asynctrack import tracker
from asynctrack._reading.run import open_run
from asynctrack._reading.trees.span import Span
from asynctrack._reading.verify import verify


class Collector(BaseTracer):
    """Keeps the trees that langchain-core's tracer builds."""

    def __init__(self) -> None:
        super().__init__(_schema_format="streaming_events")
        self.roots: list[Run] = []
        self._started: dict[UUID, float] = {}

    def _on_run_create(self, run: Run) -> None:
        # Its own times are the wall clock's, which is set now and then.
        self._started[run.id] = time.perf_counter()

    def _on_run_update(self, run: Run) -> None:
        run.extra["seconds"] = time.perf_counter() - self._started[run.id]

    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> Run:
        """Keep what the tool returned, not what LangGraph makes of it afterwards: an id is set."""
        return super().on_tool_end(copy.deepcopy(output), run_id=run_id, **kwargs)

    def _persist_run(self, run: Run) -> None:
        self.roots.append(run)


class ScriptedModel(BaseChatModel):
    """Answers in turn, streams by the word, and fails where the script holds an error."""

    script: Iterator[Any]

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Runnable[Any, Any]:
        """Accept tools, as an agent demands, and ignore them."""
        return self

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        answer = next(self.script)
        if isinstance(answer, Exception):
            raise answer
        return ChatResult(generations=[ChatGeneration(message=answer)])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        answer = next(self.script)
        if isinstance(answer, Exception):
            raise answer
        if answer.tool_calls:
            calls = [
                {"name": one["name"], "args": str(one["args"]).replace("'", '"'),
                 "id": one["id"], "index": 0}
                for one in answer.tool_calls
            ]  # fmt: skip
            chunks = [AIMessageChunk(content="", tool_call_chunks=calls)]
        else:
            chunks = [AIMessageChunk(content=word) for word in answer.content.split(" ")]
        for chunk in chunks:
            piece = ChatGenerationChunk(message=chunk)
            if run_manager:
                run_manager.on_llm_new_token(str(chunk.content), chunk=piece)
            yield piece


def model(*answers: Any) -> ScriptedModel:
    made = [AIMessage(answer) if isinstance(answer, str) else answer for answer in answers]
    return ScriptedModel(script=itertools.cycle(made))


def usage() -> AIMessage:
    tokens = {"input_tokens": 3, "output_tokens": 5, "total_tokens": 8}
    return AIMessage("a fish walks in", usage_metadata=tokens, response_metadata={"model": "m"})


class Shelf(BaseRetriever):
    """Finds the same two documents for every query."""

    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        return [Document("one", metadata={"page": 1}), Document(query)]


@tool
def multiply(a: int, b: int) -> int:
    """Multiply two numbers."""
    return a * b


def fail(value: Any) -> Any:
    raise ValueError(f"cannot use {value!r}")


PROMPT = ChatPromptTemplate.from_messages([("system", "be brief"), ("human", "about {topic}")])
TOPIC = {"topic": "fish"}


def lcel() -> Runnable[Any, Any]:
    return PROMPT | model(usage()) | StrOutputParser()


def parallel() -> Runnable[Any, Any]:
    return RunnableParallel(joke=lcel(), text=PromptTemplate.from_template("{topic}"), as_is=len)


def failing() -> Runnable[Any, Any]:
    return PROMPT | model(RuntimeError("the model is out")) | StrOutputParser()


def falling_back() -> Runnable[Any, Any]:
    return failing().with_fallbacks([PROMPT | FakeListLLM(responses=["plan B"])])


def inner_error() -> Runnable[Any, Any]:
    return lcel() | RunnableLambda(fail)


def retrieving() -> Runnable[Any, Any]:
    return RunnableLambda(lambda value: value["topic"]) | Shelf()


def agent() -> Runnable[Any, Any]:
    call = {"name": "multiply", "args": {"a": 6, "b": 7}, "id": "call-1", "type": "tool_call"}
    return create_agent(model(AIMessage("", tool_calls=[call]), "it is 42"), [multiply])


async def invoke(chain: Runnable[Any, Any], value: Any, config: Any) -> None:
    await chain.ainvoke(value, config)


async def stream(chain: Runnable[Any, Any], value: Any, config: Any) -> None:
    async for _ in chain.astream(value, config):
        pass


async def batch(chain: Runnable[Any, Any], value: Any, config: Any) -> None:
    await chain.abatch([value] * 3, config)


ASKED = {"messages": [("human", "6 times 7?")]}
Call = Callable[[Runnable[Any, Any], Any, Any], Awaitable[None]]
CASES: dict[str, tuple[Callable[[], Runnable[Any, Any]], Any, Call]] = {
    "lcel": (lcel, TOPIC, invoke),
    "lcel, batch": (lcel, TOPIC, batch),
    "lcel, stream": (lcel, TOPIC, stream),
    "parallel": (parallel, TOPIC, invoke),
    "parallel, stream": (parallel, TOPIC, stream),
    "error": (failing, TOPIC, invoke),
    "error, stream": (failing, TOPIC, stream),
    "error in a lambda": (inner_error, TOPIC, invoke),
    "fallback": (falling_back, TOPIC, invoke),
    "retriever": (retrieving, TOPIC, invoke),
    "agent": (agent, ASKED, invoke),
    "agent, stream": (agent, ASKED, stream),
}


@pytest.mark.parametrize("case", CASES)
async def test_traces_equal_those_of_langchains_tracer(case: str, tmp_path: Path) -> None:
    """Ids, parents, names, kinds, tags, inputs, outputs and errors are those of the tracer."""
    make, value, call = CASES[case]
    chain = make()
    collector = Collector()
    async with tracker(str(tmp_path), run_name="one") as handler:
        try:
            await call(chain, value, {"callbacks": [handler, collector], "tags": ["mine"]})
        except (RuntimeError, ValueError) as error:
            assert "error" in case, error
    await anyio.to_thread.run_sync(assert_equal, tmp_path, collector)


@pytest.mark.parametrize("case", CASES)
def test_traces_equal_in_synchronous_code(case: str, tmp_path: Path) -> None:
    """The same for code without an event loop."""
    make, value, call = CASES[case]
    chain = make()
    collector = Collector()
    with tracker(str(tmp_path), run_name="one") as handler:
        config: Any = {"callbacks": [handler, collector], "tags": ["mine"]}
        try:
            if call is stream:
                list(chain.stream(value, config))
            elif call is batch:
                chain.batch([value] * 3, config)
            else:
                chain.invoke(value, config)
        except (RuntimeError, ValueError) as error:
            assert "error" in case, error
    assert_equal(tmp_path, collector)


def assert_equal(folder: Path, collector: Collector) -> None:
    run = open_run(folder)
    traces = list(run.traces())
    assert traces
    assert [trace for trace in traces if not trace.complete] == []
    ours = [ours_of(root) for trace in traces for root in trace.roots]
    theirs = [theirs_of(root) for root in collector.roots]
    assert list(differences(by_id(ours), by_id(theirs), "")) == []
    assert verify(folder).ok
    assert run.problems == ()


class Near:
    """A time in seconds, equal to another that was taken next to it."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Near) and abs(self.seconds - other.seconds) < 0.5

    def __repr__(self) -> str:
        return f"{self.seconds:.3f} s"


def differences(ours: Any, theirs: Any, path: str) -> Iterator[str]:
    """Every place where two trees differ, so that a failure can be read."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in sorted({*ours, *theirs}):
            yield from differences(ours.get(key), theirs.get(key), f"{path}.{key}")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for at, pair in enumerate(zip(ours, theirs, strict=True)):
            yield from differences(*pair, f"{path}[{at}]")
    elif ours != theirs:
        yield f"{path}: {ours!r} is not {theirs!r}"


def by_id(trees: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(trees, key=lambda tree: str(tree["id"]))


def ours_of(span: Span) -> dict[str, Any]:
    inputs, outputs = span.inputs, span.outputs
    chain = span.kind not in ("llm", "chat_model", "tool", "retriever")
    assert span.start_unix_nano is not None
    return {
        "id": span.span_id,
        "parent": span.parent_span_id,
        "name": span.name,
        "kind": span.kind,
        "tags": list(span.tags),
        "inputs": canonical({"input": inputs} if chain or span.kind == "tool" else inputs),
        "outputs": canonical({"output": outputs} if chain or span.kind == "tool" else outputs),
        "error": None if span.error is None else span.error.message,
        "start": Near(span.start_unix_nano / 1e9),
        "seconds": Near(span.duration or -1.0),
        "children": by_id([ours_of(child) for child in span.children]),
    }


def theirs_of(run: Run) -> dict[str, Any]:
    # The tracer keeps a stack trace as one text, with the exception's repr before it.
    found = re.match(r"""\w+\((['"])(?P<message>.*?)\1\)""", run.error or "")
    return {
        "id": str(run.id),
        "parent": run.parent_run_id and str(run.parent_run_id),
        "name": run.name,
        "kind": run.run_type,
        "tags": run.tags or [],
        "inputs": canonical(run.inputs),
        "outputs": canonical(run.outputs),
        "error": found and found["message"],
        "start": Near(run.start_time.timestamp()),
        "seconds": Near(run.extra["seconds"]),
        "children": by_id([theirs_of(child) for child in run.child_runs]),
    }


def canonical(value: Any) -> Any:
    """A value as plain data, without what is empty: the two sides differ in what they leave out."""
    if isinstance(value, BaseModel):
        value = {name: getattr(value, name) for name in type(value).model_fields}
    elif dataclasses.is_dataclass(value):
        value = {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        if value.get("lc") == 1 and value.get("type") == "constructor":
            return canonical(value["kwargs"])
        found = {str(key): canonical(item) for key, item in value.items()}
        return {key: item for key, item in found.items() if item not in (None, "", [], {})}
    if isinstance(value, (list, tuple)):
        return [canonical(item) for item in value]
    return value
