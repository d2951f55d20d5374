"""Options: what is allowed, where they come from, and what an error says."""

from __future__ import annotations

import dataclasses
import inspect
import math
import os
import re
from pathlib import Path
from typing import Any

import pytest

from asynctrack import OptionError, Root, tracker
from asynctrack._options import GIB, KIB, MIB, Options

ALLOWED: dict[str, list[Any]] = {
    "durability": ["process", "power", "memory"],
    "overflow": ["spool", "block", "drop_newest", None],
    "block_timeout": [None, 0, 0.5, math.inf],
    "max_buffer_bytes": [64 * KIB, 1024 * GIB],
    "max_buffer_events": [10, 10**9],
    "max_batch_bytes": [KIB, 64 * MIB],
    "max_batch_events": [1, 100_000],
    "max_delay": [0.01, 3600],
    "upload_concurrency": [1, 64],
    "close_timeout": [0, 0.1, 86_400],
    "close_patience": [0, 0.1, 86_400],
    "close_on_sigterm": [True, False],
    "install": [True, False, "process"],
    "bucket": [None, "abc", "my.bucket-1", "x" * 63],
    "prefix": [None, "", "a", "a/b", "ü b", "..a/.b/...", "a=1"],
    "folder": [None, os.path.abspath("runs")],
    "compression": ["zstd", "gzip", "none"],
    "redact": [None, str.upper, "x+", re.compile("x+"), ["x+", re.compile("y")]],
    "tokens": ["stream", "each", "none"],
    "experiment_name": [None, "a", "A.b_c-1", "x" * 119],
    "run_name": [None, "a", "x" * 119],
    "max_spool_bytes": [16 * MIB, 1024 * GIB],
    "max_value_bytes": [None, 64, 1024 * GIB],
    "session_keys": [(), ("chat",), ("chat", "room")],
    "user_keys": [("who",)],
    "otlp": [
        None,
        True,
        False,
        "http://localhost:4318",
        "https://h/v1/traces",
        "http://[::1]:1/x?y=z",
    ],
    "sample": [0, 1, 0.1, lambda root: True],
    "keep_errors": [True, False],
}


async def rate_later(root: Root) -> float:
    return 0.1


REFUSED: dict[str, list[Any]] = {
    "durability": ["disk", None, 1],
    "overflow": ["drop", "", 1, ["block"]],
    "block_timeout": [-1, "1", math.nan, True],
    "max_buffer_bytes": [64 * KIB - 1, 1024 * GIB + 1, 1e9, "64MiB", True, None],
    "max_buffer_events": [9, 10**9 + 1, 10.0, False],
    "max_batch_bytes": [KIB - 1, 64 * MIB + 1, None],
    "max_batch_events": [0, 100_001, None],
    "max_delay": [0, 0.009, 3600.1, math.nan, math.inf, "5", None, True],
    "upload_concurrency": [0, 65, 1.5, None],
    "close_timeout": [-0.1, 86_401, math.inf, math.nan, None],
    "close_patience": [-0.1, 86_401, math.inf, math.nan, None],
    "close_on_sigterm": [1, "true", None],
    "install": [1, 0, "true", "thread", None],
    "sample": [-0.1, 1.1, math.nan, "0.1", None, True, rate_later],
    "keep_errors": [1, "true", None],
    "bucket": ["", "ab", "x" * 64, "UPPER", "a_b", "-ab", "ab-", 5, "s3://x"],
    "folder": ["", 5, b"runs", "~nobody-of-that-name/x"],
    "prefix": [
        "/",
        "/a",
        "a/",
        "a//b",
        5,
        "..",
        ".",
        "a/..",
        "../a",
        "a/../../x",
        "a/./b",
        "a\\b",
        "a\nb",
        "a\x00",
        "\x7f",
        "a\n",
    ],
    "compression": ["zip", None, "ZSTD"],
    "redact": [5, "(", "x*", "", b"x", [b"x"], [5]],
    "tokens": ["all", None, True],
    "experiment_name": ["", "-a", "a b", "a/b", "..", "x" * 120, "ä", 5],
    "run_name": ["", ".a", "a=b", "x" * 120, 5],
    "max_spool_bytes": [16 * MIB - 1, 1.0, None],
    "max_value_bytes": [63, 1024 * GIB + 1, 64.0, "1MiB", True],
    "s3_options": [["ACL"], {"Key": "x"}, {"ChecksumCRC32": "x"}],
    "spool_dir": [5, b"x"],
    "session_keys": [None, 5, "", [""], ["chat", 5], {"chat"}, b"chat", iter("c")],
    "user_keys": [5, ""],
    "otlp": [
        "",
        "localhost:4318",
        "grpc://h:4317",
        "http://",
        "http://h:x/",
        "http://a b/",
        1,
        b"x",
    ],
}


