"""Measurements: what ends of spans add up to, as they are noticed and as they were stored.

A writer adds up what its callbacks notice, and its manifest has the sums, with the number of the
last event that is in them. Of a writer that died the rest is added up from its events, by
``add_event``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from asynctrack._common import payload
from asynctrack._common.lines import is_value

INPUT: Final = "gen_ai.usage.input_tokens"
OUTPUT: Final = "gen_ai.usage.output_tokens"
CACHE_READ: Final = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE: Final = "gen_ai.usage.cache_write.input_tokens"
REASONING: Final = "gen_ai.usage.reasoning.output_tokens"
AUDIO_INPUT: Final = "gen_ai.usage.audio.input_tokens"
AUDIO_OUTPUT: Final = "gen_ai.usage.audio.output_tokens"
PARTS: Final = {
    CACHE_READ: "cache_read_tokens",
    CACHE_WRITE: "cache_write_tokens",
    REASONING: "reasoning_tokens",
    AUDIO_INPUT: "audio_input_tokens",
    AUDIO_OUTPUT: "audio_output_tokens",
}
"""Counts of a part of the input or the output, and what they are called in sums."""


@dataclass(slots=True)
class Measured:
    """Measurements added up: all times are in seconds."""

    model_calls: int = 0
    model_seconds: float = 0.0
    model_seconds_max: float = 0.0
    traces: int = 0
    trace_seconds: float = 0.0
    trace_seconds_max: float = 0.0
    errors: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0

    @property
    def empty(self) -> bool:
        """Whether nothing was measured."""
        return not (self.model_calls or self.traces or self.errors)

    def usage(self, attributes: Mapping[str, Any]) -> None:
        """Add the tokens of a model call, by the attributes of its answer."""
        read, written = attributes.get(INPUT), attributes.get(OUTPUT)
        if isinstance(read, int):
            self.input_tokens += read
        if isinstance(written, int):
            self.output_tokens += written
        if not PARTS.keys().isdisjoint(attributes):
            for name, part in PARTS.items():
                tokens = attributes.get(name)
                if isinstance(tokens, int):
                    setattr(self, part, getattr(self, part) + tokens)

    def end(self, seconds: float | None, *, model: bool, root: bool, failed: bool) -> None:
        """Add the end of a span; ``seconds`` is None if its start is unknown."""
        if model and seconds is not None:
            self.model_calls += 1
            self.model_seconds += seconds
            self.model_seconds_max = max(self.model_seconds_max, seconds)
        if root and seconds is not None:
            self.traces += 1
            self.trace_seconds += seconds
            self.trace_seconds_max = max(self.trace_seconds_max, seconds)
        # One failure passes every span on its way up. It counts once, at the root.
        if failed and root:
            self.errors += 1

    def add_event(self, raw: Mapping[str, Any]) -> None:
        """Add what was added when this event was captured, if it is the end of a span."""
        event = str(raw.get("event"))
        kind, _, what = event.rpartition("_")
        if not kind or what not in ("end", "error"):
            return
        model, root = kind == "llm", raw.get("span_id") == raw.get("trace_id")
        if not (model or root):
            return
        attributes = raw.get("attributes")
        if isinstance(attributes, dict):
            self.usage(attributes)
        seconds, outcome = raw.get("duration"), raw.get("outcome")
        self.end(
            float(seconds) if isinstance(seconds, (int, float)) else None,
            model=model,
            root=root,
            failed=outcome == "error" or (what == "error" and outcome is None),
        )

    def points(self) -> list[tuple[str, float]]:
        """Return it as the points of metrics: at most one for each.

        ``gen_ai.client.operation.duration``, a name of OpenTelemetry, is the mean duration of the
        model calls in seconds. ``asynctrack.trace.duration`` is that of whole traces.
        """
        values: list[tuple[str, float]] = []
        if self.model_calls:
            values += [
                ("gen_ai.client.operation.duration", self.model_seconds / self.model_calls),
                ("gen_ai.client.operation.duration.max", self.model_seconds_max),
                ("gen_ai.client.operation.count", self.model_calls),
            ]
        if self.input_tokens or self.output_tokens:
            values += [(INPUT, self.input_tokens), (OUTPUT, self.output_tokens)]
        for name, part in PARTS.items():
            if tokens := getattr(self, part):
                values.append((name, tokens))
        if self.traces:
            values += [
                ("asynctrack.trace.duration", self.trace_seconds / self.traces),
                ("asynctrack.trace.duration.max", self.trace_seconds_max),
                ("asynctrack.trace.count", self.traces),
                ("asynctrack.trace.errors", self.errors),
            ]
        return values


def measured_in(lines: Iterable[bytes]) -> Measured:
    """Return what the events in these lines add up to.

    Raises:
        ValueError: One of the lines is no event.
    """
    found = Measured()
    for line in lines:
        if not is_value(line):
            raw = payload.decode(line)
            if type(raw) is not dict:
                raise ValueError("not an event")
            found.add_event(raw)
    return found
