"""Events on this machine that are not delivered yet are read too, marked, and once."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

import asynctrack
from asynctrack._buffer import buffer
from asynctrack._errors import NotFoundError, OptionError, SeveralRunsError
from asynctrack._reading.decoding.segment_reader import SegmentReader
from asynctrack._reading.experiment import open_experiment
from asynctrack._reading.merging.fetch import Fetcher
from asynctrack._reading.merging.merge import merged_events
from asynctrack._reading.run import RecordedRun, open_run
from asynctrack._reading.sources.manifests import Problem
from asynctrack._reading.sources.spool import this_spool, waiting_artifacts, writers_of
from asynctrack._reading.tables.span_table import COLUMNS
from asynctrack._reading.verify import verify
from asynctrack._spool.layout import default_spool_dir, spool_places
from tests.e2e.waiting import until_in_thread
from tests.reading.making import OTHER, WRITER, RunFolder, event
from tests.reading.spooling import SpoolFolder, bucket_of, folder_of
from tests.reading.test_s3 import access, put
from tests.support.s3 import S3Server
from tests.support.spoiled import make_rubbish, spoil_lines


@pytest.fixture
def spool(folder: RunFolder) -> SpoolFolder:
    """A living writer in the spool that trackers use, whose events belong to the Run."""
    return SpoolFolder(default_spool_dir(), folder_of(folder.path))


def numbers(first: int, last: int, **fields: Any) -> list[dict[str, Any]]:
    return [event(seq, **fields) for seq in range(first, last + 1)]


def seen(run: RecordedRun) -> list[tuple[str, int, bool]]:
    return [(one.writer_id[0], one.seq, one.spooled) for one in run.events()]


def test_what_waits_is_read_after_what_is_delivered(folder: RunFolder, spool: SpoolFolder) -> None:
    """Delivered events first, then those in the spool, by number; these are marked."""
    folder.artifact(numbers(1, 3))
    spool.segment(numbers(4, 5), seal=True)
    spool.segment(numbers(6, 7))
    run = open_run(folder.path)
    expected = [("a", seq, seq > 3) for seq in range(1, 8)]
    assert seen(run) == expected
    spool.die()
    assert seen(run) == expected, "whether its writer lives makes no difference"
    assert run.problems == ()


def test_an_event_in_both_places_comes_once_as_delivered(
    folder: RunFolder, spool: SpoolFolder
) -> None:
    """Between the delivery and the deletion of a segment its events are there twice."""
    spool.segment(numbers(1, 4), seal=True)
    spool.segment(numbers(5, 8))
    folder.artifact(numbers(1, 4), listed=False)
    folder.artifact(numbers(6, 6), listed=False)
    expected = [("a", seq, seq in (5, 7, 8)) for seq in range(1, 9)]
    assert seen(open_run(folder.path)) == expected


def test_a_tracker_that_is_still_open_is_read_from_the_spool(tmp_path: Path) -> None:
    """What was logged a moment ago is read, marked; after the block it is delivered."""
    with asynctrack.tracker(tmp_path / "runs", run_name="one", max_delay=600) as handler:
        for number in range(5):
            handler.log_metric("n", number)
        run = open_run(tmp_path / "runs")
        assert [(one.data["value"], one.spooled) for one in run.events("metric")] == [
            (number, True) for number in range(5)
        ]
    assert [one.spooled for one in run.events("metric")] == [False] * 5


def test_every_place_is_looked_into(
    folder: RunFolder, spool: SpoolFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a tracker left in its second or third choice of a place is read like the rest, also of
    one that had to move on the way; a private folder that others may look into is not."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    state, home, temporary, *_ = (place.path for place in spool_places())
    assert state == spool.spool_dir
    folder.artifact(numbers(1, 1))
    spool.segment(numbers(2, 2), seal=True)
    at_home = SpoolFolder(home, folder_of(folder.path))
    at_home.segment(numbers(3, 4), seal=True)
    other = SpoolFolder(home, folder_of(folder.path), writer=OTHER)
    other.segment([event(1, writer=OTHER, kind="parameters", data={"a": 1})])
    temporary.parent.mkdir(mode=0o700)
    aside = SpoolFolder(temporary, folder_of(folder.path), writer=OTHER)
    aside.segment([event(2, writer=OTHER, kind="parameters", data={"b": 2})])
    aside.dead_letters([event(3, writer=OTHER)], "no")
    run = open_run(folder.path)
    mine = [("a", 1, False), *(("a", seq, True) for seq in (2, 3, 4))]
    assert sorted(seen(run)) == [*mine, ("b", 1, True), ("b", 2, True)]
    assert run.parameters == {"a": 1, "b": 2}
    assert [one.reason for one in run.dead_letter_events()] == ["no"]
    waiting = {one.writer_id: one.waiting for one in verify(folder.path).writers}
    assert [(one.first_seq, one.last_seq) for one in waiting[WRITER]] == [(2, 4)]
    temporary.parent.chmod(0o755)
    assert sorted(seen(open_run(folder.path))) == [*mine, ("b", 1, True)]


def test_it_can_be_left_out(
    folder: RunFolder, spool: SpoolFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """spool_dir=False and None read what is delivered; a folder is looked into in place of it."""
    folder.artifact(numbers(1, 1))
    spool.segment(numbers(2, 2))
    other = SpoolFolder(tmp_path / "elsewhere", folder_of(folder.path), writer=OTHER)
    other.segment(numbers(1, 1, writer=OTHER))
    for nothing in (False, None):
        assert seen(open_run(folder.path, spool_dir=nothing)) == [("a", 1, False)]
    expected = [("a", 1, False), ("b", 1, True)]
    assert seen(open_run(folder.path, spool_dir=tmp_path / "elsewhere")) == expected
    monkeypatch.setenv("ASYNCTRACK_SPOOL_DIR", str(tmp_path / "elsewhere"))
    assert seen(open_run(folder.path)) == expected
    with pytest.raises(OptionError, match="spool_dir=7"):
        open_run(folder.path, spool_dir=7)  # type: ignore[arg-type]


def test_events_of_other_runs_stay_out(folder: RunFolder, spool: SpoolFolder) -> None:
    """A spool holds many Runs; only those of this very folder are read."""
    folder.artifact(numbers(1, 1))
    other = RunFolder(folder.root, run="two")
    SpoolFolder(
        default_spool_dir(), folder_of(other.path), writer=OTHER, run="two"
    ).segment(numbers(1, 1, writer=OTHER))  # fmt: skip
    assert seen(open_run(folder.path)) == [("a", 1, False)]


def test_it_is_found_by_other_paths_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through a link, from below, or tracked through a link: it is the same folder."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "other").mkdir()
    for tracked in ("real", "link"):
        folder = RunFolder(tmp_path / tracked)
        spool = SpoolFolder(tmp_path / f"spool-{tracked}", folder_of(folder.path))
        spool.segment(numbers(1, 2))
        monkeypatch.chdir(tmp_path / "other")
        for place in (tmp_path / "real", tmp_path / "link", "../real", "../link", "..", "../real/"):
            run = open_run(place, spool_dir=spool.spool_dir)
            assert seen(run) == [("a", 1, True), ("a", 2, True)], (tracked, place)
        with pytest.raises(NotFoundError):
            open_run(".", spool_dir=spool.spool_dir)
        spool.die()


def test_a_run_of_which_nothing_is_delivered_is_found(
    folder: RunFolder, spool: SpoolFolder
) -> None:
    """By its folder, by any one above, by its name and by its experiment."""
    folder.path.mkdir(parents=True)
    spool.segment(numbers(1, 2))
    expected = [("a", 1, True), ("a", 2, True)]
    assert seen(open_run(folder.path)) == expected
    folder.path.rmdir()
    assert seen(open_run(folder.root)) == expected
    assert seen(open_run(("jokes", "one"), root=folder.root)) == expected
    (run,) = open_experiment("jokes", root=folder.root)
    assert seen(run) == expected
    with pytest.raises(NotFoundError):
        open_run(folder.root, spool_dir=False)
    RunFolder(folder.root, run="two").artifact(numbers(1, 1))
    with pytest.raises(SeveralRunsError):
        open_run(folder.root)


def test_a_link_to_the_folder_is_the_same_place(
    folder: RunFolder, spool: SpoolFolder, tmp_path: Path
) -> None:
    """A folder that is reached by another path is the one the writer knows."""
    folder.artifact(numbers(1, 1))
    spool.segment(numbers(2, 2))
    link = tmp_path / "link"
    link.symlink_to(folder.root)
    run = open_run(link / folder.path.relative_to(folder.root))
    assert seen(run) == [("a", 1, False), ("a", 2, True)]


def test_a_damaged_record_is_named_and_a_torn_end_is_not(
    folder: RunFolder, spool: SpoolFolder
) -> None:
    """Damage between sound records is a problem; an end that is not whole is not there yet."""
    folder.artifact(numbers(1, 1))
    segment = spool.segment(numbers(2, 6))
    spoil_lines(segment.path, 1, 4)  # events 3 and 6
    run = open_run(folder.path)
    assert [seq for _, seq, _ in seen(run)] == [1, 2, 4, 5]
    (problem,) = run.problems
    assert problem.object == str(segment.path)
    assert problem.reason == "1 of its events are damaged"


def test_a_segment_that_cannot_be_read_is_named(folder: RunFolder, spool: SpoolFolder) -> None:
    """A segment of rubbish is a problem, and the rest is read."""
    folder.artifact(numbers(1, 1))
    segment = spool.segment(numbers(2, 2))
    make_rubbish(segment.path)
    (spool.path / "00000008.sealed").write_bytes(b"rubbish\n")
    (spool.path / "00000009.sealed").write_bytes(b"rubbish\n")
    (spool.path / "00000009.idx").write_bytes(b"\1" * 100)
    run = open_run(folder.path)
    assert [seq for _, seq, _ in seen(run)] == [1]
    assert all(problem.object.startswith(str(spool.path)) for problem in run.problems)


def test_a_segment_that_is_delivered_while_it_is_read(
    folder: RunFolder, spool: SpoolFolder
) -> None:
    """Its events are read from the object that it has become, and are not called spooled."""
    first = spool.segment(numbers(1, 3), seal=True)
    spool.segment(numbers(4, 5))
    (location,) = open_run(folder.path).locations
    problems: list[Problem] = []
    (writer,) = writers_of(this_spool(), location)
    waiting = waiting_artifacts(writer, location, problems)
    assert [(one.place.first_seq, one.place.last_seq) for one in waiting] == [(1, 3), (4, 5)]
    folder.artifact(numbers(1, 3))
    first.remove()
    fetcher = Fetcher()
    events = merged_events(
        {WRITER: waiting}, {}, fetcher=fetcher, report=problems.append, set_aside=False
    )
    found = [(one.seq, one.spooled) for one in events]
    fetcher.close()
    assert found == [(1, False), (2, False), (3, False), (4, True), (5, True)]
    assert problems == []


def test_spans_and_tables_say_it(folder: RunFolder, spool: SpoolFolder) -> None:
    """A span with one event in the spool is marked, its trace too, and in the table's column."""
    start, end = "2" * 8, "3" * 8
    folder.artifact(
        [
            event(1, kind="chain_start", span_id=start, trace_id=start, name="a"),
            event(2, kind="chain_start", span_id=end, trace_id=end, name="b"),
            event(3, kind="chain_end", span_id=end, trace_id=end),
        ]
    )
    spool.segment([event(4, kind="chain_end", span_id=start, trace_id=start)])
    run = open_run(folder.path)
    traces = {trace.trace_id: trace for trace in run.traces()}
    assert {name: trace.spooled for name, trace in traces.items()} == {start: True, end: False}
    assert traces[start].complete
    assert "spooled" in [name for name, _, _ in COLUMNS]
    frame = run.to_pandas()
    assert dict(zip(frame["name"], frame["spooled"], strict=True)) == {"a": True, "b": False}
    assert run.summary().spooled == 1


