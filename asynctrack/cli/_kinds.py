"""The kinds that ``tail --kind`` takes: of events, and of spans."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from asynctrack._common.nearest import did_you_mean

from ._common import Missing

_SPANS: Final = ("chain", "chat_model", "llm", "parser", "prompt", "retriever", "tool", "unknown")
_EVENTS: Final = (
    *(f"{one}_start" for one in ("chain", "chat_model", "llm", "retriever", "tool")),
    *(f"{one}_{end}" for one in ("chain", "llm", "retriever", "tool") for end in ("end", "error")),
    "agent_action", "agent_finish", "custom_event", "feedback", "llm_new_token", "metric",
    "parameters", "retry", "span_abandoned", "stream_event", "text",
)  # fmt: skip


def known_kinds(given: Iterable[str], *, spans: bool) -> frozenset[str]:
    """Return the kinds that a user names: one in each text, or several with commas between them.

    Args:
        given: The texts.
        spans: Whether spans are shown. Their kinds are also what LangChain calls a chain, so one
            that nobody knows is wrong only if it looks like one that is known.

    Raises:
        Missing: There is no such kind.
    """
    kinds = frozenset(
        one.strip().removeprefix("on_") for text in given for one in text.split(",") if one.strip()
    )
    known, others = (_SPANS, _EVENTS) if spans else (_EVENTS, _SPANS)
    for kind in sorted(kinds - {*known}):
        if kind in others:
            hint = "leave out --spans" if spans else "give --spans"
            raise Missing(
                f"{kind!r} is a kind of {'events' if spans else 'spans'}: {hint} to see those"
            )
        near = did_you_mean(kind, known)
        if near or not spans:
            what = "spans" if spans else "events"
            more = f"; {near}" if near else ". "
            raise Missing(
                f"there are no {what} of the kind {kind!r}{more}The kinds are"
                f" {', '.join(sorted(known))}"
            )
    return kinds
