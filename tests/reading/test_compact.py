"""Compacted Runs: few Parquet files, every event exactly once, nothing deleted too early."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest

import asynctrack
from asynctrack._backends.s3_read import Access
from asynctrack._errors import ChecksumError, PausingError, ReadError
from asynctrack._reading.compaction import parquet_file
from asynctrack._reading.compaction.compact import CompactReport, compact_run
from asynctrack._reading.run import RecordedRun, open_run
from asynctrack._reading.sources.compacted import read_compacted
from asynctrack._reading.sources.locate import locate_runs
from asynctrack._reading.sources.stores import LocalStore, Location
from tests.e2e.waiting import until_in_thread
from tests.reading.making import DAY, OTHER, START, WRITER, RunFolder, event
from tests.support.s3 import S3Server

LATER = START / 1e9 + 86_400


def odd_events(first: int, count: int, writer: str = WRITER) -> list[dict[str, Any]]:
    """Events of all shapes that a reader takes."""
    shapes: list[dict[str, Any]] = [
        {"span_id": "s", "name": "é\u202e\x00\x1b[31m", "tags": ["a", "b"], "inputs": {"a": [1]}},
        {"tags": [], "metadata": {}, "inputs": "", "outputs": 0, "error": False, "data": []},
        {"span_id": None, "tags": None, "metadata": None, "inputs": None, "attributes": None},
        {"unknown": {"deep": [1, 1.0, True, None]}, "another": "x", "data": 1e300},
        {"attributes": {"gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 2**70}},
        {"attributes": {"gen_ai.response.model": 5, "gen_ai.usage.output_tokens": 7}},
        {"inputs": "</script>\n" * 100, "outputs": {"k": -0.0, "x": 12345678901234567}},
    ]
    return [
        event(seq, writer=writer, kind="text", **shapes[seq % len(shapes)])
        for seq in range(first, first + count)
    ]


@pytest.fixture
def many(folder: RunFolder) -> RunFolder:
    """Two writers, two days, many small segments, one of them overlapping."""
    for first in range(1, 31, 3):
        folder.artifact(odd_events(first, 3))
    for first in range(31, 41, 5):
        folder.artifact(odd_events(first, 5), day="2026-01-02", suffix=".gz")
    folder.artifact(odd_events(8, 5))  # a replay that was cut in another way
    for first in range(1, 11, 2):
        folder.artifact(odd_events(first, 2, OTHER), writer=OTHER)
    folder.manifest(accepted=40, delivered=40, ranges=[[1, 40]])
    folder.manifest(OTHER)
    return folder


def location_of(folder: RunFolder) -> Location:
    """The Run's place."""
    (found,) = locate_runs(folder.path, None, Access())
    return found.locations[0]


def content(run: RecordedRun) -> list[str]:
    """Every event, in order, as JSON: 1, 1.0 and true differ."""
    return [json.dumps(one.raw, sort_keys=True) for one in run.events()]


def segments(folder: RunFolder) -> list[Path]:
    """The segments on disk."""
    return sorted(folder.path.glob("dt=*/*.jsonl*"))


def parquet(folder: RunFolder) -> list[Path]:
    """The Parquet files on disk."""
    return sorted(folder.root.glob("asynctrack/v1-compact/experiment=*/run=*/dt=*/*.parquet"))


def is_sound(folder: RunFolder) -> bool:
    """Whether nothing is missing or damaged; one segment overlaps from the start."""
    report = asynctrack.verify(folder.path)
    return not report.problems and not any(one.missing or one.damaged for one in report.writers)


def compact(folder: RunFolder, *, delete: bool = False, now: float = LATER) -> CompactReport:
    """Compact the Run."""
    return compact_run(location_of(folder), now=now, delete=delete)


@pytest.mark.parametrize("group_rows", [20_000, 4])
def test_events_are_the_same_before_and_after(
    many: RunFolder, monkeypatch: pytest.MonkeyPatch, group_rows: int
) -> None:
    """One file for each day; events come once, in the same order, with and without segments."""
    monkeypatch.setattr(parquet_file, "GROUP_ROWS", group_rows)
    before = content(open_run(many.path))
    assert len(before) == 50
    there = segments(many)
    report = compact(many)
    assert (report.segments, report.events, report.deleted) == (18, 50, 0)
    assert len(parquet(many)) == len(report.files) == 2
    assert segments(many) == there
    assert content(open_run(many.path)) == before
    report = compact(many, delete=True)
    assert (report.compacted, report.deleted, report.deletable, report.files) == (18, 18, 0, [])
    assert segments(many) == []
    run = open_run(many.path)
    assert content(run) == before
    assert run.problems == ()
    found = asynctrack.verify(many.path)
    assert found.ok, str(found)
    assert found.events == 50
    assert all(writer.verified == writer.objects for writer in found.writers)
    assert not any(writer.doubled for writer in found.writers)
    assert content(open_run(many.path, writer=OTHER)) == [one for one in before if OTHER in one]