def test_parameters_of_a_writer_without_a_manifest_come_from_the_spool(
    folder: RunFolder, spool: SpoolFolder
) -> None:
    """Until a manifest tells them; what looks like parameters in another event is none."""
    spool.segment(
        [
            event(1, kind="parameters", data={"t": 0.1, "kept": 1}),
            event(2, kind="chain_start", inputs={"event": "parameters", "data": {"t": 9}}),
            event(3, kind="parameters", data={"t": 0.2}),
            event(4, kind="parameters", data=[7]),
        ]
    )
    assert open_run(folder.path).parameters == {"t": 0.2, "kept": 1}
    folder.manifest(parameters={"t": 0.3})
    assert open_run(folder.path).parameters == {"t": 0.3}
    assert open_run(folder.path, spool_dir=False).parameters == {"t": 0.3}


PREFIX = "asynctrack/v1/experiment=jokes/run=one/"


def test_in_s3_the_endpoint_tells_one_bucket_from_another(
    s3: S3Server, folder: RunFolder, tmp_path: Path
) -> None:
    """Events for a bucket of that name at another server stay out, unless their writer is known
    there; what waits for this server is read before anything is delivered."""
    here = SpoolFolder(tmp_path / "s", bucket_of(s3.bucket, PREFIX, s3.endpoint_url))
    here.segment(numbers(1, 2))
    away = SpoolFolder(
        tmp_path / "s", bucket_of(s3.bucket, PREFIX, "https://example.com"), writer=OTHER
    )
    away.segment(numbers(2, 2, writer=OTHER))
    options = {**access(s3), "spool_dir": tmp_path / "s"}
    run = open_run(f"s3://{s3.bucket}/{PREFIX}", **options)
    assert seen(run) == [("a", 1, True), ("a", 2, True)]
    assert seen(open_run(f"s3://{s3.bucket}/", **options)) == seen(run)
    folder.artifact(numbers(1, 1, writer=OTHER), writer=OTHER)
    put(s3, folder.root / "asynctrack", "asynctrack/")
    assert seen(run) == [("a", 1, True), ("b", 1, False), ("a", 2, True), ("b", 2, True)]


