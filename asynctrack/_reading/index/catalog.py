"""Where the index lies: a folder for each Run, which is read, brought up to date and removed.

::

    <cache>/asynctrack/index/reader-…         names the Runs that a process reads; locked by it
                             <run>/state.json    what is in the pieces; replaced as a whole
                                   lock          held by the process that brings it up to date
                                   7-spans.parquet, …

Everything in it can be made again from what is stored: it is safe to delete at any time.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from asynctrack._common import payload
from asynctrack._errors import ReadError
from asynctrack._reading.decoding.events import json_text
from asynctrack._reading.index.locks import Reader, is_read, locked
from asynctrack._reading.index.news import Covered
from asynctrack._reading.index.place import is_usable, place_of, unwritable
from asynctrack._reading.scratch import Scratch
from asynctrack._reading.sources.locate import Found
from asynctrack._reading.sources.manifests import Problem

FORMAT: Final = 4
"""Of the pieces and of ``state.json``. What has another one is not looked at."""
MAX_BYTES: Final = 10 * 1024**3
"""Size of the whole index, in bytes: above it, what was not asked for the longest is removed."""
_STATE: Final = "state.json"
_PARQUET_END: Final = b"PAR1"
_NUMBERS: Final = 28
"""Bits of a trace's number that count within its Run."""


@dataclass(frozen=True, slots=True)
class PieceFile:
    """A Parquet file with rows of a table.

    Attributes:
        name: Its name in the Run's folder.
        table: The table.
        rows: How many there are.
        bytes: Its size, in bytes.
    """

    name: str
    table: str
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Layer:
    """What was read of a Run into some of its tables.

    Attributes:
        covered: What was read.
        checksums: By address, the checksums of the artifacts that were read, as far as manifests
            list them.
        pieces: The files.
        problems: What could not be read in them.
        events: How many events were read.
        carried: The file with the events of the traces that go on; None where there are none.
    """

    covered: Covered = field(default_factory=Covered)
    checksums: Mapping[str, str] = field(default_factory=dict)
    pieces: tuple[PieceFile, ...] = ()
    problems: tuple[Problem, ...] = ()
    events: int = 0
    carried: str | None = None


@dataclass(frozen=True, slots=True)
class State:
    """What the index holds of a Run.

    Attributes:
        uris: The addresses of its folders.
        run: Its number.
        traces: How many traces have a number.
        files: How many files were written; each has the next number in its name.
        layers: What was read, by ``traces`` (which holds spans and feedback, too) and ``events``.
    """

    uris: tuple[str, ...]
    run: int
    traces: int = 0
    files: int = 0
    layers: Mapping[str, Layer] = field(default_factory=dict)

    def number(self, trace: int) -> int:
        """Return the number of a trace among those of all Runs."""
        return (self.run << _NUMBERS) + trace


class RunFolder:
    """The folder of one Run in the index.

    Args:
        path: The folder.
        uris: The addresses of the Run's folders.
    """

    def __init__(self, path: Path, uris: tuple[str, ...]) -> None:
        self.path = path
        self._uris = uris

    def state(self) -> State:
        """Return what it holds; nothing where it cannot be read or is of another format."""
        try:
            state = _decode((self.path / _STATE).read_bytes())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            state = None
        if state is None or state.uris != self._uris or not self._holds(state):
            # No name comes again: somebody may be reading the file that has it.
            return State(self._uris, secrets.randbits(63 - _NUMBERS), files=self._last_number())
        return state

    def _last_number(self) -> int:
        try:
            names = [entry.name for entry in self.path.iterdir()]
        except OSError:
            return 0
        numbers = (name.partition("-")[0] for name in names)
        return max((int(one) for one in numbers if one.isascii() and one.isdigit()), default=0)

    def _holds(self, state: State) -> bool:
        """Return whether the files are there and whole that a state names: anybody may delete
        them, and after a power failure a file may have its size and not what was written."""
        try:
            return all(
                _is_whole(self.path / piece.name, piece.bytes)
                for layer in state.layers.values()
                for piece in layer.pieces
            )
        except OSError:
            return False

    def save(self, state: State) -> None:
        """Write the state, whole or not at all."""
        text = (json_text(_plain(state)) or "").encode()
        new = self.path / f".{_STATE}"
        with suppress(FileNotFoundError):
            new.unlink()
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(text)
        new.replace(self.path / _STATE)

    def sweep(self) -> None:
        """Remove files that the state does not name, unless somebody may be reading them."""
        state = self.state()
        named = {piece.name for layer in state.layers.values() for piece in layer.pieces}
        named |= {layer.carried for layer in state.layers.values() if layer.carried is not None}
        named |= {_STATE, "lock"}
        left = [entry for entry in self.path.iterdir() if entry.name not in named]
        # Who begins to read now reads the state first, which does not name them.
        if left and not is_read(self.path.parent, self.path.name):
            for entry in left:
                entry.unlink(missing_ok=True)

    @contextmanager
    def changing(self, *, wait: bool = True) -> Iterator[bool]:
        """Hold the lock of who brings it up to date; tells whether it could be had."""
        how = fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB
        with locked(self.path / "lock", how) as held:
            yield held

    def size(self) -> int:
        """Return the size of its files, in bytes."""
        total = 0
        with os.scandir(self.path) as entries:
            for entry in entries:
                with suppress(OSError):
                    total += entry.stat(follow_symlinks=False).st_size
        return total


