"""Values: large texts and lists that an artifact holds once, and that its events refer to.

A value is a line of its own before the first event that refers to it. It is decoded when the first
such event is read, and once: all events share what it holds. A list comes in parts, as it grew.

Nothing here is trusted. What cannot be resolved stays the reference: a value that is not there or
is damaged, a part of a list behind a gap, a list that is in itself. What one event becomes has a
bound, ``MAX_RESOLVED``: lists that hold each other several times multiply.
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from asynctrack._common import payload
from asynctrack._common.lines import VALUE_HEAD

MAX_RESOLVED: Final = 256 * 1024 * 1024
"""What the references in one event may become, in bytes of memory, as far as that can be told.
Further ones stay. No line may be longer either."""
MAX_HELD: Final = 256 * 1024 * 1024
"""Bytes of an artifact's values; further ones are damage, so that no bytes can fill the memory."""
MAX_DEPTH: Final = 250
"""Deepest structure that references are resolved to: as deep as JSON is written."""
MAX_LEVELS: Final = 40
"""Lists in lists that are resolved; capture goes no deeper than that."""
SHARED_BYTES: Final = 32 * 1024 * 1024
"""Bytes of texts that are held for the artifacts to come, and always the latest one."""

MARK: Final = b'"$ref"'
"""A line without it has no reference."""

TOO_MUCH: Final = f"more than {MAX_HELD} bytes of values"
_PAYLOADS: Final = ("inputs", "outputs", "data", "error")
_ID: Final = re.compile(r"[0-9a-f]{32}")
# In this order: the user's own of the same fields are stored in another one.
_TEXT: Final = ("$ref", "bytes", "head")
_LIST: Final = ("$ref", "items", "bytes")
_PART: Final = frozenset({"from", "items"})
_MARKERS: Final = ({"$type", "base64"}, {"$type", "utf8"}, {"$cut", "error"})
"""Fields of what stands for bytes, which may be a text, and for what could not be searched for
secrets."""
_NODE: Final = 64
"""Bytes that a value takes in memory at least."""

Damaged = Callable[[int, str], None]
"""Called with the number of a line, and what is wrong with it."""


class Texts:
    """Texts that several artifacts may hold, each once in memory.

    A text's id is its digest; it is compared before it is believed.
    """

    def __init__(self) -> None:
        self._held: OrderedDict[str, tuple[Any, int]] = OrderedDict()
        self._bytes = 0

    def decoded(self, name: str, data: bytes) -> Any:
        """Return what JSON says: the same object for the same text.

        Raises:
            ValueError: It is no JSON.
        """
        if hashlib.sha256(data).hexdigest()[:32] != name:
            return payload.decode(data)
        held = self._held.get(name)
        if held is not None:
            self._held.move_to_end(name)
            return held[0]
        text = payload.decode(data)
        self._held[name] = text, len(data)
        self._bytes += len(data)
        while self._bytes > SHARED_BYTES and len(self._held) > 1:
            self._bytes -= self._held.popitem(last=False)[1][1]
        return text


class _Value:
    """A value: what is known of it so far.

    Attributes:
        pending: Its lines that nobody has asked for: the number, and ``data`` as JSON or decoded.
        known: Whether it is known what it is.
        text: A text, or a marker.
        items: The items of a list.
        sizes: What so many of them take in memory, in bytes.
        depths: How deep so many of them go.
        busy: Whether its items are being resolved.
    """

    __slots__ = ("busy", "depths", "items", "known", "name", "pending", "sizes", "text")

    def __init__(self, name: str) -> None:
        self.name = name
        self.pending: deque[tuple[int, Any]] = deque()
        self.known = False
        self.text: Any = None
        self.items: list[Any] = []
        self.sizes = [0]
        self.depths = [0]
        self.busy = False


