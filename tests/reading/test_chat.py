"""What was asked and answered, of what chains take and give."""

from __future__ import annotations

from typing import Any

import pytest

from asynctrack._reading.index.chat import answered, asked


def human(content: Any, **fields: Any) -> dict[str, Any]:
    return {"type": "human", "content": content, **fields}


def ai(content: Any, **fields: Any) -> dict[str, Any]:
    return {"type": "ai", "content": content, **fields}


CALL = {"name": "look", "args": {"id": 5}, "id": "call_1"}
PICTURE = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ("Hi", "Hi"),
        (None, ""),
        ({"messages": []}, ""),
        ({"messages": [human("first"), ai("answer"), human("last")]}, "last"),
        ({"messages": [human("last"), {"type": "system", "content": "Be kind"}]}, "last"),
        ({"messages": [{"role": "user", "content": "as OpenAI"}]}, "as OpenAI"),
        ({"messages": [["system", "Be kind"], ["user", "a pair"]]}, "a pair"),
        ({"messages": ["user", "one pair"]}, "one pair"),
        ({"messages": [[human("a batch of one")]]}, "a batch of one"),
        ({"messages": [human("Hi")], "language": "en"}, "Hi"),
        ({"input": "Why?", "chat_history": [human("before"), ai("so")]}, "Why?"),
        ({"question": "Why?", "context": "long"}, "Why?"),
        ({"input": [human("in a list")]}, "in a list"),
        ({"topic": "fish"}, "fish"),
        ({"a": 1, "b": 2}, '{"a":1,"b":2}'),
        (["user", 5, "x"], "x"),
        ({"messages": [human([{"type": "text", "text": "What"}, "is it?", PICTURE])]},
         "What\nis it?\nimage, https://example.org/a.png"),
        ({"resume": "yes"}, "yes"),
    ],
)  # fmt: skip
def test_the_last_human_message_is_what_was_asked(inputs: Any, said: str) -> None:
    """The user's text of this turn, whole, in each shape that chains take it."""
    assert asked(inputs) == said


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        ("Ho", "Ho"),
        (None, ""),
        (ai("Ho"), "Ho"),
        ({"messages": [human("old"), ai("old answer"), human("Q"), ai("new")]}, "new"),
        ({"messages": [human("old"), ai("old answer"), human("Q")]}, ""),
        ({"messages": [human("Q"), ai("a"), human("found", name="researcher")]}, "a"),
        ({"messages": [human("Q"), human("found", name="researcher")]}, "found"),
        ({"messages": [human("Q"), ai("", tool_calls=[CALL]), {"type": "tool", "content": "x"}]},
         '→ look({"id":5})'),
        ({"messages": [human("Q"), {"type": "tool", "content": "x"}]}, ""),
        (ai([{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Ho"}]), "Ho"),
        ({"output": "Ho", "intermediate_steps": []}, "Ho"),
        ({"answer": "Ho", "context": ["a", "b"]}, "Ho"),
        ({"generations": [[{"text": "Ho", "message": ai("Ho")}]]}, "Ho"),
        ({"generations": [[{"text": "Ho", "type": "Generation"}]]}, "Ho"),
        (ai("x" * 5000), "x" * 5000),
    ],
)  # fmt: skip
def test_the_last_message_after_the_question_is_the_answer(outputs: Any, said: str) -> None:
    """Answers of earlier turns are not this one's, and tools do not answer."""
    assert answered(outputs, "Q") == said
