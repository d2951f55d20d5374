"""How to install what is missing, in the way in which this package was installed."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit, urlunsplit

NAME: Final = "asynctrack"
_RECEIPT: Final = re.compile(r'\{ name = "([^"]+)"(?:, extras = \[([^\]]*)\])?')
"""A requirement in uv's receipt; Python 3.10 has no tomllib."""


@dataclass(frozen=True, slots=True)
class Installation:
    """How the package was installed.

    Attributes:
        python: The interpreter, as somebody would type it.
        installer: Who did it: ``pip``, ``uv``, …; empty if unknown.
        tool: ``uv`` or ``pipx``, where it has an environment of the tool's for itself.
        extras: Those that the tool knows of; it would leave out others.
        has_pip: Whether pip is in its environment.
        on_path: Whether ``pip`` in the shell is that one.
        of_system: Whether the system's own packages are there, which pip leaves alone.
        of_user: Whether it is in the user's own folder of packages.
        origin: What ``direct_url.json`` says: a folder, a repository, an archive; else empty.
    """

    python: str = "python3"
    installer: str = "pip"
    tool: str = ""
    extras: tuple[str, ...] = ()
    has_pip: bool = True
    on_path: bool = True
    of_system: bool = False
    of_user: bool = False
    origin: Mapping[str, Any] = field(default_factory=dict)


def install_command(extra: str) -> str:
    """Return the command that installs an extra here.

    Args:
        extra: The extra's name.
    """
    try:
        return command(this_installation(), extra)
    except Exception:  # a hint is no reason to fail
        return command(Installation(), extra)


def command(here: Installation, extra: str) -> str:
    """Return the command that installs an extra.

    Args:
        here: How the package was installed.
        extra: The extra's name.
    """
    extras = sorted({extra, *here.extras}) if here.tool else [extra]
    wanted = _requirement(here, ",".join(extras))
    if here.tool == "uv":
        return f"uv tool install {wanted}"
    if here.tool == "pipx":
        return f"pipx install --force {wanted}"
    if here.of_system:
        return f"python3 -m venv .venv && .venv/bin/pip install {wanted}"
    if here.installer == "uv" and not here.has_pip:
        return f"uv pip install --python {shlex.quote(here.python)} {wanted}"
    pip = "pip" if here.on_path else f"{shlex.quote(here.python)} -m pip"
    return f"{pip} install {'--user ' if here.of_user else ''}{wanted}"


def this_installation() -> Installation:
    """Return how this package was installed. Blocks: reads a few small files."""
    import site
    import sysconfig
    from importlib.metadata import PackageNotFoundError, distribution
    from importlib.util import find_spec

    try:
        package = distribution(NAME)
    except PackageNotFoundError:  # a program in one file, a source tree
        return Installation()
    prefix = Path(sys.prefix)
    tool, extras = _tool(prefix)
    pip = shutil.which("pip")
    stdlib = Path(sysconfig.get_path("stdlib"))
    managed = sys.prefix == sys.base_prefix and (stdlib / "EXTERNALLY-MANAGED").exists()
    users = site.getusersitepackages() if site.ENABLE_USER_SITE else None
    try:
        origin = json.loads(package.read_text("direct_url.json") or "{}")
    except ValueError:
        origin = {}
    return Installation(
        python=_shortest(Path(sys.executable)),
        installer=(package.read_text("INSTALLER") or "").strip(),
        tool=tool,
        extras=extras,
        has_pip=find_spec("pip") is not None,
        on_path=pip is not None and Path(pip).parent == Path(sys.executable).parent,
        of_system=managed,
        of_user=users is not None and Path(str(package.locate_file(""))) == Path(users),
        origin=origin if isinstance(origin, dict) else {},
    )


def _tool(prefix: Path) -> tuple[str, tuple[str, ...]]:
    """Return the tool whose environment this is, and the extras it was told of.

    None where it was made for another program, or holds others, too: they would be gone.
    """
    receipt, metadata = prefix / "uv-receipt.toml", prefix / "pipx_metadata.json"
    if receipt.exists():
        text = receipt.read_text(encoding="utf-8").partition("\nentrypoints")[0]
        named = _RECEIPT.findall(text)
        if [name for name, _ in named] == [NAME]:
            return "uv", tuple(re.findall(r"[\w-]+", named[0][1]))
    if metadata.exists():
        document = json.loads(metadata.read_text(encoding="utf-8"))
        main = document["main_package"]
        if main["package"] == NAME and not document.get("injected_packages"):
            listed = re.search(r"\[([\w,\s-]*)\]", str(main.get("package_or_url")))
            return "pipx", tuple(re.findall(r"[\w-]+", listed[1])) if listed else ()
    return "", ()


def _requirement(here: Installation, extras: str) -> str:
    """Return what is installed, quoted for a shell: by its name, or from where it came."""
    url = here.origin.get("url")
    if not isinstance(url, str):
        return shlex.quote(f"{NAME}[{extras}]")
    parts = urlsplit(url)
    version_control = here.origin.get("vcs_info")
    if isinstance(version_control, dict):
        revision = version_control.get("requested_revision") or version_control.get("commit_id")
        at = f"@{revision}" if revision else ""
        clean = f"{version_control.get('vcs', 'git')}+{_without_secrets(url)}{at}"
        return shlex.quote(f"{NAME}[{extras}] @ {clean}")
    if parts.scheme == "file" and "dir_info" in here.origin:
        folder = Path(unquote(parts.path))
        flag = {"": "-e ", "uv": "--editable ", "pipx": "--editable "}[here.tool]
        editable = flag if (here.origin["dir_info"] or {}).get("editable") else ""
        return f"{editable}{shlex.quote(f'{_shortest(folder)}[{extras}]')}"
    return shlex.quote(f"{NAME}[{extras}] @ {_without_secrets(url)}")


def _without_secrets(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=""))


def _shortest(path: Path) -> str:
    """Return a path as somebody in this folder would type it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)
