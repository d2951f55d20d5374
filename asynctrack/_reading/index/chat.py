"""What was asked and what was answered, of the payloads of a trace's root: whole texts (pure).

A root's inputs and outputs are whatever the chain takes and gives. LangGraph's hold the messages of
all turns so far; the user's text of this one is the last human message of the inputs, and the
answer is the last one that came after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from asynctrack._reading.decoding.events import json_text
from asynctrack._reading.decoding.media import in_words, media_of
from asynctrack._reading.index.said import text_of

_HUMAN: Final = frozenset({"human", "user", "HumanMessage", "HumanMessageChunk"})
_MODEL: Final = frozenset({"ai", "assistant", "AIMessage", "AIMessageChunk"})
_ROLES: Final = _HUMAN | _MODEL | {"system", "developer", "tool", "function", "chat", "remove"}
_ASKED: Final = ("input", "question", "query", "prompt", "message", "user_input", "text")
_ANSWERED: Final = ("output", "answer", "response", "result", "text")
"""Names under which chains are asked and answer, where there are no messages."""
_LEVELS: Final = 4
"""How deep messages are looked for: those of a batch of one are in a list in a list."""

_Said = tuple[str, Any]
"""A message: its role, and its raw form or content."""


def asked(inputs: Any) -> str:
    """Return what the user said, of a root's inputs; empty if nothing."""
    messages = _messages(inputs)
    human = [one for role, one in messages if role in _HUMAN]
    if human:
        return _text(human[-1])
    named = _named(inputs, _ASKED)
    if named is not None and named is not inputs:
        return asked(named) if isinstance(named, (dict, list)) else str(named)
    return text_of(inputs)


def answered(outputs: Any, question: str = "") -> str:
    """Return the answer, of a root's outputs; empty if there is none.

    Args:
        outputs: The outputs.
        question: What was asked: messages before it are of earlier turns.
    """
    messages = _messages(outputs)
    if messages:
        return _last_answer(messages, question)
    named = _named(outputs, _ANSWERED)
    if named is not None and named is not outputs:
        return answered(named, question) if isinstance(named, (dict, list)) else str(named)
    return text_of(outputs)


def _last_answer(messages: Sequence[_Said], question: str) -> str:
    begin = 0
    for number, (role, one) in enumerate(messages):
        if role in _HUMAN and question and _text(one) == question:
            begin = number + 1
    new = messages[begin:]
    said = [one for role, one in new if role in _MODEL]
    # Agents may speak in another role; what a tool gave or a user said is no answer.
    said = said or [one for role, one in new if role not in ("tool", "function", "system")]
    return _text(said[-1]) if said else ""


def _messages(value: Any, level: int = 0) -> list[_Said]:
    """Return the messages that a payload holds; empty if it holds something else."""
    one = _message(value)
    if one is not None:
        return [one]
    if level == _LEVELS:
        return []
    if isinstance(value, dict):
        boxes = [value[name] for name in ("messages", "message", "generations") if value.get(name)]
        return next((said for box in boxes if (said := _messages(box, level + 1))), [])
    if not isinstance(value, list):
        return []
    said = [item for item in map(_message, value) if item is not None]
    if said and len(said) == len(value):
        return said
    inside = [_messages(item, level + 1) for item in value]
    return inside[-1] if inside and all(inside) else []


def _message(value: Any) -> _Said | None:
    """Return a message as LangChain stores it, as OpenAI writes it, or as a pair."""
    if isinstance(value, dict) and "content" in value:
        role = value.get("type")
        if role == "chat" or not isinstance(role, str):
            role = value.get("role")
        return (role, value) if isinstance(role, str) else None
    if isinstance(value, list) and len(value) == 2:
        role, content = value
        if isinstance(role, str) and role in _ROLES:
            return role, {"content": content}
    return None


def _named(value: Any, names: Sequence[str]) -> Any:
    if not isinstance(value, dict):
        return None
    return next((value[name] for name in names if value.get(name)), None)


def _text(message: Any) -> str:
    """Return the texts of a message, and what its files are; else the tools it asks for."""
    content = message["content"]
    blocks = content if isinstance(content, list) else [content]
    lines = [line for block in blocks if (line := _block(block))]
    if not lines:
        calls = message.get("tool_calls")
        lines = [
            f"→ {call.get('name')}({json_text(in_words(call.get('args'))) or ''})"
            for call in (calls if isinstance(calls, list) else ())
            if isinstance(call, dict)
        ]
    if not lines and isinstance(content, dict):
        lines = [json_text(in_words(content)) or ""]
    return "\n".join(lines)


def _block(block: Any) -> str:
    media = media_of(block)
    if isinstance(block, str):
        return block if media is None else str(media)
    if not isinstance(block, dict):
        return ""
    text = block.get("text")
    said = [text] if isinstance(text, str) and text else []
    if media is not None:
        said.append(str(media))
    return "\n".join(said)
