"""Spans by the names of OpenTelemetry's GenAI conventions: agents, tools, retrievals, tokens."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes

from asynctrack import open_run
from asynctrack._reading.export.otlp_span import OtlpSpan, otlp_spans
from tests.reading.making import RunFolder, event

ROOT = {"span_id": "r", "trace_id": "r"}
AGENT = {"ls_integration": "langchain_create_agent", "lc_agent_name": "sums"}
SINCE = {"gen_ai.usage.cache_write.input_tokens"}
"""Names of the conventions' own repository, that are in no release of the package."""


def spans(folder: Path, events: list[dict[str, Any]]) -> dict[str, OtlpSpan]:
    """Store events; return the spans that are exported, by name."""
    run = RunFolder(folder / "runs")
    run.artifact([event(number, **one) for number, one in enumerate(events, 1)])
    run.manifest()
    return {span.name: span for trace in open_run(run.path).traces() for span in otlp_spans(trace)}


def below(span_id: str, parent: str, kind: str, **more: Any) -> Iterator[dict[str, Any]]:
    """The start and the end of a span; what begins with ``end_`` is of its end."""
    of = {"span_id": span_id, "trace_id": "r"}
    if parent:
        of["parent_span_id"] = parent
    start = {name: value for name, value in more.items() if not name.startswith("end_")}
    end = {name[4:]: value for name, value in more.items() if name.startswith("end_")}
    yield {"kind": f"{kind}_start", **of, **start}
    yield {"kind": f"{'llm' if kind == 'chat_model' else kind}_end", **of, **end}


@pytest.fixture
def found(tmp_path: Path) -> dict[str, OtlpSpan]:
    """An agent with a model, a tool that calls another agent, and a retriever."""
    offered = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
    message = {
        "type": "ai", "content": "hi",
        "response_metadata": {"id": "c-1", "stop_reason": "max_tokens"},
    }  # fmt: skip
    model = below(
        "m", "r", "chat_model", metadata=AGENT, inputs={"messages": [[]]},
        attributes={"gen_ai.request.model": "gpt", "gen_ai.provider.name": "amazon_bedrock"},
        data={"invocation_params": {"tools": [offered, "odd"]}},
        end_outputs={"generations": [[{"message": message}]]},
        end_attributes={"gen_ai.usage.input_tokens": 9,
                        "gen_ai.usage.cache_read.input_tokens": 4,
                        "gen_ai.usage.cache_write.input_tokens": 2},
        end_data={"stream": {"count": 3, "time_to_first_token": 0.5}},
    )  # fmt: skip
    answer = {"type": "tool", "content": "42", "tool_call_id": "call-1"}
    used = below(
        "t", "r", "tool", name="add", metadata=AGENT, inputs={"x": 1},
        data={"serialized": {"description": "Adds."}}, end_outputs=answer,
    )  # fmt: skip
    inner = below("i", "t", "chain", name="LangGraph", metadata=AGENT)
    other = below("o", "r", "chain", name="x", metadata={**AGENT, "lc_agent_name": "writer"})
    node = below("n", "r", "chain", name="node", metadata=AGENT)
    document = {"id": "d", "page_content": "text", "metadata": {"page": 1}, "type": "Document"}
    retrieved = below(
        "q", "r", "retriever", name="shelf", inputs="what?", end_outputs=[document, "odd"]
    )
    parts = [*model, *used, *inner, *other, *node, *retrieved]
    start, end = below("r", "", "chain", name="LangGraph", metadata=AGENT)
    return spans(tmp_path, [start, *parts, end])


def test_names(found: dict[str, OtlpSpan]) -> None:
    """An agent is the whole of one, also in a tool and by another name; its nodes are chains."""
    assert set(found) == {
        "invoke_agent sums", "chat gpt", "execute_tool add", "invoke_agent writer", "node",
        "retrieval shelf",
    }  # fmt: skip
    kinds = {name: one.attributes["openinference.span.kind"] for name, one in found.items()}
    assert kinds["invoke_agent sums"] == "AGENT" and kinds["node"] == "CHAIN"
    assert found["invoke_agent writer"].attributes["gen_ai.agent.name"] == "writer"
    assert "gen_ai.operation.name" not in found["node"].attributes


def test_a_model_call(found: dict[str, OtlpSpan]) -> None:
    """Provider, answer, tools, tokens and the stream have the conventions' names."""
    said = found["chat gpt"].attributes
    assert said["gen_ai.provider.name"] == "aws.bedrock"
    assert said["gen_ai.response.id"] == "c-1"
    assert json.loads(str(said["gen_ai.output.messages"]))[0]["finish_reason"] == "length"
    assert json.loads(str(said["gen_ai.tool.definitions"])) == [
        {"type": "function", "name": "add", "parameters": {"type": "object"}}
    ]
    assert said["gen_ai.usage.cache_read.input_tokens"] == 4
    assert said["gen_ai.usage.cache_write.input_tokens"] == 2
    assert said["gen_ai.usage.cache_creation.input_tokens"] == 2
    assert said["gen_ai.request.stream"] is True
    assert said["gen_ai.response.time_to_first_chunk"] == 0.5


def test_a_tool(found: dict[str, OtlpSpan]) -> None:
    """Its call, arguments and result are there; a message's content is the result."""
    said = found["execute_tool add"].attributes
    assert said["gen_ai.tool.call.id"] == "call-1"
    assert said["gen_ai.tool.call.arguments"] == said["tool.parameters"] == '{"x":1}'
    assert (said["gen_ai.tool.call.result"], said["gen_ai.tool.description"]) == ("42", "Adds.")


def test_a_retrieval(found: dict[str, OtlpSpan]) -> None:
    """Its query and documents are there; what is no document is left out."""
    said = found["retrieval shelf"].attributes
    assert said["gen_ai.retrieval.query.text"] == "what?"
    assert said["retrieval.documents.0.document.content"] == "text"
    assert said["retrieval.documents.0.document.id"] == "d"
    assert said["retrieval.documents.0.document.metadata"] == '{"page":1}'
    assert not any(name.startswith("retrieval.documents.1") for name in said)


def test_every_name_is_one_of_the_conventions(found: dict[str, OtlpSpan]) -> None:
    """No attribute of the GenAI namespace is made up."""
    known = {value for name, value in vars(gen_ai_attributes).items() if name.startswith("GEN_AI_")}
    used = {name for one in found.values() for name in one.attributes if name[:7] == "gen_ai."}
    assert used - SINCE <= known and len(used) > 15
