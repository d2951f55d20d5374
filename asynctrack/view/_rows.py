"""A Trace becomes rows of the index: one for itself, one for each of its spans (pure)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from asynctrack._reading.decoding.events import json_text
from asynctrack._reading.decoding.media import Media, in_words, media_of
from asynctrack._reading.trees.span import Span, SpanError, Trace, seconds

MAX_SEARCHED_VALUE: Final = 64 * 1024
"""Characters of one logged value that the search finds; all of it can be read."""
MAX_SEARCHED_TRACE: Final = 1024 * 1024
"""The same for one trace."""
PREVIEW: Final = 200
"""Characters of a prompt and of an answer that a list shows."""
MAX_NAME: Final = 300
"""Characters of a name, a tag or a model in a list."""
_SHORT: Final = 4
_FILES: Final = 5
_HANDED: Final = 20

# Fields of messages and results that are the same everywhere, or are found in other ways.
_NOT_SEARCHED: Final = frozenset(
    {"type", "id", "usage_metadata", "response_metadata", "generation_info", "lc_versions"}
)
_PLUMBING: Final = ("seq:step:", "graph:step:", "map:key:", "branch:", "condition:")

TRACE_COLUMNS: Final = (
    ("run", "count"),
    ("no", "count"),
    ("trace_id", "text"),
    ("writer_id", "text"),
    ("name", "text"),
    ("outcome", "text"),
    ("cause", "text"),
    ("resumes", "text"),
    ("chosen", "count"),
    ("start", "count"),
    ("duration", "number"),
    ("spans", "count"),
    ("errors", "count"),
    ("recovered", "count"),
    ("model_calls", "count"),
    ("input_tokens", "count"),
    ("output_tokens", "count"),
    ("cache_read_tokens", "count"),
    ("reasoning_tokens", "count"),
    ("cost", "number"),
    ("first_token", "number"),
    ("error", "text"),
    ("asks", "text"),
    ("names", "texts"),
    ("models", "texts"),
    ("tags", "texts"),
    ("input", "text"),
    ("output", "text"),
    ("input_key", "count"),
    ("output_key", "count"),
    ("spooled", "truth"),
    ("words", "text"),
)
SPAN_COLUMNS: Final = (
    ("run", "count"),
    ("no", "count"),
    ("place", "count"),
    ("depth", "count"),
    ("span_id", "text"),
    ("parent_span_id", "text"),
    ("name", "text"),
    ("kind", "text"),
    ("outcome", "text"),
    ("cause", "text"),
    ("start", "count"),
    ("end", "count"),
    ("duration", "number"),
    ("model", "text"),
    ("input_tokens", "count"),
    ("output_tokens", "count"),
    ("cache_read_tokens", "count"),
    ("cache_write_tokens", "count"),
    ("reasoning_tokens", "count"),
    ("cost", "number"),
    ("first_token", "number"),
    ("error", "text"),
    ("hands_on", "text"),
    ("orphan", "truth"),
    ("payload", "text"),
)

Row = tuple[Any, ...]
Cost = Callable[[Span], float | None]
"""What a model call cost, in USD; None if unknown."""


def rows_of(
    run: int, number: int, trace: Trace, cost_of: Cost, *, spooled: bool = False
) -> tuple[Row, list[Row]]:
    """Return the row of a trace and those of its spans, parents before children.

    Args:
        run: The Run's number in the index.
        number: The trace's number in the index.
        trace: The trace.
        cost_of: What a model call cost.
        spooled: Whether a part of it is not delivered, as far as is known.
    """
    spans: list[Row] = []
    words = _Words()
    names: dict[str, None] = {}
    models: dict[str, None] = {}
    tags: dict[str, None] = {}
    read = written = cached = reasoning = calls = errors = raised = 0
    costs: list[float] = []
    error: str | None = None
    asks: list[str] = []
    blame = trace.blame
    shown: dict[str, int] = {}
    for place, (depth, span) in enumerate(_walk(trace)):
        cost = cost_of(span)
        first = seconds((span.stream or {}).get("time_to_first_token"))
        failed = None if span.error is None else _error_line(span.error)
        handed = handed_on(span) if span.hands_on else None
        spans.append(
            (
                run,
                number,
                place,
                depth,
                span.span_id,
                span.parent_span_id,
                _cut(span.name),
                _cut(span.kind),
                span.outcome,
                span.cause,
                span.start_unix_nano,
                span.end_unix_nano,
                span.duration,
                _cut(span.model),
                span.input_tokens,
                span.output_tokens,
                span.cache_read_tokens,
                span.cache_write_tokens,
                span.reasoning_tokens,
                cost,
                first,
                failed,
                handed,
                span.orphan,
                payload_of(span),
            )
        )
        if span.name:
            names[_cut(span.name)] = None
        if span.model:
            models[_cut(span.model)] = None
        for tag in span.tags:
            if not tag.startswith(_PLUMBING):
                tags[_cut(tag)] = None
        if span.kind in ("llm", "chat_model"):
            calls += 1
            read += span.input_tokens or 0
            written += span.output_tokens or 0
            cached += span.cache_read_tokens or 0
            reasoning += span.reasoning_tokens or 0
            shown.setdefault("model", place)
            if cost is not None:
                costs.append(cost)
        if failed is not None:
            errors += 1
            error = error or failed
            raised += span.raised
        if span is blame:
            shown["blame"] = place
        if handed is not None and span.cause == "pause":
            shown.setdefault("pause", place)
            asks.append(handed)
        words.add(exception_of(span))
        words.add(span.inputs)
        words.add(span.outputs if span.outcome == "ok" else answer_of(span.outputs, span.data))
    root = trace.root
    paused = root.cause == "pause"
    first_shown = ("blame", "pause", "model") if paused else ("blame", "model")
    words.add(dict(root.metadata))
    for name in names:
        words.add(name)
    return (
        run,
        number,
        trace.trace_id,
        trace.writer_id,
        _cut(root.name or root.kind),
        trace.outcome,
        root.cause,
        trace.resumes,
        next((shown[what] for what in first_shown if what in shown), 0),
        trace.start_unix_nano,
        trace.duration,
        len(spans),
        errors,
        0 if trace.failed else raised,
        calls,
        read,
        written,
        cached,
        reasoning,
        sum(costs) if costs else None,
        trace.time_to_first_token,
        error,
        _cut(" · ".join(asks)) if paused else None,
        list(names),
        list(models),
        list(tags),
        preview(root.inputs),
        preview(root.outputs),
        _key(root.inputs),
        _key(root.outputs),
        spooled,
        words.text(),
    ), spans


def payload_of(span: Span) -> str:
    """Return everything that was logged of a span, as JSON text."""
    payload = {
        "inputs": span.inputs,
        "outputs": span.outputs,
        "error": exception_of(span) if span.error is not None else None,
        "exception": exception_of(span) if span.error is None else None,
        "tags": list(span.tags),
        "metadata": dict(span.metadata),
        "attributes": dict(span.attributes),
        "data": dict(span.data),
        "notes": [dict(event.raw) for event in span.notes],
    }
    return json_text({name: value for name, value in payload.items() if value}) or "{}"


def exception_of(span: Span) -> Any:
    """Return all that was stored of the exception that a span ended with, or what a tool reports.

    A message is left out where it is Python's default for any object.
    """
    exception = span.exception
    if exception is None:
        return None
    if exception.raw is None:
        return {"type": exception.type, "message": exception.message}
    if isinstance(exception.raw, dict) and not exception.message:
        return {name: item for name, item in exception.raw.items() if name != "message"}
    return exception.raw


def answer_of(outputs: Any, data: Mapping[str, Any]) -> Any:
    """Return what came out of a span; where nothing did, what it had streamed until its end."""
    stream = data.get("stream")
    text = stream.get("text") if isinstance(stream, dict) else None
    if not isinstance(text, str) or not text or preview(outputs):
        return outputs
    return {"type": "ai", "content": text}


def handed_on(span: Span) -> str:
    """Return what LangGraph hands on where it leaves a span: its questions, or where it goes."""
    value = None if span.exception is None else span.exception.value
    if span.cause == "handoff" and isinstance(value, dict):
        value = value.get("goto")
    values = value[:_HANDED] if isinstance(value, list) else [value]
    return _cut(" · ".join(map(preview, values)))


def preview(value: Any) -> str:
    """Return the first characters of the most important text of a prompt or an answer."""
    text = _first_text(value)
    line = " ".join(text[: 4 * PREVIEW].split())
    return line if len(line) <= PREVIEW else line[: PREVIEW - 1] + "…"


def _walk(trace: Trace) -> Iterator[tuple[int, Span]]:
    waiting = [(0, root) for root in reversed(trace.roots)]
    while waiting:
        depth, span = waiting.pop()
        yield depth, span
        waiting.extend((depth + 1, child) for child in reversed(span.children))


class _Words:
    """Collects the texts in a trace, each once, in lower case."""

    def __init__(self) -> None:
        self._found: dict[str, None] = {}
        self._size = 0

    def add(self, value: Any) -> None:
        """Add all texts in a value, names of fields aside; of an image, what it is."""
        waiting = [value]
        data: set[int] = set()
        while waiting:
            item = waiting.pop()
            kind = type(item)
            if kind is str or kind is dict:
                media = media_of(item)
                if media is not None and media.held is not None:
                    data.add(id(media.held))
                    waiting.append(str(media))
            if kind is str:
                if id(item) in data or (len(item) < _SHORT and not item.strip()):
                    continue
                text = item[:MAX_SEARCHED_VALUE]
                if text not in self._found and self._size < MAX_SEARCHED_TRACE:
                    self._found[text] = None
                    self._size += len(text)
            elif kind is dict:
                waiting.extend(
                    field for name, field in item.items() if name not in _NOT_SEARCHED and field
                )
            elif kind is list:
                waiting.extend(item)
            elif kind is int or kind is float:
                self._found[str(item)] = None

    def text(self) -> str:
        """Return them, one after the other."""
        return "\n".join(self._found).lower()


def _first_text(value: Any, depth: int = 20) -> str:
    """Return the last message's text, or without messages the first text."""
    for level in range(depth):
        file = _file(value)
        if file is not None:
            return str(file)
        if isinstance(value, str):
            return value
        if isinstance(value, list):
            if not value:
                return ""
            files = [one for one in map(_file, value) if one is not None]
            if files:
                # The question first: it may stand before its images or after them.
                rest = [one for one in value if _file(one) is None]
                said = [_first_text(rest, depth - level - 1), *map(str, files[:_FILES])]
                return " · ".join(one for one in said if one)
            value = value[-1]
        elif isinstance(value, dict):
            for name in (
                "messages",
                "content",
                "text",
                "generations",
                "message",
                "output",
                "resume",
            ):
                if value.get(name):
                    value = value[name]
                    break
            else:
                if value.get("tool_calls"):
                    return _json(value["tool_calls"])
                if len(value) == 1:
                    value = next(iter(value.values()))
                else:
                    return _json(value)
        else:
            return "" if value is None else str(value)
    return ""


def _file(value: Any) -> Media | None:
    """Return the image or other file that a value is, and nothing more important than that."""
    if isinstance(value, dict) and (value.get("content") or value.get("text")):
        return None
    return media_of(value)


def _json(value: Any) -> str:
    return json_text(in_words(value)) or ""


def _error_line(error: SpanError) -> str:
    kind = error.type.rpartition(".")[2] or "error"
    return _cut(f"{kind}: {error.message}" if error.message else kind)


def _cut(text: str | None) -> str:
    return (text or "")[:MAX_NAME]


def _key(value: Any) -> int | None:
    """Return a number that is the same for the same value, to find it in another Run."""
    text = json_text(value)
    if text is None:
        return None
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
