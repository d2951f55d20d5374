"""Shows how two texts differ: line by line, and word by word within a line that was changed."""

from __future__ import annotations

import difflib
import re
from typing import Final

from ._screen import Screen
from ._words import shortened

LIMIT: Final = 20_000
"""Characters of a text that are compared: comparing takes the square of their number."""
_WORDS_LIMIT: Final = 2_000
_CONTEXT: Final = 2
_WORD: Final = re.compile(r"\s+|\w+|[^\w\s]")

_Parts = list[tuple[str, str]]


def show_text_diff(first: str | None, second: str | None, screen: Screen) -> None:
    """Print how two texts differ; one that is not there differs in every line."""
    olds, news = (
        [] if text is None else shortened(text, LIMIT).split("\n") for text in (first, second)
    )
    matcher = difflib.SequenceMatcher(None, olds, news, autojunk=False)
    for group in matcher.get_grouped_opcodes(_CONTEXT):
        for tag, a, b, c, d in group:
            if tag == "equal":
                for line in olds[a:b]:
                    screen.parts((f"      {line}", "dim"))
            elif tag == "replace" and b - a == d - c:
                changed = zip(olds[a:b], news[c:d], strict=True)
                pairs = [_words(one, other) for one, other in changed]
                for old, _ in pairs:
                    screen.parts(("    - ", "red"), *old)
                for _, new in pairs:
                    screen.parts(("    + ", "green"), *new)
            else:
                for line in olds[a:b]:
                    screen.parts((f"    - {line}", "red"))
                for line in news[c:d]:
                    screen.parts((f"    + {line}", "green"))


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
