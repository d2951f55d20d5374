"""Numbers, times and payloads in words, for people at a terminal.

An image or another file is said in a few words, where it is not asked for as it was stored.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any, Final

from asynctrack._common.outcome import said_outcome
from asynctrack._reading.decoding.events import json_text
from asynctrack._reading.decoding.feedback import Feedback
from asynctrack._reading.decoding.media import Media, Say, in_words, media_of
from asynctrack._reading.trees.span import Span
from asynctrack._reading.trees.trace import Trace

LINE: Final = 200
"""Characters of a payload on one line."""
NAME: Final = 100
"""Characters of a name, a kind or a model."""
CUT: Final = 1_000
"""Characters of a text that are shown by default."""
_UNITS: Final = ("B", "KB", "MB", "GB", "TB")


def count(value: float | None) -> str:
    """Return a whole number with separators; empty if unknown."""
    return "" if value is None else f"{value:,.0f}"


def seconds(value: float | None) -> str:
    """Return a duration."""
    if value is None:
        return ""
    if value < 0:
        return f"-{seconds(-value)}"
    if value < 0.9995:
        return f"{value * 1e3:.3g} ms" if value < 0.0995 else f"{value * 1e3:.0f} ms"
    if value < 119.5:
        return f"{value:.3g} s" if value < 99.5 else f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def size(value: float | None) -> str:
    """Return a number of bytes, in powers of 1,000 as S3's bill has them."""
    if value is None:
        return ""
    number = float(value)
    for unit in _UNITS:
        if number < 999.5 or unit == _UNITS[-1]:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.3g} {unit}"
        number /= 1000
    raise AssertionError("the last unit takes all")


def usd(value: float | None) -> str:
    """Return a cost."""
    if value is None:
        return ""
    if value >= 1 or value <= 0:
        return f"${value:,.2f}"
    digits = min(12, 2 - math.floor(math.log10(value)))  # three that count
    return f"${value:.{digits}f}"


def tokens(value: Any) -> str:
    """Return what models read and wrote, of a summary, and which parts of it are known."""
    read = _parts(
        (value.cache_read_tokens, "from the cache"),
        (value.cache_write_tokens, "into the cache"),
        (value.audio_input_tokens, "audio"),
    )
    written = _parts((value.reasoning_tokens, "reasoning"), (value.audio_output_tokens, "audio"))
    return f"{value.input_tokens:,} in{read}, {value.output_tokens:,} out{written}"


def call_tokens(span: Span) -> str:
    """Return what a model call read and wrote; empty if unknown."""
    if span.cache_hit:
        return "from LangChain's cache"
    if span.input_tokens is None and span.output_tokens is None:
        return ""
    parts = _parts(
        (span.cache_read_tokens, "from the cache"),
        (span.cache_write_tokens, "into the cache"),
        (span.reasoning_tokens, "reasoning"),
    )
    return f"{span.input_tokens or 0:,} → {span.output_tokens or 0:,} tokens{parts}"


def _parts(*parts: tuple[int | None, str]) -> str:
    known = [f"{count:,} {name}" for count, name in parts if count]
    return f" ({', '.join(known)})" if known else ""


