"""Where the spool is, and what is in it: shared by the write and the read path, changes nothing.

::

    <spool_dir>/v1/<writer>/lock            held by the writer as long as it lives
                            writer.json     where its events belong; no secrets
                            00000001.open   the lines of one artifact each, see ``_segment_format``
                            00000001.idx

``_spool`` owns and changes it.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

DIRECTORY_VERSION: Final = "v1"
INFO: Final = "writer.json"
_MAX_INFO_BYTES: Final = 1 << 20
LOCKED: Final = {errno.EAGAIN, errno.EACCES, errno.EDEADLK}
"""How the operating system says that somebody else holds a lock."""


def default_spool_dir(environ: Mapping[str, str] | None = None) -> Path:
    """Return the folder under the user's state directory.

    ``$XDG_STATE_HOME/asynctrack/spool``, by default ``~/.local/state/asynctrack/spool``: see the
    XDG Base Directory Specification, which names it for data that should survive restarts.
    """
    environ = os.environ if environ is None else environ
    state = Path(environ.get("XDG_STATE_HOME", ""))
    if not state.is_absolute():  # as the standard says
        try:
            state = Path("~/.local/state").expanduser()
        except RuntimeError:  # a container's user without a home: private all the same
            state = _private_folder()
    return state / "asynctrack" / "spool"


def writer_folder(spool_dir: Path, writer_id: str) -> Path:
    """Return the path of a writer's folder."""
    return spool_dir / DIRECTORY_VERSION / writer_id


def writers(spool_dir: Path) -> list[Path]:
    """Return the folders of all writers, oldest first, whoever owns them."""
    try:
        return sorted(path for path in (spool_dir / DIRECTORY_VERSION).iterdir() if path.is_dir())
    except OSError:
        return []


def is_alive(folder: Path) -> bool:
    """Tell whether a writer lives, or somebody replays its events right now. Changes nothing."""
    try:
        descriptor = os.open(folder / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False  # nobody's
    try:
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in LOCKED
    finally:
        os.close(descriptor)
    return False


def waiting_segments(folder: Path) -> list[Path]:
    """Return a writer's files of lines that wait for delivery, oldest first."""
    return sorted((*folder.glob("*.open"), *folder.glob("*.sealed")))


def dead_letters_in(folder: Path) -> list[Path]:
    """Return a writer's files of events that were refused for good, oldest first."""
    return sorted(folder.glob("*.dead"))


def read_description(folder: Path) -> dict[str, Any]:
    """Return what a writer says about itself; empty where that is missing or damaged."""
    try:
        with (folder / INFO).open("rb") as file:
            value = json.loads(file.read(_MAX_INFO_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _private_folder() -> Path:
    """Return a folder among the temporary files that nobody else can look into."""
    path = Path(tempfile.gettempdir()) / f"asynctrack-{os.getuid()}"
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o77:
            return Path(tempfile.mkdtemp(prefix="asynctrack-"))  # somebody else waits there for us
    except OSError:
        pass  # it will be said when the first segment is made
    return path
