"""Folders and buckets, alike, and the Runs in them.

A ``Store`` is a bucket or a folder of this machine. Keys are relative to it, with slashes. A
``Location`` is the folder of one Run in a store; a Run that was tracked into several places has
several.
"""

from __future__ import annotations

import os
import re
import secrets
import shlex
import shutil
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from asynctrack._backends.protocol import GoneError, StoredObject
from asynctrack._common.nearest import did_you_mean, nearest
from asynctrack._errors import NotFoundError, ReadError, SeveralRunsError
from asynctrack._format import LAYOUT_VERSION

MAX_LISTINGS: Final = 2_000
"""Folders that the search looks into before it gives up: it started too high."""
LISTED: Final = 1_000
LISTED_AT_A_TIME: Final = 8
"""Runs that are asked when they began, in all and at a time."""

_ROOT: Final = f"asynctrack/v{LAYOUT_VERSION}/"
# Folders above may have any name, even one with line breaks.
_RUN = re.compile(
    rf"(?:.*/)?{_ROOT}experiment=(?P<experiment>[^/]+)/run=(?P<run>[^/]+)/", re.DOTALL
)
_EXPERIMENT = re.compile(rf"(?:.*/)?{_ROOT}experiment=[^/]+/", re.DOTALL)


class Store(Protocol):
    """A bucket or a folder, read only. Every method blocks."""

    def folders(self, prefix: str) -> list[str]:
        """Return the folders right below a prefix, as prefixes that end in a slash, sorted."""

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        """Yield all objects below a prefix, in any order."""

    def read(self, key: str) -> bytes:
        """Return an object's bytes.

        Raises:
            GoneError: It is not there.
        """

    def uri(self, key: str) -> str:
        """Return an object's full address."""


class WritableStore(Store, Protocol):
    """A bucket or a folder that ``compact`` works on."""

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """Return some of an object's bytes.

        Args:
            key: The object.
            start: The first byte.
            end: The first byte that is not wanted; at most the object's size.

        Raises:
            GoneError: It is not there.
        """

    def write(self, key: str, content: Path | bytes) -> None:
        """Store an object, whole or not at all: bytes, or what is in a file."""

    def remove(self, key: str) -> None:
        """Delete an object; nothing where it is not there."""


class LocalStore:
    """A folder of this machine.

    Args:
        root: The folder; keys are paths below it.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.expanduser().absolute()

    def folders(self, prefix: str) -> list[str]:
        """Return the folders right below a prefix; links are not followed."""
        try:
            with os.scandir(self._root / prefix) as entries:
                names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise _unreadable(error) from error
        return sorted(f"{prefix}{name}/" for name in names)

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        """Yield the files below a prefix."""
        waiting = [prefix]
        while waiting:
            folder = waiting.pop()
            try:
                with os.scandir(self._root / folder) as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append(f"{folder}{entry.name}/")
                            continue
                        try:
                            if entry.is_file():
                                size = entry.stat().st_size
                                yield StoredObject(f"{folder}{entry.name}", size)
                        except FileNotFoundError:
                            continue  # an unfinished file, renamed since; the others are there
            except FileNotFoundError:
                continue  # removed since it was listed
            except OSError as error:
                raise _unreadable(error) from error

    def read(self, key: str) -> bytes:
        """Return a file's bytes."""
        try:
            return (self._root / key).read_bytes()
        except FileNotFoundError as error:
            raise GoneError(f"{self.uri(key)} is not there any more") from error
        except OSError as error:
            raise _unreadable(error) from error

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """Return some of a file's bytes."""
        try:
            with (self._root / key).open("rb") as file:
                file.seek(start)
                return file.read(end - start)
        except FileNotFoundError as error:
            raise GoneError(f"{self.uri(key)} is not there any more") from error
        except OSError as error:
            raise _unreadable(error) from error

    def write(self, key: str, content: Path | bytes) -> None:
        """Write a file so that a reader sees all of it or nothing."""
        path = self._root / key
        # Hidden, and not ending like what is read.
        unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with unfinished.open("xb") as file:
                if isinstance(content, bytes):
                    file.write(content)
                else:
                    with content.open("rb") as source:
                        shutil.copyfileobj(source, file, 1024 * 1024)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        except OSError as error:
            raise ReadError(f"{path} cannot be written: {error.strerror or error}") from error
        finally:
            with suppress(OSError):  # whatever is in the way of writing it
                unfinished.unlink(missing_ok=True)

    def remove(self, key: str) -> None:
        """Delete a file, and its folder when nothing else is in it."""
        path = self._root / key
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise ReadError(f"{path} cannot be deleted: {error.strerror or error}") from error
        with suppress(OSError):
            path.parent.rmdir()

    def uri(self, key: str) -> str:
        """Return a file's path."""
        return f"{self._root.as_posix().rstrip('/')}/{key}"


@dataclass(frozen=True, slots=True)
class Location:
    """The folder of one Run.

    Attributes:
        store: Where it is.
        prefix: Its key, ending in a slash.
        experiment: The experiment's name.
        run: The Run's name.
    """

    store: Store
    prefix: str
    experiment: str
    run: str

    @property
    def uri(self) -> str:
        """Its full address, ending in a slash."""
        return self.store.uri(self.prefix)