def moment(unix_nano: int | None) -> str:
    """Return a time, in UTC to the second."""
    if unix_nano is None:
        return ""
    at = datetime.fromtimestamp(unix_nano // 10**9, tz=timezone.utc)
    return at.strftime("%Y-%m-%d %H:%M:%SZ")


def minute(unix_nano: int | None) -> str:
    """Return a time, in UTC to the minute."""
    return f"{moment(unix_nano)[:16]}Z" if unix_nano is not None else ""


def clock(unix_nano: int) -> str:
    """Return the time of day, in UTC to the millisecond."""
    at = datetime.fromtimestamp(unix_nano // 10**9, tz=timezone.utc)
    return f"{at:%H:%M:%S}.{unix_nano // 10**6 % 1000:03d}Z"


def shortened(text: str, limit: int | None) -> str:
    """Cut a text, and say how much is left out.

    Args:
        text: The text.
        limit: Characters at the most; None cuts nothing.
    """
    if limit is None or len(text) <= limit:
        return text
    return f"{text[:limit]}… [{len(text) - limit:,} more characters]"


def one_line(value: Any, limit: int) -> str:
    """Return a payload on one line."""
    return shortened(" ".join(said(value).split()), limit)


def told_apart(media: Media) -> str:
    """Say what an image is so that two images are said alike only if they are the same."""
    if media.held is None:
        return str(media)
    digest = hashlib.blake2b(media.held.encode("utf-8", "surrogatepass"), digest_size=4)
    return f"{media}, {digest.hexdigest()}"


def said(value: Any, say: Say | None = str) -> str:
    """Return a payload as text: its messages if it has any, else JSON.

    Args:
        value: The payload.
        say: What is said of an image or another file; None leaves it as it was stored.
    """
    parts = list(conversation(value, say))
    if len(parts) == 1:
        return parts[0][1]
    return "\n".join(f"{role}: {text}" for role, text in parts)


def name(named: Span | str | None) -> str:
    """Return what a span is called, or any name: on one line, and short enough for a list."""
    text = (named.name or named.kind) if isinstance(named, Span) else named or ""
    return shortened(" ".join(text.split()), NAME)


def outcome(span: Span) -> str:
    """Return how a span ended, and why."""
    return said_outcome(span.outcome, span.cause).replace(span.outcome, span.outcome.upper(), 1)


def outcomes(trace: Trace) -> list[str]:
    """Return how a trace ended, if not well, and what did not end well in it."""
    root = trace.root
    said = [] if root.outcome == "ok" else [said_outcome(root.outcome, root.cause)]
    recovered = len(trace.recovered)
    return [*said, f"{recovered:,} recovered"] if recovered else said


def handed_on(span: Span) -> str:
    """Return what LangGraph hands on where it leaves a span: its question, or where it goes."""
    value = None if span.exception is None else span.exception.value
    if span.cause == "handoff" and isinstance(value, dict) and value.get("goto"):
        goto = value["goto"]
        return f"to {goto}" if isinstance(goto, str) else f"to {json_text(goto)}"
    return said(value)


def feedback(given: Feedback) -> str:
    """Return what feedback says: the score or the label, who says so, the comment."""
    score = given.value if given.score is None else f"{given.score:.6g}"
    by = "" if given.user_id is None else f"by {given.user_id}"
    return "  ".join(part for part in (score, by, given.comment) if part)


def prompt(span: Span) -> list[tuple[str, str]]:
    """Return what went into a span, each with a label."""
    return list(conversation(span.inputs))


def answer(span: Span) -> list[tuple[str, str]]:
    """Return what came out of a span, each with a label."""
    if span.stream is not None and (span.outputs is None or span.outcome == "cancelled"):
        text = span.stream.get("text")
        return [("", text)] if isinstance(text, str) else []
    return list(conversation(span.outputs))


def conversation(value: Any, say: Say | None = str) -> Iterator[tuple[str, str]]:
    """Yield the messages of a payload, each with its role; anything else as JSON."""
    if value is None:
        return
    if isinstance(value, str):
        yield "", in_words(value, say)
    elif isinstance(value, dict) and _is_message(value):
        yield _role(value), _message(value, say)
    elif isinstance(value, list) and value and all(map(_is_message, value)):
        for message in value:
            yield _role(message), _message(message, say)
    elif isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        yield from conversation(value[0], say)  # a batch of one
    elif isinstance(value, list) and value and all(map(_is_choices, value)):
        for choices in value:  # what a model had answered until it failed
            yield from conversation(choices or None, say)
    elif isinstance(value, list) and value and all(map(_is_generation, value)):
        for generation in value:
            message = generation.get("message")
            if _is_message(message):
                yield _role(message), _message(message, say)
            else:
                yield "", str(generation.get("text", ""))
    elif isinstance(value, dict) and "generations" in value:
        yield from conversation(value["generations"], say)
    elif isinstance(value, dict) and len(value) == 1:
        ((name, item),) = value.items()
        if name in ("messages", "prompts", "prompt", "input", "output") and item is not None:
            yield from conversation(item, say)
        else:
            yield "", json_text(in_words(value, say)) or ""
    elif isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        yield from (("", in_words(item, say)) for item in value)
    else:
        yield "", json_text(in_words(value, say)) or ""


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and "content" in value and isinstance(value.get("type"), str)


def _is_generation(value: Any) -> bool:
    return isinstance(value, dict) and "text" in value and ("message" in value or "type" in value)


def _is_choices(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_generation, value))


def _role(message: dict[str, Any]) -> str:
    who = message.get("name")
    kind = name(str(message["type"]))
    return f"{kind} {name(who)}" if isinstance(who, str) and who else kind


def _message(message: dict[str, Any], say: Say | None) -> str:
    content = message["content"]
    blocks = content if isinstance(content, list) else [content]
    lines = []
    for block in blocks:
        media = None if say is None else media_of(block)
        text = block.get("text") if isinstance(block, dict) else block
        if isinstance(text, str) and (media is None or text is not block):
            lines.append(text)
        if say is not None and media is not None:
            lines.append(say(media))
        elif block is not None and not isinstance(text, str):
            lines.append(json_text(in_words(block, say)) or "")
    calls = message.get("tool_calls")
    lines += [
        f"→ {call.get('name')}({json_text(in_words(call.get('args'), say)) or ''})"
        for call in (calls if isinstance(calls, list) else ())
        if isinstance(call, dict)
    ]
    return "\n".join(line for line in lines if line)
