"""Values: large texts and lists that many events share, encoded and searched for secrets once.

A text cannot change in Python. So the same object, which is kept alive as long as it is remembered,
needs no second look: not to encode it, to search it or to hash it. Equal content in another object
is found by its hash. A list that has grown at its end, as the messages of a conversation, is known
by its first items. Each artifact gets a value once (``_buffer.store``); what goes to disk and S3,
and what is hashed, is what the search for secrets has left of it.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import secrets
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple
from weakref import WeakSet

from asynctrack._capture.lookalikes import looks_secret
from asynctrack._capture.messages import Messages
from asynctrack._capture.redact import (
    COOKIE,
    GENERATED,
    PROSE,
    STAND_IN,
    Redactor,
    unsearched,
)
from asynctrack._common import marker, payload

LARGE: Final = 4096
"""Characters of a text, or bytes of a list as JSON, above which it is a value. A reference takes
some 200 bytes."""
HEAD: Final = 80
"""Characters of a text that stand in its references."""
MAX_KEPT: Final = 16 * 1024 * 1024
"""Bytes of all values that are remembered, the program's objects included."""
MAX_VALUES: Final = 2_000
"""Most texts, and most lists, that are remembered."""
MAX_ALIKE: Final = 4
"""Most lists that are remembered of those that begin alike: branches of one conversation."""

_ID_DIGITS: Final = 32
_REFERENCE: Final = 256
"""Bytes of a reference to a text, at the most, unless its head is not ASCII."""
_COMMA: Final = ord(",")
_FRAME: Final = 100
"""Bytes around what is in a line, at the most."""
_LONGEST_COOKIE: Final = 64 * 1024
_STAND_IN: Final = STAND_IN.encode()
_numbers: Final = itertools.count(1)


class Content:
    """A large text, or large bytes.

    Args:
        content: The program's own object.
        redactor: Cuts secrets out of it.
        max_bytes: Largest one that is stored, in bytes, of a text in UTF-8; None stores any.
    """

    __slots__ = (
        "_clean", "_json", "_max_bytes", "_redactor", "_size", "claimed", "content", "estimate",
        "name", "number", "opening", "ready", "ref", "stand_in", "used", "weight",
    )  # fmt: skip

    def __init__(self, content: str | bytes, redactor: Redactor, max_bytes: int | None) -> None:
        self.content = content
        self._redactor = redactor
        self._max_bytes = max_bytes
        self.number = next(_numbers)
        self.estimate = _estimate(content)
        """Bytes that it takes as JSON, about."""
        self.weight = sys.getsizeof(content) + self.estimate
        """Bytes that are kept in memory for it: the program's object, and it as JSON until that is
        written, or always where a secret was cut out."""
        self.claimed = False
        """Whether an event that waits for the worker was counted with it."""
        self.used = True
        self.ready = False
        self.name = ""
        """Its id, for who refers to it; empty for one that is not stored."""
        self._clean = False  # there is no secret in it
        self._json: bytes | None = None  # until it is written; always where it is not as it was
        self._size = 0
        self.ref = b""
        """What stands for it in events once it is ready."""
        # Until then no reference can, as that has its hash. The rules for what is named a secret
        # judge by what stands there.
        text = PROSE
        if isinstance(content, str):
            if looks_secret(payload.encode_content(content[:LARGE])[1:-1], 16):
                text = GENERATED
            elif content.find("=", 0, _LONGEST_COOKIE) >= 0:
                text = COOKIE
        self.stand_in: Any = f"{text}{self.number}"
        """What an event is encoded with."""
        self.opening = b'"' + text.encode()
        if not isinstance(content, str):  # an object, to the rules
            self.stand_in = [self.stand_in]
            self.opening = b"[" + self.opening

    @property
    def closing(self) -> bytes:
        """The end of what stands for it."""
        return b'"' if isinstance(self.content, str) else b'"]'

    @property
    def left(self) -> int:
        """Bytes that are still to be prepared."""
        return 0 if self.ready else self.estimate

    @property
    def texts(self) -> tuple[Content, ...]:
        """The texts that who refers to it needs."""
        return (self,)

    def claim(self) -> int:
        """Return the bytes that come into memory with it; of each text once."""
        new = not (self.ready or self.claimed)
        self.claimed = True
        return self.estimate if new else 0

    def prepare(self) -> None:
        """Encode it, cut secrets out and find its id; once.

        That takes milliseconds for each megabyte, in pieces, or without the interpreter.
        """
        if self.ready:
            return
        content = self.content
        try:
            data = payload.encode_content(content)
            clean = self._redactor.value(data)
        except Exception as error:  # what could not be searched for secrets is not stored
            data, clean = b"", payload.encode(unsearched(error))
        self._clean = clean == data
        head = _head(content if self._clean else payload.decode(clean))
        limit = self._max_bytes
        if limit is None or not data:
            self._store(clean, head)
        else:
            whole = content if self._clean else payload.decode(clean)
            plain = marker.clean(whole).encode() if isinstance(whole, str) else _bytes(whole, clean)
            if len(plain) <= limit:
                self._store(clean, head)
            else:
                cut = {"$cut": "size", "bytes": len(plain)}
                digest = hashlib.sha256(plain).hexdigest()
                self.ref = payload.encode({**cut, "sha256": digest, "head": _cut(head, limit)})
        self.ready = True

    def _store(self, data: bytes, head: str) -> None:
        name = hashlib.sha256(data).hexdigest()[:_ID_DIGITS]
        self.ref = payload.encode({"$ref": name, "bytes": len(data), "head": head})
        self._json, self._size = data, len(data) + _FRAME
        self.name = name

    def size(self, since: int, items: int) -> int:
        """Return the bytes that ``part`` returns, at the most."""
        return self._size if since < items else 0

    def part(self, since: int, items: int) -> bytes:
        """Return the end of the line to be written, from ``"event"`` on."""
        data = self._json
        if data is None:  # in a later artifact; to keep it would take the memory twice
            data = payload.encode_content(self.content)
        elif self._clean:
            self._json = None
        return b"".join(
            (b'"event":"value","name":"', self.name.encode(), b'","data":', data, b"}\n")
        )


