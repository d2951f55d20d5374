"""What was logged, in a few words: what lists show of it, and what the search finds (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from asynctrack._reading.decoding.events import json_text
from asynctrack._reading.decoding.media import Media, in_words, media_of
from asynctrack._reading.trees.span import Span, SpanError

MAX_SEARCHED_VALUE: Final = 64 * 1024
"""Characters of one logged value that the search finds; all of it can be read."""
MAX_SEARCHED_TRACE: Final = 1024 * 1024
"""The same for one trace."""
PREVIEW: Final = 200
"""Characters of a prompt and of an answer that a list shows."""
MAX_NAME: Final = 300
"""Characters of a name, a tag or a model in a list."""
_SHORT: Final = 4
_FILES: Final = 5
_HANDED: Final = 20

NOT_SEARCHED: Final = frozenset(
    {"type", "id", "usage_metadata", "response_metadata", "generation_info", "lc_versions"}
)
"""Fields of messages and results that are the same everywhere, or are found in other ways."""


def exception_of(span: Span) -> Any:
    """Return all that was stored of the exception that a span ended with, or what a tool reports.

    A message is left out where it is Python's default for any object.
    """
    exception = span.exception
    if exception is None:
        return None
    if exception.raw is None:
        return {"type": exception.type, "message": exception.message}
    if isinstance(exception.raw, dict) and not exception.message:
        return {name: item for name, item in exception.raw.items() if name != "message"}
    return exception.raw


def answer_of(outputs: Any, data: Mapping[str, Any]) -> Any:
    """Return what came out of a span; where nothing did, what it had streamed until its end."""
    stream = data.get("stream")
    text = stream.get("text") if isinstance(stream, dict) else None
    if not isinstance(text, str) or not text or preview(outputs):
        return outputs
    return {"type": "ai", "content": text}


def handed_on(span: Span) -> str:
    """Return what LangGraph hands on where it leaves a span: its questions, or where it goes."""
    value = None if span.exception is None else span.exception.value
    if span.cause == "handoff" and isinstance(value, dict):
        value = value.get("goto")
    values = value[:_HANDED] if isinstance(value, list) else [value]
    return cut(" · ".join(map(preview, values)))


def preview(value: Any) -> str:
    """Return the first characters of the most important text of a prompt or an answer."""
    line = " ".join(text_of(value)[: 4 * PREVIEW].split())
    return line if len(line) <= PREVIEW else line[: PREVIEW - 1] + "…"


class Words:
    """Collects the texts in a trace, each once, in lower case."""

    def __init__(self) -> None:
        self._found: dict[str, None] = {}
        self._size = 0

    def add(self, value: Any) -> None:
        """Add all texts in a value, names of fields aside; of an image, what it is."""
        waiting = [value]
        data: set[int] = set()
        while waiting:
            item = waiting.pop()
            kind = type(item)
            if kind is str or kind is dict:
                media = media_of(item)
                if media is not None and media.held is not None:
                    data.add(id(media.held))
                    waiting.append(str(media))
            if kind is str:
                if id(item) in data or (len(item) < _SHORT and not item.strip()):
                    continue
                text = item[:MAX_SEARCHED_VALUE]
                if text not in self._found and self._size < MAX_SEARCHED_TRACE:
                    self._found[text] = None
                    self._size += len(text)
            elif kind is dict:
                waiting.extend(
                    field for name, field in item.items() if name not in NOT_SEARCHED and field
                )
            elif kind is list:
                waiting.extend(item)
            elif kind is int or kind is float:
                self._found[str(item)] = None

    def add_types(self, exception: Any) -> None:
        """Add the types of an exception, of its causes and of those in its group."""
        waiting = [exception]
        while waiting:
            one = waiting.pop()
            if isinstance(one, dict):
                self.add(one.get("type"))
                waiting += [one.get("causes"), one.get("exceptions")]
            elif isinstance(one, list):
                waiting += one

    def text(self) -> str:
        """Return them, one after the other."""
        return "\n".join(self._found).lower()


def text_of(value: Any, depth: int = 20) -> str:
    """Return the most important text of a prompt or an answer, whole: the last message's; without
    messages the first text.

    Args:
        value: The prompt or the answer.
        depth: Levels that are looked into.
    """
    for level in range(depth):
        file = _file(value)
        if file is not None:
            return str(file)
        if isinstance(value, str):
            return value
        if isinstance(value, list):
            if not value:
                return ""
            files = [one for one in map(_file, value) if one is not None]
            if files:
                # The question first: it may stand before its images or after them.
                rest = [one for one in value if _file(one) is None]
                said = [text_of(rest, depth - level - 1), *map(str, files[:_FILES])]
                return " · ".join(one for one in said if one)
            value = value[-1]
        elif isinstance(value, dict):
            for name in (
                "messages",
                "content",
                "text",
                "generations",
                "message",
                "output",
                "resume",
            ):
                if value.get(name):
                    value = value[name]
                    break
            else:
                if value.get("tool_calls"):
                    return _json(value["tool_calls"])
                if len(value) == 1:
                    value = next(iter(value.values()))
                else:
                    return _json(value)
        else:
            return "" if value is None else str(value)
    return ""


def _file(value: Any) -> Media | None:
    """Return the image or other file that a value is, and nothing more important than that."""
    if isinstance(value, dict) and (value.get("content") or value.get("text")):
        return None
    return media_of(value)


def _json(value: Any) -> str:
    return json_text(in_words(value)) or ""


def error_line(error: SpanError) -> str:
    """Return an error on one line: its type without the module, and its message."""
    kind = error.type.rpartition(".")[2] or "error"
    return cut(f"{kind}: {error.message}" if error.message else kind)


def cut(text: str | None) -> str:
    """Return a name as long as a list shows it."""
    return (text or "")[:MAX_NAME]
