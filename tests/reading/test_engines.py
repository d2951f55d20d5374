"""Beyond one machine: the same question, asked of the same keys in S3 by engines that exist."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pandas
import pytest

import asynctrack
from asynctrack._backends.s3_read import Access
from asynctrack._reading.compaction.compact import compact_run
from asynctrack._reading.sources.locate import locate_runs
from benchmarks.generate import generate
from tests.guide.pages import block
from tests.reading.making import lines as as_lines
from tests.reading.making import packed
from tests.reading.valued import raw_lines, rewrite, track_states
from tests.support.engines import ask, joined, make_calls, plain_answer
from tests.support.s3 import S3Server
from tests.support.tls import tls_proxy


def test_engines_ask_no_stranger(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Behind a proxy whose certificate nobody trusts the examples send nothing but a handshake;
    they go through one that is trusted."""
    generate(s3.folder / "p", 1_000, runs=1, writers=1, days=1, batch_events=1_000)
    server = replace(s3, endpoint_url="https://s3.example.com")
    with tls_proxy(s3.endpoint_url) as gateway:
        monkeypatch.setenv("HTTPS_PROXY", gateway.url)
        for script in ("duckdb_s3.py", "dask_cluster.py"):
            with pytest.raises(AssertionError, match="CERTIFICATE_VERIFY_FAILED"):
                ask(script, server)
        assert gateway.received == b"" and len(gateway.asked) >= 2
        monkeypatch.setenv("AWS_CA_BUNDLE", gateway.bundle(tmp_path))
        assert ask("duckdb_s3.py", server)


def test_duckdb_and_a_dask_cluster_answer_the_same(
    s3: S3Server, capsys: Any, monkeypatch: Any
) -> None:
    """DuckDB over S3, Dask in several processes, our own query and plain Python agree exactly."""
    from asynctrack import cli

    make_calls(s3.folder / "p")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret_key)
    place = f"s3://{s3.bucket}/p"
    access = {"endpoint_url": s3.endpoint_url, "region": "us-east-1"}

    expected = plain_answer(place, **access)
    assert len(expected) == 8
    assert sum(row["calls"] for row in expected) > 500
    assert ask("duckdb_s3.py", s3) == expected
    by_dask = ask("dask_cluster.py", s3, "--workers", "2")
    assert [{name: row[name] for name in expected[0]} for row in by_dask] == expected

    sql = (
        "SELECT model, strftime(start, '%Y-%m-%d') AS day, count(*) AS calls,"
        " quantile_disc(duration, 0.95) AS p95_seconds,"
        " sum(input_tokens)::BIGINT AS input_tokens, sum(output_tokens)::BIGINT AS output_tokens"
        " FROM spans WHERE kind = 'chat_model' AND outcome = 'ok' GROUP BY ALL ORDER BY ALL"
    )
    options = ["--endpoint-url", s3.endpoint_url, "--region", "us-east-1", "--json"]
    assert cli.main(["query", place, sql, *options]) == 0
    ours = json.loads(capsys.readouterr().out)["rows"]
    assert ours == expected

    # What was compacted holds the same.
    for found in locate_runs(place, None, Access(**access)):
        compact_run(found.locations[0], now=4e9)
    rows = duckdb.execute(
        f"SELECT count(*), count(DISTINCT (writer_id, seq)), sum(output_tokens)::BIGINT"
        f" FROM '{s3.folder}/p/asynctrack/v1-compact/*/*/*/*.parquet' WHERE event = 'llm_end'"
    ).fetchall()
    calls = sum(row["calls"] for row in expected)
    assert rows == [(calls, calls, sum(row["output_tokens"] for row in expected))]


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Run whose artifacts have values: a LangGraph run with a document and messages that grow."""
    run = track_states(tmp_path_factory.mktemp("engines"), states=20, size=20_000)
    rewrite(run, 2, batch=30)
    return run


def decoded(text: str | None) -> Any:
    """What JSON says; None for none."""
    return None if text is None else json.loads(text)


def test_pandas_puts_values_back(states: Path) -> None:
    """The page's block gives every event whole, and no row is a value."""
    lines = pandas.concat(
        pandas.read_json(path, lines=True, dtype=False, compression="zstd")
        for path in sorted(states.glob("dt=*/*.jsonl.zst"))
    )
    names: dict[str, Any] = {"lines": lines, "events": lines[lines["event"] != "value"]}
    assert len(lines) > len(names["events"])
    assert str(lines["seq"].dtype) == str(names["events"]["seq"].dtype) == "int64"
    exec(block("engines", "pandas-values"), names)
    whole = list(asynctrack.open_run(states).events())
    found = names["events"].sort_values("seq").to_dict("records")
    assert [row["seq"] for row in found] == [one.seq for one in whole]
    for name in ("inputs", "outputs", "data", "metadata"):
        for row, one in zip(found, whole, strict=True):
            # A field that an event has not is NaN in its row.
            assert row[name] == one.raw[name] if name in one.raw else row[name] != row[name]


