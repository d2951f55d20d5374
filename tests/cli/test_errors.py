"""What goes wrong on the command line: what was meant is named, and the exit code is documented."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from asynctrack import _errors, open_experiment, open_run
from asynctrack._errors import NotFoundError
from asynctrack.cli import main
from asynctrack.cli._common import CODES
from tests.cli.conftest import Command
from tests.cli.runs import HOSTILE, make_run, trace_id
from tests.cli.test_main import commands
from tests.e2e.waiting import until_in_thread
from tests.reading.making import RunFolder, event

pytestmark = pytest.mark.may_block("no event loop in here")

OUR_NAMES = tuple(_errors.__all__)


def said(error: str) -> str:
    """What was printed on standard error, if it names no class of ours."""
    assert not [name for name in OUR_NAMES if name in error], error
    assert "Traceback" not in error and "\x1b" not in error and "\u202e" not in error
    return error


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """An experiment with twelve Runs, the last of which began first."""
    for number in range(12):
        writer = f"{2_000_000 - number:012x}{'0' * 12}"
        folder = RunFolder(tmp_path / "runs", run=f"run-{number:02d}")
        folder.artifact([event(1, writer=writer)])
        folder.manifest(writer)
    return tmp_path / "runs"


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", "{}"), ("trace", "{}", "0"), ("tail", "{}", "--wait"), ("diff", "{}", "{}"),
        ("export", "{}", "--format", "jsonl", "--output", "-"),
    ],
    ids=lambda value: value[0],
)  # fmt: skip
def test_where_one_run_is_wanted_an_experiment_lists_its_runs(
    arguments: tuple[str, ...], runs: Path, command: Command
) -> None:
    """The ten newest, newest first, as they are named in the same place; exit code 2."""
    by_name = command(*(one.format("jokes") for one in arguments), "--root", runs)
    lines = said(by_name.err).splitlines()
    assert by_name.code == 2 and by_name.out == ""
    assert lines[1:11] == [f"  jokes/run-{number:02d}" for number in range(10)]
    assert lines[11] == "  … and 2 more"
    assert lines[12] == f"asynctrack ls jokes --root {runs} tells more of them"
    by_folder = command(*(one.format(runs) for one in arguments))
    named = by_folder.err.splitlines()[1].strip()
    assert by_folder.code == 2 and named.endswith("run=run-00/")
    assert open_run(named).name == "run-00"


def test_an_experiment_with_one_run_is_that_run(tmp_path: Path, command: Command) -> None:
    """By its name as by its folder."""
    make_run(tmp_path, "one")
    for options in (["jokes", "--root", tmp_path], [tmp_path]):
        assert command("show", *options, "--json").document["traces"] == 6
        assert command("verify", *options).code == 0


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (("show", "jokes/run-00x"), "did you mean 'jokes/run-00'?"),
        (("tail", "joks/run-03"), "did you mean 'jokes/run-03'?"),
        (("verify", "Jokes/run-11"), "did you mean 'jokes/run-11'?"),
        (("query", "jokse", "SELECT 1 FROM spans"), "did you mean 'jokes'?"),
        (("threads", "joke"), "did you mean 'jokes'?"),
        (("ls", "nothing-like-it"), "asynctrack ls"),
    ],
)
def test_an_unknown_name_below_a_root_names_the_nearest(
    arguments: tuple[str, ...], meant: str, runs: Path, command: Command
) -> None:
    """Of Runs and of experiments, in every command; exit code 2."""
    if arguments[1].startswith("J"):  # as the SDK writes names
        (runs / "asynctrack/v1/experiment=jokes/run=run-11").rename(
            runs / "asynctrack/v1/experiment=jokes/run=run-11-b"
        )
        meant = meant.replace("run-11", "run-11-b")
    printed = command(*arguments, "--root", runs)
    assert printed.code == 2 and meant in said(printed.err)


def test_an_unknown_folder_names_the_nearest(
    runs: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where SageMaker would be asked, and cannot be."""
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "ASYNCTRACK_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(runs.parent)
    for arguments in (["show", runs.parent / "rusn"], ["show", "rusn"], ["ls", "rusn"]):
        printed = command(*arguments)
        assert printed.code == 2
        assert f"there is no folder {runs.parent}/rusn; did you mean {runs}?" in said(printed.err)


def test_python_names_the_nearest(runs: Path) -> None:
    """open_run, and an experiment's Runs."""
    with pytest.raises(NotFoundError, match="did you mean 'jokes/run-07'"):
        open_run(("jokes", "run07"), root=runs)
    with pytest.raises(NotFoundError, match="did you mean 'jokes'"):
        open_experiment("jokess", root=runs)
    with pytest.raises(KeyError, match="did you mean 'run-07'"):
        open_experiment(runs)["run07"]


