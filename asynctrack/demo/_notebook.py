"""The three scenarios in the old notebook's style: langchain-classic and the drop-in handler.

What a notebook written for ``langchain_community``'s ``SageMakerCallbackHandler`` looks like after
its one import was changed. All of it is synchronous.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import _prompts
from ._models import ModelServer, completion_model
from ._scenarios import agent_tools

if TYPE_CHECKING:
    from langchain_core.callbacks import BaseCallbackHandler


@dataclass(frozen=True)
class ClassicScenario:
    """One scenario.

    Attributes:
        number: 1, 2 or 3.
        title: What it shows, in one line.
        run: Runs it with a callback handler against a model server; gives the answer.
    """

    number: int
    title: str
    run: Callable[[BaseCallbackHandler, ModelServer], str]


def joke(handler: BaseCallbackHandler, server: ModelServer) -> str:
    """Prompt → LLM, as an LLMChain."""
    from langchain_classic.chains import LLMChain
    from langchain_core.prompts import PromptTemplate

    with _classic(), completion_model(server) as llm:
        prompt = PromptTemplate.from_template(_prompts.JOKE)
        chain = LLMChain(llm=llm, prompt=prompt, callbacks=[handler])
        return str(chain.run(topic=_prompts.TOPIC, callbacks=[handler]))


def play(handler: BaseCallbackHandler, server: ModelServer) -> str:
    """Two LLMs in sequence, as a SimpleSequentialChain."""
    from langchain_classic.chains import LLMChain, SimpleSequentialChain
    from langchain_core.prompts import PromptTemplate

    with _classic(), completion_model(server) as llm:
        playwright = LLMChain(llm=llm, prompt=PromptTemplate.from_template(_prompts.PLAYWRIGHT))
        critic = LLMChain(llm=llm, prompt=PromptTemplate.from_template(_prompts.CRITIC))
        chain = SimpleSequentialChain(chains=[playwright, critic])
        return str(chain.run(_prompts.TITLE, callbacks=[handler]))


def age(handler: BaseCallbackHandler, server: ModelServer) -> str:
    """A ReAct agent with a search and a calculator, made by ``initialize_agent``."""
    from langchain_classic.agents import AgentType, initialize_agent

    with _classic(), completion_model(server) as llm:
        kind = AgentType.ZERO_SHOT_REACT_DESCRIPTION
        agent: Any = initialize_agent(agent_tools(), llm, agent=kind)
        return str(agent.run(_prompts.QUESTION, callbacks=[handler]))


CLASSIC_SCENARIOS = (
    ClassicScenario(1, "prompt → LLM: a joke (LLMChain)", joke),
    ClassicScenario(2, "LLM → LLM: a playwright and a critic (SimpleSequentialChain)", play),
    ClassicScenario(3, "agent with a search and a calculator (initialize_agent)", age),
)


@contextmanager
def _classic() -> Iterator[None]:
    with warnings.catch_warnings():
        # That this style is deprecated is known: it is here for those who still have it. Import
        # langchain-classic before: it makes its own warnings visible again.
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
