"""Cells of CSV that a spreadsheet shows as text: logged text never becomes a formula."""

from __future__ import annotations

from typing import Final

_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%", "＝", "＋", "－", "＠")
"""Starts that Excel, LibreOffice or Google Sheets may read as a formula or a command."""


def safe_cell(text: str) -> str:
    """Return a text, with ``'`` before it if a spreadsheet would run it; numbers stay."""
    if text.lstrip(" \u00a0").startswith(_STARTS) and not _is_number(text):
        return f"'{text}"
    return text


def _is_number(text: str) -> bool:
    # float() takes more than plain numbers: "-1_0", " -1", "-inf", digits of other scripts.
    if not text.isascii() or "_" in text or text.strip() != text:
        return False
    try:
        float(text)
    except ValueError:
        return False
    return text[-1].isdigit()