def test_other_engines_read_each_event_once(many: RunFolder) -> None:
    """The Parquet files have Hive keys and columns; the documented glob still reads segments."""
    compact(many)
    root = many.root / "asynctrack"
    rows = duckdb.execute(
        f"SELECT experiment, run, dt::VARCHAR AS dt, count(*), count(DISTINCT (writer_id, seq)),"
        f" max(model), max(output_tokens) FROM read_parquet("
        f"'{root}/v1-compact/experiment=*/run=*/dt=*/*.parquet', hive_partitioning = true)"
        " GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    assert rows == [
        ("jokes", "one", DAY, 40, 40, "m", 7),
        ("jokes", "one", "2026-01-02", 10, 10, "m", 7),
    ]
    for path in parquet(many):
        found = duckdb.execute(f"SELECT writer_id, seq FROM '{path}'").fetchall()
        assert found == sorted(found)
    found = duckdb.execute(
        f"SELECT count(*) FROM read_json_auto('{root}/v1/experiment=jokes/**/dt=*/*.jsonl.zst',"
        " hive_partitioning = true, union_by_name = true)"
    ).fetchall()
    assert found == [(45,)]  # the overlap twice, the gzip day not


def test_it_can_be_run_again_and_again(many: RunFolder) -> None:
    """What is compacted is not compacted again; new segments get a file of their own."""
    before = content(open_run(many.path))
    compact(many)
    files = {path: path.read_bytes() for path in parquet(many)}
    again = compact(many)
    assert (again.files, again.segments, again.compacted) == ([], 0, 18)
    assert {path: path.read_bytes() for path in parquet(many)} == files
    many.artifact(odd_events(41, 3))
    many.manifest(accepted=43, ranges=[[1, 43]])
    more = compact(many, delete=True)
    assert (more.segments, more.compacted, more.deleted) == (1, 18, 19)
    assert content(open_run(many.path))[: len(before)] == before[: len(before)]
    assert len(content(open_run(many.path))) == 53


def test_a_run_that_is_being_written_keeps_its_segments(many: RunFolder) -> None:
    """An open writer's segments stay until it has been silent for an hour; others are compacted."""
    many.manifest(OTHER, state="open", updated_unix_nano=int((LATER - 3_000) * 1e9))
    report = compact(many, delete=True)
    assert (report.fresh, report.deleted) == (5, 13)
    assert all(OTHER in path.name for path in segments(many))
    assert len(content(open_run(many.path))) == 50
    report = compact(many, delete=True, now=LATER + 3_000)
    assert (report.fresh, report.deleted) == (0, 5)
    assert len(content(open_run(many.path))) == 50


def test_what_no_manifest_lists_or_is_damaged_stays(many: RunFolder) -> None:
    """Damaged and unlisted segments are left where they are and named."""
    unlisted = many.artifact(odd_events(41, 2), listed=False)
    torn = segments(many)[0]
    torn.write_bytes(torn.read_bytes()[:-1])
    report = compact(many, delete=True)
    assert {(kept.uri, kept.fault) for kept in report.kept} == {
        (str(unlisted), False),
        (str(torn), True),
    }
    assert set(segments(many)) == {unlisted, torn}
    with pytest.raises(ChecksumError):
        content(open_run(many.path))
    assert len(content(open_run(many.path, damaged="set_aside"))) == 49


def test_what_a_table_cannot_hold_stays(folder: RunFolder) -> None:
    """An event nested deeper than JSON is written again is left in its segment."""
    deep: Any = 1
    for _ in range(500):
        deep = [deep]
    kept = folder.artifact([event(1, inputs=deep), event(2)])
    folder.artifact([event(3)])
    folder.manifest()
    before = content(open_run(folder.path))
    report = compact(folder, delete=True)
    assert segments(folder) == ([kept] if report.kept else [])
    assert content(open_run(folder.path)) == before


class Killed(BaseException):
    """Nothing after it runs."""


