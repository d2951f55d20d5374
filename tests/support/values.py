"""Lines with values, written and read by what the format says alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

TIME = 1_700_000_000_000_000_000


def packed(value: Any) -> bytes:
    """JSON without blanks, as lines have it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def event_line(writer: str, seq: int, **fields: Any) -> bytes:
    """The line of an event."""
    head = {"v": 2, "writer_id": writer, "seq": seq, "time_unix_nano": TIME + seq}
    return packed({**head, "event": "chain_start", **fields}) + b"\n"


def value_line(writer: str, seq: int, name: str, data: Any) -> bytes:
    """The line of a value before an event."""
    return event_line(writer, seq, event="value", name=name, data=data)


def text_name(data: Any) -> str:
    """The name of a text, or of bytes."""
    return hashlib.sha256(packed(data)).hexdigest()[:32]


def text_reference(data: Any) -> dict[str, Any]:
    """What stands for a text."""
    head = data[:80] if isinstance(data, str) else ""
    return {"$ref": text_name(data), "bytes": len(packed(data)), "head": head}


def list_reference(name: str, items: int) -> dict[str, Any]:
    """What stands for the first items of a list."""
    return {"$ref": name, "items": items, "bytes": 9999}


def resolved(raw: bytes) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """The events of lines: each line, and what it says with all that it refers to in place.

    A reference stays where what it refers to does not stand before it.
    """
    texts: dict[str, Any] = {}
    lists: dict[str, dict[int, Any]] = {}
    seqs: set[int] = set()

    def whole(one: Any) -> Any:
        if isinstance(one, list):
            return [whole(item) for item in one]
        if not isinstance(one, dict):
            return one
        name = one.get("$ref")
        if list(one) == ["$ref", "bytes", "head"] and name in texts:
            return texts[name]
        if list(one) == ["$ref", "items", "bytes"] and isinstance(one["items"], int):
            items = lists.get(name, {})
            if one["items"] and all(number in items for number in range(one["items"])):
                return [whole(items[number]) for number in range(one["items"])]
        return {key: whole(item) for key, item in one.items()}

    for line in raw.splitlines(keepends=True):
        event = json.loads(line)
        seqs.add(event["seq"])
        if event["event"] != "value":
            assert seqs == {event["seq"]}, "values before an event have its number"
            seqs = set()
            yield line, whole(event)
            continue
        assert list(event)[3:] == ["time_unix_nano", "event", "name", "data"]
        data = event["data"]
        if isinstance(data, dict) and "from" in data:
            items = lists.setdefault(event["name"], {})
            items.update(enumerate(data["items"], data["from"]))
        else:
            texts[event["name"]] = data
    assert not seqs, "values stand before an event"
