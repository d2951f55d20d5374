"""Artifact to Events: unpack, split into lines, check each line. Nothing read here is trusted.

What cannot be read is a ``Damage``: where in the artifact, and why; the lines around it are still
read. Memory stays bounded whatever the bytes say: an artifact is unpacked piece by piece.

Lines of values are no events: they are taken out, and events get them in the place of references.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import orjson

from asynctrack._common import payload
from asynctrack._format import ArtifactName
from asynctrack._reading.decoding.unpacking import BrokenError, lines_in
from asynctrack._reading.decoding.values import (
    MARK,
    MAX_HELD,
    TOO_MUCH,
    Values,
    is_value,
    value_fault,
    value_head,
)

VERSIONS: Final = (1, 2)
"""Of lines: those that can be read. In 2 there are values."""

_SHORT: Final = 1024

_OTHER_WRITER: Final = "an event of another writer than the object's key says"
_TEXTS: Final = ("span_id", "parent_span_id", "trace_id", "name")
_OBJECTS: Final = ("metadata", "attributes")
_TEXT_OR_NONE: Final = (str, type(None))
_OBJECT_OR_NONE: Final = (dict, type(None))


@dataclass(frozen=True, slots=True)
class Event:
    """One callback call, as it was logged.

    Attributes:
        raw: The whole JSON object, decoded, with values in the place of references. Required fields
            have been checked; the payload is whatever was logged.
        spooled: Whether it comes from this machine's spool: not known to be delivered yet.
        size: Size of its line, in bytes, and of the values that it is the first to hold; its memory
            grows with it.
    """

    raw: Mapping[str, Any]
    spooled: bool = False
    size: int = field(default=0, compare=False, repr=False)

    @property
    def writer_id(self) -> str:
        """Who accepted it."""
        return self.raw["writer_id"]  # type: ignore[no-any-return]  # checked when it was read

    @property
    def seq(self) -> int:
        """Its number at its writer."""
        return self.raw["seq"]  # type: ignore[no-any-return]  # checked when it was read

    @property
    def time_unix_nano(self) -> int:
        """Wall clock of the call, in nanoseconds."""
        return self.raw["time_unix_nano"]  # type: ignore[no-any-return]  # checked when read

    @property
    def event(self) -> str:
        """The callback's name without ``on_``, or ``metric``, ``parameters``."""
        return self.raw["event"]  # type: ignore[no-any-return]  # checked when it was read

    @property
    def span_id(self) -> str | None:
        """LangChain's run id; None for what belongs to no span."""
        return self.raw.get("span_id")

    @property
    def parent_span_id(self) -> str | None:
        """LangChain's parent run id; None for a root."""
        return self.raw.get("parent_span_id")

    @property
    def trace_id(self) -> str | None:
        """The root's span id, if the writer knew it."""
        return self.raw.get("trace_id")

    @property
    def name(self) -> str | None:
        """The component's name."""
        return self.raw.get("name")

    @property
    def tags(self) -> tuple[str, ...]:
        """LangChain's tags."""
        return tuple(self.raw.get("tags") or ())

    @property
    def metadata(self) -> Mapping[str, Any]:
        """LangChain's metadata."""
        return self.raw.get("metadata") or {}

    @property
    def attributes(self) -> Mapping[str, Any]:
        """OpenTelemetry GenAI attributes."""
        return self.raw.get("attributes") or {}

    @property
    def inputs(self) -> Any:
        """What went in; None where the event has none."""
        return self.raw.get("inputs")

    @property
    def outputs(self) -> Any:
        """What came out; None where the event has none."""
        return self.raw.get("outputs")

    @property
    def error(self) -> Any:
        """The described exception; None where the event has none."""
        return self.raw.get("error")

    @property
    def data(self) -> Any:
        """Everything else LangChain passed."""
        return self.raw.get("data")


@dataclass(frozen=True, slots=True)
class StoredEvent(Event):
    """An event as it was stored: with its references.

    Attributes:
        values: The lines of values that stand before it, decoded.
    """

    values: tuple[dict[str, Any], ...] = ()

    def after(self, before: Event) -> StoredEvent:
        """Return it with the values of the event before it, which is left out."""
        assert isinstance(before, StoredEvent)  # an artifact is read in one way
        here = {"seq": self.seq, "time_unix_nano": self.time_unix_nano}
        return replace(self, values=(*({**one, **here} for one in before.values), *self.values))


@dataclass(frozen=True, slots=True)
class Damage:
    """A part of an artifact that cannot be read.

    Attributes:
        line: Number of the line, from 1; for damage that ends the artifact, of the first line
            that could not be read.
        reason: What is wrong, in words. Only the end of what is packed holds a checksum: where
            that was not reached, the lines before may be altered as well, and it says so.
        rest: Whether everything from there on is lost, too.
    """

    line: int
    reason: str
    rest: bool = False


