"""The command that installs what is missing fits how the package was installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import asynctrack
from asynctrack._errors import MissingExtraError
from asynctrack._install import Installation, command, program

CLONE = {"url": "file:///home/me/my%20code", "dir_info": {"editable": True}}
FOLDER = {"url": "file:///home/me/code", "dir_info": {}}
GIT = {
    "url": "https://me:secret@git.example/asynctrack.git",
    "vcs_info": {"vcs": "git", "commit_id": "0123abc", "requested_revision": "main"},
}
WHEEL = {"url": "https://files.example/asynctrack.whl?token=secret", "archive_info": {}}


@pytest.mark.parametrize(
    ("here", "said"),
    [
        (Installation(), "pip install 'asynctrack[view]'"),
        (Installation(python=".venv/bin/python", on_path=False),
         ".venv/bin/python -m pip install 'asynctrack[view]'"),
        (Installation(origin=CLONE), "pip install -e '/home/me/my code[view]'"),
        (Installation(origin=FOLDER), "pip install '/home/me/code[view]'"),
        (Installation(origin=GIT),
         "pip install 'asynctrack[view] @ git+https://git.example/asynctrack.git@main'"),
        (Installation(origin=WHEEL),
         "pip install 'asynctrack[view] @ https://files.example/asynctrack.whl'"),
        (Installation(of_user=True), "pip install --user 'asynctrack[view]'"),
        (Installation(of_system=True),
         "python3 -m venv .venv && .venv/bin/pip install 'asynctrack[view]'"),
        (Installation(python="/opt/e/bin/python", installer="uv", has_pip=False),
         "uv pip install --python /opt/e/bin/python 'asynctrack[view]'"),
        (Installation(installer="uv", tool="uv", extras=("s3",)),
         "uv tool install 'asynctrack[s3,view]'"),
        (Installation(installer="uv", tool="uv", origin=CLONE),
         "uv tool install --editable '/home/me/my code[view]'"),
        (Installation(tool="pipx", extras=("view", "read")),
         "pipx install --force 'asynctrack[read,view]'"),
    ],
)  # fmt: skip
def test_the_command_fits(here: Installation, said: str) -> None:
    """pip in an environment or not, an editable clone, a repository, the system's Python, uv and
    uv's tools, pipx; what a tool has already stays, and no password is shown."""
    assert command(here, "view") == said


def installed_in(prefix: Path, origin: dict[str, Any] | None, **files: str) -> list[str]:
    """Make a virtual environment that has the package without its extras, and return the words
    that it prints for one."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", prefix], check=True)
    (site,) = prefix.glob("lib/python*/site-packages")
    metadata = site / f"asynctrack-{asynctrack.__version__}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: asynctrack\nVersion: 1\n")
    (metadata / "INSTALLER").write_text(files.pop("INSTALLER", "pip\n"))
    if origin is not None:
        (metadata / "direct_url.json").write_text(json.dumps(origin))
    for name, text in files.items():
        (prefix / name).write_text(text)
    code = "from asynctrack._install import install_command; print(install_command('view'))"
    stub = "import sys, types; m = types.ModuleType('asynctrack'); m.__path__ = [{!r}]; "
    package = str(Path(asynctrack.__file__).parent)
    # Only that module: the dependencies are not in that environment.
    lines = f"{stub.format(package)}sys.modules['asynctrack'] = m; {code}"
    return subprocess.run(
        [prefix / "bin/python", "-c", lines], check=True, capture_output=True, text=True,
        cwd=prefix.parent, env={"PATH": os.environ["PATH"]},
    ).stdout.splitlines()  # fmt: skip


RECEIPT = """\
[tool]
requirements = [{ name = "asynctrack", extras = ["s3", "read"] }]
entrypoints = [
    { name = "asynctrack", install-path = "/home/me/.local/bin/asynctrack", from = "asynctrack" },
]
"""
SHARED = """\
[tool]
requirements = [
    { name = "jupyter" },
    { name = "asynctrack", extras = ["s3"] },
]
entrypoints = [
    { name = "jupyter", install-path = "/home/me/.local/bin/jupyter", from = "jupyter" },
]
"""
PIPX = json.dumps(
    {"main_package": {"package": "asynctrack", "package_or_url": "asynctrack[read]"},
     "injected_packages": {}}
)  # fmt: skip


@pytest.mark.parametrize(
    ("origin", "files", "said"),
    [
        (None, {}, "e/bin/python -m pip install 'asynctrack[view]'"),
        (CLONE, {}, "e/bin/python -m pip install -e '/home/me/my code[view]'"),
        (None, {"INSTALLER": "uv"}, "uv pip install --python e/bin/python 'asynctrack[view]'"),
        (None, {"INSTALLER": "uv", "uv-receipt.toml": RECEIPT},
         "uv tool install 'asynctrack[read,s3,view]'"),
        (None, {"INSTALLER": "uv", "uv-receipt.toml": SHARED},
         "uv pip install --python e/bin/python 'asynctrack[view]'"),
        (None, {"pipx_metadata.json": PIPX}, "pipx install --force 'asynctrack[read,view]'"),
        (None, {"pipx_metadata.json": "{"}, "pip install 'asynctrack[view]'"),
    ],
    ids=("pip", "editable", "uv", "uv tool", "uv tool with others", "pipx", "broken"),
)  # fmt: skip
def test_how_it_was_installed_is_found_out(
    origin: dict[str, Any] | None, files: dict[str, str], said: str, tmp_path: Path
) -> None:
    """In a real environment, by what installers leave there; a broken file is no failure."""
    assert installed_in(tmp_path / "e", origin, **files) == [said]


def test_the_error_says_it() -> None:
    """What needs the package, the package, and the command for this very environment."""
    error = MissingExtraError("asynctrack view", "uvicorn", "view", "a note")
    assert str(error).startswith("asynctrack view needs uvicorn, which is not installed: ")
    assert "[view]" in str(error) and str(error).endswith(" (a note)")


def test_the_program_is_named_as_it_can_be_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its name where the shell finds it, else by its path; ``python -m`` has no path."""
    script = tmp_path / "my env/bin/asynctrack"
    script.parent.mkdir(parents=True)
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/usr/bin")
    assert program(str(script)) == program("my env/bin/asynctrack") == "'my env/bin/asynctrack'"
    assert program("/x/asynctrack/cli/__main__.py") == "asynctrack"
    monkeypatch.setenv("PATH", str(script.parent))
    assert program(str(script)) == "asynctrack"


def test_a_folder_inside_this_one_is_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip would look for a package of that name."""
    monkeypatch.chdir(tmp_path)
    for folder, said in ((tmp_path / "code", "'./code[s3]'"), (tmp_path, "'.[s3]'")):
        origin = {"url": folder.as_uri(), "dir_info": {}}
        assert command(Installation(origin=origin), "s3") == f"pip install {said}"