def cases(table: dict[str, list[Any]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ("name", "value"), [(name, value) for name, values in table.items() for value in values]
    )


@cases(ALLOWED)
def test_allowed(name: str, value: Any) -> None:
    """Each value at the edge of what is allowed is taken as it is."""
    options = Options.resolve({name: value}, {})
    if name != "redact":
        assert getattr(options, name) == value


@cases(REFUSED)
def test_refused(name: str, value: Any) -> None:
    """Each value over the edge is refused with the option, the value and what is allowed."""
    with pytest.raises(OptionError) as caught:
        Options.resolve({name: value}, {})
    assert caught.value.option == name
    assert str(caught.value).startswith(f"{name}=")
    assert len(str(caught.value).partition(" must be ")[2]) > 3


def test_every_option_is_tested() -> None:
    """No option is without a value that is refused."""
    assert REFUSED.keys() == {item.name for item in dataclasses.fields(Options)}


def test_every_option_is_described() -> None:
    """Each option has its paragraph in the documentation of tracker()."""
    described = set(re.findall(r"^    (\w+): ", str(inspect.getdoc(tracker)), re.MULTILINE))
    raised = {"MissingExtraError", "OptionError", "RunError"}
    assert described - raised - {"run"} == {item.name for item in dataclasses.fields(Options)}


def test_the_keywords_are_the_options() -> None:
    """tracker() declares every option in its order, with its type and its default."""
    declared = inspect.signature(tracker).parameters
    options = {item.name: (item.type, item.default) for item in dataclasses.fields(Options)}
    assert list(declared) == ["run", *options]
    for name, (kind, default) in options.items():
        parameter = declared[name]
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        assert (parameter.annotation, parameter.default) == (kind, default), name


def test_the_defaults_are_allowed() -> None:
    """Without any option everything is valid, and as documented."""
    options = Options.resolve({}, {})
    assert options == Options()
    assert (options.max_delay, options.close_timeout, options.compression, options.tokens) == (
        5.0, 30.0, "zstd", "stream",
    )  # fmt: skip


def test_unknown_options_are_named() -> None:
    """A misspelt option is refused with the list of those there are."""
    with pytest.raises(OptionError, match=r"max_delays=.*max_delay,"):
        Options.resolve({"max_delays": 5}, {})


def test_the_call_itself_refuses(tmp_path: Any) -> None:
    """tracker() checks before anything is started or made."""
    with pytest.raises(OptionError, match="overflow"):
        tracker(tmp_path / "runs", overflow="nothing")
    assert list(tmp_path.iterdir()) == []


def test_two_that_contradict() -> None:
    """A batch larger than the buffer, and a spool where there is none, are refused."""
    with pytest.raises(OptionError, match="max_buffer_bytes=1048576"):
        Options.resolve({"max_buffer_bytes": MIB, "max_batch_bytes": 2 * MIB}, {})
    with pytest.raises(OptionError, match="max_buffer_events=10"):
        Options.resolve({"max_buffer_events": 10, "max_batch_events": 11}, {})
    with pytest.raises(OptionError, match="overflow"):
        Options.resolve({"overflow": "spool", "durability": "memory"}, {})


@pytest.mark.parametrize("size", [64 * KIB, 10 * MIB, GIB])
@pytest.mark.parametrize("events", [10, 1_000, 10**6])
def test_batches_shrink_with_the_buffer(size: int, events: int) -> None:
    """A small buffer alone is fine: several batches fit into it."""
    options = Options.resolve({"max_buffer_bytes": size, "max_buffer_events": events}, {})
    assert options.max_batch_bytes <= size / 4
    assert options.max_batch_events <= events / 4
    assert options.max_batch_bytes <= Options().max_batch_bytes


def test_what_happens_when_full() -> None:
    """Without a word, a full buffer goes on to disk where there is a spool, and blocks else."""
    assert Options().effective_overflow == "spool"
    assert Options(durability="memory").effective_overflow == "block"
    assert Options(overflow="drop_newest").effective_overflow == "drop_newest"


# -- the environment ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("overflow", "drop_newest", "drop_newest"),
        ("durability", "memory", "memory"),
        ("max_buffer_bytes", "1048576", MIB),
        ("max_buffer_bytes", "16MiB", 16 * MIB),
        ("max_buffer_bytes", " 16 mib ", 16 * MIB),
        ("max_buffer_bytes", "2GiB", 2 * GIB),
        ("max_buffer_bytes", "100MB", 100 * 10**6),
        ("max_buffer_bytes", "500000b", 500_000),
        ("max_batch_events", "7", 7),
        ("max_delay", "2.5", 2.5),
        ("block_timeout", "3", 3.0),
        ("close_timeout", "0", 0.0),
        ("close_on_sigterm", "true", True),
        ("install", "Process", "process"),
        ("install", "yes", True),
        ("bucket", "my-bucket", "my-bucket"),
        ("prefix", "a/b", "a/b"),
        ("tokens", "each", "each"),
        ("run_name", "r1", "r1"),
        ("session_keys", "chat, room", ("chat", "room")),
        ("user_keys", "who", ("who",)),
        ("s3_options", '{"ACL": "private"}', {"ACL": "private"}),
        ("otlp", "https://h/v1/traces", "https://h/v1/traces"),
        ("otlp", "true", True),
        ("otlp", "0", False),
    ],
)
def test_the_environment(name: str, text: str, expected: Any) -> None:
    """A variable of the environment sets an option that the call does not."""
    environ = {f"ASYNCTRACK_{name.upper()}": text}
    assert getattr(Options.resolve({}, environ), name) == expected