@pytest.fixture
def meanwhile(spool: SpoolFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that goes on with its segment, and with the next one, after the first look at one of
    them."""
    first, then = (
        spool.segment([*numbers(1, 2), event(3, kind="parameters", data={"a": 1})]),
        spool.segment(),
    )
    leave, left = SegmentReader.__exit__, iter([True])

    def leave_and_go_on(self: SegmentReader, *error: Any) -> None:
        leave(self, *error)
        if next(left, False):
            spool.append(first, event(4, kind="parameters", data={"b": 1}))
            spool.append(then, event(5, kind="parameters", data={"b": 2}))

    monkeypatch.setattr(SegmentReader, "__exit__", leave_and_go_on)


@pytest.mark.usefixtures("meanwhile")
def test_what_is_read_while_it_is_written_has_no_gap(folder: RunFolder) -> None:
    """Either the end of a segment is read, or nothing of the next one."""
    assert [seq for _, seq, _ in seen(open_run(folder.path))] == [1, 2, 3, 4]


@pytest.mark.usefixtures("meanwhile")
def test_verify_meanwhile_misses_nothing(folder: RunFolder) -> None:
    """No event is missing because its writer has gone on."""
    report = asynctrack.verify(folder.path)
    assert report.ok, str(report)
    ((waiting,),) = (writer.waiting for writer in report.writers)
    assert (waiting.first_seq, waiting.last_seq) == (1, 4)


@pytest.mark.usefixtures("meanwhile")
def test_parameters_meanwhile_are_the_latest(folder: RunFolder) -> None:
    """Of those that are read, none is older than another one; what is logged later counts."""
    assert open_run(folder.path).parameters == {"a": 1, "b": 1}
    assert open_run(folder.path).parameters == {"a": 1, "b": 2}


def test_a_run_is_whole_at_any_moment_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked at again and again while a tracker delivers: events 1 to n, each once, never less
    than before, wherever they are at that moment; and nothing is called missing."""
    # What waits longer for its segment is uploaded from memory, where nobody else can see it.
    monkeypatch.setattr(buffer, "SEGMENT_WAIT", 60.0)
    ended = threading.Event()

    def write() -> None:
        while not ended.wait(0.0005):
            handler.log_metric("n", 1)

    writer = threading.Thread(target=write)
    options: dict[str, Any] = {"max_batch_events": 50, "max_batch_bytes": 20_000}
    with asynctrack.tracker(tmp_path / "runs", max_delay=0.02, **options) as handler:
        handler.log_metric("n", 0)
        writer.start()
        try:
            until_in_thread(lambda: handler.statistics().artifacts > 2)
            looks: list[tuple[int, int]] = []
            while len(looks) < 25 or handler.statistics().artifacts < 12:
                run = open_run(tmp_path / "runs")
                found = seen(run)
                assert [seq for _, seq, _ in found] == list(range(1, len(found) + 1))
                assert run.problems == ()
                looks.append((len(found), sum(spooled for _, _, spooled in found)))
        finally:
            ended.set()
            writer.join()
    assert looks == sorted(looks, key=lambda look: look[0])
    assert any(spooled for _, spooled in looks)
    accepted = handler.statistics().accepted
    assert seen(open_run(tmp_path / "runs")) == [
        (seen_writer, seq, False)
        for seen_writer, seq in zip(found[0][0] * accepted, range(1, accepted + 1), strict=True)
    ]


def test_numbers_that_json_lacks_are_text_as_in_the_run(tmp_path: Path) -> None:
    """NaN, infinity and long integers: the same from the spool and from the manifest."""
    logged = {"nan": float("nan"), "inf": float("-inf"), "long": 10**40, "list": [float("nan")]}
    expected = {"nan": "nan", "inf": "-inf", "long": str(10**40)}
    with asynctrack.tracker(tmp_path / "runs", run_name="one", max_delay=600) as handler:
        handler.log_parameters(logged)
        waiting = open_run(tmp_path / "runs").parameters
    run = open_run(tmp_path / "runs")
    assert run.manifest.writers[0].parameters["nan"] != "nan", "there it is as it was captured"
    for parameters in (waiting, run.parameters):
        assert {name: parameters[name] for name in expected} == expected
        assert isinstance(parameters["list"], list), "and what is inside of a value stays"
