"""Markdown as text that reads well on a terminal and in a file (pure).

As much of Markdown as our guides are written in: headings, paragraphs, lists, tables, code, links,
pictures and HTML comments.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from typing import Final

_COMMENT = re.compile(r"^<!--.*?-->\n", re.MULTILINE | re.DOTALL)
_ITEM = re.compile(r"(\s*)(-|\d+\.) +")
_RULE = re.compile(r"\|?[\s:|-]+\|[\s:|-]*")
_CELL = re.compile(r"((?:`[^`]*`|[^|`])*)\|")
_INLINE = re.compile(
    r"(?P<code>`[^`]+`)"
    r"|!\[(?P<picture>[^\]]*)\]\([^)]*\)"
    r"|\[(?P<link>(?:`[^`]*`|[^\]`])+)\]\((?P<target>[^)\s]+)\)"
    r"|\*\*(?P<bold>.+?)\*\*"
    r"|(?<![\w*])\*(?P<stressed>[^\s*](?:[^*]*[^\s*])?)\*(?![\w*])",
    re.DOTALL,
)
_CODE = re.compile(r"`[^`]+`")
_NO_BREAK: Final = "\0"
_UNDERLINES: Final = {1: "=", 2: "-"}
_INDENT: Final = "    "
_SHORT: Final = 40
"""Characters of code that stay on one line."""


def readable(page: str, width: int) -> str:
    """Return a page as plain text.

    Args:
        page: In Markdown.
        width: Columns at the most; code keeps its lines.
    """
    return "\n\n".join(_blocks(_COMMENT.sub("", page), width))


def _blocks(page: str, width: int) -> Iterator[str]:
    lines = page.splitlines()
    while lines:
        if not lines[0].strip():
            del lines[0]
        elif lines[0].startswith("```"):
            end = lines.index("```", 1)
            yield textwrap.indent("\n".join(lines[1:end]), _INDENT)
            del lines[: end + 1]
        elif lines[0].startswith(_INDENT):
            yield "\n".join(_taken(lines, _INDENT))
        elif lines[0].startswith("#"):
            yield _heading(lines.pop(0))
        elif lines[0].startswith("|"):
            yield _table(_taken(lines, "|"), width)
        else:
            yield _text(_paragraph(lines), width)


def _taken(lines: list[str], prefix: str) -> list[str]:
    """Take the lines off the front that begin alike."""
    end = next((n for n, line in enumerate(lines) if not line.startswith(prefix)), len(lines))
    taken = lines[:end]
    del lines[:end]
    return taken


def _paragraph(lines: list[str]) -> list[str]:
    """Take lines off the front until one is empty, or begins something else."""
    taken = [lines.pop(0)]
    while lines and lines[0].strip() and not lines[0].startswith(("#", "|", "```")):
        taken.append(lines.pop(0))
    return taken


def _heading(line: str) -> str:
    marks, _, text = line.partition(" ")
    said = _inline(text)
    underline = _UNDERLINES.get(len(marks))
    return f"{said}\n{underline * len(said)}" if underline else said


def _text(lines: list[str], width: int) -> str:
    """Return a paragraph, or a list: its items are wrapped one by one."""
    parts: list[list[str]] = []
    for line in lines:
        if _ITEM.match(line) or not parts:
            parts.append([])
        parts[-1].append(line)
    return "\n".join(_wrapped(" ".join(map(str.strip, part)), part[0], width) for part in parts)


def _wrapped(text: str, first: str, width: int) -> str:
    item = _ITEM.match(first)
    room = "" if item is None else item[1]
    hanging = "" if item is None else " " * item.end()
    return _fill(_inline(text), width, room, hanging)


def _fill(text: str, width: int, first: str, others: str) -> str:
    whole = _CODE.sub(_kept_whole, text)
    return textwrap.fill(
        whole, width, initial_indent=first, subsequent_indent=others, break_long_words=False,
        break_on_hyphens=False,
    ).replace(_NO_BREAK, " ")  # fmt: skip


def _kept_whole(code: re.Match[str]) -> str:
    return code[0].replace(" ", _NO_BREAK) if len(code[0]) <= _SHORT else code[0]


def _table(lines: list[str], width: int) -> str:
    """Return a table: in columns where they fit, else each row below its first cell."""
    rows = [
        [_inline(cell.strip()) for cell in _CELL.findall(line[1:])]
        for line in lines
        if not _RULE.fullmatch(line)
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if sum(widths) + 2 * len(widths) <= width:
        lines = [
            "  ".join(f"{cell:{size}}" for cell, size in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        return "\n".join(filter(None, lines))
    return "\n".join(_row(rows[0], row, width) for row in rows[1:])


def _row(heading: list[str], row: list[str], width: int) -> str:
    lines = [_fill(row[0], width, "", _INDENT)] if row[0] else []
    for name, cell in zip(heading[1:], row[1:], strict=True):
        said = f"{name}: {cell}" if name and len(row) > 2 else cell
        if cell:
            lines.append(_fill(said, width, _INDENT, _INDENT))
    return "\n".join(lines)


def _inline(text: str) -> str:
    """Return text without marks; code keeps its own, so that it can be told apart."""
    return _INLINE.sub(_said, text)


def _said(found: re.Match[str]) -> str:
    if found["code"]:
        return found["code"]
    if found["picture"] is not None:
        return f"[picture: {found['picture']}]"
    if found["link"]:
        return _inline(found["link"]) + _where(found["target"])
    return _inline(found["bold"] or found["stressed"])


def _where(target: str) -> str:
    """Return what to do for what a link leads to; nothing where it is on this page."""
    path = target.partition("#")[0]
    if not path:
        return ""
    if path.startswith("../"):  # is in no wheel
        return f" ({path.lstrip('./')} in the repository)"
    if path.endswith(".md"):
        return f" (asynctrack guide {path.removesuffix('.md')})"
    return f" ({path})"