@pytest.mark.parametrize(
    ("sql", "meant"),
    [
        ("SELECT modell FROM spans", '"model"'),
        ("SELECT s.durationn FROM spans s", '"duration"'),
        ("SELECT * FROM span", "did you mean 'spans'? The tables are spans, traces, events"),
        ("FROM tracse", "did you mean 'traces'?"),
        ("DESCRIBE evnts", "did you mean 'events'?"),
        ("SELECT * FROM asdfghjkl", "The tables are"),
        ("SELECT * FROM pg_table", "The tables are"),
        ("SELECT quantile_dis(duration, 0.5) FROM spans", '"quantile_disc"'),
        ("SELECT * FROM spans WHERE kind = tool", "Texts take quotes: 'x'"),
        ("SELECT _no FROM traces", "DESCRIBE spans lists the columns"),
        (f'SELECT "{HOSTILE}" FROM spans', "\\x1b]0;owned"),
        ("SELECT * FROM inside.traces", 'schema "inside" does not exist'),
        ("SELEC 1", "syntax error"),
    ],
)
def test_what_duckdb_says_of_an_unknown_name(
    sql: str, meant: str, tmp_path: Path, command: Command
) -> None:
    """It names what was meant, of our tables and columns only; nothing reaches the terminal."""
    make_run(tmp_path, "one")
    printed = command("query", tmp_path, sql)
    assert printed.code == 2 and meant in said(printed.err)
    asked_for = sql.replace('"', "")
    for hidden in ("_no", "_start", "pg_tables", "duckdb_", "sqlite_", "inside."):
        assert hidden not in printed.err or hidden in asked_for


@pytest.mark.parametrize(
    ("options", "meant"),
    [
        (["--kind", "llm_ned"], "did you mean 'llm_end'? The kinds are agent_action"),
        (["--kind", "chain_end,tool_strat"], "did you mean 'tool_start'?"),
        (["--kind", "zzz"], "of the kind 'zzz'. The kinds are"),
        (["--kind", "tool"], "'tool' is a kind of spans: give --spans"),
        (["--kind", "llm_end", "--spans"], "'llm_end' is a kind of events: leave out --spans"),
        (["--kind", "toool", "--spans"], "did you mean 'tool'?"),
    ],
)
def test_an_unknown_kind_is_told(
    options: list[str], meant: str, tmp_path: Path, command: Command
) -> None:
    """It used to show nothing, for ever."""
    make_run(tmp_path, "one")
    printed = command("tail", tmp_path, "--until-closed", *options)
    assert printed.code == 2 and meant in said(printed.err) and printed.out == ""


