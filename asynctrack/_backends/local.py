"""The local backend: the same layout in a folder, no AWS at all.

Parameters and metrics are in the manifests, which is all that a reader needs; a Run of MLflow may
have them as well.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, Final

from asynctrack._backends.protocol import Record
from asynctrack._common.offload import offload
from asynctrack._errors import BackendError, PausingError, TransientError
from asynctrack._format import run_prefix

# What only somebody at the machine can mend; anything else may pass by itself.
_PAUSING = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR}

MAX_FOLDERS: Final = 1_000
"""Folders that are remembered."""
_writable: Final[set[Path]] = set()
"""Folders of this process's trackers that took the last file."""


class LocalBackend:
    """Stores below ``<folder>/<prefix>/asynctrack/v1/experiment=…/run=…/``.

    Args:
        folder: Any folder, by its whole path; made when it is missing.
        prefix: Key prefix below it.
        experiment: The experiment's name.
        run: The Run's name.
        record: A Run that gets parameters and metrics, where there is one.
    """

    def __init__(
        self, folder: Path, prefix: str, experiment: str, run: str, record: Record | None = None
    ) -> None:
        self.experiment = experiment
        self.run = run
        self.record = record
        self._folder = folder
        self._root = folder / run_prefix(prefix, experiment, run)

    @property
    def located(self) -> bool:
        """Return True: the folder is given."""
        return True

    @property
    def way(self) -> Hashable:
        """Return the user's folder, as which it is reached."""
        return "folder", self._folder.as_posix()

    async def open(self) -> None:
        """Make the Run's folder, unless the last file that went to this place got there."""
        if self._folder in _writable:
            return
        try:
            await offload(lambda: self._root.mkdir(parents=True, exist_ok=True))
        except OSError as error:
            raise _mapped(error) from error

    def uri(self, name: str = "") -> str:
        """Return a path below the Run's folder; the folder ends in a slash."""
        return f"{self._root.as_posix()}/{name}"

    def destination(self) -> Mapping[str, Any]:
        """Return the Run's folder."""
        return {"kind": "folder", "root": self._root.as_posix()}

    def elsewhere(
        self, destination: Mapping[str, Any], experiment: str, run: str
    ) -> LocalBackend | None:
        """Return a store for another folder."""
        root = destination.get("root")
        if destination.get("kind") != "folder" or not isinstance(root, str):
            return None
        other = LocalBackend(Path(root), "", experiment, run)
        other._root = Path(root)
        return other

    async def put(self, name: str, content: bytes, *, crc32: int, media_type: str) -> None:
        """Write a file so that a reader sees all of it or nothing."""
        try:
            await offload(_write, self._root / name, content)
            if len(_writable) >= MAX_FOLDERS:
                _writable.clear()
            _writable.add(self._folder)
        except OSError as error:
            _writable.discard(self._folder)
            raise _mapped(error) from error

    async def aclose(self) -> None:
        """Do nothing: no file stays open."""


def _write(path: Path, content: bytes) -> None:
    # Hidden, and not ending like an artifact: no glob of a reader meets a file half written.
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        file = unfinished.open("wb", buffering=0)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = unfinished.open("wb", buffering=0)
    try:
        with file:
            view = memoryview(content)
            while view:
                view = view[file.write(view) :]
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def _mapped(error: OSError) -> BackendError:
    code = errno.errorcode.get(error.errno or 0, "OSError")
    kind = PausingError if error.errno in _PAUSING else TransientError
    return kind(code, f"{error.strerror or error}: {error.filename}")
