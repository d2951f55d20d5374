"""``run.traces(...)``: which traces come, and which days are not read for it."""

from __future__ import annotations

import asyncio
import tempfile
import time
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynctrack import OptionError, open_run
from asynctrack._format import artifact_name, parse_artifact_name
from asynctrack._reading.trees.trace import Trace
from tests.property.strategies import quick
from tests.reading.making import OTHER, START, WRITER, RunFolder, event

HOUR = 3600 * 10**9
DAY = 24 * HOUR


def at(hours: float) -> str:
    """So many hours after the Run began, as text."""
    return f"{datetime(2026, 1, 1) + timedelta(hours=hours):%Y-%m-%dT%H:%M:%S}"


def begin(seq: int, span_id: str, hours: float, parent: str | None = None, **more: Any) -> Any:
    """The start of a chain's span, so many hours after the Run began."""
    more.setdefault("trace_id", span_id)
    return event(
        seq, kind="chain_start", span_id=span_id, parent_span_id=parent,
        time=START + round(hours * HOUR), **more,
    )  # fmt: skip


def end(seq: int, span_id: str, hours: float, **more: Any) -> Any:
    """Its end; with ``error`` it fails."""
    kind = "chain_error" if "error" in more else "chain_end"
    more.setdefault("trace_id", span_id)
    return event(seq, kind=kind, span_id=span_id, time=START + round(hours * HOUR), **more)


def store(folder: RunFolder, *artifacts: list[Any], writer: str = WRITER) -> list[Path]:
    """Store artifacts as a tracker does, each by the day of its first event."""
    return [
        folder.artifact(events, writer=writer, day=_day(events[0]["time_unix_nano"]))
        for events in artifacts
    ]


def _day(unix_nano: int) -> str:
    place = parse_artifact_name(artifact_name(WRITER, 1, 1, unix_nano, "zstd"))
    assert place is not None
    return place.day


def ids(folder: RunFolder, **asked: Any) -> list[str]:
    """The ids of the traces that are asked for."""
    return [trace.trace_id for trace in open_run(folder.path).traces(**asked)]


def test_each_filter_takes_what_it_says(folder: RunFolder) -> None:
    """Failure, name, session and user each narrow the traces, and together they all have to fit."""
    failure = {"error": {"type": "ValueError", "message": "no"}}
    store(
        folder,
        [
            begin(1, "a", 0, name="bot", metadata={"session_id": "s1", "user_id": 7}),
            end(2, "a", 0, **failure),
            begin(3, "b", 1, name="bot", metadata={"session_id": "s2", "user_id": "7"}),
            end(4, "b", 1),
            begin(5, "c", 2, name="judge", metadata={"thread_id": "s1"}),
            end(6, "c", 2, **failure),
        ],
    )
    assert ids(folder) == ["a", "b", "c"]
    assert ids(folder, failed=True) == ["a", "c"]
    assert ids(folder, failed=False) == ["b"]
    assert ids(folder, name="bot") == ["a", "b"]
    assert ids(folder, session="s1") == ["a", "c"]
    assert ids(folder, user=7) == ids(folder, user="7") == ["a", "b"]
    assert ids(folder, failed=True, name="bot", session="s1", user=7) == ["a"]
    assert ids(folder, name="bo") == []


def test_times_go_by_the_beginning(folder: RunFolder) -> None:
    """``since`` is included, ``until`` is not, in every form that a moment has."""
    store(
        folder,
        [
            one
            for n in range(4)
            for one in (begin(2 * n + 1, f"t{n}", n), end(2 * n + 2, f"t{n}", n))
        ],
    )
    assert ids(folder, since=at(1)) == ["t1", "t2", "t3"]
    assert ids(folder, until=at(1)) == ["t0"]
    assert ids(folder, since=at(1), until=at(3)) == ["t1", "t2"]
    zone = timezone(timedelta(hours=1))
    assert ids(folder, since=datetime(2026, 1, 1, 2, tzinfo=zone), until=at(1.5)) == ["t1"]
    assert ids(folder, until=date(2026, 1, 1)) == []
    age = time.time_ns() - START - 3 * HOUR  # from now back to shortly before the last one
    assert ids(folder, since=f"{age // 10**9 + 60}s") == ["t3"]


def test_async_code_asks_the_same(folder: RunFolder) -> None:
    """``atraces`` takes the same filters."""
    store(folder, [begin(1, "a", 0), end(2, "a", 0), begin(3, "b", 5), end(4, "b", 5)])

    async def asked() -> list[Trace]:
        run = await asyncio.to_thread(open_run, folder.path)
        return [trace async for trace in run.atraces(since=at(1))]

    assert [trace.trace_id for trace in asyncio.run(asked())] == ["b"]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("since", "soon"), ("until", 5), ("failed", "yes"), ("name", 1), ("session", 1.5),
        ("user", True),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_at_once(
    folder: RunFolder, option: str, value: object
) -> None:
    """A value that is not allowed is an error of the call, before anything is read."""
    run = open_run(store(folder, [begin(1, "a", 0)])[0])
    with pytest.raises(OptionError) as raised:
        run.traces(**{option: value})  # type: ignore[arg-type]
    assert raised.value.option == option


def test_days_before_are_not_read(folder: RunFolder) -> None:
    """Artifacts that are over a day before ``since`` are left alone, even where they are damaged;
    those of the day before are read."""
    paths = store(
        folder,
        *([begin(2 * n + 1, f"t{n}", 24 * n), end(2 * n + 2, f"t{n}", 24 * n)] for n in range(9)),
    )
    folder.manifest()
    for path in paths[:4]:
        path.write_bytes(b"damaged")
    assert ids(folder, since="2026-01-07") == ["t6", "t7", "t8"]
    paths[4].write_bytes(b"damaged")
    with pytest.raises(Exception, match="is damaged"):
        ids(folder, since="2026-01-07")


