"""Prints: with rich on a terminal, in plain text elsewhere and where rich is not installed.

What models, tools and users wrote is never trusted: it is printed as it is, without markup, and
its control characters are shown instead of sent, so that a logged text cannot move the cursor,
change the title of the window or forge a line of ours.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
import unicodedata
from collections.abc import Container, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Literal, TextIO

from asynctrack._common.outcome import Outcome

if TYPE_CHECKING:
    from rich.console import Console

OUTCOME_STYLES: Final[Mapping[Outcome, str]] = {
    "ok": "green",
    "error": "bold red",
    "cancelled": "yellow",
    "interrupted": "cyan",
    "unfinished": "yellow",
    "abandoned": "yellow",
}
"""How each outcome is shown."""

# Besides control characters: marks that turn the direction of writing, and invisible ones.
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def printable(text: str, *, lines: bool = True) -> str:
    """Show control characters as escapes.

    Args:
        text: Any text.
        lines: Whether line breaks are kept; elsewhere they are escaped as well.
    """
    if text.isprintable():  # most of it is, and this takes no time
        return text
    return "".join(
        char if (lines and char == "\n") or unicodedata.category(char) not in _HIDDEN
        # A lone surrogate cannot even be encoded.
        else char.encode("unicode_escape", "surrogatepass").decode("ascii")
        for char in text
    )  # fmt: skip


class Screen:
    """Where commands print to: with rich on a terminal, in plain text elsewhere.

    Args:
        out: The stream.
    """

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        # A pipe or a file gets no colours, no boxes and no line breaks of ours.
        self._rich = self._out.isatty() and importlib.util.find_spec("rich") is not None
        self._made: Console | None = None

    def heading(self, text: str) -> None:
        """Print a heading."""
        self.parts((f"\n{text}", "bold cyan"))

    def line(self, text: str = "", style: str = "") -> None:
        """Print a line of text."""
        self.parts((text, style))

    def parts(self, *parts: tuple[str, str]) -> None:
        """Print a line of several texts, each with its style."""
        shown = [(printable(text), style) for text, style in parts]
        if not self._rich:
            self._write("".join(text for text, _ in shown))
            return
        from rich.text import Text

        # A Text is never searched for markup, and addresses stay whole for copying.
        self._console().print(Text.assemble(*shown), soft_wrap=True)

    def more(self, count: int, how: str = "") -> None:
        """Say how many rows are left out, if any, and how to see them."""
        if count > 0:
            self.line(f"and {count:,} more{how}", "dim")

    def quote(self, label: str, text: str, *, indent: str = "  ") -> None:
        """Print a logged text under a label."""
        if label:
            self.parts((indent[2:] + label, "bold"))
        for line in printable(text).split("\n"):
            self.parts((f"{indent}│ {line}", ""))

    def table(
        self,
        columns: Sequence[str],
        rows: Sequence[Sequence[str]],
        *,
        right: Container[str] = (),
        whole: Container[str] = (),
        styles: Mapping[tuple[int, int], str] | None = None,
    ) -> None:
        """Print a table.

        Args:
            columns: The headings.
            rows: The cells.
            right: Headings of columns that are aligned at the right: numbers.
            whole: Headings of columns whose cells are not broken on a narrow terminal, as are
                numbers: ids and times.
            styles: Of cells, by row and column from 0.
        """
        cells = [[printable(cell, lines=False) for cell in row] for row in (columns, *rows)]
        numbers = [name in right for name in columns]
        if self._rich:
            kept = [name in right or name in whole for name in columns]
            self._rich_table(cells, numbers, kept, styles or {})
            return
        widths = [max(_width(row[n]) for row in cells) for n in range(len(columns))]
        for row in cells:
            parts = []
            for cell, width, number in zip(row, widths, numbers, strict=True):
                room = " " * (width - _width(cell))
                parts.append(room + cell if number else cell + room)
            self._write("  ".join(parts).rstrip())

    def fits(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
        """Tell whether a table fits as it is: no cell broken; headings may be, between words."""
        if not self._rich:
            return True
        names = [max(column.split(" "), key=len) for column in columns]
        widths = [
            max(_width(printable(row[n], lines=False)) for row in (names, *rows))
            for n in range(len(columns))
        ]
        return sum(widths) + 2 * len(widths) + 1 <= self._console().width

    def _rich_table(
        self,
        cells: list[list[str]],
        numbers: list[bool],
        kept: list[bool],
        styles: Mapping[tuple[int, int], str],
    ) -> None:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        for name, number, whole in zip(*self._fitted(cells, numbers, kept), strict=True):
            justify: Literal["left", "right"] = "right" if number else "left"
            table.add_column(Text(name), overflow="fold", justify=justify, no_wrap=whole)
        for n, row in enumerate(cells[1:]):
            texts = (Text(cell, styles.get((n, m), "")) for m, cell in enumerate(row))
            table.add_row(*texts)
        self._console().print(table)

    def _fitted(
        self, cells: list[list[str]], numbers: list[bool], kept: list[bool]
    ) -> tuple[list[str], list[bool], list[bool]]:
        """Return headings, and which columns are kept whole, so that all of it fits: what does not
        fit is broken, never cut off; headings of numbers first, then columns from the right on."""
        names, kept = list(cells[0]), list(kept)
        widths = [max((_width(row[n]) for row in cells[1:]), default=0) for n in range(len(names))]
        room = self._console().width - 2 * len(names) - 1

        def fits() -> bool:
            lines = [max(map(_width, name.split("\n"))) for name in names]
            sizes = zip(lines, widths, kept, strict=True)
            return sum(max(line, width) if whole else 6 for line, width, whole in sizes) <= room

        if not fits():
            for column, number in enumerate(numbers):
                names[column] = names[column].replace(" ", "\n") if number else names[column]
        for column in reversed(range(1, len(names))):
            if not numbers[column] and not fits():
                kept[column] = False
        return names, numbers, kept

    def _console(self) -> Console:
        if self._made is None:
            from rich.console import Console

            width = shutil.get_terminal_size().columns
            self._made = Console(file=self._out, width=width, highlight=False, markup=False)
        return self._made

    def _write(self, text: str) -> None:
        encoding = self._out.encoding or "utf-8"
        print(text.encode(encoding, "replace").decode(encoding), file=self._out)


def _width(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )
