"""The workloads: one table that all scripts share.

The models answer at once or after a fixed time, natively async as real clients are, so that what
is measured is LangChain and its handlers, not a thread pool.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from asynctrack.demo import _workload
from asynctrack.demo._workload import ANSWER, CONCURRENCY, INVOCATIONS, Invoke, drive


@dataclass(frozen=True, slots=True)
class Workload:
    """One workload.

    Attributes:
        name: Short, for files and command lines.
        title: For tables.
        make: Builds the chain; the imports happen there.
        invocations: In a round.
        concurrency: How many invocations run at the same time.
        sync: Whether it is synchronous code without an event loop.
    """

    name: str
    title: str
    make: Callable[[], Invoke]
    invocations: int
    concurrency: int
    sync: bool = False

    def shrunk(self, factor: float) -> Workload:
        """Return it with fewer invocations; concurrency follows."""
        invocations = max(1, round(self.invocations * factor))
        return replace(
            self, invocations=invocations, concurrency=min(self.concurrency, invocations)
        )


def run_round(
    loop: asyncio.AbstractEventLoop, invoke: Invoke, workload: Workload, config: dict[str, Any]
) -> None:
    """Run one round, in the loop or without it."""
    if workload.sync:
        for number in range(workload.invocations):
            invoke(number, config)
    else:
        loop.run_until_complete(drive(invoke, workload.invocations, workload.concurrency, config))


def recorder(
    *, sync: bool = False
) -> tuple[Any, list[tuple[str, tuple[Any, ...], dict[str, Any]]]]:
    """Return a handler, and the list of its callbacks: name, arguments, options."""
    from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler

    seen: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def recording(name: str) -> Any:
        def record(self: Any, *arguments: Any, **options: Any) -> None:
            seen.append((name, arguments, options))

        async def record_async(self: Any, *arguments: Any, **options: Any) -> None:
            seen.append((name, arguments, options))

        return record if sync else record_async

    base: type = BaseCallbackHandler if sync else AsyncCallbackHandler
    names = [name for name in dir(AsyncCallbackHandler) if name.startswith("on_")]
    return type("Recorder", (base,), {name: recording(name) for name in names})(), seen


def count_callbacks(
    loop: asyncio.AbstractEventLoop, invoke: Invoke, workload: Workload
) -> tuple[int, int]:
    """Return how many callbacks one invocation makes, and how many of them start a span."""
    handler, seen = recorder(sync=workload.sync)
    run_round(loop, invoke, workload.shrunk(0.0), {"callbacks": [handler]})
    return len(seen), sum(name.endswith("_start") for name, _, _ in seen)


# -- models -----------------------------------------------------------------------------------


def local_model(
    *, latency: float = 0.0, answer: str = ANSWER, tokens: int = 0, tool_calls: int = 0
) -> Any:
    from langchain_core.messages import AIMessage, AIMessageChunk, ToolMessage
    from langchain_core.outputs import ChatGenerationChunk

    class LocalModel(_workload.LocalModel):
        def bind_tools(self, tools: Any, **options: Any) -> Any:
            return self

        def _message(self, messages: list[Any]) -> AIMessage:
            done = sum(isinstance(message, ToolMessage) for message in messages)
            if done >= tool_calls:
                return _workload.reply(answer)
            arguments = {"expression": f"{done} + 1"}
            call = {"name": "calculate", "args": arguments, "id": f"call-{done}"}
            return _workload.reply("", [call])

        async def _wait(self) -> None:
            await asyncio.sleep(latency)

    class StreamingModel(LocalModel):
        async def _astream(
            self, messages: Any, stop: Any = None, run_manager: Any = None, **options: Any
        ) -> Any:
            for number in range(tokens):
                chunk = ChatGenerationChunk(message=AIMessageChunk(content=f"word{number} "))
                if run_manager is not None:
                    await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk
                if not number % 50:
                    await asyncio.sleep(0)

    return StreamingModel() if tokens else LocalModel()


def _lcel(latency: float = 0.0) -> Invoke:
    return _workload.jokes(local_model(latency=latency))


def _lcel_sync() -> Invoke:
    chain = _workload.joke_chain(local_model())

    def invoke(number: int, config: dict[str, Any]) -> None:
        chain.invoke({"topic": f"fish {number}"}, config=config)

    return invoke


def _streaming() -> Invoke:
    chain = _workload.joke_chain(local_model(tokens=500))

    async def invoke(number: int, config: dict[str, Any]) -> None:
        async for _ in chain.astream({"topic": f"fish {number}"}, config=config):
            pass

    return invoke


def _payload(size: int) -> Invoke:
    # Words and not one letter: as hard to escape, hash and compress as text is.
    text = " ".join(f"word{number * 7919 % 10_007}" for number in range(size // 8))[:size]
    chain = _workload.joke_chain(local_model(answer=text[: size // 5] or ANSWER))

    async def invoke(number: int, config: dict[str, Any]) -> None:
        await chain.ainvoke({"topic": text}, config=config)

    return invoke


def _agent() -> Invoke:
    from langchain.agents import create_agent
    from langchain_core.tools import tool

    @tool
    async def calculate(expression: str) -> str:
        """Calculate an expression."""
        return f"{expression} is a sum"

    agent: Any = create_agent(local_model(tool_calls=3), [calculate])

    async def invoke(number: int, config: dict[str, Any]) -> None:
        question = {"messages": [("user", f"What is {number} + 1 + 2 + 3?")]}
        await agent.ainvoke(question, config=config)

    return invoke


def _retrieval() -> Invoke:
    from langchain_core.documents import Document
    from langchain_core.output_parsers import StrOutputParser
    from langchain_core.prompts import ChatPromptTemplate
    from langchain_core.retrievers import BaseRetriever
    from langchain_core.runnables import RunnablePassthrough

    documents = [
        Document(
            page_content=f"Fish number {number} swims. " * 20,
            metadata={"source": f"shelf/{number}.txt", "page": number, "score": 0.5 + number / 10},
        )
        for number in range(4)
    ]

    class Shelf(BaseRetriever):
        """Finds the same documents each time."""

        def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
            return documents

        async def _aget_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
            await asyncio.sleep(0)
            return documents

    prompt = ChatPromptTemplate.from_template("From {context}, answer {question}")
    chain: Any = (
        {"context": Shelf(), "question": RunnablePassthrough()}
        | prompt
        | local_model()
        | StrOutputParser()
    )

    async def invoke(number: int, config: dict[str, Any]) -> None:
        await chain.ainvoke(f"Where is fish {number}?", config=config)

    return invoke


WORKLOADS: dict[str, Workload] = {
    workload.name: workload
    for workload in (
        Workload("lcel-1", "LCEL chain, one at a time", _lcel, 150, 1),
        Workload("lcel-100", "LCEL chain, 100 at a time", _lcel, INVOCATIONS, CONCURRENCY),
        Workload("lcel-10000", "LCEL chain, 10,000 at a time", _lcel, 10_000, 10_000),
        Workload(
            "lcel-latency",
            "LCEL chain, model takes 50 ms, 100 at a time",
            lambda: _lcel(0.05),
            200,
            100,
        ),
        Workload("stream", "streaming, 20 × 500 tokens", _streaming, 20, 20),
        Workload("payload-1kb", "payload of 1 KB", lambda: _payload(1_000), 150, 20),
        Workload("payload-100kb", "payload of 100 KB", lambda: _payload(100_000), 60, 20),
        Workload("payload-5mb", "payload of 5 MB", lambda: _payload(5_000_000), 4, 2),
        Workload("agent", "LangGraph agent, three tool calls", _agent, 30, 10),
        Workload("retrieval", "retrieval with four documents", _retrieval, 100, 20),
        Workload("sync", "LCEL chain, synchronous invoke", _lcel_sync, 150, 1, sync=True),
    )
}
