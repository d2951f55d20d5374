"""Prints to the terminal, with rich when it is installed and in plain text when it is not.

What models, tools and users wrote is never trusted: it is printed as it is, without markup, and
its control characters are shown instead of sent, so that a logged text cannot move the cursor,
change the title of the window or forge a line of ours.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console

# Besides control characters: marks that turn the direction of writing, and invisible ones.
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def printable(text: str, *, lines: bool = True) -> str:
    """Show control characters as escapes.

    Args:
        text: Any text.
        lines: Whether line breaks are kept; elsewhere they are escaped as well.
    """
    return "".join(
        char if (lines and char == "\n") or unicodedata.category(char) not in _HIDDEN
        # A lone surrogate cannot even be encoded.
        else char.encode("unicode_escape", "surrogatepass").decode("ascii")
        for char in text
    )  # fmt: skip


class Screen:
    """Where the demo prints to.

    Args:
        out: The stream.
    """

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._rich = importlib.util.find_spec("rich") is not None

    def heading(self, text: str) -> None:
        """Print a heading."""
        self._styled(f"\n{printable(text)}", "bold cyan")

    def line(self, text: str = "") -> None:
        """Print a line of text."""
        self._styled(printable(text), "")

    def quote(self, label: str, text: str) -> None:
        """Print a logged text under a label."""
        self._styled(f"{printable(label)}", "bold")
        self._styled("\n".join(f"  │ {line}" for line in printable(text).split("\n")), "")

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table."""
        cells = [[printable(cell, lines=False) for cell in row] for row in (columns, *rows)]
        if self._rich:
            self._rich_table(cells)
            return
        widths = [max(len(row[n]) for row in cells) for n in range(len(columns))]
        for row in cells:
            parts = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            self._write("  ".join(parts).rstrip())

    def _styled(self, text: str, style: str) -> None:
        if not self._rich:
            self._write(text)
            return
        from rich.text import Text

        # A Text is never searched for markup, and addresses stay whole for copying.
        self._console().print(Text(text, style=style), soft_wrap=True)

    def _rich_table(self, cells: list[list[str]]) -> None:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in cells[0]:
            table.add_column(Text(name), overflow="fold")
        for row in cells[1:]:
            table.add_row(*(Text(cell) for cell in row))
        self._console().print(table)

    def _console(self) -> Console:
        from rich.console import Console

        # A pipe or a file has no width of its own: then nothing is to be broken.
        width = shutil.get_terminal_size().columns if self._out.isatty() else 200
        return Console(file=self._out, width=width, highlight=False, markup=False)

    def _write(self, text: str) -> None:
        encoding = self._out.encoding or "utf-8"
        print(text.encode(encoding, "replace").decode(encoding), file=self._out)
