"""Engines of several processes: Spark and Ray Data, beside DuckDB and Dask, over one S3 server."""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import asynctrack
from asynctrack._backends.s3_read import Access
from asynctrack._reading.compaction.compact import compact_run
from asynctrack._reading.decoding.parquet_rows import NAMES
from asynctrack._reading.sources.locate import locate_runs
from tests.e2e.chains import joke_chain
from tests.guide.pages import block
from tests.reading.valued import track_states
from tests.support.engines import ENGINES, ask, joined, make_calls, plain_answer
from tests.support.s3 import S3Server
from tests.support.spark import spark_cluster

pytestmark = [
    pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas:FutureWarning"),
    pytest.mark.timeout(600),
]
S3A = "s3a://bucket/prefix/"


@pytest.fixture(scope="module")
def spark(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with spark_cluster(s3_server, tmp_path_factory.mktemp("spark")) as session:
        yield session


def compact(root: Path, **options: Any) -> None:
    """Compact every Run below a folder; the segments stay."""
    for found in locate_runs(root, None, Access()):
        compact_run(found.locations[0], now=4e9, **options)


def read(page_block: str, spark: Any, s3: S3Server, prefix: str = "p") -> dict[str, Any]:
    """Run a block of the page over what a test has below a prefix; return its names."""
    code = block("engines", page_block)
    assert S3A in code
    names: dict[str, Any] = {"spark": spark}
    exec(code.replace(S3A, f"s3a://{s3.bucket}/{prefix}/"), names)
    return names


def asked_calls(s3: S3Server) -> list[dict[str, Any]]:
    """Have the calls of the question stored; return its answer in plain Python."""
    make_calls(s3.folder / "p")
    compact(s3.folder / "p")
    expected = plain_answer(str(s3.folder / "p"))
    assert len(expected) == 8
    assert sum(row["calls"] for row in expected) > 500
    return expected


@pytest.mark.timeout(900)  # Ray starts ten processes, and stops by itself where they take long
def test_ray_data_answers_alike(s3: S3Server) -> None:
    """Ray Data gives what plain Python gives, to the last digit."""
    expected = asked_calls(s3)
    assert ask("ray_data.py", s3) == expected


def test_every_engine_answers_alike(
    spark: Any, s3: S3Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """DuckDB, Dask and Spark give what plain Python gives, to the last digit; Spark of the segments
    and of what was compacted, whatever its time zone is."""
    expected = asked_calls(s3)
    answers = {"duckdb_s3.py": ask("duckdb_s3.py", s3)}
    dask = ask("dask_cluster.py", s3, "--workers", "2")
    answers["dask_cluster.py"] = [{name: row[name] for name in expected[0]} for row in dask]
    assert spark.conf.get("spark.sql.session.timeZone") == "America/New_York"
    for option in ((), ("--compacted",)):
        # In this process: `getOrCreate` finds the session that is there.
        arguments = ["spark.py", f"s3a://{s3.bucket}/p", *option]
        monkeypatch.setattr(sys, "argv", arguments)
        capsys.readouterr()
        runpy.run_path(str(ENGINES / "spark.py"), run_name="__main__")
        spark.conf.unset("spark.sql.session.timeZone")
        lines = capsys.readouterr().out.splitlines()
        answers[" ".join(arguments)] = [json.loads(line) for line in lines]
    for answer in answers.values():
        assert answer == expected
    assert len(answers) == 4


@pytest.mark.parametrize("compression", ["zstd", "gzip", "none"])
def test_spark_reads_segments(spark: Any, s3: S3Server, compression: Any) -> None:
    """The page's block gives each event once, with its payloads as JSON, however it is packed."""
    names = {"experiment_name": "jokes", "run_name": "monday"}
    with asynctrack.tracker(s3.folder / "p", compression=compression, **names) as handler:
        joke_chain().batch([{"topic": "fish"}, {"topic": "café"}], {"callbacks": [handler]})
    found = read("spark", spark, s3)["events"].orderBy("writer_id", "seq").collect()
    expected = [one.raw for one in asynctrack.open_run(s3.folder / "p").events()]
    assert [(row.run, row.seq, row.event) for row in found] == [
        ("monday", one["seq"], one["event"]) for one in expected
    ]
    inputs = [json.loads(row.inputs) for row in found if row.inputs is not None]
    assert inputs == [one["inputs"] for one in expected if "inputs" in one]
    assert {"topic": "café"} in inputs


def test_spark_puts_values_back(spark: Any, s3: S3Server) -> None:
    """The page's statement gives document and messages of each event whole; compacted with
    ``--values resolve`` they are whole without it."""
    run = track_states(s3.folder / "p", states=12, size=20_000)
    shutil.copytree(s3.folder / "p", s3.folder / "resolved")
    compact(s3.folder / "p")
    compact(s3.folder / "resolved", values="resolve")
    expected = joined(run)
    lines = read("spark-compacted", spark, s3)["lines"]
    assert lines.where("event = 'value'").count() > 0
    lines.createOrReplaceTempView("lines")
    assert whole(spark.sql(block("engines", "spark-values"))) == expected

    lines = read("spark-compacted", spark, s3, "resolved")["lines"]
    assert lines.where("event = 'value'").count() == 0
    rows = lines.selectExpr(
        "seq",
        "get_json_object(inputs, '$.document') AS document",
        "get_json_object(inputs, '$.messages') AS messages",
    )
    assert whole(rows.orderBy("seq")) == expected


def whole(rows: Any) -> list[tuple[int, Any, Any]]:
    """Rows of a sequence number, a text and a list, as Python has them."""
    return [
        (row.seq, row.document, row.messages if row.messages is None else json.loads(row.messages))
        for row in rows.collect()
    ]


def test_spark_has_columns_of_these_types(spark: Any, s3: S3Server) -> None:
    """A time is the instant that it was in every time zone; tags are an array, payloads JSON text,
    and the keys' parts are columns."""
    names = {"experiment_name": "jokes", "run_name": "monday"}
    with asynctrack.tracker(s3.folder / "p", **names) as handler:
        joke_chain().invoke({"topic": "fish"}, {"callbacks": [handler], "tags": ["a", "b"]})
    compact(s3.folder / "p")
    lines = read("spark-compacted", spark, s3)["lines"]
    kinds = dict(lines.dtypes)
    assert tuple(kinds) == (*NAMES, "experiment", "run", "dt")
    expected = {
        "seq": "bigint", "time_unix_nano": "bigint", "time": "timestamp", "dt": "date",
        "tags": "array<string>", "input_tokens": "bigint", "output_tokens": "bigint",
    }  # fmt: skip
    assert kinds == {name: expected.get(name, "string") for name in kinds}
    rows = lines.selectExpr("*", "unix_micros(time) AS micros").orderBy("writer_id", "seq")
    events = list(asynctrack.open_run(s3.folder / "p").events())
    for row, one in zip(rows.collect(), events, strict=True):
        assert row.micros == one.raw["time_unix_nano"] // 1000
        assert row.tags == one.raw.get("tags")
        for name in ("inputs", "outputs", "metadata", "attributes"):
            assert json.loads(row[name] or "null") == one.raw.get(name)
    assert any(one.raw.get("tags") == ["a", "b"] for one in events)