class Catalog:
    """The index of this user.

    Args:
        given: Its folder; None takes ``ASYNCTRACK_INDEX_DIR``, else the user's cache. Where that
            cannot be used, a temporary folder is, which ``close`` removes.
        environ: The environment; None takes the process's.
    """

    def __init__(self, given: Path | None = None, environ: Mapping[str, str] | None = None) -> None:
        self._scratch: Scratch | None = None
        path = given or place_of(os.environ if environ is None else environ)
        if path is None or not is_usable(path):
            self._scratch = Scratch("index")
            path = self._scratch.path
        self.path = path
        self._reader = Reader(path)
        self._read: list[RunFolder] = []

    def __enter__(self) -> Catalog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let others remove what was read, and remove what nobody needs any more: all of it, if it
        is temporary."""
        self._reader.close()
        for folder in self._read:
            with suppress(OSError, ReadError), folder.changing(wait=False) as held:
                if held:
                    folder.sweep()
        if self._scratch is not None:
            self._scratch.close()

    def folder(self, found: Found) -> RunFolder:
        """Return a Run's folder, which is made if need be. What its state names stays there until
        ``close``.

        Raises:
            ReadError: It cannot be.
        """
        uris = tuple(location.uri for location in found.locations)
        # With the format, so that two versions of asynctrack do not write over each other's.
        digest = hashlib.sha256(
            "\n".join((str(FORMAT), *uris)).encode("utf-8", "surrogatepass")
        ).hexdigest()
        path = self.path / digest[:32]
        try:
            path.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise unwritable(path, error) from error
        self._reader.add(path.name)
        with suppress(OSError):
            os.utime(path)
        folder = RunFolder(path, uris)
        self._read.append(folder)
        return folder

    def trim(self, max_bytes: int = MAX_BYTES) -> None:
        """Remove Runs that were not asked for the longest, until the rest is small enough. What is
        in use stays, and so does the latest, which would only be made again."""
        folders = []
        with suppress(FileNotFoundError):  # anybody may delete it
            for path in self.path.iterdir():
                with suppress(OSError):
                    folders.append((path.stat().st_mtime, path, RunFolder(path, ()).size()))
        total = sum(size for _, _, size in folders)
        for _, path, size in sorted(folders)[:-1]:
            if total <= max_bytes:
                return
            folder = RunFolder(path, ())
            with suppress(OSError, ReadError), folder.changing(wait=False) as held:
                if held and not is_read(self.path, path.name):
                    (path / _STATE).unlink(missing_ok=True)
                    # Who began to read before that has read it, and is known by now.
                    if not is_read(self.path, path.name):
                        shutil.rmtree(path)
                        total -= size


def _is_whole(path: Path, size: int) -> bool:
    if path.stat().st_size != size:
        return False
    with path.open("rb") as file:
        file.seek(-len(_PARQUET_END), os.SEEK_END)
        return file.read() == _PARQUET_END


def _plain(state: State) -> dict[str, Any]:
    layers = {}
    for name, layer in state.layers.items():
        layers[name] = {
            "ranges": dict(layer.covered.ranges),
            "artifacts": sorted(layer.covered.artifacts),
            "checksums": dict(layer.checksums),
            "pieces": [[one.name, one.table, one.rows, one.bytes] for one in layer.pieces],
            "problems": [asdict(problem) for problem in layer.problems],
            "events": layer.events,
            "carried": layer.carried,
        }
    return {
        "format": FORMAT,
        "uris": list(state.uris),
        "run": state.run,
        "traces": state.traces,
        "files": state.files,
        "layers": layers,
    }


def _decode(text: bytes) -> State | None:
    read = payload.decode(text)
    if read["format"] != FORMAT:
        return None
    layers = {}
    for name, layer in read["layers"].items():
        ranges = {
            writer_id: [(first, last) for first, last in pairs]
            for writer_id, pairs in layer["ranges"].items()
        }
        layers[name] = Layer(
            Covered(ranges, frozenset(layer["artifacts"])),
            layer["checksums"],
            tuple(PieceFile(*one) for one in layer["pieces"]),
            tuple(Problem(**one) for one in layer["problems"]),
            layer["events"],
            layer["carried"],
        )
    return State(tuple(read["uris"]), read["run"], read["traces"], read["files"], layers)


def files_of(state: State, tables: Sequence[str]) -> dict[str, list[str]]:
    """Return the names of the files of tables."""
    found: dict[str, list[str]] = {table: [] for table in tables}
    for layer in state.layers.values():
        for piece in layer.pieces:
            if piece.table in found:
                found[piece.table].append(piece.name)
    return found


def with_layer(state: State, name: str, layer: Layer) -> State:
    """Return a state with another layer."""
    return replace(state, layers={**state.layers, name: layer})
