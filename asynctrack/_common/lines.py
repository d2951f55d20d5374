"""Lines as bytes: entries, what they refer to, and parts of a batch that are complete.

An entry is an event's line and, before it, the lines of the values that it is the first to refer
to. A value stands once in a batch. So where a batch is divided, a part may refer to values that
stand in an earlier one: they are put before its first event that refers to them, with that event's
number and time. What a part holds, and in which order, depends on its own events and on what they
refer to, not on where else the batch was divided: divided again, it is what it would have been at
once.
"""

from __future__ import annotations

import re
from bisect import bisect_left, insort
from collections.abc import Container, Iterable, Iterator
from typing import Final

from asynctrack._format import SCHEMA_VERSION

Entry = tuple[int, bytes]
"""An event's sequence number; its line with the lines of values before it."""

_VALUE_MARK: Final = b'"event":"value","name":"'
_REFERENCE_MARK: Final = b'{"$ref":"'
VALUE_HEAD: Final = re.compile(
    rb'(?P<before>\{"v":%d,"writer_id":"(?P<writer>[0-9a-f]+)","seq":)\d{1,19}'
    rb'(?P<between>,"time_unix_nano":)-?\d{1,19}'
    rb'(?P<rest>,"event":"value","name":"(?P<name>[0-9a-f]{32})","data":)' % SCHEMA_VERSION
)
"""How the line of a value begins, up to what it holds."""
_ITEMS: Final = re.compile(rb'\{"from":(\d{1,15}),"items":\[')
_EVENT: Final = re.compile(
    rb'\{"v":\d,"writer_id":"[0-9a-f]+","seq":(\d{1,19}),"time_unix_nano":(-?\d{1,19})[,}]'
)
# In a text the quotes would be escaped, so that none is mistaken for one.
_REFERENCE: Final = re.compile(
    rb'\{"\$ref":"([0-9a-f]{32})",(?P<rest>'
    rb'"bytes":\d{1,15},"head":"[^"\\]*(?:\\.[^"\\]*)*"|"items":(\d{1,15}),"bytes":\d{1,15})\}'
)


def without_references(body: bytes) -> bytes:
    """Return JSON of the user's in which nothing passes for a reference: its fields in another
    order, which is the same object."""
    if _REFERENCE_MARK not in body:
        return body
    return _REFERENCE.sub(rb'{\g<rest>,"$ref":"\1"}', body)


def is_value(line: bytes) -> bool:
    """Return whether a line is that of a value, and no event."""
    return _VALUE_MARK in line[:200] and VALUE_HEAD.match(line) is not None


def lines_of(entry: bytes) -> list[bytes]:
    """Return the lines of an entry; the last one is the event's."""
    if entry.find(b"\n", 0, -1) < 0:  # without values, as most are
        return [entry]
    return entry.splitlines(keepends=True)


def entries_of(raw: bytes, first_seq: int) -> list[Entry]:
    """Return the entries of lines whose events are numbered without a gap.

    Args:
        raw: The lines.
        first_seq: Sequence number of the first event.
    """
    lines = raw.splitlines(keepends=True)
    if _VALUE_MARK in raw:
        lines = [b"".join(group) for group in _groups(lines)]
    return list(enumerate(lines, first_seq))


def _groups(lines: list[bytes]) -> Iterator[list[bytes]]:
    group: list[bytes] = []
    for line in lines:
        group.append(line)
        if not is_value(line):
            yield group
            group = []
    if group:  # cut off
        yield group


def references(line: bytes) -> list[tuple[bytes, int | None]]:
    """Return what a line refers to: names of values, and of lists how many items."""
    if _REFERENCE_MARK not in line:
        return []
    found = _REFERENCE.finditer(line)
    return [(one[1], None if one[3] is None else int(one[3])) for one in found]


def parts(entries: Iterable[Entry], cuts: Container[int] = ()) -> Iterator[list[Entry]]:
    """Yield the parts of a batch, each complete; references to what is nowhere stay as they are.

    Args:
        entries: The entries of the whole batch, in order. Where numbers are missing, a part ends.
        cuts: Numbers that begin another part in any case.
    """
    values = _Values()
    part: list[Entry] = []
    last = 0
    for seq, entry in entries:
        if part and (seq != last + 1 or seq in cuts):
            yield part
            part = []
            values.begin_part()
        part.append((seq, values.complete(entry)))
        last = seq
    if part:
        yield part


