"""LangGraph and agents under an installed tracker: every step once, below what called it."""

from __future__ import annotations

import asyncio
import operator
import sys
from pathlib import Path
from typing import Annotated, Any

import pytest
from langchain.agents import create_agent
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send, interrupt
from typing_extensions import TypedDict

from asynctrack import open_run, tracker
from tests.everywhere.models import calling, scripted
from tests.support.trees import trees

STEP = RunnableLambda(lambda text: str(text)).with_config(run_name="step")


class State(TypedDict):
    """What nodes add to."""

    found: Annotated[list[str], operator.add]


def graph() -> Any:
    """Two branches side by side, a subgraph, one node sent to twice, a pause, checkpoints."""

    async def left(state: State) -> dict[str, Any]:
        return {"found": [await STEP.ainvoke("left")]}

    def right(state: State) -> dict[str, Any]:
        return {"found": [STEP.invoke("right")]}

    async def deep(state: State) -> dict[str, Any]:
        return {"found": [await STEP.ainvoke("deep")]}

    async def sent(state: str) -> dict[str, Any]:
        return {"found": [await STEP.ainvoke(state)]}

    def ask(state: State) -> dict[str, Any]:
        return {"found": [interrupt("go on?")]}

    def spread(state: State) -> list[Send]:
        return [Send("sent", "a"), Send("sent", "b")]

    below = StateGraph(State)
    below.add_node("deep", deep)
    below.add_edge(START, "deep")
    above = StateGraph(State)
    above.add_node("left", left)
    above.add_node("right", right)
    above.add_node("below", below.compile(name="subgraph"))
    above.add_node("sent", sent)
    above.add_node("ask", ask)
    above.add_edge(START, "left")
    above.add_edge(START, "right")
    above.add_edge("left", "below")
    above.add_edge("right", "below")
    above.add_conditional_edges("below", spread)
    above.add_edge("sent", "ask")
    above.add_edge("ask", END)
    return above.compile(checkpointer=InMemorySaver(), name="graph")


SENT = "sent(step), sent(step)"
PAUSED = f"graph(ask, below(spread, subgraph(deep(step))), left(step), right(step), {SENT})"


@pytest.mark.skipif(
    sys.version_info < (3, 11), reason="an async node's context is lost to LangGraph itself"
)
@pytest.mark.parametrize("process", [False, True])
async def test_a_graph_with_everything(tmp_path: Path, process: bool) -> None:
    """Branches, subgraph, Send, pause and resumption: two traces, each whole, in one session."""
    config = {"configurable": {"thread_id": "t1"}}
    async with tracker(tmp_path, install="process" if process else True):
        paused = graph()
        stopped = await paused.ainvoke({"found": []}, config=config)
        assert "__interrupt__" in stopped
        ended = await paused.ainvoke(Command(resume="yes"), config=config)
    assert sorted(set(ended["found"])) == ["a", "b", "deep", "left", "right", "yes"]
    found = await asyncio.to_thread(trees, tmp_path)
    assert found == sorted([PAUSED, "graph(ask)"])
    traces = await asyncio.to_thread(lambda: list(open_run(tmp_path).traces()))
    assert {(one.outcome, one.session_id) for one in traces} == {
        ("interrupted", "t1"),
        ("ok", "t1"),
    }


@tool
async def weather(city: str) -> str:
    """Tell the weather of a city."""
    return str(await STEP.ainvoke(f"sunny in {city}"))


@pytest.mark.skipif(
    sys.version_info < (3, 11), reason="an async tool's context is lost to LangGraph itself"
)
async def test_an_agent(tmp_path: Path) -> None:
    """``create_agent``: called, streamed, and by its events; the tool's own chain is below it."""
    async with tracker(tmp_path, install=True) as handler:
        for call in range(3):
            model = scripted(calling("weather", city="Rome"), "It is sunny.")
            agent = create_agent(model, [weather], name="agent")
            asked: Any = {"messages": [{"role": "user", "content": "How is Rome?"}]}
            if call == 0:
                await agent.ainvoke(asked)
            elif call == 1:
                async for _ in agent.astream(asked, config={"callbacks": [handler]}):
                    pass
            else:
                async for _ in agent.astream_events(asked, version="v2"):
                    pass
    found = await asyncio.to_thread(trees, tmp_path)
    assert len(found) == 3 and len(set(found)) == 1, found
    assert found[0].count("Scripted") == 2 and "weather(step)" in found[0], found
