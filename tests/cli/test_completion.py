"""Completion, asked of the shells themselves."""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import sys
import time
from multiprocessing.connection import wait
from pathlib import Path

import pytest

from asynctrack.cli import main
from tests.cli.conftest import Command

pytestmark = pytest.mark.may_block("no event loop in here")

ASKED = [
    ("asynctrack sh", ["show"]),
    ("asynctrack ver", ["verify"]),
    ("asynctrack spool re", ["replay"]),
    ("asynctrack completion ", ["bash", "fish", "zsh"]),
    ("asynctrack show --en", ["--endpoint-url"]),
    ("asynctrack tail --un", ["--until-closed"]),
    ("asynctrack diff --exit", ["--exit-code"]),
]


def script(shell: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "asynctrack.cli", "completion", shell],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip


@pytest.fixture(scope="module")
def bash_script() -> str:
    return script("bash")


def bash(completions: str, line: str, folder: Path) -> list[str]:
    """What bash offers for a line: its own function is called as readline calls it."""
    words = line.split(" ")
    quoted = " ".join(f"'{word}'" for word in words)
    asked = f"""
COMP_WORDS=({quoted})
COMP_CWORD={len(words) - 1}
COMP_LINE='{line}'
COMP_POINT=${{#COMP_LINE}}
function=$(complete -p asynctrack | sed 's/.*-F \\([^ ]*\\).*/\\1/')
$function asynctrack
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    made = subprocess.run(
        ["bash", "--norc", "-c", completions + asked],
        capture_output=True, text=True, check=True, cwd=folder,
    )  # fmt: skip
    return sorted(made.stdout.split())


@pytest.mark.parametrize(("line", "offered"), ASKED)
def test_bash(line: str, offered: list[str], bash_script: str, tmp_path: Path) -> None:
    """Commands, their options and choices."""
    assert bash(bash_script, line, tmp_path) == offered


def test_bash_offers_files_where_they_are_meant(bash_script: str, tmp_path: Path) -> None:
    """Folders for a Run, files for prices."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "rates.json").touch()
    assert bash(bash_script, "asynctrack show r", tmp_path) == ["runs"]
    assert "rates.json" in bash(bash_script, "asynctrack show --prices r", tmp_path)


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish(tmp_path: Path) -> None:
    """Asked by its own ``complete -C``."""
    completions = script("fish")
    for line, offered in ASKED:
        made = subprocess.run(
            ["fish", "--no-config", "-c", f"{completions}\ncomplete -C '{line}'"],
            capture_output=True, text=True, check=True, cwd=tmp_path,
            env={**os.environ, "HOME": str(tmp_path)},
        )  # fmt: skip
        assert sorted(row.split("\t")[0] for row in made.stdout.splitlines()) == offered


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh(tmp_path: Path) -> None:
    """Typed with a Tab at an interactive zsh: the line is completed."""
    (tmp_path / "_asynctrack").write_text(script("zsh"))
    terminal, tty = pty.openpty()
    process = subprocess.Popen(
        ["zsh", "-f", "-i"], stdin=tty, stdout=tty, stderr=tty, cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path), "TERM": "dumb"},
    )  # fmt: skip
    os.close(tty)
    try:
        begin = (
            f"PS1=; fpath=({tmp_path} $fpath); autoload -Uz compinit; compinit -u; echo re'ady'\n"
        )
        os.write(terminal, begin.encode())
        _read_until(terminal, r"ready\r?\n")
        for line, offered in ASKED:
            if len(offered) == 1:
                os.write(terminal, f"{line}\t".encode())
                _read_until(terminal, re.escape(offered[0]))
                os.write(terminal, b"\x15")  # Ctrl-U: an empty line again
    finally:
        process.kill()
        process.wait()
        os.close(terminal)


def _read_until(terminal: int, pattern: str) -> str:
    shown = ""
    deadline = time.monotonic() + 120
    while not re.search(pattern, shown):
        ready = wait([terminal], 1)
        assert time.monotonic() < deadline, shown
        if ready:
            shown += os.read(terminal, 4096).decode("utf-8", "replace")
    return shown


def test_without_shtab_the_extra_is_named(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is missing, and how to install it; the code is 2."""
    monkeypatch.setitem(sys.modules, "shtab", None)
    printed = command("completion", "bash")
    assert printed.code == 2 and "[read]'" in printed.err


def test_an_unknown_shell_is_a_wrong_call(capsys: pytest.CaptureFixture[str]) -> None:
    """argparse lists those there are."""
    with pytest.raises(SystemExit) as caught:
        main(["completion", "csh"])
    assert caught.value.code == 2
    assert "bash" in capsys.readouterr().err
