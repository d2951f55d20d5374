"""``asynctrack query``: SQL over Runs, answered read-only."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from asynctrack import cli
from asynctrack._reading.trees.span import TOKEN_PARTS
from tests.cli.runs import PARTS, cached_prices, make_run
from tests.e2e.waiting import until_in_thread
from tests.reading.making import RunFolder, event
from tests.support.s3 import S3Server


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two Runs of one experiment: a model call each, and one that failed."""
    for name, model in (("one", "small"), ("two", "large")):
        folder = RunFolder(tmp_path, run=name)
        attributes = {"gen_ai.request.model": model, "gen_ai.usage.output_tokens": 5}
        folder.artifact(
            [
                event(1, kind="chat_model_start", span_id="a", trace_id="a", inputs=["=1+1"]),
                event(2, kind="llm_end", span_id="a", trace_id="a", attributes=attributes),
                event(
                    3, kind="tool_start", span_id="b", trace_id="b", name="\x1b[31m=cmd|' /C'!A0"
                ),
                event(4, kind="tool_error", span_id="b", trace_id="b", error={"type": "E"}),
            ]
        )
        folder.artifact([event(4, kind="tool_error", span_id="b"), event(5, kind="metric")])
        folder.manifest(parameters={"temperature": 0.5})
    return tmp_path


def ask(capsys: Any, *arguments: str) -> tuple[int, str, str]:
    """Run the command."""
    code = cli.main(["query", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize("place", ["", "asynctrack/v1/experiment=jokes"])
def test_all_runs_of_a_place_are_asked_together(runs: Path, capsys: Any, place: str) -> None:
    """A folder or an experiment is all its Runs; every event counts once."""
    sql = "SELECT run, model, count(*) AS n, sum(output_tokens) AS t FROM spans GROUP BY ALL"
    code, out, _ = ask(capsys, str(runs / place), f"{sql} ORDER BY ALL", "--json")
    assert code == 0
    rows = json.loads(out)["rows"]
    assert rows == [
        {"run": "one", "model": "small", "n": 1, "t": 5},
        {"run": "one", "model": None, "n": 1, "t": None},
        {"run": "two", "model": "large", "n": 1, "t": 5},
        {"run": "two", "model": None, "n": 1, "t": None},
    ]
    _, out, _ = ask(capsys, str(runs / place), "SELECT count(*) AS n FROM events", "--json")
    assert json.loads(out)["rows"] == [{"n": 10}]
    _, out, _ = ask(capsys, str(runs / place), "FROM parameters WHERE run = 'two'", "--json")
    assert json.loads(out)["rows"] == [
        {"experiment": "jokes", "run": "two", "name": "temperature", "value": "0.5"}
    ]


def test_cost_and_parts_of_tokens_can_be_asked_for(tmp_path: Path, capsys: Any) -> None:
    """``--prices`` fills the column cost; the parts of the tokens have columns of their own."""
    make_run(tmp_path, "one", [{"tokens": (1_000_000, 500_000), "parts": PARTS}] * 2)
    sums = ", ".join(f"sum({part})::BIGINT" for part in TOKEN_PARTS)
    sql = f"SELECT sum(cost) AS cost, {sums} FROM spans"
    file = str(cached_prices(tmp_path / "prices.json"))
    _, out, _ = ask(capsys, str(tmp_path), sql, "--json", "--prices", file)
    (row,) = json.loads(out)["rows"]
    assert row.pop("cost") == pytest.approx(3.12)
    assert list(row.values()) == [2 * part for part in PARTS.values()]
    _, out, _ = ask(capsys, str(tmp_path), "SELECT cost FROM spans", "--json")
    assert json.loads(out)["rows"] == [{"cost": None}] * 4
    code, _, err = ask(capsys, str(tmp_path), sql, "--prices", str(tmp_path / "nowhere.json"))
    assert code == 2 and "nowhere.json" in err


def test_names_are_looked_for_below_root(runs: Path, capsys: Any) -> None:
    """An experiment and a Run can be named."""
    for name, count in (("jokes", 2), ("jokes/one", 1)):
        sql = "SELECT count(DISTINCT run) AS n FROM events"
        code, out, _ = ask(capsys, name, sql, "--root", str(runs), "--json")
        assert (code, json.loads(out)["rows"]) == (0, [{"n": count}])
    code, _, err = ask(capsys, "jokes/three", "FROM events", "--root", str(runs))
    assert code == 2
    assert "with the name jokes/three" in err


def test_s3_needs_no_extension(s3: S3Server, runs: Path, capsys: Any, monkeypatch: Any) -> None:
    """Runs in S3 are read by our own readers, with the user's endpoint and credentials."""
    shutil.copytree(runs / "asynctrack", s3.folder / "p/asynctrack")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret_key)
    place = (f"s3://{s3.bucket}/p", "--endpoint-url", s3.endpoint_url, "--region", "x")
    code, out, err = ask(capsys, place[0], "SELECT count(*) AS n FROM spans", *place[1:], "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["rows"] == [{"n": 4}]


def test_a_table_is_short_and_says_so(runs: Path, capsys: Any) -> None:
    """Rows are limited with a note, long cells cut, control characters shown instead of sent."""
    code, out, err = ask(capsys, str(runs), "SELECT range AS x FROM range(1000)")
    assert code == 0
    assert out.count("\n") < 110
    assert "100 rows" in out
    assert "the first 100 rows, and there are more" in err
    _, out, err = ask(capsys, str(runs), "SELECT range AS x FROM range(100)")
    assert err == ""
    _, out, _ = ask(capsys, str(runs), "SELECT repeat('y', 5000) AS y")
    assert "5,000 characters" in out
    _, out, _ = ask(capsys, str(runs), "SELECT DISTINCT name FROM events WHERE name IS NOT NULL")
    assert "\x1b[31m=cmd" not in out
    assert r"\x1b[31m=cmd" in out
    _, out, err = ask(capsys, str(runs), "SELECT 1 AS x FROM range(9)", "--json", "--limit", "3")
    assert len(json.loads(out)["rows"]) == 3
    assert "the first 3 rows" in err


def test_csv_is_safe_in_a_spreadsheet(runs: Path, capsys: Any) -> None:
    """What a spreadsheet would run is text there; numbers stay numbers."""
    sql = """SELECT '=1+1' AS a, -1.5 AS b, '@x' AS "+c", NULL AS d, 'a "b", c' AS e, '-inf' AS f"""
    _, out, _ = ask(capsys, str(runs), sql, "--csv")
    assert list(csv.reader(io.StringIO(out))) == [
        ["a", "b", "'+c", "d", "e", "f"],
        ["'=1+1", "-1.5", "'@x", "", 'a "b", c', "'-inf"],
    ]


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("SELEC 1", "syntax error"),
        ("SELECT nothing FROM spans", '"nothing" not found'),
        ("SELECT 1; SELECT 2", "one statement is wanted, and these are 2"),
        ("-- nothing", "these are 0"),
        ("DROP TABLE spans", "DROP is not allowed"),
        ("COPY spans TO 'x.csv'", "COPY is not allowed"),
        ("INSTALL httpfs", "is not allowed"),
        ("SET enable_external_access = true", "SET is not allowed"),
        ("ATTACH 'x.db'", "ATTACH is not allowed"),
        ("FROM read_text('{file}')", "disabled by configuration"),
        ("FROM read_csv('s3://bucket/key')", "disabled by configuration"),
        ("SELECT 1 FROM glob('/*')", "disabled by configuration"),
        ("SELECT (1/0)::INTEGER, error('late')", "late"),
    ],
)
def test_a_statement_can_only_read(
    runs: Path, tmp_path: Path, capsys: Any, sql: str, says: str
) -> None:
    """Nothing but reading the tables is possible; what is wrong with a statement is said."""
    secret = tmp_path / "secret.txt"
    secret.write_text("SECRET")
    code, out, err = ask(capsys, str(runs), sql.format(file=secret))
    assert code == 2
    assert says in err
    assert "SECRET" not in out + err


