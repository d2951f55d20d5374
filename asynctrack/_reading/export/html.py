"""Traces as one HTML file: no scripts, nothing from elsewhere, everything that was logged escaped.

An image is text as well: from a file there is no server that could check it, bound its size and
keep it apart from the page, and the page stays as small as its texts are.

The code writes the page without a template, so that each value goes through ``_text``, the only way
for text into it. Its Content-Security-Policy forbids everything but its own style.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from itertools import islice
from typing import Any, Final

from asynctrack._common.log_record import said_by
from asynctrack._common.markup import cut, escaped
from asynctrack._common.outcome import said_outcome
from asynctrack._reading.decoding.events import json_text
from asynctrack._reading.decoding.media import in_words
from asynctrack._reading.export.messages import Message, input_messages, output_messages
from asynctrack._reading.trees.span import Span
from asynctrack._reading.trees.trace import Trace

TEXT: Final = 20_000
"""Characters of one text that are shown."""
SPANS: Final = 1_000
"""Spans of one trace that are shown."""
DEPTH: Final = 60
"""Levels of the tree that are indented; browsers have a limit of their own."""
MESSAGES: Final = 200
NOTES: Final = 100

_STYLE: Final = """
:root{color-scheme:light dark;--line:#8884;--soft:#8881;--bad:#c33}
body{font:15px/1.45 system-ui,sans-serif;margin:0 auto;max-width:75rem;padding:1rem}
h1{font-size:1.3rem}details{border-left:2px solid var(--line);margin:.2rem 0;padding-left:.7rem}
summary{cursor:pointer;padding:.15rem 0;overflow-wrap:anywhere}
pre{background:var(--soft);border-radius:4px;margin:.3rem 0;max-height:30rem;overflow:auto;
padding:.5rem;white-space:pre-wrap;overflow-wrap:anywhere;unicode-bidi:plaintext}
table{border-collapse:collapse}
td,th{border-bottom:1px solid var(--line);padding:.15rem .8rem .15rem 0;text-align:left;
vertical-align:top;overflow-wrap:anywhere}
.error,.abandoned{color:var(--bad)}.cancelled,.interrupted,.unfinished{color:var(--warn)}.kind,.note,.label{opacity:.7;font-size:.85rem}
.label{display:block;margin-top:.5rem}.cut{font-style:italic}
"""


def html_pieces(
    traces: Iterable[Trace],
    *,
    experiment: str,
    run: str,
    uri: str,
    parameters: Mapping[str, Any],
    limit: int,
) -> Iterator[bytes]:
    """Yield a page piece by piece: never more than one trace is in memory.

    Args:
        traces: The traces.
        experiment: The experiment's name.
        run: The Run's name.
        uri: Where the Run is.
        parameters: The Run's parameters.
        limit: How many traces are shown; 0 shows all.
    """
    digest = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    title = _line(f"{experiment} / {run}")
    yield (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="referrer" content="no-referrer">'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{title}</title><style>{_STYLE}</style></head>\n<body><h1>{title}</h1>\n"
        f"<p class=note>{_line(uri)}</p>\n"
    ).encode()
    if parameters:
        rows = "".join(
            f"<tr><th>{_line(name)}</th><td>{_line(_plain(value))}</td></tr>\n"
            for name, value in sorted(parameters.items())
        )
        yield (
            f"<details><summary>{len(parameters):,} parameters</summary><table>\n{rows}</table>"
            "</details>\n"
        ).encode()
    shown = spans = failed = 0
    rest = iter(traces)
    for trace in islice(rest, limit) if limit else rest:
        shown += 1
        for piece, count, bad in _trace(trace):
            spans += count
            failed += bad
            yield piece.encode()
    more = limit and next(rest, None) is not None
    cut_off = f" The Run has more traces: the first {limit:,} are here." if more else ""
    yield (
        f"<p class=note>{shown:,} traces, {spans:,} spans, {failed:,} of them failed.{cut_off}"
        " Times are in UTC. Control and formatting characters are shown as escapes.</p>\n"
        "</body></html>\n"
    ).encode()


def _trace(trace: Trace) -> Iterator[tuple[str, int, bool]]:
    """Yield a trace's spans as nested details: pieces, with the spans in each and their failure."""
    first = True
    count = 0
    # Without recursion: a tree may have any depth.
    waiting: list[tuple[Span | None, int]] = [(span, 0) for span in reversed(trace.roots)]
    while waiting:
        span, depth = waiting.pop()
        if span is None:
            yield "</details>\n", 0, False
            continue
        count += 1
        if count > SPANS:
            more = sum(1 for _ in trace.walk()) - SPANS
            yield f"<p class=cut>{more:,} more spans of this trace are cut.</p>\n", 0, False
            for _, level in waiting:
                if _ is None and level < DEPTH:
                    yield "</details>\n", 0, False
            return
        summary = _summary(span, trace if first else None)
        first = False
        if depth < DEPTH:
            opened = "<details open>" if 0 < depth < 4 else "<details>"
            yield f"{opened}<summary>{summary}</summary>\n{_body(span)}", 1, bool(span.error)
            waiting.append((None, depth))
        else:
            yield (
                (
                    f"<details><summary><span class=note>level {depth}</span> {summary}</summary>\n"
                    f"{_body(span)}</details>\n"
                ),
                1,
                bool(span.error),
            )
        waiting.extend((child, depth + 1) for child in reversed(span.children))


def _summary(span: Span, trace: Trace | None) -> str:
    parts = [
        f"<b>{_line(span.name or span.kind)}</b> <span class=kind>{_line(span.kind)}",
        *([_line(span.model)] if span.model else []),
        "running time unknown" if span.duration is None else f"{span.duration:.3f} s",
    ]
    reads, writes = span.input_tokens, span.output_tokens
    if trace is not None:
        reads, writes = trace.input_tokens, trace.output_tokens
        if span.start_unix_nano is not None:
            parts.append(_when(span.start_unix_nano))
    if reads or writes:
        parts.append(f"{reads or 0:,} → {writes or 0:,} tokens")
    text = " · ".join(parts) + "</span>"
    if span.outcome != "ok":
        text += f" <span class={span.outcome}>{said_outcome(span.outcome, span.cause)}</span>"
    if span.orphan:
        text += " <span class=note>its parent is not there</span>"
    return text


def _body(span: Span) -> str:
    parts = []
    error = span.error
    if error is not None:
        parts.append(_block("error", error.line))
        if error.traceback:
            parts.append(_block("traceback", error.traceback))
    elif span.cause in ("pause", "handoff") and span.exception is not None:
        parts.append(_payload(span.cause, span.exception.value))
    told, said = input_messages(span), output_messages(span)
    parts.append(_messages("input", told) if told else _payload("input", span.inputs))
    parts.append(_messages("output", said) if said else _payload("output", span.outputs))
    if span.stream is not None:
        parts.append(_payload("stream", {k: v for k, v in span.stream.items() if k != "text"}))
    facts = {
        "tags": list(span.tags),
        "metadata": dict(span.metadata),
        "attributes": dict(span.attributes),
    }
    facts = {name: value for name, value in facts.items() if value}
    if facts:
        inner = "".join(_payload(name, value) for name, value in facts.items())
        parts.append(f"<details><summary class=note>details</summary>{inner}</details>\n")
    notes = span.notes[:NOTES]
    for note in notes:
        record = said_by(note.event, note.name, note.data)
        if record is None:
            parts.append(_payload(f"event {note.event}", note.data))
        else:
            parts.append(_block("log", record.line))
    if len(span.notes) > NOTES:
        parts.append(f"<p class=cut>{len(span.notes) - NOTES:,} more events are cut.</p>\n")
    return "".join(parts)


def _messages(label: str, messages: tuple[Message, ...]) -> str:
    parts = []
    for message in messages[:MESSAGES]:
        if message.text or not message.tool_calls:
            parts.append(_block(f"{label}: {message.role}", message.text))
        parts += [
            _block(f"{label}: {message.role} calls {call.name}", _plain(call.arguments))
            for call in message.tool_calls
        ]
    if len(messages) > MESSAGES:
        parts.append(f"<p class=cut>{len(messages) - MESSAGES:,} more messages are cut.</p>\n")
    return "".join(parts)


def _payload(label: str, value: Any) -> str:
    return "" if value is None else _block(label, _plain(value))


def _block(label: str, text: str) -> str:
    shown, whole = cut(text, TEXT)
    note = ""
    if whole:
        note = f"<p class=cut>Cut: {whole:,} characters, the first {TEXT:,} are shown.</p>\n"
    return f"<span class=label>{_line(label)}</span><pre>{_text(shown)}</pre>\n{note}"


def _plain(value: Any) -> str:
    value = in_words(value)
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, indent=2)
    except RecursionError:
        return json_text(value) or ""


def _line(text: str) -> str:
    """Escape a text for one line."""
    shown, whole = cut(text, 500)
    return _text(shown.replace("\n", "⏎")) + (f"… ({whole:,} characters)" if whole else "")


def _text(text: str) -> str:
    """Escape a text: the only way for logged text into the page."""
    return escaped(text)


def _when(nanoseconds: int) -> str:
    try:
        moment = datetime.fromtimestamp(nanoseconds / 1e9, tz=timezone.utc)
    except (ValueError, OverflowError, OSError):  # any number may have been logged
        return str(nanoseconds)
    return moment.isoformat(sep=" ", timespec="milliseconds").removesuffix("+00:00")
