"""What was logged in a span, as blocks to show: chat messages, tool calls, documents, images, JSON.

A block holds nothing but text, numbers and lists of these; what it means to the browser is decided
there, and nothing in it is ever markup. A string that is JSON has its value beside it. Long texts
are cut, and can be asked for whole by their number; so can images, of which a block says only what
they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from asynctrack._reading.decoding.events import json_text
from asynctrack._reading.decoding.media import SAID_OF_MEDIA, Media, in_words, media_of

from ._images import can_be_shown
from ._unfold import parsed, unfolded

SHOWN: Final = 20_000
"""Characters of one text that are shown at first."""
BUDGET: Final = 400_000
"""Characters of all texts of one side together, after which only beginnings are shown."""
BEGINNING: Final = 500
MAX_BLOCKS: Final = 200
"""Messages, documents and fields of one side."""
MAX_IMAGES: Final = 50
"""Images of one side; more are said in words."""

Block = dict[str, Any]

_ROLES: Final = {
    "system": "system",
    "human": "human",
    "user": "human",
    "ai": "ai",
    "assistant": "ai",
    "tool": "tool",
    "function": "tool",
    "developer": "system",
    "chat": "chat",
    "remove": "remove",
}
_IN_MESSAGE: Final = frozenset(
    {"type", "role", "content", "name", "tool_calls", "tool_call_id", "id", "additional_kwargs"}
    | {"usage_metadata", "response_metadata", "chunk_position", "invalid_tool_calls", "status"}
)

_IN_MEDIA: Final = (
    frozenset({"type", "$type", "id", "index", "source_type", "text", "value"}) | SAID_OF_MEDIA
)


class Side:
    """One side of a span, its inputs or its outputs.

    Args:
        value: What was logged.
        whole: The number of a text that is not to be cut, to be found in ``found``.
        unfold: Whether strings that are JSON are shown as values, too.

    Attributes:
        images: The images to show, by their numbers.
    """

    def __init__(self, value: Any, whole: int | None = None, *, unfold: bool = True) -> None:
        self.found: str | None = None
        self.images: list[Media] = []
        self._unfold = unfold
        self._whole = whole
        self._texts = 0
        self._left = BUDGET
        self.blocks: list[Block] = []
        self._more = 0
        self._add(value)
        if self._more:
            self.blocks.append({"kind": "more", "count": self._more})

    def _add(self, value: Any) -> None:
        while type(value) is list and len(value) == 1 and type(value[0]) in (list, dict):
            value = value[0]  # no recursion: it may have any depth
        if value is None:
            return
        media = _held(value)
        if media is not None:
            self._put(self._media(media))
            self._beside(value)
        elif isinstance(value, str):
            self._put({"kind": "text", "text": self._text(value)})
        elif isinstance(value, list):
            self._add_list(value)
        elif isinstance(value, dict):
            self._add_dict(value)
        else:
            self._put({"kind": "text", "text": self._text(pretty(value))})

    def _add_list(self, value: list[Any]) -> None:
        if value and all(_is_message(one) or _is_document(one) for one in value):
            for one in value:
                self._add_dict(one)
        elif value and all(isinstance(one, str) for one in value):
            for one in value:
                self._add(one)
        elif value and all(_is_text(one) or _held(one) for one in value) and any(map(_held, value)):
            for one in value:
                self._add(one["text"] if _is_text(one) else one)
        else:
            self._json(None, value)

    def _add_dict(self, value: dict[str, Any]) -> None:
        if _is_message(value):
            self._message(value)
            return
        if _is_document(value):
            self._document(value)
            return
        rest = dict(value)
        for name in ("messages", "prompts", "generations", "documents"):
            items = rest.get(name)
            if isinstance(items, list) and items and self._items(name, items):
                del rest[name]
        if rest.get("type") in ("LLMResult", "ChatPromptValue", "StringPromptValue"):
            del rest["type"]
        for name, item in rest.items():
            self._field(str(name), item)

    def _items(self, name: str, items: list[Any]) -> bool:
        """Show a list of a known kind; False if it does not have the right form."""
        groups = items if all(isinstance(one, list) for one in items) else [items]
        if name == "prompts":
            if not all(isinstance(one, str) for one in items):
                return False
            for one in items:
                self._put({"kind": "message", "role": "prompt", "parts": [self._part(one)]})
            return True
        if name == "generations":
            if not all(isinstance(one, dict) for group in groups for one in group):
                return False
        elif name == "messages":
            # Here an unknown role counts as a role.
            if not all(
                isinstance(one, dict) and "content" in one for group in groups for one in group
            ):
                return False
        elif not all(_is_document(one) for group in groups for one in group):
            return False
        for n, group in enumerate(groups):
            if len(groups) > 1:
                self._put({"kind": "heading", "text": f"{n + 1} of {len(groups)}"})
            for one in group:
                if name == "generations":
                    self._generation(one)
                elif name == "messages":
                    self._message(one)
                else:
                    self._document(one)
        return True

    def _generation(self, value: dict[str, Any]) -> None:
        message = value.get("message")
        if _is_message(message):
            assert isinstance(message, dict)
            self._message(message)
        elif isinstance(value.get("text"), str):
            self._put({"kind": "message", "role": "ai", "parts": [self._part(value["text"])]})
        else:
            self._json(None, value)

    def _message(self, value: dict[str, Any]) -> None:
        given = str(value.get("role") or value.get("type"))
        role = _ROLES.get(given.lower().removesuffix("messagechunk").removesuffix("message"), given)
        parts: list[Block] = []
        content = value.get("content")
        for item in content if isinstance(content, list) else [content]:
            media = media_of(item)
            if media is not None:
                parts.append(self._media(media))
                more = _more_of(item)
                parts += [self._json_part(more)] if more else []
            if isinstance(item, str):
                if item and media is None:
                    parts.append(self._part(item))
            elif isinstance(item, dict) and isinstance(item.get("text"), str):
                parts.append(self._part(item["text"]))
            elif isinstance(item, dict) and isinstance(item.get("reasoning"), str):
                parts.append(self._part(item["reasoning"], kind="reasoning"))
            elif item is not None and media is None and not _is_tool_use(item):
                parts.append(self._json_part(item))
        calls = value.get("tool_calls")
        parts += [self._call(call) for call in calls] if isinstance(calls, list) else []
        bad = value.get("invalid_tool_calls")
        if isinstance(bad, list):
            parts += [{**self._call(call), "invalid": True} for call in bad]
        kwargs = value.get("additional_kwargs")
        rest = {name: item for name, item in value.items() if name not in _IN_MESSAGE and item}
        if isinstance(kwargs, dict) and not calls:
            rest.update({name: item for name, item in kwargs.items() if item})
        if rest:
            parts.append(self._json_part(rest))
        block: Block = {"kind": "message", "role": role[:40], "parts": parts}
        for name in ("name", "tool_call_id", "status"):
            if isinstance(value.get(name), str):
                block[name] = value[name][:200]
        self._put(block)

    def _call(self, call: Any) -> Block:
        if not isinstance(call, dict):
            return self._json_part(call)
        function = call.get("function")
        source: Mapping[str, Any] = function if isinstance(function, dict) else call
        given = source.get("args", source.get("arguments"))
        name, identity = source.get("name"), call.get("id")
        return {
            "kind": "call",
            "name": str(name or "")[:200],
            "id": str(identity or "")[:200],
            "text": self._text(given) if isinstance(given, str) else self._as_json(given),
        }

    def _document(self, value: dict[str, Any]) -> None:
        parts = [self._part(value["page_content"])]
        if value.get("metadata"):
            parts.append(self._json_part(value["metadata"]))
        self._put({"kind": "message", "role": "document", "parts": parts})

    def _field(self, name: str, value: Any) -> None:
        media = _held(value)
        if media is not None:
            self._put({**self._media(media), "name": name[:200]})
            self._beside(value)
        elif isinstance(value, str):
            self._put({"kind": "field", "name": name[:200], "text": self._text(value)})
        elif isinstance(value, (list, dict)) and value:
            self._json(name, value)
        else:
            self._put({"kind": "field", "name": name[:200], "text": self._text(pretty(value))})

    def _json(self, name: str | None, value: Any) -> None:
        block = self._json_part(value)
        if name is not None:
            block["name"] = name[:200]
        self._put(block)

    def _media(self, media: Media) -> Block:
        """An image by its number, or what another file is."""
        if len(self.images) >= MAX_IMAGES or not can_be_shown(media):
            return {"kind": "file", "text": self._text(str(media))}
        self.images.append(media)
        return {"kind": "image", "text": self._text(str(media)), "number": len(self.images) - 1}

    def _beside(self, value: Any) -> None:
        more = _more_of(value)
        if more:
            self._json(None, more)

    def _part(self, text: str, kind: str = "text") -> Block:
        return {"kind": kind, "text": self._text(text)}

    def _json_part(self, value: Any) -> Block:
        return {"kind": "json", "text": self._as_json(value)}

    def _as_json(self, value: Any) -> Block:
        """Return a value as JSON, and beside it as its strings unfold."""
        value = in_words(value)
        shown = self._cut(pretty(value))
        if self._unfold:
            whole, count = unfolded(value)
            if count:
                shown["unfolded"] = self._cut(pretty(whole))
        return shown

    def _put(self, block: Block) -> None:
        if len(self.blocks) >= MAX_BLOCKS:
            self._more += 1
        else:
            self.blocks.append(block)

    def _text(self, text: str) -> Block:
        """Return a text, and beside it the value that it is as JSON, if it is one."""
        shown = self._cut(text)
        value = parsed(text) if self._unfold else None
        if value is not None:
            shown["unfolded"] = self._cut(pretty(in_words(unfolded(value)[0])))
        return shown

    def _cut(self, text: str) -> Block:
        number = self._texts
        self._texts += 1
        if number == self._whole:
            self.found = text
        shown = min(SHOWN, max(BEGINNING, self._left))
        self._left -= min(len(text), shown)
        if len(text) <= shown:
            return {"text": text}
        return {"text": text[:shown], "shown": shown, "length": len(text), "number": number}


def pretty(value: Any) -> str:
    """Return a value as indented JSON; on one line if it is nested too deep for that."""
    try:
        return json.dumps(value, indent=2, ensure_ascii=False)
    except RecursionError:
        return json_text(value) or ""


def _held(value: Any) -> Media | None:
    """Return what a value is that holds the data of an image or another file."""
    media = media_of(value)
    return None if media is None or media.held is None else media


def _more_of(value: Any) -> dict[str, Any]:
    """Return what a block says besides what is said of an image or another file."""
    if not isinstance(value, dict):
        return {}
    return {name: item for name, item in value.items() if name not in _IN_MEDIA and item}


def _is_text(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    return value.get("type") == "text" and isinstance(value.get("text"), str)


def _is_message(value: Any) -> bool:
    if not isinstance(value, dict) or "content" not in value:
        return False
    role = value.get("role") or value.get("type")
    if not isinstance(role, str):
        return False
    plain = role.lower().removesuffix("messagechunk").removesuffix("message")
    return plain in _ROLES


def _is_document(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("page_content"), str)


def _is_tool_use(value: Any) -> bool:
    # Shown as tool calls, which messages hold as well.
    return isinstance(value, dict) and value.get("type") in (
        "tool_use",
        "tool_call",
        "function_call",
    )
