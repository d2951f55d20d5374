"""Athena's statements. AWS alone has an Athena: sqlglot reads them, by Athena's grammar for tables
and by Trino's for questions, and DuckDB answers what it makes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest
import sqlglot
from sqlglot import exp

import asynctrack
from asynctrack._backends.s3_read import Access
from asynctrack._reading.compaction.compact import compact_run
from asynctrack._reading.decoding.parquet_rows import NAMES
from asynctrack._reading.sources.locate import locate_runs
from benchmarks.generate import generate
from tests.guide.pages import block
from tests.reading.valued import rewrite, track_states
from tests.support.engines import ENGINES, joined, make_calls, plain_answer


def parsed(text: str, dialect: str) -> list[Any]:
    """The statements of a text; what sqlglot does not understand is an error."""
    statements = sqlglot.parse(text, read=dialect, error_level=sqlglot.ErrorLevel.RAISE)
    assert not any(isinstance(one, exp.Command) for one in statements)
    return statements


_TABLES, _QUESTIONS = (ENGINES / "athena.sql").read_text().split('-- "injected"')
TABLES = {one.find(exp.Table).name: one for one in parsed(_TABLES, "athena")}
QUESTION, VALUES = parsed(f"-- {_QUESTIONS}", "trino")


def options(table: str) -> dict[str, str]:
    """The properties of a table, and its location."""
    found = {
        one.name: one.args["value"].name
        for one in TABLES[table].find_all(exp.Property)
        if type(one) is exp.Property
    }
    return {**found, "location": TABLES[table].find(exp.LocationProperty).name}


def columns(table: str, dialect: str = "hive") -> dict[str, str]:
    """The columns of a table, with their types."""
    return {one.name: one.kind.sql(dialect=dialect) for one in TABLES[table].this.expressions}


def asked(statement: Any, root: Path) -> list[tuple[Any, ...]]:
    """What a statement gives over the segments of a folder, in DuckDB, of all Runs."""
    statement = statement.copy()
    for one in list(statement.find_all(exp.EQ)):
        if one.this.name in ("experiment", "run"):
            one.replace(exp.true())
    # To Trino a text that is no JSON has nothing in it; to DuckDB it is an error.
    for one in list(statement.find_all(exp.JSONExtract, exp.JSONExtractScalar)):
        if one.this.name == "data":
            one.this.replace(exp.TryCast(this=one.this.copy(), to=exp.DataType.build("json")))
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")  # as Athena's is
        connection.execute(
            "CREATE VIEW asynctrack_events AS SELECT * FROM read_ndjson("
            f"'{root}/asynctrack/v1/**/dt=*/*.jsonl.zst', hive_partitioning = true,"
            f" columns = {columns('asynctrack_events', 'duckdb')}, hive_types_autocast = false)"
        )
        return connection.execute(statement.sql(dialect="duckdb")).fetchall()


def test_the_partitions_are_the_keys_of_a_tracker(tmp_path: Path) -> None:
    """The template of each table, filled in, is the folder a tracker (or ``compact``) wrote to, and
    the computed partitions are its parts."""
    with asynctrack.tracker(tmp_path / "my/prefix", experiment_name="e-1", run_name="r.2") as one:
        one.log_parameters({"x": 1})
        one.log_metric("score", 0.5)
    (found,) = locate_runs(tmp_path, None, Access())
    compact_run(found.locations[0], now=4e9)
    patterns = {"asynctrack_events": "*.jsonl.zst", "asynctrack_compact": "*.parquet"}
    assert TABLES.keys() == patterns.keys()
    for name, pattern in patterns.items():
        (path,) = tmp_path.glob(f"my/prefix/asynctrack/*/*/*/*/{pattern}")
        folder = path.parent.relative_to(tmp_path).as_posix()
        said = options(name)
        filled = said["storage.location.template"].replace("${experiment}", "e-1")
        filled = filled.replace("${run}", "r.2").replace("${dt}", folder.rpartition("=")[2])
        assert filled == f"s3://my-bucket/{folder}/"
        assert filled.startswith(said["location"])
        partitions = TABLES[name].find(exp.PartitionedByProperty).this.expressions
        assert [one.name for one in partitions] == [
            part.partition("=")[0] for part in folder.split("/")[-3:]
        ]
        assert {one.name: said[f"projection.{one.name}.type"] for one in partitions} == {
            "experiment": "injected", "run": "injected", "dt": "date",
        }  # fmt: skip


def test_the_columns_are_the_fields(tmp_path: Path) -> None:
    """Each column of the tables is a field of the events, or a column of the Parquet files, of a
    type that holds it."""
    generate(tmp_path, 500)
    run = asynctrack.open_run(tmp_path)
    fields: dict[str, set[str]] = {}
    for event in run.events():
        for name, value in event.raw.items():
            fields.setdefault(name, set()).add(type(value).__name__)
    events = columns("asynctrack_events")
    assert set(fields) <= set(events)
    python = {"INT": "int", "BIGINT": "int", "ARRAY<STRING>": "list", "MAP<STRING, STRING>": "dict"}
    for name, kind in events.items():
        if kind in python:
            assert fields[name] == {python[kind]}, name

    (found,) = locate_runs(tmp_path, None, Access())
    compact_run(found.locations[0], now=4e9)
    (path,) = tmp_path.glob("asynctrack/v1-compact/*/*/*/*.parquet")
    described = duckdb.execute(
        f"DESCRIBE SELECT * FROM read_parquet('{path}', hive_partitioning = false)"
    ).fetchall()
    kinds = {
        "VARCHAR": "STRING", "BIGINT": "BIGINT", "VARCHAR[]": "ARRAY<STRING>",
        "TIMESTAMP WITH TIME ZONE": "TIMESTAMP",
    }  # fmt: skip
    assert columns("asynctrack_compact") == {row[0]: kinds[row[1]] for row in described}
    assert tuple(columns("asynctrack_compact")) == NAMES


def test_the_page_shows_the_table() -> None:
    """The statement of the page is that of the file."""
    (shown,) = parsed(block("engines", "athena"), "athena")
    assert shown.sql(comments=False) == TABLES["asynctrack_events"].sql(comments=False)


def test_the_question_has_the_answer_of_the_others(tmp_path: Path) -> None:
    """It gives what plain Python gives, to the last digit."""
    make_calls(tmp_path)
    names = [one.alias_or_name for one in QUESTION.selects]
    rows = [dict(zip(names, row, strict=True)) for row in asked(QUESTION, tmp_path)]
    assert [{**row, "day": str(row["day"])} for row in rows] == plain_answer(str(tmp_path))


def test_values_are_joined(tmp_path: Path) -> None:
    """The statement gives document and messages of each event whole."""
    run = track_states(tmp_path, states=20, size=20_000)
    rewrite(run, 2, batch=30)
    rows = [
        (seq, document, messages if messages is None else json.loads(messages))
        for seq, _, document, messages in asked(VALUES, tmp_path)
    ]
    assert rows == joined(run)
    assert any(document and len(document) == 20_000 for _, document, _ in rows)


def test_a_slip_is_no_statement() -> None:
    """What Athena would not take is found: here a comma that is missing."""
    good = block("engines", "athena")
    slip = good.replace("v int,", "v int")
    assert slip != good
    with pytest.raises((AssertionError, sqlglot.errors.ParseError)):
        parsed(slip, "athena")
