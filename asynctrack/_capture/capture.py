"""LangChain callback to encoded event: everything a callback does, and no I/O.

There is one method for each callback of langchain-core, with the same name and arguments. It
returns the event's bytes (``event`` makes them), or None if the callback makes no event of its own:
a token of a stream that is kept as one record. The handlers put the bytes into the buffer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from asynctrack._capture.attributes import (
    prompt_name,
    request_attributes,
    request_key,
    response_attributes,
)
from asynctrack._capture.event import Body, Events, given
from asynctrack._capture.left_out import in_front
from asynctrack._capture.observations import Observations
from asynctrack._capture.recurring import MAX_REMEMBERED, Recurring, Request
from asynctrack._capture.redact import Redactor
from asynctrack._capture.reported import reported_by
from asynctrack._capture.sampling import Sampling
from asynctrack._capture.sessions import Roots
from asynctrack._capture.tracebacks import describe_error

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
"""Callbacks whose events are dropped first when the buffer is nearly full: ends and errors say more
than starts and tokens."""

CALLBACKS: Final = (
    "on_chain_start", "on_chain_end", "on_chain_error", "on_llm_start", "on_chat_model_start",
    "on_llm_new_token", "on_stream_event", "on_llm_end", "on_llm_error", "on_tool_start",
    "on_tool_end", "on_tool_error", "on_agent_action", "on_agent_finish", "on_retriever_start",
    "on_retriever_end", "on_retriever_error", "on_text", "on_retry", "on_custom_event",
)  # fmt: skip
"""All callbacks."""


class Capture:
    """Turns callbacks into encoded events.

    Args:
        tokens: How streamed tokens are kept: ``"stream"``, ``"each"`` or ``"none"``.
        redactor: Cuts secrets out of every event.
        observations: Notes model configurations, prompts and measurements.
        time_ns: Wall clock, in nanoseconds.
        perf_ns: Monotonic clock, in nanoseconds.
        recurring: Remembers what many events share; None begins anew.
        roots: Completes the metadata of roots; None knows the usual names only.
        sampling: Decides which traces are kept; None keeps all.
    """

    def __init__(
        self,
        *,
        tokens: str,
        redactor: Redactor,
        observations: Observations,
        time_ns: Callable[[], int] = time.time_ns,
        perf_ns: Callable[[], int] = time.perf_counter_ns,
        recurring: Recurring | None = None,
        roots: Roots | None = None,
        sampling: Sampling | None = None,
    ) -> None:
        self._recurring = recurring or Recurring(redactor)
        self.events = Events(
            redactor, observations, time_ns, perf_ns, self._recurring, roots, sampling
        )
        self._observations = observations
        self._each_token = tokens == "each"
        self.joins_tokens = tokens == "stream"
        if self.joins_tokens:
            # The two hottest callbacks skip everything but noting the token.
            streams = self.events.streams
            self.on_llm_new_token = streams.token  # type: ignore[method-assign]  # on purpose
            self.on_stream_event = streams.protocol_event  # type: ignore[method-assign]  # on purpose
        self._noted: set[bytes] = set()  # the requests that were noted for the Run
        if sampling is not None:
            for name in CALLBACKS:
                if self._each_token and name in ("on_llm_new_token", "on_stream_event"):
                    continue  # an event for each, which is counted
                setattr(self, name, in_front(name, getattr(self, name), self.events))

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
    ) -> Body | None:
        """Capture the start of a chain."""
        name = name or _name(serialized)
        if kwargs.get("run_type") == "prompt":
            self._observations.prompt(prompt_name(serialized, name))
        return self.events.start(
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
    ) -> Body | None:
        """Capture the end of a chain."""
        return self.events.end("chain_end", run_id, parent_run_id, tags, outputs, kwargs)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> Body | None:
        """Capture the error of a chain."""
        return self.events.error("chain_error", error, run_id, **kwargs)

    # -- models -------------------------------------------------------------------------------

    def on_llm_start(
        self,
        serialized: Mapping[str, Any] | None,
        prompts: Sequence[str],
        *,
        run_id: UUID,
        **kwargs: Any,
    ) -> Body | None:
        """Capture the start of a text completion."""
        return self._model_start(
            "llm_start", "text_completion", serialized, {"prompts": prompts}, run_id,
            _first(prompts), **kwargs,
        )  # fmt: skip

    def on_chat_model_start(
        self,
        serialized: Mapping[str, Any] | None,
        messages: Sequence[Sequence[Any]],
        *,
        run_id: UUID,
        **kwargs: Any,
    ) -> Body | None:
        """Capture the start of a chat completion."""
        return self._model_start(
            "chat_model_start", "chat", serialized, {"messages": messages}, run_id,
            _first(messages), **kwargs,
        )  # fmt: skip

    def on_llm_new_token(
        self, token: Any, *, chunk: Any = None, run_id: UUID, **kwargs: Any
    ) -> Body | None:
        """Capture a streamed token."""
        if not self._each_token:
            return None
        common = {
            "parent_run_id": kwargs.pop("parent_run_id", None),
            "tags": kwargs.pop("tags", None),
        }
        data = given({"token": token, "chunk": chunk, **kwargs})
        return self.events.note("llm_new_token", run_id, None, data, common)

    def on_stream_event(self, event: Any, *, run_id: UUID, **kwargs: Any) -> Body | None:
        """Capture an event of LangChain's streaming protocol."""
        if not self._each_token:
            return None
        return self.events.note("stream_event", run_id, None, {"event": event}, kwargs)

    def on_llm_end(
        self,
        response: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> Body | None:
        """Capture the answer of a model."""
        attributes = response_attributes(response)
        return self.events.end("llm_end", run_id, parent_run_id, tags, response, kwargs, attributes)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> Body | None:
        """Capture the error of a model call, with what it has generated until then."""
        return self.events.error("llm_error", error, run_id, **kwargs)

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
    ) -> Body | None:
        """Capture the start of a tool."""
        if inputs is None:
            inputs = input_str
        else:
            kwargs["input_str"] = input_str
        name = name or _name(serialized)
        return self.events.start(
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
    ) -> Body | None:
        """Capture what a tool returned."""
        verdict = reported_by(output)
        return self.events.end(
            "tool_end", run_id, parent_run_id, tags, output, kwargs, verdict=verdict
        )

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> Body | None:
        """Capture the error of a tool."""
        return self.events.error("tool_error", error, run_id, **kwargs)

    def on_agent_action(self, action: Any, *, run_id: UUID, **kwargs: Any) -> Body | None:
        """Capture what an agent decided to do."""
        return self.events.note("agent_action", run_id, None, action, kwargs)

    def on_agent_finish(self, finish: Any, *, run_id: UUID, **kwargs: Any) -> Body | None:
        """Capture what an agent answered."""
        return self.events.note("agent_finish", run_id, None, finish, kwargs)

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
    ) -> Body | None:
        """Capture a query."""
        name = name or _name(serialized)
        inputs = {"query": query}
        return self.events.start(
            "retriever_start", run_id, parent_run_id, name, tags, metadata, inputs, serialized,
            kwargs, given_object=query,
        )  # fmt: skip

    def on_retriever_end(
        self,
        documents: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> Body | None:
        """Capture the documents found."""
        found = {"documents": documents}
        return self.events.end("retriever_end", run_id, parent_run_id, tags, found, kwargs)

    def on_retriever_error(
        self, error: BaseException, *, run_id: UUID, **kwargs: Any
    ) -> Body | None:
        """Capture the error of a retriever."""
        return self.events.error("retriever_error", error, run_id, **kwargs)

    # -- the rest -----------------------------------------------------------------------------

    def on_text(self, text: str, *, run_id: UUID, **kwargs: Any) -> Body | None:
        """Capture a text that a chain shows."""
        return self.events.note("text", run_id, None, {"text": text}, kwargs)

    def on_retry(self, retry_state: Any, *, run_id: UUID, **kwargs: Any) -> Body | None:
        """Capture that a call is tried again."""
        outcome = getattr(retry_state, "outcome", None)
        error = outcome.exception() if outcome is not None and outcome.failed else None
        data = {
            "attempt": getattr(retry_state, "attempt_number", None),
            "idle_seconds": getattr(retry_state, "idle_for", None),
            "wait_seconds": getattr(getattr(retry_state, "next_action", None), "sleep", None),
            "error": None if error is None else describe_error(error),
        }
        return self.events.note("retry", run_id, None, given(data), kwargs)

    def on_custom_event(self, name: str, data: Any, *, run_id: UUID, **kwargs: Any) -> Body | None:
        """Capture an event that the user's code dispatched."""
        return self.events.note("custom_event", run_id, name, data, kwargs)

    # -- what they share ----------------------------------------------------------------------

    def _model_start(
        self,
        event: str,
        operation: str,
        serialized: Mapping[str, Any] | None,
        inputs: dict[str, Any],
        run_id: UUID,
        given_object: Any,
        *,
        parent_run_id: UUID | None = None,
        tags: Sequence[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        invocation_params: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> Body | None:
        params = given(invocation_params) if invocation_params else None
        key = request_key(operation, serialized, metadata, params)
        request = None if key is None else self._recurring.request(key)
        if request is None:
            found = request_attributes(operation, serialized, metadata, invocation_params)
            request = Request(key, found, self._recurring.attributes(found))
            self._recurring.remember(request)
        if request.key is None or request.key not in self._noted:
            self._observations.model(request.attributes)
            if request.key is not None and len(self._noted) < MAX_REMEMBERED:
                self._noted.add(request.key)
        if params is not None:
            kwargs["invocation_params"] = params
        if options:
            kwargs["options"] = given(options)
        name = name or _name(serialized)
        return self.events.start(
            event, run_id, parent_run_id, name, tags, metadata, inputs, serialized, kwargs,
            request.end, given_object,
        )  # fmt: skip


def _first(items: Any) -> Any:
    """Return the first of some prompts or conversations, which come in a new list each time."""
    return items[0] if items.__class__ is list and items else items


def _name(serialized: Mapping[str, Any] | None) -> str | None:
    if not serialized:
        return None
    name = serialized.get("name")
    if name:
        return str(name)
    path = serialized.get("id")
    return str(path[-1]) if isinstance(path, (list, tuple)) and path else None
