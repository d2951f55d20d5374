"""Cuts secrets out of encoded events before anything is stored.

The default rules work on the encoded line, in three steps. Each step runs only if the one before
says yes. First: do the bytes hold the probe of any rule, in any case? Pydantic's Rust engine looks
for plain texts many bytes at a time: 0.5 µs for 500 bytes, 15 µs for 100 KB. Second: does any rule
match? Automata of all rules answer that: 3 µs, and 390 µs for 100 KB. Third: these rules one by
one, to find and cut. Then the user's own ``redact`` option sees every string and key of the decoded
event. Both fail closed: when redaction raises, the payload is replaced, not stored.
"""

from __future__ import annotations

import base64
import re
import secrets
import string
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from asynctrack._capture.lookalikes import fits
from asynctrack._capture.secrets import BINARY, Rule, probes, rules, suspects
from asynctrack._common import marker, payload
from asynctrack._common.search import spans

REDACTED: Final = "[REDACTED]"
_START: Final = 65
"""Bytes that tell whether a long text may be base64."""
STAND_IN: Final = f"{secrets.token_hex(8)}x"
"""In what stands for a value until that has its reference. Nobody else knows it."""
PROSE: Final = f"asynctrack value {STAND_IN}"
COOKIE: Final = f"asynctrack value={STAND_IN}"
GENERATED: Final = f"Asynctrack$Value={STAND_IN}"
"""How it begins: for a text that is prose, that may be a cookie, that looks generated. So the rules
for what is named a secret find what they would find."""
_STANDS_IN = re.compile(rf"(?:{PROSE}|{COOKIE}|{re.escape(GENERATED)})\d+")


def unsearched(error: Exception) -> dict[str, Any]:
    """Return what is stored in place of what could not be searched for secrets."""
    return {"$cut": "redaction", "error": type(error).__name__}


def prepare() -> None:
    """Build what all redactors search with, so the first event does not pay for it."""
    probes()
    rules()


class Redactor:
    """Cuts secrets out of encoded events and of single values.

    Args:
        custom: The user's function from string to string, or None.
    """

    def __init__(self, custom: Callable[[str], str] | None = None) -> None:
        self.custom = custom
        # The first event replaces it by the question itself.
        self._probed: Callable[[bytes], bool] = self._first_question

    def _first_question(self, body: bytes) -> bool:
        self._probed = probes()
        return self._probed(body)

    def body(self, body: bytes) -> bytes:
        """Return an encoded event without secrets.

        Raises:
            Exception: Whatever the user's function raises; the caller stores no payload then.
        """
        if self._probed(body):
            body = _cut(body)
            if BINARY in body:
                body = _cut_binary(body)
        if self.custom is not None:
            record: dict[str, Any] = payload.decode(body)
            # The names of all fields and the values of some are ours.
            for field in record.keys() - _IDENTITY_FIELDS:
                record[field] = self._walk(record[field])
            body = payload.encode(record)
        return body

    def value(self, data: bytes) -> bytes:
        """Return a JSON value without secrets, as if it stood alone in an event.

        Raises:
            Exception: As ``body``.
        """
        start = b'{"":'
        if len(data) > _START and not data[1:_START].translate(None, _BASE64_SIGNS):
            start = b'{"base64":'  # as it would be in a block of content
        # Megabytes are put together by ``join``: it does not hold the interpreter meanwhile.
        body = b"".join((start, data, b"}"))
        clean = self.body(body)
        return data if clean is body else clean[len(start) : -1]

    def text(self, text: str) -> str:
        """Return one string without secrets; it fails closed."""
        try:
            body = payload.encode({"": marker.clean(text)})
            text = payload.decode(_cut(body))[""]
            return text if self.custom is None else str(self.custom(text))
        except Exception:
            return REDACTED

    def _walk(self, value: Any) -> Any:
        assert self.custom is not None
        if isinstance(value, str):
            # What stands for a value is not the user's; the value is.
            return value if _STANDS_IN.fullmatch(value) else str(self.custom(value))
        if isinstance(value, list):
            return [self._walk(item) for item in value]
        if isinstance(value, dict):
            result: dict[str, Any] = {}
            for key, item in value.items():
                name = str(self.custom(key))
                while name in result:  # two keys that only differed in what was cut
                    name += f"~{len(result)}"
                result[name] = self._walk(item)
            return result
        return value


_IDENTITY_FIELDS = frozenset({"span_id", "parent_span_id", "trace_id", "event", "outcome", "cause"})


def _cut(body: bytes, *, structures: bool = True) -> bytes:
    """Cut what the rules find, a part of a long body after the other: others get their turn."""
    cuts: list[tuple[int, int, bytes]] = []
    for start, end in spans(body, _SPAN, _COMMON):
        part = body if end - start == len(body) else body[start:end]
        rules = suspects(part)
        if rules:
            cuts += _found(body, start, part.lower(), rules, structures)
    if not cuts:
        return body
    parts: list[bytes] = []
    done = 0
    for start, end, text in sorted(cuts, key=lambda cut: (cut[0], -cut[1])):
        if end <= done:
            continue
        parts += (body[done : max(start, done)], text)
        done = end
    parts.append(body[done:])
    return b"".join(parts)


