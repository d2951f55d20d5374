"""``asynctrack tail``, as a process of its own: it is about what comes, and about its end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

import asynctrack
from asynctrack._spool.layout import default_spool_dir
from tests.cli.conftest import Command
from tests.cli.runs import HOSTILE, chain, make_run
from tests.e2e.waiting import PATIENCE, until_in_thread
from tests.reading.making import RunFolder, event
from tests.reading.spooling import SpoolFolder, bucket_of, folder_of
from tests.reading.test_s3 import put
from tests.support.s3 import S3Server

pytestmark = pytest.mark.may_block("no event loop in here")


class Tail:
    """A running tail: its lines as they come."""

    def __init__(self, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "asynctrack.cli", "tail", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        )
        self.lines: list[str] = []
        self.errors: list[str] = []
        assert self.process.stdout is not None and self.process.stderr is not None
        self._readers = [
            threading.Thread(target=self._read, args=(stream, lines), daemon=True)
            for stream, lines in (
                (self.process.stdout, self.lines),
                (self.process.stderr, self.errors),
            )
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: IO[str], lines: list[str]) -> None:
        for line in stream:
            lines.append(line.rstrip("\n"))  # noqa: PERF401  # each at once

    def until(self, condition: Callable[[list[str]], object]) -> None:
        until_in_thread(lambda: condition(self.lines) or self.process.poll() is not None)
        assert condition(self.lines), self.lines

    def end(self, number: int | None = None) -> tuple[int, str]:
        """Wait for its end, after a signal; return its code and what it wrote to stderr."""
        if number is not None:
            self.process.send_signal(number)
        code = self.process.wait(timeout=PATIENCE)
        for reader in self._readers:
            reader.join(timeout=PATIENCE)
        return code, "\n".join(self.errors)

    @property
    def documents(self) -> list[Any]:
        return [json.loads(line) for line in self.lines]


@pytest.fixture
def tail() -> Iterator[Callable[..., Tail]]:
    running: list[Tail] = []

    def start(*arguments: object) -> Tail:
        running.append(Tail(*arguments))
        return running[-1]

    yield start
    for one in running:
        one.process.kill()
        one.process.wait()
        for stream in (one.process.stdout, one.process.stderr):
            if stream is not None:
                stream.close()


def seqs(tail: Tail) -> list[int]:
    return [one["seq"] for one in tail.documents]


def test_events_of_a_tracker_come_from_the_spool_until_it_closes(
    tmp_path: Path, tail: Callable[..., Tail]
) -> None:
    """Seen before they are delivered, marked; each once; it ends with the Run, with 0."""
    with asynctrack.tracker(tmp_path / "runs", run_name="one", max_delay=600) as handler:
        handler.log_metric("n", 0)
        until_in_thread(lambda: any(tmp_path.glob("runs/asynctrack/v1/*/run=one")))
        follower = tail(tmp_path / "runs", "--until-closed", "--json", "--interval", 0.2)
        follower.until(lambda lines: len(lines) == 1)
        for number in range(1, 4):
            handler.log_metric("n", number)
        follower.until(lambda lines: len(lines) == 4)
        assert list(tmp_path.glob("runs/**/*.zst")) == [], "nothing was delivered yet"
        assert follower.process.poll() is None
    code, err = follower.end()
    assert (code, err) == (0, "")
    assert [one["data"]["value"] for one in follower.documents if one["event"] == "metric"] == [
        0, 1, 2, 3,
    ]  # fmt: skip
    assert all(one["spooled"] for one in follower.documents[:4])
    assert len(set(seqs(follower))) == len(follower.lines)


def test_feedback(tmp_path: Path, tail: Callable[..., Tail]) -> None:
    """What was said, who said so, and about what: the span, or else the trace."""
    with asynctrack.tracker(tmp_path, run_name="one") as handler:
        handler.log_feedback("a-trace", "thumbs", True, comment="nice\nand \x1b[31mred", user_id=7)
        handler.log_feedback("a-trace", "tone", "rude", span_id="a-span")
        handler.log_feedback("a-trace", "length", 0.25)
    follower = tail(tmp_path, "--until-closed", "--kind", "feedback")
    code, err = follower.end()
    assert (code, err) == (0, "")
    assert [line.split(None, 1)[1] for line in follower.lines] == [
        "feedback         thumbs  1 by 7 nice and \\x1b[31mred  a-trace",
        "feedback         tone  rude  a-span",
        "feedback         length  0.25  a-trace",
    ]


def test_ctrl_c_ends_it_cleanly(tmp_path: Path, tail: Callable[..., Tail]) -> None:
    """One word, no traceback, code 130, and what came is printed."""
    make_run(tmp_path, "one")
    follower = tail(tmp_path, "-n", 3)
    follower.until(lambda lines: len(lines) == 3)
    code, err = follower.end(signal.SIGINT)
    assert code == 130 and err.strip() == "Interrupted."


def test_from_s3_by_listing(s3: S3Server, tmp_path: Path, tail: Callable[..., Tail],
                            bucket: Callable[[Path], list[str]]) -> None:  # fmt: skip
    """Objects that are added are read as they are listed; --until-closed waits for manifests."""
    folder = make_run(tmp_path, "one", [{}])
    folder.manifest(state="open")
    place = bucket(tmp_path)
    follower = tail(*place, "--json", "-n", "all", "--interval", 0.1, "--until-closed")
    follower.until(lambda lines: len(lines) == 4)
    added = RunFolder(tmp_path / "more", run="one")
    added.artifact(chain(2, 5))
    put(s3, tmp_path / "more/asynctrack", "team/asynctrack/")
    follower.until(lambda lines: len(lines) == 8)
    assert follower.process.poll() is None
    folder.artifact(chain(2, 5))
    folder.manifest(accepted=8)
    put(s3, tmp_path / "asynctrack", "team/asynctrack/")
    assert follower.end() == (0, "")
    assert seqs(follower) == list(range(1, 9))
    assert not any(one["spooled"] for one in follower.documents)


@pytest.mark.parametrize("lines", (["-n", "all"], []))
def test_the_spool_is_followed_while_s3_is_away(
    lines: list[str], tmp_path: Path, tail: Callable[..., Tail], bucket: Callable[[Path], list[str]]
) -> None:
    """A Run of this machine is followed although its S3 does not answer."""
    destination = bucket_of("b", "asynctrack/v1/experiment=jokes/run=one/", "http://127.0.0.1:9")
    spool = SpoolFolder(default_spool_dir(), destination)
    segment = spool.segment([event(1)])
    address = "s3://b/asynctrack/v1/experiment=jokes/run=one/"
    follower = tail(address, "--json", *lines, "--endpoint-url", "http://127.0.0.1:9")
    follower.until(lambda lines: len(lines) == 1)
    spool.append(segment, event(2))
    follower.until(lambda lines: len(lines) == 2)
    assert seqs(follower) == [1, 2]
    until_in_thread(lambda: follower.errors)
    code, err = follower.end(signal.SIGINT)
    assert code == 130 and err.count("tried again") == 1


def test_kinds_and_spans(tmp_path: Path, tail: Callable[..., Tail]) -> None:
    """--kind picks events, with --spans kinds of spans; spans come as they end, with their time."""
    make_run(tmp_path, "one", [{}, {"error": HOSTILE}])
    common = (tmp_path, "-n", "all", "--until-closed", "--interval", 0.1)
    events = tail(*common, "--kind", "on_llm_end,chain_error", "--json")
    spans = tail(*common, "--spans", "--json")
    models = tail(*common, "--spans", "--kind", "chat_model")
    assert events.end() == spans.end() == models.end() == (0, "")
    assert [one["event"] for one in events.documents] == ["llm_end", "llm_end", "chain_error"]
    assert [(one["kind"], one["outcome"]) for one in spans.documents] == [
        ("chat_model", "ok"), ("chain", "ok"), ("chat_model", "ok"), ("chain", "error"),
    ]  # fmt: skip
    assert spans.documents[1]["duration"] == 1.0
    assert len(models.lines) == 2
    assert all("ChatOpenAI chat_model  gpt  998 ms  10 → 20 tokens" in one for one in models.lines)


def test_it_waits_for_a_run_where_told(tmp_path: Path, tail: Callable[..., Tail]) -> None:
    """With --wait a Run that is not there yet is waited for; without it the code is 2."""
    code, err = tail(tmp_path / "later").end()
    assert code == 2 and "there is no folder" in err
    follower = tail(tmp_path / "later", "--wait", "--until-closed", "--interval", 0.1, "--json")
    until_in_thread(lambda: follower.errors)
    assert follower.process.poll() is None
    make_run(tmp_path / "later", "one", [{}])
    code, err = follower.end()
    assert code == 0 and "waiting for" in err and seqs(follower) == [1, 2, 3, 4]


def test_nothing_logged_can_steer_the_terminal(tmp_path: Path, tail: Callable[..., Tail]) -> None:
    """What chains say is on one line each, as text."""
    made = [{"prompt": f"{HOSTILE}\nsecond line", "answer": HOSTILE, "error": HOSTILE}]
    make_run(tmp_path, "one", made)
    follower = tail(tmp_path, "-n", "all", "--until-closed")
    assert follower.end()[0] == 0
    assert len(follower.lines) == 4
    text = "\n".join(follower.lines)
    assert not {"\x1b", "\u202e"} & set(text) and "\\x1b" in text


@pytest.mark.parametrize("wrong", (["-n", "-1"], ["-n", "x"], ["--interval", "0"]))
def test_wrong_options_are_a_wrong_call(wrong: list[str], tmp_path: Path, command: Command) -> None:
    """argparse says which option, and exits with 2."""
    with pytest.raises(SystemExit) as caught:
        command("tail", tmp_path, *wrong)
    assert caught.value.code == 2


def test_a_folder_is_followed_as_it_grows(tmp_path: Path, tail: Callable[..., Tail]) -> None:
    """Of a writer elsewhere (a shared folder) objects are read as they appear, once."""
    folder = make_run(tmp_path, "one", [{}])
    folder.manifest(state="open")
    spool = SpoolFolder(default_spool_dir(), folder_of(tmp_path / "other"))
    follower = tail(tmp_path, "--json", "-n", 1, "--interval", 0.1, "--no-spool")
    follower.until(lambda lines: len(lines) == 1)
    folder.artifact(chain(2, 5), day="2026-01-02")
    follower.until(lambda lines: len(lines) == 5)
    folder.artifact(chain(2, 5), day="2026-01-03")
    folder.artifact(chain(3, 9), day="2026-01-03")
    follower.until(lambda lines: len(lines) == 9)
    assert seqs(follower) == list(range(4, 13))
    follower.end(signal.SIGINT)
    spool.die()


def test_dead_letters_are_named(tmp_path: Path, tail: Callable[..., Tail]) -> None:
    """What was refused for good is named once, also what is refused while one looks on."""
    folder = make_run(tmp_path / "runs")
    spool = SpoolFolder(tmp_path / "spool", folder_of(folder.path))
    first = spool.dead_letters([event(26), event(27)], "EntityTooLarge: \x1b[31mno")
    running = tail(folder.path, "--spool-dir", tmp_path / "spool", "-n", "1")
    running.until(lambda _: any(str(first) in line for line in running.errors))
    second = spool.dead_letters([event(28)], "no")
    running.until(lambda _: any(str(second) in line for line in running.errors))
    spool.segment([event(29, inputs="the end")])
    running.until(lambda lines: any("the end" in line for line in lines))
    code, errors = running.end(signal.SIGINT)
    spool.die()
    assert code == 130 and "\x1b" not in errors
    for path in (first, second):
        assert errors.count(str(path)) == 1
    assert "events 26 to 27, refused for good (EntityTooLarge: \\x1b[31mno)" in errors
    assert len(running.lines) == 2, "and none of them is shown as one of the Run's"
