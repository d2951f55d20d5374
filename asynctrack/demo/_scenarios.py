"""The three scenarios in today's LangChain: LCEL, and ``create_agent`` on LangGraph."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio.to_thread

from . import _prompts
from ._models import ModelServer, chat_model
from ._tools import BadExpression, calculate, search

if TYPE_CHECKING:
    from langchain_core.callbacks import BaseCallbackHandler
    from langchain_core.tools import BaseTool


@dataclass(frozen=True)
class Scenario:
    """One scenario.

    Attributes:
        number: 1, 2 or 3.
        title: What it shows, in one line.
        run: Runs it with a callback handler against a model server; gives the answer.
    """

    number: int
    title: str
    run: Callable[[BaseCallbackHandler, ModelServer], Awaitable[str]]


async def joke(handler: BaseCallbackHandler, server: ModelServer) -> str:
    """Prompt → LLM."""
    from langchain_core.output_parsers import StrOutputParser
    from langchain_core.prompts import ChatPromptTemplate

    async with chat_model(server) as model:
        chain = ChatPromptTemplate.from_template(_prompts.JOKE) | model | StrOutputParser()
        return await chain.ainvoke({"topic": _prompts.TOPIC}, config={"callbacks": [handler]})


async def play(handler: BaseCallbackHandler, server: ModelServer) -> str:
    """Two LLMs in sequence: a playwright writes a synopsis, a critic reviews it."""
    from langchain_core.output_parsers import StrOutputParser
    from langchain_core.prompts import ChatPromptTemplate

    async with chat_model(server) as model:
        playwright = ChatPromptTemplate.from_template(_prompts.PLAYWRIGHT) | model
        critic = ChatPromptTemplate.from_template(_prompts.CRITIC) | model | StrOutputParser()
        chain = {"synopsis": playwright | StrOutputParser()} | critic
        return await chain.ainvoke({"title": _prompts.TITLE}, config={"callbacks": [handler]})


async def age(handler: BaseCallbackHandler, server: ModelServer) -> str:
    """An agent with a search and a calculator."""
    from langchain.agents import create_agent

    async with chat_model(server) as model:
        agent: Any = create_agent(model, agent_tools(), system_prompt=_prompts.AGENT)
        asked = {"messages": [("user", _prompts.QUESTION)]}
        config = {"callbacks": [handler]}
        if sys.version_info < (3, 11):
            # Tasks take no context there, and LangGraph's agents hand the callbacks on to their
            # model and tools in it: an asynchronous agent would not be seen inside.
            state = await anyio.to_thread.run_sync(agent.invoke, asked, config)
        else:
            state = await agent.ainvoke(asked, config)
        return str(state["messages"][-1].content)


SCENARIOS = (
    Scenario(1, "prompt → LLM: a joke", joke),
    Scenario(2, "LLM → LLM: a playwright and a critic", play),
    Scenario(3, "agent with a search and a calculator", age),
)


def agent_tools() -> list[BaseTool]:
    """The agent's tools, for both styles."""
    from langchain_core.tools import StructuredTool

    def calculator(expression: str) -> str:
        try:
            return calculate(expression)
        except BadExpression as error:
            # The model may write a better one.
            return str(error)

    return [
        StructuredTool.from_function(
            search,
            name="search",
            description="Look up facts about people and current events. Input: a search query.",
        ),
        StructuredTool.from_function(
            calculator,
            name="calculator",
            description="Work out arithmetic. Input: an expression such as '12 ** 1.5'.",
        ),
    ]