def _found(
    body: bytes, start: int, lowered: bytes, rules: Sequence[Rule], structures: bool
) -> Iterator[tuple[int, int, bytes]]:
    """Yield what to cut: where, and what to put there.

    Args:
        body: The whole body.
        start: Where the part begins in which names and signs of secrets are looked for.
        lowered: The part, in small letters.
        rules: Those that may match.
        structures: Whether lists and objects count, too.
    """
    for probe, pattern in rules:
        at = lowered.find(probe)
        while at >= 0:
            match = pattern.match(body, start + at)
            at += len(probe)
            if match is not None:
                kind = (match.lastgroup or "").rstrip(string.digits)
                if kind not in _TOKENS:
                    cut = _cut_text(body, match, kind)
                    if cut is not None:
                        # Do not search the same long text again. What begins at its end may go
                        # on behind it.
                        at = max(at, cut[1] - start - _OVERLAP)
                    elif kind.startswith(_UNBROKEN) and match.end() - start - at > _LONGEST:
                        at = match.end() - start - _OVERLAP
                else:
                    cut = _cut_structure(body, match.end(), kind) if structures else None
                    if cut is not None:
                        at = cut[1] - start  # once, no matter how often its name is in there
                if cut is not None:
                    yield cut
            at = lowered.find(probe, at)


_SPAN: Final = 1 << 18
"""Bytes of a long body that are searched at a time: a millisecond at the most."""
_COMMON: Final = 1 << 14
"""Bytes that two parts have in common: more than it takes to tell a secret, but for one that is
longer, which is cut as a whole all the same."""
_OVERLAP: Final = 100
"""Bytes that nearly always suffice for a name and what stands between it and its value."""
_UNBROKEN: Final = ("bare", "blob")
_LONGEST: Final = 512
"""Bytes of a text without a gap that is no secret behind which the search goes on. Else the text
would be searched again for each probe in it."""


def _cut_text(body: bytes, match: re.Match[bytes], kind: str) -> tuple[int, int, bytes] | None:
    """Return where to cut and what to put there; None if it is no secret."""
    start, end = match.span(match.lastindex or 0)
    if not fits(kind, body[start:end], body[max(0, match.start() - 40) : match.start()]):
        return None
    return start, end, _IN_QUOTES.get(kind, REDACTED.encode())


_IN_QUOTES = {"number": b'"[REDACTED]"', "innernumber": b'\\"[REDACTED]\\"'}

_TOKENS = {
    "json": re.compile(rb"\"(?:[^\"\\]|\\.)*\"|[\[\]{}]"),
    "inner": re.compile(rb"\\\"(?:[^\"\\]|\\\\(?:\\[\"\\]|[^\"\\])|\\[^\"\\])*\\\"|\\.|[\[\]{}\"]"),
    "repr": re.compile(rb"'[^'\"\\]*'|\\.|[\[\](){}\"]"),
}


def _cut_structure(body: bytes, start: int, kind: str) -> tuple[int, int, bytes] | None:
    """Cut what is in a list or an object that has the name of a secret.

    Args:
        body: The line.
        start: The place after its first bracket.
        kind: ``json``, ``inner`` in a string that is JSON, ``repr`` in any other text.
    """
    start -= 1
    depth, end = 0, len(body)
    for token in _TOKENS[kind].finditer(body, start):
        sign = token[0]
        if sign in (b"[", b"{", b"("):
            depth += 1
        elif sign in (b"]", b"}", b")"):
            depth -= 1
        elif sign == b'"':  # the string that it is in has ended
            end, depth = token.start(), -1
        if depth <= 0:
            end = end if depth < 0 else token.end()
            break
    whole = body[start:end]
    if kind != "repr" and depth == 0:
        try:
            text = whole if kind == "json" else payload.decode(b'"%b"' % whole).encode()
            cut = _encoded(_without_leaves(payload.decode(text)))
            cut = _cut(cut, structures=False)
            cut = cut if kind == "json" else _encoded(cut.decode())[1:-1]
            return None if cut == whole else (start, end, cut)
        except ValueError:
            pass  # no JSON, although it looks so
    inside = whole[1 : -1 if depth == 0 else None].strip()
    return (start + 1, end - (depth == 0), REDACTED.encode()) if inside else None


def _encoded(value: Any) -> bytes:
    return payload.encode({"": value})[len(b'{"":') : -1]


_DESCRIPTIVE = frozenset({"type", "title", "description", "format", "$ref", "$type", "id", "lc"})
"""Fields of JSON schemas and of LangChain's own markers, which say what a secret would be."""


def _without_leaves(value: Any) -> Any:
    """Return a structure without its texts and long numbers."""
    if isinstance(value, dict):
        return {
            name: item if name in _DESCRIPTIVE else _without_leaves(item)
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [_without_leaves(item) for item in value]
    if isinstance(value, str):
        return REDACTED if value else value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return REDACTED if len(str(value)) >= 4 else value
    return value


def _cut_binary(body: bytes) -> bytes:
    """Cut secrets in bytes that are no text. They are base64, which hides them from the rules."""
    parts: list[bytes] = []
    done = at = 0
    while (at := body.find(BINARY, at)) >= 0:
        at += len(BINARY)
        end = body.find(b'"', at)
        if _hides_secret(body, at, end):
            parts += (body[done:at], REDACTED.encode())
            done = end
        at = end
    return b"".join((*parts, body[done:])) if parts else body


def _hides_secret(body: bytes, start: int, end: int) -> bool:
    """Tell whether base64 holds a secret: part by part, as it may be an image of megabytes."""
    holds = probes()
    for at in range(start, end, _SPAN):
        text = body[max(start, at - _COMMON) : min(at + _SPAN, end)]
        if text.translate(None, _BASE64_SIGNS):
            return False  # it only has the name
        try:
            plain = base64.b64decode(text + b"==")
        except ValueError:
            return False
        part = payload.encode({"": plain.decode("latin-1")})
        if holds(part) and _cut(part) != part:
            return True
    return False


_BASE64_SIGNS: Final = (string.ascii_letters + string.digits + "+/=").encode()