class _List:
    """A list value: the lines of its parts."""

    __slots__ = ("lines", "places")

    def __init__(self) -> None:
        self.places: list[tuple[int, int]] = []  # of their first items, and sizes; ascending
        self.lines: dict[tuple[int, int], bytes] = {}

    def add(self, place: tuple[int, int], line: bytes) -> None:
        """Note a part."""
        if place not in self.lines:
            insort(self.places, place)
        self.lines[place] = line


class _Values:
    """The values that stood in the entries so far, and those of them that this part has."""

    def __init__(self) -> None:
        self._texts: dict[bytes, bytes] = {}
        self._lists: dict[bytes, _List] = {}
        self._earlier = False  # whether earlier parts have values
        self._has: set[tuple[bytes, tuple[int, int] | None]] = set()
        # Of lists: it has all parts that begin before this item. So none is looked at twice.
        self._has_before: dict[bytes, int] = {}

    def begin_part(self) -> None:
        """Begin another part, which has nothing yet."""
        self._earlier = bool(self._texts or self._lists)
        self._has.clear()
        self._has_before.clear()

    def complete(self, entry: bytes) -> bytes:
        """Return the next entry, with all that it refers to and that this part has not."""
        *own, event = lines = lines_of(entry)
        for line in own:
            self._note(line)
        if not self._earlier or _REFERENCE_MARK not in entry:
            return entry
        stamp = _EVENT.match(event)
        if stamp is None:
            return entry
        # All lines count, also those of values: what this part has is complete in itself.
        missing = self._missing(lines)
        if not missing:
            return entry
        stamped = [_stamped(line, stamp[1], stamp[2]) for line in missing]
        # By what they are, not by where they stood.
        return b"".join((*sorted(stamped + own, key=_key), event))

    def _note(self, line: bytes) -> None:
        match = VALUE_HEAD.match(line)
        if match is None:
            return
        name, place = match["name"], _place(match)
        if place is None:
            self._texts[name] = line
        else:
            self._lists.setdefault(name, _List()).add(place, line)
        self._has.add((name, place))

    def _missing(self, lines: list[bytes]) -> list[bytes]:
        found = []
        todo = list(lines)
        while todo:
            for name, items in references(todo.pop()):
                for line in self._take(name, items):
                    found.append(line)
                    todo.append(line)
        return found

    def _take(self, name: bytes, items: int | None) -> Iterator[bytes]:
        """Yield the lines of a value that this part has not; it has them from now on."""
        if items is None:
            text = self._texts.get(name)
            if text is not None and (name, None) not in self._has:
                self._has.add((name, None))
                yield text
            return
        known = self._lists.get(name)
        before = self._has_before.get(name, 0)
        if known is None or items <= before:
            return
        self._has_before[name] = items
        places = known.places
        for place in places[bisect_left(places, (before,)) : bisect_left(places, (items,))]:
            if (name, place) not in self._has:
                yield known.lines[place]


def _place(match: re.Match[bytes]) -> tuple[int, int] | None:
    """Return of a list's part the number of its first item, and its size; of others None."""
    items = _ITEMS.match(match.string, match.end())
    return None if items is None else (int(items[1]), len(match.string) - match.start("rest"))


def _stamped(line: bytes, seq: bytes, time: bytes) -> bytes:
    """Return a value's line with another number and time."""
    match = VALUE_HEAD.match(line)
    assert match is not None, "only such lines are noted"
    return b"".join((match["before"], seq, match["between"], time, line[match.start("rest") :]))


def _key(line: bytes) -> tuple[bool, bytes, tuple[int, int]]:
    """Return what lines of values are sorted by: texts, then lists, whose items refer to texts."""
    match = VALUE_HEAD.match(line)
    if match is None:
        return True, b"", (0, 0)
    place = _place(match)
    return place is not None, match["name"], place or (0, 0)
