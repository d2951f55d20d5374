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
from asynctrack._common.outcome import OUTCOMES, Outcome
from tests.reading import making
from tests.reading.making import RunFolder, event

QUESTION = "Refund 40 euros to Ann?"
PARTIAL = "Once upon"


class State(TypedDict):
    """What the nodes of these graphs share."""

    said: Annotated[list[str], operator.add]


class Slow(GenericFakeChatModel):
    """A model that says its first words and then nothing more."""

    hanging: Any = None
    """An event that is set when it says nothing more."""

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
        self.hanging.set()
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


async def _in_time(chain: Runnable[Any, Any], hanging: asyncio.Event, config: Any) -> None:
    async def bounded(question: Any, config: Any) -> Any:
        asked = asyncio.ensure_future(chain.ainvoke(question, config))
        await hanging.wait()  # the limit is for the model, whatever a busy machine does before it
        return await asyncio.wait_for(asked, 0.05)

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
    hanging = asyncio.Event()
    slow = (prompt | Slow(messages=iter(()), hanging=hanging)).with_config(run_name="slow_tale")
    await _cancelled(slow, config)
    hanging.clear()
    await _in_time(RunnableLambda(lambda text: {"topic": text}) | slow, hanging, config)
    stream = (prompt | model("You will not hear all of this.")).with_config(run_name="left")
    parts = stream.astream({"topic": "patience"}, config)
    async for _ in parts:
        break
    await parts.aclose()


def make(place: Path) -> None:
    """Write the Run into a folder."""
    with tracker(place, experiment_name="endings", run_name="all") as handler:
        asyncio.run(_run(handler))


def one_each(place: Path, run: str, counts: dict[Outcome, int], *, recovered: int = 0) -> None:
    """Write a Run by hand with so many traces of each outcome, which are called by it.

    Each has a model call that ended in the same way. In the first ones that did not fail it came
    up with an error all the same.
    """
    writer = f"{sum(map(ord, run)):024x}"
    events: list[dict[str, Any]] = []

    def add(kind: str, span: str, trace: str, **fields: Any) -> None:
        parent = {} if span == trace else {"parent_span_id": trace}
        seq = len(events) + 1
        at = making.START + seq * 10**9
        events.append(
            event(
                seq,
                writer=writer,
                time=at,
                kind=kind,
                span_id=span,
                trace_id=trace,
                **parent,
                **fields,
            )
        )

    for outcome, count in counts.items():
        for number in range(count):
            trace = f"{outcome}-{number}"
            call = f"{trace}-call"
            inner: Outcome = outcome
            if outcome not in ("error", "unfinished", "abandoned") and recovered > 0:
                inner, recovered = "error", recovered - 1
            add("chain_start", trace, trace, name=outcome, inputs=number)
            add("chat_model_start", call, trace, name="Model", inputs="hello")
            for span, ended, kind in ((call, inner, "llm"), (trace, outcome, "chain")):
                if ended == "abandoned":
                    add(
                        "span_abandoned",
                        span,
                        trace,
                        data={"reason": "closed", "open_seconds": 9.0},
                    )
                elif ended == "ok":
                    add(f"{kind}_end", span, trace, outcome=ended, duration=1.0, outputs="fine")
                elif ended != "unfinished":
                    error = {"type": f"a.{ended.title()}", "message": f"it is {ended}"}
                    add(f"{kind}_error", span, trace, outcome=ended, duration=1.0, error=error)
    folder = RunFolder(place, "endings", run)
    folder.artifact(events, writer=writer)
    folder.manifest(writer)


def torn(place: Path) -> None:
    """Write a Run by hand with one trace: the clock was set back by an hour in it, and one span
    names a parent that is not there."""
    at, second, writer = making.START, 10**9, f"{7:024x}"
    ids = {"writer": writer, "trace_id": "torn"}
    below = {"parent_span_id": "torn", **ids}
    events = [
        event(1, kind="chain_start", span_id="torn", name="torn", time=at, **ids),
        event(2, kind="tool_start", span_id="a", name="set", time=at + second, **below),
        event(3, kind="tool_end", span_id="a", time=at - 3597 * second, duration=2.0, **below),
        event(4, kind="tool_start", span_id="b", name="lost", time=at + second,
              parent_span_id="nobody", **ids),
        event(5, kind="tool_end", span_id="b", time=at + second, duration=0.5,
              parent_span_id="nobody", **ids),
        event(6, kind="chain_end", span_id="torn", time=at - 3596 * second, duration=4.0, **ids),
    ]  # fmt: skip
    folder = RunFolder(place, "endings", "torn")
    folder.artifact(events, writer=writer)
    folder.manifest(writer)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
    one_each(Path(sys.argv[1]), "each", dict.fromkeys(OUTCOMES, 1), recovered=1)
