"""What differs between two samples beyond noise (pure).

Each number has an interval of its own: ``rate`` that of Wilson (1927), ``quantile`` that of order
statistics (Conover, Practical Nonparametric Statistics, 3rd ed., 3.2), ``mean`` the normal one. The
interval of a difference is made of two of these by the square-and-add method: of rates Newcombe's
(Statistics in Medicine 17, 1998, method 10), of anything Zou and Donner's (Statistics in Medicine
27, 2008). It holds in 99 of 100 cases: of the hundred numbers of two Runs that are alike, one is
taken for a change.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

Z: Final = 2.5758293035489004
"""The 99.5 % quantile of the normal distribution."""
ENOUGH: Final = 30
"""Values from which on the mean of values with any distribution is about normal."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number that is known as far as its sample tells.

    Attributes:
        value: The sample's.
        low: It may be as little as this; ``-inf`` where the sample is too small to tell.
        high: It may be as much as this; ``inf`` where the sample is too small to tell.
    """

    value: float
    low: float
    high: float

    @property
    def beyond_noise(self) -> bool:
        """Whether it is not 0, as far as can be told."""
        return self.low > 0 or self.high < 0


def rate(count: int, total: int) -> Estimate | None:
    """Return how many of so many; None of none."""
    if not total:
        return None
    p, zz = count / total, Z * Z
    middle = (p + zz / (2 * total)) / (1 + zz / total)
    half = Z * math.sqrt(p * (1 - p) / total + zz / (4 * total * total)) / (1 + zz / total)
    return Estimate(p, max(0.0, min(p, middle - half)), min(1.0, max(p, middle + half)))


def quantile(ordered: Sequence[float], percent: int) -> Estimate | None:
    """Return the smallest value that so many percent are at most, as ``Percentiles`` has it.

    Args:
        ordered: The values, sorted; of none there is no quantile.
        percent: 1 to 99.
    """
    count = len(ordered)
    if not count:
        return None
    expected = count * percent / 100
    half = Z * math.sqrt(expected * (100 - percent) / 100)
    first, last = math.floor(expected - half), math.ceil(expected + half) + 1  # from 1
    return Estimate(
        ordered[-(-count * percent // 100) - 1],
        ordered[first - 1] if first >= 1 else -math.inf,
        ordered[last - 1] if last <= count else math.inf,
    )


def mean(count: int, value: float | None, deviation: float | None) -> Estimate | None:
    """Return the mean of so many values.

    Args:
        count: How many values there are; of none there is no mean.
        value: Their mean.
        deviation: Their standard deviation, as of a sample.
    """
    if not count or value is None:
        return None
    half = math.inf
    if count >= ENOUGH and deviation is not None:
        half = Z * deviation / math.sqrt(count)
    return Estimate(value, value - half, value + half)


def difference(first: Estimate, second: Estimate) -> Estimate:
    """Return by how much the second is more than the first."""
    value = second.value - first.value
    low = math.hypot(second.value - second.low, first.high - first.value)
    high = math.hypot(second.high - second.value, first.value - first.low)
    return Estimate(value, value - low, value + high)
