"""``asynctrack spool``: what it shows, what it delivers, and what a hostile spool cannot do."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from asynctrack._spool.folder import WriterFolder
from asynctrack._spool.layout import (
    default_spool_dir,
    is_alive,
    spool_places,
    writer_folder,
    writers,
)
from asynctrack._spool.segment import Shape
from asynctrack.cli import main
from asynctrack.cli._spool_state import address
from tests.delivery.test_replay import Dead, event
from tests.e2e.waiting import until_in_thread
from tests.spool.test_segment import WRITER
from tests.support.auditor import assert_exactly_once, audit_folder, audit_s3
from tests.support.processes import is_asleep
from tests.support.s3 import REGION, S3Server
from tests.support.spoiled import make_rubbish

OTHER = "b" * 24
pytestmark = pytest.mark.may_block("the event loop in here is the command's own, nobody's chain")
COMMAND = [sys.executable, "-m", "asynctrack.cli", "spool"]


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def dead(spool: Path, tmp_path: Path) -> Dead:
    """A writer that died with seven events in two segments."""
    found = Dead(spool, tmp_path / "out")
    found.segment(4, ".sealed")
    found.segment(3)
    return found


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """The command in this process: exit code, output, errors."""
    code = main(["spool", *map(str, arguments)])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def document(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, Any]:
    code, out, err = run(capsys, *arguments, "--json")
    assert err == ""
    return code, json.loads(out)


def describe(dead: Dead, **info: Any) -> None:
    with WriterFolder(dead.path) as folder:
        folder.describe(info)


# -- ls --------------------------------------------------------------------------------------------


def test_ls_shows_living_and_dead(
    dead: Dead, spool: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who has how much, where it belongs, and what to do; looking changes nothing."""
    before = {path: path.read_bytes() for path in spool.rglob("*") if path.is_file()}
    with WriterFolder(writer_folder(spool, OTHER)) as living:
        living.new_segment(Shape(4096, 10)).let_go()
        code, out, _ = run(capsys, "ls", "--spool-dir", spool)
        assert code == 0
        assert re.search(rf"{WRITER}\s+dead\s+7\s+\d+\s+{dead.root}", out)
        assert re.search(rf"{OTHER}\s+living\s+0\s+0\s+it does not say", out)
        assert f"7 events wait in {spool}" in out and "asynctrack spool replay" in out
        _, shown = document(capsys, "ls", "--spool-dir", spool)
        assert is_alive(living.path), "looking has not taken its lock"
    one, other = shown["writers"]
    assert (one["writer_id"], one["state"], one["events"], one["segments"]) == (
        WRITER,
        "dead",
        7,
        2,
    )
    assert one["bytes"] == sum(len(event(WRITER, seq)) for seq in range(1, 8))
    assert (one["run"], one["destination"]) == ("r1", str(dead.root))
    assert (other["state"], other["events"]) == ("living", 0)
    assert {path: path.read_bytes() for path in before} == before


def test_an_empty_spool_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    """A machine on which nothing ever waited: nothing waits, in either form."""
    code, out, _ = run(capsys, "ls")
    assert code == 0 and f"0 events wait in {default_spool_dir()}" in out
    assert document(capsys, "ls") == (0, {"spool_dirs": [str(default_spool_dir())], "writers": []})
    assert run(capsys, "verify")[0] == run(capsys, "replay")[0] == 0
    assert not default_spool_dir().exists()


