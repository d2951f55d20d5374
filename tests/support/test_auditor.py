"""The auditor finds what is wrong, and finds nothing where nothing is."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tests.support.auditor import (
    assert_exactly_once,
    audit_folder,
    audit_s3,
    events_in_folder,
    events_in_s3,
)
from tests.support.s3 import S3Server
from tests.support.values import text_name, text_reference

NOON = 1_767_225_600_000_000_000 + 12 * 3_600_000_000_000  # 2026-01-01T12:00Z
RUN = "pre/fix/asynctrack/v1/experiment=e/run=r"


def event(seq: int, kind: str = "text", span: str | None = None, **more: Any) -> dict[str, Any]:
    return {
        "v": 1,
        "writer_id": "w1",
        "seq": seq,
        "time_unix_nano": NOON + seq,
        "event": kind,
        "span_id": span,
        **more,
    }


def packed(events: Iterable[dict[str, Any]], ending: str = ".jsonl.zst") -> bytes:
    text = b"".join(json.dumps(event).encode() + b"\n" for event in events)
    if ending == ".jsonl.zst":
        return zstandard.compress(text)
    return gzip.compress(text) if ending == ".jsonl.gz" else text


class Store:
    """Writes artifacts as a tracker would, or as it must not."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, key: str, content: bytes) -> str:
        path = self.folder / RUN / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return f"{RUN}/{key}"

    def artifact(
        self,
        *events: dict[str, Any],
        first: int | None = None,
        last: int | None = None,
        day: str = "2026-01-01",
        ending: str = ".jsonl.zst",
    ) -> str:
        first = events[0]["seq"] if first is None else first
        last = events[-1]["seq"] if last is None else last
        name = f"dt={day}/w1-{first:012d}-{last:012d}{ending}"
        return self.put(name, packed(events, ending))

    def problems(self) -> str:
        return "\n".join(audit_folder(self.folder).problems)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def fill(store: Store) -> None:
    """Nine events in three objects, one of each packing, and a manifest beside them."""
    store.artifact(event(1, "chain_start", "a"), event(2, "llm_start", "b"), event(3))
    store.artifact(event(4, "llm_end", "b"), event(5, "tool_start", "c"), ending=".jsonl.gz")
    store.artifact(
        *(event(6, "tool_error", "c"), event(7, "chain_end", "a"), event(8)),
        event(9, "chain_start", "d"),
        ending=".jsonl",
    )
    store.put("_manifest/w1.json", b"{}")


def test_complete_folder(store: Store) -> None:
    """A complete folder has no problems, and everything in it is counted."""
    fill(store)
    audit = audit_folder(store.folder)
    assert audit.problems == ()
    assert (audit.events, len(audit.objects), audit.open_spans) == (9, 3, 1)
    assert audit.writers["w1"].seqs == tuple(range(1, 10))
    assert (audit.writers["w1"].gaps, audit.writers["w1"].duplicates) == ((), {})
    assert audit.others == (f"{RUN}/_manifest/w1.json",)
    assert audit.kinds["chain_start"] == 2
    assert_exactly_once(audit)
    assert_exactly_once(audit, 9)
    assert_exactly_once(audit, {"w1": 9})
    assert [event["seq"] for event in events_in_folder(store.folder)] == list(range(1, 10))


def test_s3_and_folder_are_audited_alike(s3: S3Server) -> None:
    """What is found through a real S3 server is what is found in its files."""
    fill(Store(s3.folder))
    client = s3.boto_client()
    assert audit_s3(client, s3.bucket, "pre/") == audit_folder(s3.folder)
    assert audit_s3(client, s3.bucket, "pre/").events == 9
    assert audit_s3(client, s3.bucket, "other/").events == 0
    assert events_in_s3(client, s3.bucket) == events_in_folder(s3.folder)


def test_many_objects_are_listed_page_by_page(s3: S3Server) -> None:
    """No object is overlooked where a listing takes more than one page."""
    store = Store(s3.folder)
    for seq in range(1, 1102):
        store.artifact(event(seq))
    audit = audit_s3(s3.boto_client(), s3.bucket)
    assert_exactly_once(audit, 1101)


def test_gap(store: Store) -> None:
    """Events missing between others are named."""
    store.artifact(event(1), event(2))
    store.artifact(event(5))
    audit = audit_folder(store.folder)
    assert audit.writers["w1"].gaps == ((3, 4),)
    with pytest.raises(AssertionError, match="w1: missing 3 to 4"):
        assert_exactly_once(audit)


