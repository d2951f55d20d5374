"""Compacted and exported values: kept as rows of their own, or resolved; the trees stay equal."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet
import pytest

import asynctrack
from asynctrack import cli
from asynctrack._errors import OptionError
from asynctrack._reading.compaction import parquet_file
from asynctrack._reading.compaction.compact import CompactReport, compact_run
from asynctrack._reading.export.files import export_run
from asynctrack._reading.run import RecordedRun, open_run
from tests.reading.making import OTHER, RunFolder, event
from tests.reading.test_compact import LATER, location_of, segments
from tests.reading.test_compact import compact as compacted
from tests.reading.valued import stored, told

TEXT = "é\u2028 large \x00" * 1000
MESSAGES = [{"type": "human", "content": f"{n} {'x' * 800}"} for n in range(40)]


def states(first: int, count: int, writer: str | None = None) -> list[dict[str, Any]]:
    """Spans with a document and messages that grow."""
    given = {} if writer is None else {"writer": writer}
    return [
        event(
            seq,
            kind="chain_end" if seq % 2 == 0 else "chain_start",
            span_id=f"s{(seq + 1) // 2}",
            trace_id="t",
            name="step",
            inputs={"document": TEXT, "messages": MESSAGES[: 8 + seq % 30]},
            duration=0.5,
            **given,
        )
        for seq in range(first, first + count)
    ]


@pytest.fixture
def mixed(folder: RunFolder) -> RunFolder:
    """A Run partly of version 1, partly of 2, with an overlap, two days and two writers."""
    folder.artifact(states(1, 4))
    folder.artifact(stored(states(5, 6)))
    folder.artifact(stored(states(9, 6)))  # a replay that was cut in another way
    folder.artifact(stored(states(15, 4)), day="2026-01-02", suffix=".gz")
    folder.artifact(stored(states(1, 4, OTHER)), writer=OTHER)
    folder.manifest()
    folder.manifest(OTHER)
    return folder


def whole(run: RecordedRun) -> list[str]:
    """Every event, in order, as JSON."""
    return [json.dumps(one.raw, sort_keys=True) for one in run.events()]


def compact(folder: RunFolder, values: str, *, delete: bool = False) -> CompactReport:
    """Compact the Run."""
    return compact_run(location_of(folder), now=LATER, delete=delete, values=values)


def rows(folder: RunFolder, sql: str) -> list[tuple[Any, ...]]:
    """What DuckDB finds in the Parquet files."""
    place = f"{folder.root}/asynctrack/v1-compact/experiment=*/run=*/dt=*/*.parquet"
    return duckdb.execute(sql.format(place=f"read_parquet('{place}')")).fetchall()


@pytest.mark.parametrize("values", ["keep", "resolve"])
@pytest.mark.parametrize("group_rows", [20_000, 4])
def test_events_and_trees_are_the_same(
    mixed: RunFolder, values: str, group_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With values kept or resolved, partly compacted, compacted and deleted: events, trees and
    what ``verify`` counts are the same."""
    monkeypatch.setattr(parquet_file, "GROUP_ROWS", group_rows)
    before, trees = whole(open_run(mixed.path)), told(open_run(mixed.path))
    assert len(before) == 22
    report = compact(mixed, values)
    assert (report.segments, report.events, report.kept) == (5, 22, [])
    assert whole(open_run(mixed.path)) == before
    gone = segments(mixed)
    for path in gone[1:3]:  # as where somebody stopped it while it deleted
        path.unlink()
    assert whole(open_run(mixed.path)) == before
    report = compact(mixed, values, delete=True)
    assert (report.compacted, report.deletable, report.files) == (3, 0, [])
    run = open_run(mixed.path)
    assert whole(run) == before
    assert told(run) == trees
    assert run.problems == ()
    found = asynctrack.verify(mixed.path)
    assert found.ok, str(found)
    assert found.events == 22
    assert all(writer.verified == writer.objects for writer in found.writers)
    # Rows of events are events, each once.
    assert rows(
        mixed,
        "SELECT count(*), count(DISTINCT (writer_id, seq)) FROM {place} WHERE event <> 'value'",
    ) == [(22, 22)]
    kept = rows(mixed, "SELECT count(*) FROM {place} WHERE event = 'value'")[0][0]
    assert (kept > 0) == (values == "keep")
    for path in mixed.root.glob("asynctrack/v1-compact/*/*/*/*.parquet"):
        found_rows = duckdb.execute(f"SELECT writer_id, seq FROM '{path}'").fetchall()
        assert found_rows == sorted(found_rows)


def test_a_value_is_a_row(folder: RunFolder) -> None:
    """A kept value has a row: ``value``, its id, what it holds; and the columns of files with and
    without values are the same."""
    folder.artifact(stored([event(1, inputs=TEXT)]))
    folder.artifact([event(2, inputs=TEXT)], day="2026-01-02")
    folder.manifest()
    compact(folder, "keep")
    found = rows(folder, "SELECT seq, event, name, data, inputs FROM {place} ORDER BY seq, data")
    value, reference, old = found
    assert value[:2] == (1, "value")
    assert json.loads(value[3]) == TEXT
    assert json.loads(reference[4])["$ref"] == value[2]
    assert json.loads(old[4]) == TEXT
    one, other = (
        pyarrow.parquet.read_schema(path)
        for path in folder.root.glob("asynctrack/v1-compact/*/*/*/*.parquet")
    )
    assert one == other


