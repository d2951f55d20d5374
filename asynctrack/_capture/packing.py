"""An event on its way to the buffer, where it refers to values or is large itself.

What can change is encoded in the callback: the event's own line, with a sign in place of each
value. Texts cannot change. So what is new and large of them is left to the worker, which encodes
it, searches it for secrets and puts its reference in place of the sign; and so is the search of a
line that is long itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from asynctrack._capture.redact import Redactor, unsearched
from asynctrack._capture.values import LARGE, Content, Items, List, Values, swapped
from asynctrack._common import payload
from asynctrack._common.convert import MESSAGE_TYPES
from asynctrack._common.lines import without_references
from asynctrack._format import number_line

AWAY: Final = 64 * 1024
"""Bytes that a callback prepares itself. More is the worker's."""

_OVERHEAD: Final = 128
"""Bytes that a line of a value is longer than its end, at the most."""


class Packing(payload.Encoding):
    """Encodes one event.

    Args:
        values: The values that are remembered.
    """

    __slots__ = ("_before", "_values", "found", "lists")

    def __init__(self, values: Values) -> None:
        super().__init__(values.limit)
        self._values = values
        self.found: list[Content] = []
        """The texts in it that are values."""
        self.lists: list[List] = []
        """The lists."""
        self._before = 0  # of what was found, where a long list begins

    def begin_again(self) -> None:
        """Forget what was found."""
        self.found, self.lists = [], []

    def dumped(self, value: Any) -> bytes:
        """Return a part of the record as JSON, in which nothing passes for a reference."""
        return without_references(super().dumped(value))

    def stand_in(self, content: str | bytes) -> Any:
        """Return what stands for a large text."""
        value = self._values.content(content)
        if value is None:
            return None
        self.found.append(value)
        return value.stand_in

    def convert(self, value: Any) -> Any:
        """Return something closer to JSON for a value that orjson does not know."""
        # Only those of a long list come again and again. To remember the others costs more than it
        # saves: the garbage collector walks what is kept.
        if not self._within or type(value) not in MESSAGE_TYPES:
            return super().convert(value)
        json = self._values.messages.json(value)
        if json is not None:
            return json
        before = len(self.found)
        plain = super().convert(value)
        json = None if len(self.found) > before else self._values.messages.note(value, plain)
        return plain if json is None else json

    def lifted_items(self, box: Any) -> Any:
        """Return what stands for a long list of objects, or it as JSON."""
        self._before = len(self.found)
        return super().lifted_items(box)

    def stand_in_for_items(self, line: bytes, items: Any) -> Any:
        """Return what stands for a long list; None where that is not large."""
        if len(line) <= LARGE:
            return None
        # Many conversations begin with the same message, few with the same two.
        begins = self.dumped(list(items[:2]))
        value = self._values.items(begins, line, len(items), self.found[self._before :])
        found = List(value, len(items))
        self.lists.append(found)
        return found.stand_in


class Packed:
    """An event with values, or one that is still to be searched for secrets.

    Args:
        body: The event as JSON, with a sign for each value.
        packing: What encoded it.
        redactor: Cuts secrets out.
        kept: Its fields that hold nothing that was logged.
    """

    __slots__ = ("_found", "_kept", "_redactor", "_size", "_values", "body", "ready")

    def __init__(
        self,
        body: bytes,
        packing: Packing,
        redactor: Redactor,
        kept: Mapping[str, Any],
    ) -> None:
        self.body = body
        """The event as JSON; final once it is ready."""
        self.ready = False
        """Whether it can be written."""
        self._values: tuple[tuple[Content | Items, int], ...] = ()
        self._found: dict[int, Content | List] = {one.number: one for one in packing.found}
        self._found.update((one.number, one) for one in packing.lists)
        self._redactor = redactor
        self._kept = kept
        self._size = sum(one.claim() for one in self._found.values())
        if len(body) + sum(one.left for one in self._found.values()) <= AWAY:
            self.prepare()

    def __len__(self) -> int:
        """Return the bytes that it takes, with the values that are new."""
        return len(self.body) + self._size

    def prepare(self) -> None:
        """Do what is left. Raises nothing; takes milliseconds for each megabyte that is new."""
        if self.ready:
            return
        values: dict[str, tuple[Content | Items, int]] = {}
        try:
            seen: dict[int, Content | List] = {}
            body = swapped(self._redactor.body(self.body), self._found, seen)
            for one in seen.values():
                values.update((text.name, (text, 1)) for text in one.texts if text.name)
            for one in seen.values():
                if isinstance(one, List):
                    values[one.value.name] = (one.value, one.items)
        except Exception as error:  # what could not be searched for secrets is not stored
            values = {}
            body = payload.encode({**self._kept, "data": unsearched(error)})
        self.body, self._values, self._found = body, tuple(values.values()), {}
        self._size = sum(value.size(0, items) + _OVERHEAD for value, items in self._values)
        self.ready = True

    def missing(self, held: Mapping[str, int]) -> int:
        """Return the bytes of values that an artifact lacks for it.

        Args:
            held: How many items of which values it has; of a text one.
        """
        total = 0
        for value, items in self._values:
            since = held.get(value.name, 0)
            if since < items:
                total += value.size(since, items) + _OVERHEAD
        return total

    def lines(self, prefix: bytes, seq: int, held: Mapping[str, int]) -> bytes:
        """Return its line, behind the lines of the values that an artifact lacks for it.

        Args:
            prefix: How the writer's lines begin.
            seq: Its number.
            held: As for ``missing``.
        """
        time = self.body[1 : self.body.find(b",") + 1]
        parts: list[bytes] = []
        for value, items in self._values:
            since = held.get(value.name, 0)
            if since < items:
                parts += (b"%b%d,%b" % (prefix, seq, time), value.part(since, items))
        parts.append(number_line(prefix, seq, self.body))
        return b"".join(parts)

    def hold(self, held: dict[str, int]) -> None:
        """Note that an artifact has its values from now on."""
        for value, items in self._values:
            held[value.name] = max(held.get(value.name, 0), items)
