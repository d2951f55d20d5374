"""What a page asks for, as conditions of SQL. No part of a request gets into the SQL."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
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
"""What the filter by outcome can be."""
_ID: Final = re.compile(r"[0-9a-fA-F-]{8,64}")
_WORD: Final = re.compile(r'"([^"]*)"|(\S+)')
_TEXTS: Final = ("name", "tag", "model")
_NUMBERS: Final = ("slower", "faster", "tokens", "since", "until")


@dataclass(frozen=True, slots=True)
class Filters:
    """Which traces of a Run a page asks for.

    Attributes:
        text: Words that all occur in a trace, "…" for words in a row; or the id of a trace or span.
        name: Of any span in it.
        tag: Of any span in it.
        model: Of any span in it.
        outcome: One of ``OUTCOMES``, or ``recovered``: errors came up that it did not fail of.
        slower: It took at least so many seconds.
        faster: It took less than so many seconds.
        tokens: Its models read and wrote at least so many tokens.
        since: It started at or after this time, in seconds since 1970.
        until: It started before this time.
    """

    text: str = ""
    name: str | None = None
    tag: str | None = None
    model: str | None = None
    outcome: str | None = None
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
        outcome = asked.get("outcome", "")
        if outcome not in ("", *CHOICES):
            raise OptionError("outcome", outcome[:40], f"one of {', '.join(CHOICES)}")
        given["outcome"] = outcome or None
        for name in _NUMBERS:
            given[name] = number(name, asked.get(name))
        return cls(**given)

    def where(self, run: int, matches: str | None = None) -> tuple[str, dict[str, Any]]:
        """Return conditions on ``traces``, and their values.

        Args:
            run: The Run's number in the index.
            matches: The table with the result of ``search``.
        """
        conditions = ["run = $run"]
        values: dict[str, Any] = {"run": run}

        def add(condition: str, **more: Any) -> None:
            conditions.append(condition)
            values.update(more)

        if self.outcome == RECOVERED:
            add("recovered > 0")
        elif self.outcome is not None:
            add("outcome = $outcome", outcome=self.outcome)
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
        if self.name is not None:
            add("list_contains(names, $name)", name=self.name)
        if self.tag is not None:
            add("list_contains(tags, $tag)", tag=self.tag)
        if self.model is not None:
            add("list_contains(models, $model)", model=self.model)
        if matches is not None:
            add(f"no IN (SELECT no FROM {matches})")
        return " AND ".join(conditions), values

    def search(self, run: int) -> tuple[str, dict[str, Any]] | None:
        """Return a query for the numbers of the traces that contain the text; None without text.

        Args:
            run: The Run's number in the index.
        """
        words = [quoted or word for quoted, word in _WORD.findall(self.text) if quoted or word]
        if not words:
            return None
        values: dict[str, Any] = {f"word{n}": word.lower() for n, word in enumerate(words)}
        condition = " AND ".join(f"contains(words, ${name})" for name in values)
        if len(words) == 1 and _ID.fullmatch(words[0]):
            values["id"] = words[0].lower()
            condition = (
                f"(({condition}) OR starts_with(trace_id, $id) OR no IN"
                " (SELECT no FROM spans WHERE run = $run AND starts_with(span_id, $id)))"
            )
        sql = f"SELECT no FROM traces WHERE run = $run AND {condition}"
        return sql, {"run": run, **values}


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