def test_all_places_are_one_spool(
    dead: Dead, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where trackers had to take their second choice, all commands look there as well."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    temporary = next(place for place in spool_places() if place.private is not None)
    assert temporary.private is not None
    temporary.private.mkdir(mode=0o700)
    dead.path.parents[1].rename(temporary.path)
    with WriterFolder(writer_folder(default_spool_dir(), OTHER)) as living:
        living.new_segment(Shape(4096, 10)).let_go()
        code, out, _ = run(capsys, "ls")
        assert code == 0
        assert f"0 events wait in {default_spool_dir()}," in out
        assert f"7 events wait in {temporary.path}," in out
        _, shown = document(capsys, "ls")
        assert shown["spool_dirs"] == [str(default_spool_dir()), str(temporary.path)]
        assert [one["events"] for one in shown["writers"]] == [0, 7]
    assert document(capsys, "verify")[1]["events"] == 7
    exported = tmp_path / "exported"
    assert run(capsys, "export", "--output", exported)[0] == 0
    assert len(exported.read_bytes().splitlines()) == 7
    code, _, errors = run(capsys, "replay", "x" * 24)
    assert code == 2 and str(temporary.path) in errors
    assert document(capsys, "replay", WRITER)[1]["delivered"] == 7
    assert_exactly_once(audit_folder(tmp_path / "out"), 7)


def test_a_folder_that_is_no_spool_is_a_wrong_call(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A typing error must not look like an empty spool; the same for the environment variable."""
    for action in ("ls", "verify", "replay"):
        code, _, err = run(capsys, action, "--spool-dir", tmp_path / "typo")
        assert code == 2 and "there is no spool in" in err and "typo" in err
    monkeypatch.setenv("ASYNCTRACK_SPOOL_DIR", str(tmp_path / "other"))
    assert run(capsys, "ls")[0] == 2


def test_ls_says_how_to_read_dead_letters(
    dead: Dead, spool: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are counted, and named is the command that shows them; nothing is said without any."""
    assert "--dead-letters" not in run(capsys, "ls", "--spool-dir", spool)[1]
    (dead.path / f"{1:012d}-{2:012d}.dead").write_bytes(b"{}\n")
    _, out, _ = run(capsys, "ls", "--spool-dir", spool)
    assert "1 files of dead letters" in out and "asynctrack show RUN --dead-letters" in out


def test_the_environment_names_the_spool(
    dead: Dead, spool: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same variable that a tracker reads."""
    monkeypatch.setenv("ASYNCTRACK_SPOOL_DIR", str(spool))
    _, shown = document(capsys, "ls")
    assert [one["events"] for one in shown["writers"]] == [7]


# -- verify ----------------------------------------------------------------------------------------


def test_verify_reads_every_record(
    dead: Dead, spool: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sound: 0. One damaged byte: 1, with file and number. A header beyond help: 1, named."""
    code, out, _ = run(capsys, "verify", "--spool-dir", spool)
    assert code == 0 and "all checksums match" in out
    sealed, opened = dead.path / "00000001.sealed", dead.path / "00000002.open"
    dead.damage(sealed, 1)
    make_rubbish(opened)
    code, out, _ = run(capsys, "verify", "--spool-dir", spool)
    assert code == 1
    assert f"DAMAGED  {sealed}: 1 damaged events (seq 2)" in out
    assert f"DAMAGED  {opened}: not a segment of asynctrack's" in out
    code, shown = document(capsys, "verify", "--spool-dir", spool)
    assert code == 1
    found = {key: shown[key] for key in ("ok", "events", "segments", "damaged", "unreadable")}
    assert found == {"ok": False, "events": 3, "segments": 2, "damaged": 1, "unreadable": 1}
    assert len(shown["problems"]) == 2


def test_verify_does_not_forget_what_was_set_aside(
    dead: Dead, spool: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A replay keeps damaged segments: they are damage until somebody deletes them."""
    dead.damage(dead.path / "00000001.sealed", 2)
    assert run(capsys, "replay", "--spool-dir", spool)[0] == 1
    assert run(capsys, "verify", "--spool-dir", spool)[0] == 1
    (dead.path / "00000001.damaged").unlink()
    assert run(capsys, "verify", "--spool-dir", spool)[0] == 0


# -- replay ----------------------------------------------------------------------------------------


def test_replay_into_the_folder_of_the_run(
    dead: Dead, spool: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Everything is where its writer would have put it, and nothing waits any more."""
    code, out, _ = run(capsys, "replay", "--spool-dir", spool)
    assert code == 0 and "7 events delivered, of 2 segments" in out
    audit = audit_folder(dead.out)
    assert_exactly_once(audit, {WRITER: 7})
    assert [(one.first_seq, one.last_seq) for one in audit.objects] == [(1, 4), (5, 7)]
    assert writers(spool) == []


def test_replay_leaves_the_living_alone(
    dead: Dead, spool: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A writer that lives delivers itself; it is said, and no failure."""
    with WriterFolder(dead.path):
        code, shown = document(capsys, "replay", "--spool-dir", spool)
    assert (code, shown["delivered"], shown["living"]) == (0, 0, [WRITER])


def test_replay_of_chosen_writers(
    dead: Dead, spool: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only the ones named; a name that is not there is a wrong call, and nothing is done."""
    other = Dead(spool, dead.out, OTHER)
    other.segment(2)
    assert run(capsys, "replay", "--spool-dir", spool, WRITER, "c" * 24)[0] == 2
    assert len(writers(spool)) == 2
    assert run(capsys, "replay", "--spool-dir", spool, OTHER)[0] == 0
    assert [path.name for path in writers(spool)] == [WRITER]


def test_replay_goes_on_after_damage(
    dead: Dead, spool: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is sound is delivered, what is not is named and kept; the exit code says so."""
    dead.damage(dead.path / "00000001.sealed", 0)
    other = Dead(spool, dead.out, OTHER)
    make_rubbish(other.segment(2))
    code, out, _ = run(capsys, "replay", "--spool-dir", spool)
    assert code == 1 and "6 events delivered" in out
    assert "1 damaged events (seq 1) set aside in" in out and "left as it is" in out
    assert (dead.path / "00000001.damaged").exists() and (other.path / "00000001.open").exists()


def test_a_writer_that_does_not_say_where(
    dead: Dead, spool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is asked for with --to; then the Run's folder is made of what the spool does say."""
    describe(dead, experiment="jokes", run="r/../9", destination=None)
    code, out, _ = run(capsys, "replay", "--spool-dir", spool)
    assert code == 1 and "give --to" in out and len(list(dead.path.glob("0*"))) == 2
    code, _, _ = run(capsys, "replay", "--spool-dir", spool, "--to", tmp_path / "rescue")
    assert code == 0
    assert_exactly_once(audit_folder(tmp_path / "rescue"), {WRITER: 7})
    folder = tmp_path / "rescue" / "asynctrack" / "v1" / "experiment=jokes" / "run=r_.._9"
    assert len(list(folder.glob("dt=*/*"))) == 2


def test_a_writer_of_before_that_had_not_asked_for_its_bucket(
    dead: Dead, spool: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An older version did not say that it meant the default bucket: nobody guesses that."""
    destination = {
        "kind": "s3", "bucket": None, "root": "", "region": REGION, "endpoint_url": None,
        "run": "https://api.sagemaker.us-east-1.amazonaws.com/e-r", "reached": False,
    }  # fmt: skip
    describe(dead, experiment="e", run="r", destination=destination)
    code, out, _ = run(capsys, "replay", "--spool-dir", spool)
    assert code == 1 and "give --to" in out and len(list(dead.path.glob("0*"))) == 2


def test_to_a_runs_own_folder(
    dead: Dead, spool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A place that is a Run's folder already is taken as it is."""
    place = tmp_path / "x" / "asynctrack" / "v1" / "experiment=e" / "run=r"
    assert run(capsys, "replay", "--spool-dir", spool, "--to", f"{place}/")[0] == 0
    assert len(list(place.glob("dt=*/*"))) == 2
    assert not dead.out.exists()


def test_a_spool_from_another_machine(
    dead: Dead, spool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Copied without its lock files and with other times: replayed all the same."""
    copied = tmp_path / "usb" / "spool"
    shutil.copytree(spool, copied, ignore=shutil.ignore_patterns("lock"))
    shutil.rmtree(spool)
    assert run(capsys, "verify", "--spool-dir", copied)[0] == 0
    assert run(capsys, "replay", "--spool-dir", copied)[0] == 0
    assert_exactly_once(audit_folder(dead.out), {WRITER: 7})
    assert writers(copied) == []


def test_a_place_that_cannot_be_written(
    dead: Dead, spool: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says which writer's events stay and why; other writers are delivered."""
    dead.out.write_text("a file in the way")
    other = Dead(spool, dead.out.with_name("out2"), OTHER)
    other.segment(2)
    code, out, _ = run(capsys, "replay", "--spool-dir", spool)
    assert code == 1 and "2 events delivered" in out
    assert f"NOT DELIVERED  {dead.path}" in out and "ENOTDIR" in out
    assert len(list(dead.path.glob("0*"))) == 2


@pytest.fixture
def keys(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """A real S3, whose keys are in the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret_key)
    return s3


def test_replay_into_s3(
    dead: Dead, spool: Path, keys: S3Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the environment's keys, at the address in the spool, where the Run's folder is."""
    root = "p/asynctrack/v1/experiment=e/run=r/"
    describe(
        dead,
        compression="gzip",
        destination={
            "kind": "s3",
            "bucket": keys.bucket,
            "root": root,
            "region": REGION,
            "endpoint_url": keys.endpoint_url,
            "path_style": True,
        },
    )
    _, shown = document(capsys, "ls", "--spool-dir", spool)
    assert shown["writers"][0]["destination"] == f"s3://{keys.bucket}/{root}"
    code, shown = document(capsys, "replay", "--spool-dir", spool)
    assert (code, shown["delivered"], shown["problems"]) == (0, 7, [])
    audit = audit_s3(keys.boto_client(), keys.bucket)
    assert_exactly_once(audit, {WRITER: 7})
    assert all(one.key.startswith(root) and one.key.endswith(".gz") for one in audit.objects)
    (manifest,) = audit.others
    assert re.fullmatch(rf"{root}_manifest/{WRITER}\.replayed-cli[0-9a-f]+-1\.json", manifest)


def test_replay_into_another_s3(
    dead: Dead, spool: Path, keys: S3Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """--to, --endpoint-url and --region, whatever the spool says."""
    arguments = ["--to", f"s3://{keys.bucket}/rescued", "--endpoint-url", keys.endpoint_url]
    code, out, _ = run(capsys, "replay", "--spool-dir", spool, *arguments, "--region", REGION)
    assert code == 0, out
    assert_exactly_once(audit_s3(keys.boto_client(), keys.bucket, "rescued/"), {WRITER: 7})


def test_missing_credentials_are_a_wrong_call(
    dead: Dead, spool: Path, s3: S3Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is delivered, nothing is lost, and it says what to set."""
    arguments = ["--to", f"s3://{s3.bucket}/x", "--endpoint-url", s3.endpoint_url]
    code, _, err = run(capsys, "replay", "--spool-dir", spool, *arguments, "--region", REGION)
    assert code == 2 and "AWS_PROFILE" in err
    assert len(list(dead.path.glob("0*"))) == 2


def test_a_bucket_that_is_gone_is_said_at_once(
    dead: Dead, spool: Path, keys: S3Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """No endless retries by hand: exit code 1, and the events stay."""
    arguments = ["--to", "s3://no-such-bucket/x", "--endpoint-url", keys.endpoint_url]
    code, out, _ = run(capsys, "replay", "--spool-dir", spool, *arguments, "--region", REGION)
    assert code == 1 and "NoSuchBucket" in out
    assert len(list(dead.path.glob("0*"))) == 2


def test_a_progress_bar_on_a_terminal(dead: Dead, spool: Path) -> None:
    """Segments done, of how many, on the terminal of stderr; nothing of it in the output."""
    terminal, tty = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "replay", "--spool-dir", str(spool)],
        stdout=subprocess.PIPE,
        stderr=tty,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    )
    os.close(tty)
    shown = b""
    while True:
        try:
            chunk = os.read(terminal, 4096)
        except OSError:  # how Linux says that the other end is closed
            break
        if not chunk:
            break
        shown += chunk
    os.close(terminal)
    out, _ = process.communicate(timeout=240)
    assert process.returncode == 0
    assert b"delivering" in shown and b"2 of 2 segments" in shown
    assert out.startswith(b"7 events delivered")


def test_ctrl_c_keeps_what_is_left(spool: Path, tmp_path: Path) -> None:
    """130, no traceback, and the rest is there for the next time."""
    dead = Dead(spool, tmp_path / "out")
    dead.segment(2)
    with WriterFolder(dead.path) as folder:
        folder.describe({"destination": {"kind": "s3", "bucket": "b", "root": "r/"}})
    silent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import socket; s = socket.create_server(('127.0.0.1', 0));"
            " print(s.getsockname()[1], flush=True); c = s.accept(); print('here', flush=True);"
            " import time; time.sleep(600)",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert silent.stdout is not None
    port = silent.stdout.readline().strip()
    process = subprocess.Popen(
        [
            *(*COMMAND, "replay", "--spool-dir", str(spool)),
            *("--region", REGION, "--endpoint-url", f"http://127.0.0.1:{port}"),
        ],
        stderr=subprocess.PIPE,
        env={**os.environ, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"},
    )
    try:
        assert silent.stdout.readline() == "here\n", "the request hangs"
        until_in_thread(lambda: is_asleep(process.pid))
        process.send_signal(signal.SIGINT)
        silent.kill()  # the thread of the request ends with its answer only
        _, err = process.communicate(timeout=240)
    finally:
        process.kill()
        silent.kill()
        silent.communicate()
    assert process.returncode == 130, err
    assert b"Traceback" not in err and b"Interrupted" in err
    assert len(list(dead.path.glob("*.open"))) == 1 and not is_alive(dead.path)


# -- export ----------------------------------------------------------------------------------------


def test_export_writes_what_waits(
    dead: Dead, spool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Plain NDJSON, private, in order; the spool keeps all of it."""
    output = tmp_path / "events.jsonl"
    code, out, _ = run(capsys, "export", "--spool-dir", spool, "--output", output)
    assert code == 0 and "7 events written" in out
    assert output.read_bytes() == b"".join(event(WRITER, seq) for seq in range(1, 8))
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    assert len(list(dead.path.glob("0*"))) == 2
    code, _, err = run(capsys, "export", "--spool-dir", spool, "--output", output)
    assert code == 2 and "exists already" in err, "nothing is overwritten"


def test_export_to_standard_output(dead: Dead, spool: Path) -> None:
    """Only events there, for a pipe; the rest goes to stderr."""
    finished = subprocess.run(
        [*COMMAND, "export", "--spool-dir", str(spool), "--output", "-"],
        capture_output=True,
        timeout=240,
    )
    assert finished.returncode == 0
    assert [json.loads(line)["seq"] for line in finished.stdout.splitlines()] == [*range(1, 8)]
    assert b"7 events written" in finished.stderr


def test_export_names_what_it_leaves_out(
    dead: Dead, spool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Damaged events are not in the file, and the exit code says so."""
    dead.damage(dead.path / "00000001.sealed", 1)
    arguments = ["export", "--spool-dir", spool, "--output"]
    code, out, _ = run(capsys, *arguments, tmp_path / "events.jsonl")
    assert code == 1 and "LEFT OUT" in out and "seq 2 damaged" in out
    code, shown = document(capsys, *arguments, tmp_path / "again.jsonl")
    assert (code, shown["events"], len(shown["problems"])) == (1, 6, 1)


# -- hostile content -------------------------------------------------------------------------------


HOSTILE = "\x1b]0;owned\x07[red]x[/red]\n0 events wait\u202e\r\x9b2J"


@pytest.mark.parametrize("action", ["ls", "verify", "replay"])
def test_a_spool_cannot_steer_the_terminal(
    dead: Dead, spool: Path, capsys: pytest.CaptureFixture[str], action: str
) -> None:
    """Names in it are shown escaped, as they are, on their own line; JSON is plain ASCII."""
    describe(
        dead,
        experiment=HOSTILE,
        run=HOSTILE,
        destination={"kind": "folder", "root": f"{dead.path}/writer.json/{HOSTILE}"},
    )
    evil = dead.path / f"00000009{HOSTILE.replace('/', '')}.open"
    evil.write_bytes(b"x")
    for arguments in ((), ("--json",)):
        _, out, err = run(capsys, action, "--spool-dir", spool, *arguments)
        for character in "\x1b\x07\u202e\r\x9b":
            assert character not in out + err
        assert not any(line.startswith("0 events wait") for line in out.splitlines())
    assert "owned" in out


@pytest.mark.parametrize(
    "destination",
    [
        None,
        [],
        "x",
        {},
        {"kind": "s3"},
        {"kind": "s3", "bucket": "b"},
        {"kind": "folder"},
        {"a": 1},
    ],
)
def test_an_address_that_makes_no_sense_is_none(destination: Any) -> None:
    """Whatever a damaged or hostile description holds, it is no address."""
    assert address(destination) == ""


def test_a_name_in_the_spool_cannot_leave_the_place(
    dead: Dead, spool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With --to, everything lands below the place that the user named."""
    describe(dead, experiment="../../../evil", run="../../x", destination=None)
    place = tmp_path / "deep" / "er" / "rescue"
    assert run(capsys, "replay", "--spool-dir", spool, "--to", place)[0] == 0
    stored = list(tmp_path.rglob("*.zst"))
    assert len(stored) == 2 and all(path.is_relative_to(place) for path in stored)


def test_the_help_names_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    """What a script has to know stands in the help of each command."""
    for action in ("ls", "verify", "replay", "export"):
        with pytest.raises(SystemExit) as ended:
            main(["spool", action, "--help"])
        assert ended.value.code == 0
        assert "Exit codes: 0" in " ".join(capsys.readouterr().out.split())
