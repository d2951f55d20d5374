"""Values change what is stored, never what is read back."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage

from asynctrack._buffer.buffer import Buffer
from asynctrack._buffer.store import Store
from asynctrack._capture.event import Body, Events
from asynctrack._capture.observations import Observations
from asynctrack._capture.recurring import Recurring
from asynctrack._capture.redact import REDACTED, Redactor, _without_leaves
from asynctrack._common import payload
from tests.property.strategies import any_text, json_like, quick, thorough, weird
from tests.support.auditor import Values

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")
KEY = "sk-Zq7Xw9Kv3Jp5Hd2Rt8abc"
FIELDS = ("inputs", "outputs", "data", "error", "metadata")
NAMES = ("content", "text", "api_key", "password", "token", "secrets", "x", "base64", "$ref")

large = st.builds(
    lambda seed, kind, size: (seed + kind) * (size // len(seed + kind) + 1),
    st.sampled_from(["a", "word ", "ü", "漢字 ", "😀", "\\", '"', "\n", "\ud800", f"x {KEY} "]),
    st.sampled_from(["", "b", " ", "\x00"]),
    st.sampled_from([4_080, 4_096, 4_097, 5_000, 9_000]),
)
"""Texts around the size from which they are values, drawn anew: equal ones in other objects."""
contents = st.one_of(large, large.map(lambda text: text.encode(errors="surrogatepass")))
messages = st.builds(
    lambda kind, text, number: kind(content=text, id=str(number)),
    st.sampled_from([HumanMessage, AIMessage]),
    st.one_of(large, any_text.map(lambda text: text.encode(errors="replace").decode())),
    st.integers(0, 3),
)
items = st.one_of(
    messages,
    st.fixed_dictionaries({"role": st.just("user"), "content": st.one_of(large, any_text)}),
    st.dictionaries(st.sampled_from(NAMES), st.one_of(large, json_like), max_size=3),
)
lists = st.lists(items, min_size=8, max_size=12).map(lambda some: some * 3)
structures = st.recursive(
    st.one_of(contents, lists, json_like, weird),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    ),
    max_leaves=6,
)


def before_values(record: dict[str, Any], redactor: Redactor) -> dict[str, Any]:
    """What was stored of a record before there were values."""
    found: dict[str, Any] = json.loads(redactor.body(payload.encode(record)))
    return found


def same(found: Any, wanted: Any) -> bool:
    """Compare what is read back with what would have been stored.

    What is cut may be less detailed: of bytes that they were some, of a list what it held.
    """
    if found == [REDACTED] and isinstance(wanted, dict):
        return wanted in ({"$type": "bytes", name: REDACTED} for name in ("base64", "utf8"))
    if isinstance(wanted, list) and isinstance(found, list):
        if found == [REDACTED] and _without_leaves(wanted) == wanted:
            return True
        return len(found) == len(wanted) and all(map(same, found, wanted))
    if isinstance(wanted, dict) and isinstance(found, dict):
        names = found.keys() == wanted.keys()
        return names and all(same(found[name], wanted[name]) for name in wanted)
    return type(found) is type(wanted) and bool(found == wanted)


class Ground:
    """Makes events, and puts them into a buffer with small pieces."""

    def __init__(self, max_bytes: int = 20_000) -> None:
        self.redactor = Redactor()
        self.events = Events(
            self.redactor, Observations(), lambda: 1, lambda: 1, Recurring(self.redactor)
        )
        self.buffer = Buffer(
            writer_id="w",
            store=Store("w", max_bytes, 7, spooled=False),
            max_bytes=1 << 40,
            max_events=1 << 40,
            wake=lambda: None,
        )
        self.wanted: list[dict[str, Any]] = []

    def log(self, record: dict[str, Any]) -> Body:
        """Capture a record, and note what it said at this moment."""
        self.wanted.append(before_values(record, self.redactor))
        body = self.events.encode(record)
        assert self.buffer.put_nowait(body)
        return body

    def artifacts(self) -> list[list[bytes]]:
        """The lines of what is cut."""
        self.buffer.finish()
        found = []
        while (piece := self.buffer.take()) is not None:
            assert piece.size == sum(map(len, piece.raw().splitlines(keepends=True)))
            found.append(piece.raw().splitlines(keepends=True))
            self.buffer.settle(piece)
        counts = self.buffer.counts()
        assert counts.accepted == len(self.wanted) and counts.waiting_bytes == 0
        return found

    def check(self) -> None:
        """What is read back is what was logged; each artifact is whole, and has a text once."""
        found, seq = [], 0
        for lines in self.artifacts():
            values, stored = Values(), Counter[str]()
            for line in lines:
                record = json.loads(line)
                event = values.event(record, line)
                assert not values.take_problems()
                if event is not None:
                    seq += 1
                    assert event["seq"] == seq
                    found.append({name: event[name] for name in list(event)[3:]})
                elif isinstance(record["data"], dict) and "from" in record["data"]:
                    first = record["data"]["from"]
                    parts = range(first, first + len(record["data"]["items"]))
                    stored.update(f"{record['name']} {number}" for number in parts)
                else:
                    stored[record["name"]] += 1
            assert not values.end()
            assert not stored or max(stored.values()) == 1
        for one, wanted in zip(found, self.wanted, strict=True):
            assert same(one, wanted), (one, wanted)


@thorough
@given(
    st.lists(
        st.dictionaries(st.sampled_from(FIELDS), structures, min_size=1, max_size=2),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from([2_000, 20_000, 200_000]),
    st.lists(st.integers(0, 5), max_size=12),
)
def test_what_is_read_back_is_what_was_logged(
    payloads: list[dict[str, Any]], max_bytes: int, order: list[int]
) -> None:
    """Whatever the structures, sharing what they will, and however small the artifacts are."""
    ground = Ground(max_bytes)
    for number in order:  # the same objects come again
        one = payloads[number % len(payloads)]
        ground.log({"time_unix_nano": 1, "event": "text", **one})
    ground.check()


_steps = st.one_of(
    st.tuples(st.just("grow"), items),
    st.tuples(st.just("change"), items),
    st.tuples(st.just("mutate"), any_text.filter(lambda text: text.isprintable())),
    st.tuples(st.just("front"), st.none()),
    st.tuples(st.just("end"), st.none()),
    st.tuples(st.just("branch"), st.none()),
    st.tuples(st.just("copy"), st.none()),
    st.tuples(st.just("again"), st.none()),
)
steps = st.lists(st.tuples(_steps, st.booleans()), max_size=25)
"""Each with whether its outcome is logged."""


@quick
@given(st.lists(items, min_size=8, max_size=10), steps, st.integers(2_000, 60_000))
@example(
    [{"content": "a" * 900} for _ in range(8)],
    [
        (("again", None), True),
        (("grow", {"content": "b"}), True),
        (("front", None), True),
        (("branch", None), False),
        (("change", {"content": "c"}), True),
    ],
    4_000,
)
@example(  # longer than the first one, and other within it
    [{"content": "a" * 900} for _ in range(8)],
    [(("again", None), True), (("change", {"content": "c"}), False),
     (("grow", {"content": "b"}), True)],
    40_000,
)  # fmt: skip
def test_a_list_has_the_items_of_its_moment(
    begun: list[Any], steps: list[tuple[tuple[str, Any], bool]], max_bytes: int
) -> None:
    """It grows, is cut at its front, branches, and its messages change: each event has its own."""
    ground, branches = Ground(max_bytes), [list(begun)]
    for (step, value), logged in steps:
        some = branches[-1]
        if step == "grow":
            some.append(value)
        elif step == "change" and some:
            some[len(some) // 2] = value
        elif step == "mutate" and some:
            one = some[len(some) // 2]
            if isinstance(one, dict):
                one["content"] = value
            else:
                one.content = value
        elif step == "front":
            some[:1] = []
        elif step == "end":
            some[-1:] = []
        elif step == "branch":
            branches.insert(0, branches.pop() if len(branches) > 2 else list(some))
        elif step == "copy":
            branches[-1] = list(some)
        if logged:
            ground.log({"time_unix_nano": 1, "event": "text", "inputs": {"messages": some}})
    ground.check()


@quick
@given(st.lists(st.one_of(contents, json_like), max_size=6), st.integers(64, 10_000))
def test_nothing_is_longer_than_the_bound(some: list[Any], bound: int) -> None:
    """With ``max_value_bytes``, no text in any line is longer than it; shorter ones are whole."""
    redactor = Redactor()
    events = Events(redactor, Observations(), lambda: 1, lambda: 1, Recurring(redactor, bound))
    body = events.encode({"time_unix_nano": 1, "event": "text", "inputs": some})
    for line in _lines(body):
        _check_texts(json.loads(line), bound)


def _lines(body: Body) -> list[bytes]:
    if isinstance(body, bytes):
        return [body]
    body.prepare()
    return body.lines(b'{"v":2,"writer_id":"w","seq":', 1, {}).splitlines()


def _check_texts(one: Any, bound: int) -> None:
    if isinstance(one, str):
        assert len(one.encode()) <= max(bound, 64)
    elif isinstance(one, dict):
        for name, item in one.items():
            if one.get("$type") != "bytes" or name != "base64":
                _check_texts(item, bound)
    elif isinstance(one, list):
        for item in one:
            _check_texts(item, bound)
