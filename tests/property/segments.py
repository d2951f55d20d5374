"""Segments with any values in them, for Hypothesis."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import strategies as st

from asynctrack._common.lines import Entry
from tests.support.values import (
    event_line,
    list_reference,
    text_name,
    text_reference,
    value_line,
)

WRITER = "01a20473057a41aa9a3d6d1a"
TEXTS = ["one", 'two "quoted" \\ \n', "ünï\u2028", {"$type": "bytes", "base64": "AAAA"}, "five"]
LISTS = ["a" * 32, "b" * 32, "c" * 32]
OTHERS = [
    {"$ref": "#/defs/x"},
    {"nested": '{"$ref":"' + LISTS[0] + '","items":1,"bytes":1}'},
    list_reference("d" * 32, 10**9),
    "plain",
]


class _Making:
    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.stored: set[str] = set()
        self.lists: dict[str, list[Any]] = {}

    def entry(self, seq: int) -> bytes:
        self.seq = seq
        self.values: list[bytes] = []
        inputs = [self._something() for _ in range(self.rng.choice([0, 1, 1, 2, 4]))]
        return b"".join((*self.values, event_line(WRITER, seq, inputs=inputs)))

    def _something(self) -> Any:
        kind = self.rng.random()
        if kind < 0.4:
            return self._text()
        return self._list(self.rng.randrange(len(LISTS))) if kind < 0.9 else self._other()

    def _other(self) -> Any:
        return self.rng.choice(OTHERS)

    def _add(self, name: str, data: Any) -> None:
        self.values.append(value_line(WRITER, self.seq, name, data))

    def _text(self) -> Any:
        one = self.rng.choice(TEXTS)
        name = text_name(one)
        # Now and then it stands there again, or nowhere.
        if self.rng.random() < (0.1 if name in self.stored else 0.9):
            self._add(name, one)
            self.stored.add(name)
        return text_reference(one)

    def _list(self, number: int) -> Any:
        name = LISTS[number]
        items = self.lists.setdefault(name, [])
        old = len(items)
        for _ in range(self.rng.choice([0, 0, 1, 2, 3])):
            kind = self.rng.random()
            if kind < 0.4:
                items.append(self._text())
            else:  # items of a list refer to others, too
                items.append(self._list(number - 1) if kind < 0.6 and number else self._other())
        if len(items) > old:
            self._add(name, {"from": old, "items": items[old:]})
        if items and self.rng.random() < 0.1:  # some of it stands there again
            begin = self.rng.randrange(len(items))
            self._add(name, {"from": begin, "items": items[begin : self.rng.randint(begin, 99)]})
        return list_reference(name, self.rng.randint(1, len(items) + 1))


@st.composite
def segments(draw: st.DrawFn, first_seq: int = 7) -> list[Entry]:
    """Entries: values, most of them once, before the first event that refers to them."""
    making = _Making(draw(st.randoms(use_true_random=False)))
    last = first_seq + draw(st.integers(0, 14))
    return [(seq, making.entry(seq)) for seq in range(first_seq, last + 1)]
