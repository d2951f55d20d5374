"""Where the spool is, and what is in it: shared by the write and the read path, changes nothing.

::

    <spool_dir>/v1/<writer>/lock            held by the writer as long as it lives
                            writer.json     where its events belong; no secrets
                            00000001.open   the lines of one artifact each, see ``segment_format``
                            00000001.idx

``folder`` owns and changes it.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl
    import pwd

DIRECTORY_VERSION: Final = "v1"
INFO: Final = "writer.json"
LOCK: Final = "lock"
HELD: Final = ".held"
"""Ending of the files of traces that wait for their end to be kept or left out."""
_MAX_INFO_BYTES: Final = 1 << 20
_NAMES: Final = 4
"""Folders among the temporary files that are tried."""
LOCKED: Final = {errno.EAGAIN, errno.EACCES, errno.EDEADLK}
"""How the operating system says that somebody else holds a lock."""


@dataclass(frozen=True, slots=True)
class SpoolPlace:
    """A folder that may hold the spool.

    Attributes:
        path: The spool's folder.
        given: Whether the user named it: nothing is held against it, and no other is tried.
        base: What must be there already, as nobody but its owner makes it: a home.
        private: The folder on the way that lies among everybody's, and must be ours alone.
        refused: Why it is none at all; empty where nothing is known against it.
    """

    path: Path
    given: bool = False
    base: Path | None = None
    private: Path | None = None
    refused: str = ""

    @property
    def last(self) -> bool:
        """Whether those after it are no better: they are other names for where others sit on this
        one, and nobody does. Blocks."""
        return self.private is not None and not (os.path.lexists(self.private) and self.why_not())

    def why_not(self, uid: int | None = None) -> str:
        """Return what speaks against using it as it is now; empty for nothing. Changes nothing.

        Args:
            uid: Who wants to use it; None for the process's user.
        """
        if self.refused or self.given:
            return self.refused
        uid = _uid() if uid is None else uid
        try:
            if self.base is not None and not self.base.is_dir():
                return f"there is no folder {self.base}"
            if self.private is not None:
                # Whoever may write beside it may have made it, to read along or to be followed.
                found = self.private.lstat()
                if not stat.S_ISDIR(found.st_mode):
                    return f"{self.private} is no folder"
                if found.st_uid == uid and found.st_mode & 0o77 and sys.platform != "win32":
                    return f"others may look into {self.private}"
            else:
                found = self.path.stat()
            return "" if found.st_uid == uid else "it belongs to another user"
        except FileNotFoundError:
            return ""
        except OSError as error:
            return error.strerror or str(error)


def spool_places(
    given: str | os.PathLike[str] | None = None,
    environ: Mapping[str, str] | None = None,
    uid: int | None = None,
) -> tuple[SpoolPlace, ...]:
    """Return where the spool may be, the best place first: a tracker takes the first that works.

    The user's own word (``spool_dir=…``) is the only place. Else it is the state directory, which
    the XDG Base Directory Specification names for data that should survive restarts, and where
    that cannot be used, a private folder among the temporary files. Whoever reads or delivers
    what trackers left behind looks into all of them.

    Args:
        given: The folder that the user names, if any.
        environ: The environment; None takes the process's.
        uid: Whose; None for the process's user, as it is now: a program may change it.
    """
    if given:
        return (SpoolPlace(Path(given).expanduser().absolute(), given=True),)
    environ = os.environ if environ is None else environ
    uid = _uid() if uid is None else uid
    inside = Path("asynctrack", "spool")
    places = []
    state = Path(environ.get("XDG_STATE_HOME", ""))
    if state.is_absolute():  # as the standard says
        places.append(SpoolPlace(state / inside))
    temporary = _temporary(environ, uid)
    if "AWS_LAMBDA_FUNCTION_NAME" in environ:
        return (*places, *temporary)  # nothing else can be written to there
    home = _home(environ, uid)
    if home is None:
        why = "there is no home: HOME names none, and the user has no entry in passwd"
        places.append(SpoolPlace(Path("~/.local/state") / inside, refused=why))
    elif home / ".local" / "state" != state:
        places.append(SpoolPlace(home / ".local" / "state" / inside, base=home))
    return (*places, *temporary)


def default_spool_dir(environ: Mapping[str, str] | None = None) -> Path:
    """Return the folder that trackers take by default, where it can be used."""
    return next(place.path for place in spool_places(environ=environ) if not place.refused)


def usable_spools(places: Iterable[SpoolPlace]) -> list[Path]:
    """Return the spools that are there, the best one first, to look for what waits. Blocks.

    A service that now runs as another user delivers what it left as the one before, where it may;
    among everybody's temporary files only what is ours alone is believed.
    """
    places = tuple(places)
    found: dict[str, Path] = {}
    for place in places:
        if place.refused or (place.private is not None and place.why_not()):
            continue
        if os.path.isdir(place.path / DIRECTORY_VERSION):  # noqa: PTH112  # raises nothing
            # One that is the only one is no other name for another one.
            real = os.path.realpath(place.path) if len(places) > 1 else ""
            found.setdefault(real, place.path)
    return [*found.values()]


def writer_folder(spool_dir: Path, writer_id: str) -> Path:
    """Return the path of a writer's folder."""
    return spool_dir / DIRECTORY_VERSION / writer_id


