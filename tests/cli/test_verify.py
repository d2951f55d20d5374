"""``asynctrack verify``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from asynctrack._spool.layout import default_spool_dir
from tests.cli.conftest import Command
from tests.cli.runs import make_run
from tests.reading.making import event
from tests.reading.spooling import SpoolFolder, folder_of

pytestmark = pytest.mark.may_block("no event loop in here")


def test_all_there_is_0(
    tmp_path: Path, command: Command, bucket: Callable[[Path], list[str]]
) -> None:
    """Every event once and every checksum matching, of a Run and of all below a place."""
    make_run(tmp_path, "one")
    make_run(tmp_path, "two")
    for place in ([tmp_path], bucket(tmp_path)):
        printed = command("verify", *place)
        assert (printed.code, printed.err) == (0, "")
        assert printed.out.count("all there exactly once") == 2
        assert "ok: 48 events in 6 objects" in printed.out
        shown = command("verify", *place, "--json").document
        assert shown["ok"] and shown["complete"] and len(shown["writers"]) == 2
    one = command("verify", "jokes/one", "--root", tmp_path)
    assert one.code == 0 and "ok: 24 events" in one.out


def test_what_is_missing_is_1_and_named(tmp_path: Path, command: Command) -> None:
    """An object that is gone is named, with its events, and where to look."""
    folder = make_run(tmp_path, "one")
    gone = sorted(folder.path.glob("dt=*/*"))[1]
    gone.unlink()
    printed = command("verify", tmp_path)
    assert printed.code == 1
    assert (
        f"missing: events 9 to 16 ({gone})" in printed.out and "Not on this machine" in printed.out
    )
    shown = command("verify", tmp_path, "--json")
    assert shown.code == 1
    assert shown.document["writers"][0]["missing"][0]["first_seq"] == 9


def test_what_is_damaged_is_1(tmp_path: Path, command: Command) -> None:
    """A changed byte is found."""
    folder = make_run(tmp_path, "one")
    path = next(folder.path.glob("dt=*/*"))
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    printed = command("verify", tmp_path)
    assert printed.code == 1 and "damaged" in printed.out and "PROBLEMS" in printed.out


def test_what_waits_here_is_1_and_says_how_to_deliver_it(tmp_path: Path, command: Command) -> None:
    """Events in this machine's spool are named with their file and the command."""
    folder = make_run(tmp_path, "one")
    folder.manifest(state="open", accepted=26)
    spool = SpoolFolder(default_spool_dir(), folder_of(folder.path))
    segment = spool.segment([event(25), event(26)])
    spool.die()
    printed = command("verify", tmp_path)
    assert printed.code == 1 and "INCOMPLETE" in printed.out
    assert f"waiting in this machine's spool: events 25 to 26 ({segment.path})" in printed.out
    assert f"asynctrack spool replay {spool.writer}" in printed.out
    blind = command("verify", tmp_path, "--no-spool")
    assert blind.code == 1 and "not delivered yet: events 25 to 26" in blind.out


def test_nothing_there_is_2(tmp_path: Path, command: Command) -> None:
    """A place without a Run is a wrong call."""
    assert command("verify", tmp_path).code == 2
