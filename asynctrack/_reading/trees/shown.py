"""Spans and traces for people: one line, a tree as text, and HTML for notebooks (pure).

The HTML has no scripts and needs no style sheet; each logged text in it is escaped and cut, and
however large a trace is, it is never longer than ``MOST`` characters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

from asynctrack._common.markup import line_html, one_line, text_html
from asynctrack._common.outcome import Cause, Outcome, said_outcome
from asynctrack._reading.decoding.conversation import conversation

MOST: Final = 200_000
"""Characters of the HTML of one trace or span at the most."""
SPANS: Final = 200
"""Spans that the HTML of a trace shows."""
DEPTH: Final = 30
"""Levels of the tree that the HTML nests."""
TEXTS: Final = 20
"""Messages of an input or output that the HTML shows."""
TEXT: Final = 4_000
"""Characters of one text in the HTML of a span; in that of a trace there are fewer."""
TEXT_IN_TREE: Final = 500
NAME: Final = 80
_PAYLOADS: Final = frozenset({"llm", "chat_model", "tool", "retriever"})
"""Kinds whose inputs and outputs a tree shows; those of chains repeat them."""
_S = TypeVar("_S", bound="Shown")


class Error(Protocol):
    """What is shown of an exception: a ``SpanError``."""

    @property
    def line(self) -> str:
        """Type and message."""


class Shown(Protocol):
    """What is shown of a span: a ``Span``."""

    @property
    def kind(self) -> str:
        """``chain``, ``tool``, …"""

    @property
    def name(self) -> str | None:
        """The component's name."""

    @property
    def outcome(self) -> Outcome:
        """How it ended."""

    @property
    def cause(self) -> Cause | None:
        """Why."""

    @property
    def duration(self) -> float | None:
        """Seconds that it took."""

    @property
    def model(self) -> str | None:
        """The model's name."""

    @property
    def input_tokens(self) -> int | None:
        """What it read."""

    @property
    def output_tokens(self) -> int | None:
        """What it wrote."""

    @property
    def inputs(self) -> Any:
        """What went in."""

    @property
    def outputs(self) -> Any:
        """What came out."""

    @property
    def stream(self) -> Mapping[str, Any] | None:
        """Its streamed tokens."""

    @property
    def exception(self) -> Error | None:
        """What it ended with."""

    @property
    def raised(self) -> bool:
        """Whether an error came up here."""

    @property
    def orphan(self) -> bool:
        """Whether its parent is not there."""

    @property
    def children(self) -> Sequence[Shown]:
        """The spans below it."""


def prompt(span: Shown) -> list[tuple[str, str]]:
    """Return what went into a span, each with a label."""
    return list(conversation(span.inputs))


def answer(span: Shown) -> list[tuple[str, str]]:
    """Return what came out of a span, each with a label."""
    if span.stream is not None and (span.outputs is None or span.outcome == "cancelled"):
        text = span.stream.get("text")
        return [("", text)] if isinstance(text, str) else []
    return list(conversation(span.outputs))


def seconds(value: float | None) -> str:
    """Return a duration in words."""
    if value is None:
        return "duration unknown"
    return f"{value * 1000:.3g} ms" if value < 0.9995 else f"{value:,.2f} s"


def facts(span: Shown) -> str:
    """Return a span in short: what it is called, how it ended, how long it took.

    Logged text in it is on one line and cut.
    """
    name = one_line(span.name or span.kind, NAME)
    found = [] if span.name in (None, span.kind) else [one_line(span.kind, NAME)]
    found += [said_outcome(span.outcome, span.cause), seconds(span.duration)]
    if span.model:
        found.append(one_line(span.model, NAME))
    if span.input_tokens is not None or span.output_tokens is not None:
        found.append(f"{span.input_tokens or 0:,} → {span.output_tokens or 0:,} tokens")
    if span.orphan:
        found.append("its parent is not there")
    return f"{name}: {', '.join(found)}"


