"""Untrusted text made visible: what would act on a reader instead of being read is an escape."""

from __future__ import annotations

import unicodedata


def visible(text: str) -> str:
    """Return text with control, formatting and bidirectional characters as escapes.

    Line breaks and tabs stay.
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
    """Return the first characters of a text, and how many there are where some are left out."""
    return (text, 0) if len(text) <= length else (text[:length], len(text))
