"""The statistics of paired rounds."""

from __future__ import annotations

import random

import pytest

from asynctrack.demo import _estimates


def _noisy(center: float, spread: float, seed: int) -> list[list[float]]:
    generator = random.Random(seed)
    return [[center + generator.gauss(0, spread) for _ in range(30)] for _ in range(4)]


def test_median_lies_in_its_interval_and_near_the_truth() -> None:
    """The estimate of a noisy cost holds the true one between its bounds."""
    estimate = _estimates.median(_noisy(10.0, 2.0, seed=1))
    assert estimate.low <= estimate.value <= estimate.high
    assert estimate.low < 10.0 < estimate.high
    assert estimate.high - estimate.low < 2.0


def test_interval_is_wide_when_processes_disagree() -> None:
    """Rounds that agree within a process do not hide that processes differ."""
    agreeing = [[10.0, 10.1, 9.9] * 10 for _ in range(4)]
    differing = [[center] * 30 for center in (5.0, 8.0, 12.0, 15.0)]
    narrow, wide = _estimates.median(agreeing), _estimates.median(differing)
    assert narrow.high - narrow.low < 0.3
    assert wide.high - wide.low > 4.0


def test_noise_that_hits_both_sides_cancels_in_differences() -> None:
    """A slow round slows the base as well: the difference stays what tracking costs."""
    base = [[100.0, 500.0, 100.0], [300.0, 100.0, 900.0]]
    tracked = [[value + 7.0 for value in process] for process in base]
    assert _estimates.differences(tracked, base) == [[7.0] * 3, [7.0] * 3]
    assert _estimates.differences(tracked, base, per=7.0) == [[1.0] * 3, [1.0] * 3]


def test_ratio_of_twice_the_cost_is_two() -> None:
    """Pairs are kept together: what is always twice as dear has a ratio without any spread."""
    below = _noisy(10.0, 3.0, seed=2)
    above = [[2 * value for value in process] for process in below]
    estimate = _estimates.ratio(above, below)
    assert estimate.as_dict() == {"value": 2.0, "low": 2.0, "high": 2.0}


def test_ratio_to_nothing_is_unbounded_and_still_json() -> None:
    """A floor that is not measurable gives no figure that could pass for one."""
    estimate = _estimates.ratio([[1.0, 2.0]], [[0.0, -1.0]])
    assert estimate.value == _estimates.UNBOUNDED


def test_ratio_refuses_rounds_that_do_not_belong_together() -> None:
    """Pairs that are none are an error, not a figure."""
    with pytest.raises(ValueError, match="same rounds"):
        _estimates.ratio([[1.0, 2.0]], [[1.0]])
