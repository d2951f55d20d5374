"""The command line as a whole: help, names of Runs, exit codes, its end in every way."""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import asynctrack
from asynctrack.cli import COMMANDS, main, make_parser
from asynctrack.cli._common import Missing, plain
from asynctrack.cli._named import source_of
from asynctrack.cli._progress import progress
from tests.cli.conftest import Command
from tests.cli.runs import HOSTILE, make_run, trace_id
from tests.e2e.waiting import until_in_thread
from tests.support.processes import is_asleep
from tests.test_imports import HEAVY, modules_after, packages

pytestmark = pytest.mark.may_block("no event loop in here")

CLI = [sys.executable, "-m", "asynctrack.cli"]


def commands() -> dict[str, argparse.ArgumentParser]:
    """All commands with their parsers, those below others as well."""
    (actions,) = (
        action for action in make_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )  # fmt: skip
    return dict(actions.choices)


def test_help_is_quick_because_it_loads_nothing_heavy() -> None:
    """Neither AWS's libraries nor pandas, DuckDB, LangChain or rich."""
    code = """
import contextlib, io
from asynctrack.cli import main
with contextlib.redirect_stdout(io.StringIO()) as out:
    assert main([]) == 0
    try:
        main(["--help"])
    except SystemExit as ended:
        assert ended.code == 0
    try:
        main(["show", "--help"])
    except SystemExit as ended:
        assert ended.code == 0
"""
    assert packages(modules_after(code)) & HEAVY == set()


def test_without_a_command_it_says_what_to_do_next(command: Command) -> None:
    """All commands, where to start, and the exit codes."""
    printed = command()
    assert printed.code == 0 and "Start here:" in printed.out
    assert all(f"\n    {name}" in printed.out for name in commands())
    assert "130 Ctrl-C" in " ".join(printed.out.split())


def test_every_command_says_its_exit_codes_and_has_json() -> None:
    """In its own --help; only what prints no document has no --json."""
    assert list(COMMANDS) == sorted(COMMANDS)
    for name, parser in commands().items():
        if name == "spool":
            continue
        assert "Exit codes:" in (parser.epilog or ""), name
        options = {text for action in parser._actions for text in action.option_strings}
        assert "--json" in options or name in ("completion", "guide", "view"), name


def test_every_module_is_a_command() -> None:
    """Each name in the list is that of a command."""
    assert {f"_{name}" for name in commands()} == set(COMMANDS)


def options(**given: object) -> argparse.Namespace:
    return argparse.Namespace(**{"root": None, **given})


