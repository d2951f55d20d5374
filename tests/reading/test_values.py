"""Values: what an artifact holds once is whole in every event that refers to it."""

from __future__ import annotations

import asyncio
import gc
import json
import shutil
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import asynctrack
from asynctrack._format import ArtifactName
from asynctrack._reading.decoding import values as values_module
from asynctrack._reading.decoding.events import Damage, Event, json_text, read_events
from asynctrack._reading.run import open_run
from tests.reading.making import DAY, WRITER, RunFolder, event, lines
from tests.reading.valued import raw_lines, rewrite, stored, told, track_states, value_line
from tests.support.values import list_reference, packed, text_name, text_reference

TEXT = "é\u2028 large \x00" * 1000
BYTES = {"$type": "bytes", "base64": "QUJD" * 2000}
MESSAGES = [{"type": "human", "content": f"{n} {'x' * 800}"} for n in range(20)]
LIST = "1" * 32
OTHER_LIST = "2" * 32


def read(
    written: list[dict[str, Any]] | bytes, last: int = 9, **options: Any
) -> tuple[list[Event], list[Damage]]:
    """The events of lines, and what is damaged; missing lines at the end aside."""
    damage: list[Damage] = []
    raw = written if isinstance(written, bytes) else lines(written)
    place = ArtifactName(WRITER, 1, last, DAY)
    events = list(read_events(raw, "x.jsonl", place, damage.append, **options))
    return events, [one for one in damage if not one.rest]


def part(one: dict[str, Any], items: list[Any], start: int = 0, name: str = LIST) -> dict[str, Any]:
    """A line with items of a list."""
    return value_line(one, name, {"from": start, "items": items})


whole = st.recursive(
    st.none() | st.integers(-9, 9) | st.sampled_from(["", "a", TEXT, TEXT[:-1], TEXT[1:]]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["a", "b", "$ref", "items"]), inner, max_size=3)
        | st.integers(0, 20).map(lambda n: MESSAGES[:n])
        | st.just(BYTES)
    ),
    max_leaves=12,
)


logged = st.dictionaries(st.sampled_from(["inputs", "outputs", "data", "error"]), whole)


@given(payloads=st.lists(logged, max_size=5))
def test_events_are_whole(payloads: list[dict[str, Any]]) -> None:
    """Whatever is logged, events of version 2 are those of version 1."""
    written = [event(seq, **payload) for seq, payload in enumerate(payloads, 1)]
    for one in written:
        one["metadata"] = {"m": one.get("inputs")}
    events, damage = read(stored(written))
    assert damage == []
    assert [{**one.raw, "v": 1} for one in events] == written
    kept, damage = read(stored(written), resolve=False)
    assert damage == []
    together = [line for one in kept for line in (*one.values, one.raw)]  # type: ignore[attr-defined]
    assert together == stored_again(together, stored(written))


def stored_again(found: list[Any], written: list[Any]) -> list[Any]:
    """What was written, with the ids of lists that were found: they are random."""
    names = {
        one["name"]: other["name"]
        for one, other in zip(written, found, strict=True)
        if one["event"] == "value"
    }
    text = json.dumps(written)
    for name, other in names.items():
        text = text.replace(name, other)
    found = json.loads(text)
    return list(found)


def test_what_is_equal_is_one_object() -> None:
    """A value is decoded once: events share a text, and the items of a list that grew; a list
    itself is new in each event."""
    written = [event(1, inputs={"a": TEXT, "messages": MESSAGES[:10]})]
    written += [event(2, inputs=TEXT, outputs=[MESSAGES[:15]]), event(3, outputs=MESSAGES)]
    (one, two, three), damage = read(stored(written))
    assert damage == []
    assert one.inputs["a"] is two.inputs
    assert one.inputs["messages"][9] is two.outputs[0][9] is three.outputs[9]
    assert one.inputs["messages"] is not two.outputs[0]
    assert [len(one.inputs["messages"]), len(two.outputs[0]), len(three.outputs)] == [10, 15, 20]


