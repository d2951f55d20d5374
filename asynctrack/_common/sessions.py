"""Session, user and thread: their names in metadata, and their ids; for writing and reading."""

from __future__ import annotations

from typing import Final

from asynctrack._errors import OptionError

OWN_SESSION_KEYS: Final = ("session_id", "langfuse_session_id", "ls_session_id")
"""Names of metadata that tell the session and nothing else; the first one that is there counts."""
THREAD_KEYS: Final = ("thread_id", "conversation_id")
"""The same for the thread."""
USER_KEYS: Final = ("user_id", "langfuse_user_id", "ls_user_id")
"""The same for the user."""
SESSION_KEYS: Final = (*OWN_SESSION_KEYS, "conversation_id", "thread_id")
"""Where to look for the session: a thread is one, too."""


def id_text(option: str, value: object) -> str | None:
    """Return an id as text; None where there is none.

    Args:
        option: What it is called.
        value: What the user gave.

    Raises:
        OptionError: It is no text and no number.
    """
    if value is None or value == "":
        return None
    if not is_id(value):
        raise OptionError(option, value, "a text, a whole number, a UUID or None")
    return str(value)


def is_id(value: object) -> bool:
    """Return whether a value may be an id: a text, a whole number or a UUID."""
    kind = type(value)
    return (
        isinstance(value, str)
        or (isinstance(value, int) and kind is not bool)
        or (kind.__module__ == "uuid" and kind.__name__ == "UUID")  # read only where it is used
    )
