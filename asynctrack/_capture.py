"""LangChain callback to encoded event: everything a callback does, and no I/O.

One method for each callback that langchain-core defines, named as there, with its arguments. It
returns the event's bytes, or None where the callback leads to no event of its own (a token of a
stream that is kept as one record). The handlers only add how the bytes get into the buffer.

Fields of an event: see ``README.md``, "Event schema". Every body starts with ``time_unix_nano``.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from asynctrack import _payload
from asynctrack._attributes import (
    Attribute,
    prompt_name,
    request_attributes,
    request_key,
    response_attributes,
)
from asynctrack._observe import Observations
from asynctrack._redact import Redactor
from asynctrack._spans import OpenSpan, OpenSpans
from asynctrack._streams import Streams
from asynctrack._traceback import describe_error

logger = logging.getLogger("asynctrack")

SHEDDABLE: Final = frozenset(
    {
        "on_chain_start",
        "on_llm_start",
        "on_chat_model_start",
        "on_tool_start",
        "on_retriever_start",
        "on_llm_new_token",
        "on_stream_event",
        "on_text",
    }
)
"""Callbacks whose events are shed first when events have to be dropped: what ends and errors say
is worth more than what starts and tokens say."""


MAX_REMEMBERED: Final = 1_000
"""Different requests whose attributes are kept, and serialized forms known not to be too large."""


class Capture:
    """Turns callbacks into encoded events.

    Args:
        tokens: How streamed tokens are kept: ``"stream"``, ``"each"`` or ``"none"``.
        redactor: Cuts secrets out of every event.
        observations: Where model configurations, prompts and measurements are noted.
        time_ns: Wall clock, in nanoseconds.
        perf_ns: Monotonic clock, in nanoseconds.
    """

    def __init__(
        self,
        *,
        tokens: str,
        redactor: Redactor,
        observations: Observations,
        time_ns: Callable[[], int] = time.time_ns,
        perf_ns: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self._redactor = redactor
        self._observations = observations
        self._time_ns = time_ns
        self._perf_ns = perf_ns
        self._each_token = tokens == "each"
        self._streams = Streams(perf_ns)
        self.joins_tokens = tokens == "stream"
        if self.joins_tokens:
            # The two hottest callbacks skip everything but noting the token.
            self.on_llm_new_token = self._streams.token  # type: ignore[method-assign]  # on purpose
            self.on_stream_event = self._streams.protocol_event  # type: ignore[method-assign]  # on purpose
        self._spans = OpenSpans()
        self._ended: deque[UUID] = deque(maxlen=MAX_REMEMBERED)
        self._requests: dict[bytes, bytes] = {}
        self._measured: dict[int, Any] = {}

    @property
    def spans(self) -> OpenSpans:
        """The spans that are open."""
        return self._spans

    def inherit(self, other: Capture) -> None:
        """Know the spans that are open in another: for the child of a fork, which may end them."""
        self._spans.inherit(other._spans)

    def abandoned(self, span: OpenSpan, reason: str) -> bytes:
        """Capture that nobody waits for the end of a span any more; its end may come all the same.

        Args:
            span: Which.
            reason: ``too_many`` spans are open, or the tracker is ``closed``.
        """
        record: dict[str, Any] = {
            "time_unix_nano": self._time_ns(),
            "event": "span_abandoned",
            "span_id": span.span_id,
            "trace_id": span.trace_id,
        }
        open_seconds = round((self._perf_ns() - span.started) / 1e9, 6)
        data: dict[str, Any] = {"reason": reason, "open_seconds": open_seconds}
        stream = self._streams.pop(span.span_id, span.started)
        if stream is not None:
            data["stream"] = stream
        record["data"] = data
        return self._encode(record)

    # -- chains -------------------------------------------------------------------------------

    def on_chain_start(
        self,
        serialized: Mapping[str, Any] | None,
        inputs: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: Sequence[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> bytes:
        """Capture the start of a chain."""
        name = name or _name(serialized)
        if kwargs.get("run_type") == "prompt":
            self._observations.prompt(prompt_name(serialized, name))
        return self._start(
            "chain_start", run_id, parent_run_id, name, tags, metadata, inputs, serialized, kwargs
        )

    def on_chain_end(
        self,
        outputs: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> bytes:
        """Capture the end of a chain."""
        return self._end("chain_end", run_id, parent_run_id, tags, "outputs", outputs, kwargs)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> bytes:
        """Capture the error of a chain."""
        return self._error("chain_error", error, run_id, **kwargs)

    # -- models -------------------------------------------------------------------------------

    def on_llm_start(
        self,
        serialized: Mapping[str, Any] | None,
        prompts: Sequence[str],
        *,
        run_id: UUID,
        **kwargs: Any,
    ) -> bytes:
        """Capture the start of a text completion."""
        return self._model_start(
            "llm_start", "text_completion", serialized, {"prompts": prompts}, run_id, **kwargs
        )

    def on_chat_model_start(
        self,
        serialized: Mapping[str, Any] | None,
        messages: Sequence[Sequence[Any]],
        *,
        run_id: UUID,
        **kwargs: Any,
    ) -> bytes:
        """Capture the start of a chat completion."""
        return self._model_start(
            "chat_model_start", "chat", serialized, {"messages": messages}, run_id, **kwargs
        )

    def on_llm_new_token(
        self, token: Any, *, chunk: Any = None, run_id: UUID, **kwargs: Any
    ) -> bytes | None:
        """Capture a streamed token."""
        if not self._each_token:
            return None
        record = self._record("llm_new_token", run_id, kwargs.pop("parent_run_id", None))
        _put(record, "tags", kwargs.pop("tags", None))
        record["data"] = _given({"token": token, "chunk": chunk, **kwargs})
        return self._encode(record)

    def on_stream_event(self, event: Any, *, run_id: UUID, **kwargs: Any) -> bytes | None:
        """Capture an event of LangChain's streaming protocol."""
        if not self._each_token:
            return None
        return self._note("stream_event", run_id, None, {"event": event}, kwargs)

    def on_llm_end(
        self,
        response: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> bytes:
        """Capture the answer of a model."""
        attributes = response_attributes(response)
        return self._end(
            "llm_end", run_id, parent_run_id, tags, "outputs", response, kwargs, attributes
        )

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> bytes:
        """Capture the error of a model call, with what had been generated until then."""
        return self._error("llm_error", error, run_id, **kwargs)

    # -- tools and agents ---------------------------------------------------------------------

    def on_tool_start(
        self,
        serialized: Mapping[str, Any] | None,
        input_str: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: Sequence[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        inputs: Any = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> bytes:
        """Capture the start of a tool."""
        if inputs is None:
            inputs = input_str
        else:
            kwargs["input_str"] = input_str
        name = name or _name(serialized)
        return self._start(
            "tool_start", run_id, parent_run_id, name, tags, metadata, inputs, serialized, kwargs
        )

    def on_tool_end(
        self,
        output: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> bytes:
        """Capture what a tool returned."""
        return self._end("tool_end", run_id, parent_run_id, tags, "outputs", output, kwargs)

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> bytes:
        """Capture the error of a tool."""
        return self._error("tool_error", error, run_id, **kwargs)

    def on_agent_action(self, action: Any, *, run_id: UUID, **kwargs: Any) -> bytes:
        """Capture what an agent decided to do."""
        return self._note("agent_action", run_id, None, action, kwargs)

    def on_agent_finish(self, finish: Any, *, run_id: UUID, **kwargs: Any) -> bytes:
        """Capture what an agent answered."""
        return self._note("agent_finish", run_id, None, finish, kwargs)

    # -- retrievers ---------------------------------------------------------------------------

    def on_retriever_start(
        self,
        serialized: Mapping[str, Any] | None,
        query: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: Sequence[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> bytes:
        """Capture a query."""
        name = name or _name(serialized)
        inputs = {"query": query}
        return self._start(
            "retriever_start", run_id, parent_run_id, name, tags, metadata, inputs, serialized,
            kwargs,
        )  # fmt: skip

    def on_retriever_end(
        self,
        documents: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> bytes:
        """Capture the documents found."""
        return self._end(
            "retriever_end",
            run_id,
            parent_run_id,
            tags,
            "outputs",
            {"documents": documents},
            kwargs,
        )

    def on_retriever_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> bytes:
        """Capture the error of a retriever."""
        return self._error("retriever_error", error, run_id, **kwargs)

    # -- the rest -----------------------------------------------------------------------------

    def on_text(self, text: str, *, run_id: UUID, **kwargs: Any) -> bytes:
        """Capture a text that a chain shows."""
        return self._note("text", run_id, None, {"text": text}, kwargs)

    def on_retry(self, retry_state: Any, *, run_id: UUID, **kwargs: Any) -> bytes:
        """Capture that a call is tried again."""
        outcome = getattr(retry_state, "outcome", None)
        error = outcome.exception() if outcome is not None and outcome.failed else None
        data = {
            "attempt": getattr(retry_state, "attempt_number", None),
            "idle_seconds": getattr(retry_state, "idle_for", None),
            "wait_seconds": getattr(getattr(retry_state, "next_action", None), "sleep", None),
            "error": None if error is None else describe_error(error),
        }
        return self._note("retry", run_id, None, _given(data), kwargs)

    def on_custom_event(self, name: str, data: Any, *, run_id: UUID, **kwargs: Any) -> bytes:
        """Capture an event that the user's code dispatched."""
        return self._note("custom_event", run_id, name, data, kwargs)

    # -- the user's own values ----------------------------------------------------------------

    def user_value(self, event: str, name: str | None, data: Any) -> bytes:
        """Capture what ``log_parameters`` and ``log_metric`` were given."""
        record: dict[str, Any] = {"time_unix_nano": self._time_ns(), "event": event}
        _put(record, "name", name)
        record["data"] = data
        return self._encode(record)

    # -- what they share ----------------------------------------------------------------------

    def _model_start(
        self,
        event: str,
        operation: str,
        serialized: Mapping[str, Any] | None,
        inputs: dict[str, Any],
        run_id: UUID,
        *,
        parent_run_id: UUID | None = None,
        tags: Sequence[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        invocation_params: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> bytes:
        given = _given(invocation_params) if invocation_params else None
        key = request_key(operation, serialized, metadata, given)
        attributes = None if key is None else self._requests.get(key)
        if attributes is None:
            found = request_attributes(operation, serialized, metadata, invocation_params)
            self._observations.model(found)
            attributes = b',"attributes":%b}' % _payload.encode(found)
            if key is not None and len(self._requests) < MAX_REMEMBERED:
                self._requests[key] = attributes
        if given is not None:
            kwargs["invocation_params"] = given
        if options:
            kwargs["options"] = _given(options)
        name = name or _name(serialized)
        return self._start(
            event, run_id, parent_run_id, name, tags, metadata, inputs, serialized, kwargs,
            attributes,
        )  # fmt: skip

    def _start(
        self,
        event: str,
        run_id: UUID,
        parent_run_id: UUID | None,
        name: str | None,
        tags: Sequence[str] | None,
        metadata: Mapping[str, Any] | None,
        inputs: Any,
        serialized: Mapping[str, Any] | None,
        kwargs: dict[str, Any],
        attributes: bytes = b"",
    ) -> bytes:
        record: dict[str, Any] = {
            "time_unix_nano": self._time_ns(),
            "event": event,
            "span_id": run_id,
        }
        if parent_run_id is not None:
            record["parent_span_id"] = parent_run_id
        record["trace_id"] = self._spans.open(run_id, parent_run_id, self._perf_ns())
        if name:
            record["name"] = name
        if tags:
            record["tags"] = tags
        if metadata:
            record["metadata"] = metadata
        record["inputs"] = inputs
        data = _given(kwargs) if kwargs else kwargs
        values: tuple[Any, ...] = (tags, metadata, inputs, data)
        if serialized:
            if self._measured.get(id(serialized)) is not serialized:
                self._measure(serialized)
                values = (*values, serialized)
            data = {**data, "serialized": serialized}
        if data:
            record["data"] = data
        return self._encode(record, values, attributes)

    def _measure(self, serialized: Mapping[str, Any]) -> None:
        """Remember that this very object will have been found small enough.

        A chain passes the same one each time, and walking through it takes longer than encoding it.
        """
        if len(self._measured) < MAX_REMEMBERED:
            self._measured[id(serialized)] = serialized

    def _end(
        self,
        event: str,
        run_id: UUID,
        parent_run_id: UUID | None,
        tags: Sequence[str] | None,
        field: str,
        result: Any,
        kwargs: dict[str, Any],
        attributes: dict[str, Attribute] | None = None,
    ) -> bytes:
        record: dict[str, Any] = {
            "time_unix_nano": self._time_ns(),
            "event": event,
            "span_id": run_id,
        }
        if parent_run_id is not None:
            record["parent_span_id"] = parent_run_id
        record["trace_id"], started = self._spans.end(run_id, parent_run_id)
        model = event.startswith("llm")
        failed = field == "error"
        if model or failed or parent_run_id is None:
            self._observe_end(run_id, parent_run_id, started, model, failed, attributes)
        if tags:
            record["tags"] = tags
        data: dict[str, Any] = {}
        inputs = None
        if kwargs:
            inputs = kwargs.pop("inputs", None)  # streams know their inputs only at their end
            if inputs is not None:
                record["inputs"] = inputs
            data = _given(kwargs)
        record[field] = result
        if model:
            stream = self._streams.pop(run_id, started)
            if stream is not None:
                data["stream"] = stream
        if data:
            record["data"] = data
        if attributes:
            record["attributes"] = attributes
        return self._encode(record, (tags, inputs, result, data))

    def _observe_end(
        self,
        run_id: UUID,
        parent_run_id: UUID | None,
        started: int | None,
        model: bool,
        failed: bool,
        attributes: dict[str, Attribute] | None,
    ) -> None:
        """Measure a span, once: LangChain calls a handler twice that it was given twice."""
        if started is not None:
            self._ended.append(run_id)
        elif run_id in self._ended:
            return
        if attributes:
            self._observations.usage(
                attributes.get("gen_ai.usage.input_tokens"),
                attributes.get("gen_ai.usage.output_tokens"),
            )
        self._observations.end(
            None if started is None else (self._perf_ns() - started) / 1e9,
            model=model,
            root=parent_run_id is None,
            failed=failed,
        )

    def _error(
        self,
        event: str,
        error: BaseException,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> bytes:
        described = describe_error(error)
        return self._end(event, run_id, parent_run_id, tags, "error", described, kwargs)

    def _note(
        self, event: str, run_id: UUID, name: str | None, data: Any, kwargs: dict[str, Any]
    ) -> bytes:
        record = self._record(event, run_id, kwargs.pop("parent_run_id", None))
        _put(record, "name", name)
        _put(record, "tags", kwargs.pop("tags", None))
        _put(record, "metadata", kwargs.pop("metadata", None))
        more = _given(kwargs)
        record["data"] = {"value": data, **more} if more else data
        return self._encode(record)

    def _record(self, event: str, run_id: UUID, parent_run_id: UUID | None) -> dict[str, Any]:
        record: dict[str, Any] = {
            "time_unix_nano": self._time_ns(),
            "event": event,
            "span_id": run_id,
        }
        if parent_run_id is not None:
            record["parent_span_id"] = parent_run_id
        record["trace_id"] = self._spans.trace_of(run_id, parent_run_id)
        return record

    def _encode(
        self,
        record: dict[str, Any],
        values: Iterable[Any] | None = None,
        attributes: bytes = b"",
    ) -> bytes:
        try:
            body = _payload.encode(record, values)
            if attributes:
                body = body[:-1] + attributes
            return self._redactor.body(body)
        except Exception as error:
            # Fail closed: what could not be looked through for secrets is not stored.
            kept: dict[str, Any] = {
                name: record[name]
                for name in ("time_unix_nano", "event", "span_id", "parent_span_id", "trace_id")
                if name in record
            }
            kept["data"] = {"$cut": "redaction", "error": type(error).__name__}
            return _payload.encode(kept)


def _name(serialized: Mapping[str, Any] | None) -> str | None:
    if not serialized:
        return None
    name = serialized.get("name")
    if name:
        return str(name)
    path = serialized.get("id")
    return str(path[-1]) if isinstance(path, (list, tuple)) and path else None


def _put(record: dict[str, Any], field: str, value: Any) -> None:
    """Set a field unless there is nothing to say: absent and empty read the same."""
    if value:
        record[field] = value


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