def test_a_value_is_decoded_when_it_is_referred_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that no event has referred to yet is bytes; then it is decoded, once."""
    decoded: list[bytes] = []
    real = values_module.payload.decode
    monkeypatch.setattr(
        values_module.payload, "decode", lambda line: decoded.append(line) or real(line)
    )
    first, second = event(1), event(2, inputs=text_reference(TEXT))
    never = "never" * 1000
    written = [value_line(first, text_name(TEXT), TEXT), value_line(first, text_name(never), never)]
    written += [first, second, event(3, inputs=text_reference(TEXT))]
    damage: list[Damage] = []
    written = [{**one, "v": 2} for one in written]
    place = ArtifactName(WRITER, 1, 3, DAY)
    events = read_events(lines(written), "x.jsonl", place, damage.append)
    next(events)
    assert packed(TEXT) not in decoded
    assert next(events).inputs == TEXT
    assert next(events).inputs == TEXT
    assert list(events) == []
    assert decoded.count(packed(TEXT)) == 1
    assert not any(b"never" in one for one in decoded)
    assert damage == []


def test_sizes_are_what_events_take_in_memory() -> None:
    """An event's size is its line's, and that of what it is the first to refer to."""
    written = stored([event(1, inputs=TEXT), event(2, inputs=TEXT), event(3)])
    sizes = [len(packed(one)) for one in written]
    (one, two, three), _ = read(written)
    assert one.size == sizes[1] + len(packed(TEXT))
    assert (two.size, three.size) == (sizes[2], sizes[3])


def test_values_are_no_events() -> None:
    """What is missing at the end is counted in events, and damage by the number of its line."""
    written = stored([event(seq, inputs=f"{seq}{TEXT}") for seq in (1, 2)])
    assert len(written) == 4
    damage: list[Damage] = []
    place = ArtifactName(WRITER, 1, 4, DAY)
    events = list(read_events(lines(written), "x.jsonl", place, damage.append))
    assert [one.seq for one in events] == [1, 2]
    assert damage == [Damage(5, "2 lines are missing at the end", rest=True)]
    damage.clear()
    place = ArtifactName(WRITER, 1, 2, DAY)
    list(read_events(lines(written), "x.jsonl", place, damage.append))
    assert damage == []


HEAD = f'{{"v":2,"writer_id":"{WRITER}","seq":1,"time_unix_nano":1,"event":"value","name":"{LIST}"'
BAD_VALUES: dict[str, bytes] = {
    "not JSON": f'{HEAD},"data":"abc}}\n'.encode(),
    "neither a text, nor bytes": f'{HEAD},"data":7}}\n'.encode(),
    "nor a part of a list": f'{HEAD},"data":{{"from":-1,"items":[]}}}}\n'.encode(),
    "items of a list from 5 on, and 0": f'{HEAD},"data":{{"from":5,"items":[1]}}}}\n'.encode(),
    "another writer": f'{HEAD},"data":"abc"}}\n'.replace(WRITER, "c" * 24).encode(),
    "without an id": f'{HEAD},"data":"abc"}}\n'.replace(LIST, "name").encode(),
}


@pytest.mark.parametrize("reason", BAD_VALUES)
@pytest.mark.parametrize("resolve", [True, False])
@pytest.mark.parametrize("size", [1, 1000])
def test_a_damaged_value_is_named_and_events_stay(reason: str, resolve: bool, size: int) -> None:
    """A line of a value that is none is named; the events come with their references."""
    references = [{"$ref": LIST, "bytes": 5, "head": "a"}, list_reference(LIST, 1)]
    written = [event(seq, inputs=one) for seq, one in enumerate(references, 1)]
    raw = BAD_VALUES[reason].replace(b"abc", b"abc" * size).replace(b":7", b":[7]" + b" " * size)
    raw += lines([{**one, "v": 2} for one in written])
    events, damage = read(raw, resolve=resolve)
    assert [one.inputs for one in events] == references
    if resolve or "items of a list" not in reason:
        assert [one.line for one in damage] == [1]
        assert reason in damage[0].reason


def test_what_only_looks_like_a_reference_stays() -> None:
    """An object of any other shape is the user's, a reference to what is not there stays; so does
    one to a text in the place of a list, or to more items than there are."""
    name = text_name(TEXT)
    users: list[Any] = [
        {"$ref": "#/definitions/x"}, {"$ref": name}, {"$ref": name, "bytes": 1},
        {"$ref": name, "bytes": 1, "head": "h", "more": 1},
        {"$ref": name, "bytes": "1", "head": ""},
        {"$ref": name, "bytes": 1, "head": None}, {"$ref": [name], "bytes": 1, "head": ""},
        list_reference(name, 1), {"$ref": LIST, "bytes": 1, "head": ""},
        list_reference(LIST, 9), list_reference(LIST, -1), list_reference("9" * 32, 1),
        {"$ref": LIST, "items": True, "bytes": 1}, {"$ref": LIST, "items": 1.0, "bytes": 1},
    ]  # fmt: skip
    one = event(1, inputs=[*users, list_reference(LIST, 2)], metadata=text_reference(TEXT))
    one["attributes"] = {"a": text_reference(TEXT)}
    written = [value_line(one, name, TEXT), part(one, [{"a": 1}, {"b": 2}]), {**one, "v": 2}]
    ((found,), damage) = read(written)
    assert damage == []
    assert found.inputs == [*users, [{"a": 1}, {"b": 2}]]
    assert found.metadata == text_reference(TEXT)  # an object, whatever it says
    assert found.attributes == {"a": text_reference(TEXT)}
    # In version 1 there is none.
    ((old,), _) = read([*written[:2], {**one, "v": 1}])
    assert old.inputs == [*users, list_reference(LIST, 2)]


def test_parts_of_lists_may_come_again_and_overlap() -> None:
    """A part that stands twice, or goes on from within, adds what is new; behind a gap it is
    damage."""
    one, two = event(1, inputs=list_reference(LIST, 3)), event(2, inputs=list_reference(LIST, 6))
    written = [part(one, [0, 1]), part(one, [0, 1]), part(one, [1, 2, 3], 1), {**one, "v": 2}]
    written += [part(two, [8], 8), part(two, [2, 3, 4, 5], 2), part(two, [], 1), {**two, "v": 2}]
    events, damage = read(written)
    assert [one.inputs for one in events] == [[0, 1, 2], [0, 1, 2, 3, 4, 5]]
    assert [(one.line, one.reason) for one in damage] == [
        (5, "items of a list from 8 on, and 4 are there")
    ]


def test_one_id_for_a_text_and_a_list() -> None:
    """What came first under an id counts, the other is not believed."""
    one = event(1, inputs=[{"$ref": LIST, "bytes": 1, "head": ""}, list_reference(LIST, 1)])
    one["outputs"] = list_reference(LIST, 2)
    written = [value_line(one, LIST, "abc"), part(one, [7, 8]), {**one, "v": 2}]
    ((found,), damage) = read(written)
    assert (found.inputs, found.outputs) == (["abc", one["inputs"][1]], one["outputs"])
    written = [part(one, [7]), value_line(one, LIST, "abc"), {**one, "v": 2}]
    ((found,), damage) = read(written)
    assert (found.inputs, found.outputs) == ([one["inputs"][0], [7]], one["outputs"])
    assert [(one.line, one.reason) for one in damage] == [(2, "a text and a list with one id")]


def test_lists_in_circles_end() -> None:
    """Lists that hold themselves, or each other, are resolved until they come again."""
    one = event(1, inputs=[list_reference(LIST, 2), list_reference(OTHER_LIST, 1)])
    written = [
        part(one, [list_reference(LIST, 1), list_reference(OTHER_LIST, 1)]),
        part(one, [{"deep": list_reference(LIST, 2)}], name=OTHER_LIST),
        {**one, "v": 2},
    ]
    ((found,), damage) = read(written)
    assert damage == []
    inner = [{"deep": list_reference(LIST, 2)}]
    assert found.inputs == [[list_reference(LIST, 1), inner], inner]
    # In the middle of a list that comes in parts.
    two = event(1, inputs=list_reference(LIST, 4))
    items = [list_reference(LIST, 4), {"a": 1}, list_reference(LIST, 3), {"b": 2}]
    written = [part(two, items[:2]), part(two, items[2:], 2), {**two, "v": 2}]
    ((found,), damage) = read(written)
    assert damage == []
    assert found.inputs == items


def test_lists_that_multiply_have_a_bound() -> None:
    """A hundred lists that each hold the next one ten times end at a bound, quickly."""
    one = event(1, inputs=list_reference(f"{0:032x}", 10))
    written = [
        part(one, [list_reference(f"{n + 1:032x}", 10)] * 10, name=f"{n:032x}") for n in range(100)
    ]
    written += [part(one, ["x" * 100] * 10, name=f"{100:032x}"), {**one, "v": 2}]
    tracemalloc.start()
    began = time.process_time()
    ((found,), damage) = read(written)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert damage == []
    assert time.process_time() - began < 5
    assert peak < 20_000_000
    size = 0
    waiting = [found.inputs]
    while waiting and size < 100_000_000:
        box = waiting.pop()
        size += len(box)
        waiting += [item for item in box if type(item) is list]
    assert 0 < size * 8 < values_module.MAX_RESOLVED


def test_a_million_references_have_a_bound() -> None:
    """An event of a million references to a large text gets as many as the bound allows."""
    count = 1_000_000
    reference = packed({**text_reference(TEXT), "head": ""}).decode()
    one = event(1)
    raw = lines([value_line(one, text_name(TEXT), TEXT)])
    raw += packed({**one, "v": 2, "inputs": []})[:-2] + (f"{reference}," * count)[:-1].encode()
    raw += b"]}\n"
    ((found,), damage) = read(raw)
    assert damage == []
    assert len(found.inputs) == count
    texts = sum(type(item) is str for item in found.inputs)
    assert values_module.MAX_RESOLVED // 2 < texts * len(TEXT) <= values_module.MAX_RESOLVED


def test_huge_nesting_is_read() -> None:
    """Structures nested as deep as JSON is read, and chains of lists, raise nothing; a reference
    stays where it would make them deeper than JSON is written."""
    deep: Any = text_reference(TEXT)
    for _ in range(500):
        deep = [deep]
    one, two = event(1, inputs=deep), event(2, inputs=list_reference(f"{0:032x}", 1))
    two["outputs"] = list_reference("f" * 32, 1)
    written = [value_line(one, text_name(TEXT), TEXT), {**one, "v": 2}]
    written += [
        part(two, [list_reference(f"{n + 1:032x}", 1)], name=f"{n:032x}") for n in range(5000)
    ]
    nest: Any = 1
    for _ in range(300):
        nest = [nest]
    written += [part(two, [nest], name="f" * 32), {**two, "v": 2}]
    (first, second), damage = read(written)
    assert damage == []
    found: Any = second.inputs
    levels = 0
    while type(found) is list:
        (found,) = found
        levels += 1
    assert levels == values_module.MAX_LEVELS
    assert second.outputs == list_reference("f" * 32, 1)
    assert json_text(second.raw)
    for _ in range(500):
        (deep,) = deep
    assert first.inputs


def test_values_that_would_fill_the_memory_are_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values of an artifact beyond a bound are damage; its events come all the same."""
    monkeypatch.setattr(values_module, "MAX_HELD", 100_000)
    monkeypatch.setattr("asynctrack._reading.decoding.events.MAX_HELD", 100_000)
    texts = [f"{n}{'x' * 30_000}" for n in range(5)]
    one = event(1, inputs=[text_reference(text) for text in texts])
    written = [value_line(one, text_name(text), text) for text in texts]
    for resolve, inputs in (
        (True, [*texts[:3], *one["inputs"][3:]]),
        (False, one["inputs"]),
    ):
        ((found,), damage) = read([*written, {**one, "v": 2}], resolve=resolve)
        assert found.inputs == inputs
        assert [one.line for one in damage] == [4, 5]
        assert "bytes of values" in damage[0].reason


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["", "x", LIST, OTHER_LIST]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.fixed_dictionaries(
            {"$ref": st.sampled_from([LIST, OTHER_LIST]) | inner, "bytes": st.integers()},
            optional={"items": st.integers(-1, 4) | inner, "head": st.just("") | inner},
        )
        | st.fixed_dictionaries({"from": st.integers(-1, 4), "items": st.lists(inner, max_size=4)})
    ),
    max_leaves=15,
)


