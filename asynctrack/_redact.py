"""Cuts secrets out of encoded events before anything is stored.

The default set works on the encoded line, in three steps, each only where the one before said
yes: do the lower-cased bytes hold any rule's probe (pydantic's Rust engine looks for plain texts
many bytes at a time: 0.3 µs for 500 bytes, 30 µs for 100 KB); does any rule match, asked of one
automaton that holds them all (1 µs, and 140 µs for 100 KB); the rules one by one, to find and cut.
The user's own ``redact`` option works on every string and key of the decoded event, after it.
Both fail closed: when redaction raises, the payload is replaced, not stored.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from functools import cache
from typing import Any, Final

from asynctrack import _payload
from asynctrack._search import question

REDACTED: Final = "[REDACTED]"


# What narrows a rule down to secrets. The automaton does not know these parts: it may say yes to
# more than the rules cut, never to less.
# Not inside a word ("risk-…"); a letter or digit before it may be the end of an escaped sign.
_FRESH: Final = rb"(?:(?<![A-Za-z0-9])|(?<=\\[nrtbf])|(?<=\\u[0-9a-f]{4}))"
# Not a word of prose, as in "basic functionality" or "bearer certificates".
_NO_WORD: Final = rb"(?-i:(?=[A-Za-z._~+/-]*[0-9=]|[A-Za-z]*[a-z][A-Z]|[A-Za-z._~+/-]{24}))"
_ENDS: Final = rb"(?![A-Za-z0-9+/=])"
# Tokens that are pieces of text.
_TEXT_TOKENS: Final = ("eos", "bos", "pad", "unk", "sep", "cls", "mask", "stop", "per", "first")
_NO_TEXT_TOKEN: Final = "".join(f"(?<!{kind})" for kind in _TEXT_TOKENS).encode()
_NARROWING: Final = (_FRESH, _NO_WORD, _ENDS, _NO_TEXT_TOKEN)

# A value between double quotes. In a body a bare one ends the string that the name is in, and what
# follows is JSON's own; in bytes that are no JSON it is a quote like any other.
_QUOTED: Final = rb"(?:\\+\"([^\"\\]+)|\"([^\"\\,:}\]][^\"\\]*))"
# What follows a name; a blank in here stands for any gap. (Not \s: to Python's engine it is ASCII
# here, to the automaton it is not.)
_VALUE: Final = (
    rb"(?:"
    rb"\" : \"((?:[^\"\\]|\\.)+)"  # a field
    rb"|\\\" : \\\"((?:[^\"\\]|\\\\(?:\\[\"\\]|[^\"\\])|\\[^\"\\])+)"  # one in JSON in a string
    rb"|\\{3}\" : \\{3}\"((?:[^\"\\]|\\{4}(?:\\{4}|\\{3}\"|[^\"\\])|\\{1,2}[^\"\\])+)"  # again
    rb"|\\{4,}\" : \\{4,}\"([^\"\\]+)"  # one deeper than that, up to its first escape
    rb"|' : (?:'([^'\"\\]+)|" + _QUOTED + rb")"  # an item in Python's repr of a dictionary
    rb"| = (?:'([^'\"\\]+)|" + _QUOTED + rb"|"  # an assignment in text: API_KEY=…
    rb"([^\x20\t\r\n\"'\\,;&=][^\x20\t\r\n\"\\,;&]*))"
    rb")"
).replace(b" ", rb"[\x20\t\r\n]*")

# Each: what to look for in the lower-cased line; what must match at that place. The group that
# took part is cut out, or all of it where there is none.
_RULES: Final[tuple[tuple[bytes, re.Pattern[bytes]], ...]] = tuple(
    (probe, re.compile(pattern, re.IGNORECASE))
    for probe, pattern in (
        # OpenAI, Anthropic, LangSmith (lsv2_), GitHub, Slack, Google, Hugging Face, AWS: keys
        # that say what they are.
        (b"sk-", _FRESH + rb"sk-[A-Za-z0-9_-]{16,}"),
        (b"lsv2_", rb"lsv2_[A-Za-z0-9_]{16,}"),
        (b"github_pat_", rb"github_pat_[A-Za-z0-9_]{20,}"),
        (b"ghp_", rb"ghp_[A-Za-z0-9]{20,}"),
        (b"gho_", rb"gho_[A-Za-z0-9]{20,}"),
        (b"ghs_", rb"ghs_[A-Za-z0-9]{20,}"),
        (b"hf_", _FRESH + rb"hf_[A-Za-z0-9]{30,}"),
        (b"xox", rb"xox[abeoprs]-[A-Za-z0-9-]{10,}"),
        (b"aiza", rb"(?-i:AIza[0-9A-Za-z_-]{30,})"),
        (b"akia", rb"(?-i:AKIA[0-9A-Z]{16})"),
        (b"asia", rb"(?-i:ASIA[0-9A-Z]{16})"),
        (b"eyj", rb"(?-i:eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*)"),
        (b"bearer", rb"bearer[ \t\r\n]+(" + _NO_WORD + rb"[A-Za-z0-9._~+/=-]{8,})"),
        (
            b"basic ",
            rb"basic ("
            + _NO_WORD
            + rb"(?:[A-Za-z0-9+/]{4}){2,}(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?)"
            + _ENDS,
        ),
        (b"-----begin", rb"-----BEGIN [A-Z ]*PRIVATE KEY-----(?:[^\"\\]|\\.)*"),
        # scheme://user:password@host
        (b"://", rb"://[^/ \t\r\n\"\\@:]*:((?:[^/ \t\r\n\"\\@]|\\\\)+)@"),
        # What is named for a secret.
        *(
            (name, name + rb"[\w-]*" + _VALUE)
            for words in ((b"api", b"key"), (b"access", b"key"), (b"private", b"key"))
            for name in (sign.join(words) for sign in (b"_", b"-", b""))
        ),
        *((name, name + rb"[\w-]*" + _VALUE) for name in (b"secret", b"passw", b"authorization")),
        (b"security-token", b"security-token" + _VALUE),
        (b"_token", _NO_TEXT_TOKEN + b"_token" + _VALUE),
    )
)

_BINARY: Final = b'"base64":"'
_BASE64 = re.compile(rb'"base64":"([A-Za-z0-9+/=]+)"')

_SECRET_NAME = re.compile(
    r"api[_-]?key|access[_-]?key|private[_-]?key|secret|passw|authorization|credential"
    rf"|security-token|{_NO_TEXT_TOKEN.decode()}_token$",
    re.IGNORECASE,
)


def is_secret_name(name: str) -> bool:
    """Tell whether a field of this name is taken for a secret whatever its value is."""
    return _SECRET_NAME.search(name) is not None


class Redactor:
    """Cuts secrets out of encoded events and of single values.

    Args:
        custom: The user's function from string to string, or None.
    """

    def __init__(self, custom: Callable[[str], str] | None = None) -> None:
        self._custom = custom
        self._probed = _probes()
        self._suspicious = _automaton()

    def body(self, body: bytes) -> bytes:
        """Return an encoded event without secrets.

        Raises:
            Exception: Whatever the user's function raises; the caller stores no payload then.
        """
        if self._probed(body.lower()):
            if self._suspicious(body):
                body = _cut_known(body)
            if _BINARY in body:
                body = _BASE64.sub(_cut_binary, body)
        if self._custom is not None:
            record: dict[str, Any] = _payload.decode(body)
            # The names of the fields are ours, and so are the values of some.
            for field in record.keys() - _IDENTITY_FIELDS:
                record[field] = self._walk(record[field])
            body = _payload.encode(record)
        return body

    def text(self, text: str) -> str:
        """Return one string without secrets; it fails closed."""
        try:
            text = _payload.decode(_cut_known(_payload.encode({"": _payload.clean(text)})))[""]
            return text if self._custom is None else str(self._custom(text))
        except Exception:
            return REDACTED

    def _walk(self, value: Any) -> Any:
        assert self._custom is not None
        if isinstance(value, str):
            return str(self._custom(value))
        if isinstance(value, list):
            return [self._walk(item) for item in value]
        if isinstance(value, dict):
            result: dict[str, Any] = {}
            for key, item in value.items():
                name = str(self._custom(key))
                while name in result:  # two keys that only differed in what was cut
                    name += f"~{len(result)}"
                result[name] = self._walk(item)
            return result
        return value


_IDENTITY_FIELDS = frozenset({"span_id", "parent_span_id", "trace_id", "event"})


@cache
def _probes() -> Callable[[bytes], bool]:
    """Return the first question: do these lower-cased UTF-8 bytes hold anything to look at?

    What a rule's probe is not in, the rule does not match. Plain texts only, but for the end of
    ``_token``, which would otherwise find each count of tokens.
    """
    probes = {re.escape(probe.decode()) for probe, _ in _RULES} | {_BINARY.decode()}
    probes.remove("_token")
    return question("|".join(sorted({*probes, r"_token[\"\\'= \t\r\n]"})))


@cache
def _automaton() -> Callable[[bytes], bool]:
    """Return the second question: does any rule match anywhere in these UTF-8 bytes?"""
    patterns = []
    for _, rule in _RULES:
        pattern = rule.pattern
        for part in _NARROWING:
            pattern = pattern.replace(part, b"")
        # To Python's engine \w is ASCII here. To Rust's it is all of Unicode, and made it
        # five times as slow to build.
        pattern = pattern.replace(rb"[\w-]", rb"[A-Za-z0-9_-]")
        patterns.append(pattern.decode())
    return question(f"(?i){'|'.join(patterns)}")


def _cut_known(body: bytes) -> bytes:
    lowered = body.lower()
    cuts: list[tuple[int, int]] = []
    for probe, pattern in _RULES:
        at = lowered.find(probe)
        while at >= 0:
            match = pattern.match(body, at)
            if match is not None:
                cuts.append(match.span(match.lastindex or 0))
            at = lowered.find(probe, at + len(probe))
    if not cuts:
        return body
    parts: list[bytes] = []
    done = 0
    for start, end in sorted(cuts):
        if end <= done:
            continue
        parts += (body[done : max(start, done)], REDACTED.encode())
        done = end
    parts.append(body[done:])
    return b"".join(parts)


def _cut_binary(match: re.Match[bytes]) -> bytes:
    """Bytes that are no text are stored as base64, which hides a secret in them from the rules."""
    text = base64.b64decode(match[1]).decode("latin-1")
    body = _payload.encode({"": text})
    return match[0] if _cut_known(body) == body else b'"base64":"%b"' % REDACTED.encode()
