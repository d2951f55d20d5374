"""Any stream of events, cut at any moments: nothing is lost, doubled or reordered."""

from __future__ import annotations

import json
import string

import zstandard
from hypothesis import given
from hypothesis import strategies as st

from asynctrack._buffer.buffer import Buffer
from asynctrack._buffer.store import Store
from asynctrack._common.artifact import Batch
from asynctrack._delivery.encode import encode_batch
from asynctrack._format import SUFFIXES, artifact_name, parse_artifact_name
from tests.property.strategies import quick

WRITER = "0123456789abcdef" * 2


@quick
@given(
    # Sizes of events; None cuts what there is, as a flush or the delay does.
    st.lists(st.none() | st.integers(0, 400), max_size=60),
    st.integers(1, 10),
    st.integers(150, 1_000),
)
def test_any_stream(steps: list[int | None], max_events: int, max_bytes: int) -> None:
    """Artifacts keep to the limits, and hold every event once, in order, under its own key."""
    buffer = Buffer(
        writer_id=WRITER,
        store=Store(WRITER, max_bytes, max_events, spooled=False),
        max_bytes=10**9,
        max_events=10**9,
        wake=lambda: None,
    )
    sent: list[str] = []
    artifacts = []

    def cut() -> None:
        piece = buffer.take()
        if piece is None:
            return
        batch = Batch(WRITER, piece.first_seq, piece.first_seq + piece.events - 1, piece.raw())
        assert piece.events <= max_events
        assert len(batch.raw) <= max_bytes or piece.events == 1
        artifacts.append(encode_batch(batch, "zstd"))
        assert artifacts[-1] == encode_batch(batch, "zstd")
        buffer.settle(piece)

    for step in steps:
        if step is None:
            cut()
            continue
        text = f"{len(sent)}:" + "x" * step
        sent.append(text)
        assert buffer.put_nowait(b'{"time_unix_nano":1,"x":%b}' % json.dumps(text).encode())
    while buffer.cut_state()[0]:
        cut()

    seen: list[str] = []
    seqs: list[int] = []
    for artifact in artifacts:
        events = [
            json.loads(line)
            for line in zstandard.ZstdDecompressor().decompress(artifact.content).splitlines()
        ]
        name = parse_artifact_name(artifact.name)
        assert name is not None
        assert (name.first_seq, name.last_seq) == (events[0]["seq"], events[-1]["seq"])
        assert all((event["v"], event["writer_id"]) == (2, WRITER) for event in events)
        seqs += [event["seq"] for event in events]
        seen += [event["x"] for event in events]
    assert seen == sent
    assert seqs == list(range(1, len(sent) + 1))


@quick
@given(
    st.text("0123456789abcdef", min_size=1, max_size=40),
    st.integers(1, 10**15),
    st.integers(0, 10**6),
    st.integers(0, 4 * 10**18),
    st.sampled_from(sorted(SUFFIXES)),
)
def test_keys_come_back(
    writer: str, first: int, more: int, time_unix_nano: int, compression: str
) -> None:
    """Whatever a key was made of is read off it again."""
    name = artifact_name(writer, first, first + more, time_unix_nano, compression)
    parsed = parse_artifact_name(name)
    assert parsed is not None
    assert (parsed.writer_id, parsed.first_seq, parsed.last_seq) == (writer, first, first + more)
    assert set(parsed.day) <= set(string.digits + "-")
