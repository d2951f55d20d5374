"""A span as a test: what went in, and what came out, as Python (pure).

What was logged is only ever a literal: it cannot become code, and what is invisible is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timezone
from pprint import pformat
from typing import Any, Final

from asynctrack._common.outcome import said_outcome
from asynctrack._reading.decoding.events import json_text

LONGEST: Final = 100_000
"""Characters of literals; what is longer is read from the Run by the test itself."""
WIDTH: Final = 92

_FIXTURES: Final = {
    "chat_model": "model",
    "llm": "model",
    "tool": "tool",
    "retriever": "retriever",
    "prompt": "prompt",
    "parser": "parser",
}
_IN_MESSAGE: Final = ("content", "name", "tool_calls", "tool_call_id")


def pytest_case(
    span: Mapping[str, Any], payload: Mapping[str, Any], trace_id: str, uri: str
) -> str:
    """Return a test module for a recorded call.

    It expects the answer, or the exception. Of a call that was cancelled, that LangGraph left or
    whose end is not there neither is known: the test makes the call, and says so.

    Args:
        span: The span's row in the index.
        payload: What was logged in it.
        trace_id: The trace it belongs to.
        uri: The address of the Run.
    """
    kind = str(span["kind"])
    fixture = _FIXTURES.get(kind, "chain")
    given, wanted, actual = _expectation(kind, payload)
    outcome = span["outcome"]
    # A tool that reports its error in its answer raises nothing.
    answered = kind == "tool" and payload.get("outputs") is not None
    raises = outcome == "error" and not answered
    compares = outcome == "ok" or (outcome == "error" and answered)
    name = re.sub(r"\W+", "_", str(span["name"] or kind), flags=re.ASCII).strip("_").lower()
    title = f"test_{name or 'case'}_{re.sub('[^0-9a-f]', '', str(span['span_id']).lower())[-8:]}"
    literals = [_literal("GIVEN", given)]
    if compares:
        literals.append(_literal("EXPECTED", wanted))
    head = [
        "# Recorded by asynctrack" + _when(span["start"]) + ".",
        f"# Run: {uri!a}",
        f"# Trace: {trace_id!a}, span: {span['span_id']!a}",
        f"# Give {fixture!r} as a fixture, in conftest.py for example: what is to be tested.",
    ]
    if fixture == "chain":
        said = f"asynctrack's fixture replayed({uri!a})"
        head.append(f"# The models in it can answer from the log: {said}.")
    imports = ["import pytest"] if raises else []
    if any(literal is None for literal in literals):
        imports.append("from asynctrack import open_run")
        read = ["GIVEN = SPAN.inputs"] + (["EXPECTED = SPAN.outputs"] if compares else [])
        actual = f"{fixture}.invoke(GIVEN)"
        literals = [
            f"TRACES = open_run({uri!r}).traces()",
            f"TRACE = next(one for one in TRACES if one.trace_id == {trace_id!r})",
            f"SPAN = TRACE.find({span['span_id']!r})",
            *read,
        ]
    else:
        actual = actual.format(call=f"{fixture}.invoke(GIVEN)")
    call = f"{fixture}.invoke(GIVEN)"
    if compares:
        body = [f"    assert {actual} == EXPECTED"]
    elif raises:
        body = _raises(payload.get("error"), call)
    else:
        body = [f"    {call}  # recorded as {said_outcome(outcome, span['cause'])}"]
    blocks = [
        "\n".join(head),
        "\n".join(imports),
        "\n".join(literal for literal in literals if literal),
    ]
    test = "\n".join([f"def {title}({fixture}):", *body])
    return "\n\n".join(block for block in blocks if block) + f"\n\n\n{test}\n"


def _expectation(kind: str, payload: Mapping[str, Any]) -> tuple[Any, Any, str]:
    """Return what to give, what to expect, and what of the answer to compare with it."""
    given, wanted = payload.get("inputs"), payload.get("outputs")
    if kind in ("chat_model", "llm"):
        given = _model_input(given)
        message = _answer(wanted)
        if kind == "chat_model" and message is not None:
            if message.get("tool_calls"):
                calls = [
                    (call.get("name"), call.get("args"))
                    for call in message["tool_calls"]
                    if isinstance(call, dict)
                ]
                return given, calls, '[(one["name"], one["args"]) for one in {call}.tool_calls]'
            return given, message.get("content"), "{call}.content"
        if message is not None:
            return given, message.get("text"), "{call}"
    if kind == "retriever" and isinstance(wanted, (list, dict)):
        found = wanted.get("documents") if isinstance(wanted, dict) else wanted
        texts = [one.get("page_content") for one in found or () if isinstance(one, dict)]
        query = next(iter(given.values()), None) if isinstance(given, dict) else given
        return query, texts, "[one.page_content for one in {call}]"
    if kind == "tool" and isinstance(wanted, dict) and isinstance(wanted.get("tool_call_id"), str):
        call = {"name": wanted.get("name"), "args": given, "id": wanted["tool_call_id"]}
        return {**call, "type": "tool_call"}, wanted.get("content"), "{call}.content"
    if isinstance(wanted, dict) and "content" in wanted and isinstance(wanted.get("type"), str):
        return given, wanted["content"], "{call}.content"
    if kind == "prompt" and isinstance(wanted, dict) and isinstance(wanted.get("messages"), list):
        texts = [one.get("content") for one in wanted["messages"] if isinstance(one, dict)]
        return given, texts, "[one.content for one in {call}.to_messages()]"
    return given, wanted, "{call}"


def _model_input(given: Any) -> Any:
    if isinstance(given, dict):
        prompts, messages = given.get("prompts"), given.get("messages")
        if isinstance(prompts, list) and prompts:
            return prompts[0]
        if isinstance(messages, list) and messages:
            first = messages[0] if isinstance(messages[0], list) else messages
            return [_message(one) for one in first]
    return given


def _message(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    role = value.get("type") or value.get("role")
    kept = {name: value[name] for name in _IN_MESSAGE if value.get(name) not in (None, [], "")}
    kept.setdefault("content", "")
    return {"role": str(role), **kept}


def _answer(outputs: Any) -> dict[str, Any] | None:
    generations = outputs.get("generations") if isinstance(outputs, dict) else None
    while isinstance(generations, list) and generations:
        generations = generations[0]
    if not isinstance(generations, dict):
        return None
    message = generations.get("message")
    return message if isinstance(message, dict) else generations


def _literal(name: str, value: Any) -> str | None:
    """Return an assignment, or None where its literal would be too long."""
    if len(json_text(value) or "") > LONGEST:
        return None
    try:
        text = pformat(value, width=WIDTH, sort_dicts=False)
    except RecursionError:
        return None
    if len(text) > LONGEST:
        return None
    if "\n" not in text:
        return f"{name} = {text}"
    if text[0] in "[{":
        return f"{name} = {text}"
    return f"{name} = (\n{text}\n)" if text[0] != "(" else f"{name} = {text}"


def _raises(error: Any, call: str) -> list[str]:
    kind = error.get("type") if isinstance(error, dict) else None
    message = error.get("message") if isinstance(error, dict) else None
    name = str(kind or "Exception").rpartition(".")[2]
    lines = ["    with pytest.raises(Exception) as caught:", f"        {call}"]
    lines.append(f"    assert type(caught.value).__name__ == {name!r}")
    if isinstance(message, str) and message:
        lines.append(f"    assert {message[:200]!r} in str(caught.value)")
    return lines


def _when(start: Any) -> str:
    if not isinstance(start, int):
        return ""
    try:
        at = datetime.fromtimestamp(start / 1e9, tz=timezone.utc)
    except (OverflowError, ValueError, OSError):
        return ""
    return f" on {at:%Y-%m-%d at %H:%M:%S} UTC"
