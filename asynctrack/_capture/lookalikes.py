"""What only looks like a secret: words, placeholders, names of models, and code."""

from __future__ import annotations

import re
from typing import Final

_PLACEHOLDER = re.compile(rb"[<${%*/~.]|[A-Za-z][A-Za-z+.-]*:(?://|\\)")
_BRACKET = re.compile(rb"[ (\[{]")
_SEPARATORS = re.compile(rb"[-_./:@|]+")
_SLUG_PART = re.compile(rb"[A-Za-z]*[0-9]{0,2}|[0-9]{1,8}[A-Za-z]?")
_LETTER, _OTHER = re.compile(rb"[A-Za-z]"), re.compile(rb"[0-9!#$%^&*?@]")


def looks_secret(value: bytes, length: int) -> bool:
    """Return whether a text looks generated: letters and digits, no blank, not like gpt-4o-mini.

    Args:
        value: The encoded text.
        length: The least bytes that it must have.
    """
    value = value.strip(b".,:!?)]}\\")
    if len(value) < length or _PLACEHOLDER.match(value) or _BRACKET.search(value):
        return False
    parts = _SEPARATORS.split(value)
    if len(parts) > 1 and all(_SLUG_PART.fullmatch(part) for part in parts):
        return False
    return _LETTER.search(value) is not None and _OTHER.search(value) is not None


def fits(kind: str, value: bytes, before: bytes) -> bool:
    """Tell whether what a rule found is a secret.

    Args:
        kind: The name of the group that found it, without its number.
        value: What it found.
        before: Some bytes before the name.
    """
    if kind.startswith("bare"):
        if _is_code(value):
            return False
        kind = kind.removeprefix("bare")
    if kind == "any":
        return _SCHEME.fullmatch(value) is None
    if kind == "likely":
        return looks_secret(value, 6)
    if kind == "strict":
        return looks_secret(value, 16)
    if kind == "cookie":
        return _COOKIE.search(value) is not None or looks_secret(value, 16)
    if kind == "flag":
        return _FLAG.search(before) is not None and not _PLACEHOLDER.match(value)
    if kind == "login":
        return _PUT_IN.fullmatch(value) is None
    return kind != "blob"


_FLAG = re.compile(rb"--[\w-]*$")
# "Bearer " + token
_SCHEME = re.compile(rb"(?:bearer|basic|token|digest|apikey|key) +", re.IGNORECASE)
# With a value, and no attribute of one.
_COOKIE = re.compile(
    rb"(?:^|[;&\x20])(?!(?:path|expires|domain|max-age|samesite)=)[^;&=\x20]{1,99}=[^;\x20]",
    re.IGNORECASE,
)
# `scheme://${user}:${password}@host`, 'scheme://'+user+':'+password+'@host'
_PUT_IN = re.compile(rb"\$\{[^}]*\}|'\+.*\+'")

# -- code -----------------------------------------------------------------------------------------

# Names that are minified, and those that never are. What follows a dot keeps its name.
_WORDS: Final = (
    rb"this|null|undefined|true|false|void|new|await|async|function|typeof|return|yield|delete"
    rb"|window|document|process|module|exports|self|globalThis|arguments|class|super|import"
    rb"|None|True|False"
)
_PROPERTY: Final = rb"[A-Za-z_$]+(?:[0-9]{1,3}[A-Za-z_$]*)?"
_CODE: Final = re.compile(
    rb"(?:"
    rb"(?:%b|[A-Za-z_$]{1,3}|[A-Za-z_$]{1,2}[0-9]|[0-9]{1,3}(?:e[0-9]{1,2})?)(?![\w$])"
    rb"|(?<=[(\[<>])[0-9]+(?![\w$])"
    rb"|%b(?=[(\[]|=>)"  # a call, an item, the parameter of a function
    rb"|(?<=\{)%b(?=:)"  # a field
    rb"|\??\.%b(?![\w$])"
    rb"|\?\.(?=[(\[])|\.{3}|[()\[\]{}]"
    rb"|(?<![\w$)\]}])(?:[!~]+|/[\^(\[].*)|(?<=[=(\[:?+|])`.*"  # not, an expression, a text
    rb"|[=!]==?|=>|[<>]=?|\|\|?|\?\??|[:=+*/%%-]"
    rb")*" % (_WORDS, _PROPERTY, _PROPERTY, _PROPERTY)
)
_TEMPLATE = re.compile(rb"`(?:\$\{|(?:bearer|basic|token)?$)", re.IGNORECASE)
# 123-ABC-456
_GROUPS = re.compile(rb"[A-Za-z0-9]{1,3}(?:[-:/][A-Za-z0-9]{1,3})+")
_LONG: Final = 256
"""Bytes of a value that tell whether it is code."""


def _is_code(value: bytes) -> bool:
    """Return whether a value that no quotes are around is an expression, as in ``e.token||n()``.

    All its names have to be known, minified, called, or of a property: ``hunter`` may be a password
    as well, and in ``a.Zq7Xw9Kv3Jp5`` is one.
    """
    value = value[:_LONG]
    if _GROUPS.fullmatch(value):
        return False
    match = _CODE.match(value)
    assert match is not None  # it may be empty
    return match.end() == len(value) or _TEMPLATE.match(value) is not None
