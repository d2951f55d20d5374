"""The tables' columns, and a trace as rows of them (pure)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from asynctrack._reading.decoding.events import Event, json_text
from asynctrack._reading.decoding.feedback import feedback_of
from asynctrack._reading.decoding.media import files_in
from asynctrack._reading.index import chat
from asynctrack._reading.index.said import (
    Words,
    answer_of,
    cut,
    error_line,
    exception_of,
    handed_on,
    preview,
)
from asynctrack._reading.tables import event_table
from asynctrack._reading.trees.sessions import session_of, thread_of, user_of
from asynctrack._reading.trees.span import Span, seconds
from asynctrack._reading.trees.trace import Trace

_FILE: Final = re.compile(r"\b(?:image|audio|video|file), ")
"""How ``Media`` begins, in words."""
_PLUMBING: Final = ("seq:step:", "graph:step:", "map:key:", "branch:", "condition:")
MODEL_KINDS: Final = ("llm", "chat_model")

Row = tuple[Any, ...]
Columns = tuple[tuple[str, str], ...]
"""Names and types. Names that begin with ``_`` are for asynctrack itself, and not shown."""

OF: Final[Columns] = (("experiment", "text"), ("run", "text"))
"""What every row begins with."""

TRACES: Final[Columns] = (
    *OF,
    ("trace_id", "text"),
    ("writer_id", "text"),
    ("name", "text"),
    ("outcome", "text"),
    ("cause", "text"),
    ("start", "time"),
    ("duration", "number"),
    ("session_id", "text"),
    ("user_id", "text"),
    ("thread_id", "text"),
    ("weight", "number"),
    ("spans", "count"),
    ("errors", "count"),
    ("recovered", "count"),
    ("model_calls", "count"),
    ("input_tokens", "count"),
    ("output_tokens", "count"),
    ("cache_read_tokens", "count"),
    ("cache_write_tokens", "count"),
    ("reasoning_tokens", "count"),
    ("time_to_first_token", "number"),
    ("error_type", "text"),
    ("error_message", "text"),
    ("models", "texts"),
    ("tags", "texts"),
    ("input", "text"),
    ("output", "text"),
    ("resumes", "text"),
    ("complete", "truth"),
    ("spooled", "truth"),
    ("_run", "count"),
    ("_no", "count"),
    ("_start", "count"),
    ("_kind", "text"),
    ("_chosen", "count"),
    ("_error", "text"),
    ("_asks", "text"),
    ("_names", "texts"),
    ("_input_key", "count"),
    ("_output_key", "count"),
    ("_words", "text"),
)
"""A row for each trace. ``input`` and ``output`` are the first characters of what went into its
root and came out; ``_kind`` is the root's; ``_input_key`` and ``_output_key`` are the same for the
same question and the same final answer, in any Run; ``_words`` is every text in it, in lower case,
for the search."""

SPANS: Final[Columns] = (
    *OF,
    ("trace_id", "text"),
    ("span_id", "text"),
    ("parent_span_id", "text"),
    ("writer_id", "text"),
    ("kind", "text"),
    ("name", "text"),
    ("outcome", "text"),
    ("cause", "text"),
    ("start", "time"),
    ("end", "time"),
    ("duration", "number"),
    ("self_time", "number"),
    ("session_id", "text"),
    ("user_id", "text"),
    ("thread_id", "text"),
    ("weight", "number"),
    ("model", "text"),
    ("input_tokens", "count"),
    ("output_tokens", "count"),
    ("cache_read_tokens", "count"),
    ("cache_write_tokens", "count"),
    ("reasoning_tokens", "count"),
    ("audio_input_tokens", "count"),
    ("audio_output_tokens", "count"),
    ("stream_tokens", "count"),
    ("time_to_first_token", "number"),
    ("error_type", "text"),
    ("error_message", "text"),
    ("inputs", "text"),
    ("outputs", "text"),
    ("tags", "texts"),
    ("metadata", "text"),
    ("attributes", "text"),
    ("data", "text"),
    ("notes", "count"),
    ("orphan", "truth"),
    ("spooled", "truth"),
    ("_run", "count"),
    ("_no", "count"),
    ("_place", "count"),
    ("_depth", "count"),
    ("_start", "count"),
    ("_end", "count"),
    ("_answered_by", "text"),
    ("_error", "text"),
    ("_raised", "truth"),
    ("_hands_on", "text"),
    ("_exception", "text"),
    ("_notes", "text"),
)
"""A row for each span, parents before children. Times are in UTC, durations in seconds, payloads
JSON; session, user, thread and weight are the trace's. ``_raised``: an error came up in it, not
below."""

EVENTS: Final[Columns] = (*OF, *((name, kind) for name, kind, _ in event_table.COLUMNS))
"""A row for each event."""

FEEDBACK: Final[Columns] = (
    *OF,
    ("time", "time"),
    ("trace_id", "text"),
    ("span_id", "text"),
    ("name", "text"),
    ("score", "number"),
    ("value", "text"),
    ("comment", "text"),
    ("user_id", "text"),
    ("writer_id", "text"),
    ("seq", "count"),
)
"""A row for each feedback."""

PARAMETERS: Final[Columns] = (*OF, ("name", "text"), ("value", "text"))
"""A row for each parameter; values are JSON."""

TABLES: Final[dict[str, Columns]] = {
    "spans": SPANS,
    "traces": TRACES,
    "events": EVENTS,
    "feedback": FEEDBACK,
    "parameters": PARAMETERS,
}


def rows_of(
    of: tuple[str, str], run: int, number: int, trace: Trace, *, spooled: bool | None = None
) -> tuple[Row, list[Row]]:
    """Return the row of a trace and those of its spans, parents before children.

    Args:
        of: The experiment's and the Run's name.
        run: The Run's number in the index.
        number: The trace's number in the index.
        trace: The trace.
        spooled: Whether a part of it is not delivered, as far as is known; None asks its events.
    """
    walked = list(_walk(trace))
    session, user, thread = _ids(trace, walked)
    ids = (session, user, thread)
    weight = trace.weight
    spans: list[Row] = []
    words = Words()
    for one in ids:
        words.add(one)
    names: dict[str, None] = {}
    models: dict[str, None] = {}
    tags: dict[str, None] = {}
    read = written = cached = stored = reasoning = calls = errors = raised = 0
    error: str | None = None
    asks: list[str] = []
    root, blame = trace.root, trace.blame
    shown: dict[str, int] = {}
    first_token: float | None = None
    complete = True
    for place, (depth, span) in enumerate(walked):
        input_tokens, output_tokens = span.input_tokens, span.output_tokens
        stream = span.stream
        first = streamed = None
        if stream is not None:
            first = seconds(stream.get("time_to_first_token"))
            streamed = _whole(stream.get("count"))
            felt = seconds(stream.get("trace_time_to_first_token"))
            if felt is not None and (first_token is None or felt < first_token):
                first_token = felt
        exception = exception_of(span)
        failed = None
        here = False
        if span.error is not None:
            failed = error_line(span.error)
            errors += 1
            error = error or failed
            words.add(span.error.type)
            here = span.raised
            raised += here
        handed = handed_on(span) if span.hands_on else None
        model = span.model
        answered = span.attributes.get("gen_ai.response.model")
        spans.append(
            (
                *of,
                span.trace_id,
                span.span_id,
                span.parent_span_id,
                span.writer_id,
                span.kind,
                span.name,
                span.outcome,
                span.cause,
                span.start_unix_nano,
                span.end_unix_nano,
                span.duration,
                span.self_time,
                *ids,
                weight,
                model,
                input_tokens,
                output_tokens,
                span.cache_read_tokens,
                span.cache_write_tokens,
                span.reasoning_tokens,
                span.audio_input_tokens,
                span.audio_output_tokens,
                streamed,
                first,
                None if span.error is None else span.error.type,
                None if span.error is None else span.error.message,
                json_text(span.inputs),
                json_text(span.outputs),
                span.tags,
                json_text(span.metadata),
                json_text(span.attributes),
                json_text(span.data),
                len(span.notes),
                span.orphan,
                span.spooled,
                run,
                number,
                place,
                depth,
                span.start_unix_nano,
                span.end_unix_nano,
                answered if isinstance(answered, str) else None,
                failed,
                here,
                handed,
                None if exception is None else json_text(exception),
                json_text([dict(event.raw) for event in span.notes]) if span.notes else None,
            )
        )
        if span.name:
            names[cut(span.name)] = None
        if model:
            models[cut(model)] = None
        for tag in span.tags:
            if not tag.startswith(_PLUMBING):
                tags[cut(tag)] = None
        if span.kind in MODEL_KINDS:
            calls += 1
            read += input_tokens or 0
            written += output_tokens or 0
            cached += span.cache_read_tokens or 0
            stored += span.cache_write_tokens or 0
            reasoning += span.reasoning_tokens or 0
            shown.setdefault("model", place)
        if span is blame:
            shown["blame"] = place
        if handed is not None and span.cause == "pause":
            shown.setdefault("pause", place)
            asks.append(handed)
        if not (span.started and span.finished and (not span.orphan or span is root)):
            complete = False
        words.add_types(exception)
        words.add(exception)
        words.add(span.inputs)
        words.add(span.outputs if span.outcome == "ok" else answer_of(span.outputs, span.data))
    paused = root.cause == "pause"
    first_shown = ("blame", "pause", "model") if paused else ("blame", "model")
    words.add(dict(root.metadata))
    for name in names:
        words.add(name)
    start = trace.start_unix_nano
    question = chat.asked(root.inputs)
    return (
        *of,
        trace.trace_id,
        trace.writer_id,
        cut(root.name or root.kind),
        trace.outcome,
        root.cause,
        start,
        trace.duration,
        *ids,
        weight,
        len(spans),
        errors,
        0 if trace.failed else raised,
        calls,
        read,
        written,
        cached,
        stored,
        reasoning,
        first_token,
        None if root.error is None else root.error.type,
        None if root.error is None else root.error.message,
        list(models),
        list(tags),
        preview(root.inputs),
        preview(root.outputs),
        trace.resumes,
        complete,
        trace.spooled if spooled is None else spooled,
        run,
        number,
        start,
        root.kind,
        next((shown[what] for what in first_shown if what in shown), 0),
        error,
        cut(" · ".join(asks)) if paused else None,
        list(names),
        _key(question, root.inputs),
        _key(chat.answered(root.outputs, question), root.outputs),
        words.text(),
    ), spans


def event_row(of: tuple[str, str], event: Event) -> Row:
    """Return the row of an event."""
    return (*of, *(take(event) for _, _, take in event_table.COLUMNS))


def feedback_row(of: tuple[str, str], event: Event) -> Row:
    """Return the row of a feedback."""
    said = feedback_of(event)
    ids = (event.writer_id, event.seq)
    if said is None:  # of no trace
        return (*of, event.time_unix_nano, None, None, event.name, None, None, None, None, *ids)
    score = None if said.score is None else float(said.score)
    return (
        *(*of, said.time_unix_nano, said.trace_id, said.span_id, said.name, score),
        *(said.value, said.comment, said.user_id, *ids),
    )


def _ids(trace: Trace, walked: list[tuple[int, Span]]) -> tuple[str | None, str | None, str | None]:
    """Return the session, user and thread of a trace; see ``Trace``."""
    found: list[str | None] = []
    takers: tuple[Callable[[Any], str | None], ...] = (session_of, user_of, thread_of)
    # LangGraph gives the same metadata to hundreds of spans; most name all of them at the root.
    for take in takers:
        one = None
        for _, span in walked:
            if span.metadata:
                one = take(span.metadata)
                if one is not None:
                    break
        found.append(one)
    return found[0], found[1], found[2]


def _walk(trace: Trace) -> Iterator[tuple[int, Span]]:
    waiting = [(0, root) for root in reversed(trace.roots)]
    while waiting:
        depth, span = waiting.pop()
        yield depth, span
        waiting.extend((depth + 1, child) for child in reversed(span.children))


def _key(text: str, payload: Any) -> int:
    """Return a number that is the same for the same text and files, to find it in another Run."""
    if _FILE.search(text):  # it says what they are, not what is in them
        text = "\n".join((text, *(file.checksum() for file in files_in(payload))))
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def _whole(value: Any) -> int | None:
    return value if type(value) is int and abs(value) < 2**63 else None
