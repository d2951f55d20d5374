"""Encoding, for any value that there is."""

from __future__ import annotations

import json
import math
import sys
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage

from asynctrack._common import careful, payload
from tests.property.strategies import json_like, thorough, valid_text, weird


@thorough
@given(json_like)
def test_what_json_holds_comes_back(value: Any) -> None:
    """A JSON-like value is decoded to what was encoded."""
    assert payload.decode(payload.encode({"x": value})) == {"x": value}


@thorough
@given(json_like)
def test_both_paths_agree(value: Any) -> None:
    """The careful path encodes what JSON holds to the same bytes as the fast one."""
    record = {"x": value}
    assert payload.encode(record) == payload.encode(careful.to_plain(record))
    assert careful.to_plain(record) == record


@thorough
@given(json_like | weird, st.booleans())
def test_the_short_way_makes_the_same_line(value: Any, said: bool) -> None:
    """A record of plain values has the line that the long way makes of it, or takes that."""
    record = {"x": value, "neighbour": [value]}
    if said:
        record["message"] = AIMessage("hi", response_metadata={"more": value}, also=value)
    line = payload.plain_line(record, sys.maxsize)
    assert line is None or line == payload.Encoding().line(record)


@thorough
@given(st.recursive(st.none() | st.floats(), lambda inner: st.lists(inner), max_leaves=10))
def test_no_number_passes_for_null(value: Any) -> None:
    """NaN and infinity become markers that name them; null comes from None only."""

    def expected(item: Any) -> Any:
        if isinstance(item, list):
            return [expected(one) for one in item]
        if item is None or math.isfinite(item):
            return item
        return {"$type": "float", "value": str(item)}

    assert payload.decode(payload.encode({"x": value})) == {"x": expected(value)}


@thorough
@given(weird)
def test_nothing_makes_it_raise(value: Any) -> None:
    """Any structure becomes one line of JSON, and its neighbours are kept."""
    line = payload.encode({"time_unix_nano": 1, "x": value, "neighbour": "kept"})
    assert line.startswith(b'{"time_unix_nano":1,')
    assert b"\n" not in line
    decoded = json.loads(line)  # another parser, with its own idea of what JSON is
    assert list(decoded) == ["time_unix_nano", "x", "neighbour"]
    assert decoded["neighbour"] == "kept"


@thorough
@given(weird)
def test_the_careful_path_gives_plain_data(value: Any) -> None:
    """What the careful path returns is plain: it does not change when it is walked again."""
    plain = careful.to_plain(value)
    assert careful.to_plain(plain) == plain


# Few, so that some read the same as text.
keys = (
    st.sampled_from(["0", "1", "None", "True", "1~1", 0, 1.5, "1.5", None, True, 2**70])
    | valid_text
)


@thorough
@given(st.dictionaries(keys, st.integers(), max_size=12))
def test_no_key_is_lost(value: dict[Any, int]) -> None:
    """Keys that read the same as text are kept apart: each value is there."""
    decoded = payload.decode(payload.encode({"x": value}))["x"]
    assert sorted(map(str, decoded.values())) == sorted(
        str(careful.to_plain(item)) for item in value.values()
    )