def test_missing_beginning(store: Store) -> None:
    """Sequence numbers begin with 1: what is missing before the first found is a gap."""
    store.artifact(event(3))
    assert "w1: missing 1 to 2" in store.problems()


def test_missing_end(store: Store) -> None:
    """Events missing after the last one are noticed when the number accepted is told."""
    store.artifact(event(1), event(2))
    audit = audit_folder(store.folder)
    assert_exactly_once(audit)
    with pytest.raises(AssertionError, match="accepted 3 events, found 2"):
        assert_exactly_once(audit, 3)
    with pytest.raises(AssertionError, match="w1: accepted 3 events, the last found is 2"):
        assert_exactly_once(audit, {"w1": 3})
    with pytest.raises(AssertionError, match="w2: accepted 1 events, the last found is 0"):
        assert_exactly_once(audit, {"w1": 2, "w2": 1})
    with pytest.raises(AssertionError, match="w1: accepted 0 events"):
        assert_exactly_once(audit, {})


def test_nothing_delivered(store: Store) -> None:
    """An empty folder is right only for no events."""
    audit = audit_folder(store.folder)
    assert_exactly_once(audit, 0)
    with pytest.raises(AssertionError, match="found 0"):
        assert_exactly_once(audit, 1)


def test_duplicate_in_two_objects(store: Store) -> None:
    """An event in two objects is a duplicate, also when a gap makes up for the count."""
    store.artifact(event(1), event(2))
    store.artifact(event(2), event(4))
    audit = audit_folder(store.folder)
    assert audit.writers["w1"].duplicates == {2: 2}
    with pytest.raises(AssertionError, match="w1: 2 is there 2 times"):
        assert_exactly_once(audit, 4)


def test_duplicate_in_one_object(store: Store) -> None:
    """An event twice in one object is a duplicate."""
    store.artifact(event(1), event(1), event(2))
    assert "w1: 1 is there 2 times" in store.problems()


def test_same_object_in_two_days(store: Store) -> None:
    """A replay under another key is noticed as duplicates and as a wrong day."""
    store.artifact(event(1))
    key = store.artifact(event(1), day="2026-01-02")
    problems = store.problems()
    assert "w1: 1 is there 2 times" in problems
    assert f"{key}: the first event is of 2026-01-01" in problems


def test_end_before_start(store: Store) -> None:
    """A span whose end was accepted before its start is out of order, also between objects."""
    store.artifact(event(1, "llm_end", "a"))
    store.artifact(event(2, "llm_start", "a"))
    assert "the span a ends at 1, before its start at 2" in store.problems()


def test_end_without_start(store: Store) -> None:
    """A span that ends and never started is noticed."""
    store.artifact(event(1, "tool_error", "a"))
    assert "the span a ends at 1 and never starts" in store.problems()


def test_two_ends(store: Store) -> None:
    """A span that ends twice, under different numbers, is noticed."""
    store.artifact(event(1, "llm_start", "a"), event(2, "llm_end", "a"), event(3, "llm_error", "a"))
    assert "the span a starts at [1] and ends at [2, 3]" in store.problems()


def test_key_that_says_other_numbers(store: Store) -> None:
    """A key whose first or last number is not that of its content is noticed."""
    key = store.artifact(event(1), event(2), last=3)
    assert f"{key}: holds the events 1 to 2" in store.problems()


def test_lines_out_of_order(store: Store) -> None:
    """Lines that do not ascend one by one are noticed, though all are there."""
    key = store.artifact(event(1), event(3), event(2), event(4))
    assert f"{key}: the events are not in one unbroken order" in store.problems()


def test_keys_that_do_not_sort(store: Store) -> None:
    """Keys without padding, which sort otherwise than their numbers, are noticed."""
    for first in (2, 10):
        store.put(f"dt=2026-01-01/w1-{first}-{first}.jsonl", packed([event(first)], ".jsonl"))
    assert "w1-2-2.jsonl: sorts after" in store.problems()


def test_numbers_of_different_width(store: Store) -> None:
    """A key whose two numbers are padded differently is noticed."""
    store.put("dt=2026-01-01/w1-01-2.jsonl", packed([event(1), event(2)], ".jsonl"))
    assert "sequence numbers of different width" in store.problems()


