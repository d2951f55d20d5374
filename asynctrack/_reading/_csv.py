"""CSV that a spreadsheet shows as text: no cell of what was logged may become a formula."""

from __future__ import annotations

from typing import Final

_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%", "＝", "＋", "－", "＠")
"""What Excel, LibreOffice or Google Sheets may take for the start of a formula or a command."""


def safe_cell(text: str) -> str:
    """Return a text with ``'`` before it where a spreadsheet would run it; numbers are left."""
    if text.lstrip(" \u00a0").startswith(_STARTS) and not _is_number(text):
        return f"'{text}"
    return text


def _is_number(text: str) -> bool:
    # float() takes more than a number: "-1_0", " -1", "-inf" and other digits than ours.
    if not text.isascii() or "_" in text or text.strip() != text:
        return False
    try:
        float(text)
    except ValueError:
        return False
    return text[-1].isdigit()
