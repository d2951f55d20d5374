"""Session, user and thread: what the metadata say of them that LangChain's users write (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

SESSION_KEYS: Final = (
    "session_id", "langfuse_session_id", "ls_session_id", "conversation_id", "thread_id"
)  # fmt: skip
"""Names of metadata that tell the session; the first one that is there counts."""
USER_KEYS: Final = ("user_id", "langfuse_user_id", "ls_user_id")
"""The same for the user."""
THREAD_KEYS: Final = ("thread_id", "conversation_id")
"""The same for the thread."""


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
