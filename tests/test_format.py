"""The contract on disk and in S3: keys and the start of lines."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest

from asynctrack._format import (
    MEDIA_TYPE,
    SEQ_DIGITS,
    SUFFIXES,
    ArtifactName,
    artifact_name,
    is_valid_name,
    line_prefix,
    line_time,
    manifest_name,
    number_line,
    parse_artifact_name,
    parse_line_start,
    run_prefix,
)

WRITER = "0123456789abcdef"
NOON = int(datetime(2026, 11, 22, 12, tzinfo=timezone.utc).timestamp()) * 10**9


def test_the_layout_is_the_contract() -> None:
    """Keys are those that other programs read, letter by letter."""
    assert run_prefix("a/b", "E", "R") == "a/b/asynctrack/v1/experiment=E/run=R/"
    assert run_prefix("", "E", "R") == "asynctrack/v1/experiment=E/run=R/"
    assert artifact_name(WRITER, 1, 20, NOON, "zstd") == (
        "dt=2026-11-22/0123456789abcdef-000000000001-000000000020.jsonl.zst"
    )
    assert manifest_name(WRITER) == "_manifest/0123456789abcdef.json"
    assert manifest_name(WRITER, 3) == "_manifest/0123456789abcdef.000003.json"


def test_lines_start_as_the_contract_says() -> None:
    """A line begins with version, writer and number, then comes the body."""
    line = number_line(line_prefix(WRITER), 7, b'{"time_unix_nano":5,"event":"text"}')
    assert line == (
        b'{"v":2,"writer_id":"0123456789abcdef","seq":7,"time_unix_nano":5,"event":"text"}\n'
    )
    assert list(json.loads(line)) == ["v", "writer_id", "seq", "time_unix_nano", "event"]
    assert parse_line_start(line) == (WRITER, 7)
    assert parse_line_start(line.replace(b'"v":2', b'"v":1')) == (WRITER, 7), "as before"
    assert parse_line_start(line.replace(b'"v":2', b'"v":3')) is None
    assert parse_line_start(b'{"v":2}\n') is None


@pytest.mark.parametrize("compression", list(SUFFIXES))
def test_keys_come_back(compression: str) -> None:
    """A key says who, which numbers and which day."""
    name = artifact_name(WRITER, 3, 10**13, NOON, compression)
    assert name.endswith(SUFFIXES[compression])
    assert parse_artifact_name(name) == ArtifactName(WRITER, 3, 10**13, "2026-11-22")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "dt=2026-11-22/",
        f"_manifest/{WRITER}.json",
        f"dt=2026-11-22/{WRITER}-1-2.jsonl.zst",
        f"dt=2026-11-22/{WRITER}-000000000001-000000000002.json",
        f"dt=2026-11-22/{WRITER}-000000000001-000000000002.jsonl.zst.tmp",
        f"dt=2026-11-22/{WRITER}-000000000001-000000000002.jsonl.zst\n",
        f"x/dt=2026-11-22/{WRITER}-000000000001-000000000002.jsonl",
        "dt=2026-11-22/WRITER-000000000001-000000000002.jsonl",
        f"dt=٢٠٢٦-11-22/{WRITER}-000000000001-000000000002.jsonl",
    ],
)
def test_other_keys_are_not_taken_for_artifacts(name: str) -> None:
    """Manifests, unfinished files and what others put there are left alone."""
    assert parse_artifact_name(name) is None


def test_keys_sort_by_number() -> None:
    """Sorted by key, artifacts are in the order of their numbers."""
    firsts = [1, 9, 10, 99, 100, 10**6, 10**SEQ_DIGITS - 1]
    names = [artifact_name(WRITER, first, first, NOON, "zstd") for first in firsts]
    assert names == sorted(names)


@pytest.mark.parametrize(
    ("nanoseconds", "day"),
    [
        (0, "2026-11-22"),
        (-1, "2026-11-21"),
        (-100, "2026-11-21"),
        (86_400 * 10**9 - 1, "2026-11-22"),
        (86_400 * 10**9, "2026-11-23"),
    ],
)
def test_midnight(nanoseconds: int, day: str) -> None:
    """The day of a key is that of the first event in UTC, to the nanosecond."""
    midnight = int(datetime(2026, 11, 22, tzinfo=timezone.utc).timestamp()) * 10**9
    assert artifact_name(WRITER, 1, 1, midnight + nanoseconds, "none").startswith(f"dt={day}/")


def test_the_day_is_not_that_of_the_machines_clock_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's time zone changes no key."""
    import time

    eastern = timezone(timedelta(hours=14))
    late = int(datetime(2026, 11, 23, 1, tzinfo=eastern).timestamp()) * 10**9
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    time.tzset()
    try:
        assert artifact_name(WRITER, 1, 1, late, "none").startswith("dt=2026-11-22/")
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'{"v":1,"seq":1,"time_unix_nano":5}\n', 5),
        (
            b'{"v":1,"seq":1,"time_unix_nano":1700000000000000000,"x":"time_unix_nano"}\n',
            17 * 10**17,
        ),
        (b'{"v":1,"seq":1,"time_unix_nano":-3,"x":1}\n', -3),
    ],
)
def test_the_time_of_a_line(line: bytes, expected: int) -> None:
    """The time is read off a line without decoding it."""
    assert line_time(line) == expected


def test_a_line_without_a_time() -> None:
    """A line that does not start as it should is refused, not guessed at."""
    with pytest.raises(ValueError, match="time_unix_nano"):
        line_time(b'{"v":1,"event":"text"}\n')


@pytest.mark.parametrize("name", ["a", "A-b_c.d", "0", "x" * 119])
def test_names_that_may_stand_in_a_key(name: str) -> None:
    """Names of letters, digits, dots, dashes and underscores may."""
    assert is_valid_name(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "-a", "_a", "a/b", "a b", "ä", "x" * 120, "a=b", "a\n", "%2e"]
)
def test_names_that_may_not(name: str) -> None:
    """What could leave the folder, or what a glob or a URL reads otherwise, may not."""
    assert not is_valid_name(name)


def test_the_media_type_fits_sagemakers_pattern() -> None:
    """The media type is one that SageMaker takes for an artifact."""
    import re

    assert re.fullmatch(r"[-\w]+\/[-\w+]+", MEDIA_TYPE)
    assert len(MEDIA_TYPE) <= 64