def test_event_of_another_writer(store: Store) -> None:
    """An event under another writer's key is noticed."""
    key = store.artifact(event(1), event(2, writer_id="w2"))
    assert f"{key}:2: an event of the writer w2" in store.problems()


def test_key_that_is_none(store: Store) -> None:
    """What lies among the artifacts and is none is noticed, unless it is hidden."""
    key = store.put("dt=2026-01-01/leftover.tmp", b"")
    store.put("dt=2026-01-01/.w1-1-1.jsonl.tmp", b"")
    assert store.problems() == f"{key}: not the key of an artifact"


@pytest.mark.parametrize("ending", [".jsonl.zst", ".jsonl.gz", ".jsonl"])
def test_damaged_object(ending: str, store: Store) -> None:
    """An object that was cut off anywhere is never taken for whole."""
    content = packed([event(1), event(2)], ending)
    for size in range(len(content)):
        key = store.put(f"dt=2026-01-01/w1-01-02{ending}", content[:size])
        assert key in store.problems(), size


def test_frame_without_its_end(store: Store) -> None:
    """A zstd frame that gives all its lines and then breaks off is not taken for whole."""
    stream = zstandard.ZstdCompressor().compressobj()
    content = stream.compress(packed([event(1)], ".jsonl"))
    content += stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    store.put("dt=2026-01-01/w1-1-1.jsonl.zst", content)
    assert "cannot be unpacked: the last frame is cut off" in store.problems()


def test_frames_one_after_another(store: Store) -> None:
    """An object of several zstd frames is read to its end."""
    content = packed([event(1)]) + packed([event(2)])
    store.put("dt=2026-01-01/w1-1-2.jsonl.zst", content)
    assert_exactly_once(audit_folder(store.folder), 2)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"\n", "Expecting value"),
        (b'{"v": 1', "Expecting"),
        (b"[1]", "not a line of schema version 1 or 2"),
        (b'{"v": 3}', "not a line of schema version 1 or 2"),
        (json.dumps(event(1, data=float("nan"))).encode(), "NaN is not JSON"),
        (b'{"v": 1, "event": "\xff"}', "utf-8"),
        (json.dumps(event(1) | {"seq": "1"}).encode(), "missing or of a wrong type: seq"),
        (json.dumps(event(1) | {"seq": True}).encode(), "missing or of a wrong type: seq"),
        (json.dumps(event(1) | {"span_id": 7}).encode(), "missing or of a wrong type: span_id"),
    ],
)
def test_line_against_the_schema(line: bytes, problem: str, store: Store) -> None:
    """A line that is not an event of the schema is noticed with its place."""
    good = packed([event(1)], ".jsonl")
    key = store.put("dt=2026-01-01/w1-1-2.jsonl", good + line + b"\n")
    problems = store.problems()
    assert f"{key}:2: " in problems
    assert problem in problems
    with pytest.raises(ValueError, match=":2: "):
        events_in_folder(store.folder)


def test_first_event_a_nanosecond_before_midnight(store: Store) -> None:
    """The day is that of the first event to the nanosecond, not that of a rounded time."""
    store.artifact(event(1) | {"time_unix_nano": NOON + 12 * 3_600_000_000_000 - 1})
    assert store.problems() == ""


def test_report_is_bounded(store: Store) -> None:
    """A thousand problems are counted, and the first of them shown."""
    store.artifact(*(event(2 * n) for n in range(1, 1002)))
    with pytest.raises(AssertionError, match=r"and 97\d more") as caught:
        assert_exactly_once(audit_folder(store.folder))
    assert len(str(caught.value).splitlines()) < 40


def value(seq: int, text: str) -> dict[str, Any]:
    line = event(seq, "value", v=2, name=text_name(text), data=text)
    del line["span_id"]
    return line


def test_values_are_no_events(store: Store) -> None:
    """Lines of values are in no count; events come with what they refer to."""
    referring = event(1, data=text_reference("x"), v=2)
    store.artifact(value(1, "x"), value(1, "y"), referring, event(2, v=2))
    assert store.problems() == ""
    assert_exactly_once(audit_folder(store.folder), 2)
    assert [one.get("data") for one in events_in_folder(store.folder)] == ["x", None]


def test_values_without_their_event(store: Store) -> None:
    """Values stand before an event and have its number: else it is noticed."""
    one = store.artifact(event(1), value(3, "x"), event(2), value(2, "y"))
    assert store.problems().splitlines() == [
        f"{one}:3: not the event of the values before it",
        f"{one}: values without an event at its end",
    ]
