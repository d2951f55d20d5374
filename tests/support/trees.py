"""The traces of a folder as trees, read without asynctrack: whole, each event once, or it fails."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from tests.support.auditor import assert_exactly_once, audit_folder, events_in_folder

_ENDS = ("_end", "_error")


def trees(folder: Path) -> list[str]:
    """Return the traces of a folder that is tracked into, as ``root(child, child(grandchild))``.

    Children are in the order of their names. Each span has one start and one end, and each parent
    is there: else the test fails.

    Args:
        folder: Where a tracker tracked into.
    """
    audit = audit_folder(folder)
    assert_exactly_once(audit)
    events = events_in_folder(folder)
    of_span: dict[str, list[str]] = defaultdict(list)
    names: dict[str, str] = {}
    children: dict[str | None, list[str]] = defaultdict(list)
    traces: dict[str, str] = {}
    for event in events:
        kind, span = event["event"], event.get("span_id")
        if kind.endswith("_start"):
            names[span] = str(event.get("name"))
            children[event.get("parent_span_id")].append(span)
            traces[span] = event["trace_id"]
        if kind.endswith("_start") or kind.endswith(_ENDS):
            of_span[span].append("start" if kind.endswith("_start") else "end")
    odd = {names.get(span, span): found for span, found in of_span.items() if not _once(found)}
    assert not odd, f"not one start and one end: {odd}"
    orphans = [parent for parent in children if parent is not None and parent not in names]
    assert not orphans, f"parents that nobody saw start: {orphans}"
    for parent, below in children.items():
        assert all(traces[one] == traces[parent or one] for one in below)
    return sorted(_text(root, names, children) for root in children[None])


def counted(folder: Path) -> dict[str, int]:
    """Return how often each tree is there."""
    return dict(Counter(trees(folder)))


def inputs_of(folder: Path) -> list[Any]:
    """Return the inputs of all roots, in the order of their text."""
    events = events_in_folder(folder)
    found = [
        event["inputs"]
        for event in events
        if event["event"].endswith("_start") and not event.get("parent_span_id")
    ]
    return sorted(found, key=str)


def _once(found: list[str]) -> bool:
    return sorted(found) == ["end", "start"]


def _text(span: str, names: dict[str, str], children: dict[str | None, list[str]]) -> str:
    below = sorted(_text(one, names, children) for one in children.get(span, ()))
    return f"{names[span]}({', '.join(below)})" if below else names[span]
