"""One row for each span: in Arrow, pandas and DuckDB."""

from __future__ import annotations

import json
from typing import Any

import duckdb
import pyarrow
import pytest

from asynctrack._reading.run import RecordedRun, open_run
from asynctrack._reading.tables import span_table
from tests.reading.making import START, RunFolder, event


@pytest.fixture
def run(folder: RunFolder) -> RecordedRun:
    """A Run with a trace that worked, one that failed, and one that never ended."""
    spans: list[dict[str, Any]] = [
        {"kind": "chain_start", "span_id": "r1", "trace_id": "r1", "name": "seq",
         "inputs": {"a": "é"}, "tags": ["x", "y"], "metadata": {"m": 1}},
        {"kind": "chat_model_start", "span_id": "m1", "trace_id": "r1", "parent_span_id": "r1",
         "attributes": {"gen_ai.request.model": "gpt"}, "inputs": {"messages": []}},
        {"kind": "llm_end", "span_id": "m1", "trace_id": "r1", "parent_span_id": "r1",
         "outputs": "hi", "data": {"stream": {"count": 4, "time_to_first_token": 0.5}},
         "attributes": {"gen_ai.usage.input_tokens": 7, "gen_ai.usage.output_tokens": 2**80}},
        {"kind": "chain_end", "span_id": "r1", "trace_id": "r1", "outputs": [1]},
        {"kind": "tool_start", "span_id": "r2", "trace_id": "r2", "inputs": "'; DROP TABLE spans"},
        {"kind": "tool_error", "span_id": "r2", "trace_id": "r2",
         "error": {"type": "ValueError", "message": "no"}},
        {"kind": "chain_start", "span_id": "r3", "trace_id": "r3", "parent_span_id": "gone"},
    ]  # fmt: skip
    folder.artifact([event(seq, **fields) for seq, fields in enumerate(spans, 1)])
    folder.manifest(parameters={"temperature": 0.1, "deep": {"a": [1]}})
    return open_run(folder.path)


def test_arrow_rows_are_flat_and_typed(run: RecordedRun) -> None:
    """Each span is a row, by start, with typed columns and payloads as JSON text."""
    table = run.to_arrow()
    rows = table.to_pylist()
    assert [row["span_id"] for row in rows] == ["r1", "m1", "r2", "r3"]
    assert table.schema.field("start").type == pyarrow.timestamp("ns", tz="UTC")
    assert [table.column("start")[0].value, table.column("end")[0].value] == [
        START + 1000,
        START + 4000,
    ]
    root, model, tool, orphan = rows
    assert (root["kind"], root["name"], root["outcome"]) == ("chain", "seq", "ok")
    assert (root["tags"], json.loads(root["metadata"])) == (["x", "y"], {"m": 1})
    assert (root["inputs"], root["outputs"], root["duration"]) == ('{"a":"é"}', "[1]", 3e-6)
    assert (model["model"], model["input_tokens"], model["output_tokens"]) == ("gpt", 7, None)
    assert (model["stream_tokens"], model["time_to_first_token"]) == (4, 0.5)
    assert (tool["outcome"], tool["error_type"], tool["error_message"]) == (
        "error",
        "ValueError",
        "no",
    )
    assert (orphan["outcome"], orphan["orphan"], orphan["end"]) == ("unfinished", True, None)


def test_pandas_keeps_counts_whole(run: RecordedRun) -> None:
    """Counts that are missing in some rows stay whole numbers, tags are lists."""
    frame = run.to_pandas()
    assert str(frame["input_tokens"].dtype) == "Int64"
    assert str(frame["start"].dtype) == "datetime64[ns, UTC]"
    assert frame["input_tokens"].sum() == 7
    assert frame["tags"].iloc[0] == ["x", "y"]
    assert list(frame["orphan"]) == [False, False, False, True]


def test_duckdb_answers_sql(run: RecordedRun) -> None:
    """Spans and parameters are tables; what was logged is data there and never a statement."""
    connection = run.to_duckdb()
    found = connection.execute(
        "SELECT kind, count(*) FROM spans GROUP BY kind ORDER BY kind"
    ).fetchall()
    assert found == [("chain", 2), ("chat_model", 1), ("tool", 1)]
    stored = connection.execute("SELECT inputs FROM spans WHERE span_id = 'r2'").fetchone()
    assert stored == ('"\'; DROP TABLE spans"',)
    parameters = dict(connection.execute("SELECT * FROM parameters").fetchall())
    assert parameters == {"temperature": "0.1", "deep": '{"a":[1]}'}
    connection.close()


def test_duckdb_tables_are_replaced_whole_or_not_at_all(
    run: RecordedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Into the user's own database: again, in pieces, and without a trace of what failed."""
    monkeypatch.setattr(span_table, "ROWS", 1)
    connection = duckdb.connect()
    for _ in range(2):
        assert run.to_duckdb(connection) is connection
        assert connection.execute("SELECT count(*) FROM spans").fetchone() == (4,)

    def failing() -> Any:
        yield from list(run.traces())[:1]
        raise RuntimeError("the network is gone")

    with pytest.raises(RuntimeError, match="the network is gone"):
        span_table.spans_to_duckdb(failing(), {}, connection)
    assert connection.execute("SELECT count(*) FROM spans").fetchone() == (4,)
    assert connection.execute("SHOW TABLES").fetchall() == [("parameters",), ("spans",)]
    connection.close()


def test_an_empty_run_is_an_empty_table(folder: RunFolder) -> None:
    """A Run without events gives tables with all columns and no row."""
    folder.manifest()
    run = open_run(folder.path)
    assert run.to_arrow().num_rows == 0
    assert list(run.to_pandas().columns) == [name for name, _, _ in span_table.COLUMNS]
    connection = run.to_duckdb()
    assert connection.execute("SELECT count(*) FROM spans").fetchone() == (0,)
    connection.close()
