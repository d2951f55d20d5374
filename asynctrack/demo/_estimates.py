"""Statistics of paired rounds, for the demo and the benchmarks.

Single runs on a shared machine scatter as much as the effects that are looked for. So all variants
take turns in one process, and in several fresh ones where there is time; what is reported is the
median of the paired differences, with a 95 % confidence interval from a bootstrap that draws
processes first and rounds of each second, because rounds of one process resemble each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

RESAMPLES: Final = 2_000
SEED: Final = 20_26

UNBOUNDED: Final = 1e9
"""Stands for a ratio to nothing measurable; JSON has no infinity."""

Rounds = Sequence[Sequence[float]]
"""One list for each process, one value for each round."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % confidence interval.

    Attributes:
        value: Median over all rounds.
        low: Lower bound.
        high: Upper bound.
    """

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        """Return it for JSON, rounded to what is meant by it."""
        return {"value": _short(self.value), "low": _short(self.low), "high": _short(self.high)}


def median(rounds: Rounds) -> Estimate:
    """Return the median of all rounds of all processes."""
    values = [np.asarray(process, dtype=float) for process in rounds]
    drawn = [
        float(np.median(np.concatenate(_draw(values, generator))))
        for generator in [np.random.default_rng(SEED)]
        for _ in range(RESAMPLES)
    ]
    return _estimate(float(np.median(np.concatenate(values))), drawn)


def ratio(above: Rounds, below: Rounds) -> Estimate:
    """Return the ratio of two medians; rounds that ran together are drawn together.

    Raises:
        ValueError: The two do not have the same processes and rounds.
    """
    if [len(process) for process in above] != [len(process) for process in below]:
        raise ValueError("a ratio needs the same rounds on both sides")
    pairs = [np.asarray(pair, dtype=float).T for pair in zip(above, below, strict=True)]
    generator = np.random.default_rng(SEED)
    drawn = [_quotient(np.concatenate(_draw(pairs, generator))) for _ in range(RESAMPLES)]
    return _estimate(_quotient(np.concatenate(pairs)), drawn)


def differences(rounds: Rounds, base: Rounds, per: float = 1.0) -> list[list[float]]:
    """Subtract the base of the same round, and divide by ``per``."""
    return [
        [(value - zero) / per for value, zero in zip(one, other, strict=True)]
        for one, other in zip(rounds, base, strict=True)
    ]


def _draw(values: list[Any], generator: np.random.Generator) -> list[Any]:
    chosen = generator.integers(0, len(values), len(values))
    return [
        values[index][generator.integers(0, len(values[index]), len(values[index]))]
        for index in chosen
    ]


def _quotient(pairs: Any) -> float:
    above, below = np.median(pairs, axis=0)
    return min(float(above / below), UNBOUNDED) if below > 0 else UNBOUNDED


def _estimate(value: float, drawn: list[float]) -> Estimate:
    low, high = np.percentile(np.asarray(drawn), [2.5, 97.5], method="nearest")
    return Estimate(value, float(low), float(high))


def _short(value: float) -> float:
    return float(f"{value:.4g}")
