"""The law of replaying: whatever was logged is answered again, message by message."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from asynctrack import tracker
from asynctrack.testing import replay_model
from tests.testing.scripted import Scripted, told, whole

pytestmark = pytest.mark.may_block("no event loop in here")

TEXTS = st.text(st.characters(codec="utf-8"), max_size=40)
WORDS = st.text("abcxyz_", min_size=1, max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
CALLS = st.lists(st.tuples(WORDS, st.dictionaries(WORDS, JSON, max_size=3)), max_size=3)


@st.composite
def answers(draw: st.DrawFn) -> AIMessage:
    """An answer: text, tools that it asks for, usage, and what the provider said of it."""
    read, written = draw(st.integers(0, 10**6)), draw(st.integers(0, 10**6))
    usage = {"input_tokens": read, "output_tokens": written, "total_tokens": read + written}
    return AIMessage(
        draw(TEXTS),
        tool_calls=[
            {"name": name, "args": args, "id": f"call_{number}", "type": "tool_call"}
            for number, (name, args) in enumerate(draw(CALLS))
        ],
        usage_metadata=draw(st.none() | st.just(usage)),
        response_metadata=draw(
            st.fixed_dictionaries({}, optional={"finish_reason": WORDS, "model_name": WORDS})
        ),
    )


TURNS = st.lists(st.tuples(TEXTS, answers(), st.booleans()), min_size=1, max_size=4)
"""What the user says, what is answered, and whether that is streamed."""


def converse(model: Any, turns: Any, config: Any) -> list[dict[str, Any]]:
    """Hold a conversation, with an answer of each tool that is asked for; return what was said."""
    history: list[BaseMessage] = []
    said = []
    for question, _, streamed in turns:
        history.append(HumanMessage(question))
        if streamed:
            answer: Any = whole(list(model.stream(history, config)))
        else:
            answer = model.invoke(history, config)
        said.append(told(answer))
        history.append(answer)
        history += [
            ToolMessage(f"of {one['name']}", tool_call_id=one["id"]) for one in answer.tool_calls
        ]
    return said


@given(TURNS, st.integers(1, 9))
@settings(max_examples=20)
def test_a_replayed_conversation_is_the_logged_one(turns: Any, size: int) -> None:
    """Each message equals the logged one: with tools, streams and usage, in the same order."""
    with tempfile.TemporaryDirectory() as folder:
        model = Scripted(script=[answer for _, answer, _ in turns], size=size)
        with tracker(folder, spool_dir=str(Path(folder) / "spool")) as handler:
            logged = converse(model, turns, {"callbacks": [handler]})
        replayed = replay_model(folder, spool_dir=False)
        assert converse(replayed, turns, {}) == logged
