"""Chains, models and tools that need no network, for every test that runs LangChain for real."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable

USAGE = {"input_tokens": 3, "output_tokens": 5, "total_tokens": 8}


class FakeModel(GenericFakeChatModel):
    """Answers from a script, streams word by word, and takes tools."""

    model_name: str = "fake-1"
    temperature: float = 0.5
    api_key: str = "sk-0123456789abcdefghijklmnop"

    async def _agenerate(self, messages: Any, *args: Any, **kwargs: Any) -> ChatResult:
        return self._generate(messages)

    def _stream(self, messages: Any, *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        answer = self._generate(messages).generations[0].message
        assert isinstance(answer, AIMessage)
        pieces = re.split(r"(\s)", str(answer.content))
        for number, piece in enumerate(pieces, 1):
            message = AIMessageChunk(content=piece, id=answer.id)
            if number == len(pieces):
                message.usage_metadata = answer.usage_metadata
                message.tool_call_chunks = [
                    tool_call_chunk(
                        name=call["name"], args=json.dumps(call["args"]), id=call["id"], index=index
                    )
                    for index, call in enumerate(answer.tool_calls)
                ]
            yield ChatGenerationChunk(message=message)

    def bind_tools(self, tools: Any, **kwargs: Any) -> Runnable[Any, Any]:
        return self

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {
            "model_name": self.model_name,
            "temperature": self.temperature,
            "api_key": self.api_key,
        }


def model(answers: Sequence[AIMessage | str] = ("a fish walks in",), **fields: Any) -> FakeModel:
    """A model that gives these answers, over and over."""
    return FakeModel(messages=_cycle(answers), **fields)


def _cycle(answers: Sequence[AIMessage | str]) -> Iterator[AIMessage | str]:
    # Not a generator: several threads may ask one model at the same time.
    return map(_fresh, itertools.cycle(answers))


def _fresh(answer: AIMessage | str) -> AIMessage:
    if isinstance(answer, str):
        return AIMessage(answer, usage_metadata=USAGE)
    return answer.model_copy()


def joke_chain(**fields: Any) -> Runnable[Any, Any]:
    """Prompt, model, parser: eight events for each call."""
    prompt = ChatPromptTemplate.from_messages([("human", "tell me a joke about {topic}")])
    return prompt | model(**fields) | StrOutputParser()


CHAIN_EVENTS = 8
"""Events of one call of `joke_chain`."""
