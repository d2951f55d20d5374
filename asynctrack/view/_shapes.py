"""What the index and the library give, in the shapes that pages show (pure)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from statistics import median, quantiles
from typing import Any, Final

from asynctrack._common.log_record import said_by
from asynctrack._common.outcome import said_outcome
from asynctrack._common.payload import decode
from asynctrack._errors import OptionError
from asynctrack._reading.decoding.events import json_text
from asynctrack._reading.trees.span import SpanError, seconds

from ._blocks import pretty
from ._progress import RunState
from ._queries import COUNTED

PARAMETERS: Final = 200
"""Parameters of a Run that are shown."""
VALUE: Final = 300
"""Characters of a parameter's value that are shown."""
TICKS: Final = 2_000
"""Tokens of a stream that are drawn."""
STREAMED: Final = 0.1
"""Seconds over which tokens have to come for a rate. What comes sooner was ready before and came at
once, as many tool calls do: how fast the model wrote it cannot be seen."""

Asked = Mapping[str, str]
Data = dict[str, Any]


def described(run: RunState, *, short: bool = False) -> Data:
    """Return what every page says of a Run."""
    described: Data = {
        "id": run.id,
        "experiment": run.experiment,
        "name": run.name,
        "phase": run.phase,
        "live": run.live,
        "closed": run.closed,
        "events": run.events,
        "total": run.total,
        "spooled": run.spooled,
        "version": run.version,
        "error": run.error,
        "sampled": None,
    }
    if run.sampling is not None:
        kept, of = run.sampling.kept, run.sampling.traces
        described["sampled"] = {"kept": kept, "traces": of, "said": str(run.sampling)}
    if not short:
        shown = list(run.parameters.items())
        described["parameters"] = {
            str(name)[:VALUE]: _value(value) for name, value in shown[:PARAMETERS]
        }
        described["parameter_count"] = len(shown)
    return described


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else json_text(value) or "null"
    return text if len(text) <= VALUE else text[: VALUE - 1] + "…"


