"""Shows how two texts differ: line by line, and word by word within a line that was changed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Final

from ._screen import Screen
from ._words import shortened

LIMIT: Final = 20_000
"""Characters of a text that are compared: comparing takes the square of their number. All of a
longer one is printed."""
_WORDS_LIMIT: Final = 2_000
_CONTEXT: Final = 2
_BRIEF: Final = 400
_BEFORE: Final = 80
_WORD: Final = re.compile(r"\s+|\w+|[^\w\s]")

_Parts = list[tuple[str, str]]


def show_text_diff(
    first: str | None, second: str | None, screen: Screen, *, lines: int | None = None
) -> None:
    """Print how two texts differ; one that is not there differs in every line.

    Args:
        first: The old one.
        second: The new one.
        screen: Where to.
        lines: How many lines at the most; from where the texts begin to differ, and a few hundred
            characters of each. None prints all.
    """
    if lines is not None and first is not None and second is not None:
        first, second = _from_difference(first, second)
    limit = None if lines is None else _BRIEF
    olds, news = (
        [] if text is None else shortened(text, limit).split("\n") for text in (first, second)
    )
    shown = list(_all(olds, news) if _long(first, second, limit) else _changed(olds, news))
    for parts in shown[:lines]:
        screen.parts(*parts)
    if lines is not None and len(shown) > lines:
        screen.line(f"      … {len(shown) - lines:,} more lines", "dim")


def _long(first: str | None, second: str | None, limit: int | None) -> bool:
    return limit is None and max(len(first or ""), len(second or "")) > LIMIT


def _all(olds: list[str], news: list[str]) -> Iterator[_Parts]:
    for line in olds:
        yield [(f"    - {line}", "red")]
    for line in news:
        yield [(f"    + {line}", "green")]


def _changed(olds: list[str], news: list[str]) -> Iterator[_Parts]:
    matcher = difflib.SequenceMatcher(None, olds, news, autojunk=False)
    for group in matcher.get_grouped_opcodes(_CONTEXT):
        for tag, a, b, c, d in group:
            if tag == "equal":
                for line in olds[a:b]:
                    yield [(f"      {line}", "dim")]
            elif tag == "replace" and b - a == d - c:
                changed = zip(olds[a:b], news[c:d], strict=True)
                pairs = [_words(one, other) for one, other in changed]
                for old, _ in pairs:
                    yield [("    - ", "red"), *old]
                for _, new in pairs:
                    yield [("    + ", "green"), *new]
            else:
                yield from _all(olds[a:b], news[c:d])


def _from_difference(first: str, second: str) -> tuple[str, str]:
    """Return two texts from a little before they begin to differ."""
    pairs = enumerate(zip(first, second, strict=False))
    same = next((n for n, (one, other) in pairs if one != other), min(len(first), len(second)))
    if same <= _BRIEF // 2:
        return first, second
    begin = same - _BEFORE
    return f"…{first[begin:]}", f"…{second[begin:]}"


def _words(old: str, new: str) -> tuple[_Parts, _Parts]:
    """Return a line of either text in parts; what differs is in bold."""
    if len(old) + len(new) > _WORDS_LIMIT:
        return [(old, "red")], [(new, "green")]
    ones, others = _WORD.findall(old), _WORD.findall(new)
    olds: _Parts = []
    news: _Parts = []
    matcher = difflib.SequenceMatcher(None, ones, others, autojunk=False)
    for tag, a, b, c, d in matcher.get_opcodes():
        strong = "" if tag == "equal" else "bold "
        if a < b:
            olds.append(("".join(ones[a:b]), f"{strong}red"))
        if c < d:
            news.append(("".join(others[c:d]), f"{strong}green"))
    return olds, news