def read_events(
    content: bytes,
    name: str,
    place: ArtifactName,
    damaged: Callable[[Damage], None],
    *,
    spooled: bool = False,
    values: Values | None = None,
    resolve: bool = True,
) -> Iterator[Event]:
    """Decode an artifact, line by line.

    Args:
        content: The artifact's bytes.
        name: Its key, which tells how it is packed.
        place: What the key says about the events: a line that says otherwise is damaged.
        damaged: Called with everything that cannot be read.
        spooled: Whether it comes from this machine's spool.
        values: What is known of its values, where it is read bit by bit; gets those that are here.
        resolve: Whether events get values in the place of references; else each is a
            ``StoredEvent``, with its references and the lines of values before it.

    Yields:
        The events, each with a higher sequence number than the one before.
    """
    values = Values() if values is None else values
    lines = lines_in(content, name)
    number = events = before = kept_bytes = 0
    kept: list[dict[str, Any]] = []

    def bad(number: int, reason: str | None) -> None:
        if reason is not None:
            damaged(Damage(number, reason))

    while True:
        try:
            line = next(lines, None)
        except BrokenError as error:
            damaged(Damage(number + 1, str(error), rest=True))
            return
        if line is None:
            missing = place.last_seq - place.first_seq + 1 - events
            if missing > 0:  # cut off between two lines, which the bytes alone do not tell
                damaged(Damage(number + 1, f"{missing} lines are missing at the end", rest=True))
            return
        number += 1
        size = len(line)
        # A short one is quicker decoded than looked at; the few values among them are told below.
        head = value_head(line) if size > _SHORT else None
        if head is not None and resolve:
            writer_id, value_id, start = head
            if writer_id == place.writer_id:
                bad(number, values.take(value_id, number, line[start:-1], size))
            else:
                bad(number, _OTHER_WRITER)
            continue
        try:
            raw = payload.decode(line)
            reason = _fault(raw, place, before)
        except ValueError as error:
            events += head is None
            bad(number, f"not JSON: {error}")
            continue
        if (reason is not None or raw["event"] == "value") and is_value(raw):
            reason = value_fault(raw)
            if raw.get("writer_id") != place.writer_id:
                reason = _OTHER_WRITER
            elif reason is None and resolve:
                reason = values.take(raw["name"], number, raw["data"], size)
            elif reason is None:
                kept_bytes += size
                if kept_bytes > MAX_HELD:
                    reason = TOO_MUCH
                else:
                    kept.append(raw)
            bad(number, reason)
            continue
        events += 1
        if reason is not None:
            bad(number, reason)
            continue
        before = raw["seq"]
        if not resolve:
            yield StoredEvent(raw, spooled, size + kept_bytes, tuple(kept))
            kept, kept_bytes = [], 0
            continue
        if values.any and line.find(MARK) >= 0 and raw["v"] != 1:
            size += values.resolve(raw, bad)
        yield Event(raw, spooled, size)


def json_text(value: Any) -> str | None:
    """Return a decoded value as JSON text; None for None."""
    if value is None:
        return None
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # nested deeper than orjson writes, though it reads that deep
        try:
            return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        except RecursionError:
            return '{"$cut":"depth"}'


def _fault(raw: Any, place: ArtifactName, before: int) -> str | None:
    """Return what is wrong with a decoded line, or None."""
    if type(raw) is not dict:
        return "not a JSON object"
    version = raw.get("v")
    if type(version) is not int or version not in VERSIONS:
        return f"schema version {str(version)[:20]}, and this asynctrack reads {VERSIONS[-1]}"
    if raw.get("writer_id") != place.writer_id:
        return _OTHER_WRITER
    seq = raw.get("seq")
    if type(seq) is not int or not place.first_seq <= seq <= place.last_seq:
        return "a sequence number that is not in the range of the object's key"
    if seq <= before:
        return f"the sequence number {seq} after {before}"
    time = raw.get("time_unix_nano")
    if type(time) is not int or not 0 <= time < 2**63:
        return "time_unix_nano is missing or not a time"
    if type(raw.get("event")) is not str:
        return "event is missing or not a text"
    # Only what is there counts: absent and null are alike.
    for name in _TEXTS:
        if type(raw.get(name)) not in _TEXT_OR_NONE:
            return f"{name} is not a text"
    for name in _OBJECTS:
        if type(raw.get(name)) not in _OBJECT_OR_NONE:
            return f"{name} is not an object"
    tags = raw.get("tags")
    if tags is None:
        return None
    if type(tags) is not list or any(type(tag) is not str for tag in tags):
        return "tags is not a list of texts"
    return None
