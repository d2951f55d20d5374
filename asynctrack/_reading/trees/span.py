"""Span: a call, read back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from asynctrack._common.markup import one_line
from asynctrack._common.outcome import Cause, Outcome
from asynctrack._reading.decoding.events import Event
from asynctrack._reading.trees.shown import facts, span_html

TOKEN_PARTS: Final = {
    "cache_read_tokens": "gen_ai.usage.cache_read.input_tokens",
    "cache_write_tokens": "gen_ai.usage.cache_write.input_tokens",
    "reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
    "audio_input_tokens": "gen_ai.usage.audio.input_tokens",
    "audio_output_tokens": "gen_ai.usage.audio.output_tokens",
}
"""Counts of a part of the input or the output, and the attributes and metrics that hold them."""


@dataclass(frozen=True, slots=True)
class SpanError:
    """The exception a span ended with, or the error that a tool reported in its answer.

    Attributes:
        type: The exception's type, with its module; of a tool's answer ``ToolMessage``.
        message: Its text; empty where it has none of its own.
        traceback: File, line and function of each frame, innermost last.
        raw: All that was stored of it: causes, the members of a group, and what LangGraph hands on.
    """

    type: str
    message: str
    traceback: str = field(repr=False)
    raw: Any = field(repr=False)

    @property
    def line(self) -> str:
        """Type and message, as Python prints them."""
        return f"{self.type}: {self.message}" if self.message else self.type

    @property
    def value(self) -> Any:
        """What LangGraph hands on: the values of the interrupts of a pause, a handoff's command."""
        value = self.raw.get("value") if isinstance(self.raw, dict) else None
        if isinstance(value, list):
            values = [one.get("value") if isinstance(one, dict) else one for one in value]
            return values[0] if len(values) == 1 else values
        return value

    def matches(self, other: SpanError) -> bool:
        """Return whether both are the same exception, as far as can be told."""
        return (self.type, self.message) == (other.type, other.message)

    def comes_from(self, other: SpanError) -> bool:
        """Return whether this exception was raised because of the other one, or has it in it."""
        raw = self.raw if isinstance(self.raw, dict) else {}
        inner = [
            one
            for name in ("causes", "exceptions")
            if isinstance(raw.get(name), list)
            for one in raw[name]
            if isinstance(one, dict)
        ]
        return any(
            (one.get("type"), one.get("message")) == (other.type, other.message) for one in inner
        )


