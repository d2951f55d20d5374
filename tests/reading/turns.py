"""Turns of a support bot, made by hand from a plan, so that the truth is in the plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.reading.making import START, RunFolder, event

DOWN = "carrier.errors.CarrierDown"
LATE = "builtins.TimeoutError"


@dataclass(frozen=True)
class Turn:
    """What happens in a turn.

    Attributes:
        question: What is asked.
        answer: What is answered.
        session: The conversation.
        tool_error: The type of the error of the tool ``lookup_order``; empty for none.
        failed: Whether the turn fails of it; else it goes on.
        model: The model that answers.
        tokens: What it reads and writes.
        tool_seconds: How long the tool takes.
        model_seconds: How long the model takes.
        first_token: Seconds to the model's first token; of the trace, twice that. None without.
        retrieves: Whether it asks the retriever ``shelf``, which takes a tenth of a second.
        message: The id of the messages, which is another one in each Run.
    """

    question: str = "Where is it?"
    answer: str = "On its way."
    session: str = "s"
    tool_error: str = ""
    failed: bool = False
    model: str = "gpt"
    tokens: tuple[int, int] = (10, 20)
    tool_seconds: float = 0.2
    model_seconds: float = 1.0
    first_token: float | None = None
    retrieves: bool = False
    message: str = "m"

    @property
    def seconds(self) -> float:
        """How long the turn takes."""
        return self.tool_seconds + (0.0 if self.failed else self.model_seconds)


def turn_id(number: int) -> str:
    """The id of a turn's trace."""
    return f"{number:08x}-0000-7000-8000-00000000000a"


def events_of(number: int, first_seq: int, turn: Turn) -> list[dict[str, Any]]:
    """The events of a turn: a graph, a step that calls the tool, a retriever, and a model."""
    root = turn_id(number)
    step, tool, shelf, model = (f"{root[:-1]}{one}" for one in "bcde")
    human = {"type": "human", "content": turn.question, "id": f"q-{turn.message}-{number}"}
    said = {"type": "ai", "content": turn.answer, "id": f"a-{turn.message}-{number}"}
    error = {"error": {"type": turn.tool_error, "message": f"order {number}", "traceback": ""}}
    ends = (
        {"kind": "tool_error", **error} if turn.tool_error else {"kind": "tool_end", "outputs": "7"}
    )
    stream = {}
    if turn.first_token is not None:
        stream = {"data": {"stream": {
            "text": turn.answer, "count": 3, "time_to_first_token": turn.first_token,
            "trace_time_to_first_token": 2 * turn.first_token}}}  # fmt: skip
    steps: list[dict[str, Any]] = [
        {"kind": "chain_start", "span_id": root, "name": "support",
         "inputs": {"messages": [human]}, "metadata": {"session_id": turn.session}},
        {"kind": "chain_start", "span_id": step, "parent_span_id": root, "name": "look"},
        {"kind": "tool_start", "span_id": tool, "parent_span_id": step, "name": "lookup_order"},
        {**ends, "span_id": tool, "parent_span_id": step, "duration": turn.tool_seconds},
    ]  # fmt: skip
    if turn.failed:
        steps += [
            {"kind": "chain_error", "span_id": step, "parent_span_id": root, **error,
             "duration": turn.tool_seconds},
            {"kind": "chain_error", "span_id": root, **error, "duration": turn.seconds},
        ]  # fmt: skip
    else:
        steps.append({"kind": "chain_end", "span_id": step, "parent_span_id": root, "outputs": {},
                      "duration": turn.tool_seconds})  # fmt: skip
        if turn.retrieves:
            ids = {"span_id": shelf, "parent_span_id": root}
            steps += [
                {"kind": "retriever_start", "name": "shelf", **ids},
                {"kind": "retriever_end", "outputs": [], "duration": 0.1, **ids},
            ]
        ids = {"span_id": model, "parent_span_id": root}
        usage = {"gen_ai.usage.input_tokens": turn.tokens[0],
                 "gen_ai.usage.output_tokens": turn.tokens[1]}  # fmt: skip
        steps += [
            {"kind": "chat_model_start", "name": "ChatOpenAI", "inputs": {"messages": [[human]]},
             "attributes": {"gen_ai.request.model": turn.model}, **ids},
            {"kind": "llm_end", "duration": turn.model_seconds, "attributes": usage, **stream,
             "outputs": {"generations": [[{"text": turn.answer, "message": said}]]}, **ids},
            {"kind": "chain_end", "span_id": root, "outputs": {"messages": [human, said]},
             "duration": turn.seconds},
        ]  # fmt: skip
    begin = START + number * 10**10
    return [
        event(first_seq + n, time=begin + n * 10**6, trace_id=root, **one)
        for n, one in enumerate(steps)
    ]


def make_turns(root: Path, turns: Sequence[Turn], run: str = "one", **parameters: Any) -> RunFolder:
    """A closed Run of these turns."""
    folder = RunFolder(root, run=run)
    events: list[dict[str, Any]] = []
    for number, turn in enumerate(turns, 1):
        events += events_of(number, len(events) + 1, turn)
    for at in range(0, len(events), 500):
        folder.artifact(events[at : at + 500])
    folder.manifest(parameters=parameters)
    return folder
