"""When two settings, or two credentials, are the same: values to compare, without secrets to see.

Imports nothing: whoever puts a tracker together may ask.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Hashable, Mapping
from typing import Any, Final

_KEY: Final = secrets.token_bytes(32)
"""Makes digests worthless outside of this process."""


class SameObject:
    """Equal to another one of the very same object, which it keeps alive, so that no other gets
    its place in memory.

    Args:
        value: The object.
    """

    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        self._value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SameObject) and other._value is self._value

    def __hash__(self) -> int:
        return id(self._value)

    def __repr__(self) -> str:
        return f"<the same {type(self._value).__qualname__}>"


def frozen(value: Any) -> Hashable:
    """Return what is equal for equal settings, and can be a key of a dictionary.

    Args:
        value: A setting: mappings, lists and plain values in each other.
    """
    if isinstance(value, Mapping):
        return frozenset((name, frozen(one)) for name, one in value.items())
    if isinstance(value, (list, tuple)):
        return tuple(frozen(one) for one in value)
    try:
        hash(value)
    except TypeError:
        return SameObject(value)
    return type(value).__qualname__, value  # True is no 1 here


def identity_of(credentials: Any, session: Any) -> Hashable:
    """Return what is equal for the same credentials. May block, as reading them may.

    Keys that stay as they are count by what they are now: each session reads them for itself.
    Those that are renewed belong to the object that renews them.

    Args:
        credentials: botocore's credentials object, or None where there are none yet.
        session: The boto3 session that they are of.
    """
    if credentials is None:
        return SameObject(session)
    if hasattr(credentials, "refresh_needed"):
        return SameObject(credentials)
    try:
        now = credentials.get_frozen_credentials()
        parts = (now.access_key, now.secret_key, now.token)
    except Exception:  # of another kind: requests say what is wrong with them
        return SameObject(session)
    digest = hashlib.blake2b(key=_KEY, digest_size=32)
    for part in parts:
        text = b"-" if part is None else str(part).encode("utf-8", "surrogatepass")
        digest.update(b"%d:%b" % (len(text), text))
    return str(getattr(credentials, "method", "")), digest.hexdigest()