def test_the_same_segments_make_two_kinds_of_files(mixed: RunFolder) -> None:
    """Kept and resolved ones have names of their own, and what is compacted is left as it is."""
    kept = compact(mixed, "keep")
    assert compact(mixed, "resolve").files == []
    for path in mixed.root.glob("asynctrack/v1-compact/*/*/_manifest/*"):
        path.unlink()
    resolved = compact(mixed, "resolve")
    assert set(kept.files).isdisjoint(resolved.files)


def test_what_would_be_too_much_keeps_its_segment(
    mixed: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A segment whose events would take too much room resolved stays, and is named."""
    monkeypatch.setattr(parquet_file, "SEGMENT_BYTES", 100_000)
    before = whole(open_run(mixed.path))
    report = compact(mixed, "resolve", delete=True)
    assert report.kept
    assert all("keep its values" in one.reason for one in report.kept)
    assert whole(open_run(mixed.path)) == before


def test_files_of_before_are_read(mixed: RunFolder) -> None:
    """The rows of version 1 are what they were: a file that an earlier asynctrack wrote is read."""
    lines = b"".join(
        parquet_file.line_of(dict(zip(parquet_file.NAMES, parquet_file.row_of(one), strict=True)))
        for one in states(1, 2)
    )
    assert lines.startswith(b'{"v":1,')
    assert [json.loads(line) for line in lines.splitlines()] == states(1, 2)
    row = parquet_file.row_of(states(1, 1)[0])
    assert json.loads(row[-1]) == {"duration": 0.5}


def exported(run: RecordedRun, format: str, **options: Any) -> bytes:  # noqa: A002
    """What an export writes."""
    out = io.BytesIO()
    export_run(run, format, out, **options)
    return out.getvalue()


def test_exports_resolve_or_keep(mixed: RunFolder) -> None:
    """An export has whole events; with ``values="keep"`` it has them as stored, with the values
    that they refer to before them."""
    run = open_run(mixed.path)
    events = [json.loads(line) for line in exported(run, "jsonl").splitlines()]
    assert [json.dumps(one, sort_keys=True) for one in events] == whole(run)
    kept = [json.loads(line) for line in exported(run, "jsonl", values="keep").splitlines()]
    assert [one["seq"] for one in kept if one["event"] != "value"] == [one["seq"] for one in events]
    known: set[tuple[str, str]] = set()
    for one in kept:
        if one["event"] == "value":
            known.add((one["writer_id"], one["name"]))
        elif one["v"] == 2:
            for reference in one["inputs"].values():
                assert (one["writer_id"], reference["$ref"]) in known
    assert len(known) > 3
    for format in ("parquet", "csv"):  # noqa: A001
        both = [
            exported(run, format, table="events", values=values) for values in ("keep", "resolve")
        ]
        assert len(both[0]) * 2 < len(both[1]) or format == "parquet"
    table = pyarrow.parquet.read_table(
        io.BytesIO(exported(run, "parquet", table="events", values="keep"))
    )
    assert table.num_rows == len(kept)
    assert sum(name == "value" for name in table["event"].to_pylist()) == len(kept) - 22
    spans = [json.loads(line) for line in exported(run, "jsonl", table="spans").splitlines()]
    assert all(span["inputs"]["document"] == TEXT for span in spans)


@pytest.mark.parametrize("options", [{"values": "keep"}, {"values": "no", "table": "events"}])
def test_values_that_cannot_be(mixed: RunFolder, options: dict[str, str]) -> None:
    """Spans have no rows of values, and there is no third way."""
    with pytest.raises(OptionError, match="values="):
        exported(open_run(mixed.path), "parquet", **options)
    with pytest.raises(OptionError, match="values="):
        compact(mixed, "no")


def test_the_commands_take_the_same_option(mixed: RunFolder, capsys: Any, tmp_path: Path) -> None:
    """``--values`` of both commands; what they wrote is said."""
    out = tmp_path / "out.jsonl"
    run = str(mixed.path)
    assert cli.main(["export", run, "--format", "jsonl", "--output", str(out)]) == 0
    assert len(out.read_bytes().splitlines()) == 22
    arguments = ["export", run, "--format", "jsonl", "--output", str(out), "--force"]
    assert cli.main([*arguments, "--values", "keep"]) == 0
    assert len(out.read_bytes().splitlines()) > 22
    assert cli.main([*arguments[:3], "parquet", *arguments[4:], "--values", "keep"]) != 0
    assert "keep" in capsys.readouterr().err
    assert cli.main(["compact", run, "--values", "resolve"]) == 0
    assert rows(mixed, "SELECT count(*) FROM {place} WHERE event = 'value'") == [(0,)]
    assert whole(open_run(mixed.path)) == whole(open_run(mixed.path))
    assert compacted(mixed, delete=True).deleted == 5