@pytest.mark.parametrize("delete", [False, True])
def test_killed_before_any_write_or_deletion(
    many: RunFolder, monkeypatch: pytest.MonkeyPatch, delete: bool
) -> None:
    """Stopped before every single change, readers see each event once, and a rerun completes it."""
    before = content(open_run(many.path))
    original = shutil.copytree(many.root, many.root.with_name(f"{many.root.name}-copy"))
    real = {name: getattr(LocalStore, name) for name in ("write", "remove")}
    stopped = 0
    for allowed in range(60):
        shutil.rmtree(many.root)
        shutil.copytree(original, many.root)
        left = [allowed]

        def counted(name: str, left: list[int] = left) -> Any:
            def act(self: LocalStore, *arguments: Any) -> None:
                if not left[0]:
                    raise Killed
                left[0] -= 1
                real[name](self, *arguments)

            return act

        with monkeypatch.context() as patch:
            for name in real:
                patch.setattr(LocalStore, name, counted(name))
            try:
                compact(many, delete=delete)
                break
            except Killed:
                stopped += 1
        run = open_run(many.path)
        assert content(run) == before, allowed
        assert run.problems == ()
        assert is_sound(many)
        compact(many, delete=True)
        assert segments(many) == []
        assert content(open_run(many.path)) == before
        assert len(parquet(many)) == 2
    assert stopped == (22 if delete else 4)


def test_an_orphan_counts_for_nothing(many: RunFolder) -> None:
    """A Parquet file without a manifest is no event's copy; it goes with ``delete`` only."""
    before = content(open_run(many.path))
    compact(many)
    manifests = many.root / "asynctrack/v1-compact/experiment=jokes/run=one/_manifest"
    for path in manifests.iterdir():
        path.unlink()
    assert content(open_run(many.path)) == before
    many.artifact(odd_events(41, 1))  # so that the next files are others
    many.artifact(odd_events(42, 1), day="2026-01-02")
    many.manifest(accepted=42, ranges=[[1, 42]])
    assert len(compact(many).orphans) == 2
    assert len(parquet(many)) == 4
    assert len(compact(many, delete=True).orphans) == 2
    assert len(parquet(many)) == 2
    assert content(open_run(many.path))[:5] == before[:5]


def test_a_damaged_file_keeps_its_segments(many: RunFolder) -> None:
    """Before segments are deleted the file is read again; a difference keeps them, and is said."""
    before = content(open_run(many.path))
    compact(many)
    for path in parquet(many):
        raw = bytearray(path.read_bytes())
        raw[200:260] = bytes(60)
        path.write_bytes(raw)
    report = compact(many, delete=True)
    assert report.deleted == 0
    assert all("not deleted" in kept.reason for kept in report.kept)
    assert len(report.kept) == 2
    assert content(open_run(many.path)) == before


def test_damage_is_found_when_rows_stand_for_segments(many: RunFolder) -> None:
    """Rows are compared with their checksum each time they are read."""
    compact(many, delete=True)
    path = parquet(many)[0]
    manifest = next(
        one
        for one in path.parent.parent.glob("_manifest/*.json")
        if one.stem == path.name.removesuffix(".parquet")
    )
    stored = json.loads(manifest.read_text())
    stored["pieces"][0]["lines_sha256"] = "0" * 64
    manifest.write_text(json.dumps(stored))
    with pytest.raises(ChecksumError, match=path.name):
        content(open_run(many.path))
    path.unlink()
    run = open_run(many.path)
    assert len(content(run)) < 50
    assert any("with segments that may be deleted" in str(one) for one in run.problems)
    assert not asynctrack.verify(many.path).ok


@pytest.mark.parametrize(
    "broken",
    [
        "",
        "[]",
        '{"v":2}',
        '{"v":1}',
        '{"v":1,"name":"dt=x/../y","size":1,"sha256":"","footer":1,"groups":[],"pieces":[]}',
        '{"v":1,"name":"dt=x/y","size":9,"sha256":"","footer":5,"groups":[[7,6]],"pieces":[]}',
        '{"v":1,"name":"dt=x/y","size":9,"sha256":"","footer":5,"groups":[],"pieces":[{}]}',
    ],
)
def test_a_manifest_that_is_none_is_set_aside(many: RunFolder, broken: str) -> None:
    """Nothing in a manifest is trusted."""
    compact(many)
    before = content(open_run(many.path))
    path = next((many.root / "asynctrack/v1-compact").glob("*/*/_manifest/*.json"))
    path.write_text(broken)
    problems: list[Any] = []
    assert len(read_compacted(location_of(many), problems).files) == 1
    assert str(path) in str(problems[0])
    assert content(open_run(many.path)) == before


