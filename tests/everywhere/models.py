"""Models that answer what a test says, with tool calls where it says so."""

from __future__ import annotations

from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult


class Scripted(BaseChatModel):
    """Gives one answer after the other, and takes any tools."""

    answers: list[AIMessage]

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _generate(self, messages: Any, *args: Any, **options: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self.answers.pop(0))])

    def bind_tools(self, tools: Any, **options: Any) -> Any:
        """Return itself: what it calls is in its answers."""
        return self


def scripted(*answers: AIMessage | str) -> Scripted:
    """Return a model that gives these answers, in order."""
    return Scripted(
        answers=[one if isinstance(one, AIMessage) else AIMessage(one) for one in answers]
    )


def calling(name: str, **arguments: Any) -> AIMessage:
    """Return an answer that calls a tool."""
    return AIMessage("", tool_calls=[{"name": name, "args": arguments, "id": f"call-{name}"}])