@given(data=st.lists(st.tuples(st.sampled_from([LIST, OTHER_LIST, "x"]), junk, junk), max_size=8))
def test_whatever_values_say_nothing_raises(data: list[tuple[str, Any, Any]]) -> None:
    """Values and events of any shape are read, with each event once and nothing raised."""
    written = []
    for seq, (name, value, inputs) in enumerate(data, 1):
        one = event(seq, inputs=inputs, data=value)
        written += [value_line(one, name, value), {**one, "v": 2}]
    events, _ = read(written)
    assert [one.seq for one in events] == [*range(1, len(data) + 1)]
    assert all(json_text(one.raw) for one in events)


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LangGraph run of 60 states that hold a document of 200 KB, tracked; its lines are of
    version 1."""
    run = track_states(tmp_path_factory.mktemp("states"))
    rewrite(run, 1)
    return run


@pytest.fixture
def states(tracked: Path, tmp_path: Path) -> Path:
    """The same Run in version 2, in several artifacts."""
    shutil.copytree(tracked.parents[3], tmp_path, dirs_exist_ok=True)
    run = tmp_path / tracked.relative_to(tracked.parents[3])
    rewrite(run, 2, batch=50)
    return run


def texts_in(value: Any) -> Iterator[str]:
    """The large texts in a value."""
    if isinstance(value, str) and len(value) > 100_000:
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from texts_in(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from texts_in(item)


def test_trees_are_equal(tracked: Path, states: Path) -> None:
    """The trees of both versions are equal, and so is every event but for its version."""
    artifacts = sorted(states.glob("dt=*/*"))
    assert len(artifacts) > 3
    assert told(open_run(states)) == told(open_run(tracked))
    whole = [one.raw for one in open_run(tracked).events()]
    assert [{**one.raw, "v": 1} for one in open_run(states).events()] == whole
    assert open_run(states).to_pandas().equals(open_run(tracked).to_pandas())
    report = asynctrack.verify(states)
    assert report.ok, str(report)
    assert report.events == len(whole)
    assert {one["v"] for path in artifacts for one in raw_lines(path)} == {2}


def test_a_text_is_in_memory_once(states: Path) -> None:
    """A Run's trees hold a document once, in however many artifacts and events it is."""
    run = open_run(states)
    list(run.traces())  # imports, caches
    gc.collect()
    tracemalloc.start()
    traces = list(run.traces())
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    documents = [
        text
        for trace in traces
        for span in trace.walk()
        for text in texts_in([span.inputs, span.outputs, span.data])
    ]
    assert len(documents) > 100
    assert all(text is documents[0] for text in documents)
    assert size < 2_000_000