def writers(spool_dir: Path) -> list[Path]:
    """Return the folders of all writers, oldest first, whoever owns them."""
    top = spool_dir / DIRECTORY_VERSION
    paths = [top / name for name in sorted(folder_names(spool_dir)) if name[0] != "."]
    return [path for path in paths if path.is_dir()]


def folder_names(spool_dir: Path) -> list[str]:
    """Return the names of all folders of writers, also of those that are being made."""
    try:
        return os.listdir(spool_dir / DIRECTORY_VERSION)  # noqa: PTH208  # of thousands
    except OSError:
        return []


def is_alive(folder: Path) -> bool:
    """Tell whether a writer lives, or somebody replays its events right now. Changes nothing."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY | os.O_CLOEXEC)
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


def held_files(folder: Path) -> list[Path]:
    """Return a writer's files of traces that it held, oldest first; see ``journal``."""
    return sorted(folder.glob(f"*{HELD}"))


def dead_letters_in(folder: Path) -> list[Path]:
    """Return a writer's files of events that were refused for good, oldest first."""
    return sorted(folder.glob("*.dead"))


def division(path: Path) -> set[int]:
    """Return the numbers from which on what is in a file becomes another artifact."""
    try:
        noted = path.with_suffix(".parts").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return set()
    return {int(number) for number in noted if number.isdecimal()}


def read_description(folder: Path) -> dict[str, Any]:
    """Return what a writer says about itself; empty where that is missing or damaged."""
    try:
        with (folder / INFO).open("rb") as file:
            value = json.loads(file.read(_MAX_INFO_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _uid() -> int:
    return 0 if sys.platform == "win32" else os.geteuid()  # as files are owned


def _home(environ: Mapping[str, str], uid: int) -> Path | None:
    """Return a user's home as the shell knows it, else the one in passwd."""
    home = Path(environ.get("USERPROFILE" if sys.platform == "win32" else "HOME", ""))
    if home.is_absolute():
        return home
    if sys.platform != "win32":
        try:
            home = Path(pwd.getpwuid(uid).pw_dir)
        except KeyError:  # containers run under ids that no file knows
            return None
    return home if home.is_absolute() else None


def _temporary(environ: Mapping[str, str], uid: int) -> list[SpoolPlace]:
    """Return private places among the temporary files.

    Several, by names that any later tracker finds again: somebody else may sit on the first.
    """
    folder = Path(environ.get("TEMP" if sys.platform == "win32" else "TMPDIR", ""))
    if not folder.is_absolute():
        folder = Path("C:/Windows/Temp" if sys.platform == "win32" else "/tmp")  # noqa: S108  # checked
    name = f"asynctrack-{uid}"
    names = [name, *(f"{name}-{number}" for number in range(1, _NAMES))]
    return [SpoolPlace(folder / one / "spool", base=folder, private=folder / one) for one in names]
