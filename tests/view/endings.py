"""A Run in which traces end in every way: real graphs, chains and streams, tracked as usual."""

from __future__ import annotations

import asyncio
import operator
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.tools import ToolException, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt

from asynctrack import tracker

QUESTION = "Refund 40 euros to Ann?"
PARTIAL = "Once upon"


class State(TypedDict):
    """What the nodes of these graphs share."""

    said: Annotated[list[str], operator.add]


class Slow(GenericFakeChatModel):
    """A model that says its first words and then nothing more."""

    async def _astream(self, *given: Any, **more: Any) -> AsyncIterator[ChatGenerationChunk]:
        manager = more.get("run_manager")
        for word in PARTIAL.split(" "):
            text = word if word == "Once" else f" {word}"
            chunk = ChatGenerationChunk(message=AIMessageChunk(text))
            if manager is not None:
                await manager.on_llm_new_token(text, chunk=chunk)
            yield chunk
        await asyncio.Event().wait()

    async def _agenerate(self, *given: Any, **more: Any) -> ChatResult:
        await asyncio.Event().wait()
        raise AssertionError("it never answers")


def model(*answers: str) -> GenericFakeChatModel:
    """A model that gives these answers."""
    return GenericFakeChatModel(messages=iter([AIMessage(answer) for answer in answers]))


def refund() -> Any:
    """A graph that asks a human."""

    def ask(state: State) -> State:
        answer = interrupt({"question": QUESTION, "choices": ["yes", "no"]})
        return {"said": [str(answer)]}

    graph = StateGraph(State)
    graph.add_node("ask", ask)
    graph.add_edge(START, "ask")
    graph.add_edge("ask", END)
    return graph.compile(checkpointer=InMemorySaver(), name="refund")


def support() -> Any:
    """A graph whose first part hands over to its second one."""

    def triage(state: State) -> Command[Any]:
        return Command(goto="billing", graph=Command.PARENT, update={"said": ["to billing"]})

    inner = StateGraph(State)
    inner.add_node("triage", triage)
    inner.add_edge(START, "triage")
    graph = StateGraph(State)
    graph.add_node("front", inner.compile(), destinations=("billing",))
    graph.add_node("billing", lambda state: {"said": ["It is booked back."]})
    graph.add_edge(START, "front")
    graph.add_edge("billing", END)
    return graph.compile(name="support")


@tool
def look_up(order: int) -> str:
    """Look up an order."""
    raise ToolException(f"there is no order {order}")


look_up.handle_tool_error = True


async def _careful(question: str, config: Any) -> str:
    call = {"name": "look_up", "args": {"order": 7}, "id": "call_7", "type": "tool_call"}
    result = await look_up.ainvoke(call, config)
    return f"I could not find it: {result.content}"


async def _broken(question: str) -> str:
    raise LookupError(f"nobody knows {question!r}")


async def _in_time(chain: Runnable[Any, Any], seconds: float, config: Any) -> None:
    async def bounded(question: Any, config: Any) -> Any:
        return await asyncio.wait_for(chain.ainvoke(question, config), seconds)

    try:
        await RunnableLambda(bounded).with_config(run_name="in_time").ainvoke("a tale", config)
    except (TimeoutError, asyncio.TimeoutError):
        pass


async def _cancelled(chain: Runnable[Any, Any], config: Any) -> None:
    begun = asyncio.Event()

    async def run() -> None:
        async for _ in chain.astream({"topic": "dragons"}, config):
            begun.set()

    task = asyncio.ensure_future(run())
    await begun.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _run(handler: Any) -> None:
    config: dict[str, Any] = {"callbacks": [handler]}
    prompt = ChatPromptTemplate.from_template("Tell of {topic}")
    told = (prompt | model("A short tale of dragons and their gold.")).with_config(run_name="tale")
    async for _ in told.astream({"topic": "dragons"}, config):
        pass
    thread = {**config, "configurable": {"thread_id": "ann"}}
    graph = refund()
    await graph.ainvoke({"said": ["I want my money back"]}, thread)
    await graph.ainvoke(Command(resume="yes"), thread)
    await support().ainvoke({"said": ["I was charged twice"]}, config)
    await RunnableLambda(_careful).with_config(run_name="careful").ainvoke("Order 7?", config)
    broken = RunnableLambda(_broken).with_config(run_name="broken")
    outer = (RunnableLambda(lambda text: text) | broken).with_config(run_name="answer")
    try:
        await outer.ainvoke("the way", config)
    except LookupError:
        pass
    slow = (prompt | Slow(messages=iter(()))).with_config(run_name="slow_tale")
    await _cancelled(slow, config)
    await _in_time(RunnableLambda(lambda text: {"topic": text}) | slow, 0.05, config)
    stream = (prompt | model("You will not hear all of this.")).with_config(run_name="left")
    parts = stream.astream({"topic": "patience"}, config)
    async for _ in parts:
        break
    await parts.aclose()


def make(place: Path) -> None:
    """Write the Run into a folder."""
    with tracker(place, experiment_name="endings", run_name="all") as handler:
        asyncio.run(_run(handler))


if __name__ == "__main__":
    make(Path(sys.argv[1]))
