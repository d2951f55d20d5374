"""What is beyond noise: laws of the intervals, and numbers from elsewhere."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynctrack._reading.answers.noise import Estimate, Z, difference, mean, quantile, rate

SHARES = st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
VALUES = st.lists(st.floats(0, 100), min_size=1, max_size=400).map(sorted)
PERCENTS = st.sampled_from([50, 95])


@st.composite
def estimates(draw: st.DrawFn) -> Estimate:
    """An estimate of any kind."""
    kind = draw(st.sampled_from(["rate", "quantile", "mean"]))
    found = None
    if kind == "rate":
        found = rate(*draw(SHARES))
    elif kind == "quantile":
        found = quantile(draw(VALUES), draw(PERCENTS))
    else:
        found = mean(draw(st.integers(1, 99)), draw(st.floats(0, 9)), draw(st.floats(0, 9)))
    assert found is not None
    return found


@given(estimates())
def test_the_value_is_in_its_interval(one: Estimate) -> None:
    """What was seen is always possible; of itself it does not differ."""
    assert one.low <= one.value <= one.high
    same = difference(one, one)
    assert same.low <= 0 <= same.high and same.value == 0 and not same.beyond_noise


@given(estimates(), estimates())
def test_swapping_the_runs_mirrors_the_interval(first: Estimate, second: Estimate) -> None:
    """B less A is A less B with the other sign."""
    there, back = difference(first, second), difference(second, first)
    assert (back.value, back.low, back.high) == (-there.value, -there.high, -there.low)
    assert there.beyond_noise == back.beyond_noise


def width(one: Estimate | None) -> float:
    assert one is not None
    return one.high - one.low


@given(SHARES, SHARES, st.integers(2, 9))
def test_more_of_the_same_narrows_rates(
    first: tuple[int, int], second: tuple[int, int], times: int
) -> None:
    """The same shares of more calls are known better, and so is their difference."""
    one, other = rate(*first), rate(*second)
    more, others = (rate(n * times, total * times) for n, total in (first, second))
    assert one and other and more and others
    assert width(more) < width(one)
    assert width(difference(more, others)) <= width(difference(one, other)) + 1e-12


@given(VALUES, PERCENTS, st.integers(2, 9))
def test_more_of_the_same_narrows_quantiles(values: list[float], percent: int, times: int) -> None:
    """The same values, each more often, have the same quantile, and it is known better."""
    one, more = quantile(values, percent), quantile(sorted(values * times), percent)
    assert one is not None and more is not None
    assert more.value == one.value
    assert one.low <= more.low and more.high <= one.high


@given(st.integers(1, 99), st.floats(0, 9), st.floats(0, 9), st.integers(2, 9))
def test_more_of_the_same_narrows_means(
    count: int, value: float, deviation: float, times: int
) -> None:
    """The mean of more values is known better; of a few values nothing is known."""
    one, more = mean(count, value, deviation), mean(count * times, value, deviation)
    assert one is not None and more is not None
    assert one.low <= more.low and more.high <= one.high
    assert math.isinf(one.low) == (count < 30)


def test_of_nothing_there_is_no_estimate() -> None:
    """No calls have no rate, no values no quantile and no mean."""
    assert rate(0, 0) is None and quantile([], 50) is None and mean(0, None, None) is None


def test_the_99_percent_interval() -> None:
    """Z is what its name says; a published example, at its own level, comes out as printed."""
    assert pytest.approx(NormalDist().inv_cdf(0.995)) == Z


def test_newcombes_example(monkeypatch: pytest.MonkeyPatch) -> None:
    """56 of 70 less 48 of 80, Newcombe 1998, table II, method 10: 0.0524 to 0.3339 at 95 %."""
    monkeypatch.setattr("asynctrack._reading.answers.noise.Z", NormalDist().inv_cdf(0.975))
    first, second = rate(48, 80), rate(56, 70)
    assert first is not None and second is not None
    found = difference(first, second)
    assert (round(found.low, 4), round(found.high, 4)) == (0.0524, 0.3339)


@pytest.mark.parametrize("percent", [50, 95])
def test_small_samples_tell_nothing_of_a_quantile(percent: int) -> None:
    """Where the interval would need a value that is not there, it has no end."""
    found = quantile([1.0, 2.0, 3.0], percent)
    assert found is not None and math.isinf(found.high)
    assert quantile(list(range(1000)), 95) == Estimate(949, 931, 968)


@pytest.mark.parametrize(
    "made",
    [
        lambda dice: rate(sum(dice.random() < 0.1 for _ in range(300)), 300),
        lambda dice: quantile(sorted(dice.lognormvariate(0, 1) for _ in range(300)), 95),
        lambda dice: quantile(sorted(dice.lognormvariate(0, 1) for _ in range(300)), 50),
    ],
)
def test_alike_runs_seldom_seem_to_differ(made: Callable[[random.Random], Estimate | None]) -> None:
    """Of 1,000 pairs of Runs that are alike, about ten are told to differ; not thirty."""
    dice = random.Random(7)
    told = 0
    for _ in range(1000):
        first, second = made(dice), made(dice)
        assert first is not None and second is not None
        told += difference(first, second).beyond_noise
    assert told < 20
