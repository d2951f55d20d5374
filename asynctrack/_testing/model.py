"""A chat model that answers from the log."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import anyio.to_thread
from langchain_core.exceptions import OutputParserException
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult, LLMResult
from langchain_core.runnables import Runnable, RunnableLambda, RunnableMap
from langchain_core.utils.function_calling import convert_to_openai_tool
from langchain_core.utils.json import parse_json_markdown
from pydantic import BaseModel, PrivateAttr, ValidationError

from asynctrack._errors import NotLoggedError, ReplayedError
from asynctrack._testing.calls import Call, Calls
from asynctrack._testing.prompts import tool_names
from asynctrack._testing.streaming import pieces

_SCHEMA = "asynctrack_schema"
"""The argument that names the tool of ``with_structured_output``."""
_FIELDS = ("content", "additional_kwargs", "response_metadata", "name", "tool_calls",
           "invalid_tool_calls", "usage_metadata")  # fmt: skip
"""Fields of an answer. Its id is left out: LangGraph takes messages of one id for the same."""


class ReplayModel(BaseChatModel):
    """Answers as the model did whose calls were logged. Made by ``replay_model``.

    In a trace it has the name of the component that was logged, its model and its parameters, where
    all calls have the same: so ``asynctrack diff`` compares it with that.
    """

    # LangChain's cache would answer before the log.
    cache: Any = False
    _calls: Calls = PrivateAttr()

    @classmethod
    def of(cls, calls: Calls) -> ReplayModel:
        """Return a model that answers from these calls."""
        model = cls()
        model._calls = calls
        return model

    @property
    def _llm_type(self) -> str:
        return "asynctrack-replay"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return self._calls.params

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return {**super()._get_ls_params(stop, **kwargs), **self._calls.settings}

    @property
    def _serialized(self) -> dict[str, Any]:
        name = self.get_name()
        return {"lc": 1, "type": "not_implemented", "id": ["asynctrack", name], "name": name}

    def get_name(self, suffix: str | None = None, *, name: str | None = None) -> str:
        """Return the name of the logged component; LangChain calls this."""
        names = self._calls.names
        if name is None and self.name is None and len(names) == 1:
            name = next(iter(names)) or None
        return super().get_name(suffix, name=name)

    def bind_tools(
        self, tools: Sequence[Any], *, tool_choice: Any = None, **kwargs: Any
    ) -> Runnable[Any, AIMessage]:
        """Give the model tools: it answers from calls with tools of the same names."""
        if tool_choice is not None:
            kwargs["tool_choice"] = tool_choice
        return self.bind(tools=[_tool(one) for one in tools], **kwargs)

    def with_structured_output(
        self, schema: Any, *, include_raw: bool = False, **kwargs: Any
    ) -> Runnable[Any, Any]:
        """Return a runnable that answers with the schema's objects, whether the logged calls had it
        as a tool or as the form of their answer."""
        name = str(convert_to_openai_tool(schema)["function"]["name"])
        tools = [schema, *kwargs.pop("tools", ())]
        asked = self.bind_tools(tools, tool_choice="any", **{_SCHEMA: name})
        parse = _parser(schema, name)
        if not include_raw:
            return asked | RunnableLambda(parse, name="ReplayedOutput")

        def parsed(given: dict[str, Any]) -> dict[str, Any]:
            try:
                return {**given, "parsed": parse(given["raw"]), "parsing_error": None}
            except (OutputParserException, ValidationError) as error:
                return {**given, "parsed": None, "parsing_error": error}

        return RunnableMap(raw=asked) | RunnableLambda(parsed, name="ReplayedOutput")

    # LangChain asks for the model's name before it asks the model, and both need the log.
    def generate(self, *args: Any, **kwargs: Any) -> LLMResult:
        """Answer; LangChain calls this."""
        self._calls.load()
        return super().generate(*args, **kwargs)

    async def agenerate(self, *args: Any, **kwargs: Any) -> LLMResult:
        """Answer from async code; LangChain calls this."""
        await anyio.to_thread.run_sync(self._calls.load)
        return await super().agenerate(*args, **kwargs)

    def stream(self, *args: Any, **kwargs: Any) -> Iterator[AIMessageChunk]:
        """Yield an answer in as many pieces as it was logged in."""
        self._calls.load()
        yield from super().stream(*args, **kwargs)

    async def astream(self, *args: Any, **kwargs: Any) -> AsyncIterator[AIMessageChunk]:
        """Yield an answer in as many pieces as it was logged in, from async code."""
        await anyio.to_thread.run_sync(self._calls.load)
        async for chunk in super().astream(*args, **kwargs):
            yield chunk

    def _generate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        return _result(self._answer(messages, kwargs))

    async def _agenerate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        return _result(await anyio.to_thread.run_sync(self._answer, messages, kwargs))

    def _stream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        yield from _chunks(self._answer(messages, kwargs))

    async def _astream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        call = await anyio.to_thread.run_sync(self._answer, messages, kwargs)
        for chunk in _chunks(call):
            yield chunk

    def _answer(self, messages: list[BaseMessage], given: dict[str, Any]) -> Call:
        names = tool_names(given)
        schema = given.get(_SCHEMA)
        if schema is None:
            return self._calls.answer(messages, names)
        return self._calls.answer(messages, names, schema)


def _result(call: Call) -> ChatResult:
    """Return the answer of a call.

    Raises:
        ReplayedError: It failed.
        NotLoggedError: Its answer is not in the log.
    """
    if call.error is not None:
        raise _error(call)
    message = _made(AIMessage, call, _fields(call))
    return ChatResult(
        generations=[ChatGeneration(message=message, generation_info=call.generation_info)]
    )


def _chunks(call: Call) -> Iterator[ChatGenerationChunk]:
    """Yield the answer of a call in pieces; of one that failed, what it had answered before."""
    fields = _fields(call)
    if call.error is None or call.tokens:
        first: dict[str, Any] = {
            name: fields[name] for name in ("additional_kwargs", "name") if name in fields
        }
        for piece in pieces(fields, call.tokens):
            yield ChatGenerationChunk(message=_made(AIMessageChunk, call, {**first, **piece}))
            first = {}
    if call.error is not None:
        raise _error(call)
    last = {
        "content": "",
        "response_metadata": fields.get("response_metadata", {}),
        "usage_metadata": fields.get("usage_metadata"),
        "chunk_position": "last",
    }
    yield ChatGenerationChunk(
        message=_made(AIMessageChunk, call, last), generation_info=call.generation_info
    )


def _fields(call: Call) -> dict[str, Any]:
    if call.cut:
        raise NotLoggedError(
            f"the answer of trace {call.trace_id}, span {call.span_id} is not whole in the log:"
            " it was longer than max_value_bytes"
        )
    message = call.message or {}
    return {name: message[name] for name in _FIELDS if message.get(name) is not None}


def _made(kind: Callable[..., Any], call: Call, fields: dict[str, Any]) -> Any:
    try:
        return kind(**{"content": "", **fields})
    except (TypeError, ValueError) as error:
        raise NotLoggedError(
            f"the answer of trace {call.trace_id}, span {call.span_id} is no message: {error}"
        ) from error


def _error(call: Call) -> ReplayedError:
    place = f"trace {call.trace_id}, span {call.span_id}"
    return ReplayedError(
        f"the logged call failed ({place}): {call.error}",
        call.error_type or "", call.trace_id, call.span_id,
    )  # fmt: skip


def _tool(tool: Any) -> Any:
    """Return a tool as OpenAI has it; one of a provider's own stays as it is."""
    try:
        return convert_to_openai_tool(tool)
    except ValueError:
        if isinstance(tool, dict):
            return tool
        raise


def _parser(schema: Any, name: str) -> Callable[[AIMessage], Any]:
    def parse(message: AIMessage) -> Any:
        called = [one["args"] for one in message.tool_calls if one["name"] == name]
        found: Any = called[0] if called else None
        if not called:
            try:
                found = parse_json_markdown(message.text)
            except (json.JSONDecodeError, OutputParserException) as error:
                said = f"the logged answer is neither a call of {name} nor JSON: {error}"
                raise OutputParserException(said, llm_output=message.text) from error
        if isinstance(schema, type) and issubclass(schema, BaseModel):
            return schema.model_validate(found)
        return found

    return parse
