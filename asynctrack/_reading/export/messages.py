"""Inputs and outputs of models as messages: role, text, tool calls.

The payload is whatever was logged: what does not look like a message is skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from asynctrack._reading.decoding.events import json_text
from asynctrack._reading.decoding.media import Say, in_words, media_of
from asynctrack._reading.trees.span import Span

_ROLES: Final = {
    "ai": "assistant", "AIMessageChunk": "assistant", "human": "user", "HumanMessageChunk": "user",
    "SystemMessageChunk": "system", "ToolMessageChunk": "tool", "function": "tool",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A model's request to call a tool: name, arguments as logged, and the call's id."""

    name: str
    arguments: Any
    call_id: str | None


@dataclass(frozen=True, slots=True)
class Message:
    """One message.

    Attributes:
        role: ``system``, ``user``, ``assistant``, ``tool``, or as logged.
        text: Its text; other parts are JSON, and images and other files what is said of them.
        tool_calls: Tools that it asks for.
        call_id: The call that a tool's answer answers.
        finish_reason: Why the model ended; None if unknown.
    """

    role: str
    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    call_id: str | None = None
    finish_reason: str | None = None


def input_messages(span: Span, say: Say | None = str) -> tuple[Message, ...]:
    """Return the messages that went into a model; empty if unknown.

    Args:
        span: The model's call.
        say: What is said of an image or another file; None leaves it as it was stored.
    """
    inputs = span.inputs
    if not isinstance(inputs, dict):
        return ()
    messages = inputs.get("messages")
    if span.kind == "llm":
        prompts = inputs.get("prompts")
        texts = prompts if isinstance(prompts, list) else []
        return tuple(Message("user", text) for text in texts if isinstance(text, str))
    return tuple(_messages(messages, say))


def output_messages(span: Span, say: Say | None = str) -> tuple[Message, ...]:
    """Return the messages that a model answered; empty if unknown. As ``input_messages``."""
    outputs = span.outputs
    generations = outputs.get("generations") if isinstance(outputs, dict) else None
    found = []
    for generation in _flat(generations):
        if not isinstance(generation, dict):
            continue
        message = generation.get("message")
        if isinstance(message, dict):
            found.append(_message(message, say))
        elif isinstance(generation.get("text"), str):
            found.append(Message("assistant", generation["text"]))
    return tuple(found)


def _messages(value: Any, say: Say | None) -> Iterator[Message]:
    for one in _flat(value):
        if isinstance(one, dict) and ("content" in one or "tool_calls" in one):
            yield _message(one, say)


def _flat(value: Any) -> Iterator[Any]:
    """Yield the items of a list, and those of the lists in it: one for each prompt of a batch."""
    for one in value if isinstance(value, list) else ():
        if isinstance(one, list):
            yield from one
        else:
            yield one


def _message(raw: dict[str, Any], say: Say | None) -> Message:
    kind = raw.get("type")
    role = kind if isinstance(kind, str) else "unknown"
    if role == "chat" and isinstance(raw.get("role"), str):
        role = raw["role"]
    calls = raw.get("tool_calls")
    metadata = raw.get("response_metadata")
    reason = None
    if isinstance(metadata, dict):
        reason = metadata.get("finish_reason") or metadata.get("stop_reason")
    call_id = raw.get("tool_call_id")
    return Message(
        role=_ROLES.get(role, role),
        text=_text(raw.get("content"), say),
        tool_calls=tuple(_call(one) for one in _flat(calls) if isinstance(one, dict)),
        call_id=call_id if isinstance(call_id, str) else None,
        finish_reason=reason if isinstance(reason, str) else None,
    )


def _call(raw: dict[str, Any]) -> ToolCall:
    name, call_id = raw.get("name"), raw.get("id")
    return ToolCall(
        name if isinstance(name, str) else "",
        raw.get("args"),
        call_id if isinstance(call_id, str) else None,
    )


def _text(content: Any, say: Say | None) -> str:
    if content is None:
        return ""
    parts = content if isinstance(content, list) else [content]
    return "\n".join(_part(part, say) for part in parts)


def _part(part: Any, say: Say | None) -> str:
    text = part.get("text") if isinstance(part, dict) else part
    media = None if say is None else media_of(part)
    if say is not None and media is not None:
        return f"{text}\n{say(media)}" if isinstance(text, str) and text is not part else say(media)
    return text if isinstance(text, str) else json_text(in_words(part, say)) or ""
