"""The snapshot of all counters."""

from __future__ import annotations

import dataclasses
import inspect
import pickle
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynctrack import Statistics
from tests.property.strategies import quick


def test_what_it_holds() -> None:
    """The counters that other programs read are there, and nothing has happened yet."""
    names = {item.name for item in dataclasses.fields(Statistics)}
    assert names >= {
        "accepted", "delivered", "spooled", "pending", "dead_lettered", "dropped", "artifacts",
        "bytes_delivered", "retries",
    }  # fmt: skip
    values = dataclasses.asdict(Statistics())
    for reasons in ("dropped", "traces_dropped", "feedback_dropped"):
        assert values.pop(reasons) == {}
    assert set(values.values()) == {0}


def test_each_is_described() -> None:
    """Each counter has its line in the docstring."""
    described = set(re.findall(r"^    (\w+): ", str(inspect.getdoc(Statistics)), re.MULTILINE))
    assert described == {item.name for item in dataclasses.fields(Statistics)}


def test_it_is_frozen() -> None:
    """A snapshot does not change."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Statistics().accepted = 5  # type: ignore[misc]  # on purpose


@quick
@given(st.lists(st.integers(0, 10**6), min_size=4, max_size=4), st.integers(-3, 3))
def test_the_equation(parts: list[int], off: int) -> None:
    """It is balanced when, and only when, what was accepted is the sum of where it is."""
    delivered, spooled, pending, dead = parts
    snapshot = Statistics(
        accepted=sum(parts) + off, delivered=delivered, spooled=spooled, pending=pending,
        dead_lettered=dead, dropped={"buffer_full": 5},
    )  # fmt: skip
    assert snapshot.balanced is (off == 0)


def test_it_crosses_process_boundaries() -> None:
    """A snapshot can be sent to another process."""
    snapshot = Statistics(accepted=5, pending=5, dropped={"closed": 1})
    assert pickle.loads(pickle.dumps(snapshot)) == snapshot
