"""``asynctrack export``, as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from asynctrack import cli
from tests.reading import making
from tests.reading.making import RunFolder, event
from tests.support.s3 import S3Server


@pytest.fixture
def place(folder: RunFolder) -> str:
    """A Run with one span."""
    folder.artifact(
        [
            event(1, kind="chain_start", span_id="a", trace_id="a", name="\x1b[31mx", inputs="=1"),
            event(2, kind="chain_end", span_id="a", trace_id="a", outputs="</script>"),
        ]
    )
    folder.manifest()
    return str(folder.path)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """An empty Run."""
    return RunFolder(tmp_path / "runs")


@pytest.mark.parametrize("format", ["parquet", "jsonl", "csv", "otlp", "html"])
def test_each_format_is_a_file(place: str, tmp_path: Path, capsys: Any, format: str) -> None:  # noqa: A002
    """The file is there, its size and rows are said, and it is not written over unasked."""
    path = tmp_path / f"run.{format}"
    command = ["export", place, "--format", format, "--output", str(path)]
    assert cli.main([*command, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["bytes"] == path.stat().st_size > 0
    assert said["rows"] == (2 if format == "jsonl" else 1)
    assert cli.main(command) == 2
    assert "a new file; --force writes over one" in capsys.readouterr().err
    assert cli.main([*command, "--force"]) == 0
    assert f"{path.stat().st_size:,} bytes" in capsys.readouterr().out
    assert [one.name for one in tmp_path.iterdir() if one.is_file()] == [path.name]


@pytest.mark.parametrize("format", ["parquet", "jsonl", "csv", "otlp", "html"])
def test_one_trace(folder: RunFolder, tmp_path: Path, capsys: Any, format: str) -> None:  # noqa: A002
    """One trace is a small file in every format; it is named by the beginning of an id in it."""
    names = ("aaa-secret", "bbb-wanted")
    events = [
        {"kind": f"{kind}_{what}", "span_id": span, "trace_id": name, "outputs": name, **more}
        for what in ("start", "end")
        for name in names
        for kind, span, more in (
            ("chain", name, {}),
            ("tool", f"{name}-tool", {"parent_span_id": name}),
        )
    ]  # the two at the same time
    folder.artifact([event(seq, **one) for seq, one in enumerate(events, 1)])
    folder.manifest()
    rows = {"jsonl": 4, "html": 1}.get(format, 2)
    for number, start in enumerate(("bbb", "bbb-wanted-t")):
        path = tmp_path / f"{number}.{format}"
        command = ["export", str(folder.path), "--format", format, "--output", str(path)]
        assert cli.main([*command, "--trace", start, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["rows"] == rows
        content = path.read_bytes()
        assert (b"secret" in content, b"wanted" in content) == (False, True)
    assert cli.main([*command, "--trace", "ccc", "--force"]) == 2
    assert "begins with 'ccc'" in capsys.readouterr().err
    keep = ["--table", "events", "--values", "keep"]
    if format in ("parquet", "jsonl", "csv"):
        assert cli.main([*command, "--trace", "bbb", *keep, "--force"]) == 2
        assert "'resolve' with one trace" in capsys.readouterr().err


def test_standard_output_is_the_file_and_nothing_else(place: str, tmp_path: Path) -> None:
    """``-`` gives the bytes to the next program, Parquet as well."""
    for format in ("jsonl", "parquet"):  # noqa: A001
        command = [sys.executable, "-m", "asynctrack.cli", "export", place, "--format", format]
        done = subprocess.run([*command, "--output", "-"], capture_output=True, check=True)
        path = tmp_path / "file"
        assert cli.main(["export", place, "--format", format, "--output", str(path)]) == 0
        assert done.stdout == path.read_bytes()
        assert done.stderr == b""
        path.unlink()


def test_a_reader_that_goes_away_is_no_error(folder: RunFolder) -> None:
    """``| head`` ends the export quietly."""
    folder.artifact([event(seq, data="x" * 1000) for seq in range(1, 2000)])
    folder.manifest()
    command = [sys.executable, "-m", "asynctrack.cli", "export", str(folder.path)]
    process = subprocess.Popen(
        [*command, "--format", "jsonl", "--output", "-"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ},
    )
    assert process.stdout is not None
    assert process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    assert process.wait(240) == 141
    process.stderr.close()


def test_from_s3(s3: S3Server, place: str, folder: RunFolder, tmp_path: Path, monkeypatch: Any,
                 capsys: Any) -> None:  # fmt: skip
    """A Run in S3 gives the same file."""
    import shutil

    shutil.copytree(folder.root / "asynctrack", s3.folder / "asynctrack")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret_key)
    options = ("--endpoint-url", s3.endpoint_url, "--region", "us-east-1")
    for source, name, more in ((place, "a", ()), (f"s3://{s3.bucket}", "b", options)):
        path = str(tmp_path / name)
        assert cli.main(["export", source, "--format", "csv", "--output", path, *more]) == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    capsys.readouterr()


def test_what_is_wrong_is_said(place: str, tmp_path: Path, capsys: Any) -> None:
    """Wrong calls end with 2 and damaged objects with 1, or are set aside and named."""
    for arguments, says in (
        (["--format", "otlp", "--output", str(tmp_path / "x"), "--table", "events"], "for otlp"),
        (["--format", "csv", "--output", str(tmp_path / "no" / "x")], "a folder that exists"),
        (["--format", "csv", "--output", "-", "--json"], "--json is not allowed"),
        (["--format", "csv", "--output", str(tmp_path / "x"), "--limit", "-1"], "0 or more"),
    ):
        assert cli.main(["export", place, *arguments]) == 2
        assert says in capsys.readouterr().err
    segment = next(Path(place).glob("dt=*/*"))
    segment.write_bytes(b"x")
    command = ["export", place, "--format", "csv", "--output", str(tmp_path / "x")]
    assert cli.main(command) == 1
    assert str(segment) in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
    assert cli.main([*command, "--set-aside"]) == 0
    assert f"set aside: {segment}" in capsys.readouterr().err


def test_since_and_until(folder: RunFolder, tmp_path: Path, capsys: Any) -> None:
    """What started from one moment to another is written; the days before are not even read."""
    days = [*range(1, 9)]
    for day in days:
        start = making.START + (day - 1) * 86_400 * 10**9
        named: dict[str, Any] = {"span_id": f"t{day}", "trace_id": f"t{day}", "name": f"day {day}"}
        first = {"kind": "chain_start", "time": start, **named}
        last = {"kind": "chain_end", "time": start + 10**9, **named}
        folder.artifact(
            [event(2 * day - 1, **first), event(2 * day, **last)], day=f"2026-01-{day:02d}"
        )
    folder.manifest()
    next(folder.path.glob("dt=2026-01-01/*")).write_bytes(b"not what it was")
    period = ["--since", "2026-01-06", "--until", "2026-01-08"]
    for format in ("csv", "jsonl", "parquet", "otlp", "html"):  # noqa: A001  # what users call it
        path = tmp_path / f"some.{format}"
        command = ["export", str(folder.path), "--format", format, "--output", str(path), *period]
        assert cli.main([*command, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["rows"] == (4 if format == "jsonl" else 2)
        if format != "parquet":
            said = path.read_text()
            assert [day for day in days if f"day {day}" in said] == [6, 7], format


def test_no_values_by_themselves_of_a_time(place: str, tmp_path: Path, capsys: Any) -> None:
    """Values may stand before the time that is asked for, so they are not written as rows."""
    command = ["export", place, "--format", "jsonl", "--output", str(tmp_path / "x")]
    assert cli.main([*command, "--values", "keep", "--since", "1d"]) == 2
    assert "'resolve' with a time" in capsys.readouterr().err
