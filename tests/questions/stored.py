"""What is stored, read without asynctrack: the bot cannot know to the nanosecond what its handler
has measured. So times are compared with those in the files, summed up here by other means."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from tests.support.auditor import events_in_folder

_KINDS: Final = {"chat_model": "model", "tool": "tool", "retriever": "retriever"}


@dataclass(frozen=True)
class StoredSpan:
    """A call, from the events of its start and its end.

    Attributes:
        span_id: Its id.
        parent_id: That of the call it is in.
        trace_id: That of the trace.
        kind: ``model``, ``tool``, ``retriever`` or ``chain``.
        name: Its name; of a model call, the model.
        start: Nanoseconds since 1970.
        duration: Seconds; None where it has no end.
        ok: Whether it ended as it should.
        first_token: Seconds from its start to its first token.
        trace_first_token: Seconds from the trace's start to that.
    """

    span_id: str
    parent_id: str | None
    trace_id: str
    kind: str
    name: str
    start: int
    duration: float | None
    ok: bool
    first_token: float | None
    trace_first_token: float | None

    @property
    def end(self) -> int:
        """Nanoseconds since 1970."""
        assert self.duration is not None
        return self.start + round(self.duration * 1e9)


@dataclass(frozen=True)
class StoredRun:
    """The files of one Run.

    Attributes:
        place: The folder that was tracked into.
        run: The Run's name.
    """

    place: Path
    run: str

    @cached_property
    def events(self) -> list[dict[str, Any]]:
        """All events."""
        files = self.place.glob(f"asynctrack/v1/experiment=*/run={self.run}/dt=*/*")
        writers = {file.name.partition("-")[0] for file in files}
        return [event for event in events_in_folder(self.place) if event["writer_id"] in writers]

    @cached_property
    def spans(self) -> tuple[StoredSpan, ...]:
        """All calls."""
        ends = {
            event["span_id"]: event
            for event in self.events
            if event["event"].endswith(("_end", "_error")) or event["event"] == "span_abandoned"
        }
        return tuple(
            _span(event, ends.get(event["span_id"], {}))
            for event in self.events
            if event["event"].endswith("_start")
        )

    @cached_property
    def roots(self) -> Mapping[str, StoredSpan]:
        """The roots of the traces, by the traces' ids."""
        return {span.trace_id: span for span in self.spans if span.parent_id is None}

    @property
    def calls(self) -> Mapping[tuple[str, str], Sequence[StoredSpan]]:
        """The calls by kind and name: models, tools and retrievers, and of chains the roots."""
        found: dict[tuple[str, str], list[StoredSpan]] = defaultdict(list)
        for span in self.spans:
            if span.kind != "chain" or span.parent_id is None:
                found[span.kind, span.name].append(span)
        return found

    @property
    def first_tokens(self) -> Mapping[str, float]:
        """Seconds to the first token of each trace that streams, by its id."""
        found: dict[str, float] = {}
        for span in self.spans:
            if span.trace_first_token is not None:
                first = found.get(span.trace_id, span.trace_first_token)
                found[span.trace_id] = min(first, span.trace_first_token)
        return found

    @property
    def slowest(self) -> StoredSpan:
        """The root of the trace that took longest."""
        return max(self.roots.values(), key=lambda root: root.duration or 0)

    def times(self, trace_id: str) -> dict[str, tuple[float, float]]:
        """Return of each call in a trace how long it took itself, and how long it decided when the
        trace is over: both in seconds, to the microsecond.

        A call runs itself while nothing in it does. At any moment, of what runs in a call, that
        decides which ends last.
        """
        root = self.roots[trace_id]
        inside: dict[str | None, list[StoredSpan]] = defaultdict(list)
        for span in self.spans:
            if span.trace_id == trace_id:
                inside[span.parent_id].append(span)
        spans = [span for below in inside.values() for span in below]
        own, decides = Counter[str](), Counter[str]()
        edges = sorted({edge for span in spans for edge in (span.start, span.end)})
        for begin, end in zip(edges, edges[1:], strict=False):

            def running(below: Iterable[StoredSpan], at: int = begin) -> list[StoredSpan]:
                return [span for span in below if span.start <= at < span.end]

            for span in running(spans):
                if not running(inside[span.span_id]):
                    own[span.span_id] += end - begin
            deciding = running([root])
            while deciding:
                last = max(deciding, key=lambda span: span.end)
                deciding = running(inside[last.span_id])
                if not deciding:
                    decides[last.span_id] += end - begin
        return {
            name: (round(own[name] / 1e9, 6), round(decides[name] / 1e9, 6))
            for name in (span.span_id for span in spans)
        }


def _span(start: Mapping[str, Any], end: Mapping[str, Any]) -> StoredSpan:
    kind = _KINDS.get(start["event"].removesuffix("_start"), "chain")
    stream = (end.get("data") or {}).get("stream") or {}
    return StoredSpan(
        span_id=start["span_id"],
        parent_id=start.get("parent_span_id"),
        trace_id=start["trace_id"],
        kind=kind,
        name=start["metadata"]["ls_model_name"] if kind == "model" else start["name"],
        start=start["time_unix_nano"],
        duration=end.get("duration", (end.get("data") or {}).get("open_seconds")),
        ok=end.get("event", "").endswith("_end"),
        first_token=stream.get("time_to_first_token"),
        trace_first_token=stream.get("trace_time_to_first_token"),
    )


def mark(values: Iterable[float | None], percent: int) -> float | None:
    """Return the smallest value that so many percent of all are at most; None of none."""
    known = sorted(value for value in values if value is not None)
    return next(
        (value for n, value in enumerate(known, 1) if 100 * n >= percent * len(known)),
        None,
    )