def test_a_store_that_gives_back_other_bytes_loses_nothing(
    many: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the store gives back other bytes than were written, nothing counts and nothing goes."""
    real = LocalStore.read_range

    def flipped(self: LocalStore, key: str, start: int, end: int) -> bytes:
        found = bytearray(real(self, key, start, end))
        found[len(found) // 2] ^= 1
        return bytes(found)

    monkeypatch.setattr(LocalStore, "read_range", flipped)
    there = segments(many)
    with pytest.raises(ReadError):
        compact(many, delete=True)
    assert segments(many) == there
    assert read_compacted(location_of(many), []).files == ()


def test_segments_deleted_while_they_are_read(many: RunFolder) -> None:
    """A reader that has listed the segments goes on with the rows when they are deleted."""
    before = content(open_run(many.path))
    run = open_run(many.path, concurrency=1)
    events = run.events()
    first = [next(events) for _ in range(2)]
    compact(many, delete=True)
    rest = list(events)
    assert [json.dumps(one.raw, sort_keys=True) for one in (*first, *rest)] == before
    assert run.problems == ()


def test_who_may_see_the_run_only_reads_it_all_the_same(
    many: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the folder of compacted events is denied, it is named only if something is missing."""
    before = content(open_run(many.path))
    real = LocalStore.objects

    def denied(self: LocalStore, prefix: str) -> Any:
        if "v1-compact" in prefix:
            raise PausingError("AccessDenied", "no (HTTP 403)")
        return real(self, prefix)

    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "objects", denied)
        run = open_run(many.path)
        assert (content(run), run.problems) == (before, ())
    compact(many, delete=True)
    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "objects", denied)
        run = open_run(many.path)
        assert content(run) == []
        assert any("cannot be looked at: AccessDenied" in str(one) for one in run.problems)


def test_in_s3(s3: S3Server, many: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same in a bucket: written, verified and read in ranges, deleted only when told."""
    before = content(open_run(many.path))
    shutil.copytree(many.root / "asynctrack", s3.folder / "p/asynctrack")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret_key)
    access = Access(s3.endpoint_url, region="us-east-1")
    (found,) = locate_runs(f"s3://{s3.bucket}/p", None, access)

    def read() -> list[str]:
        return content(open_run(f"s3://{s3.bucket}/p", endpoint_url=s3.endpoint_url, region="x"))

    there = sorted(s3.folder.glob("p/asynctrack/v1/*/*/dt=*/*"))
    report = compact_run(found.locations[0], now=LATER)
    assert (report.segments, len(report.files), report.kept) == (18, 2, [])
    assert sorted(s3.folder.glob("p/asynctrack/v1/*/*/dt=*/*")) == there
    assert read() == before
    report = compact_run(found.locations[0], now=LATER, delete=True)
    assert (report.deleted, report.kept) == (18, [])
    assert not any(path.is_file() for path in s3.folder.glob("p/asynctrack/v1/*/*/dt=*/*"))
    assert read() == before
    place = f"s3://{s3.bucket}/p"
    assert asynctrack.verify(place, endpoint_url=s3.endpoint_url, region="x").ok  # nothing doubled


def test_sigkill_at_any_time(many: RunFolder, tmp_path: Path) -> None:
    """The command itself killed by the system, again and again, loses and doubles nothing."""
    before = content(open_run(many.path))
    command = [
        *(sys.executable, "-m", "asynctrack.cli", "compact", str(many.path), "--delete", "--json"),
    ]
    environment = {**os.environ, "ASYNCTRACK_SPOOL_DIR": str(tmp_path / "spool")}
    for number in range(3):
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        count = [2, 1, 0][number]
        until_in_thread(
            lambda: (
                process.poll() is not None  # noqa: B023  # waited for at once
                or len(parquet(many)) > 1 - count  # noqa: B023
                or len(segments(many)) < 18
            )
        )
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert content(open_run(many.path)) == before
        assert is_sound(many)
    done = subprocess.run(command, env=environment, capture_output=True, check=True)
    assert json.loads(done.stdout)["runs"][0]["kept"] == []
    assert segments(many) == []
    assert content(open_run(many.path)) == before