def test_how_a_run_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address, a folder that is there, or experiment/run below --root or $ASYNCTRACK_ROOT."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jokes/one").mkdir(parents=True)
    assert source_of("s3://b/p", options(root="x")) == ("s3://b/p", None)
    assert source_of("jokes/one", options()) == (Path("jokes/one"), None)
    assert source_of("jokes/one", options(root="runs")) == (("jokes", "one"), "runs")
    assert source_of("a/b", options()) == (("a", "b"), None)
    monkeypatch.setenv("ASYNCTRACK_ROOT", "s3://bucket")
    assert source_of("a/b", options()) == (("a", "b"), "s3://bucket")
    assert source_of("jokes", options()) == (Path("jokes"), None)
    for wrong in ("nowhere", "a/b/c", "/a/b", "a/", "../b", ""):
        with pytest.raises(Missing, match="no Run's name"):
            source_of(wrong, options(root="runs"))


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    """``asynctrack trace … | head -1``: no traceback, nothing on stderr, 141 as for any program."""
    make_run(tmp_path, "one", [{"answer": "word\n" * 200_000}])
    process = subprocess.Popen(
        [*CLI, "trace", str(tmp_path), trace_id(1), "--full"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline() == f"Trace {trace_id(1)}\n".encode()
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(timeout=240) == 141
    process.stderr.close()


def test_ctrl_c_does_not_wait_for_a_server_that_hangs(tmp_path: Path) -> None:
    """In the middle of a request that is never answered: at once, one word, 130."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(8)
        server.settimeout(240)
        process = subprocess.Popen(
            [*CLI, "ls", "s3://bucket/", "--endpoint-url",
             f"http://127.0.0.1:{server.getsockname()[1]}"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b",
                 "AWS_REGION": "us-east-1"},
        )  # fmt: skip
        connection, _ = server.accept()
        connection.settimeout(240)
        connection.recv(100)
        until_in_thread(lambda: is_asleep(process.pid))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=240)
        connection.close()
    assert (process.returncode, out, err.strip()) == (130, "", "Interrupted.")


def read_terminal(terminal: int) -> bytes:
    """Return all that is shown on a terminal until its programs have ended, and close it."""
    shown = b""
    while True:
        try:
            chunk = os.read(terminal, 4096)
        except OSError:
            break
        if not chunk:
            break
        shown += chunk
    os.close(terminal)
    return shown


def test_piped_output_has_no_colours_and_a_terminal_has(tmp_path: Path) -> None:
    """Escape codes go to terminals only; progress goes to stderr."""
    import pty

    make_run(tmp_path, "one")
    arguments = [*CLI, "show", str(tmp_path)]
    piped = subprocess.run(arguments, capture_output=True, check=True)
    assert b"\x1b" not in piped.stdout and piped.stderr == b""
    terminal, tty = pty.openpty()
    process = subprocess.Popen(
        arguments, stdout=tty, stderr=subprocess.PIPE,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "120"},
    )  # fmt: skip
    os.close(tty)
    shown = read_terminal(terminal)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0 and err == b""
    assert b"\x1b[1;36m" in shown and b"Percentiles" in shown


def test_progress_is_shown_on_a_terminal(tmp_path: Path) -> None:
    """On stderr, and gone afterwards: the output is the document alone."""
    import pty

    make_run(tmp_path, "one")
    terminal, tty = pty.openpty()
    process = subprocess.Popen(
        [*CLI, "show", str(tmp_path), "--json"], stdout=subprocess.PIPE, stderr=tty,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    )  # fmt: skip
    os.close(tty)
    shown = read_terminal(terminal)
    out, _ = process.communicate(timeout=240)
    assert json.loads(out)["traces"] == 6
    assert b"asynctrack: reading" in shown and b"24 events" in shown


def test_without_rich_everything_is_plain(tmp_path: Path) -> None:
    """rich is optional: the same text without it."""
    make_run(tmp_path, "one")
    hide = "import sys; sys.modules['rich'] = None; from asynctrack.cli import main; "
    made = subprocess.run(
        [sys.executable, "-c", f"{hide}sys.exit(main(['ls', {str(tmp_path)!r}]))"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert "jokes: 1 run, 6 traces" in made.stdout


def test_what_went_wrong_decides_the_code(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2 for what the caller can change, with what to do; 1 for what failed."""
    missing = command("show", tmp_path / "nowhere")
    assert missing.code == 2 and "there is no folder" in missing.err
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    unknown = command("show", "jokes/one", "--profile", "nobody")
    assert unknown.code == 2 and "AWS cannot be asked" in unknown.err and "nobody" in unknown.err
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setattr("asynctrack._backends.s3_read.ATTEMPTS", 1)
    away = command("ls", "s3://bucket/x", "--endpoint-url", "http://127.0.0.1:9")
    assert away.code == 1 and away.out == ""


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    """--version prints the package's."""
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"asynctrack {asynctrack.__version__}\n"


def test_numbers_that_json_lacks_are_text() -> None:
    """Documents are strict JSON: NaN and infinity as SageMaker stores them."""
    value = {1: [float("nan"), float("inf"), -0.5], "x": (1, None)}
    assert plain(value) == {"1": ["nan", "inf", -0.5], "x": [1, None]}


@pytest.mark.parametrize("columns", (60, 80, 100, 200))
def test_a_table_is_broken_and_never_cut_off(columns: int, tmp_path: Path) -> None:
    """On a terminal of any width every cell is there, and no line is wider than it."""
    import fcntl
    import pty
    import struct
    import termios

    make_run(tmp_path, "a-run-with-a-rather-long-name", [{"tokens": (123_456, 7)}])
    terminal, tty = pty.openpty()
    fcntl.ioctl(tty, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    process = subprocess.Popen(
        [*CLI, "ls", str(tmp_path)], stdout=tty, stderr=subprocess.DEVNULL, env=environment
    )
    os.close(tty)
    shown = read_terminal(terminal)
    assert process.wait(timeout=240) == 0
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode()).replace("\r", "")
    lines = text[text.index("jokes:") :].split("From manifests")[0].splitlines()[1:]
    assert max(map(len, lines)) <= columns
    table = "\n".join(lines)
    assert "123,456" in table and "…" not in table
    for cell in ("a-run-with-a-rather-long-name", "closed", "2026-01-01"):
        letters = iter("".join(table.split()))
        assert all(letter in letters for letter in cell), "in this order, if not beside each other"


@pytest.mark.parametrize("rich", (True, False))
def test_a_name_in_the_progress_cannot_steer_the_terminal(
    rich: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs are named in it, by whoever made their folders."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    if not rich:
        monkeypatch.setitem(sys.modules, "rich.console", None)
    with progress(f"reading {HOSTILE}", 10) as advance:
        advance(10)
    shown = terminal.getvalue()
    assert "[bold]not bold[/bold]" in shown and "10 of 10 events" in shown
    assert "\x1b]0;owned" not in shown and "\u202e" not in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show", "x", "--top", "many"], "'many' is not allowed: it must be a whole number"),
        (["show", "x", "--top", "-1"], "'-1' is not allowed"),
        (["tail", "x", "-n", "x"], "it must be a whole number, 0 or more, or 'all'"),
        (["tail", "x", "-n", "1.5"], "'1.5' is not allowed"),
        (["tail", "x", "--interval", "soon"], "'soon' is not allowed: more than 0 seconds"),
        (["view", "x", "--port", "70000"], "'70000' is not allowed"),
    ],
)
def test_what_an_option_may_be_is_told(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A value that is not allowed is named, and what is."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("name", ("show", "trace", "diff", "tail"))
def test_a_terminal_that_is_not_utf8(name: str, tmp_path: Path) -> None:
    """What it has no character for is a question mark, and never an error."""
    import pty

    make_run(tmp_path, "one", [{"answer": "日本 – ü"}])
    more = {
        "show": [], "trace": [trace_id(1)], "diff": [str(tmp_path)], "tail": ["--until-closed"],
    }[name]  # fmt: skip
    terminal, tty = pty.openpty()
    process = subprocess.Popen(
        [*CLI, name, str(tmp_path), *more], stdout=tty, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONIOENCODING": "ascii", "TERM": "xterm", "COLUMNS": "80"},
    )  # fmt: skip
    os.close(tty)
    shown = read_terminal(terminal)
    _, err = process.communicate(timeout=240)
    assert (process.returncode, err) == (0, b"")
    assert shown.isascii() and (b"?" in shown or name == "diff")


def test_traces_on_a_narrow_terminal_are_lines(tmp_path: Path) -> None:
    """Where the table does not fit, no name is broken into columns of two letters."""
    import pty

    make_run(tmp_path, "one", [{}])
    shown = {}
    for columns in ("80", "140"):
        terminal, tty = pty.openpty()
        process = subprocess.Popen(
            [*CLI, "show", str(tmp_path)], stdout=tty, stderr=subprocess.DEVNULL,
            env={**os.environ, "TERM": "xterm", "NO_COLOR": "1", "COLUMNS": columns},
        )  # fmt: skip
        os.close(tty)
        text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", read_terminal(terminal).decode())
        shown[columns] = text.replace("\r", "")
        assert process.wait(timeout=240) == 0
    assert re.search(rf"^{trace_id(1)}  joke\n  .* 2 spans  10 → 20 tokens", shown["80"], re.M)
    assert re.search(rf"{trace_id(1)}  joke .* 2 ", shown["140"])


def test_output_that_is_closed(tmp_path: Path) -> None:
    """A shell's ``>&-`` leaves no stream at all: there is nothing to write, and nothing fails."""
    make_run(tmp_path, "one")
    command = f"{shlex.join([*CLI, 'show', str(tmp_path)])} >&-"
    done = subprocess.run(["sh", "-c", command], capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