def varying(parameters: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the names of parameters that differ between Runs, those of most Runs first."""
    names: dict[str, int] = {}
    for one in parameters:
        for name in one:
            names[name] = names.get(name, 0) + 1
    varying = [
        name
        for name in names
        if not name.startswith("asynctrack.") and len({one.get(name) for one in parameters}) > 1
    ]
    return sorted(varying, key=lambda name: -names[name])


def totals_of(row: Mapping[str, Any] | None) -> Data:
    """Return totals as pages show them; of nothing where there is no row."""
    row = row or {}
    counts = ("traces", *COUNTED, "spans", "model_calls", "input_tokens", "output_tokens",
              "cache_read_tokens", "reasoning_tokens")  # fmt: skip
    totals: Data = {name: row.get(name) or 0 for name in counts}
    first, last = row.get("first_start"), row.get("last_start")
    return {
        **totals,
        "tokens": totals["input_tokens"] + totals["output_tokens"],
        "cost": row.get("cost"),
        "started": None if first is None else first / 1e9,
        "last": None if last is None else last / 1e9,
        "latency": _marks(row.get("latency"), row.get("slowest")),
        "first_token": _marks(row.get("first_token"), None),
    }


def _marks(values: Sequence[float | None] | None, largest: float | None) -> Data | None:
    if not values or values[0] is None:
        return None
    named = dict(zip(("p50", "p90", "p95", "p99"), values, strict=True))
    return {**named, "max": largest}


def sort_key(row: Mapping[str, Any], sort: str) -> Any:
    """Return what Runs are sorted by; None where it is not known."""
    if sort in ("p50", "p95"):
        return None if row["latency"] is None else row["latency"][sort]
    return row[sort]


def stream_of(stream: Any) -> Data | None:
    """Return when the tokens of a stream came: seconds from the start of the call."""
    if not isinstance(stream, dict) or not stream.get("count"):
        return None
    first = seconds(stream.get("time_to_first_token"))
    gaps = stream.get("inter_token_times")
    gaps = [gap for gap in gaps if seconds(gap) is not None] if isinstance(gaps, list) else []
    at = first or 0.0
    times = [at]
    for gap in gaps:
        at += gap
        times.append(at)
    every = -(-len(times) // TICKS)
    span = times[-1] - times[0]
    return {
        "count": stream["count"],
        "first": first,
        "per_second": len(gaps) / span if span >= STREAMED else None,
        "median": median(gaps) if gaps else None,
        "p95": quantiles(gaps, n=20, method="inclusive")[-1] if len(gaps) > 1 else None,
        "longest": max(gaps, default=None),
        "every": every,
        "times": times[::every],
    }


def extra_of(payload: Mapping[str, Any]) -> dict[str, str]:
    """Return what else was logged of a span: log records as lines, each other kind as indented
    JSON."""
    lines, notes = _log_of(payload.get("notes"))
    names = ("attributes", "metadata", "data")
    found = {"log": lines, **{name: pretty(payload[name]) for name in names if payload.get(name)}}
    if notes:
        found["notes"] = pretty(notes)
    return {name: text for name, text in found.items() if text}


def _log_of(notes: Any) -> tuple[str, list[Any]]:
    """Return the log records among a span's notes as lines, and the other notes."""
    lines, others = [], []
    for note in notes if isinstance(notes, list) else ():
        said = None
        if isinstance(note, dict):
            said = said_by(str(note.get("event")), note.get("name"), note.get("data"))
        if said is None:
            others.append(note)
        else:
            lines.append(said.line)
    return "\n".join(lines), others


def payload_of(row: Data) -> Data:
    """Take what was logged of a span out of its row, and return it decoded."""
    failed = row["error"] is not None
    payload: Data = {}
    for name in (
        "inputs",
        "outputs",
        "exception",
        "tags",
        "metadata",
        "attributes",
        "data",
        "notes",
    ):
        value = row.pop(name)
        if isinstance(value, str):
            value = decode(value.encode())
        if value:
            payload["error" if name == "exception" and failed else name] = value
    return payload


def raw_of(row: Data, payload: Data) -> str:
    """Return all that is known of a span as indented JSON."""
    head = {name: row[name] for name in row if name not in ("run", "no", "place")}
    return pretty({**head, **payload})


def error_texts(error: Any) -> dict[str, str]:
    """Return the texts of an error by what they are, in the order in which they are shown."""
    texts: dict[str, str] = {}
    if not isinstance(error, dict):
        return {"error": pretty(error)}
    several = [("", error)]
    for name, title in (("causes", "caused by"), ("exceptions", "in the group")):
        members = error.get(name)
        if isinstance(members, list):
            several += [(f"{title} {n + 1}: ", one) for n, one in enumerate(members[:20])]
    for title, one in several:
        if isinstance(one, dict):
            for name in ("type", "message", "traceback"):
                if isinstance(one.get(name), str) and one[name]:
                    texts[f"{title}{name}"] = one[name]
    return texts


def between(first: int | None, last: int | None) -> float | None:
    """Return the seconds from one time to another; None where one is not known."""
    return None if first is None or last is None else (last - first) / 1e9


def handed_of(payload: Mapping[str, Any]) -> Any:
    """Return what LangGraph handed on as it left a span, whole; None where it did not."""
    return SpanError("", "", "", payload.get("exception")).value


def why_of(outcome: str, exception: Any) -> str | None:
    """Return what was said to a call as it was cancelled; None where nothing was."""
    message = exception.get("message") if isinstance(exception, dict) else None
    return message[:VALUE] if outcome == "cancelled" and isinstance(message, str) else None


def said(row: Data) -> Data:
    """Return a row with its outcome in words."""
    return {**row, "said": said_outcome(row["outcome"], row["cause"])}


def in_seconds(row: Data, *names: str) -> Data:
    """Return a row with times in seconds: JavaScript's numbers do not hold nanoseconds."""
    return {
        name: value / 1e9 if name in names and value is not None else value
        for name, value in row.items()
    }


def page_of(asked: Asked) -> int:
    """Return the page that is asked for."""
    return number_of(asked, "page")


def number_of(asked: Asked, name: str) -> int:
    """Return a number that is asked for, 0 without one.

    Raises:
        OptionError: It is none.
    """
    text = asked.get(name) or "0"
    if not (text.isascii() and text.isdigit() and len(text) < 12 and int(text) < 10**9):
        raise OptionError(name, text[:40], "a whole number")
    return int(text)


def as_json(data: Data) -> bytes:
    """Return data as JSON in plain ASCII: whatever it holds, it is bytes that a browser reads."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False, default=str).encode()
