"""The file that keeps the viewer's token: with it the address is the same tomorrow, and links last.

It is a password: nobody but its user may read it.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import stat
from pathlib import Path
from typing import Final

from asynctrack._errors import OptionError

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{22,200}")
_ALLOWED: Final = "a file with 22 to 200 letters, digits, - or _, or a new file: one is made then"
_FIRST_PORT: Final = 20_000
_PORTS: Final = 12_000
"""Ports that systems give to no outgoing connection, as they are set up."""


def kept_token(path: Path) -> str:
    """Return the token in a file; without the file make both. Blocks.

    Args:
        path: The file.

    Raises:
        OptionError: Others can read it, it is not this user's, or it holds no token.
    """
    path = path.expanduser()
    try:
        made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _read(path)
    except OSError as error:
        raise OptionError("token", str(path), f"{_ALLOWED} ({error.strerror})") from error
    token = secrets.token_urlsafe(32)
    with os.fdopen(made, "w", encoding="ascii") as file:
        file.write(f"{token}\n")
    return token


def port_of(token: str) -> int:
    """Return the port that belongs to a token: always the same one."""
    digest = hashlib.sha256(b"port " + token.encode()).digest()
    return _FIRST_PORT + int.from_bytes(digest[:8], "big") % _PORTS


def _read(path: Path) -> str:
    try:
        # A pipe would wait for whoever writes into it.
        with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise OptionError("token", str(path), _ALLOWED)
            if os.name == "posix":
                _refuse_others(path, status)
            content = file.read(1_000)
    except OSError as error:
        raise OptionError("token", str(path), f"{_ALLOWED} ({error.strerror})") from error
    token = content.decode("ascii", "replace").strip()
    if not _TOKEN.fullmatch(token):
        raise OptionError("token", str(path), _ALLOWED)
    return token


def _refuse_others(path: Path, status: os.stat_result) -> None:
    if status.st_uid != os.geteuid():
        raise OptionError("token", str(path), "a file of your own")
    if status.st_mode & 0o077:
        raise OptionError(
            "token", str(path), "a file that only you can read: who reads it can open the viewer."
            " Delete it, and a new one is made; or `chmod 600` it, if nobody has read it",
        )  # fmt: skip