class Values:
    """The values of one artifact.

    Args:
        texts: Those of all artifacts that are read together.
    """

    def __init__(self, texts: Texts | None = None) -> None:
        self._texts = Texts() if texts is None else texts
        self._values: dict[str, _Value] = {}
        self._bytes = 0
        self._added = 0
        self._damaged: Damaged = lambda number, reason: None
        self.any = False
        """Whether there is one at all."""

    def take(self, name: str, number: int, data: Any, size: int) -> str | None:
        """Take a value, or a part of one; return what is wrong with it.

        Args:
            name: Its id.
            number: The number of its line.
            data: What it holds: JSON as bytes, or decoded.
            size: Of its line, in bytes.
        """
        self._bytes += size
        if self._bytes > MAX_HELD:
            return TOO_MUCH
        value = self._values.get(name)
        if value is None:
            value = self._values[name] = _Value(name)
            self.any = True
        if value.known and value.text is not None:
            self._bytes -= size
            return None  # once more the same
        value.pending.append((number, data))
        return None

    def resolve(self, raw: dict[str, Any], damaged: Damaged) -> int:
        """Put values in the place of an event's references.

        Args:
            raw: The event; it is changed.
            damaged: Told of values that cannot be read.

        Returns:
            What it adds to what is in memory, in bytes.
        """
        self._damaged, self._added = damaged, 0
        payloads = {name: raw[name] for name in _PAYLOADS if type(raw.get(name)) in (dict, list)}
        metadata = raw.get("metadata")  # an object whatever is in it
        self._walk([payloads, metadata] if metadata else [payloads], 0)
        raw.update(payloads)
        return self._added

    def _walk(self, boxes: list[Any], level: int) -> tuple[int, int]:
        """Resolve what is in these boxes; return what it takes in memory, and how deep it goes."""
        size = deepest = 0
        waiting = [(box, 1) for box in boxes]
        while waiting:
            box, depth = waiting.pop()
            deepest = max(deepest, depth)
            size += _NODE * len(box)
            if type(box) is dict:
                size += sum(map(len, box))
            for key, item in box.items() if type(box) is dict else enumerate(box):
                kind = type(item)
                if kind is str:
                    size += len(item)
                elif kind is list:
                    waiting.append((item, depth + 1))
                elif kind is dict:
                    found = self._found(item, level) if "$ref" in item else None
                    if (
                        found is None
                        or found[1] > MAX_RESOLVED - size
                        or found[2] > MAX_DEPTH - depth
                    ):
                        waiting.append((item, depth + 1))
                        continue
                    value, more, below = found
                    if type(value) is list:  # not copied before it is known to be wanted
                        value = value[: item["items"]]
                        self._added += 8 * len(value)
                    box[key] = value
                    size += more
                    deepest = max(deepest, depth + below)
        return size, deepest

    def _found(self, reference: dict[str, Any], level: int) -> tuple[Any, int, int] | None:
        """Return what an object refers to: a text, or a list that begins with the items; what it
        takes in memory; how deep it goes. None where it refers to nothing that is there."""
        keys, name = tuple(reference), reference["$ref"]
        if type(name) is not str or type(reference.get("bytes")) is not int:
            return None
        value = self._values.get(name)
        if value is None:
            return None
        if keys == _TEXT and type(reference["head"]) is str:
            while value.pending and not value.known:
                self._decode(value, level)
            return None if value.text is None else (value.text, value.sizes[0], value.depths[0])
        count = reference.get("items")
        if keys != _LIST or type(count) is not int or count < 0:
            return None
        if not value.busy and level < MAX_LEVELS:
            while value.pending and (not value.known or count > len(value.items)):
                self._decode(value, level)
        if value.busy or not value.known or value.text is not None or count > len(value.items):
            return None
        return value.items, value.sizes[count], value.depths[count]

    def _decode(self, value: _Value, level: int) -> None:
        """Decode the next line of a value."""
        number, data = value.pending.popleft()
        try:
            if type(data) is bytes:
                self._added += len(data)
                if data.startswith((b'"', b'{"$')):
                    data = self._texts.decoded(value.name, data)
                else:
                    data = payload.decode(data)
            reason = data_fault(data)
        except ValueError as error:
            reason = f"a value that is not JSON: {error}"
        is_part = reason is None and type(data) is dict and data.keys() == _PART
        if is_part and value.text is None and data["from"] > len(value.items):
            reason = f"items of a list from {data['from']} on, and {len(value.items)} are there"
        if reason is None and is_part and value.text is None:
            self._extend(value, data["items"][len(value.items) - data["from"] :], level)
        elif reason is None and not is_part and not value.known:
            value.text = data
            texts = [data] if type(data) is str else [*data, *data.values()]
            value.sizes[0] = _NODE * len(texts) + sum(map(len, texts))
            value.depths[0] = int(type(data) is dict)
            value.pending.clear()  # once more the same
        elif reason is None:
            reason = "a text and a list with one id"
        if reason is not None:
            self._damaged(number, reason)
            return
        value.known = True

    def _extend(self, value: _Value, items: list[Any], level: int) -> None:
        value.known = value.busy = True
        for item in items:
            box = [item]
            size, depth = self._walk([box], level + 1)
            value.items.append(box[0])
            value.sizes.append(value.sizes[-1] + size)
            value.depths.append(max(value.depths[-1], depth))
        value.busy = False


def value_head(line: bytes) -> tuple[str, str, int] | None:
    """Return the writer and the id in a value's line, and where its data begins; None if it is the
    line of something else. Nothing is decoded."""
    found = VALUE_HEAD.match(line)
    if found is None:
        return None
    return found["writer"].decode(), found["name"].decode(), found.end()


def is_value(raw: Any) -> bool:
    """Return whether a decoded line is that of a value."""
    return type(raw) is dict and raw.get("event") == "value" and raw.get("v") == 2


def value_fault(raw: Mapping[str, Any]) -> str | None:
    """Return what is wrong with a decoded line of a value, or None."""
    name = raw.get("name")
    if type(name) is not str or _ID.fullmatch(name) is None:
        return "a value without an id"
    return data_fault(raw.get("data"))


def data_fault(data: Any) -> str | None:
    """Return what is wrong with what a value holds, or None."""
    if type(data) is str:
        return None
    if type(data) is dict:
        if data.keys() == _PART:
            start = data["from"]
            if type(start) is int and start >= 0 and type(data["items"]) is list:
                return None
        elif data.keys() in _MARKERS and all(type(one) is str for one in data.values()):
            return None
    return "a value that is neither a text, nor bytes, nor a part of a list"
