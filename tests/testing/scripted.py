"""A chat model that answers as it is told, and streams in pieces as it is told."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.utils.function_calling import convert_to_openai_tool


class Scripted(BaseChatModel):
    """Answers with one message, or error, after the other.

    Attributes:
        script: The answers; each once.
        size: Characters of a piece of a stream.
        model: Its name.
    """

    script: list[Any]
    size: int = 3
    model: str = "gpt-x"

    @property
    def _llm_type(self) -> str:
        return "scripted"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model_name": self.model, "temperature": 0.5}

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, AIMessage]:
        """Bind tools as OpenAI's models do."""
        return self.bind(tools=[convert_to_openai_tool(one) for one in tools], **kwargs)

    def _next(self) -> AIMessage:
        answer = self.script.pop(0)
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, AIMessage)
        return answer

    def _generate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._next())])

    def _stream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        answer = self._next()
        text = str(answer.content)
        failing = bool(self.script) and isinstance(self.script[0], Exception) and bool(text)
        for at in range(0, len(text), self.size):
            yield _chunk(content=text[at : at + self.size])
        if failing:
            raise self.script.pop(0)
        for number, call in enumerate(answer.tool_calls):
            args = json.dumps(call["args"], ensure_ascii=False)
            named = {"name": call["name"], "id": call["id"]}
            for at in range(0, len(args), self.size):
                piece = {"args": args[at : at + self.size], "index": number}
                asked = {"name": None, "id": None, **named, **piece}
                yield _chunk(content="", tool_call_chunks=[asked])
                named = {}
        yield _chunk(
            content="", usage_metadata=answer.usage_metadata,
            response_metadata=answer.response_metadata, chunk_position="last",
        )  # fmt: skip


def _chunk(**fields: Any) -> ChatGenerationChunk:
    return ChatGenerationChunk(message=AIMessageChunk(**fields))


def told(message: BaseMessage) -> dict[str, Any]:
    """Return all that an answer says, without its id."""
    assert isinstance(message, AIMessage)
    return {
        "content": message.content,
        "tool_calls": message.tool_calls,
        "invalid_tool_calls": message.invalid_tool_calls,
        "usage_metadata": message.usage_metadata,
        "response_metadata": message.response_metadata,
    }


def whole(chunks: Sequence[Any]) -> AIMessageChunk:
    """Return the message that the pieces of a stream are together."""
    total = chunks[0]
    for chunk in chunks[1:]:
        total += chunk
    assert isinstance(total, AIMessageChunk)
    return total


def answer(text: str, **more: Any) -> AIMessage:
    """Return an answer as a provider gives it, with usage and what it says of it."""
    usage = {"input_tokens": 7, "output_tokens": 5, "total_tokens": 12}
    fields = {
        "usage_metadata": {**usage, "input_token_details": {"cache_read": 3}},
        "response_metadata": {"model_name": "gpt-x-2026", "finish_reason": "stop"},
    }
    return AIMessage(text, **{**fields, **more})


def call(name: str, number: int = 1, **args: Any) -> AIMessage:
    """Return an answer that asks for a tool."""
    asked = {"name": name, "args": args, "id": f"call_{number}", "type": "tool_call"}
    said = {"model_name": "gpt-x-2026", "finish_reason": "tool_calls"}
    return answer("", tool_calls=[asked], response_metadata=said)
