"""What a trace stands for where traces were sampled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from asynctrack._common.outcome import Outcome
from asynctrack._format import SAMPLING

_SAMPLED: Final = frozenset({"ok", "cancelled", "interrupted"})
"""Outcomes of traces that are kept or left out as their sample says, also with ``keep_errors``."""


def weight_of(data: Mapping[str, Any], outcome: Outcome) -> float:
    """Return how many traces one stands for: itself, and those like it that were left out.

    Args:
        data: Of its root.
        outcome: The root's.
    """
    said = data.get(SAMPLING)
    rate = said.get("rate") if isinstance(said, dict) else None
    if not isinstance(said, dict) or type(rate) not in (int, float):
        return 1.0
    if said.get("keep_errors") is True and outcome not in _SAMPLED:
        return 1.0  # each one of these is kept
    assert isinstance(rate, (int, float))
    return 1 / rate if 0 < rate <= 1 else 1.0
