"""What counts as a secret: rules over encoded lines.

A rule has a *probe*, a text to look for in the lower-cased line, and a pattern that must match at
that place. The group that took part is cut out, or the whole match if there is none. The group's
name says what its text has to be (``likely``, ``strict``, …: see ``lookalikes``) and how it is cut.
Automata tell first whether any rule may match. What they ask is derived from the rules.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from functools import cache
from typing import Final

from asynctrack._common.search import in_any_case, question

# What narrows a rule down to secrets. The automata do not know these parts: they may match more
# than the rules cut, never less.


def _outside(signs: bytes) -> bytes:
    # 64 signs without a gap in which small letters and capitals mix are base64 and no name that a
    # key goes on behind. A slug or two UUIDs are that long, too, but have one case.
    small, capital = signs.replace(b"A-Z", b""), signs.replace(b"a-z", b"")
    return b"(?:(?<![%b]{64})|(?<=[%b]{64})|(?<=[%b]{64}))" % (signs, small, capital)


# Not in the middle of base64. Rules without a sign in their probe may be in either kind of it.
_OUTSIDE, _OUTSIDE_ALL = _outside(b"A-Za-z0-9_-"), _outside(b"A-Za-z0-9+/_-")
# A blob is what goes on for longer than keys do: GitLab's may have 300 signs, all others fewer.
_BLOB, _BLOB_ALL = rb"(?P<blob>[A-Za-z0-9_-]{512,})|", rb"(?P<blob>[A-Za-z0-9+/=_-]{512,})|"
# A JWT's first part may hold certificates; "Basic" is base64 of a name and a password.
_HEADER, _LOGIN = rb"(?![A-Za-z0-9_-]{8192})", rb"(?![A-Za-z0-9+/=_-]{2048})"
# Not inside a word ("risk-…"); a letter or digit before it may be the end of an escaped sign, or
# of what sets a terminal's colour.
_FRESH: Final = (
    rb"(?:(?<![A-Za-z0-9])|(?<=\\[nrtbf])|(?<=\\u[0-9a-f]{4})|(?<=%[0-9A-Fa-f]{2})"
    rb"|(?<=[\[;][0-9]m)|(?<=[\[;][0-9]{2}m))" + _OUTSIDE
)
# Not a word of prose, as in "basic functionality" or "bearer certificates".
_NO_WORD: Final = rb"(?=[A-Za-z._~+/-]*[0-9=]|[A-Za-z]*[a-z][A-Z]|[A-Za-z._~+/-]{24})"
# Not a name in code (";sig=…").
_NO_NAME: Final = rb"(?=[A-Za-z%/+=_-]*[0-9])"
_PWD: Final = rb"(?:(?<![A-Za-z0-9])|(?<=\\[nrtbf]))"
_ENDS: Final = rb"(?![A-Za-z0-9+/=])"
# Tokens that are pieces of text.
_TEXT_TOKENS: Final = ("eos", "bos", "pad", "unk", "sep", "cls", "mask", "stop", "per", "first")
_NO_TEXT_TOKEN: Final = "".join(f"(?<!{kind})(?<!{kind}_)" for kind in _TEXT_TOKENS).encode()
# Names whose number is the secret itself: no count, no time and no length of one.
_NUMBER_NAME: Final = b"(?:%s)" % b"|".join(
    b"(?<=%s)" % name for name in (b"password", b"passwd", b"pwd", b"secret", b"key", b"phrase")
)
_NO_SECRETARY: Final = rb"(?!ar[iy])"
_IN_QUERY: Final = rb"(?<=[?&;])"
_NO_END: Final = rb"(?!----END)"
_NARROWING: Final = (
    _FRESH, _OUTSIDE, _OUTSIDE_ALL, _BLOB, _BLOB_ALL, _HEADER, _LOGIN, _PWD, _NO_WORD, _NO_NAME,
    _ENDS, _NO_TEXT_TOKEN, _NUMBER_NAME, _NO_SECRETARY, _IN_QUERY, _NO_END,
)  # fmt: skip

# Bounded: a name that repeats itself would take the square of its length. The end of a PEM key is
# no name.
_TAIL: Final = rb"(?!-----)[\w-]{0,40}"
_INNER: Final = rb"(?:[^\"\\]|\\\\(?:\\[\"\\]|[^\"\\])|\\[^\"\\])+"
_SCHEME: Final = rb"(?:(?:bearer|basic|token|digest|apikey|key)[\x20\t]+)?"
_WORD: Final = rb"[^\x20\t\r\n\"'\\,;&]"


def _value(kind: str, *, structures: bool = False) -> bytes:
    """Return what follows a name; a blank in it stands for any gap.

    (Not ``\\s``: to Python's engine it is ASCII here, to the automata it is not.)

    Args:
        kind: What a text must be to be cut out, if its place alone does not tell.
        structures: Whether numbers, lists and objects count too.
    """
    number = itertools.count()

    def group(what: str, pattern: bytes) -> bytes:
        return b"(?P<%s%d>%s)" % (what.encode(), next(number), pattern)

    def quoted() -> bytes:
        # In a body a bare quote ends the string that the name is in, and what follows is JSON's
        # own; in bytes that are no JSON it is a quote like any other.
        escaped, bare = group(kind, rb"[^\"\\]+"), group(kind, rb"[^\"\\,:}\]][^\"\\]*")
        return rb"\\+\"" + escaped + rb"|\"" + bare

    word = "likely" if kind == "any" else kind
    pair = "strict" if kind == "any" else kind
    parts = [
        rb'" : "' + group(kind, rb"(?:[^\"\\]|\\.)+"),  # a field
        rb"\\\" : \\\"" + group(kind, _INNER),  # one in JSON in a string
        rb"\\{3}\" : \\{3}\""  # again
        + group(kind, rb"(?:[^\"\\]|\\{4}(?:\\{4}|\\{3}\"|[^\"\\])|\\{1,2}[^\"\\])+"),
        rb"\\{4,}\" : \\{4,}\"" + group(kind, rb"[^\"\\]+"),  # deeper, up to its first escape
        # An item in Python's repr of a dictionary.
        rb"' : (?:'" + group(kind, rb"[^'\"\\]+") + b"|" + quoted() + b")",
        # An assignment in text: API_KEY=…
        rb" = (?:'" + group(kind, rb"[^'\"\\]+") + b"|" + quoted() + b"|"
        + group("bare" + kind, rb"[^\x20\t\r\n\"'\\,;&=][^\x20\t\r\n\"\\,;&]*") + b")",
        # A line of YAML, a header: password: …
        rb" : (?:\\+\"" + group(kind, rb"[^\"\\]+") + rb"|'" + group(kind, rb"[^'\"\\]+")
        + rb"|" + _SCHEME + group("bare" + word, _WORD + b"{6,}") + b")",
        rb"[\x20\t]+(?:is|was)[\x20\t:]+" + group(word, _WORD + b"{6,}"),
        # An option of a command: --password …
        rb"[\x20\t]+(?:\\+\"" + group("flag", rb"[^\"\\]+") + rb"|'" + group("flag", rb"[^'\"\\]+")
        + rb"|" + group("flag", rb"[^\x20\t\r\n\"'\\-][^\x20\t\r\n\"'\\]*") + b")",
        # An item of a list: {"name": "x-api-key", "value": "…"}; a pair: ["x-api-key", "…"]
        rb'" , "value" : "' + group(kind, rb"(?:[^\"\\]|\\.)+"),
        rb"\\\" , \\\"value\\\" : \\\"" + group(kind, _INNER),
        rb"\\{3,}\" , \\{3,}\"value\\{3,}\" : \\{3,}\"" + group(kind, rb"[^\"\\]+"),
        rb"' , 'value' : '" + group(kind, rb"[^'\"\\]+"),
        rb'" , "' + group(pair, rb"(?:[^\"\\]|\\.)+") + b'"',
        rb"\\+\" , \\+\"" + group(pair, rb"[^\"\\]+"),
        rb"' , '" + group(pair, rb"[^'\"\\]+"),
    ]  # fmt: skip
    if structures:
        digits = rb"[0-9]{4}[0-9.eE+-]*"
        parts += [
            _NUMBER_NAME + rb'" : ' + group("number", digits),
            _NUMBER_NAME + rb"\\\" : " + group("innernumber", digits),
            _NUMBER_NAME + rb"(?:'|\\{3,}\") : " + group("any", digits),
            rb'" : ' + group("json", rb"[\[{]"),
            rb"\\\" : " + group("inner", rb"[\[{]"),
            rb"(?:'|\\{3,}\") : " + group("repr", rb"[\[{(]"),
        ]
    return (b"(?:%s)" % b"|".join(parts)).replace(b" ", rb"[\x20\t\r\n]*")


_PEM: Final = (
    rb"-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----(?:[^\"\\-]|\\.|-"
    + _NO_END
    + rb")*(?:-----END [A-Z ]*-----)?"
)


def _key(
    prefix: bytes, pattern: bytes, *, before: bytes = _FRESH, blob: bytes = _BLOB
) -> tuple[bytes, bytes]:
    """Return a rule for keys that begin with a prefix, in its own case."""
    return prefix.lower(), before + prefix + b"(?:" + blob + pattern + b")"


# Keys that say what they are: OpenAI, Anthropic, LangSmith (lsv2_), … Their case counts, unless a
# pattern says (?i:…).
_SELF_EVIDENT: Final[tuple[tuple[bytes, bytes], ...]] = (
    _key(b"sk-", rb"[A-Za-z0-9_-]{16,}"),
    _key(b"lsv2_", rb"[A-Za-z0-9_]{16,}", before=_OUTSIDE),
    _key(b"github_pat_", rb"[A-Za-z0-9_]{20,}", before=_OUTSIDE),
    *(
        _key(prefix, rb"[A-Za-z0-9]{20,}", before=_OUTSIDE)
        for prefix in (b"ghp_", b"gho_", b"ghs_", b"ghu_", b"ghr_")
    ),
    _key(b"glpat-", rb"[A-Za-z0-9_.-]{16,}", before=_OUTSIDE),
    *(
        _key(prefix, rb"[A-Za-z0-9]{10,}")
        for prefix in (b"sk_live_", b"rk_live_", b"sk_test_", b"rk_test_")
    ),
    _key(b"whsec_", rb"[A-Za-z0-9+/=]{16,}", before=_OUTSIDE, blob=_BLOB_ALL),
    _key(b"hf_", rb"[A-Za-z0-9]{30,}"),
    _key(b"r8_", rb"[A-Za-z0-9]{30,}"),
    _key(b"npm_", rb"[A-Za-z0-9]{30,}"),
    (b"pypi-age", _OUTSIDE + rb"pypi-AgE[A-Za-z0-9_-]{16,}"),
    _key(b"gsk_", rb"[A-Za-z0-9]{20,}"),
    _key(b"pcsk_", rb"[A-Za-z0-9_]{20,}"),
    _key(b"xai-", rb"[A-Za-z0-9]{20,}"),
    _key(b"pplx-", rb"[A-Za-z0-9]{20,}"),
    _key(b"tvly-", rb"[A-Za-z0-9-]{16,}"),
    _key(b"nvapi-", rb"[A-Za-z0-9_-]{20,}"),
    (b"xox", _OUTSIDE + b"xox[abeoprs]-(?:" + _BLOB + b"[A-Za-z0-9-]{10,})"),
    _key(b"xapp-", rb"[A-Za-z0-9-]{10,}"),
    (
        b"hooks.slack.com",
        rb"(?i:hooks\.slack\.com)/(?:services|workflows|triggers)/([A-Za-z0-9/_+-]{8,})",
    ),
    _key(b"AIza", rb"[0-9A-Za-z_-]{30,}", before=_OUTSIDE_ALL, blob=_BLOB_ALL),
    (b"ya29.", rb"ya29\.[0-9A-Za-z_-]{16,}"),
    _key(b"AKIA", rb"[0-9A-Z]{16}", before=_OUTSIDE_ALL, blob=_BLOB_ALL),
    _key(b"ASIA", rb"[0-9A-Z]{16}", before=_OUTSIDE_ALL, blob=_BLOB_ALL),
    (
        b"eyj",
        _OUTSIDE + b"eyJ" + _HEADER + rb"[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*",
    ),
    (b"bearer", rb"(?i:bearer)[ \t\r\n]+(" + _NO_WORD + rb"[A-Za-z0-9._~+/=-]{8,})"),
    (
        b"basic ",
        rb"(?i:basic) ("
        + _LOGIN
        + _NO_WORD
        + rb"(?:[A-Za-z0-9+/]{4}){2,}(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?)"
        + _ENDS,
    ),
    (b"-----begin", _PEM),
    # scheme://user:password@host
    (b"://", rb"://[^/ \t\r\n\"\\@:]*:(?P<login>(?:[^/ \t\r\n\"\\@]|\\\\)+)@"),
    # What signs an address, and is good for as long as the address is.
    (b"sig=", _IN_QUERY + rb"(?i:sig)=(" + _NO_NAME + rb"[A-Za-z0-9%/+=_-]{20,})"),
    (b"x-amz-signature", rb"(?i:x-amz-signature)=([0-9A-Fa-f]{32,})"),
)

_KEYS: Final = tuple(
    sign.join(words)
    for words in ((b"api", b"key"), (b"access", b"key"), (b"private", b"key"))
    for sign in (b"_", b"-", b"", b" ")
)
_AUTH_TOKENS: Final = tuple(
    word + sign + b"token"
    for word in (b"auth", b"access", b"refresh", b"session", b"security", b"bearer", b"api", b"id")
    for sign in (b"-", b"")
)
_ANY, _WHOLE = _value("any"), _value("any", structures=True)
_STRICT, _LIKELY = _value("strict"), _value("likely", structures=True)
# What is named for a secret: names, what stands before and behind them, and what follows.
_NAMED: Final[tuple[tuple[tuple[bytes, ...], bytes, bytes, bytes], ...]] = (
    ((*_KEYS, b"passw", b"passphrase", b"authorization", b"accountkey"), b"", _TAIL, _WHOLE),
    ((b"secret",), b"", _NO_SECRETARY + _TAIL, _WHOLE),
    ((b"_token",), _NO_TEXT_TOKEN, b"", _ANY),
    (_AUTH_TOKENS, b"", b"", _ANY),
    ((b"token",), _NO_TEXT_TOKEN, b"", _STRICT),
    ((b"credential",), b"", b"s?", _STRICT),
    ((b"pwd",), _PWD, b"", _LIKELY),
    ((b"cookie",), b"", b"s?", _value("cookie")),
)


Rule = tuple[bytes, "re.Pattern[bytes]"]
"""What to look for in the lower-cased line, and what must match there."""


@cache
def _groups() -> tuple[tuple[Callable[[bytes], bool], tuple[Rule, ...]], ...]:
    """Return rules together with an automaton that tells whether any of them matches.

    There are several groups: to build an automaton takes a millisecond and blocks the interpreter.
    """
    groups = []
    for pairs in (_SELF_EVIDENT[::2], _SELF_EVIDENT[1::2]):
        rules = tuple((probe, re.compile(pattern)) for probe, pattern in pairs)
        groups.append((question(_wide(b"|".join(pattern for _, pattern in pairs))), rules))
    for value in dict.fromkeys(value for _, _, _, value in _NAMED):
        named = [one for one in _NAMED if one[3] is value]
        rules = tuple(
            rule
            for names, before, tail, _ in named
            for rule in _named_rules(
                names, b"%b(?:%b)%b%b" % (before, b"|".join(names), tail, value)
            )
        )
        wide = b"|".join(b"(?:%b)%b" % (b"|".join(names), tail) for names, _, tail, _ in named)
        groups.append((question(_wide(b"(?i)(?:%b)%b" % (wide, value))), rules))
    return tuple(groups)


def _named_rules(names: tuple[bytes, ...], pattern: bytes) -> list[Rule]:
    # One pattern for all: each takes milliseconds to compile.
    compiled = re.compile(pattern, re.IGNORECASE)
    return [(name, compiled) for name in names]


def rules() -> tuple[Rule, ...]:
    """Return all rules."""
    return tuple(rule for _, rules in _groups() for rule in rules)


BINARY: Final = b'"base64":"'

_SECRET_NAME = re.compile(
    r"api[_-]?key|access[_-]?key|private[_-]?key|account[_-]?key|secret(?!ar[iy])|passw|passphrase"
    r"|authorization|credential|(?:^|[_-])pwd$|cookie"
    rf"|(?:auth|access|refresh|session|security|bearer|api|id)-?token$"
    rf"|{_NO_TEXT_TOKEN.decode()}_token$",
    re.IGNORECASE,
)


def is_secret_name(name: str) -> bool:
    """Return whether a field of this name counts as a secret, no matter what its value is."""
    return _SECRET_NAME.search(name) is not None


# Fewer texts are faster to find, and the engine is sensitive to their order: measure it.
_TOGETHER: Final = (
    "[rs]k_live_", "[rs]k_test_", "gh[opsur]_", "(?:api|access|private|account)[-_ ]?key",
)  # fmt: skip


@cache
def probes() -> Callable[[bytes], bool]:
    """Return the first question: does this line hold anything to look at, in any case?

    A rule matches only lines that hold its probe. Only plain texts, except for the end of
    ``token``, which would find each count of tokens.
    """
    return in_any_case(_probe_pattern)


def _probe_pattern(folded: Callable[[str], str]) -> str:
    plain = {probe.decode() for probe, _ in rules()} | {BINARY.decode()}
    alone = re.compile("|".join((*_TOGETHER, ".*token")))
    texts = {re.escape(folded(probe)) for probe in plain if not alone.fullmatch(probe)}
    together = (pattern.replace("_", folded("_")) for pattern in _TOGETHER)
    after_token = "".join(re.escape(folded(sign)) for sign in "\"\\'=: \t\r\n")
    return "|".join((*sorted(texts), *together, f"token[{after_token}]"))


def suspects(body: bytes) -> list[Rule]:
    """Return the rules that may match in these UTF-8 bytes: the second question."""
    return [rule for matches, rules in _groups() if matches(body) for rule in rules]


def _wide(pattern: bytes) -> str:
    for part in _NARROWING:
        pattern = pattern.replace(part, b"")
    pattern = re.sub(rb"\(\?P<\w+>", b"(?:", pattern)
    # To Python's engine \w is ASCII here. To Rust's it is all of Unicode, which takes five times as
    # long to build.
    return pattern.replace(_TAIL, rb"[A-Za-z0-9_-]*").decode()
