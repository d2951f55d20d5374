"""What somebody may have meant by a name that nobody knows."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from itertools import islice
from typing import Final

COMPARED: Final = 10_000
"""Known names that are compared at the most: each takes some microseconds."""
LONGEST: Final = 200
"""Characters of a name that are compared: the time grows with their square."""


def nearest(name: str, known: Iterable[str], most: int = 1) -> tuple[str, ...]:
    """Return the known names that look most like one, the likeliest first.

    Case does not matter. Those that contain the name come before those that only look like it.

    Args:
        name: What was given.
        known: What there is.
        most: How many to return.
    """
    wanted = name.lower()[:LONGEST]
    if not wanted:
        return ()
    names: dict[str, list[str]] = {}
    for one in islice(known, COMPARED):
        names.setdefault(one.lower()[:LONGEST], []).append(one)
    alike = difflib.get_close_matches(wanted, names, n=most)
    containing = sorted((one for one in names if len(wanted) > 2 and wanted in one), key=len)
    order = dict.fromkeys([*containing[:most], *alike])
    return tuple(one for key in order for one in names[key])[:most]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a question with the nearest name, and a space after it; empty if none is near.

    Args:
        name: What was given.
        known: What there is.
    """
    near = nearest(name, known)
    return f"did you mean {near[0]!r}? " if near else ""
