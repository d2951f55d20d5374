"""Temporary folders: gone afterwards, also those of processes that were killed."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from asynctrack._reading.scratch import Scratch

_HOLD = """
import sys
from asynctrack._reading.scratch import Scratch
scratch = Scratch("test")
(scratch.path / "secret").write_text("prompt")
print(scratch.path, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_it_is_private_and_goes(place: Path) -> None:
    """Only its owner may look into it; after the block nothing is left, nor when it is dropped."""
    with Scratch("test") as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        (folder / "file").write_text("x")
    assert list(place.iterdir()) == []
    forgotten = Scratch("test")
    forgotten.close()
    forgotten.close()
    dropped = Scratch("test")
    assert dropped.path.exists()
    del dropped
    assert list(place.iterdir()) == []


def test_what_a_killed_process_left_is_removed(place: Path) -> None:
    """The next one removes it; what is used, what is not ours and what has another name stays."""
    held = subprocess.Popen(
        [sys.executable, "-c", _HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert held.stdout is not None
    folder = Path(held.stdout.readline().strip())
    for name in ("asynctrack-test-stranger", "asynctrack-other"):
        (place / name).mkdir()
    (place / "asynctrack-test-link").symlink_to(place / "asynctrack-other")
    (place / "asynctrack-other" / "lock").touch()
    stays = {path.name for path in place.iterdir()}
    try:
        with Scratch("test"):
            assert (folder / "secret").exists(), "its process lives"
    finally:
        held.send_signal(signal.SIGKILL)
        held.communicate()
    assert folder.exists()
    with Scratch("test") as mine:
        assert not folder.exists() and mine.exists()
    assert {path.name for path in place.iterdir()} == stays - {folder.name}


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to make a folder that is another's")
def test_folders_of_others_stay(place: Path) -> None:
    """What belongs to another user is not touched, whatever is in it."""
    folder = place / "asynctrack-test-theirs"
    folder.mkdir()
    (folder / "lock").touch()
    os.chown(folder, 12345, 12345)
    with Scratch("test"):
        assert folder.exists()
