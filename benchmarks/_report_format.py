"""What the parts of the report share: results, and how figures and tables are written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks import _measure

Results = dict[str, dict[str, Any]]
"""By name of a benchmark, what its JSON file holds."""


def overhead_of(results: Results, workload: str, group: str) -> dict[str, Any] | None:
    """Return what was measured of a workload; None where that is missing or failed."""
    for result in results.get("overhead", {}).get("results", ()):
        named = result["workload"] == workload and result["group"] == group
        if named and "failed" not in result:
            measured: dict[str, Any] = result
            return measured
    return None


def shown(measured: dict[str, float] | None) -> str:
    """Write a figure with its confidence interval; nothing for None."""
    if measured is None:
        return ""
    value, low, high = (
        "∞" if measured[part] >= _measure.UNBOUNDED else f"{measured[part]:.3g}"
        for part in ("value", "low", "high")
    )
    return f"{value} ({low}–{high})"


def judged(
    what: str, limit: float, figure: dict[str, float] | None, unit: str = "×"
) -> tuple[str, str, str, str]:
    """Return a goal's line: reached when the upper bound of what was measured is below."""
    goal = f"≤ {limit:g} {unit}"
    if figure is None:
        return what, goal, "not measured", "–"
    reached = "yes" if figure["high"] <= limit else "no"
    if reached == "no" and figure["low"] <= limit:
        reached = "not shown"
    return what, goal, f"{shown(figure)} {unit}", reached


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table in Markdown; figures stand on the right."""
    lines = [head, ["---", *("--:" for _ in head[1:])], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