def test_duckdb_joins_values(states: Path) -> None:
    """The page's statement gives document and messages of each event whole, from several artifacts
    in which they stand again; also where an object is stored twice, cut in another way."""
    place = f"{states.parents[1].as_posix().removesuffix('/v1')}/v1/experiment=jokes/"
    statement = block("engines", "duckdb-values")
    there = "s3://bucket/prefix/asynctrack/v1/experiment=jokes/"
    assert there in statement
    rows = duckdb.execute(statement.replace(there, place)).fetchall()
    assert {row[0] for row in rows} == {"one"}
    expected = joined(states)
    assert len({id(document) for _, document, _ in expected if document}) == 1
    assert [(row[1], decoded(row[2]), decoded(row[3])) for row in rows] == expected
    again = min(states.glob("dt=*/*.jsonl.zst"))
    name = again.name.replace("-000000000030.", "-000000000029.")
    assert name != again.name
    copy = again.with_name(name)
    lines = [line for line in raw_lines(again) if line["seq"] < 30]
    copy.write_bytes(packed(as_lines(lines), ".zst"))
    try:
        rows = duckdb.execute(statement.replace(there, place)).fetchall()
        assert [(row[1], decoded(row[2]), decoded(row[3])) for row in rows] == expected
    finally:
        copy.unlink()


def test_duckdb_reads_columns_of_one_type(states: Path) -> None:
    """The page's statement without a join has no row for a value, and its columns keep their types,
    whatever stands in the lines of values."""
    statement = block("engines", "duckdb").replace(
        "s3://bucket/prefix/asynctrack/v1/", f"{states.parents[1].as_posix()}/"
    )
    relation = duckdb.sql(statement)
    assert [str(kind) for kind in relation.types] == ["VARCHAR", "VARCHAR", "VARCHAR", "JSON"]
    assert len(relation.fetchall()) == len(joined(states))


def test_compacted_values_are_joined_alike(states: Path, tmp_path: Path) -> None:
    """The page's statement over the Parquet of ``compact`` gives the same, with values kept."""
    root = tmp_path / "again"
    shutil.copytree(states.parents[3], root)
    (found,) = locate_runs(root, None, Access())
    compact_run(found.locations[0], now=4e9)
    statement = re.sub(
        r"SELECT \* FROM read_ndjson\(.*?\n    \)",
        "SELECT writer_id, seq, event, name, inputs::JSON AS inputs, data::JSON AS data, run"
        f" FROM read_parquet('{root}/**/*.parquet', hive_partitioning = true)",
        block("engines", "duckdb-values"),
        flags=re.DOTALL,
    )
    assert "read_parquet" in statement
    rows = duckdb.execute(statement).fetchall()
    assert [(row[1], decoded(row[2]), decoded(row[3])) for row in rows] == joined(states)
