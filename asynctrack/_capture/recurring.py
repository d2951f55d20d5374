"""Parts that many events share to the byte: encoded, and searched for secrets, once.

A chain passes the same serialized forms and requests with each call. A chat model's form names the
API key that it would hold, so the search for secrets looks closely: 30 µs for each call. The key
here is the content, not the identity: a changed form is encoded again.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeVar

from asynctrack._capture.attributes import Attribute
from asynctrack._capture.redact import Redactor
from asynctrack._capture.values import Values
from asynctrack._common import payload

MAX_REMEMBERED: Final = 1_000
"""Most forms, and most requests, that are remembered; one more and it begins anew."""
MAX_FORM: Final = 16_384
"""Bytes of the longest serialized form that is remembered; longer ones are encoded each time."""

_CUT: Final = {"$cut": "redaction"}

_K = TypeVar("_K")
_V = TypeVar("_V")


class Request(NamedTuple):
    """A model call's request.

    Attributes:
        key: What the attributes depend on, or None if that is not plain data.
        attributes: What goes to the Run.
        end: The end of its event.
    """

    key: bytes | None
    attributes: dict[str, Attribute]
    end: bytes


class Recurring:
    """Parts of events that come again and again; thread-safe, as each access is atomic.

    Args:
        redactor: Cuts secrets out of them.
        max_value_bytes: Largest text that is stored, in bytes; None stores any.
    """

    def __init__(self, redactor: Redactor, max_value_bytes: int | None = None) -> None:
        self._redactor = redactor
        self.values = Values(redactor, max_value_bytes)
        """Large texts and lists."""
        self._max_form = min(MAX_FORM, MAX_FORM if max_value_bytes is None else max_value_bytes)
        self._small: dict[int, Any] = {}
        self._forms: dict[bytes, bytes] = {}
        self._requests: dict[bytes, Request] = {}

    def form(self, serialized: Mapping[str, Any]) -> bytes | None:
        """Return ``"serialized":{…}``; None if it has to be encoded with the rest of its event.

        Args:
            serialized: What starts, as LangChain serializes it.
        """
        # Walking through it takes longer than encoding it, and it is the same object each time.
        if self._small.get(id(serialized)) is not serialized:
            if not payload.is_small(serialized):
                return None
            _remember(self._small, id(serialized), serialized)
        content = payload.fingerprint(serialized)
        if content is None or len(content) > self._max_form:
            return None
        form = self._forms.get(content)
        if form is None:
            try:
                form = self._redactor.body(b'{"serialized":%b}' % content)[1:-1]
            except Exception:
                return None  # the event it is encoded with says so
            _remember(self._forms, content, form)
        return form

    def request(self, key: bytes) -> Request | None:
        """Return what was remembered of the same request."""
        return self._requests.get(key)

    def remember(self, request: Request) -> None:
        """Remember a request."""
        if request.key is not None:
            _remember(self._requests, request.key, request)

    def attributes(self, attributes: Mapping[str, Any]) -> bytes:
        """Return the end of an event that has these attributes: ``,"attributes":{…}}``."""
        try:
            body = self._redactor.body(payload.encode({"attributes": attributes}))
        except Exception:
            # Fail closed: what could not be searched for secrets is not stored.
            body = payload.encode({"attributes": _CUT})
        return b"," + body[1:]


def recurring_for(redactor: Redactor, max_value_bytes: int | None) -> Recurring:
    """Return one for all trackers of the process that cut nothing of their own, else a new one.

    It lives as long as one of them does: what it remembers is the program's own data.
    """
    global _shared
    if redactor.custom is not None or max_value_bytes is not None:
        return Recurring(redactor, max_value_bytes)
    shared = _shared()
    if shared is None:
        shared = Recurring(redactor)
        _shared = weakref.ref(shared)
    return shared


def _nothing() -> Recurring | None:
    return None


_shared: Callable[[], Recurring | None] = _nothing


def _remember(known: dict[_K, _V], key: _K, value: _V) -> None:
    if len(known) >= MAX_REMEMBERED:
        known.clear()  # rare; and what still comes is soon remembered again
    known[key] = value
