"""What the waterfall of a trace shows besides its spans: where the time goes, and which spans are
only LangChain's wrapping of others (pure)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from asynctrack._reading.trees.timing import Timed, critical_path

Row = Mapping[str, Any]

_WRAPPING: Final = re.compile(
    r"Runnable(Sequence|Parallel|Map|Assign|Pick|Passthrough|Branch|Binding|Each|Retry|Generator"
    r"|WithFallbacks|WithMessageHistory)(<.*>)?|LangGraph|Channel(Read|Write)(<.*>)?|Branch<.*>"
    r"|__start__|__end__|_write",
    re.DOTALL,
)
"""Names that LangChain and LangGraph give to what they make themselves."""
_ONLY_AROUND_ONE: Final = ("RunnableLambda", "RunnableCallable")
"""Names of code that nobody gave one: of interest where it does more than to call something."""


def critical_parts(rows: Sequence[Row]) -> list[list[tuple[int, int]]]:
    """Return the parts of each span in the critical path: pairs of nanoseconds since 1970.

    Args:
        rows: All spans of a trace, parents before children.
    """
    spans = [
        Timed(parent, row["start"], row["duration"], row["orphan"])
        for parent, row in zip(_parents(rows), rows, strict=True)
    ]
    found: list[list[tuple[int, int]]] = [[] for _ in rows]
    for part in critical_path(spans):
        found[part.place].append((part.start, part.end))
    return found


def wrappers(rows: Sequence[Row]) -> list[bool]:
    """Return which spans say nothing that the spans below them do not say.

    A span where something came up is none: an error, a question, an end that is not there. A root
    is none, either.

    Args:
        rows: All spans of a trace, parents before children.
    """
    parents = _parents(rows)
    children: list[list[Row]] = [[] for _ in rows]
    for parent, row in zip(parents, rows, strict=True):
        if parent is not None:
            children[parent].append(row)
    return [
        parent is not None and _wraps(row, below)
        for parent, row, below in zip(parents, rows, children, strict=True)
    ]


def _wraps(row: Row, below: Sequence[Row]) -> bool:
    name = row["name"] or ""
    if row["kind"] != "chain":
        return False
    if not (_WRAPPING.fullmatch(name) or (name in _ONLY_AROUND_ONE and len(below) == 1)):
        return False
    return row["outcome"] == "ok" or any(
        (one["outcome"], one["error"]) == (row["outcome"], row["error"]) for one in below
    )


def _parents(rows: Sequence[Row]) -> list[int | None]:
    """Return the place of the span above each, by their depths."""
    above: list[int] = []
    parents: list[int | None] = []
    for place, row in enumerate(rows):
        del above[row["depth"] :]
        parents.append(above[-1] if above else None)
        above.append(place)
    return parents
