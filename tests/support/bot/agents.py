"""The bot's graphs and its chain, as one writes them with LangGraph and LangChain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

from tests.support.bot.models import LARGE, MINI, Nova
from tests.support.bot.plan import Version
from tests.support.bot.shop import HANDLED, PolicyRetriever, said, tools_of
from tests.support.bot.truth import Book


@dataclass(frozen=True)
class Bot:
    """What answers: an agent that remembers threads, one that does not, and a chain."""

    remembering: Any
    agent: Any
    chain: Any


def bot_of(version: Version, book: Book) -> Bot:
    """Build the bot of a version."""
    large = Nova(book, model=LARGE, seconds=0.03)
    mini = Nova(book, model=MINI, seconds=0.008)
    retriever = PolicyRetriever(book)
    graph = _graph(version, large, mini, tools_of(book, retriever))
    return Bot(
        remembering=graph.compile(name="support-agent", checkpointer=InMemorySaver()),
        agent=graph.compile(name="support-agent"),
        chain=_chain(version, large, mini, retriever),
    )


def _graph(version: Version, large: Nova, mini: Nova, tools: list[Any]) -> Any:
    able = {one.model: one.bind_tools(tools) for one in (large, mini)}

    # The config is handed on by hand: until Python 3.11, LangGraph's tasks have no other way.
    async def agent(state: MessagesState, config: RunnableConfig) -> dict[str, Any]:
        messages = [SystemMessage(version.prompt), *state["messages"]]
        first = isinstance(messages[-1], HumanMessage)
        model = able[MINI if version.new and first else LARGE]
        return {"messages": [await model.ainvoke(messages, config)]}

    graph = StateGraph(MessagesState)
    graph.add_node(agent)
    graph.add_node("tools", ToolNode(tools, handle_tool_errors=HANDLED))
    graph.add_edge(START, "agent")
    graph.add_conditional_edges("agent", tools_condition)
    graph.add_edge("tools", "agent")
    return graph


def _chain(version: Version, large: Nova, mini: Nova, retriever: PolicyRetriever) -> Any:
    prompt = ChatPromptTemplate.from_messages(
        [
            ("system", version.prompt + "\n\nThe policies say:\n{context}"),
            MessagesPlaceholder("history"),
            ("human", "{question}"),
        ]
    )

    async def find(inputs: dict[str, Any], config: RunnableConfig) -> dict[str, Any]:
        return {**inputs, "context": said(await retriever.ainvoke(inputs["question"], config))}

    answer = mini.with_fallbacks([large])
    chain = RunnableLambda(find) | prompt | answer | StrOutputParser()
    return chain.with_config(run_name="policy-chain")
