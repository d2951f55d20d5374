"""Where the index lies on this machine."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from asynctrack._errors import ReadError

VARIABLE: Final = "ASYNCTRACK_INDEX_DIR"
"""Names the folder in place of the user's cache."""
_PATTERN: Final = frozenset("*?[")


def unwritable(path: Path, error: OSError) -> ReadError:
    """Return what to say where a Run's folder in the index cannot be written."""
    return ReadError(
        f"the index of what is stored cannot be written to {path}: {error.strerror or error}."
        f" Nothing that is stored is lost; make room, or name another folder with {VARIABLE}"
    )


def place_of(environ: Mapping[str, str]) -> Path | None:
    """Return the folder of the index; None where the environment names none.

    The XDG Base Directory Specification names the place for what can be made again.
    """
    given = environ.get(VARIABLE)
    if given:
        here = os.path.expanduser(given)  # noqa: PTH111  # pathlib's raises for an unknown ~user
        return Path(here).absolute() / "index"
    cache = Path(environ.get("XDG_CACHE_HOME", ""))
    if not cache.is_absolute():
        home = Path(environ.get("HOME", ""))
        if not home.is_absolute():
            return None
        cache = home / ".cache"
    return cache / "asynctrack" / "index"


def is_usable(path: Path) -> bool:
    """Make the folder, and tell whether it is ours alone and can be written."""
    # DuckDB takes texts only, and some characters for a pattern, with other files in it.
    if not str(path).isprintable() or _PATTERN & set(str(path)):
        return False
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
    except OSError:
        return False
    private = stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o77
    return private and found.st_uid == os.getuid() and os.access(path, os.W_OK | os.X_OK)
