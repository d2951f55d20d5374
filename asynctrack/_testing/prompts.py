"""Messages reduced to what a model is told, and how two prompts differ (pure).

Two prompts are equal whose messages say the same in the same order: roles, texts, tools that are
asked for, images and files. Ids, token counts, what the provider said of an answer and the shape of
a block are left out: they change from call to call, or with the version of a library.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any, Final

from asynctrack._common.markup import visible
from asynctrack._reading.decoding.events import json_text
from asynctrack._reading.decoding.media import media_of
from asynctrack._reading.decoding.openai_form import content_of, role_of, tool_calls_of

HASHED: Final = 64
"""Bytes from which on a text counts by its SHA-256, as the log may hold no more of it
(``max_value_bytes``)."""
COMPARED: Final = 2_000
"""Characters of a message that are compared to find the nearest prompt."""
SHOWN: Final = 160
BEFORE: Final = 40
"""Characters of a difference that are shown, and of what is before it."""
_OF_BLOCKS: Final = ("id", "index", "signature", "cache_control", "annotations", "extras")
"""Fields of blocks that say nothing to a model."""

Said = Mapping[str, Any]
"""A message, reduced."""


def said(message: Mapping[str, Any]) -> Said:
    """Return a message, as it is stored, reduced to what a model is told."""
    role = role_of(message)
    reduced: dict[str, Any] = {"role": role, "content": _parts(content_of(message))}
    calls = [{"name": one.get("name"), "args": one.get("args")} for one in tool_calls_of(message)]
    if calls:
        reduced["tool_calls"] = calls
    name = message.get("name")
    if name and role not in ("tool", "assistant"):
        reduced["name"] = name
    return reduced


def key(prompt: Sequence[Said], tools: Iterable[str]) -> bytes:
    """Return what is the same for equal prompts with equal tools, and for no others."""
    whole = json_text([[_weighed(one) for one in prompt], sorted(tools)])
    return hashlib.sha256((whole or "").encode("utf-8", "surrogatepass")).digest()


def tool_names(params: Any) -> frozenset[str]:
    """Return the names of the tools that a call is given, whatever vendor's shape they have."""
    tools = params.get("tools") if isinstance(params, Mapping) else None
    return frozenset(_names(tools if isinstance(tools, list) else ()))


def _names(tools: Iterable[Any]) -> Iterable[str]:
    for one in tools:
        if not isinstance(one, Mapping):
            continue
        inside = one.get("function") or one.get("toolSpec")
        declared = one.get("function_declarations") or one.get("functionDeclarations")
        if isinstance(declared, list):
            yield from _names(declared)
        elif isinstance(inside, Mapping):
            yield str(inside.get("name"))
        else:
            yield str(one.get("name") or one.get("type"))


def likeness(prompt: Sequence[Said], other: Sequence[Said]) -> float:
    """Return how alike two prompts are: 1 for equal ones."""
    same = _same(prompt, other)
    total = max(len(prompt), len(other))
    if same == total:
        return 1.0
    part = 0.0
    if same < min(len(prompt), len(other)):
        one, two = text(prompt[same])[:COMPARED], text(other[same])[:COMPARED]
        part = SequenceMatcher(None, one, two, autojunk=False).quick_ratio()
    return (same + part) / total


def difference(logged: Sequence[Said], asked: Sequence[Said]) -> str:
    """Return where a prompt that is asked first differs from a logged one, on a few lines."""
    same = _same(logged, asked)
    place = f"message {same + 1}"
    if same == len(asked):
        return f"{place}, {_line(logged[same], 0)!r}, is logged, and not asked"
    if same == len(logged):
        return f"{place}, {_line(asked[same], 0)!r}, is asked, and not logged"
    old, new = text(logged[same]), text(asked[same])
    pairs = enumerate(zip(old, new, strict=False))
    at = next((n for n, (one, two) in pairs if one != two), min(len(old), len(new)))
    begin = max(0, at - BEFORE)
    return (
        f"{place} differs:\n  logged: {_line(logged[same], begin)}\n"
        f"  asked:  {_line(asked[same], begin)}"
    )


def text(message: Said) -> str:
    """Return a reduced message as text: its role, what it says, and the tools it asks for."""
    parts = [one if isinstance(one, str) else json_text(one) or "" for one in message["content"]]
    parts += [
        f"→ {call['name']}({json_text(call['args']) or ''})"
        for call in message.get("tool_calls", ())
    ]
    return f"{message['role']}: {chr(10).join(parts)}"


def _line(message: Said, begin: int) -> str:
    whole = text(message)
    shown = whole[begin : begin + SHOWN]
    more = "…" if begin + SHOWN < len(whole) else ""
    return f"{'…' if begin else ''}{visible(shown)}{more}".replace("\n", "\\n")


def _same(one: Sequence[Said], other: Sequence[Said]) -> int:
    """Return with how many equal messages two prompts begin."""
    pairs = zip(one, other, strict=False)
    return next(
        (n for n, (a, b) in enumerate(pairs) if a != b and _weighed(a) != _weighed(b)),
        min(len(one), len(other)),
    )


def _parts(content: Any) -> list[Any]:
    blocks = content if isinstance(content, list) else [content]
    return [part for one in blocks if (part := _part(one)) not in (None, "", {})]


def _part(block: Any) -> Any:
    media = media_of(block)
    if media is not None:
        return {"media": media.kind, "of": media.checksum() or media.address}
    if not isinstance(block, dict):
        return block
    if block.get("type") in ("text", "input_text", "output_text") and "text" in block:
        return block["text"]
    return {name: value for name, value in block.items() if name not in _OF_BLOCKS}


def _weighed(value: Any) -> Any:
    """Return a value with each long text by its digest, as the log may have it."""
    if isinstance(value, str):
        data = value.encode("utf-8", "surrogatepass")
        return value if len(data) < HASHED else {"sha256": hashlib.sha256(data).hexdigest()}
    if isinstance(value, Mapping):
        if is_cut(value):
            return {"sha256": value["sha256"]}
        return {name: _weighed(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_weighed(item) for item in value]
    return value


def is_cut(value: Any) -> bool:
    """Tell whether a value stands for a text of which the log holds the beginning only."""
    return isinstance(value, Mapping) and "$cut" in value and isinstance(value.get("sha256"), str)