def test_variables_of_the_program_are_no_tables(runs: Path, capsys: Any) -> None:
    """DuckDB's search for data frames among Python's variables is off."""
    import pandas

    options = pandas.DataFrame({"x": [1]})
    code, _, err = ask(capsys, str(runs), "FROM options")
    assert len(options) == 1
    assert code == 2
    assert "options does not exist" in err


def test_a_damaged_object_is_named_or_set_aside(runs: Path, capsys: Any) -> None:
    """Damage fails the query unless it is told to read on; then it is named."""
    path = next((runs / "asynctrack/v1/experiment=jokes/run=one").glob("dt=*/*-000000000005*"))
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    code, _, err = ask(capsys, str(runs), "SELECT count(*) FROM events")
    assert code == 1
    assert str(path) in err
    code, out, err = ask(
        capsys, str(runs), "SELECT count(*) AS n FROM events", "--set-aside", "--json"
    )
    assert (code, json.loads(out)["rows"]) == (0, [{"n": 9}])
    assert f"set aside: {path}" in err


def test_nothing_is_left_behind(runs: Path, capsys: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """The database that a query works on is gone afterwards, also after an error."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    assert ask(capsys, str(runs), "SELECT count(*) FROM spans")[0] == 0
    assert ask(capsys, str(runs), "SELECT error('x') FROM spans")[0] == 2
    assert list(place.iterdir()) == []


def test_memory_is_bounded(runs: Path, capsys: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """However large the machine's memory is, an answer takes a part of it and then its own disk."""
    place = tmp_path / "scratch"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    sql = (
        "SELECT current_setting('memory_limit') AS most, current_setting('temp_directory') AS spill"
    )
    code, out, _ = ask(capsys, str(runs), sql, "--json")
    assert code == 0
    (row,) = json.loads(out)["rows"]
    assert row["most"] == "953.6 MiB", "1 GB"
    assert Path(row["spill"]).is_relative_to(place)


def test_ctrl_c_ends_a_long_query(runs: Path, tmp_path: Path) -> None:
    """Ctrl-C ends DuckDB's work as well, with exit code 130 and no traceback."""
    place = tmp_path / "temporary"
    place.mkdir()
    sql = "SELECT sum(a.range * b.range % 7) FROM range(10000000) a, range(10000000) b, events"
    process = subprocess.Popen(
        [sys.executable, "-m", "asynctrack.cli", "query", str(runs), sql],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "ASYNCTRACK_INDEX_DIR": str(place)},
    )
    try:
        # All is indexed then, and the answer is being worked on.
        def is_indexed() -> bool:
            states = [path.read_bytes() for path in place.glob("*/*/state.json")]
            return sum(b'"events":{"ranges"' in state for state in states) == 2

        until_in_thread(is_indexed)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=240)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Traceback" not in err