def layout(roots: Sequence[_S], stem: int = 60) -> Iterator[tuple[_S, str, str]]:
    """Yield spans in the order of the tree, with what stands before each, and before the lines
    below it.

    Args:
        roots: The topmost spans.
        stem: Characters that the lines of the tree take at the most, so that a deep tree stays
            readable.
    """
    waiting: list[tuple[Any, str, str]] = [(root, "", "") for root in reversed(roots)]
    while waiting:
        span, lead, below = waiting.pop()
        yield span, lead, below + ("│" if span.children else " ")
        last = len(span.children) - 1
        shown = below[:stem]
        for number, child in reversed(list(enumerate(span.children))):
            ends = number == last
            waiting.append(
                (child, f"{shown}{'└─ ' if ends else '├─ '}", f"{shown}{'   ' if ends else '│  '}")
            )


def tree_text(roots: Sequence[Shown], width: int) -> str:
    """Return a tree, a line for each span, with the error where one came up."""
    lines = []
    for span, lead, _ in layout(roots, max(0, width // 2)):
        error = f" ({one_line(span.exception.line)})" if span.raised and span.exception else ""
        lines.append(one_line_of(f"{lead}{facts(span)}{error}", width))
    return "\n".join(lines)


def one_line_of(text: str, width: int) -> str:
    """Return a line, cut."""
    return text if len(text) <= width else f"{text[: width - 1]}…"


def span_html(span: Shown) -> str:
    """Return a span as HTML: prompt and answer, and what it ended with."""
    below = len(span.children)
    spans = f"{below:,} span{'' if below == 1 else 's'} right below it"
    more = f"<div><small>{spans}</small></div>" if below else ""
    return (
        f"<div><b>{line_html(facts(span), 500)}</b>{_body(span, TEXT, MOST - 10_000)}{more}</div>"
    )


def trace_html(title: str, roots: Sequence[Shown], count: int) -> str:
    """Return a trace as HTML: the tree, folded.

    Args:
        title: What stands above it.
        roots: The topmost spans.
        count: How many spans it has.
    """
    pieces = [f"<div><b>{line_html(title, 500)}</b>"]
    left = MOST - 10_000  # for titles, ends, and the last note
    shown = 0
    # None ends what is unfolded. Without recursion: a tree may have any depth.
    waiting: list[tuple[Shown | None, int]] = [(root, 0) for root in reversed(roots)]
    while waiting:
        span, depth = waiting.pop()
        if span is None:
            pieces.append("</details>")
            continue
        if shown >= SPANS or left <= 0:
            continue
        shown += 1
        fails = span.outcome in ("error", "abandoned")
        line = line_html(facts(span), 500)
        opened = " open" if depth == 0 else ""
        piece = (
            f'<details{opened} style="margin-left:{"1em" if depth else "0"}">'
            f"<summary>{f'<b>{line}</b>' if fails else line}</summary>"
        )
        if span.kind in _PAYLOADS or not span.children or span.raised:
            piece += _body(span, TEXT_IN_TREE, left - len(piece))
        left -= len(piece)
        pieces.append(piece)
        if depth < DEPTH:
            waiting.append((None, depth))
        else:
            pieces.append("</details>")
        waiting.extend((child, depth + 1) for child in reversed(span.children))
    if shown < count:
        pieces.append(f"<div><small>{count - shown:,} more spans: trace.tree()</small></div>")
    return "".join([*pieces, "</div>"])


def _body(span: Shown, length: int, most: int) -> str:
    """Return what a span was given and gave, in no more than so many characters."""
    parts = [("input", *one) for one in prompt(span)[:TEXTS]]
    parts += [("output", *one) for one in answer(span)[:TEXTS]]
    if span.exception is not None:
        parts.append((span.outcome, "", span.exception.line))
    body = ""
    for what, role, text in parts:
        label = f"{what}: {role}" if role else what
        piece = f"<small>{line_html(label)}</small>{text_html(text, length)}"
        if len(body) + len(piece) > most:
            return f"{body}<div><small>more is cut</small></div>"
        body += piece
    return body