def find_runs(store: Store, prefix: str) -> list[Location]:
    """Find the Runs at, above or below a prefix.

    Args:
        store: Where to look.
        prefix: A Run's folder, anything in it, or any folder above it.

    Returns:
        The Runs, sorted by key; a folder without events or manifests counts as well.

    Raises:
        ReadError: There are too many folders to look into.
    """
    prefix = prefix if prefix.endswith("/") or not prefix else f"{prefix}/"
    inside = run_at(store, prefix)
    if inside is not None:
        return [inside]
    found: list[Location] = []
    waiting = [prefix]
    for _ in range(MAX_LISTINGS):
        if not waiting:
            break
        folder = waiting.pop()
        for below in store.folders(folder):
            run = _RUN.fullmatch(below)
            if run is not None:
                found.append(Location(store, below, run["experiment"], run["run"]))
            elif not _EXPERIMENT.fullmatch(folder):
                waiting.append(below)
    if waiting:
        raise ReadError(
            f"gave up looking for Runs below {store.uri(prefix)} after {MAX_LISTINGS} folders:"
            f" give an address nearer to them, one that ends in {_ROOT} or lies below it"
        )
    return sorted(found, key=lambda location: location.prefix)


def run_at(store: Store, prefix: str) -> Location | None:
    """Return the Run whose folder a prefix is, or lies in; None where it lies in none."""
    inside = _RUN.match(prefix)
    return inside and Location(store, inside[0], inside["experiment"], inside["run"])


def spellings(*names: str) -> list[tuple[str, ...]]:
    """Return what names may mean, the likeliest first: as they are, then in lower case.

    The SageMaker SDK writes the names of experiments and Runs in lower case, whatever its user
    gives; a folder that was tracked into keeps them as they were given.
    """
    return list(dict.fromkeys((names, tuple(name.lower() for name in names))))


def only_run(found: Sequence[Location], place: str) -> Location:
    """Return the one Run that was found.

    Raises:
        NotFoundError: None was found.
        SeveralRunsError: There are several.
    """
    if not found:
        raise nothing_at(place)
    if len(found) > 1:
        uris = [location.uri for location in newest_first(found)]
        raise SeveralRunsError(
            f"there are {len(found)} Runs at {place}; open one of them, the newest first:"
            f"{bullets(uris)}",
            uris,
        )
    return found[0]


def newest_first(found: Sequence[Location]) -> list[Location]:
    """Return Runs by when their latest writer began, which its id says. Blocks: lists manifests.

    What is older than the latest thousand by name is behind them, and not asked for.
    """
    names = sorted(found, key=lambda location: (location.experiment, location.run), reverse=True)
    with ThreadPoolExecutor(LISTED_AT_A_TIME, thread_name_prefix="asynctrack-newest") as pool:
        began = list(pool.map(_latest_writer, names[:LISTED]))
    ranked = sorted(zip(began, names[:LISTED], strict=True), key=lambda one: one[0], reverse=True)
    return [location for _, location in ranked] + names[LISTED:]


def _latest_writer(location: Location) -> str:
    listed = location.store.objects(f"{location.prefix}_manifest/")
    return max((one.key.rpartition("/")[2] for one in listed), default="")


def unknown_run(place: str, name: str, known: Iterable[str]) -> NotFoundError:
    """Return the error for a name that no Run, or no experiment, below a place has.

    Args:
        place: Where was looked.
        name: What was given.
        known: The names of what is there.
    """
    near = did_you_mean(name, known)
    return NotFoundError(
        f"there is no Run at {place} with the name {name}; {near}asynctrack ls"
        f" {shlex.quote(place)} lists what is there"
    )


def no_folder(path: Path) -> NotFoundError:
    """Return the error for a folder that is not there; it names the nearest one beside it."""
    try:
        beside = [one.name for one in path.parent.iterdir() if one.is_dir()]
    except OSError:
        beside = []
    near = nearest(path.name, beside)
    meant = f"; did you mean {path.parent / near[0]}?" if near else ""
    return NotFoundError(f"there is no folder {path}{meant}")


def nothing_at(place: str) -> NotFoundError:
    """Return the error for a place without Runs."""
    return NotFoundError(
        f"there is no Run at {place}: no folder below it is called"
        f" {_ROOT}experiment=<name>/run=<name>/. handler.statistics() tells whether anything was"
        " delivered, the Run's parameter asynctrack.events where to."
    )


def nothing_yet(uri: str) -> NotFoundError:
    """Return the error for a Run's own place in which nothing is stored."""
    return NotFoundError(
        f"there is no Run at {uri}: nothing is stored there, and nothing of it waits in this"
        " machine's spool. A tracker delivers its first events after max_delay (5 seconds);"
        " asynctrack tail --wait waits for them. handler.statistics() tells whether anything was"
        " delivered."
    )


def bullets(items: Sequence[str], shown: int = 20) -> str:
    """Return items as lines of a message, the first ones only."""
    lines = [f"\n  {item}" for item in items[:shown]]
    if len(items) > shown:
        lines.append(f"\n  … and {len(items) - shown} more")
    return "".join(lines)


def _unreadable(error: OSError) -> ReadError:
    return ReadError(f"{error.filename} cannot be read: {error.strerror or error}")
