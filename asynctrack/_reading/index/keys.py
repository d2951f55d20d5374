"""What a trace was asked and what it answered, without what differs from call to call (pure).

So two Runs are compared: a question is found in the other Run, and its answers differ only where
the texts do.
"""

from __future__ import annotations

from typing import Any, Final

_DEPTH: Final = 100
_STEPS: Final = 20
_HUMAN: Final = frozenset({"human", "user", "HumanMessageChunk"})
_ROLES: Final = _HUMAN | {"ai", "assistant", "system", "developer", "tool"}
_HOLDS_ANSWER: Final = ("messages", "generations", "message", "output")


def question_of(inputs: Any) -> Any:
    """Return what was asked: the text of the last message of a human, else all that went in.

    The conversation until then is left out: it holds answers, which may differ from Run to Run.

    Example:
        >>> question_of({"messages": [{"type": "human", "content": "Where is it?", "id": "7"}]})
        'Where is it?'
        >>> question_of({"question": "And now?", "history": [{"type": "ai", "content": "Hi"}]})
        {'question': 'And now?'}
    """
    messages = _messages(inputs)
    if messages is None and isinstance(inputs, dict):
        messages = _messages(inputs.get("messages"))
        if messages is None:
            asked = {key: item for key, item in inputs.items() if _messages(item) is None}
            return steady(asked or inputs)
    if messages is None:
        return steady(inputs)
    return _text(next((one for one in reversed(messages) if _role(one) in _HUMAN), messages[-1]))


def final_answer(outputs: Any) -> Any:
    """Return the final answer: the last message's text and calls of tools, else all that came out.

    Example:
        >>> final_answer({"messages": [{"type": "human", "content": "?"},
        ...                         {"type": "ai", "content": "At the depot.", "id": "run-1"}]})
        'At the depot.'
    """
    value = outputs
    for _ in range(_STEPS):
        messages = _messages(value)
        if messages is not None:
            return _text(messages[-1])
        if isinstance(value, list) and value:
            # A batch of one; a list of LangGraph's updates, each by the name of its node.
            if len(value) > 1 and not all(isinstance(one, dict) and len(one) == 1 for one in value):
                break
            value = value[-1]
        elif isinstance(value, dict):
            held = next((name for name in _HOLDS_ANSWER if value.get(name)), None)
            if held is None and len(value) != 1:
                break
            value = next(iter(value.values())) if held is None else value[held]
        else:
            break
    return steady(value)


def steady(value: Any, depth: int = 0) -> Any:
    """Return a payload without what differs from call to call: messages' ids and their usage."""
    if depth > _DEPTH:
        return None
    if isinstance(value, list):
        return [steady(item, depth + 1) for item in value]
    if not isinstance(value, dict):
        return value
    if "content" in value and isinstance(value.get("type"), str):
        message = {key: value[key] for key in ("type", "name", "content") if key in value}
        calls = _calls(value)
        if calls is not None:
            message["tool_calls"] = calls
        return message
    if "generations" in value:
        return steady(value["generations"], depth + 1)
    if "text" in value and "message" in value:
        return steady(value["message"], depth + 1)
    return {key: steady(item, depth + 1) for key, item in value.items()}


def _messages(value: Any) -> list[Any] | None:
    """Return messages, in any form that LangChain takes them in; None where it is something else.

    Images have a type, too, and no content: they are no messages.
    """
    if isinstance(value, dict):
        return [value] if _role(value) else None
    if not isinstance(value, list) or not value:
        return None
    if len(value) == 1 and isinstance(value[0], list) and _role(value[0]) is None:
        value = value[0]  # a batch of one
    return value if value and all(map(_role, value)) else None


def _role(value: Any) -> str | None:
    if isinstance(value, dict) and "content" in value:
        role = value.get("type", value.get("role"))
        return role if isinstance(role, str) else None
    if isinstance(value, list) and len(value) == 2 and str(value[0]) in _ROLES:
        return str(value[0])
    return None


def _text(message: Any) -> Any:
    """Return a message's text, or its blocks; and its calls of tools, if it has any."""
    if isinstance(message, list):
        return message[1]
    content = message["content"]
    if isinstance(content, list) and content and all(map(_is_text, content)):
        content = "".join(one if isinstance(one, str) else one["text"] for one in content)
    calls = _calls(message)
    return {"content": content, "tool_calls": calls} if calls else content


def _is_text(block: Any) -> bool:
    if isinstance(block, dict):
        return block.get("type") == "text" and isinstance(block.get("text"), str)
    return isinstance(block, str)


def _calls(message: dict[str, Any]) -> list[Any] | None:
    calls = message.get("tool_calls")
    if not isinstance(calls, list):
        return None
    return [
        {key: item for key, item in call.items() if key != "id"}
        for call in calls
        if isinstance(call, dict)
    ]
