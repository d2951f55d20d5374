"""Conversations that really took place: LangGraph with its history, and plain chains, tracked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import MessagesState, StateGraph
from langgraph.types import Command, interrupt

from asynctrack import tracker
from tests.e2e.chains import USAGE, model

QUESTION = "Where is order 5?\nIt is late."
ANSWER = "It is on its way.\n\nThanks for asking."


class CarrierDownError(RuntimeError):
    """What the carrier's service raises."""


@tool
def track_order(order: str) -> str:
    """Look where an order is."""
    if order == "6":
        raise CarrierDownError("503 from the carrier\nfor 6")
    return f"order {order}: lorry 17"


@dataclass(frozen=True)
class Bot:
    """A support bot; ``graph`` remembers each thread.

    Attributes:
        graph: The graph.
    """

    graph: Any

    def say(self, handler: Any, thread: str, text: Any, **metadata: Any) -> Any:
        """Say something in a thread."""
        given = {"messages": [("user", text)]} if isinstance(text, (str, list)) else text
        config: Any = {
            "callbacks": [handler],
            "configurable": {"thread_id": thread},
            "metadata": metadata,
        }
        return self.graph.invoke(given, config)


def bot(*answers: str) -> Bot:
    """A bot that answers so, one after the other. It looks an order up where the text has a number
    with #, and asks a human where it says refund."""
    usage: Any = USAGE
    script: Iterator[AIMessage] = iter([AIMessage(one, usage_metadata=usage) for one in answers])
    chat = model().model_copy(update={"messages": script})

    def look(state: MessagesState) -> dict[str, Any]:
        text = str(state["messages"][-1].content)
        if "#" in text:
            track_order.invoke({"order": text.partition("#")[2]})
        if "refund" in text:
            return {"messages": [AIMessage(f"approved: {interrupt('May I pay 20 EUR?')}")]}
        return {}

    def answer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [chat.invoke(state["messages"])]}

    graph = StateGraph(MessagesState).add_node("look", look).add_node("answer", answer)
    graph.add_edge("__start__", "look").add_edge("look", "answer")
    return Bot(graph.compile(checkpointer=InMemorySaver(), name="support"))


def talk(folder: Path) -> None:
    """Two Runs: a conversation over both, one that failed, one that waits, and a lone trace."""
    talking = bot(ANSWER, "Gladly.", "Paid.", "Hello.")
    with tracker(folder, experiment_name="bot", run_name="monday") as handler:
        talking.say(handler, "late", QUESTION, user_id="ann")
        try:
            talking.say(handler, "broken", "Where is #6", user_id="bob", session_id="b-session")
        except CarrierDownError:
            pass
        RunnableLambda(lambda text: text.upper(), name="shout").invoke(
            "nobody", {"callbacks": [handler]}
        )
    with tracker(folder, experiment_name="bot", run_name="tuesday") as handler:
        blocks = [{"type": "text", "text": text} for text in ("And order 7?", "Please.")]
        talking.say(handler, "late", blocks, user_id="ann")
        talking.say(handler, "wants", "I want a refund", user_id="ann")
        talking.say(handler, "wants", Command(resume="yes"), user_id="ann")
