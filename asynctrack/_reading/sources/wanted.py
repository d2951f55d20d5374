"""The one Run that is wanted, and what to say where there is none, or more than one."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from asynctrack._common.nearest import did_you_mean, nearest
from asynctrack._errors import NotFoundError, SeveralRunsError
from asynctrack._reading.sources.stores import ROOT, Location

LISTED: Final = 1_000
LISTED_AT_A_TIME: Final = 8
"""Runs that are asked when they began, in all and at a time."""


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


def unknown_run(place: str, names: Sequence[str], known: Iterable[str]) -> NotFoundError:
    """Return the error for a name that no Run, or no experiment, below a place has.

    Args:
        place: Where was looked.
        names: What was given, in each spelling that was looked for.
        known: The names of what is there.
    """
    near = did_you_mean(names[-1], known)
    return NotFoundError(
        f"there is no Run at {place} with the name {' or '.join(names)}; {near}asynctrack ls"
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
        f" {ROOT}experiment=<name>/run=<name>/. handler.statistics() tells whether anything was"
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
