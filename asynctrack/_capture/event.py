"""An event: one callback call as one line of JSON, without its number, frozen when it is made.

All kinds have a time, a span and a trace, name, tags, metadata, and a payload by kind. The start of
a span opens it; its end or error closes it and gives its duration. Empty fields are left out:
absent and empty read the same.

Fields of an event: see ``guide/storage.md``. Every body starts with ``time_unix_nano``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from sys import _getframe
from typing import Any, Final
from uuid import UUID

from asynctrack._capture import current
from asynctrack._capture.attributes import Attribute
from asynctrack._capture.doubles import Doubles
from asynctrack._capture.joining import joined, sampled_by
from asynctrack._capture.observations import Observations
from asynctrack._capture.packing import AWAY, Packed, Packing
from asynctrack._capture.recurring import Recurring
from asynctrack._capture.redact import Redactor, unsearched
from asynctrack._capture.sampling import LEFT_OUT, Fate, Held, Sampling
from asynctrack._capture.sessions import Roots
from asynctrack._capture.spans import OpenSpan, OpenSpans
from asynctrack._capture.streams import Streams
from asynctrack._capture.tracebacks import describe_error, said_value, verdict_on
from asynctrack._common import payload
from asynctrack._common.feedback import finished
from asynctrack._common.lines import without_references
from asynctrack._common.outcome import Verdict
from asynctrack._format import SAMPLING

Body = bytes | Packed
"""An event as the buffer takes it."""

_FAILED: Final[Verdict] = ("error", None)
_OURS: Final = (
    "time_unix_nano", "event", "span_id", "parent_span_id", "trace_id", "duration", "outcome",
    "cause",
)  # fmt: skip
"""The fields of an event that hold nothing that was logged."""


class Events:
    """Makes events.

    Args:
        redactor: Cuts secrets out of every event.
        observations: Notes measurements.
        time_ns: Wall clock, in nanoseconds.
        perf_ns: Monotonic clock, in nanoseconds.
        recurring: Remembers what many events share.
        roots: Completes the metadata of roots; None knows the usual names only.
        sampling: Decides which traces are kept; None keeps all.
    """

    def __init__(
        self,
        redactor: Redactor,
        observations: Observations,
        time_ns: Callable[[], int],
        perf_ns: Callable[[], int],
        recurring: Recurring,
        roots: Roots | None = None,
        sampling: Sampling | None = None,
    ) -> None:
        self._redactor = redactor
        self._values = recurring.values
        self._observations = observations
        self._time_ns = time_ns
        self._perf_ns = perf_ns
        self._doubles = Doubles()
        self.renamed = self._doubles.open
        """The runs whose id another one has."""
        self._roots = roots or Roots()
        self.sampling = sampling
        """Decides which traces are kept; None where all are."""
        self.streams = Streams(perf_ns, self._doubles)
        """The streams that are open."""
        self.spans = OpenSpans()
        """The spans that are open."""
        self.recurring = recurring
        """What many events share."""

    def start(
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
        given_object: Any = None,
        apart: bool = False,
    ) -> Body | None:
        """Make the event of a span that starts; None if it was made before, or is not to be kept.

        Args:
            event: The callback without ``on_``.
            run_id: The span.
            parent_run_id: Its parent, or None for a root.
            name: Its name.
            tags: As LangChain gives them.
            metadata: As LangChain gives it.
            inputs: The payload.
            serialized: What starts, as LangChain serializes it.
            kwargs: All other arguments of the callback.
            attributes: The end of the event: ``,"attributes":{…}}``.
            given_object: The object in the payload that LangChain passes again if it says the same
                again; None for the payload itself.
            apart: Whether it is a root, whatever is around.
        """
        given_parent = parent_run_id
        if self.renamed and parent_run_id is not None:
            parent_run_id = self._doubles.of(parent_run_id)
        placed: UUID | None = None
        here = current.here()
        if here is not None and not apart:
            placed = here.parent_of(given_parent, self.spans.known)
            if placed is not None:
                parent_run_id = placed = self._doubles.of(placed) if self.renamed else placed
        said = (name, inputs if given_object is None else given_object)
        span = self.spans.open(run_id, parent_run_id, self._perf_ns(), said)
        if span is None:  # one of this id is open
            if not self.streams.has_tokens(run_id) and self.spans.take_again(
                run_id, parent_run_id, said
            ):
                if event in ("llm_start", "chat_model_start"):
                    self.streams.doubled(run_id)
                return None
            kwargs = {**kwargs, "run_id": run_id}
            run_id = self._doubles.begin(run_id, given_parent)
            span = self.spans.open(run_id, parent_run_id, self._perf_ns(), said)
        if span is not None:
            span.placed = placed
        fate = None if span is None else span.fate
        if fate is not None and fate.left_out:
            return self._left_out()
        trace_id = run_id if span is None else span.trace_id
        record = self._record(event, run_id, parent_run_id, trace_id)
        if trace_id is run_id or given_parent is None:
            metadata = self._roots.complete(metadata, trace_id, _getframe(1))
        if trace_id is run_id:
            metadata = joined(metadata)
            if self.sampling is not None and span is not None:
                sampled = sampled_by(metadata, run_id)
                fate, mark = self.sampling.begin(sampled, name, tags, metadata)
                span.fate = fate
                if fate is LEFT_OUT:
                    return self._left_out()
                kwargs = {**kwargs, SAMPLING: mark}
        if name:
            record["name"] = name
        if tags:
            record["tags"] = tags
        if metadata:
            record["metadata"] = metadata
        record["inputs"] = inputs
        data = given(kwargs) if kwargs else kwargs
        form = self.recurring.form(serialized) if serialized else b""
        if form is None:
            data = {**data, "serialized": serialized}
        if data or form:
            record["data"] = data
        body = self.encode(record)
        if not form and not attributes:
            return self._fated(fate, body)
        line = body.body if isinstance(body, Packed) else body
        if form:  # the last in ``data``, which is the last field
            line = b"%b%b%b}}" % (line[:-2], b"," if data else b"", form)
        if attributes:
            line = line[:-1] + attributes
        if isinstance(body, Packed):
            body.body = line
            return self._fated(fate, body)
        return self._fated(fate, line)

    def end(
        self,
        event: str,
        run_id: UUID,
        parent_run_id: UUID | None,
        tags: Sequence[str] | None,
        result: Any,
        kwargs: dict[str, Any],
        attributes: dict[str, Attribute] | None = None,
        verdict: Verdict | None = None,
    ) -> Body | None:
        """Make the event of a span that ends, and measure it; None if it was made before, or is
        not to be kept.

        Args:
            event: The callback without ``on_``.
            run_id: The span.
            parent_run_id: Its parent, or None for a root.
            tags: As LangChain gives them.
            result: The payload.
            kwargs: All other arguments of the callback.
            attributes: What is known about a model's answer.
            verdict: How it ended, where that is not well. The result is then what it says, except
                of a tool that has reported its error.
        """
        if self.renamed:
            run_id = self._doubles.end(run_id, parent_run_id)
            if parent_run_id is not None:
                parent_run_id = self._doubles.of(parent_run_id)
        cancelled = verdict is not None and verdict[0] == "cancelled"
        span = self.spans.end(run_id, parent_run_id, cancelled=cancelled)
        first = span.ends == 1
        if not first and span.ends <= span.starts:
            return None
        fate = span.fate
        if fate is not None and fate.left_out:
            if event.startswith("llm"):
                self.streams.pop(run_id, None)
            return self._left_out()
        if span.placed is not None:
            parent_run_id = span.placed
        record = self._record(event, run_id, parent_run_id, span.trace_id)
        seconds: float | None = None
        if span.started is not None and first:
            record["duration"] = seconds = (self._perf_ns() - span.started) / 1e9
        model, raised = event.startswith("llm"), event.endswith("_error")
        if verdict is not None and (verdict[0] != "error" or not raised):
            record["outcome"] = verdict[0]
            if verdict[1] is not None:
                record["cause"] = verdict[1]
        measured: Callable[[], None] | None = None
        if first and (model or span.is_root):
            if fate is None:
                self._observe_end(span, seconds, model, verdict, attributes)
            else:
                measured = partial(self._observe_end, span, seconds, model, verdict, attributes)
        if tags:
            record["tags"] = tags
        data: dict[str, Any] = {}
        if kwargs:
            inputs = kwargs.pop("inputs", None)  # a stream knows its inputs only at its end
            if inputs is not None:
                record["inputs"] = inputs
            outputs = kwargs.pop("outputs", None)  # a span of the user's code, until its error
            if outputs is not None:
                record["outputs"] = outputs
            data = given(kwargs)
        record["error" if raised else "outputs"] = result
        if model:
            stream = self._stream_of(span)
            if stream is not None:
                data["stream"] = stream
        if data:
            record["data"] = data
        if attributes:
            record["attributes"] = attributes
        body = self._fated(fate, self.encode(record), measured)
        if isinstance(fate, Held) and first and span.is_root:
            fate.root_ended(failed=verdict is not None and verdict[0] == "error")
        return body

    def error(
        self,
        event: str,
        error: BaseException,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> Body | None:
        """Make the event of a span that ends with an exception; None if it was made before."""
        described = describe_error(error)
        verdict = verdict_on(error)
        if verdict is not None and verdict[0] == "interrupted":
            described["value"] = said_value(error)
        return self.end(
            event, run_id, parent_run_id, tags, described, kwargs, verdict=verdict or _FAILED
        )

    def note(
        self, event: str, run_id: UUID, name: str | None, data: Any, kwargs: dict[str, Any]
    ) -> Body | None:
        """Make an event of a span that goes on; None if it is not to be kept.

        Args:
            event: The callback without ``on_``.
            run_id: The span.
            name: Its name.
            data: The payload.
            kwargs: All other arguments of the callback.
        """
        parent_run_id = kwargs.pop("parent_run_id", None)
        if self.renamed:
            run_id = self._doubles.of(run_id)
            parent_run_id = self._doubles.of(parent_run_id)
        span = self.spans.nearest(run_id, parent_run_id)
        fate = None if span is None else span.fate
        if fate is not None and fate.left_out:
            return self._left_out()
        if span is not None and span.placed is not None and span.span_id == run_id:
            parent_run_id = span.placed
        trace_id = run_id if span is None else span.trace_id
        record = self._record(event, run_id, parent_run_id, trace_id)
        tags, metadata = kwargs.pop("tags", None), kwargs.pop("metadata", None)
        if name:
            record["name"] = name
        if tags:
            record["tags"] = tags
        if metadata:
            record["metadata"] = metadata
        more = given(kwargs) if kwargs else kwargs
        record["data"] = {"value": data, **more} if more else data
        return self._fated(fate, self.encode(record))

    def moment(self, span_id: UUID | None, name: Any, data: Any) -> Body | None:
        """Make the event of something that the user's code says; None if it is not to be kept.

        Args:
            span_id: The span that it is in; None outside of any.
            name: What it is.
            data: What it says.
        """
        if span_id is not None:
            return self.note("custom_event", span_id, name, data, {})
        return self.encode(
            {"time_unix_nano": self._time_ns(), "event": "custom_event", "name": name, "data": data}
        )

    def abandoned(self, span: OpenSpan, reason: str) -> Body | None:
        """Capture that nobody waits for the end of a span any more; its end may still come.

        Nothing of one that is not to be kept: None.

        Args:
            span: The span.
            reason: ``parent_ended``: what it is part of has ended without it; ``too_many`` spans
                are open, or the tracker is ``closed``.
        """
        if span.fate is not None and span.fate.left_out:
            return self._left_out()
        record = self._record("span_abandoned", span.span_id, None, span.trace_id)
        data: dict[str, Any] = {"reason": reason}
        if span.started is not None:
            data["open_seconds"] = round((self._perf_ns() - span.started) / 1e9, 6)
        stream = self._stream_of(span)
        if stream is not None:
            data["stream"] = stream
        record["data"] = data
        return self._fated(span.fate, self.encode(record))

    def user_value(self, event: str, name: str | None, data: Any) -> bytes:
        """Capture what ``log_parameters`` and ``log_metric`` were given."""
        record: dict[str, Any] = {"time_unix_nano": self._time_ns(), "event": event}
        if name:
            record["name"] = name
        record["data"] = data
        return self.encode_whole(record)

    def feedback(self, record: dict[str, Any]) -> bytes:
        """Make the event of feedback; see ``feedback_record``."""
        data = record["data"]
        if "comment" in data:
            data["comment"] = self._values.kept(data["comment"])
        return finished(self.encode_whole({"time_unix_nano": self._time_ns(), **record}))

    def encode(self, record: dict[str, Any]) -> Body:
        """Encode a record and cut secrets out of it; what is new and large of it, later."""
        body = payload.plain_line(record, self._values.limit)
        if body is not None:
            body = without_references(body)
        if body is None or len(body) > AWAY:
            packing = Packing(self._values)
            body = packing.line(record)
            if packing.found or packing.lists or len(body) > AWAY:
                return Packed(body, packing, self._redactor, _ours(record))
        return self._searched(body, record)

    def encode_whole(self, record: dict[str, Any]) -> bytes:
        """Do the same without values, and at once."""
        return self._searched(payload.encode(record), record)

    # -- inside -------------------------------------------------------------------------------

    def _searched(self, body: bytes, record: Mapping[str, Any]) -> bytes:
        try:
            return self._redactor.body(body)
        except Exception as error:  # what could not be searched for secrets is not stored
            return payload.encode({**_ours(record), "data": unsearched(error)})

    def _observe_end(
        self,
        span: OpenSpan,
        seconds: float | None,
        model: bool,
        verdict: Verdict | None,
        attributes: dict[str, Attribute] | None,
    ) -> None:
        """Measure a span."""
        if attributes:
            self._observations.usage(attributes)
        failed = verdict is not None and verdict[0] == "error"
        self._observations.end(seconds, model=model, root=span.is_root, failed=failed)

    def _stream_of(self, span: OpenSpan) -> dict[str, Any] | None:
        trace_started = self.spans.started(span.trace_id)
        return self.streams.pop(span.span_id, span.started, trace_started)

    def _record(
        self, event: str, run_id: UUID, parent_run_id: UUID | None, trace_id: UUID
    ) -> dict[str, Any]:
        """Return what the event of a span begins with."""
        record: dict[str, Any] = {
            "time_unix_nano": self._time_ns(),
            "event": event,
            "span_id": run_id,
        }
        if parent_run_id is not None:
            record["parent_span_id"] = parent_run_id
        record["trace_id"] = trace_id
        return record

    def _left_out(self) -> Body | None:
        """Return what is made of an event whose trace is left out: nothing, and it is counted."""
        if self.sampling is not None:
            self.sampling.leave_out(events=1)
        return None

    def _fated(
        self, fate: Fate | None, body: Body, measured: Callable[[], None] | None = None
    ) -> Body | None:
        """Return an event that is accepted now; None where its trace is held, or left out.

        Args:
            fate: Its trace's.
            body: The event.
            measured: Counts it; called once it is kept. Without a fate it was called.
        """
        if isinstance(fate, Held) and not fate.put(body, measured):
            return None
        if fate is not None and measured is not None:
            measured()
        return body


def _ours(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: record[name] for name in _OURS if name in record}


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that are not None."""
    return {name: value for name, value in values.items() if value is not None}
