"""``asynctrack demo`` from end to end, as a process of its own."""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from asynctrack import open_experiment, verify
from asynctrack.cli import main
from asynctrack.cli._screen import Screen, printable
from asynctrack.demo._folder import new_folder
from asynctrack.demo._models import named_server, scripted_server, why_unreachable
from tests.e2e.waiting import until_in_thread
from tests.support.foreign import watched

COMMAND = [sys.executable, "-m", "asynctrack.cli"]


def run(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    environment = {**(environment or os.environ), "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True, text=True, timeout=280, env=environment, cwd=cwd,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the demo runs, and leaves its events."""
    return tmp_path_factory.mktemp("here")


@pytest.fixture(scope="module")
def document(folder: Path) -> Any:
    """What the whole demo prints with --json, parsed: it was told of a model server that is not
    there, and of a proxy that is not there."""
    nobody = "http://127.0.0.1:9"
    finished = run(
        "demo", "--style", "both", "--json", cwd=folder,
        **{**os.environ, "OPENAI_BASE_URL": f"{nobody}/v1", "OPENAI_API_KEY": "sk-of-the-user",
           "OPENAI_MODEL": "my-model", "HTTP_PROXY": nobody, "http_proxy": nobody},
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == ""
    return json.loads(finished.stdout)


@pytest.mark.timeout(300)
def test_it_leaves_its_events_in_a_folder(document: Any, folder: Path) -> None:
    """All of them, verified; another demo does not touch it."""
    assert document["folder"] == "asynctrack-demo"
    report = verify(folder / "asynctrack-demo")
    accepted = sum(one["statistics"]["accepted"] for one in document["outcomes"])
    assert report.ok and report.events == accepted
    assert len(open_experiment(folder / "asynctrack-demo")) == 6


def test_a_folder_that_is_there_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one has a number."""
    monkeypatch.chdir(tmp_path)
    assert [str(new_folder()) for _ in range(3)] == [
        "asynctrack-demo", "asynctrack-demo-2", "asynctrack-demo-3",
    ]  # fmt: skip


@pytest.mark.timeout(300)
def test_three_scenarios_in_two_styles_are_six_runs(document: Any) -> None:
    """Each scenario is a Run of its own with its model's parameters, in either style."""
    rows = {row["TrialComponentName"]: row for row in document["rows"]}
    names = [f"scenario-{n}{style}" for style in ("", "-classic") for n in (1, 2, 3)]
    assert list(rows) == [f"asynctrack-demo-{name}" for name in names]
    for name, row in rows.items():
        classic = name.endswith("-classic")
        expected = "gpt-3.5-turbo-instruct" if classic else "gpt-4o-mini"
        assert row["gen_ai.request.model"] == expected
        assert row["gen_ai.request.temperature"] == 0.1
        assert row["answer_characters - Count"] == 1
        assert row["asynctrack.events"].startswith("s3://")
        assert row["asynctrack.manifest"].endswith(".json")


@pytest.mark.timeout(300)
def test_everything_is_delivered(document: Any) -> None:
    """Every accepted event is delivered, none is dropped, in a few objects below the address."""
    assert len(document["outcomes"]) == 6
    for outcome, row in zip(document["outcomes"], document["rows"], strict=True):
        statistics = outcome["statistics"]
        assert statistics["accepted"] == statistics["delivered"] > 5
        assert statistics["dropped"] == {}
        keys = document["keys"][outcome["run"]]
        assert all(key.startswith(row["asynctrack.events"]) for key in keys)
        artifacts = [key for key in keys if "/dt=" in key and key.endswith(".jsonl.zst")]
        assert len(artifacts) == statistics["artifacts"] < statistics["accepted"]
        assert len(keys) == len(artifacts) + 1


@pytest.mark.timeout(300)
def test_the_scenarios_answer_as_they_are_meant_to(document: Any) -> None:
    """A joke about the topic, a review of the play, the age to the power of 1.51."""
    for outcome in document["outcomes"]:
        wanted = {1: "fish", 2: 'Review: "Documentary about good log files"', 3: "1327.27"}
        assert wanted[outcome["scenario"]] in outcome["answer"]


@pytest.mark.timeout(300)
def test_a_prompt_and_its_answer_come_back_from_s3(document: Any) -> None:
    """The logged call is read at the address in the data frame, and is the first scenario's."""
    logged = document["logged"]
    assert logged["address"] == document["rows"][0]["asynctrack.events"]
    assert logged["prompt"] == "Tell me a joke about fish."
    assert logged["answer"] == document["outcomes"][0]["answer"]
    assert logged["events"] == document["outcomes"][0]["statistics"]["accepted"]


@pytest.mark.timeout(300)
def test_the_overhead_was_measured(document: Any) -> None:
    """Both handlers were measured on the eight callbacks that the chain makes, by both clocks."""
    overhead = document["overhead"]
    assert overhead["callbacks"] == 8 and overhead["chain"] > 0
    for variant in ("empty", "asynctrack"):
        for clock in ("thread", "process"):
            measured = overhead[variant][clock]
            assert measured["low"] <= measured["value"] <= measured["high"]
    assert overhead["life"] > 0 and overhead["life_cpu"] > 0


@pytest.fixture(scope="module")
def report(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[subprocess.CompletedProcess[str], Path]:
    """A demo without --json on a machine where nobody has switched off any telemetry, and the file
    with the addresses beyond this machine that it asked for."""
    cwd = tmp_path_factory.mktemp("foreign")
    file = cwd / "addresses"
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("SAGEMAKER_")
    }
    watching = watched(environment, file)
    return run("demo", "--scenario", "2", "--no-overhead", cwd=cwd, **watching), file


@pytest.mark.timeout(300)
def test_nothing_leaves_this_machine(
    report: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    """The demo asks for no address beyond this machine: the SDK's telemetry is off."""
    finished, file = report
    assert finished.returncode == 0, finished.stderr
    assert file.read_text() == ""


@pytest.mark.timeout(300)
def test_the_report_for_a_human(report: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    """Without --json there is a report that ends with what to do next, and no noise."""
    finished, _ = report
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == ""
    assert "dataframe(): 1 rows" in finished.stdout
    assert "  │ You are a playwright." in finished.stdout
    assert "_manifest/" in finished.stdout and ".jsonl.zst" in finished.stdout
    assert "What it costs" not in finished.stdout
    following = finished.stdout.split("What to do next")[1]
    assert "asynctrack view asynctrack-demo " in following
    assert "asynctrack demo --aws real" in following


@pytest.mark.timeout(300)
def test_ctrl_c_ends_it_quietly_and_takes_the_servers_along(tmp_path: Path) -> None:
    """An interrupt of the whole group is one line and exit code 130, and no server stays."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "demo", "--style", "both"],
        stdout=subprocess.DEVNULL,
        stderr=terminal,
        start_new_session=True,
        cwd=tmp_path,
    )
    os.close(terminal)
    said = b""
    try:
        while b"Scenario 1" not in said:
            said += os.read(controller, 1024)
        os.killpg(process.pid, signal.SIGINT)
        while piece := _read_terminal(controller):
            said += piece
        assert process.wait(240) == 130
    finally:
        process.kill()
        process.wait()
        os.close(controller)
    assert said.decode().rstrip().endswith("Interrupted.")
    assert b"Traceback" not in said
    until_in_thread(lambda: not _any_left(process.pid))


def _any_left(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _read_terminal(controller: int) -> bytes:
    try:
        return os.read(controller, 1024)
    except OSError:  # Linux: nobody has the other end open any more
        return b""


def test_without_a_command_it_says_where_to_start(capsys: pytest.CaptureFixture[str]) -> None:
    """No arguments are no error: they lead to the demo."""
    assert main([]) == 0
    assert "asynctrack demo " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, "AWS_ACCESS_KEY_ID"),
        ({"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}, "AWS_REGION"),
    ],
    ids=["no credentials", "no region"],
)
def test_a_real_account_needs_credentials_and_a_region(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, environment: dict[str, str], wanted: str
) -> None:
    """Without them nothing is run, the message says what to set, and the exit code is 2."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    finished = run("demo", "--aws", "real", cwd=tmp_path)
    assert finished.returncode == 2
    assert wanted in finished.stderr and "nothing was run" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_a_wrong_option_is_refused(tmp_path: Path) -> None:
    """A scenario that does not exist is a usage error."""
    assert run("demo", "--scenario", "4", cwd=tmp_path).returncode == 2


def test_the_environments_model_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """OPENAI_BASE_URL and OPENAI_MODEL are taken as they are; a password in one is not shown."""
    monkeypatch.setenv("OPENAI_BASE_URL", "http://me:secret@127.0.0.1:9/v1")
    monkeypatch.setenv("OPENAI_MODEL", "my-model")
    server = named_server()
    assert (server.base_url, server.chat_model) == ("http://me:secret@127.0.0.1:9/v1", "my-model")
    assert server.shown == "http://127.0.0.1:9/v1" and not server.local
    with scripted_server() as scripted:
        assert scripted.local and scripted.base_url != server.base_url
        assert why_unreachable(scripted) is None


@pytest.mark.parametrize("silent", (False, True), ids=("refused", "silent"))
def test_a_model_server_that_is_not_there_is_told_in_time(
    silent: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One line, exit code 2, and nothing is run: whether nobody listens, or nobody answers."""
    monkeypatch.chdir(tmp_path)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        if silent:
            listening.listen()
        port = listening.getsockname()[1]
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{port}/v1")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        began = time.monotonic()
        assert main(["demo", "--llm", "openai"]) == 2
        # Five seconds of waiting, and what a busy machine takes beside it; not ten minutes.
        assert time.monotonic() - began < 60
    said = capsys.readouterr().err
    why = "did not answer within 5 s" if silent else "cannot be reached ("
    assert f"http://127.0.0.1:{port}/v1 {why}" in said and said.count("\n") == 1
    assert [*tmp_path.iterdir()] == []


def test_a_model_server_must_be_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """--llm openai says which variables name it."""
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    assert main(["demo", "--llm", "openai"]) == 2
    assert "neither OPENAI_API_KEY nor OPENAI_BASE_URL is set" in capsys.readouterr().err


def test_logged_texts_cannot_steer_the_terminal() -> None:
    """Control characters, bidirectional marks and lone surrogates are shown, not sent."""
    text = "a\x1b]0;title\x07b\r\x9b2J\u202ec\ud800\x85"
    assert printable(text) == "a\\x1b]0;title\\x07b\\r\\x9b2J\\u202ec\\ud800\\x85"
    assert printable("one\ntwo é 漢") == "one\ntwo é 漢"
    assert printable("one\ntwo", lines=False) == "one\\ntwo"


def test_logged_texts_are_no_markup() -> None:
    """rich's markup and line breaks in a logged text are printed as they are."""
    out = io.StringIO()
    screen = Screen(out)
    hostile = "[red]x[/red] [link=http://e]y[/link]\nWhat to do next"
    screen.quote("Answer", hostile)
    screen.table(["column"], [[hostile]])
    printed = out.getvalue()
    assert printed.count("[red]x[/red] [link=http://e]y[/link]") == 2
    assert "\nWhat to do next" not in printed


def test_without_rich_the_same_is_printed_in_plain_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """rich is optional: the report is the same words without it."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    out = io.StringIO()
    screen = Screen(out)
    screen.heading("Heading")
    screen.table(["run", "events"], [["one\x1b", "12"]])
    assert out.getvalue() == "\nHeading\nrun      events\none\\x1b  12\n"