@dataclass(frozen=True, slots=True, repr=False)
class Span:
    """One call: the events that share a span id.

    Attributes:
        span_id: LangChain's run id.
        trace_id: The root's span id.
        parent_span_id: LangChain's parent run id; None for a root.
        writer_id: Who recorded it.
        position: Its place among all spans that were read with it, by their first events. It
            orders them, whatever clocks say.
        kind: ``chain``, ``prompt``, ``parser``, ``llm``, ``chat_model``, ``tool``, ``retriever``,
            or another type that LangChain gave a chain; ``unknown`` without a start or an end.
        name: The component's name.
        outcome: How it ended: ``ok``, ``error``, ``cancelled``, ``interrupted``, ``unfinished`` or
            ``abandoned``.
        cause: Why, where it was cancelled or interrupted: ``cancel``, ``timeout``,
            ``stream_left``, ``parent_ended``, ``pause``, ``handoff``, ``other``; else None.
        start_unix_nano: When it started; None where its start is not there.
        end_unix_nano: When it ended; None where its end is not there.
        duration: Seconds that it took, by a clock that nobody sets; of old events by the wall
            clock. None where that is not known.
        inputs: What went in.
        outputs: What came out; of a model call that failed, what it had answered until then.
        exception: The exception it ended with, whatever its outcome; see ``error``.
        tags: LangChain's tags.
        metadata: LangChain's metadata.
        attributes: OpenTelemetry GenAI attributes, of the request and of the answer.
        data: What else LangChain passed with the start and the end; ``stream`` for streamed tokens.
        notes: All its other events: texts, retries, custom events, agent actions, single tokens.
        children: The spans below it, in the order in which they started.
        orphan: It names a parent that nobody has seen, so it counts as a root.
        spooled: An event of it was read from this machine's spool: not known to be delivered yet.
    """

    span_id: str
    trace_id: str
    parent_span_id: str | None
    writer_id: str
    position: int
    kind: str
    name: str | None
    outcome: Outcome
    cause: Cause | None
    start_unix_nano: int | None
    end_unix_nano: int | None
    duration: float | None
    inputs: Any = field(repr=False)
    outputs: Any = field(repr=False)
    exception: SpanError | None
    tags: tuple[str, ...]
    metadata: Mapping[str, Any] = field(repr=False)
    attributes: Mapping[str, Any] = field(repr=False)
    data: Mapping[str, Any] = field(repr=False)
    notes: tuple[Event, ...] = field(repr=False)
    children: tuple[Span, ...] = field(repr=False)
    orphan: bool
    spooled: bool = False

    def __repr__(self) -> str:
        return f"<Span {facts(self)}, {len(self.children):,} below, {one_line(self.span_id, 40)}>"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: prompt and answer, escaped, and cut."""
        return span_html(self)

    @property
    def started(self) -> bool:
        """Whether its start is there."""
        return self.start_unix_nano is not None

    @property
    def finished(self) -> bool:
        """Whether it is known how it ended."""
        return self.outcome not in ("unfinished", "abandoned")

    @property
    def self_time(self) -> float | None:
        """Seconds in which it ran and none of its children did; None where it is not known how
        long it took. What a child does after its parent's end does not count."""
        total, start = self.duration, self.start_unix_nano
        if total is None or not self.children or start is None:
            return total
        covered = until = 0.0
        ran = sorted(
            ((child.start_unix_nano - start) / 1e9, child.duration)
            for child in self.children
            if child.start_unix_nano is not None and child.duration is not None
        )
        for begin, took in ran:
            end = min(begin + took, total)
            begin = max(begin, until)
            if end > begin:
                covered += end - begin
                until = end
        return max(0.0, total - covered)

    @property
    def error(self) -> SpanError | None:
        """The error it ended with; None where its outcome is another one."""
        return self.exception if self.outcome == "error" else None

    @property
    def raised(self) -> bool:
        """Whether an error came up here: it has one, and none of its children has the same."""
        error = self.error
        return error is not None and not any(
            child.error is not None
            and (error.matches(child.error) or error.comes_from(child.error))
            for child in self.children
        )

    @property
    def hands_on(self) -> bool:
        """Whether LangGraph's control flow came up here: it left this span, and no child of it."""
        return self.outcome == "interrupted" and not any(
            child.outcome == "interrupted" and child.cause == self.cause for child in self.children
        )

    @property
    def model(self) -> str | None:
        """The model that was asked for, or else the one that answered."""
        for name in ("gen_ai.request.model", "gen_ai.response.model"):
            value = self.attributes.get(name)
            if isinstance(value, str):
                return value
        return None

    @property
    def input_tokens(self) -> int | None:
        """Tokens this model call read; None where that is not known."""
        return _tokens(self.attributes.get("gen_ai.usage.input_tokens"))

    @property
    def output_tokens(self) -> int | None:
        """Tokens this model call wrote; None where that is not known."""
        return _tokens(self.attributes.get("gen_ai.usage.output_tokens"))

    @property
    def cache_read_tokens(self) -> int | None:
        """Input tokens that came from the provider's cache; None where that is not known."""
        return _tokens(self.attributes.get(TOKEN_PARTS["cache_read_tokens"]))

    @property
    def cache_write_tokens(self) -> int | None:
        """Input tokens that went into the provider's cache; None where that is not known."""
        return _tokens(self.attributes.get(TOKEN_PARTS["cache_write_tokens"]))

    @property
    def reasoning_tokens(self) -> int | None:
        """Output tokens that were reasoning; None where that is not known."""
        return _tokens(self.attributes.get(TOKEN_PARTS["reasoning_tokens"]))

    @property
    def audio_input_tokens(self) -> int | None:
        """Input tokens that were audio; None where that is not known."""
        return _tokens(self.attributes.get(TOKEN_PARTS["audio_input_tokens"]))

    @property
    def audio_output_tokens(self) -> int | None:
        """Output tokens that were audio; None where that is not known."""
        return _tokens(self.attributes.get(TOKEN_PARTS["audio_output_tokens"]))

    @property
    def cache_hit(self) -> bool:
        """Whether the answer came from LangChain's cache, and nothing was used for it."""
        return self.attributes.get("langchain.cache_hit") is True

    @property
    def stream(self) -> Mapping[str, Any] | None:
        """Of streamed tokens: ``text``, ``count``, ``time_to_first_token``, …; None without."""
        value = self.data.get("stream")
        return value if isinstance(value, dict) else None

    def walk(self) -> Iterator[Span]:
        """Yield this span and all below it, parents before children."""
        waiting = [self]
        while waiting:
            span = waiting.pop()
            yield span
            waiting.extend(reversed(span.children))


def seconds(value: Any) -> float | None:
    """Return a number of seconds as it was stored; None where it is none."""
    return float(value) if type(value) in (int, float) and 0 <= value < 1e9 else None


_MAX_TOKENS: Final = 2**32
"""More than any call reads; the sums of any number of calls stay far from 64 bits."""


def _tokens(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < _MAX_TOKENS else None