def _estimate(content: str | bytes) -> int:
    if isinstance(content, bytes):
        return len(content) * 4 // 3
    return len(content) * (1 if content.isascii() else 3)


def _head(whole: Any) -> str:
    """Return how a text begins, or bytes that are a text."""
    if isinstance(whole, bytes):
        return whole[:HEAD].decode(errors="ignore") if whole[:HEAD].isascii() else ""
    if isinstance(whole, dict):
        whole = whole.get("utf8", "")
    return marker.clean(str.__getitem__(whole, slice(HEAD))) if isinstance(whole, str) else ""


def _cut(text: str, limit: int) -> str:
    return text.encode()[:limit].decode(errors="ignore")


def _bytes(whole: Any, data: bytes) -> bytes:
    """Return what is hashed: the bytes, or what is left of them."""
    return whole if isinstance(whole, bytes) else data


class Items:
    """A list that grows at its end, as JSON, in the parts that it has grown by.

    Args:
        redactor: Cuts secrets out of the items.
        lock: Of who remembers it.
    """

    __slots__ = (
        "_bounds", "_found", "_lock", "_parts", "_ready", "_redactor", "_texts", "name", "raw",
        "used", "weight",
    )  # fmt: skip

    def __init__(self, redactor: Redactor, lock: threading.RLock) -> None:
        self.name = secrets.token_hex(_ID_DIGITS // 2)
        """Its id: random, as it goes on growing."""
        self.raw = b"["
        """The list as it was encoded, without its end; to be compared with."""
        self._bounds = {0: 1}  # how many items it has had, and where they ended
        self._ready = 0  # how many are searched for secrets
        self._parts = {0: _Part(b"", 1, 0)}  # these, by how many the list has with them
        self._texts: list[Content] = []  # what these refer to
        self._found: dict[int, Content] = {}  # what the items may refer to
        self._redactor = redactor
        self._lock = lock
        self.weight = 0
        self.used = True

    def grow(self, line: bytes, items: int, found: Sequence[Content]) -> bool:
        """Take what a list has more; False where it begins otherwise. The lock is held.

        Args:
            line: The list as JSON.
            items: How many items it has.
            found: The texts that it refers to.
        """
        known = next(reversed(self._bounds))
        if items <= known:
            end = self._bounds.get(items)
            return end is not None and len(line) == end + 1 and line.startswith(self.raw[:end])
        if not line.startswith(self.raw) or (known and line[len(self.raw)] != _COMMA):
            return False
        self.weight += 2 * (len(line) - len(self.raw))
        new = [text for text in found if text.number not in self._found]
        self.weight += sum(text.weight + _REFERENCE for text in new)
        self._found.update((text.number, text) for text in found)
        self.raw = line[:-1]
        self._bounds[items] = len(line) - 1
        return True

    def texts(self, items: int) -> list[Content]:
        """Return the texts that so many items refer to; they are prepared, and so are the items."""
        return self._texts[: self._parts[items].texts]

    def left(self, items: int) -> int:
        """Return the bytes that are still to be searched."""
        return max(0, self._bounds[items] - self._bounds[self._ready])

    def prepare(self, items: int) -> None:
        """Search so many items for secrets."""
        # Copies, as another thread may add to them.
        while (begin := self._ready) < items:
            end = next(end for end in list(self._bounds) if end > begin)
            json, texts = self._searched(begin, end)
            with self._lock:
                if end not in self._parts:  # else another tracker's worker was faster
                    self._texts += texts
                    size = self._parts[begin].size + len(json) + 1
                    self._parts[end] = _Part(json, size, len(self._texts))
                    self._ready = end

    def size(self, since: int, items: int) -> int:
        """Return the bytes that ``part`` returns, at the most."""
        return self._parts[items].size - self._parts[since].size + _FRAME if since < items else 0

    def part(self, since: int, items: int) -> bytes:
        """Return the end of the line to be written, from ``"event"`` on."""
        parts = [part.json for end, part in list(self._parts.items()) if since < end <= items]
        return b'"event":"value","name":"%b","data":{"from":%d,"items":[%b]}}\n' % (
            self.name.encode(), since, b",".join(parts),
        )  # fmt: skip

    def ref(self, items: int) -> bytes:
        """Return what stands for so many items in events."""
        return b'{"$ref":"%b","items":%d,"bytes":%d}' % (
            self.name.encode(), items, self._parts[items].size,
        )  # fmt: skip

    def _searched(self, begin: int, end: int) -> tuple[bytes, list[Content]]:
        # Behind the bracket, or the comma.
        data = self.raw[self._bounds[begin] + (begin > 0) : self._bounds[end]]
        seen: dict[int, Content | List] = {}
        try:
            clean = swapped(self._redactor.value(b"[%b]" % data), self._found, seen)[1:-1]
        except Exception as error:  # what could not be searched for secrets is not stored
            return b",".join([payload.encode(unsearched(error))] * (end - begin)), []
        return clean, [one for one in seen.values() if isinstance(one, Content)]


class _Part(NamedTuple):
    """Items that a list has grown by.

    Attributes:
        json: The items, without secrets.
        size: Bytes of the list up to their end, as JSON.
        texts: How many texts the list refers to up to there.
    """

    json: bytes
    size: int
    texts: int


class List:
    """The first items of a list value, as one event has them.

    Attributes:
        value: The list.
        items: How many.
        number: Tells it from others.
    """

    __slots__ = ("items", "number", "value")
    opening = b'["' + PROSE.encode()
    closing = b'"]'

    def __init__(self, value: Items, items: int) -> None:
        self.value = value
        self.items = items
        self.number = next(_numbers)

    @property
    def stand_in(self) -> list[str]:
        """What the event is encoded with: a list, so that the rules for lists find it."""
        return [f"{PROSE}{self.number}"]

    @property
    def ref(self) -> bytes:
        """What stands for it in the event once it is ready."""
        return self.value.ref(self.items)

    @property
    def left(self) -> int:
        """Bytes that are still to be prepared."""
        return self.value.left(self.items)

    def claim(self) -> int:
        """Return the bytes that come into memory with it, besides its texts."""
        return self.left

    @property
    def texts(self) -> list[Content]:
        """The texts that who refers to it needs."""
        return self.value.texts(self.items)

    def prepare(self) -> None:
        """Search it for secrets."""
        self.value.prepare(self.items)


def swapped(
    body: bytes,
    found: Mapping[int, Content | List],
    seen: dict[int, Content | List] | None = None,
) -> bytes:
    """Prepare values, and put references in place of what stands for them.

    Args:
        body: JSON, searched for secrets.
        found: What may stand there, by its number; what is cut out as a secret does not.
        seen: Gets what does stand there.
    """
    left, *rest = body.split(_STAND_IN)
    parts: list[bytes] = []
    for piece in rest:
        number = piece[: piece.find(b'"')]
        one = found.get(int(number)) if number.isdigit() else None
        right = piece[len(number) :]
        if one is None or not (left.endswith(one.opening[: -len(_STAND_IN)])):
            left += _STAND_IN + piece  # cannot be: nobody else knows the sign
            continue
        if seen is not None:
            seen[one.number] = one
        one.prepare()
        parts += (left[: len(_STAND_IN) - len(one.opening)], one.ref)
        left = right[len(one.closing) :]
    return b"".join((*parts, left))


class Values:
    """The values that are remembered. The longest unused give way.

    Args:
        redactor: Cuts secrets out of them.
        max_bytes: Largest text that is stored, in bytes; None stores any.
    """

    def __init__(self, redactor: Redactor, max_bytes: int | None = None) -> None:
        self._redactor = redactor
        self._max_bytes = max_bytes
        self.limit = LARGE if max_bytes is None else min(LARGE, max_bytes // 4)
        """Characters of a text above which it is asked for; one takes up to four bytes."""
        self.messages = Messages()
        """Messages as JSON."""
        self._contents: dict[int, Content] = {}
        self._lists: dict[bytes, list[Items]] = {}
        self._kept = 0
        self._lock = threading.RLock()  # a finalizer may come in again
        _all.add(self)

    def kept(self, text: str) -> Any:
        """Return what is stored of a text that is no value: all of it, or how it begins."""
        if self._fits(text):
            return text
        content = Content(text, self._redactor, self._max_bytes)
        content.prepare()
        return payload.decode(content.ref)

    def content(self, content: str | bytes) -> Content | None:
        """Return the value of a large text; None where it is not large after all."""
        if len(content) <= LARGE and self._fits(content):
            return None
        known = self._contents.get(id(content))
        if known is not None and known.content is content:
            known.used = True
            return known
        value = Content(content, self._redactor, self._max_bytes)
        if value.weight <= MAX_KEPT:
            with self._lock:
                before = self._contents.get(id(content))
                if before is not None and before.content is content:
                    return before  # another thread was faster
                self._contents[id(content)] = value
                self._kept += value.weight
                self._make_room()
        return value

    def items(self, begins: bytes, line: bytes, items: int, found: Sequence[Content]) -> Items:
        """Return the value of a long list.

        Args:
            begins: Its first items, as JSON.
            line: It as JSON.
            items: How many items it has.
            found: The texts that it refers to.
        """
        key = hashlib.blake2b(begins, digest_size=16).digest()
        with self._lock:
            alike = self._lists.setdefault(key, [])
            for one in alike:
                before = one.weight
                if one.grow(line, items, found):
                    one.used = True
                    self._kept += one.weight - before
                    self._make_room()
                    return one
            new = Items(self._redactor, self._lock)
            new.grow(line, items, found)
            alike.insert(0, new)
            self._kept += new.weight - sum(one.weight for one in alike[MAX_ALIKE:])
            del alike[MAX_ALIKE:]
            self._make_room()
            return new

    def forget(self) -> None:
        """Remember nothing: the program's objects are its own again."""
        self.messages = Messages()
        with self._lock:
            self._contents, self._lists = {}, {}
            self._kept = 0

    def after_fork_in_child(self) -> None:
        """Begin anew: the thread that holds the lock may not be here."""
        self._lock = threading.RLock()
        self.forget()

    # -- inside -------------------------------------------------------------------------------

    def _fits(self, content: str | bytes) -> bool:
        if isinstance(content, str) and not str.isascii(content):
            content = marker.clean(content).encode()
        return self._max_bytes is None or len(content) <= self._max_bytes

    def _make_room(self) -> None:
        """Forget what was not used for the longest time. The lock is held."""
        while self._kept > MAX_KEPT or len(self._contents) > MAX_VALUES:
            if not self._contents:
                break
            number = next(iter(self._contents))
            value = self._contents.pop(number)
            if value.used:  # since it was looked at last
                value.used = False
                self._contents[number] = value
                continue
            self._kept -= value.weight
        while self._lists and (self._kept > MAX_KEPT or len(self._lists) > MAX_VALUES):
            key = next(iter(self._lists))
            alike = self._lists.pop(key)
            if any(one.used for one in alike):
                for one in alike:
                    one.used = False
                self._lists[key] = alike
                continue
            self._kept -= sum(one.weight for one in alike)


_all: Final[WeakSet[Values]] = WeakSet()


def _after_fork_in_child() -> None:
    for values in list(_all):
        values.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
