"""What many events share to the byte: encoded, and looked through for secrets, once.

A chain passes the same serialized forms and requests with each call. A chat model's form names the
API key that it would hold, which makes the search for secrets look closely: 30 µs for each call.
What is looked up here is told by its content, not by its identity: what was changed is made anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from asynctrack._capture.redact import Redactor
from asynctrack._common import payload

MAX_REMEMBERED: Final = 1_000
"""Different forms, and different requests, that are remembered."""
MAX_FORM: Final = 16_384
"""Bytes of a serialized form that is remembered at the most; longer ones are encoded each time."""

_CUT: Final = {"$cut": "redaction"}


class Recurring:
    """Parts of events that come again and again.

    Args:
        redactor: Cuts secrets out of them.
    """

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._small: dict[int, Any] = {}
        self._forms: dict[bytes, bytes] = {}

    def form(self, serialized: Mapping[str, Any]) -> bytes | None:
        """Return ``"serialized":{…}``; None where it has to be encoded with the rest of its event.

        Args:
            serialized: What starts, as LangChain serializes it.
        """
        # Walking through it takes longer than encoding it, and it is the same object each time.
        if self._small.get(id(serialized)) is not serialized:
            if not payload.is_small(serialized):
                return None
            if len(self._small) < MAX_REMEMBERED:
                self._small[id(serialized)] = serialized
        content = payload.fingerprint(serialized)
        if content is None or len(content) > MAX_FORM:
            return None
        form = self._forms.get(content)
        if form is None:
            try:
                form = self._redactor.body(b'{"serialized":%b}' % content)[1:-1]
            except Exception:
                return None  # the event it is encoded with says so
            if len(self._forms) < MAX_REMEMBERED:
                self._forms[content] = form
        return form

    def attributes(self, attributes: Mapping[str, Any]) -> bytes:
        """Return the end of an event that has these attributes: ``,"attributes":{…}}``."""
        try:
            body = self._redactor.body(payload.encode({"attributes": attributes}))
        except Exception:
            # Fail closed: what could not be looked through for secrets is not stored.
            body = payload.encode({"attributes": _CUT})
        return b"," + body[1:]
