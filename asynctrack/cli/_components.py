"""Shows a Run's components: a table for each kind, those that fail most first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ._screen import Screen

if TYPE_CHECKING:
    from asynctrack._reading.answers.components import Component

TITLES: Final = {
    "trace": "All traces",
    "chain": "Chains",
    "model": "Models",
    "tool": "Tools",
    "retriever": "Retrievers",
    "step": "Steps in which errors came up",
}
"""What components of a kind are called together."""


def show_components(components: tuple[Component, ...], top: int, screen: Screen) -> None:
    """Print the tables.

    Args:
        components: In their order.
        top: How many of each kind.
        screen: Where to.
    """
    for kind, title in TITLES.items():
        found = [one for one in components if one.kind == kind]
        if found and top:
            screen.heading(title)
            _show(found[:top], screen)
            screen.more(len(found) - top, ": --top N shows more of them")


def _show(components: list[Component], screen: Screen) -> None:
    from . import _words as words

    names = ["name", "calls", "failed", "p50", "p95", "first p50", "first p95",
             "tokens in", "tokens out", "cost", "errors"]  # fmt: skip
    rows = [
        [
            words.name(one.name),
            words.count(one.calls),
            f"{one.failed:,} ({words.percent(one.failed / one.calls)})" if one.failed else "0",
            words.seconds(one.p50),
            words.seconds(one.p95),
            words.seconds(one.first_p50),
            words.seconds(one.first_p95),
            words.count(one.input_tokens),
            words.count(one.output_tokens),
            words.usd(one.cost),
            ", ".join(f"{_short(name)} {count:,}" for name, count in one.errors),
        ]
        for one in components
    ]
    # What none of a kind has is no column: tools have no tokens.
    kept = [n for n in range(len(names)) if n < 3 or any(row[n] for row in rows)]
    columns, rows = [names[n] for n in kept], [[row[n] for n in kept] for row in rows]
    if screen.fits(columns, rows):
        screen.table(columns, rows, right=set(names[1:-1]), whole={"name"})
        return
    for row in rows:
        screen.parts((row[0], "bold"))
        screen.line("  " + "  ".join(f"{name} {cell}" for name, cell in zip(columns[1:], row[1:],
                                     strict=True) if cell))  # fmt: skip


def _short(error_type: str) -> str:
    """Return an error's type without its module."""
    from . import _words as words

    return words.name(error_type.rpartition(".")[2]) or "error"
