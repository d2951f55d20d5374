"""Artifacts to events, whatever the bytes are."""

from __future__ import annotations

import json
import tracemalloc
import zlib
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from asynctrack._format import ArtifactName
from asynctrack._reading.decoding.events import Damage, Event, json_text, read_events
from tests.reading.making import DAY, WRITER, event, lines, packed

SUFFIXES = (".zst", ".gz", "")


def read(content: bytes, suffix: str, last: int = 3) -> tuple[list[Event], list[Damage]]:
    damage: list[Damage] = []
    place = ArtifactName(WRITER, 1, last, DAY)
    events = list(read_events(content, f"x.jsonl{suffix}", place, damage.append))
    return events, damage


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_reads_each_packing(suffix: str) -> None:
    """Events come back as they were written, however they are packed."""
    written = [event(seq, data={"text": "é\u2028"}) for seq in (1, 2, 3)]
    events, damage = read(packed(lines(written), suffix), suffix)
    assert [one.raw for one in events] == written
    assert damage == []


@pytest.mark.parametrize("suffix", (".zst", ".gz"))
def test_reads_several_frames(suffix: str) -> None:
    """An artifact of several frames, one after the other, is read to its end."""
    written = [event(seq) for seq in (1, 2, 3)]
    content = b"".join(packed(lines([one]), suffix) for one in written)
    events, damage = read(content, suffix)
    assert [one.seq for one in events] == [1, 2, 3]
    assert damage == []


WRITTEN = [event(seq, data={"text": "abc" * seq}) for seq in range(1, 9)]


@pytest.mark.parametrize("suffix", SUFFIXES)
@given(data=st.data())
def test_bytes_that_are_cut_off_are_named(suffix: str, data: st.DataObject) -> None:
    """After the end is cut off anywhere, the events that come are as they were."""
    good = packed(lines(WRITTEN), suffix)
    content = good[: data.draw(st.integers(0, len(good) - 1))]
    events, damage = read(content, suffix, last=8)
    assert [one.raw for one in events] == WRITTEN[: len(events)]
    assert [(one.line, one.rest) for one in damage] == [(len(events) + 1, True)]


@pytest.mark.parametrize("suffix", (".zst", ".gz"))
def test_altered_bytes_are_named(suffix: str) -> None:
    """After any byte is altered in any way, events are as they were, or named as not checked."""
    good = packed(lines(WRITTEN), suffix)
    for at in range(len(good)):
        for flip in range(1, 256):
            content = good[:at] + bytes([good[at] ^ flip]) + good[at + 1 :]
            events, damage = read(content, suffix, last=8)
            seqs = [one.seq for one in events]
            assert seqs == sorted(set(seqs))
            if [one.raw for one in events] != WRITTEN[: len(events)]:
                assert damage[-1].rest
                assert "the lines before are not checked" in damage[-1].reason
            elif len(events) < len(WRITTEN):
                assert damage


@pytest.mark.parametrize("suffix", SUFFIXES)
@given(content=st.binary(max_size=300))
def test_any_bytes_are_read_without_a_crash(suffix: str, content: bytes) -> None:
    """Bytes that are no artifact give no event, and say so."""
    events, damage = read(content, suffix)
    assert events == []
    assert damage


LINES: dict[str, Any] = {
    "not JSON": b"{nonsense\n",
    "not a JSON object": b"[1]\n",
    "schema version": event(2, v=3),
    "another writer": event(2, writer="c" * 24),
    "not in the range": event(9),
    "time_unix_nano": event(2, time=2**63),
    "span_id": event(2, span_id=7),
    "metadata": event(2, metadata=[]),
    "tags": event(2, tags=[1]),
    "event is missing": {**event(2), "event": None},
    "after 1": event(1),
}


@pytest.mark.parametrize("reason", LINES)
def test_a_bad_line_is_set_aside_alone(reason: str) -> None:
    """A line that is no event is named with its number and the reason; its neighbours are read."""
    bad = LINES[reason]
    raw = lines([event(1)]) + (bad if isinstance(bad, bytes) else lines([bad])) + lines([event(3)])
    events, damage = read(raw, "")
    assert [one.seq for one in events] == [1, 3]
    assert [one.line for one in damage] == [2]
    assert reason in damage[0].reason


def test_a_cut_between_two_lines_is_noticed() -> None:
    """An unpacked artifact that ends early, at the end of a line, is named."""
    events, damage = read(lines([event(1), event(2)]), "")
    assert [one.seq for one in events] == [1, 2]
    assert damage == [Damage(3, "1 lines are missing at the end", rest=True)]


@pytest.mark.parametrize("suffix", (".zst", ".gz"))
def test_a_checksum_that_is_cut_off_is_noticed(suffix: str) -> None:
    """Without its last bytes, which hold the checksum, the events come and the damage is named."""
    events, damage = read(packed(lines([event(1), event(2), event(3)]), suffix)[:-1], suffix)
    assert [one.seq for one in events] == [1, 2, 3]
    (only,) = damage
    assert "the bytes are cut off; the lines before are not checked" in only.reason


@pytest.mark.parametrize("suffix", (".zst", ".gz"))
def test_a_bomb_is_unpacked_in_pieces(suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small artifact that unpacks to a huge line ends as damage within a bounded memory."""
    monkeypatch.setattr("asynctrack._reading.decoding.unpacking.MAX_LINE", 8 * 1024 * 1024)
    size = 400 * 1024 * 1024
    if suffix == ".zst":
        packer = zstandard.ZstdCompressor().compressobj()
    else:
        packer = zlib.compressobj(1, wbits=31)  # type: ignore[assignment]  # the same interface
    piece = b" " * (1024 * 1024)
    content = b"".join(packer.compress(piece) for _ in range(size // len(piece)))
    content += packer.flush()
    tracemalloc.start()
    events, damage = read(content, suffix)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert events == []
    assert "a line of more than" in damage[0].reason
    assert peak < 100 * 1024 * 1024


def test_deep_values_become_text() -> None:
    """What is nested deeper than the fast encoder writes is JSON text all the same."""
    value: Any = 1
    for _ in range(400):
        value = [value]
    assert json_text(value) == "[" * 400 + "1" + "]" * 400
    assert json_text({"é": None}) == '{"é":null}'
    assert json.loads(json_text([1.5, "a"]) or "") == [1.5, "a"]
