"""Strings that are JSON, as values; and which spans only wrap others."""

# ruff: noqa: E501  # what is logged stands as it is logged

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynctrack.view._blocks import SHOWN, Side
from asynctrack.view._tree import wrappers
from asynctrack.view._unfold import LONGEST, parsed, unfolded

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(st.lists(VALUES, min_size=1) | st.dictionaries(st.text(), VALUES, min_size=1))
def test_what_is_json_is_found(value: Any) -> None:
    """A string that is a list or an object as JSON is taken for exactly that."""
    assert parsed(f" {json.dumps(value)}\n") == value


@given(st.text())
def test_any_other_text_is_text(text: str) -> None:
    """Nothing else is taken for a value, and nothing fails on it."""
    assert unfolded(text) == (text, 0) or json.loads(text) == unfolded(text)[0]


@pytest.mark.parametrize(
    "text",
    ["1", '"a"', "null", "true", "[]", "{}", "[1", "{1}", "[1] and more", '{"a": NaN}', "[Infinity]",
     "[1e999]", "[0.10000000000000000001]", '{"a": 1, "a": 2}', '[{"a": {"b": 1, "b": 1}}]',
     "[" * 100_000 + "]" * 100_000, "[" + "9" * 5_000 + "]", json.dumps(["x" * LONGEST])],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_what_says_less_than_its_text_stays_text(text: str) -> None:
    """No name that comes twice gets lost, no number is changed, and no depth breaks anything."""
    assert parsed(text) is None
    assert unfolded(text) == (text, 0)


def test_strings_in_strings() -> None:
    """JSON in a string in JSON in a string is unfolded to its end, and counted."""
    inner = json.dumps({"answer": [42]})
    value = {"a": json.dumps({"b": inner, "c": "plain"}), "d": [inner]}
    assert unfolded(value) == (
        {"a": {"b": {"answer": [42]}, "c": "plain"}, "d": [{"answer": [42]}]},
        3,
    )


def test_a_block_holds_both() -> None:
    """The value stands beside what was logged, and each long one can be asked for whole."""
    text = json.dumps({"rows": ["x" * 30] * 2_000})
    (block,) = Side({"type": "tool", "content": text}).blocks
    shown = block["parts"][0]["text"]
    assert shown["text"] == text[:SHOWN] and shown["length"] == len(text)
    value = shown["unfolded"]
    assert value["text"].startswith('{\n  "rows": [\n    "xxx') and value["length"] > len(text)
    for one, whole in ((shown, text), (value, json.dumps(json.loads(text), indent=2))):
        found = Side({"type": "tool", "content": text}, whole=one["number"]).found
        assert found == whole


def test_arguments_and_values_unfold() -> None:
    """A call's arguments as a string, and strings in what was logged as JSON, have their values."""
    arguments = '{"city":"Oslo"}'
    call = {"function": {"name": "weather", "arguments": arguments}, "id": "1"}
    (message,) = Side(
        {"type": "ai", "content": "", "additional_kwargs": {}, "tool_calls": [call]}
    ).blocks
    assert message["parts"][0]["text"]["unfolded"]["text"] == '{\n  "city": "Oslo"\n}'
    (field,) = Side({"state": {"payload": arguments}}).blocks
    assert json.loads(field["text"]["text"]) == {"payload": arguments}
    assert json.loads(field["text"]["unfolded"]["text"]) == {"payload": {"city": "Oslo"}}
    assert "unfolded" not in Side({"state": {"payload": "plain"}}).blocks[0]["text"]
    assert "unfolded" not in Side(arguments, unfold=False).blocks[0]["text"]


def row(depth: int, name: str, kind: str = "chain", **more: Any) -> dict[str, Any]:
    """A span as the waterfall asks for it."""
    return {"depth": depth, "name": name, "kind": kind, "outcome": "ok", "error": None, **more}


def wrapping(*rows: dict[str, Any]) -> list[str]:
    """The names of those that only wrap others."""
    return [one["name"] for one, wraps in zip(rows, wrappers(rows), strict=True) if wraps]


def test_what_langchain_makes_wraps() -> None:
    """Sequences, maps and graphs within are wrappers; roots, nodes, models and tools are none."""
    assert wrapping(
        row(0, "RunnableSequence"), row(1, "RunnableParallel<a,b>"), row(2, "RunnableSequence"),
        row(3, "ChatOpenAI", "chat_model"), row(2, "RunnablePassthrough"),
        row(1, "RunnableAssign<c>"), row(1, "agent"), row(2, "LangGraph"), row(3, "tools"),
        row(4, "search", "tool"), row(1, "RunnableSequence of mine"), row(1, "RunnableParallel", "tool"),
        row(0, "LangGraph"),
    ) == ["RunnableParallel<a,b>", "RunnableSequence", "RunnablePassthrough", "RunnableAssign<c>",
          "LangGraph"]  # fmt: skip


def test_nameless_code_wraps_only_one_call() -> None:
    """A function without a name is of interest, unless all it does is to call one thing."""
    assert wrapping(row(0, "a"), row(1, "RunnableLambda")) == []
    assert wrapping(row(0, "a"), row(1, "RunnableLambda"), row(2, "b")) == ["RunnableLambda"]
    assert wrapping(row(0, "a"), row(1, "RunnableLambda"), row(2, "b"), row(2, "c")) == []


def test_where_something_came_up_is_no_wrapper() -> None:
    """An error that a span passes on hides nothing; one that came up in it is seen."""
    failed = {"outcome": "error", "error": "ValueError: x"}
    passed_on = (row(0, "a"), row(1, "RunnableSequence", **failed), row(2, "b", **failed))
    assert wrapping(*passed_on) == ["RunnableSequence"]
    own = {"outcome": "error", "error": "KeyError: y"}
    for above, below in ((own, failed), (own, {}), ({"outcome": "unfinished"}, {})):
        assert (
            wrapping(row(0, "a"), row(1, "RunnableSequence", **above), row(2, "b", **below)) == []
        )