def after_a_while(folder: RunFolder) -> list[Path]:
    """Traces on five days and much later, and on the sixth day so many events that nobody
    waits for those before; return the artifacts."""
    first = [[begin(2 * n + 1, f"t{n}", 24 * n), end(2 * n + 2, f"t{n}", 24 * n)] for n in range(5)]
    fill = [event(n, time=START + 5 * DAY + n, span_id="fill") for n in range(11, 3_100)]
    last = [[begin(n, f"t{n}", n), end(n + 1, f"t{n}", n)] for n in (4_006, 5_007, 6_008)]
    paths = store(folder, *first, fill, *last)
    folder.manifest()
    return paths


def test_days_after_are_not_read(folder: RunFolder) -> None:
    """Reading ends a day after ``until``, and damage behind that stays unseen."""
    after_a_while(folder)[-1].write_bytes(b"damaged")
    assert ids(folder, until="2026-01-03") == ["t0", "t1"]


def test_what_began_before_does_not_count(folder: RunFolder) -> None:
    """A trace that began before ``since`` is not there by what is left of it: neither by its
    end, nor by a step that began later."""
    store(
        folder,
        [begin(1, "old", 0)],
        [
            begin(2, "step", 24 * 5, parent="old", trace_id="old"),
            end(3, "step", 24 * 5, trace_id="old"),
        ],
        [end(4, "old", 24 * 6), begin(5, "new", 24 * 6), end(6, "new", 24 * 6)],
    )
    assert ids(folder, since="2026-01-04") == ["new"]
    assert ids(folder) == ["old", "new"]


def test_a_trace_that_goes_on_is_whole(folder: RunFolder) -> None:
    """A trace that began before ``until`` is read to its end, many days later."""
    fill = [event(seq, time=START + 5 * DAY + seq, span_id=f"x{seq}") for seq in range(2, 1200)]
    store(folder, [begin(1, "long", 0)], fill, [end(1200, "long", 24 * 9)])
    (trace,) = open_run(folder.path).traces(until="2026-01-02")
    assert (trace.trace_id, trace.duration) == ("long", 9 * 86_400)


def test_a_writer_that_died_is_not_waited_for(folder: RunFolder) -> None:
    """A trace without an end does not make others be read to theirs: its writer has no more."""
    store(folder, [begin(1, "dead", 0, writer=OTHER)], writer=OTHER)
    after_a_while(folder)[-1].write_bytes(b"damaged")
    assert sorted(ids(folder, until="2026-01-02")) == ["dead", "t0"]


def test_an_artifact_may_hold_later_days(folder: RunFolder) -> None:
    """A batch that was cut late has the day of its first event: what began days later is found."""
    store(folder, [begin(1, "a", 0), end(2, "a", 0), begin(3, "b", 200), end(4, "b", 200)])
    assert ids(folder, since=at(199)) == ["b"]


def test_a_clock_that_was_set_back_hides_nothing_near(folder: RunFolder) -> None:
    """Where days do not follow each other, all is read from there on."""
    store(
        folder,
        [begin(1, "future", 24 * 30), end(2, "future", 24 * 30)],
        [begin(3, "a", 24), end(4, "a", 24)],
        [begin(5, "b", 48), end(6, "b", 48)],
    )
    assert ids(folder, since="2026-01-25") == ["future"]
    assert ids(folder, since="2026-01-03") == ["future", "b"]
    assert ids(folder, until="2026-01-03") == ["a"]


traces = st.lists(st.tuples(st.integers(0, 240), st.integers(0, 100)), min_size=1, max_size=12)


@quick
@given(traces, st.sets(st.integers(1, 40)), st.integers(0, 240), st.integers(0, 240), st.data())
def test_filters_by_time_only_leave_out(
    begins: list[tuple[int, int]], cuts: set[int], since: int, until: int, data: st.DataObject
) -> None:
    """However traces lie in artifacts, asking by time gives what reading all and asking then does,
    span for span; also where the clock of the writer is hours off now and then."""
    moments = sorted(
        [(hour, 0, f"t{n}") for n, (hour, _) in enumerate(begins)]
        + [(hour + took, 1, f"t{n}") for n, (hour, took) in enumerate(begins)]
    )
    events = []
    for seq, (hour, kind, span_id) in enumerate(moments, 1):
        off = data.draw(st.integers(-11, 11))
        events.append((end if kind else begin)(seq, span_id, max(0, hour + off)))
    edges = [0, *sorted(cut for cut in cuts if cut < len(events)), len(events)]
    with tempfile.TemporaryDirectory() as root:
        folder = RunFolder(Path(root))
        store(folder, *(events[a:b] for a, b in zip(edges, edges[1:], strict=False)))
        folder.manifest()
        run = open_run(folder.path, spool_dir=False)
        low, high = START + since * HOUR, START + until * HOUR
        all_of_them = {trace.trace_id: trace for trace in run.traces()}
        expected = {
            name
            for name, trace in all_of_them.items()
            if trace.root.started and low <= (trace.root.start_unix_nano or 0) < high
        }
        found = {trace.trace_id: trace for trace in run.traces(since=at(since), until=at(until))}
    assert found.keys() == expected
    for name, trace in found.items():
        assert trace.outcome == all_of_them[name].outcome
        assert trace.duration == all_of_them[name].duration
