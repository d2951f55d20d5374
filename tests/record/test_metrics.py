"""Metrics: windows to points, steps, summaries."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from asynctrack._common.artifact import MetricPoint
from asynctrack._common.measured import Measured
from asynctrack._record.metrics import MetricLog
from tests.property.strategies import quick


def test_an_empty_window_has_no_points() -> None:
    """Where nothing happened nothing is measured."""
    assert Measured().empty
    assert MetricLog().window(Measured(), 5) == []


def test_a_window() -> None:
    """One point of each metric: means, maxima, counts and sums."""
    window = Measured(
        model_calls=2, model_seconds=3.0, model_seconds_max=2.5, traces=4, trace_seconds=6.0,
        trace_seconds_max=2.0, errors=1, input_tokens=10, output_tokens=20,
    )  # fmt: skip
    points = MetricLog().window(window, 5)
    assert {point.name: point.value for point in points} == {
        "gen_ai.client.operation.duration": 1.5,
        "gen_ai.client.operation.duration.max": 2.5,
        "gen_ai.client.operation.count": 2.0,
        "gen_ai.usage.input_tokens": 10.0,
        "gen_ai.usage.output_tokens": 20.0,
        "asynctrack.trace.duration": 1.5,
        "asynctrack.trace.duration.max": 2.0,
        "asynctrack.trace.count": 4.0,
        "asynctrack.trace.errors": 1.0,
    }
    assert {(point.time_unix_nano, point.step) for point in points} == {(5, 0)}
    assert all(type(point.value) is float for point in points)


def test_only_what_was_measured() -> None:
    """A window without model calls says nothing of them."""
    points = MetricLog().window(Measured(traces=1, trace_seconds=1.0), 5)
    assert {point.name for point in points} == {
        "asynctrack.trace.duration", "asynctrack.trace.duration.max", "asynctrack.trace.count",
        "asynctrack.trace.errors",
    }  # fmt: skip


def test_steps() -> None:
    """Values without a step are numbered by name; one given is kept and counted on from."""
    log = MetricLog()
    points = log.points(
        [
            ("a", 1, 1, None),
            ("b", 1, 2, None),
            ("a", 2, 3, None),
            ("a", 3, 4, 10),
            ("a", 4, 5, None),
        ]
    )
    assert points == [
        MetricPoint("a", 1.0, 1, 0),
        MetricPoint("b", 1.0, 2, 0),
        MetricPoint("a", 2.0, 3, 1),
        MetricPoint("a", 3.0, 4, 10),
        MetricPoint("a", 4.0, 5, 11),
    ]


def test_names_are_such_as_aws_takes() -> None:
    """A name over the limit is cut, and one with a line break is shown on one line."""
    (long,) = MetricLog().points([("x" * 300, 1.0, 1, None)])
    (broken,) = MetricLog().points([("a\nb", 1.0, 1, None)])
    assert (len(long.name), broken.name) == (255, "a\\nb")


@quick
@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.floats(-1e6, 1e6), st.none() | st.integers(0, 100)),
        min_size=1,
    )
)
def test_the_summary(values: list[tuple[str, float, int | None]]) -> None:
    """Count, sum, extremes and the last value of each metric, and never a negative step."""
    log = MetricLog()
    points = log.points([(name, value, 1, step) for name, value, step in values])
    assert all(point.step >= 0 for point in points)
    for name, summary in log.summary().items():
        mine = [value for other, value, _ in values if other == name]
        assert summary["count"] == len(mine)
        assert math.isclose(summary["sum"], math.fsum(mine), abs_tol=1e-6)
        assert (summary["min"], summary["max"], summary["last"]) == (min(mine), max(mine), mine[-1])
    assert log.summary().keys() == {name for name, _, _ in values}


def test_the_summary_is_a_copy() -> None:
    """A summary that was read does not change with the next value."""
    log = MetricLog()
    log.points([("a", 1.0, 1, None)])
    before = log.summary()
    log.points([("a", 2.0, 1, None)])
    assert before["a"]["count"] == 1
