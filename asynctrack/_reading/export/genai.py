"""What a span is called in OpenTelemetry's GenAI conventions, and in OpenInference where these say
less.

The conventions are those of ``semantic-conventions-genai`` and, where a name has changed of late,
of the release before it. Phoenix reads both vocabularies, MLflow too; others read one of them.
Nothing is left out that was logged: what has no name there is in ``asynctrack.*`` and
``langchain.*``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from asynctrack._reading.decoding.events import json_text
from asynctrack._reading.export.messages import Message, input_messages, output_messages
from asynctrack._reading.trees.span import TOKEN_PARTS, Span
from asynctrack._reading.trees.trace import Trace

_OPERATIONS: Final = {
    "chat_model": "chat", "llm": "text_completion", "tool": "execute_tool",
    "retriever": "retrieval",
}  # fmt: skip
_KINDS: Final = {
    "chat_model": "LLM", "llm": "LLM", "tool": "TOOL", "retriever": "RETRIEVER",
}  # fmt: skip
_PROVIDERS: Final = {
    "amazon_bedrock": "aws.bedrock", "azure": "azure.ai.openai", "bedrock": "aws.bedrock",
    "google_genai": "gcp.gemini", "google_vertexai": "gcp.vertex_ai", "ibm": "ibm.watsonx.ai",
    "mistral": "mistral_ai", "mistralai": "mistral_ai", "xai": "x_ai",
}  # fmt: skip
"""What LangChain's integrations call a provider, where the conventions call it otherwise."""
_CACHE_WRITE_BEFORE: Final = "gen_ai.usage.cache_creation.input_tokens"
"""The name of ``gen_ai.usage.cache_write.input_tokens`` until semconv 1.41; Phoenix reads it."""
_REASONS: Final = {
    "tool_calls": "tool_call", "tool_use": "tool_call", "function_call": "tool_call",
    "end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length",
}  # fmt: skip
_AGENT: Final = "langchain_create_agent"
_DOCUMENTS: Final = 1_000
"""Documents of a retrieval that have attributes of their own at the most."""


def session_attributes(trace: Trace) -> dict[str, Any]:
    """Return what all spans of a trace say of its session, user and conversation: what shows them
    looks at any span, and LangChain hands on to the spans below what metadata say, not all of it.
    """
    session, thread = trace.session_id, trace.thread_id
    return {
        "session.id": session,
        "user.id": trace.user_id,
        "enduser.id": trace.user_id,
        "gen_ai.conversation.id": thread or session,
    }


def operation_of(span: Span, parent: Span | None) -> str | None:
    """Return the conventions' name for what a span does; None where they have none.

    Args:
        span: The span.
        parent: The span above it.
    """
    return "invoke_agent" if _is_agent(span, parent) else _OPERATIONS.get(span.kind)


def name_of(span: Span, operation: str | None) -> str:
    """Return the name that the conventions give a span: the operation, and on what."""
    subject = span.model if operation in ("chat", "text_completion") else span.name
    if operation is None or not subject:
        return span.name or span.kind
    if operation == "invoke_agent":
        subject = _agent_name(span)
    return f"{operation} {subject}"


def span_attributes(span: Span, operation: str | None) -> dict[str, Any]:
    """Return the attributes of a span; those that are None say nothing.

    Args:
        span: The span.
        operation: What it does, see ``operation_of``.
    """
    found: dict[str, Any] = {"gen_ai.operation.name": operation}
    found.update(span.attributes)
    provider = found.get("gen_ai.provider.name")
    if isinstance(provider, str):
        found["gen_ai.provider.name"] = _PROVIDERS.get(provider, provider)
    found[_CACHE_WRITE_BEFORE] = found.get(TOKEN_PARTS["cache_write_tokens"])
    if operation == "invoke_agent":
        found["gen_ai.agent.name"] = _agent_name(span)
    elif span.kind == "tool":
        found.update(_tool_attributes(span))
    elif span.kind == "retriever":
        found.update(_retrieval_attributes(span))
    elif operation is not None:
        found.update(_model_attributes(span))
    found["openinference.span.kind"] = (
        "AGENT" if operation == "invoke_agent" else _KINDS.get(span.kind, "CHAIN")
    )
    for name, value in (("input", span.inputs), ("output", span.outputs)):
        if value is not None:
            plain = isinstance(value, str)
            found[f"{name}.value"] = value if plain else json_text(value)
            found[f"{name}.mime_type"] = "text/plain" if plain else "application/json"
    if span.error is not None:
        found["error.type"] = span.error.type or "_OTHER"
    for name in ("count", "time_to_first_token"):
        found[f"asynctrack.stream.{name}"] = (span.stream or {}).get(name)
    found["langchain.tags"] = list(span.tags) or None
    found["langchain.metadata"] = json_text(dict(span.metadata)) if span.metadata else None
    found["asynctrack.kind"] = span.kind
    found["asynctrack.name"] = span.name
    found["asynctrack.span_id"] = span.span_id
    found["asynctrack.writer_id"] = span.writer_id
    found["asynctrack.outcome"] = span.outcome
    found["asynctrack.cause"] = span.cause
    found["asynctrack.started"] = None if span.started else False
    found["asynctrack.orphan"] = True if span.orphan else None
    return found


