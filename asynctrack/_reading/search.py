"""Search: the traces in which a phrase occurs, and where in them.

The index tells which traces may have it; their texts are then looked at one by one, so what is
found is there, and in one text. Upper and lower case are the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any, Final, Literal

from asynctrack._common import payload
from asynctrack._common.outcome import Outcome
from asynctrack._reading.decoding.events import json_text
from asynctrack._reading.decoding.media import media_of
from asynctrack._reading.index.said import MAX_SEARCHED_VALUE, NOT_SEARCHED, answer_of
from asynctrack._reading.index.tables import Tables

TABLES: Final = ("spans", "traces")
"""What must be open for the search."""
Side = Literal["id", "name", "prompt", "answer", "error", "metadata"]
AROUND: Final = 80
"""Characters before and after the first match that are shown of a text."""
MATCHES: Final = 20
"""Matches that are kept of one trace; the others are counted."""
_AT_A_TIME: Final = 20
"""Traces whose texts are looked at together."""
_ID: Final = re.compile(r"[0-9a-f][0-9a-f-]{6,35}")
"""The beginning of an id, long enough to be one."""


@dataclass(frozen=True, slots=True)
class Match:
    """A text in which the phrase occurs.

    Attributes:
        span_id: The span it is in.
        name: The span's name.
        kind: The span's kind.
        side: What of the span it is: its prompt, its answer, its error, …
        text: The text around the first match, on one line.
        marks: Where in ``text`` the phrase is: begin and end of each.
        count: How often it is in the whole text.
    """

    span_id: str
    name: str
    kind: str
    side: Side
    text: str
    marks: tuple[tuple[int, int], ...]
    count: int


@dataclass(frozen=True, slots=True)
class Hit:
    """A trace in which the phrase occurs.

    Attributes:
        experiment: The experiment's name.
        run: The Run's name.
        trace_id: The trace's id.
        name: The root's name.
        start_unix_nano: When it started.
        outcome: How its root ended.
        session_id: Its session.
        user_id: Its user.
        matches: Where it occurs; a text that several spans hold comes once.
        more: Further such texts.
    """

    experiment: str
    run: str
    trace_id: str
    name: str
    start_unix_nano: int | None
    outcome: Outcome
    session_id: str | None
    user_id: str | None
    matches: tuple[Match, ...]
    more: int


@dataclass(frozen=True, slots=True)
class Hits:
    """What was found.

    Attributes:
        found: The traces, the latest first.
        total: How many there are.
    """

    found: tuple[Hit, ...]
    total: int


def search(tables: Tables, phrase: str, *, limit: int = 0) -> Hits:
    """Find the traces in which a phrase occurs: in prompts, answers, errors with their types,
    names, ids, and the metadata of roots. Blocks.

    Args:
        tables: Open, with ``TABLES``; a period narrows the traces.
        phrase: What is searched for; not empty.
        limit: How many traces are returned; 0 returns all.
    """
    wanted = phrase.lower()
    total = _choose(tables, wanted)
    found: list[Hit] = []
    for first in range(0, total, _AT_A_TIME):
        traces = tables.rows(
            "SELECT t.* EXCLUDE (_words) FROM inside.candidates c JOIN inside.all_traces t"
            " USING (_no) WHERE c.place >= $first AND c.place < $end ORDER BY c.place",
            {"first": first, "end": first + _AT_A_TIME},
        )
        spans = _spans(tables, wanted, first)
        for trace in traces:
            matches = _matches(trace, spans.get(trace["_no"], []), wanted)
            if not matches:
                total -= 1  # two texts have it together, or the name of a field
                continue
            found.append(_hit(trace, matches))
            if len(found) == limit:
                return Hits(tuple(found), total)
    return Hits(tuple(found), total)


def _choose(tables: Tables, wanted: str) -> int:
    """Note the traces that may have it, in the order in which they are shown; return how many."""
    values: dict[str, Any] = {"wanted": wanted}
    asked = [
        "contains(_words, $wanted)",
        "contains(lower(concat_ws(chr(10), trace_id, session_id, user_id, thread_id, name)),"
        " $wanted)",
    ]
    if _ID.fullmatch(wanted):
        asked.append("_no IN (SELECT _no FROM inside.spans WHERE starts_with(span_id, $wanted))")
    # The index holds the beginning of a very long text.
    if wanted.isascii():
        values["stored"] = _stored(wanted)
        asked.append(
            f"length(_words) >= {MAX_SEARCHED_VALUE} AND _no IN (SELECT _no FROM inside.spans"
            f" WHERE {_IN_PAYLOADS})"
        )
    else:
        asked.append(f"length(_words) >= {MAX_SEARCHED_VALUE}")
    tables.rows(
        "CREATE OR REPLACE TABLE inside.candidates AS SELECT _no,"
        " row_number() OVER (ORDER BY _start DESC NULLS LAST, _no DESC) - 1 AS place"
        f" FROM inside.traces WHERE {' OR '.join(f'({one})' for one in asked)}",
        values,
    )
    (row,) = tables.rows("SELECT count(*) AS n FROM inside.candidates")
    return int(row["n"])


def _spans(tables: Tables, wanted: str, first: int) -> dict[int, list[dict[str, Any]]]:
    """Return the spans that may have it, of some traces."""
    asked = "true"
    values: dict[str, Any] = {"first": first, "end": first + _AT_A_TIME}
    if wanted.isascii():
        values |= {"wanted": wanted, "stored": _stored(wanted)}
        asked = (
            f"{_IN_PAYLOADS} OR contains(lower(concat_ws(chr(10), span_id, name,"
            " concat(error_type, ': ', error_message))), $wanted) OR _place = 0"
        )
    rows = tables.rows(
        "SELECT s._no, s._depth, s.span_id, s.name, s.kind, s.outcome, s.inputs, s.outputs,"
        " s.data, s.error_type, s.error_message, s._exception,"
        " CASE WHEN s._place = 0 THEN s.metadata END AS metadata"
        " FROM inside.all_spans s JOIN inside.candidates c USING (_no)"
        f" WHERE c.place >= $first AND c.place < $end AND ({asked}) ORDER BY s._no, s._place",
        values,
    )
    found: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["_no"], []).append(row)
    return found


_IN_PAYLOADS: Final = (
    "contains(lower(inputs), $stored) OR contains(lower(outputs), $stored)"
    " OR contains(lower(data), $stored) OR contains(lower(_exception), $stored)"
    " OR contains(lower(metadata), $stored)"
)


def _stored(wanted: str) -> str:
    """Return a phrase as it stands in JSON."""
    return (json_text(wanted) or "")[1:-1]


def _hit(trace: Mapping[str, Any], matches: list[Match]) -> Hit:
    return Hit(
        experiment=trace["experiment"],
        run=trace["run"],
        trace_id=trace["trace_id"],
        name=trace["name"],
        start_unix_nano=trace["_start"],
        outcome=trace["outcome"],
        session_id=trace["session_id"],
        user_id=trace["user_id"],
        matches=tuple(matches[:MATCHES]),
        more=max(0, len(matches) - MATCHES),
    )


def _matches(
    trace: Mapping[str, Any], spans: Iterable[Mapping[str, Any]], wanted: str
) -> list[Match]:
    """Return the texts with the phrase, each once on each side."""
    spans = list(spans)
    # An error is that of the span it comes from; those above have it with a longer traceback.
    sources = {_error_line(span): span for span in sorted(spans, key=lambda one: one["_depth"])}
    best: dict[tuple[Side, str], tuple[bool, int, Mapping[str, Any]]] = {}
    places = count()
    for span in spans:
        wraps = span["kind"] == "chain"
        for side, text in _texts(span):
            if wanted not in text.lower() or (
                side == "error" and sources[_error_line(span)] is not span
            ):
                continue
            known = best.get((side, text))
            if known is None or (known[0] and not wraps):
                best[side, text] = wraps, next(places), span
    # A model and a tool say more than the chains around them.
    told = {text for (_, text), (wraps, _, _) in best.items() if not wraps}
    found = [
        (place, _match(span, side, text, wanted))
        for (side, text), (wraps, place, span) in best.items()
        if not (wraps and side in ("prompt", "answer") and text in told)
    ]
    found.sort(key=lambda one: one[0])
    matches = [match for _, match in found]
    if not matches:
        root = {"span_id": trace["trace_id"], "name": trace["name"], "kind": ""}
        ids = (trace[name] for name in ("trace_id", "session_id", "user_id", "thread_id"))
        matches = [_match(root, "id", one, wanted) for one in ids if one and wanted in one.lower()]
    return matches


def _texts(span: Mapping[str, Any]) -> Iterator[tuple[Side, str]]:
    yield "id", span["span_id"]
    if span["name"]:
        yield "name", span["name"]
    for text in _strings(_decoded(span["inputs"])):
        yield "prompt", text
    outputs = _decoded(span["outputs"])
    if span["outcome"] != "ok":
        outputs = answer_of(outputs, _decoded(span["data"]) or {})
    for text in _strings(outputs):
        yield "answer", text
    error = _error_line(span)
    if error:
        yield "error", error
    exception = _decoded(span["_exception"])
    if isinstance(exception, dict):
        exception = {name: item for name, item in exception.items() if name != "message"}
    for text in _strings(exception):
        yield "error", text
    for text in _strings(_decoded(span["metadata"])):
        yield "metadata", text


def _error_line(span: Mapping[str, Any]) -> str:
    kind, message = span["error_type"], span["error_message"]
    return f"{kind}: {message}" if kind and message else kind or ""


def _strings(value: Any) -> Iterator[str]:
    """Yield all texts in a value as it is read, and numbers; not the data of images."""
    waiting = [value]
    data: set[int] = set()
    while waiting:
        item = waiting.pop()
        if isinstance(item, (str, dict)):
            media = media_of(item)
            if media is not None and media.held is not None:
                data.add(id(media.held))
                yield str(media)
        if isinstance(item, str):
            if id(item) not in data:
                yield item
        elif isinstance(item, dict):
            fields = [field for name, field in item.items() if name not in NOT_SEARCHED]
            waiting.extend(reversed(fields))
        elif isinstance(item, list):
            waiting.extend(reversed(item))
        elif type(item) in (int, float):
            yield str(item)


def _match(span: Mapping[str, Any], side: Side, text: str, wanted: str) -> Match:
    places = occurrences(text, wanted)
    around, marks = excerpt(text, places)
    name, kind = span["name"] or span["kind"], span["kind"]
    return Match(span["span_id"], name, kind, side, around, marks, len(places))


def occurrences(text: str, wanted: str) -> list[tuple[int, int]]:
    """Return where a phrase is in a text, in any case: begin and end of each.

    Args:
        text: The text.
        wanted: The phrase, in lower case.
    """
    lowered = text.lower()
    origin: list[int] | None = None
    if len(lowered) != len(text):  # a capital I with a dot is two characters then
        origin = [place for place, char in enumerate(text) for _ in char.lower()]
    found = []
    at = lowered.find(wanted)
    while at >= 0:
        end = at + len(wanted)
        found.append((at, end) if origin is None else (origin[at], origin[end - 1] + 1))
        at = lowered.find(wanted, end)
    return found


def excerpt(
    text: str, places: list[tuple[int, int]], around: int = AROUND
) -> tuple[str, tuple[tuple[int, int], ...]]:
    """Return the text around the first of some places, on one line, and where they are in it.

    Args:
        text: The text.
        places: Begin and end of each, in order; at least one.
        around: Characters before and after.
    """
    first, end = places[0]
    begin, end = max(0, first - around), min(len(text), end + around)
    line = "…" if begin else ""
    marks = []
    at = begin
    for start, stop in places:
        if stop > end:
            break
        line += _one_line(text[at:start])
        marks.append((len(line), len(line) + len(_one_line(text[start:stop]))))
        line += _one_line(text[start:stop])
        at = stop
    line += _one_line(text[at:end])
    return line + ("…" if end < len(text) else ""), tuple(marks)


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def _decoded(text: str | None) -> Any:
    return None if text is None else payload.decode(text.encode())
