"""Text and HTML of what was logged, for people: nothing in it is ever markup, nor hidden."""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Iterable
from typing import Final

from asynctrack._statistics import Statistics

LINE: Final = 200
"""Characters of a text on one line."""


def visible(text: str) -> str:
    """Return text with control, formatting and bidirectional characters as escapes.

    Line breaks and tabs stay.

    Example:
        >>> visible("a\\x1b[31m b")
        'a\\\\x1b[31m b'
    """
    if text.isprintable():
        return text
    return "".join(
        char
        if char in "\n\t" or char.isprintable() or unicodedata.category(char) == "Zs"
        else char.encode("unicode_escape", "surrogatepass").decode("ascii")
        for char in text
    )


def cut(text: str, length: int) -> tuple[str, int]:
    """Return the first characters of a text, and its length if some are left out, else 0."""
    return (text, 0) if len(text) <= length else (text[:length], len(text))


def one_line(text: str, length: int = LINE) -> str:
    """Return a text on one line and no longer than that, without control characters."""
    # Before it is cut, but not all of a text that may have any size.
    shown = visible(" ".join(text[: 4 * length].split()))
    return shown if len(shown) <= length and len(text) <= 4 * length else f"{shown[: length - 1]}…"


def escaped(text: str) -> str:
    """Return a text as HTML: the only way for logged text into markup."""
    return html.escape(visible(text), quote=True)


def line_html(text: str, length: int = LINE) -> str:
    """Return a text on one line, as HTML."""
    return html.escape(one_line(text, length), quote=True)


def text_html(text: str, length: int) -> str:
    """Return a text with its line breaks, cut, as HTML that needs no style sheet."""
    shown, whole = cut(text, length)
    more = f"\n… ({whole:,} characters)" if whole else ""
    # Notebooks align and wrap by rules of their own.
    return (
        '<pre style="margin:.2em 0;text-align:left;white-space:pre-wrap;overflow-wrap:anywhere">'
        f"{escaped(shown)}{more}</pre>"
    )


def facts_html(title: str, facts: Iterable[tuple[str, str]], note: str = "") -> str:
    """Return a title and a table of names and values, as HTML that needs no style sheet."""
    return _table(title, (_cell("th", name) + _cell("td", value) for name, value in facts), note)


def table_html(
    title: str, columns: Iterable[str], rows: Iterable[Iterable[str]], note: str = ""
) -> str:
    """Return a title and a table, as HTML that needs no style sheet."""
    head = "".join(_cell("th", column) for column in columns)
    body = ("".join(_cell("td", value) for value in row) for row in rows)
    return _table(title, [head, *body], note)


def _table(title: str, rows: Iterable[str], note: str) -> str:
    inner = "".join(f"<tr>{row}</tr>" for row in rows)
    under = f"<small>{line_html(note, 500)}</small>" if note else ""
    return f"<div><b>{line_html(title)}</b><table>{inner}</table>{under}</div>"


def _cell(tag: str, text: str) -> str:
    return f'<{tag} style="text-align:left">{line_html(text)}</{tag}>'


def counters(statistics: Statistics) -> list[tuple[str, str]]:
    """Return what a tracker counted, in words: the equation, and all else that is not 0."""
    waiting = statistics.spooled + statistics.pending
    found = [
        ("accepted", statistics.accepted),
        ("delivered", statistics.delivered),
        ("waiting", waiting),
        ("of these on disk", statistics.spooled),
        ("refused for good", statistics.dead_lettered),
        *((f"dropped: {reason}", count) for reason, count in statistics.dropped.items()),
        ("delivered for others", statistics.replayed),
        ("artifacts", statistics.artifacts),
        ("bytes delivered", statistics.bytes_delivered),
        ("retries", statistics.retries),
        ("traces sent", statistics.traces_sent),
        ("traces waiting", statistics.traces_waiting),
        *((f"traces dropped: {why}", count) for why, count in statistics.traces_dropped.items()),
        ("feedback sent", statistics.feedback_sent),
        ("feedback waiting", statistics.feedback_waiting),
        *(
            (f"feedback dropped: {why}", count)
            for why, count in statistics.feedback_dropped.items()
        ),
    ]
    always = ("accepted", "delivered", "waiting")
    return [(name, f"{count:,}") for name, count in found if count or name in always]


def counted(statistics: Statistics) -> str:
    """Return what a tracker counted, on one line.

    Example:
        >>> counted(Statistics(accepted=1200, delivered=1190, spooled=10, dropped={"full": 2}))
        '1,200 events accepted, 1,190 delivered, 10 waiting, 2 dropped'
    """
    rest = [
        (statistics.delivered, "delivered"),
        (statistics.spooled + statistics.pending, "waiting"),
        (statistics.dead_lettered, "refused for good"),
        (sum(statistics.dropped.values()), "dropped"),
    ]
    accepted = f"{statistics.accepted:,} events accepted"
    return ", ".join([accepted, *(f"{count:,} {word}" for count, word in rest if count)])
