"""Span and Trace: a call, read back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from asynctrack._reading.decoding.events import Event


@dataclass(frozen=True, slots=True)
class SpanError:
    """The exception a span ended with.

    Attributes:
        type: The exception's type, with its module.
        message: Its text.
        traceback: File, line and function of each frame, innermost last.
        raw: All that was stored of it: causes, and the members of a group.
    """

    type: str
    message: str
    traceback: str = field(repr=False)
    raw: Any = field(repr=False)


@dataclass(frozen=True, slots=True)
class Span:
    """One call: the events that share a span id.

    Attributes:
        span_id: LangChain's run id.
        trace_id: The root's span id.
        parent_span_id: LangChain's parent run id; None for a root.
        writer_id: Who recorded it.
        kind: ``chain``, ``prompt``, ``parser``, ``llm``, ``chat_model``, ``tool``, ``retriever``,
            or another type that LangChain gave a chain; ``unknown`` without a start or an end.
        name: The component's name.
        start_unix_nano: When it started; None where its start is not there.
        end_unix_nano: When it ended; None where its end is not there.
        inputs: What went in.
        outputs: What came out; of a model call that failed, what it had answered until then.
        error: The exception, or None.
        tags: LangChain's tags.
        metadata: LangChain's metadata.
        attributes: OpenTelemetry GenAI attributes, of the request and of the answer.
        data: What else LangChain passed with the start and the end; ``stream`` for streamed tokens.
        notes: All its other events: texts, retries, custom events, agent actions, single tokens.
        children: The spans below it, in the order in which they started.
        orphan: It names a parent that is not there.
        spooled: An event of it was read from this machine's spool: not known to be delivered yet.
    """

    span_id: str
    trace_id: str
    parent_span_id: str | None
    writer_id: str
    kind: str
    name: str | None
    start_unix_nano: int | None
    end_unix_nano: int | None
    inputs: Any = field(repr=False)
    outputs: Any = field(repr=False)
    error: SpanError | None
    tags: tuple[str, ...]
    metadata: Mapping[str, Any] = field(repr=False)
    attributes: Mapping[str, Any] = field(repr=False)
    data: Mapping[str, Any] = field(repr=False)
    notes: tuple[Event, ...] = field(repr=False)
    children: tuple[Span, ...] = field(repr=False)
    orphan: bool
    spooled: bool = False

    @property
    def started(self) -> bool:
        """Whether its start is there."""
        return self.start_unix_nano is not None

    @property
    def finished(self) -> bool:
        """Whether its end, or its error, is there."""
        return self.end_unix_nano is not None

    @property
    def abandoned(self) -> bool:
        """Whether its writer gave up waiting for its end, and it never came."""
        return not self.finished and any(note.event == "span_abandoned" for note in self.notes)

    @property
    def status(self) -> str:
        """``ok``, ``error``, ``abandoned`` or ``unfinished``."""
        if self.error is not None:
            return "error"
        if self.finished:
            return "ok"
        return "abandoned" if self.abandoned else "unfinished"

    @property
    def duration(self) -> float | None:
        """Seconds from start to end by the wall clock; None where one of them is not there."""
        if self.start_unix_nano is None or self.end_unix_nano is None:
            return None
        return (self.end_unix_nano - self.start_unix_nano) / 1e9

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


@dataclass(frozen=True, slots=True)
class Trace:
    """The spans of one call from outside.

    Attributes:
        trace_id: The root's span id.
        writer_id: Who recorded it.
        roots: The root, and every span whose parent is not there; in the order of their starts.
    """

    trace_id: str
    writer_id: str
    roots: tuple[Span, ...]

    @property
    def root(self) -> Span | None:
        """The span without a parent; None where it is not there."""
        return next((span for span in self.roots if not span.orphan and span.started), None)

    @property
    def complete(self) -> bool:
        """Whether the root and every span are there, from start to end."""
        return self.root is not None and all(
            span.started and span.finished and not span.orphan for span in self.walk()
        )

    @property
    def start_unix_nano(self) -> int | None:
        """When its first span started."""
        return min((at for span in self.walk() if (at := span.start_unix_nano)), default=None)

    @property
    def end_unix_nano(self) -> int | None:
        """When its last span ended."""
        return max((at for span in self.walk() if (at := span.end_unix_nano)), default=None)

    @property
    def duration(self) -> float | None:
        """Seconds the root took; None where it is not there, or has not ended."""
        return None if self.root is None else self.root.duration

    @property
    def input_tokens(self) -> int:
        """Tokens its model calls read, as far as known."""
        return sum(span.input_tokens or 0 for span in self.walk())

    @property
    def output_tokens(self) -> int:
        """Tokens its model calls wrote, as far as known."""
        return sum(span.output_tokens or 0 for span in self.walk())

    @property
    def spooled(self) -> bool:
        """Whether any event of it was read from this machine's spool."""
        return any(span.spooled for span in self.walk())

    @property
    def errors(self) -> tuple[Span, ...]:
        """The spans that ended with an error."""
        return tuple(span for span in self.walk() if span.error is not None)

    def walk(self) -> Iterator[Span]:
        """Yield all spans, parents before children."""
        for root in self.roots:
            yield from root.walk()

    def find(self, span_id: str) -> Span | None:
        """Return a span by its id."""
        return next((span for span in self.walk() if span.span_id == span_id), None)


def _tokens(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < 2**63 else None
