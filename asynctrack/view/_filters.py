"""What a page asks for, as conditions of SQL. No part of a request gets into the SQL."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from asynctrack._common.outcome import OUTCOMES
from asynctrack._errors import OptionError

PAGE: Final = 50
"""Traces on one page."""
MAX_TEXT: Final = 1_000
"""Characters that can be searched for."""

SORTS: Final = {
    "newest": "start DESC NULLS LAST, no DESC",
    "oldest": "start ASC NULLS LAST, no ASC",
    "slowest": "duration DESC NULLS LAST, no DESC",
    "fastest": "duration ASC NULLS LAST, no DESC",
    "tokens": "input_tokens + output_tokens DESC, no DESC",
    "cost": "cost DESC NULLS LAST, no DESC",
    "spans": "spans DESC, no DESC",
}
RECOVERED: Final = "recovered"
CHOICES: Final = (*OUTCOMES, RECOVERED)
"""What the filter by a trace's outcome can be."""
OF_SPAN: Final = {"name": "name", "model": "model", "ended": "outcome", "error": "error_type"}
"""Filters that hold together for one span, and the columns that they are about."""
OF_TRACE: Final = {"session": "session_id", "user": "user_id", "thread": "thread_id"}
"""The same for the trace."""
_LISTS: Final = {"name": "names", "model": "models"}
_ID: Final = re.compile(r"[0-9a-fA-F-]{8,64}")
_WORD: Final = re.compile(r'"([^"]*)"|(\S+)')
_TEXTS: Final = ("name", "model", "error", "tag", *OF_TRACE)
_NUMBERS: Final = ("slower", "faster", "tokens", "since", "until")

Condition = tuple[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Filters:
    """Which traces of some Runs a page asks for.

    What is asked of a span holds for one and the same: ``name`` and ``ended`` choose the traces in
    which a span that is called so ended so, not those in which another one did.

    Attributes:
        text: Words that all occur in a trace, "…" for words in a row; a word may be the beginning
            of the id of a trace or span.
        name: Of a span in it.
        model: Of that span.
        ended: How that span ended: one of ``OUTCOMES``.
        error: The type of that span's error.
        tag: Of any span in it.
        outcome: Of the trace: one of ``OUTCOMES``, or ``recovered``: errors came up that it did not
            fail of.
        session: Its session.
        user: Its user.
        thread: Its thread.
        slower: It took at least so many seconds.
        faster: It took less than so many seconds.
        tokens: Its models read and wrote at least so many tokens.
        since: It started at or after this time, in seconds since 1970.
        until: It started before this time.
    """

    text: str = ""
    name: str | None = None
    model: str | None = None
    ended: str | None = None
    error: str | None = None
    tag: str | None = None
    outcome: str | None = None
    session: str | None = None
    user: str | None = None
    thread: str | None = None
    slower: float | None = None
    faster: float | None = None
    tokens: float | None = None
    since: float | None = None
    until: float | None = None

    @classmethod
    def of(cls, asked: Mapping[str, str]) -> Filters:
        """Read filters from a request's query.

        Raises:
            OptionError: A value is not allowed.
        """
        given: dict[str, Any] = {"text": asked.get("text", "")[:MAX_TEXT].strip()}
        given.update({name: asked.get(name) or None for name in _TEXTS})
        for name, choices in (("outcome", CHOICES), ("ended", OUTCOMES)):
            chosen = asked.get(name, "")
            if chosen not in ("", *choices):
                raise OptionError(name, chosen[:40], f"one of {', '.join(choices)}")
            given[name] = chosen or None
        for name in _NUMBERS:
            given[name] = number(name, asked.get(name))
        return cls(**given)

    def without(self, name: str) -> Filters:
        """Return the others: what could be chosen in place of one of them."""
        changed: dict[str, Any] = {name: None}
        return replace(self, **changed)

    def where(self, runs: Sequence[int], matches: str | None = None) -> Condition:
        """Return conditions on ``traces``, and their values.

        Args:
            runs: The Runs' numbers in the index.
            matches: The table with the result of ``search``.
        """
        condition, values = of_runs(runs)
        conditions = [condition]

        def add(condition: str, **more: Any) -> None:
            conditions.append(condition)
            values.update(more)

        if self.outcome == RECOVERED:
            add("recovered > 0")
        elif self.outcome is not None:
            add("outcome = $outcome", outcome=self.outcome)
        for name, column in OF_TRACE.items():
            if getattr(self, name) is not None:
                add(f"{column} = ${name}", **{name: getattr(self, name)})
        if self.slower is not None:
            add("duration >= $slower", slower=self.slower)
        if self.faster is not None:
            add("duration < $faster", faster=self.faster)
        if self.tokens is not None:
            add("input_tokens + output_tokens >= $tokens", tokens=math.ceil(self.tokens))
        if self.since is not None:
            add("start >= $since", since=_nanoseconds(self.since))
        if self.until is not None:
            add("start < $until", until=_nanoseconds(self.until))
        if self.tag is not None:
            add("list_contains(tags, $tag)", tag=self.tag)
        span, given = self.span()
        if len(given) == 1 and (name := next(iter(given))) in _LISTS:
            add(f"list_contains({_LISTS[name]}, ${name})", **given)  # without reading spans
        elif given:
            add(f"no IN (SELECT no FROM spans WHERE {condition} AND {span})", **given)
        if matches is not None:
            add(f"no IN (SELECT no FROM {matches})")
        return " AND ".join(conditions), values

    def span(self) -> Condition:
        """Return the conditions on one row of ``spans``, and their values; ``true`` without any."""
        given = {name: getattr(self, name) for name in OF_SPAN}
        given = {name: value for name, value in given.items() if value is not None}
        return " AND ".join(f"{OF_SPAN[name]} = ${name}" for name in given) or "true", given

    @property
    def words(self) -> list[str]:
        """What is searched for, in lower case."""
        found = (quoted or word for quoted, word in _WORD.findall(self.text))
        return [word.lower() for word in found if word]

    def search(self, runs: Sequence[int]) -> Condition | None:
        """Return a query for the numbers of the traces that contain the text; None without text.

        Args:
            runs: The Runs' numbers in the index.
        """
        if not self.words:
            return None
        of, values = of_runs(runs)
        conditions = [of]
        for n, word in enumerate(self.words):
            values[f"word{n}"] = word
            found = f"contains(words, $word{n})"
            if _ID.fullmatch(word):
                found = (
                    f"({found} OR starts_with(trace_id, $word{n}) OR no IN"
                    f" (SELECT no FROM spans WHERE {of} AND starts_with(span_id, $word{n})))"
                )
            conditions.append(found)
        return f"SELECT no FROM traces WHERE {' AND '.join(conditions)}", values


def of_runs(runs: Sequence[int]) -> Condition:
    """Return the condition that a row of ``traces`` or ``spans`` is of some Runs."""
    if len(runs) == 1:
        return "run = $run", {"run": runs[0]}  # Parquet's statistics leave out the others
    return "run IN (SELECT unnest($runs))", {"runs": list(runs)}


def number(name: str, text: str | None) -> float | None:
    """Read a number of a request; None if it has none.

    Raises:
        OptionError: It is none.
    """
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or abs(value) > 1e15:
        raise OptionError(name, text[:40], "a number")
    return value


def _nanoseconds(seconds: float) -> int:
    return max(-(2**62), min(2**62, round(seconds * 1e9)))
