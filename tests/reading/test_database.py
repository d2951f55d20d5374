"""Runs in a DuckDB database, piece by piece."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pyarrow
import pytest

from asynctrack._reading.query import add_run
from asynctrack._reading.run import open_run
from asynctrack._reading.tables import span_table
from asynctrack._reading.tables.database import Database, Feed
from tests.reading.making import OTHER, RunFolder, event


def chain(first: int, span: str, **fields: Any) -> list[dict[str, Any]]:
    """A span's start and end."""
    return [
        event(first, kind="chain_start", span_id=span, trace_id=span, **fields),
        event(first + 1, kind="chain_end", span_id=span, trace_id=span, outputs={"x": first}),
    ]


def test_two_runs_are_in_one_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every table tells the runs apart, whatever the size of the pieces; a rerun is not needed."""
    monkeypatch.setattr(span_table, "ROWS", 3)
    for name in ("one", "two"):
        folder = RunFolder(tmp_path, run=name)
        folder.artifact([*chain(1, "a"), *chain(3, "b"), event(5, kind="metric")])
        folder.artifact(chain(4, "c")[1:])  # seq 5 again: folded
        folder.manifest(parameters={"t": name})
    with Database(tmp_path / "runs.duckdb") as database:
        counts: list[int] = []
        for name in ("one", "two"):
            run = open_run(RunFolder(tmp_path, run=name).path)
            add_run(database, run, progress=counts.append)
        assert sum(counts) == 10
        execute = database.connection.execute
        for table, rows in (("events", 5), ("spans", 2), ("parameters", 1)):
            found = execute(
                f"SELECT experiment, run, count(*) FROM {table} GROUP BY ALL ORDER BY ALL"
            ).fetchall()
            assert found == [("jokes", "one", rows), ("jokes", "two", rows)], table
    again = duckdb.connect(str(tmp_path / "runs.duckdb"), read_only=True)
    assert again.execute("SELECT value FROM parameters ORDER BY run").fetchall() == [
        ('"one"',),
        ('"two"',),
    ]
    again.close()


def test_rows_hold_what_was_written(folder: RunFolder) -> None:
    """Columns have their types, nanoseconds are kept whole, payloads are JSON text."""
    folder.artifact(chain(1, "a", name="x'); DROP TABLE events; --", tags=["p", "q"], inputs=[1]))
    folder.manifest()
    with Database() as database:
        add_run(database, open_run(folder.path), tables=("events", "spans"))
        execute = database.connection.execute
        assert execute(
            "SELECT time_unix_nano, name, tags, inputs, outputs, typeof(time) FROM events"
            " ORDER BY seq LIMIT 1"
        ).fetchone() == (
            1_767_225_600_000_001_000,
            "x'); DROP TABLE events; --",
            ["p", "q"],
            "[1]",
            None,
            "TIMESTAMP WITH TIME ZONE",
        )
        assert execute("SELECT outputs->>'x' FROM spans").fetchall() == [("1",)]
        assert execute("SELECT count(*) FROM parameters").fetchall() == [(0,)]


def test_long_texts_end_a_piece(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A piece is bounded by its characters as well as by its rows."""
    monkeypatch.setattr(span_table, "BATCH_CHARACTERS", 1_000)
    folder.artifact([event(n, kind="text", data="x" * 600) for n in range(1, 8)])
    folder.manifest()
    batches = span_table.record_batches(
        pyarrow, (("data", "text", lambda one: one.data),), open_run(folder.path).events()
    )
    sizes = [batch.num_rows for batch in batches]
    assert sizes == [2, 2, 2, 1]


def test_a_feed_takes_a_run_that_is_being_written(folder: RunFolder) -> None:
    """Complete traces become rows as events come; open ones can be asked for, and come last."""
    folder.artifact([*chain(1, "a"), *chain(3, "b")[:1]])
    folder.artifact(
        [event(1, writer=OTHER, kind="chain_start", span_id="c", trace_id="c")], writer=OTHER
    )
    with Database() as database:
        feed = Feed(database, "jokes", "one", linger=0)
        feed.add(open_run(folder.path).events())

        def spans() -> list[Any]:
            found = database.connection.execute("SELECT span_id, outcome FROM spans ORDER BY ALL")
            return found.fetchall()  # type: ignore[no-any-return]

        assert spans() == [("a", "ok")]
        assert sorted(trace.trace_id for trace in feed.open_traces()) == ["b", "c"]
        feed.finish()
        assert spans() == [("a", "ok"), ("b", "unfinished"), ("c", "unfinished")]
        assert feed.open_traces() == []


def test_nothing_is_loaded_from_the_network(tmp_path: Path) -> None:
    """DuckDB is told not to fetch or load extensions by itself."""
    with Database() as database:
        settings = dict(
            database.connection.execute(
                "SELECT name, value FROM duckdb_settings() WHERE name LIKE 'auto%extensions'"
            ).fetchall()
        )
        assert settings == {
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
        }
        with pytest.raises(duckdb.Error, match=r"not found|does not exist|httpfs"):
            database.connection.execute("SELECT * FROM 'https://127.0.0.1:1/x.parquet'")