def test_known_kinds_are_shown(tmp_path: Path, command: Command) -> None:
    """Of events and of spans; as callbacks are called, too; and what LangChain calls a chain."""
    make_run(tmp_path, "one")
    for options, lines in (
        (["--kind", "on_llm_end"], 6), (["--kind", "chain_end,chat_model_start"], 12),
        (["--kind", "chat_model", "--spans"], 6), (["--kind", "graph", "--spans"], 0),
    ):  # fmt: skip
        printed = command("tail", tmp_path, "--until-closed", "-n", "all", *options)
        assert (printed.code, len(printed.out.splitlines())) == (0, lines), printed.err


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["shwo", "x"], "did you mean 'show'?"),
        (["show", "x", "--jsno"], "did you mean '--json'?"),
        (["spool", "ls", "--jsno"], "did you mean '--json'?"),
        (["demo", "--style", "clasic"], "did you mean 'classic'?"),
        (["export", "x", "--format", "parquett"], "did you mean 'parquet'?"),
        ([f"{HOSTILE}"], "\\x1b]0;owned"),
    ],
)
def test_an_unknown_word_names_the_nearest(
    arguments: list[str], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A command, an option, a choice."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2 and meant in said(capsys.readouterr().err)


def test_errors_of_s3_name_the_bucket(
    bucket: Callable[[Path], list[str]],
    tmp_path: Path,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A bucket that is not there is 2; S3's own word, which may change, is 1."""
    make_run(tmp_path, "one")
    place, endpoint = bucket(tmp_path)
    missing = command("ls", "s3://no-such-bucket-here/x", endpoint)
    assert missing.code == 2 and "there is no bucket 'no-such-bucket-here'" in said(missing.err)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    refused = command("ls", place, endpoint)
    assert refused.code == 1
    assert f"s3://{place.split('/')[2]}: SignatureDoesNotMatch" in said(refused.err)


def damaged(root: Path) -> Path:
    """A Run one of whose objects is not what its manifest lists."""
    make_run(root, "bad")
    one = next(root.rglob("*.jsonl*"))
    one.write_bytes(b"x")
    return root


EVERY = tuple(sorted(set(commands()) - {"spool", "demo", "guide", "completion", "view"}))
"""The commands that read a place."""
MORE = {
    "trace": ["0"], "thread": ["x"], "search": ["x"], "query": ["SELECT 1 FROM spans"],
    "export": ["--format", "jsonl", "--output", "-"], "dataset": ["--output", "-"],
}  # fmt: skip


def arguments_of(name: str, place: object) -> list[object]:
    return [name, *[place] * (2 if name == "diff" else 1), *MORE.get(name, [])]


@pytest.mark.parametrize("name", EVERY)
def test_exit_code_2_is_for_what_is_not_there(
    name: str, runs: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder, a Run below a root, an empty name, an option's value, the AWS profile."""
    for place, options in (
        (runs / "nowhere", []), ("jokes/unknown", ["--root", runs]), ("", []),
        ("jokes/one", ["--profile", "nobody"]),
    ):  # fmt: skip
        printed = command(*arguments_of(name, place), *options)
        assert (printed.code, printed.out) == (2, ""), (place, printed)
        assert said(printed.err).startswith("asynctrack: ")
    with pytest.raises(SystemExit) as ended:
        main([*map(str, arguments_of(name, runs)), "--no-such-option"])
    assert ended.value.code == 2


TABLE: tuple[tuple[int, list[str]], ...] = (
    (0, ["ls", "{good}"]), (0, ["show", "{good}"]), (0, ["trace", "{good}", trace_id(1)]),
    (0, ["tail", "{good}", "--until-closed"]), (0, ["threads", "{good}"]),
    (0, ["search", "{good}", "joke"]), (0, ["search", "{good}", "no such phrase"]),
    (0, ["diff", "{good}", "{good}"]), (0, ["diff", "{good}", "{good}", "--exit-code"]),
    (0, ["query", "{good}", "SELECT 1 FROM spans"]), (0, ["verify", "{good}"]),
    (0, ["export", "{good}", "--format", "jsonl", "--output", "-"]),
    (0, ["dataset", "{good}", "--output", "-"]), (1, ["dataset", "{bad}", "--output", "-"]),
    (2, ["dataset", "{good}", "--output", "-", "--where", "wrong = 1"]),
    (0, ["guide"]), (0, ["completion", "bash"]),
    (1, ["verify", "{bad}"]), (1, ["query", "{bad}", "SELECT name FROM spans"]),
    (1, ["export", "{bad}", "--format", "jsonl", "--output", "-"]),
    (0, ["query", "{bad}", "SELECT name FROM spans", "--set-aside"]),
    (2, ["trace", "{good}", "fffff"]), (2, ["thread", "{good}", "nobody"]),
    (2, ["query", "{good}", "SELECT wrong FROM spans"]), (2, ["guide", "nothing"]),
    (2, ["show", "{good}", "--since", "never"]), (2, ["show", "{good}", "--prices", "{good}/no"]),
    (2, ["spool", "ls", "--spool-dir", "{good}/no-spool"]),
    (2, ["view", "{good}/nowhere", "--no-open"]),
)  # fmt: skip


@pytest.mark.parametrize(("code", "arguments"), TABLE, ids=lambda one: str(one)[:60])
def test_exit_codes_are_the_documented_ones(
    code: int, arguments: list[str], tmp_path: Path, command: Command
) -> None:
    """0 it worked; 1 it did not, or what was checked is not in order; 2 called wrongly, or what is
    needed is not there."""
    make_run(tmp_path / "good", "one")
    damaged(tmp_path / "bad")
    places = {"good": tmp_path / "good", "bad": tmp_path / "bad"}
    printed = command(*(one.format(**places) for one in arguments))
    assert printed.code == code, printed.err
    said(printed.err)


def test_every_documented_code_is_in_the_table() -> None:
    """Of each command there is a row, and the guide tells the same codes as --help."""
    here = {arguments[0] for _, arguments in TABLE}
    assert {*commands()} - here <= {"compact", "demo"}  # tested beside what they do
    guide = (Path(_errors.__file__).parent / "guide/commands.md").read_text(encoding="utf-8")
    told = guide.split("**Exit codes**:")[1].split("\n\n")[0]
    for text in ("0 it worked", "1 it did not", "2 called wrongly", "130", "141"):
        assert text in " ".join(told.split()) and text in CODES


def test_ctrl_c_is_130(tmp_path: Path) -> None:
    """Of a command that follows."""
    make_run(tmp_path, "one")
    process = subprocess.Popen(
        [sys.executable, "-m", "asynctrack.cli", "tail", tmp_path, "-n", "1"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ},
    )  # fmt: skip
    assert process.stdout is not None
    assert "chain_end" in process.stdout.readline()
    until_in_thread(lambda: process.poll() is None)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, said(err).strip()) == (130, "Interrupted.")
