"""Payloads as a conversation: who said what, for people. A payload is whatever was logged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from asynctrack._reading.decoding.events import json_text
from asynctrack._reading.decoding.media import Say, in_words, media_of

_NAME: Final = 100
"""Characters of a role that are shown."""


def conversation(value: Any, say: Say | None = str) -> Iterator[tuple[str, str]]:
    """Yield the messages of a payload, each with its role; anything else as JSON."""
    if value is None:
        return
    if isinstance(value, str):
        yield "", in_words(value, say)
    elif isinstance(value, dict) and _is_message(value):
        yield _role(value), _message(value, say)
    elif isinstance(value, list) and value and all(map(_is_message, value)):
        for message in value:
            yield _role(message), _message(message, say)
    elif isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        yield from conversation(value[0], say)  # a batch of one
    elif isinstance(value, list) and value and all(map(_is_choices, value)):
        for choices in value:  # what a model had answered until it failed
            yield from conversation(choices or None, say)
    elif isinstance(value, list) and value and all(map(_is_generation, value)):
        for generation in value:
            message = generation.get("message")
            if _is_message(message):
                yield _role(message), _message(message, say)
            else:
                yield "", str(generation.get("text", ""))
    elif isinstance(value, dict) and "generations" in value:
        yield from conversation(value["generations"], say)
    elif isinstance(value, dict) and len(value) == 1:
        ((name, item),) = value.items()
        if name in ("messages", "prompts", "prompt", "input", "output") and item is not None:
            yield from conversation(item, say)
        else:
            yield "", json_text(in_words(value, say)) or ""
    elif isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        yield from (("", in_words(item, say)) for item in value)
    else:
        yield "", json_text(in_words(value, say)) or ""


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and "content" in value and isinstance(value.get("type"), str)


def _is_generation(value: Any) -> bool:
    return isinstance(value, dict) and "text" in value and ("message" in value or "type" in value)


def _is_choices(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_generation, value))


def _role(message: dict[str, Any]) -> str:
    who = message.get("name")
    kind = _short(str(message["type"]))
    return f"{kind} {_short(who)}" if isinstance(who, str) and who else kind


def _short(name: str) -> str:
    return " ".join(name[: 4 * _NAME].split())[:_NAME]


def _message(message: dict[str, Any], say: Say | None) -> str:
    content = message["content"]
    blocks = content if isinstance(content, list) else [content]
    lines = []
    for block in blocks:
        media = None if say is None else media_of(block)
        text = block.get("text") if isinstance(block, dict) else block
        if isinstance(text, str) and (media is None or text is not block):
            lines.append(text)
        if say is not None and media is not None:
            lines.append(say(media))
        elif block is not None and not isinstance(text, str):
            lines.append(json_text(in_words(block, say)) or "")
    calls = message.get("tool_calls")
    lines += [
        f"→ {call.get('name')}({json_text(in_words(call.get('args'), say)) or ''})"
        for call in (calls if isinstance(calls, list) else ())
        if isinstance(call, dict)
    ]
    return "\n".join(line for line in lines if line)
