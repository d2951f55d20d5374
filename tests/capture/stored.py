"""What tests of capture ask of the folder that they tracked into."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from asynctrack import open_run
from asynctrack._reading.trees.span import Span
from asynctrack._reading.trees.trace import Trace


def shape(span: Span) -> Any:
    """A span's name, with those of all below it."""
    return (span.name, [shape(child) for child in span.children]) if span.children else span.name


def traces(folder: Path) -> list[Trace]:
    """All traces of the Run."""
    return list(open_run(folder).traces())


def only(folder: Path) -> Trace:
    """Its only trace."""
    (trace,) = traces(folder)
    return trace
