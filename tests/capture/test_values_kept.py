"""What is remembered of values has a bound, and what is forgotten is stored again."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from asynctrack._capture import values as module
from asynctrack._capture.event import Events
from asynctrack._capture.observations import Observations
from asynctrack._capture.recurring import Recurring
from asynctrack._capture.redact import Redactor
from asynctrack._capture.values import Content, Values
from tests.capture.whole import events, lines, whole

SIZE = 100_000


def make(limit: int | None = None) -> Events:
    """Makes events; its clocks stand still."""
    redactor = Redactor()
    return Events(redactor, Observations(), lambda: 1, lambda: 1, Recurring(redactor, limit))


def record(value: Any, field: str = "inputs") -> dict[str, Any]:
    """A record that holds a value."""
    return {"time_unix_nano": 1, "event": "text", field: value}


def text(number: int, size: int = SIZE) -> str:
    """A text that no other number has."""
    return f"{number:06} " + "words " * (size // 6)


def kept(values: Values) -> int:
    """The bytes that are kept alive: each object once, and what is JSON of it."""
    contents: dict[int, Content] = {one.number: one for one in values._contents.values()}
    size = 0
    for alike in values._lists.values():
        for one in alike:
            size += len(one.raw) + sum(len(part.json) for part in one._parts.values())
            contents.update(one._found)
    return size + sum(len(one.content) for one in contents.values())


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> int:
    """A bound that is soon reached."""
    monkeypatch.setattr(module, "MAX_KEPT", 2_000_000)
    return 2_000_000


@pytest.mark.parametrize("form", ["texts", "lists", "lists of texts", "one list that grows"])
def test_what_is_remembered_has_a_bound(form: str, small: int) -> None:
    """Whatever is logged, and each event is what it was given all the same."""
    maker = make()
    values = maker.recurring.values
    grown: list[Any] = []
    for number in range(60):
        given: Any = text(number)
        if form == "lists":
            given = [{"n": number, "x": text(number, 600)} for _ in range(40)]
        elif form == "lists of texts":
            given = [{"n": number, "x": text(number * 8 + part, 9_000)} for part in range(8)]
        elif form == "one list that grows":
            grown += [{"n": number, "x": text(number * 9 + part, 5_000)} for part in range(9)]
            given = grown
        assert whole(maker.encode(record(given)))["inputs"] == given
        assert 0 <= values._kept <= small
        assert kept(values) <= small
    weights = sum(one.weight for one in values._contents.values())
    weights += sum(one.weight for alike in values._lists.values() for one in alike)
    assert values._kept == weights


def test_a_text_of_half_the_bound_is_not_remembered(small: int) -> None:
    """It would push out all others; it is stored."""
    maker = make()
    given = text(1, small)
    assert whole(maker.encode(record(given)))["inputs"] == given
    assert not maker.recurring.values._contents


def test_what_was_forgotten_is_stored_again(small: int) -> None:
    """In a later artifact, and once in one: its id is the same."""
    maker, first = make(), text(0)
    bodies = [maker.encode(record(first))]
    bodies += [maker.encode(record(text(number))) for number in range(1, 60)]
    values = maker.recurring.values
    assert first not in [one.content for one in values._contents.values()]
    bodies.append(maker.encode(record([first])))
    assert events(bodies)[-1]["inputs"] == [first]
    stored = [line for line in lines(bodies) if b'"event":"value"' in line]
    assert sum(b"000000 words" in line for line in stored) == 1


def test_a_text_that_comes_again_stays(small: int) -> None:
    """What is used is not what gives way."""
    maker, often = make(), text(0)
    for number in range(1, 60):
        maker.encode(record([often, text(number)]))
    assert often in [one.content for one in maker.recurring.values._contents.values()]


@pytest.mark.parametrize("bound", [64, 100, 4_096, 5_000, 20_000])
@pytest.mark.parametrize("sign", ["x", "ü", "漢", "😀", "\ud800"])
def test_a_text_at_the_bound_is_whole_and_one_above_is_cut(bound: int, sign: str) -> None:
    """Bytes count, not characters: the size and the hash are those of the text in UTF-8."""
    width = len(sign.encode(errors="backslashreplace"))
    maker = make(bound)
    fits = "-" * (bound % width) + sign * (bound // width)
    stored = fits.encode(errors="backslashreplace").decode()
    assert len(stored.encode()) == bound
    for field in ("inputs", "outputs", "data", "error", "metadata"):
        given = {"fits": fits, "above": fits + "-", "list": [fits + "-"] * 9, "n": 1}
        found = whole(maker.encode(record(given, field)))[field]
        assert found["fits"] == stored
        above = f"{stored}-".encode()
        digest = hashlib.sha256(above).hexdigest()
        cut = found["above"]
        assert list(cut) == ["$cut", "bytes", "sha256", "head"]
        assert (cut["$cut"], cut["bytes"], cut["sha256"]) == ("size", bound + 1, digest)
        assert stored.startswith(cut["head"]) and len(cut["head"].encode()) <= bound
        assert found["list"] == [cut] * 9


@pytest.mark.parametrize("bound", [64, 5_000])
def test_bytes_at_the_bound(bound: int) -> None:
    """Of bytes their own number counts, and they are what is hashed."""
    given = bytes(range(256)) * 40
    found = whole(make(bound).encode(record([given[:bound], given[: bound + 1]])))["inputs"]
    assert found[0]["$type"] == "bytes"
    assert found[1]["bytes"] == bound + 1
    assert found[1]["sha256"] == hashlib.sha256(given[: bound + 1]).hexdigest()
