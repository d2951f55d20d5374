"""Lines of schema version 2, made by hand from the contract alone: each large text and each list
that grows stands once in an artifact, as a value, and events refer to it."""

from __future__ import annotations

import hashlib
import json
import random
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypedDict

import zstandard

from asynctrack._format import parse_artifact_name
from asynctrack._reading.decoding.events import read_events
from tests.reading.making import lines
from tests.reading.making import packed as compressed
from tests.support.values import list_reference, packed, text_name, text_reference

LARGE = 4096
MANY = 8
PAYLOADS = ("inputs", "outputs", "data", "error", "metadata")


def value_line(one: Mapping[str, Any], name: str, data: Any) -> dict[str, Any]:
    """The line of a value that stands before an event."""
    head = {key: one[key] for key in ("writer_id", "seq", "time_unix_nano")}
    return {"v": 2, **head, "event": "value", "name": name, "data": data}


class Valued:
    """Makes the lines of one artifact."""

    def __init__(self) -> None:
        self._texts: set[str] = set()
        self._lists: list[tuple[str, list[bytes]]] = []

    def lines(self, events: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The lines of whole events: values, and events that refer to them."""
        found = []
        for one in events:
            values: list[dict[str, Any]] = []
            event = {**one, "v": 2}
            for name in PAYLOADS:
                if name in event:
                    event[name] = self._stored(event[name], one, values)
            found += [*values, event]
        return found

    def _stored(self, value: Any, one: Mapping[str, Any], values: list[dict[str, Any]]) -> Any:
        is_bytes = isinstance(value, dict) and value.keys() == {"$type", "base64"}
        if isinstance(value, str) or is_bytes:
            if len(packed(value)) <= LARGE:
                return value
            if text_name(value) not in self._texts:
                self._texts.add(text_name(value))
                values.append(value_line(one, text_name(value), value))
            return text_reference(value)
        if isinstance(value, dict):
            return {key: self._stored(item, one, values) for key, item in value.items()}
        if not isinstance(value, list):
            return value
        items = [self._stored(item, one, values) for item in value]
        if len(value) < MANY or len(packed(value)) <= LARGE:
            return items
        if not all(isinstance(item, (dict, list)) for item in value):
            return items
        given = [packed(item) for item in value]
        known = next(
            (pair for pair in self._lists if pair[1] == given[: len(pair[1])]),
            None,
        ) or next((pair for pair in self._lists if pair[1][: len(given)] == given), None)
        if known is None:
            known = (secrets.token_hex(16), [])
            self._lists.append(known)
        name, before = known
        if len(given) > len(before):
            data = {"from": len(before), "items": items[len(before) :]}
            values.append(value_line(one, name, data))
            before += given[len(before) :]
        return list_reference(name, len(value))


def entries(events: Iterable[Mapping[str, Any]]) -> list[list[dict[str, Any]]]:
    """The lines of each event of an artifact: values, and then the event."""
    valued = Valued()
    return [valued.lines([one]) for one in events]


def stored(events: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The lines of an artifact of whole events."""
    return Valued().lines(events)


def rewrite(run: Path, version: int, batch: int = 0) -> None:
    """Write a Run's artifacts anew, in this version of the schema.

    Args:
        run: The Run's folder.
        version: 1 or 2.
        batch: Cut it into artifacts of so many events; 0 leaves them as they are.
    """
    manifests = {path: json.loads(path.read_text()) for path in run.glob("_manifest/*.json")}
    for path in sorted(run.glob("dt=*/*.jsonl.zst")):
        place = parse_artifact_name(path.relative_to(run).as_posix())
        assert place is not None
        damage: list[Any] = []
        events = [
            {**one.raw, "v": 1}
            for one in read_events(path.read_bytes(), path.name, place, damage.append)
        ]
        assert not damage
        path.unlink()
        receipts = []
        for at in range(0, len(events), batch or len(events)):
            some = events[at : at + (batch or len(events))]
            raw = lines(some if version == 1 else stored(some))
            content = compressed(raw, ".zst")
            name = f"{place.writer_id}-{some[0]['seq']:012d}-{some[-1]['seq']:012d}.jsonl.zst"
            path.with_name(name).write_bytes(content)
            receipts.append(
                {
                    "name": f"{path.parent.name}/{name}",
                    "first_seq": some[0]["seq"],
                    "last_seq": some[-1]["seq"],
                    "bytes": len(content),
                    "raw_bytes": len(raw),
                    "sha256": hashlib.sha256(content).hexdigest(),
                }
            )
        for manifest in manifests.values():
            if manifest["writer_id"] == place.writer_id:
                old = path.relative_to(run).as_posix()
                kept = [one for one in manifest["artifacts"] if one["name"] != old]
                manifest["artifacts"] = [*kept, *receipts]
    for path, manifest in manifests.items():
        path.write_text(json.dumps(manifest))


def raw_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of an artifact as they are."""
    content = zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes())
    return [json.loads(line) for line in content.splitlines()]


def track_states(root: Path, *, states: int = 60, size: int = 200_000, **options: Any) -> Path:
    """Track a LangGraph graph of so many steps, with a document in its state and messages that
    grow; return the Run's folder."""
    from langgraph.graph import END, START, StateGraph

    import asynctrack

    def step(state: State) -> dict[str, Any]:
        answer = {"type": "ai", "content": f"answer {state['step']} {'.' * 500}"}
        return {"step": state["step"] + 1, "messages": [*state["messages"], answer]}

    graph = StateGraph(State)
    graph.add_node("step", step)
    graph.add_edge(START, "step")
    graph.add_conditional_edges("step", lambda state: END if state["step"] >= states else "step")
    document = prose(size)
    names = {"experiment_name": "jokes", "run_name": "one"}
    with asynctrack.tracker(root, **names, **options) as handler:
        given: Any = {"step": 0, "document": document, "messages": []}
        config: Any = {"callbacks": [handler], "recursion_limit": states + 10}
        graph.compile().invoke(given, config)
    (run,) = root.glob("asynctrack/v1/experiment=jokes/run=one")
    return run


def prose(size: int) -> str:
    """A text that compresses as texts do: no line of it is there twice."""
    chosen = random.Random(7)
    letters = "abcdefghilmnoprstu"
    words = ["".join(chosen.choices(letters, k=chosen.randint(2, 9))) for _ in range(3000)]
    return " ".join(chosen.choices(words, k=size // 3))[:size]


class State(TypedDict):
    """What the graph works on."""

    step: int
    document: str
    messages: list[dict[str, Any]]


def told(run: Any) -> list[Any]:
    """What the trees of a Run say; two Runs that hold the same say the same."""
    found = []
    for trace in run.traces():
        for span in trace.walk():
            one = {name: getattr(span, name) for name in span.__slots__ if name != "children"}
            one["notes"] = [{**note.raw, "v": 1} for note in span.notes]
            one["children"] = [child.span_id for child in span.children]
            found.append((trace.trace_id, one))
    return found
