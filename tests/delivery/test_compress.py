"""How zstd is used: repeats are found in all of a batch, and all that reads zstd can read it."""

from __future__ import annotations

import base64
import io
import json
import random
import shutil
import subprocess
from pathlib import Path

import pytest
import zstandard

from asynctrack._delivery.encode import compress

MIB = 1 << 20
LEAST_WINDOW = 8 * MIB
"""What RFC 8878 recommends that every decoder supports."""


def lines(size: int, count: int) -> bytes:
    """Lines with the same text in each, an image in base64: nothing in it repeats."""
    text = base64.b64encode(random.Random(1).randbytes(size * 3 // 4)).decode()
    return b"".join(
        json.dumps({"seq": seq, "text": text}).encode() + b"\n" for seq in range(1, count + 1)
    )


def test_what_was_said_megabytes_ago_is_not_stored_again() -> None:
    """A text of 4 MB that stands twice in a batch is stored once."""
    once, twice = (len(compress(lines(4 * MIB - 100, count), "zstd")) for count in (1, 2))
    assert twice < 1.01 * once


@pytest.mark.parametrize("size", [0, 100, 300_000, 3 * MIB, 9 * MIB])
def test_no_reader_needs_more_than_it_has_to_support(size: int) -> None:
    """A frame says how large it is, has a checksum, and asks for 8 MiB of window at the most."""
    raw = random.Random(2).randbytes(size)
    content = compress(raw, "zstd")
    frame = zstandard.get_frame_parameters(content)
    assert (frame.content_size, frame.has_checksum) == (size, True)
    assert frame.window_size <= LEAST_WINDOW
    with zstandard.ZstdDecompressor(max_window_size=LEAST_WINDOW).stream_reader(content) as reader:
        assert reader.read() == raw


@pytest.fixture(scope="module")
def segment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An object of lines that are far apart and alike, larger than a default batch."""
    path = tmp_path_factory.mktemp("segment") / "a.jsonl.zst"
    path.write_bytes(compress(lines(3 * MIB, 3), "zstd"))
    assert path.stat().st_size < 3 * MIB
    return path


def test_duckdb_reads_it(segment: Path) -> None:
    """DuckDB reads the lines with what it has built in."""
    duckdb = pytest.importorskip("duckdb")
    query = f"SELECT seq, length(text) FROM read_ndjson('{segment}', maximum_object_size=67108864)"
    assert duckdb.sql(f"{query} ORDER BY seq").fetchall() == [(n, 3 * MIB) for n in (1, 2, 3)]


def test_pandas_reads_it(segment: Path) -> None:
    """pandas reads the lines by the name's ending."""
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_json(segment, lines=True, compression="zstd")
    assert [*frame["seq"]] == [1, 2, 3]
    assert {*frame["text"].str.len()} == {3 * MIB}


def test_arrow_reads_it(segment: Path) -> None:
    """Arrow, which Spark and pandas read Parquet and streams with, decompresses it."""
    pyarrow = pytest.importorskip("pyarrow")
    with pyarrow.input_stream(str(segment), compression="zstd") as stream:
        assert stream.read() == lines(3 * MIB, 3)


def test_the_command_reads_it(segment: Path) -> None:
    """``zstd -dc`` needs no option for it."""
    command = shutil.which("zstd")
    if command is None:
        pytest.skip("zstd is not installed")
    done = subprocess.run([command, "-dc", segment], capture_output=True, check=True)
    assert done.stdout == lines(3 * MIB, 3)


def test_it_is_read_in_pieces(segment: Path) -> None:
    """A stream that gets the object in small pieces is the same lines."""
    reader = zstandard.ZstdDecompressor(max_window_size=LEAST_WINDOW)
    out = io.BytesIO()
    decompressing = reader.decompressobj()
    content = segment.read_bytes()
    for start in range(0, len(content), 1000):
        out.write(decompressing.decompress(content[start : start + 1000]))
    assert out.getvalue() == lines(3 * MIB, 3)
