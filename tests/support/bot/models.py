"""The models: what they answer follows from the turn that is being played and what they read."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    ToolCall,
    ToolMessage,
)
from langchain_core.messages.tool import tool_call
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import PrivateAttr

from tests.support.bot.truth import Book, Playing, now

LARGE, MINI = "nova-large", "nova-mini"


class ModelOverloaded(RuntimeError):
    """The model has no time."""

    __module__ = "nova"


@dataclass(frozen=True)
class Reply:
    """What a model answers."""

    text: str
    calls: list[ToolCall] = field(default_factory=list)


class Nova(BaseChatModel):
    """A model of a provider that there is not."""

    model: str
    temperature: float = 0.2
    seconds: float
    _book: Book = PrivateAttr()

    def __init__(self, book: Book, **fields: Any) -> None:
        super().__init__(**fields)
        self._book = book

    @property
    def _llm_type(self) -> str:
        return "nova"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.model, "temperature": self.temperature}

    def bind_tools(
        self, tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool], **options: Any
    ) -> Runnable[Any, AIMessage]:
        """Tell it of tools, as providers have them."""
        return self.bind(tools=[convert_to_openai_tool(one) for one in tools], **options)

    def _generate(self, messages: list[BaseMessage], *_: Any, **options: Any) -> ChatResult:
        raise NotImplementedError("the bot is asynchronous")

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **options: Any,
    ) -> ChatResult:
        with self._book.call("model", self.model):
            reply = await self._reply(messages)
            message = AIMessage(
                reply.text,
                tool_calls=reply.calls,
                usage_metadata=self._usage(messages, reply),
                response_metadata=self._metadata(reply),
            )
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **options: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        with self._book.call("model", self.model):
            reply = await self._reply(messages)
            for piece in re.findall(r"\s*\S+", reply.text):
                yield ChatGenerationChunk(message=AIMessageChunk(content=piece))
            last = AIMessageChunk(
                content="",
                tool_calls=reply.calls,
                usage_metadata=self._usage(messages, reply),
                response_metadata=self._metadata(reply),
                chunk_position="last",
            )
            yield ChatGenerationChunk(message=last)

    async def _reply(self, messages: list[BaseMessage]) -> Reply:
        playing = now.get()
        playing.read("\n".join(message.text for message in messages))
        await asyncio.sleep(self.seconds)
        if playing.strikes("cancel"):
            playing.reached.set()
            await asyncio.Event().wait()
        if playing.strikes("model") or (self.model == MINI and playing.strikes("fallback")):
            raise ModelOverloaded(f"529 from {self.model}: overloaded, try again later")
        reply = _reply(playing, messages)
        if not reply.calls and playing.strikes("slow model"):
            await asyncio.sleep(playing.patience)
        return reply

    def _usage(self, messages: list[BaseMessage], reply: Reply) -> Any:
        read = sum(_tokens(message) for message in messages)
        written = len(reply.text) // 4 + 12 * len(reply.calls) + 1
        # The provider's cache knows what came before the answer that was last.
        cached = read // 64 * 64 if self.model == LARGE and len(messages) > 3 else 0
        self._book.used(self.model, read, written, cached)
        return {
            "input_tokens": read,
            "output_tokens": written,
            "total_tokens": read + written,
            "input_token_details": {"cache_read": cached},
        }

    def _metadata(self, reply: Reply) -> dict[str, Any]:
        return {
            "model_name": f"{self.model}-2026-10-01",
            "model_provider": "nova",
            "finish_reason": "tool_calls" if reply.calls else "stop",
        }


def _reply(playing: Playing, messages: list[BaseMessage]) -> Reply:
    """Return what a model answers: calls what is planned, tries again, or gives the answer."""
    ask = playing.ask
    answer = ask.shorter if playing.new and ask.shorter is not None else ask.answer
    last = messages[-1]
    asked = max(n for n, message in enumerate(messages) if isinstance(message, HumanMessage))
    since = [message for message in messages[asked:] if isinstance(message, ToolMessage)]
    if isinstance(last, ToolMessage) and last.status == "error" and "timed out" not in last.text:
        return Reply(f"I cannot find order {ask.order}. Could you look at the number again?")
    done = sum(message.status != "error" for message in since)
    if not playing.uses_tools or done == len(ask.calls):
        return Reply(answer)
    name, arguments = ask.calls[done]
    playing.calls += 1
    identity = f"call_{len(messages)}_{playing.calls}"
    return Reply("", [tool_call(name=name, args=dict(arguments), id=identity)])


def _tokens(message: BaseMessage) -> int:
    calls = len(message.tool_calls) if isinstance(message, AIMessage) else 0
    return len(message.text) // 4 + 12 * calls + 4
