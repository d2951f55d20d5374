"""What costs are measured with, here and in the benchmarks: a chain, an empty handler, a round.

The model answers at once, natively async as real clients are, so that what is measured is LangChain
and its handlers, not a network and not a pool of threads.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.prompts import ChatPromptTemplate

INVOCATIONS: Final = 200
CONCURRENCY: Final = 100
ANSWER: Final = "Why did the fish cross the sea? To get to the other tide. "

Invoke = Callable[[int, dict[str, Any]], Any]
"""Run one invocation: its number, and the config with the callbacks. Awaitable unless sync."""


class LocalModel(BaseChatModel):
    """Answers from memory."""

    model_name: str = "local-1"
    temperature: float = 0.1

    @property
    def _llm_type(self) -> str:
        return "local"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model_name": self.model_name, "temperature": self.temperature}

    def _message(self, messages: list[Any]) -> AIMessage:
        return reply(ANSWER)

    async def _wait(self) -> None:
        await asyncio.sleep(0)

    def _generate(self, messages: list[Any], *arguments: Any, **options: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._message(messages))])

    async def _agenerate(self, messages: list[Any], *arguments: Any, **options: Any) -> ChatResult:
        await self._wait()
        return self._generate(messages)


def reply(text: str, tool_calls: Any = ()) -> AIMessage:
    """A model's message, with what models say of it."""
    return AIMessage(
        text,
        tool_calls=list(tool_calls),
        usage_metadata={"input_tokens": 17, "output_tokens": 15, "total_tokens": 32},
        response_metadata={"model_name": "local-1", "finish_reason": "stop"},
    )


class EmptyAsync(AsyncCallbackHandler):
    """Does nothing, as the class that it inherits, which leaves this one method out."""

    async def on_chat_model_start(self, *arguments: Any, **options: Any) -> None:
        """Do nothing."""


def joke_chain(model: BaseChatModel) -> Any:
    """A prompt, the model, a parser: eight callbacks for each call."""
    return ChatPromptTemplate.from_template("Tell me a joke about {topic}.") | (
        model | StrOutputParser()
    )


def jokes(model: BaseChatModel) -> Invoke:
    """Another joke for each number."""
    chain = joke_chain(model)

    async def invoke(number: int, config: dict[str, Any]) -> None:
        await chain.ainvoke({"topic": f"fish {number}"}, config=config)

    return invoke


async def drive(invoke: Invoke, invocations: int, concurrency: int, config: dict[str, Any]) -> None:
    """Run one round: each number once, so many of them at the same time."""
    numbers = iter(range(invocations))

    async def work() -> None:
        for number in numbers:
            await invoke(number, config)

    await asyncio.gather(*(work() for _ in range(concurrency)))


class Round(NamedTuple):
    """What one round took, in seconds.

    Attributes:
        wall: Until the last answer.
        thread: CPU of the application's thread until then.
        process: CPU of all threads until everything was delivered.
        flush: From the last answer until then.
    """

    wall: float
    thread: float
    process: float
    flush: float


def timed(play: Callable[[], object], flush: Callable[[], object]) -> Round:
    """Run one round and deliver what it brought, and take the times of both."""
    thread, process, started = time.thread_time(), time.process_time(), time.perf_counter()
    play()
    answered, thread = time.perf_counter(), time.thread_time() - thread
    flush()
    flushed, process = time.perf_counter(), time.process_time() - process
    return Round(answered - started, thread, process, flushed - answered)
