"""Entries: events with their values; and parts of them."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynctrack._common.lines import Entry, entries_of, is_value, lines_of, parts, references
from tests.property.segments import WRITER, segments
from tests.property.strategies import quick, thorough
from tests.support.values import (
    event_line,
    list_reference,
    packed,
    resolved,
    text_name,
    text_reference,
    value_line,
)

A, B = "a" * 32, "b" * 32


def text(seq: int, one: str) -> bytes:
    return value_line(WRITER, seq, text_name(one), one)


def items(seq: int, begin: int, *some: object, name: str = A) -> bytes:
    return value_line(WRITER, seq, name, {"from": begin, "items": list(some)})


def event(seq: int, *some: object) -> bytes:
    return event_line(WRITER, seq, inputs=list(some))


def raw(entries: list[Entry]) -> bytes:
    return b"".join(entry for _, entry in entries)


def test_entries_are_events_with_the_values_before_them() -> None:
    """Lines of values belong to the next event; only those of values do, whatever they contain."""
    odd = event(3, {"event": "value", "name": A, "data": 1})
    user = event_line(WRITER, 4, event="value_changed", name=A, data=1)
    entries = [(1, event(1)), (2, text(2, "x") + items(2, 0, 1) + event(2)), (3, odd), (4, user)]
    assert entries_of(raw(entries), 1) == entries
    assert lines_of(entries[1][1]) == [text(2, "x"), items(2, 0, 1), event(2)]
    assert [is_value(line) for line in lines_of(entries[1][1])] == [True, True, False]
    assert entries_of(event(1) + text(2, "x"), 1) == [(1, event(1)), (2, text(2, "x"))]
    assert entries_of(b"", 1) == []


def test_references_are_those_of_the_format() -> None:
    """Texts and lists; nothing that the user logged, and nothing inside a text."""
    there = [text_reference('a"\\'), list_reference(A, 12)]
    assert references(event(1, *there)) == [(text_name('a"\\').encode(), None), (A.encode(), 12)]
    assert references(packed({"x": [{"y": there}]})) == references(event(1, *there))
    others: list[object] = [
        {"$ref": "#/$defs/x"},
        {"$ref": A},
        {"$ref": A, "items": 1},
        {"$ref": A, "items": 1, "bytes": 2, "more": 3},
        {"$ref": A, "items": -1, "bytes": 2},
        {"$ref": A, "items": 10**5000, "bytes": 2},
        {"$ref": A[1:], "items": 1, "bytes": 2},
        {"$ref": A, "bytes": 1, "head": 1},
        {"$ref": A, "bytes": 1, "head": "x", "more": 1},
        packed(there).decode(),
    ]
    assert references(b'{"x":%b}' % b",".join(_digits(one) for one in others)) == []


def _digits(one: object) -> bytes:
    if isinstance(one, dict) and one.get("items") == 10**5000:
        return packed({**one, "items": 0}).replace(b":0", b":1" + b"0" * 5000)
    return packed(one)


def test_what_a_part_refers_to_comes_with_it() -> None:
    """Values move in front of the first event of the part that refers to them, as its own."""
    x, y = text_reference("x"), text_reference("y")
    entries = [
        (1, text(1, "x") + items(1, 0, 1, x) + event(1, list_reference(A, 2))),
        (2, text(2, "y") + items(2, 2, y) + event(2, list_reference(A, 3))),
        (3, event(3, "nothing")),
        (4, event(4, list_reference(A, 2))),
        (5, text(5, "z") + items(5, 3, x, y) + event(5, list_reference(A, 5))),
        (6, event(6, list_reference(A, 5), x, list_reference(B, 1), text_reference("nowhere"))),
    ]
    first, second = parts(entries, {3})
    assert first == entries[:2]
    fifth = sorted([text(5, "z"), text(5, "y")], key=lambda line: json.loads(line)["name"])
    assert second == [
        entries[2],
        (4, text(4, "x") + items(4, 0, 1, x) + event(4, list_reference(A, 2))),
        (5, b"".join(fifth) + items(5, 2, y) + items(5, 3, x, y) + lines_of(entries[4][1])[-1]),
        entries[5],
    ]


def test_the_last_of_some_that_stand_before_counts() -> None:
    """Where a value stood twice, with another content, the part gets what was last there."""
    first, second = (value_line(WRITER, seq, A, data) for seq, data in ((1, "old"), (2, "new")))
    reference = {"$ref": A, "bytes": 5, "head": ""}
    entries = [(1, first + event(1)), (2, second + event(2)), (3, event(3, reference))]
    third = value_line(WRITER, 3, A, "new") + event(3, reference)
    assert list(parts(entries, {3}))[1] == [(3, third)]


def test_without_values_the_parts_are_the_lines() -> None:
    """Lines of version 1, and what is no event at all, are parted between lines."""
    entries = [(1, b'{"v":1}\n'), (2, b"\xff\n"), (3, b'{"$ref":"}\n'), (5, b"x\n"), (6, b"y\n")]
    assert list(parts(entries, {2})) == [entries[:1], entries[1:3], entries[3:]]
    assert list(parts([])) == []


def check(entries: list[Entry], cut: list[list[Entry]]) -> None:
    """Each event is there, is the same, and says the same as in the whole."""
    assert [seq for part in cut for seq, _ in part] == [seq for seq, _ in entries]
    whole = list(resolved(raw(entries)))
    assert [one for part in cut for one in resolved(raw(part))] == whole


@thorough
@given(segments(), st.sets(st.integers(6, 22)), st.sets(st.integers(6, 22)))
def test_any_segment_cut_anywhere(entries: list[Entry], some: set[int], more: set[int]) -> None:
    """Parts are complete, events and their order unchanged; cutting again changes nothing."""
    assert entries_of(raw(entries), entries[0][0]) == entries
    assert list(parts(entries)) == [entries]
    cut = list(parts(entries, some))
    assert [part[0][0] for part in cut[1:]] == sorted(some & {seq for seq, _ in entries[1:]})
    check(entries, cut)
    assert list(parts(entries, some)) == cut
    again = [one for part in cut for one in parts(part, more)]
    assert again == list(parts(entries, some | more))
    assert [one for part in cut for one in parts(entries_of(raw(part), part[0][0]), more)] == again


@thorough
@given(segments(), st.sets(st.integers(7, 22), max_size=3), st.sets(st.integers(6, 22)))
def test_any_segment_with_some_entries_lost(
    entries: list[Entry], lost: set[int], cuts: set[int]
) -> None:
    """What is left of a damaged segment says what it can: what is gone stays a reference."""
    left = [one for one in entries if one[0] not in lost]
    cut = list(parts(left, cuts))
    check(left, cut)
    assert all(seqs == [*range(seqs[0], seqs[-1] + 1)] for seqs in ([s for s, _ in p] for p in cut))


@quick
@given(st.lists(st.sampled_from([*(b'{}[]",:\n\\09av'[i : i + 1] for i in range(14)), text(1, "x"),
        event(1), b'{"$ref":"', A.encode(), b'"items":9', b'"bytes":1', b'"head":"', b'"from":']))
)  # fmt: skip
def test_any_bytes_are_parted(pieces: list[bytes]) -> None:
    """Nothing that stands in a file raises, and nothing of it is lost."""
    content = b"".join(pieces)
    entries = entries_of(content, 1)
    assert raw(entries) == content
    events = [lines_of(entry)[-1] for _, entry in entries]
    cut = [one for part in parts(entries, range(1, 99)) for one in part]
    assert [lines_of(entry)[-1] for _, entry in cut] == events
    references(content)


@pytest.mark.parametrize("shape", ["grown", "texts", "heads"])
def test_it_takes_no_longer_than_its_bytes(shape: str) -> None:
    """Twice as many events of one conversation take twice as long, and not four times."""

    def took(events: int) -> float:
        entries = []
        for seq in range(1, events + 1):
            if shape == "grown":  # a conversation that grows, and each call refers to all of it
                one = items(seq, seq - 1, text_reference(f"m{seq}")) + text(seq, f"m{seq}")
                entries.append((seq, one + event(seq, list_reference(A, seq))))
            elif shape == "texts":
                some = [text_reference(f"m{at}") for at in range(max(1, seq - 20), seq + 1)]
                entries.append((seq, text(seq, f"m{seq}") + event(seq, *some)))
            else:  # what looks like a reference and is none
                odd = b'{"$ref":"%b","bytes":1,"head":"%b' % (A.encode(), b'\\"a' * 50)
                entries.append((seq, text(seq, "x") + odd * 3 + b"\n"))
        started = time.thread_time()  # what others do on the machine takes none of it
        assert len(list(parts(entries, {events // 2}))) == 2
        return time.thread_time() - started

    ratios = [took(8_000) / took(2_000) for _ in range(3)]
    assert min(ratios) < 9