def _is_agent(span: Span, parent: Span | None) -> bool:
    """Return whether a span is the whole of an agent: all below it has its metadata, too."""
    if span.metadata.get("ls_integration") != _AGENT or span.kind != "chain":
        return False
    above = {} if parent is None else parent.metadata
    return (
        above.get("ls_integration") != _AGENT
        or (parent is not None and parent.kind == "tool")
        or above.get("lc_agent_name") != span.metadata.get("lc_agent_name")
    )


def _agent_name(span: Span) -> str | None:
    name = span.metadata.get("lc_agent_name")
    return name if isinstance(name, str) and name else span.name


def _model_attributes(span: Span) -> Iterator[tuple[str, Any]]:
    told, said = input_messages(span, None), output_messages(span, None)  # data stays data
    if told:
        yield "gen_ai.input.messages", json_text([_semantic(one) for one in told])
    if said:
        yield "gen_ai.output.messages", json_text([_semantic(one, said=True) for one in said])
    tools = _tool_definitions(span)
    if tools:
        yield "gen_ai.tool.definitions", json_text(tools)
    yield "gen_ai.response.id", _response_id(span)
    if span.stream is not None:
        yield "gen_ai.request.stream", True
        yield "gen_ai.response.time_to_first_chunk", span.stream.get("time_to_first_token")


def _tool_attributes(span: Span) -> Iterator[tuple[str, Any]]:
    yield "gen_ai.tool.name", span.name
    yield "gen_ai.tool.type", "function"
    yield "gen_ai.tool.call.id", _call_id(span)
    serialized = span.data.get("serialized")
    description = serialized.get("description") if isinstance(serialized, dict) else None
    yield "gen_ai.tool.description", description if isinstance(description, str) else None
    yield "gen_ai.tool.call.arguments", json_text(span.inputs)
    answer = span.outputs
    if isinstance(answer, dict) and answer.get("type") == "tool" and "content" in answer:
        answer = answer["content"]  # a ToolMessage
    yield "gen_ai.tool.call.result", answer if isinstance(answer, str) else json_text(answer)
    # OpenInference has them by these names only.
    yield "tool.name", span.name
    yield "tool.parameters", json_text(span.inputs)


def _call_id(span: Span) -> str | None:
    for holder in (span.data, span.outputs):
        one = holder.get("tool_call_id") if isinstance(holder, Mapping) else None
        if isinstance(one, str):
            return one
    return None


def _retrieval_attributes(span: Span) -> Iterator[tuple[str, Any]]:
    query = span.inputs
    if isinstance(query, dict) and isinstance(query.get("query"), str):
        query = query["query"]
    yield "gen_ai.retrieval.query.text", query if isinstance(query, str) else None
    # The conventions want a score for each document, which LangChain does not give.
    documents = span.outputs
    if isinstance(documents, dict):
        documents = documents.get("documents")
    for number, one in enumerate((documents if isinstance(documents, list) else ())[:_DOCUMENTS]):
        if not isinstance(one, dict):
            continue
        before = f"retrieval.documents.{number}.document"
        content = one.get("page_content")
        yield f"{before}.content", content if isinstance(content, str) else json_text(content)
        yield f"{before}.id", one.get("id")
        yield f"{before}.metadata", json_text(one.get("metadata") or None)


def _tool_definitions(span: Span) -> list[dict[str, Any]]:
    """Return the tools that a model was offered, as the conventions have them."""
    found = []
    for name in ("invocation_params", "options"):
        holder = span.data.get(name)
        offered = holder.get("tools") if isinstance(holder, dict) else None
        for one in offered if isinstance(offered, list) else ():
            if not isinstance(one, dict):
                continue
            function = one.get("function")
            said = function if isinstance(function, dict) else one
            if not isinstance(said.get("name"), str):
                continue
            parameters = said.get("parameters") or said.get("input_schema")
            tool = {
                "type": "function" if function or parameters else one.get("type") or "function",
                "name": said["name"],
                "description": said.get("description"),
                "parameters": parameters,
            }
            found.append({key: value for key, value in tool.items() if value is not None})
        if found:
            break
    return found


def _response_id(span: Span) -> str | None:
    outputs = span.outputs if isinstance(span.outputs, dict) else {}
    generations = outputs.get("generations")
    while isinstance(generations, list) and generations:
        generations = generations[0]
    message = generations.get("message") if isinstance(generations, dict) else None
    metadata = message.get("response_metadata") if isinstance(message, dict) else None
    found = metadata.get("id") if isinstance(metadata, dict) else None
    return found if isinstance(found, str) else None


def _semantic(message: Message, *, said: bool = False) -> dict[str, Any]:
    """Return a message as the GenAI conventions have it."""
    parts: list[dict[str, Any]] = []
    if message.role == "tool" and message.call_id is not None:
        parts.append(
            {"type": "tool_call_response", "id": message.call_id, "response": message.text}
        )
    elif message.text:
        parts.append({"type": "text", "content": message.text})
    parts += [
        {"type": "tool_call", "id": call.call_id, "name": call.name, "arguments": call.arguments}
        for call in message.tool_calls
    ]
    found: dict[str, Any] = {"role": message.role, "parts": parts}
    if said:
        reason = message.finish_reason or ("tool_call" if message.tool_calls else "stop")
        found["finish_reason"] = _REASONS.get(reason, reason)
    return found