def test_texts_that_are_held_have_a_bound(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many texts a Run has, few are held for the artifacts to come."""
    monkeypatch.setattr(values_module, "SHARED_BYTES", 1_000_000)
    for seq in range(1, 81):
        folder.artifact(stored([event(seq, inputs=f"{seq}{'x' * 200_000}")]))
    folder.manifest()
    list(open_run(folder.path).events())
    tracemalloc.start()
    for one in open_run(folder.path).events():
        assert len(one.inputs) > 200_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6_000_000


def test_a_text_is_believed_by_its_digest(folder: RunFolder) -> None:
    """Under an id that lies, each artifact has its own text."""
    lie = "0" * 32
    for seq, text in ((1, TEXT), (2, TEXT[1:])):
        one = event(seq, inputs={"$ref": lie, "bytes": 5, "head": "h"})
        folder.artifact([value_line(one, lie, text), {**one, "v": 2}])
    folder.manifest()
    assert [one.inputs for one in open_run(folder.path).events()] == [TEXT, TEXT[1:]]


def test_artifacts_that_overlap_keep_their_values(folder: RunFolder) -> None:
    """Where artifacts overlap, as after a replay, every event is whole; read as stored, it has
    all values before it that it needs."""
    events = [event(seq, inputs=TEXT, outputs=MESSAGES[: 8 + seq]) for seq in range(1, 9)]
    folder.artifact(stored(events[:5]))
    folder.artifact(stored(events[2:7]))
    folder.artifact(stored(events[6:]))
    folder.manifest()
    run = open_run(folder.path)
    assert [{**one.raw, "v": 1} for one in run.events()] == events
    kept: list[Any] = list(run.stored_events())
    assert [one.seq for one in kept] == [*range(1, 9)]
    known: set[str] = set()
    for one in kept:
        known |= {value["name"] for value in one.values}
        assert {one.raw["inputs"]["$ref"], one.raw["outputs"]["$ref"]} <= known
    raw = [line for one in kept for line in (*one.values, one.raw)]
    again, damage = read(raw)
    assert damage == []
    assert [{**one.raw, "v": 1} for one in again] == events
    assert asynctrack.verify(folder.path).events == 8


def test_versions_may_be_mixed(folder: RunFolder) -> None:
    """A Run may be partly of version 1 and partly of 2, and lines of one artifact, too."""
    events = [event(seq, inputs=TEXT) for seq in range(1, 7)]
    folder.artifact(events[:2])
    folder.artifact([*stored(events[2:3]), events[3]])
    folder.artifact(stored(events[4:]), suffix=".gz")
    folder.manifest()
    assert [{**one.raw, "v": 1} for one in open_run(folder.path).events()] == events


def test_verify_reads_values_too(folder: RunFolder) -> None:
    """A value that is damaged is named by ``verify``, also where no event refers to it."""
    bad = value_line(event(2), LIST, {"neither": TEXT})
    folder.artifact([event(1), bad, {**event(2), "v": 2}], last=2)
    folder.manifest()
    report = asynctrack.verify(folder.path)
    assert not report.ok
    (writer,) = report.writers
    assert writer.events == 2
    (problem,) = writer.damaged
    assert (problem.line, problem.lines) == (2, 1)
    assert [one.seq for one in open_run(folder.path).events()] == [1, 2]


def test_stored_events_from_async_code(folder: RunFolder) -> None:
    """The same as from code that blocks: references, and the values before them."""
    folder.artifact(stored([event(1, inputs=TEXT), event(2, inputs=TEXT)]))
    folder.manifest()
    run = open_run(folder.path)

    async def read_all() -> list[Any]:
        return [one async for one in run.astored_events()]

    expected: list[Any] = list(run.stored_events())
    found = asyncio.run(read_all())
    assert [(one.raw, one.values) for one in found] == [(one.raw, one.values) for one in expected]
    assert [len(one.values) for one in found] == [1, 0]
