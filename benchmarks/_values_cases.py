"""The workloads of ``values``: a graph with a large state, an image through a conversation, texts.

What they hold is made anew for each round, so that nothing is known from the one before.
"""

from __future__ import annotations

import base64
import itertools
import operator
import random
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, TypedDict

import orjson

from benchmarks import cases

STEPS: Final = 60
DOCUMENT: Final = 200_000
MESSAGE: Final = 400
TURNS: Final = 6
IMAGE: Final = 3_000_000
"""Bytes of the image; in base64 it is a third larger."""

_SYLLABLES: Final = ("fi", "sh", "wa", "ter", "ti", "de", "co", "ral", "re", "ef", "sa", "lt")
_VOCABULARY: Final = ["".join(one) for one in itertools.product(_SYLLABLES, repeat=3)]
_FREQUENCY: Final = [*itertools.accumulate(1 / rank for rank in range(1, len(_VOCABULARY) + 1))]


def text(size: int, seed: int) -> str:
    """Return text: words as frequent as those of a language, so as hard to compress as one."""
    words = random.Random(seed).choices(_VOCABULARY, cum_weights=_FREQUENCY, k=size // 4)
    return " ".join(words)[:size]


class State(TypedDict):
    """What the graph hands from step to step."""

    document: str
    messages: Annotated[list[Any], operator.add]
    step: int


Run = Callable[[dict[str, Any]], Awaitable[Any]]
"""One invocation, with the config that has the callbacks."""


class Graph:
    """A LangGraph graph whose state holds a document, and a message more after each step."""

    def __init__(self, *, steps: int = STEPS, size: int = DOCUMENT) -> None:
        from langchain_core.messages import AIMessage
        from langgraph.graph import END, START, StateGraph

        async def work(state: State) -> dict[str, Any]:
            answer = self._answers[state["step"]]
            return {"messages": [AIMessage(answer)], "step": state["step"] + 1}

        def more(state: State) -> str:
            return "work" if state["step"] < steps else END

        graph: Any = StateGraph(State)
        graph.add_node("work", work)
        graph.add_edge(START, "work")
        graph.add_conditional_edges("work", more)
        self._graph = graph.compile()
        self._steps, self._size = steps, size
        self._answers: list[str] = []

    def make(self, seed: int) -> tuple[Run, bytes]:
        """Return an invocation with a new document, and what it holds, each of it once."""
        document = text(self._size, seed)
        self._answers = [text(MESSAGE, seed + 1 + number) for number in range(self._steps)]
        messages = [{"content": answer, "type": "ai"} for answer in self._answers]
        information = orjson.dumps({"document": document, "messages": messages})

        async def run(config: dict[str, Any]) -> None:
            state = {"document": document, "messages": [], "step": 0}
            await self._graph.ainvoke(state, {"recursion_limit": 2 * self._steps, **config})

        return run, information


class Conversation:
    """A conversation that begins with an image; each turn hands all of it to the model again.

    Args:
        block: Whether the image is one of LangChain's own blocks. LangChain tells the handlers of
            the model of it as a data URL then: in another form than the chain's. Else it is one.
        turns: How many questions.
        size: Of the image, in bytes.
    """

    def __init__(self, *, block: bool = False, turns: int = TURNS, size: int = IMAGE) -> None:
        from langchain_core.prompts import ChatPromptTemplate

        self._chain: Any = (
            ChatPromptTemplate.from_messages([("placeholder", "{history}")]) | cases.local_model()
        )
        self._block, self._turns, self._size = block, turns, size

    def make(self, seed: int) -> tuple[Run, bytes]:
        """Return a conversation about a new image, and what it holds, each of it once."""
        from langchain_core.messages import HumanMessage

        data = base64.b64encode(random.Random(seed).randbytes(self._size)).decode()
        url = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
        own = {"type": "image", "base64": data, "mime_type": "image/png"}
        question = "What is in this picture?"
        content: list[str | dict[Any, Any]] = [
            {"type": "text", "text": question},
            own if self._block else url,
        ]
        said = [f"{question} And what else, number {number}?" for number in range(self._turns)]
        information = orjson.dumps(
            [content, *([url] if self._block else []), *said, *[cases.ANSWER] * self._turns]
        )

        async def run(config: dict[str, Any]) -> None:
            history: list[Any] = [HumanMessage(content)]
            for words in said:
                answer = await self._chain.ainvoke({"history": history}, config=config)
                history = [*history, answer, HumanMessage(words)]

        return run, information
