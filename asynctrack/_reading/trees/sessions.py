"""Session, user and thread: what the metadata say of them that LangChain's users write (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asynctrack._common.sessions import SESSION_KEYS, THREAD_KEYS, USER_KEYS


def session_of(metadata: Mapping[str, Any]) -> str | None:
    """Return the session that metadata name; None where they name none."""
    return _first(metadata, SESSION_KEYS)


def user_of(metadata: Mapping[str, Any]) -> str | None:
    """Return the user that metadata name; None where they name none."""
    return _first(metadata, USER_KEYS)


def thread_of(metadata: Mapping[str, Any]) -> str | None:
    """Return the thread that metadata name, LangGraph's for one; None where they name none."""
    return _first(metadata, THREAD_KEYS)


def _first(metadata: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    for name in names:
        value = metadata.get(name)
        if (type(value) is str and value) or type(value) is int:
            return str(value)
    return None
