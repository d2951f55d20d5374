"""What the property tests draw from."""

from __future__ import annotations

import enum
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

# The machines that run these have few cores and other work: no deadline for a single example.
quick = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
thorough = settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])

any_text = st.text(st.characters())
"""Lone surrogates included."""

valid_text = st.text(st.characters(exclude_categories=["Cs"]))
"""What UTF-8 can hold."""

json_like = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | valid_text,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(valid_text, inner, max_size=5),
    max_leaves=25,
)
"""What JSON holds as it is."""


class Colour(enum.Enum):
    """An enum whose values are no strings."""

    RED = 1
    NONE = None


class Size(str, enum.Enum):
    """An enum whose members are strings."""

    SMALL = "small"


class RaisingRepr:
    """Cannot be shown."""

    def __repr__(self) -> str:
        raise ValueError("no repr")


class RaisingClass:
    """Raises when it is asked for its class, as a dead weak reference does."""

    @property  # type: ignore[misc]  # it may not be read: that is the point
    def __class__(self) -> Any:
        raise ReferenceError("gone")


class _Nameless(type):
    @property
    def __module__(cls) -> str:  # type: ignore[override]  # on purpose
        raise RuntimeError("no module")


class RaisingModule(metaclass=_Nameless):
    """Its class raises when it is asked for its module."""


class RaisingDict(dict[Any, Any]):
    """A dictionary that cannot be walked by its own methods."""

    def items(self) -> Any:
        raise RuntimeError("no items")

    def __iter__(self) -> Any:
        raise RuntimeError("no iteration")


class RaisingList(list[Any]):
    """A list that cannot be iterated."""

    def __iter__(self) -> Any:
        raise RuntimeError("no iteration")


class RaisingStr(str):
    """A string whose methods raise."""

    __slots__ = ()

    def __str__(self) -> str:
        raise RuntimeError("no str")

    def encode(self, *args: Any, **kwargs: Any) -> bytes:
        raise RuntimeError("no encode")


def _cycle() -> list[Any]:
    cycle: list[Any] = []
    cycle.append({"again": cycle})
    return cycle


weird_leaves = st.one_of(
    any_text,
    st.integers(),
    st.sampled_from([5000, 10_000]).map(lambda digits: 10**digits),
    st.floats(),
    st.binary(),
    st.complex_numbers(),
    st.decimals(),
    st.datetimes(),
    st.timedeltas(),
    st.uuids(),
    st.sampled_from([*Colour, *Size]),
    st.sets(st.integers(), max_size=3),
    st.builds(RaisingRepr),
    st.builds(RaisingClass),
    st.builds(RaisingModule),
    st.builds(RaisingStr, any_text),
    st.builds(ValueError, any_text),
    st.builds(_cycle),
    st.builds(object),
    st.just(iter),
    st.just(len),
)

weird = st.recursive(
    weird_leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.lists(inner, max_size=4).map(RaisingList),
        st.dictionaries(
            st.one_of(any_text, st.integers(), st.none(), st.booleans(), st.sampled_from(Colour)),
            inner,
            max_size=4,
        ),
        st.dictionaries(any_text, inner, max_size=4).map(RaisingDict),
    ),
    max_leaves=20,
)
"""Anything a chain may pass, and worse."""