def test_a_keyword_wins() -> None:
    """What the call says counts more than the environment, also when it says None."""
    environ = {"ASYNCTRACK_MAX_DELAY": "9", "ASYNCTRACK_BUCKET": "from-outside"}
    options = Options.resolve({"max_delay": 1.0, "bucket": None}, environ)
    assert (options.max_delay, options.bucket) == (1.0, None)


def test_an_address_may_hold_a_password() -> None:
    """An address that is not allowed is not shown: who reads the error may not read it."""
    with pytest.raises(OptionError) as caught:
        Options.resolve({"otlp": "ftp://user:hunter2@host"}, {})
    assert "hunter2" not in str(caught.value) + repr(caught.value.value)


def test_a_pattern_from_the_environment() -> None:
    """A pattern in the environment redacts."""
    options = Options.resolve({}, {"ASYNCTRACK_REDACT": r"\d+"})
    assert callable(options.redact)
    assert options.redact("call 555") == "call [REDACTED]"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("MAX_BUFFER_BYTES", "much"),
        ("MAX_BUFFER_BYTES", "5 parsecs"),
        ("MAX_BUFFER_BYTES", "-1"),
        ("MAX_BUFFER_BYTES", "1.5MiB"),
        ("MAX_BUFFER_BYTES", ""),
        ("MAX_DELAY", "soon"),
        ("CLOSE_ON_SIGTERM", "perhaps"),
        ("SAMPLE", "some"),
        ("SAMPLE", "1.5"),
        ("S3_OPTIONS", "{"),
    ],
)
def test_an_error_names_the_variable(name: str, text: str) -> None:
    """What cannot be read from the environment is refused with the variable's name."""
    with pytest.raises(OptionError, match=f"^ASYNCTRACK_{name}="):
        Options.resolve({}, {f"ASYNCTRACK_{name}": text})


@pytest.mark.parametrize(
    ("name", "text"),
    [("OVERFLOW", "drop"), ("PREFIX", "../x"), ("MAX_DELAY", "0"), ("MAX_BATCH_EVENTS", "0")],
)
def test_a_refused_value_names_where_it_came_from(name: str, text: str) -> None:
    """A value of the environment is refused with the variable's name, a keyword with its own."""
    variables = {f"ASYNCTRACK_{name}": text}
    with pytest.raises(OptionError, match=f"^ASYNCTRACK_{name}=") as caught:
        Options.resolve({}, variables)
    assert f"ASYNCTRACK_{name} must be" in str(caught.value)
    with pytest.raises(OptionError, match=f"^{name.lower()}="):
        Options.resolve({name.lower(): -5}, variables)


def test_two_variables_that_contradict() -> None:
    """A batch larger than the buffer is refused with the name of the variable that says so."""
    with pytest.raises(OptionError, match=r"^ASYNCTRACK_MAX_BATCH_BYTES="):
        Options.resolve({"max_buffer_bytes": MIB}, {"ASYNCTRACK_MAX_BATCH_BYTES": "2MiB"})


@pytest.mark.parametrize("place", ["", "S3://b/x", "file:///tmp/x", "gs://b", "file:/tmp/x"])
def test_addresses_are_no_folders(place: str) -> None:
    """An address in the place of a Run is refused as it was written, with what to do."""
    with pytest.raises(OptionError, match="run='" + re.escape(place) + "'.*the plain path"):
        tracker(place)


def test_a_home_that_is_not_there() -> None:
    """The folder of a user who does not exist is refused, and named."""
    with pytest.raises(OptionError, match="run='~no such user/x'"):
        tracker("~no such user/x")
    with pytest.raises(OptionError, match="spool_dir='~no such user/x'"):
        Options(spool_dir="~no such user/x")


def test_a_bucket_in_the_environment_does_not_forbid_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is meant for Runs; given in the call, with a folder, it is a mistake."""
    monkeypatch.setenv("ASYNCTRACK_BUCKET", "my-bucket")
    assert repr(tracker(tmp_path, run_name="one")).startswith("<asynctrack.Tracker default/one")
    with pytest.raises(OptionError, match="bucket='my-bucket'"):
        tracker(tmp_path, bucket="my-bucket")


def test_the_process_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without another mapping, the environment of the process counts."""
    monkeypatch.setenv("ASYNCTRACK_MAX_DELAY", "1.25")
    assert Options.resolve({}).max_delay == 1.25


def test_patterns_that_can_be_read_once() -> None:
    """Patterns from an iterator redact: reading them to check them does not use them up."""
    options = Options.resolve({"redact": (text for text in ["a+", "b+"])}, {})
    assert callable(options.redact)
    assert options.redact("xaaybb") == "x[REDACTED]y[REDACTED]"


def test_options_are_frozen() -> None:
    """Nobody changes the options of a tracker that runs."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Options().max_delay = 1.0  # type: ignore[misc]  # on purpose
