"""An answer in the pieces of a stream (pure).

The log has a stream's text and how many tokens it came in, and not where one ended. So there are as
many pieces as there were tokens, of nearly the same length.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Piece = dict[str, Any]
"""Fields of a chunk: ``content``, ``tool_call_chunks``."""


def pieces(message: Mapping[str, Any], count: int) -> Iterator[Piece]:
    """Yield what an answer says, and the tools that it asks for, in pieces.

    Put together by LangChain they are the answer again.

    Args:
        message: The answer, as LangChain stores it.
        count: How many tokens there were; fewer pieces come of an answer with fewer characters.
    """
    content = message.get("content") or ""
    calls = _call_chunks(message)
    # Blocks can be put together from parts only where they are numbered.
    parts: list[tuple[str, Any]] = []
    if isinstance(content, str):
        parts += [("text", content)] if content else []
    elif all(_is_numbered(one) for one in content):
        parts += [("block", one) for one in content]
    else:
        parts.append(("content", content))
    parts += [("call", one) for one in calls]
    if count <= 1 or not parts:
        yield {"content": content, "tool_call_chunks": calls}
        return
    lengths = [len(_text(kind, value)) for kind, value in parts]
    for (kind, value), share in zip(parts, _shares(lengths, count), strict=True):
        for number, text in enumerate(_split(_text(kind, value), share)):
            yield _piece(kind, value, text, first=number == 0)


def _call_chunks(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    good = message.get("tool_calls") or ()
    bad = message.get("invalid_tool_calls") or ()
    found = [(one, json.dumps(one.get("args"), ensure_ascii=False)) for one in good]
    found += [(one, one.get("args") or "") for one in bad]
    return [
        {"name": one.get("name"), "args": args, "id": one.get("id"), "index": number}
        for number, (one, args) in enumerate(found)
    ]


def _is_numbered(block: Any) -> bool:
    return (
        isinstance(block, Mapping)
        and block.get("type") == "text"
        and isinstance(block.get("text"), str)
        and isinstance(block.get("index"), int)
    )


def _text(kind: str, value: Any) -> str:
    if kind == "text":
        return str(value)
    if kind == "content":
        return ""
    return str(value["text" if kind == "block" else "args"])


def _piece(kind: str, value: Any, text: str, *, first: bool) -> Piece:
    if kind == "text":
        return {"content": text}
    if kind == "content":
        return {"content": value}
    if kind == "block":
        rest = value if first else {"type": "text", "index": value["index"]}
        return {"content": [{**rest, "text": text}]}
    named = value if first else {"name": None, "id": None, "index": value["index"]}
    return {"content": "", "tool_call_chunks": [{**named, "args": text}]}


def _shares(lengths: Sequence[int], count: int) -> list[int]:
    """Return how many pieces each part gets: one at least, the rest by length."""
    shares = [1] * len(lengths)
    total = sum(lengths)
    left = count - len(lengths)
    for number, length in enumerate(lengths):
        if left <= 0 or not total:
            break
        more = min(left, round(left * length / total))
        shares[number] += more
        left -= more
        total -= length
    return shares


def _split(text: str, count: int) -> Iterator[str]:
    """Yield a text in so many pieces, or in as many as it has characters; none is empty."""
    count = max(1, min(count, len(text)))
    for number in range(count):
        yield text[number * len(text) // count : (number + 1) * len(text) // count]
