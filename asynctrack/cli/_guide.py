"""``asynctrack guide``: the documentation, which ships with the package."""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from importlib.resources import files
from typing import Any

from asynctrack._common.nearest import did_you_mean

from ._common import OK, Missing, add_command
from ._markdown import readable

_LISTED = re.compile(r"^- \[([\w-]+)\]\(\1\.md\): (.+)$|^\*\*(.+)\*\*$", re.MULTILINE)
_WIDTH = 100
"""Columns at the most: longer lines are hard to read."""


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands, "guide", "print the documentation: all topics, or one of them", run,
        description="It ships with the package, and needs no network.",
    )  # fmt: skip
    parser.add_argument(
        "topic", nargs="?", metavar="TOPIC", help="what to print; default: the list of topics"
    )


def run(options: argparse.Namespace) -> int:
    """Print the topics, or one.

    Raises:
        Missing: There is no such topic.
    """
    if options.topic is None:
        print(contents())
        return OK
    size = shutil.get_terminal_size((_WIDTH, 24))
    text = readable(page(options.topic), min(size.columns, _WIDTH))
    if sys.stdout.isatty() and text.count("\n") >= size.lines:
        import pydoc

        pydoc.pager(text)
    else:
        print(text)
    return OK


def topics() -> dict[str, str]:
    """Return the topics in the order in which they are listed, each in a line of words."""
    return {topic: line for topic, line, _ in _LISTED.findall(_text("README")) if topic}


def contents() -> str:
    """Return the list of topics, as it is printed."""
    width = max(map(len, topics()))
    lines = ["asynctrack guide TOPIC prints one of these:"]
    for topic, line, heading in _LISTED.findall(_text("README")):
        lines.append(f"\n{heading}" if heading else f"  {topic:{width}}  {line.replace('`', '')}")
    return "\n".join([*lines, f"\nAs files: {files('asynctrack') / 'guide'}"])


def page(topic: str) -> str:
    """Return the page of a topic, in Markdown.

    Raises:
        Missing: There is none; the text names the nearest.
    """
    known = topics()
    name = topic.lower().removesuffix(".md")
    if name in known:
        return _text(name)
    raise Missing(
        f"there is no topic {topic!r}: {did_you_mean(name, known)}'asynctrack guide' lists all"
    )


def _text(name: str) -> str:
    return (files("asynctrack") / "guide" / f"{name}.md").read_text(encoding="utf-8")
