"""Messages as OpenAI has them, which LangSmith, MLflow and LangChain read: role, content, tool
calls (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from asynctrack._reading.decoding.events import json_text

_ROLES: Final = {
    "human": "user",
    "HumanMessageChunk": "user",
    "ai": "assistant",
    "AIMessageChunk": "assistant",
    "system": "system",
    "SystemMessageChunk": "system",
    "tool": "tool",
    "ToolMessageChunk": "tool",
    "function": "function",
    "FunctionMessageChunk": "function",
    "chat": "",
    "ChatMessageChunk": "",
}
"""Types of LangChain's messages, and their roles; empty where the message names it."""
_CALLS: Final = frozenset({"tool_use", "tool_call", "function_call", "input_json_delta"})
"""Blocks of content that say once more which tools are asked for."""
_DEPTH: Final = 100


def is_message(value: Any) -> bool:
    """Tell whether a value is a message as LangChain's are stored."""
    return isinstance(value, Mapping) and "content" in value and _type_of(value) in _ROLES


def role_of(message: Mapping[str, Any]) -> str:
    """Return the role of a message as LangChain's are stored."""
    role = _ROLES.get(_type_of(message), "")
    return role or str(message.get("role") or "user")


def content_of(message: Mapping[str, Any]) -> Any:
    """Return what a message says: a text, or blocks, without those that only ask for tools."""
    content = message.get("content")
    if not isinstance(content, list):
        return content
    return [one for one in content if not (isinstance(one, Mapping) and _type_of(one) in _CALLS)]


def tool_calls_of(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the tools that a message asks for, as LangChain stores them."""
    calls = message.get("tool_calls")
    return [one for one in calls if isinstance(one, Mapping)] if isinstance(calls, list) else []


def in_openai_form(value: Any, depth: int = 0) -> Any:
    """Return a payload with every message in it as OpenAI has it; all else stays as it is.

    Blocks of content stay as they were logged, with images and other files in them.
    """
    if depth > _DEPTH:
        return value
    if is_message(value):
        return _message(value)
    if isinstance(value, dict):
        return {
            name: in_openai_form(_pairs(item) if name == "messages" else item, depth + 1)
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [in_openai_form(item, depth + 1) for item in value]
    return value


def _type_of(value: Mapping[str, Any]) -> str:
    """Return the type that an object says; of one that says something else by this name, none."""
    found = value.get("type")
    return found if isinstance(found, str) else ""


def _pairs(value: Any) -> Any:
    """Return messages with those as objects that are pairs of a role and a text."""
    if not isinstance(value, list):
        return value
    return [
        {"role": _ROLES.get(one[0]) or one[0], "content": one[1]}
        if isinstance(one, list) and len(one) == 2 and all(isinstance(part, str) for part in one)
        else one
        for one in value
    ]


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"role": role_of(message), "content": content_of(message)}
    calls = tool_calls_of(message)
    if calls:
        found["content"] = found["content"] or ""
        found["tool_calls"] = [
            {
                "id": str(call.get("id") or ""),
                "type": "function",
                "function": {
                    "name": str(call.get("name") or ""),
                    "arguments": json_text(call.get("args")) or "{}",
                },
            }
            for call in calls
        ]
    for name in ("tool_call_id", "name"):
        if isinstance(message.get(name), str):
            found[name] = message[name]
    return found
