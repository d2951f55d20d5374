"""A log record as an event: what it is called, and the fields of its data (pure).

It is a custom event of this name, whose data have the ``level`` and the ``message`` as texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

NAME: Final = "log"


class Said(NamedTuple):
    """What a log record says.

    Attributes:
        level: ``WARNING``, or another program's word.
        logger: The logger's name; empty where it has none.
        message: With its arguments in place.
        exception: Type and message of the exception that came with it; empty without one.
        number: The level as logging counts it: 30 for a warning; 0 where that is not known.
    """

    level: str
    logger: str
    message: str
    exception: str
    number: int

    @property
    def line(self) -> str:
        """All of it, as logging prints it."""
        of = f" {self.logger}" if self.logger else ""
        error = f" ({self.exception})" if self.exception else ""
        return f"{self.level}{of}: {self.message}{error}"


def said_by(event: str, name: object, data: object) -> Said | None:
    """Return what an event says, if it is a log record; None else.

    Args:
        event: Its kind.
        name: Its name.
        data: Its data, which anybody may have logged.

    Example:
        >>> said_by("custom_event", "log", {"level": "INFO", "message": "Hello"}).line
        'INFO: Hello'
    """
    if event != "custom_event" or name != NAME or not isinstance(data, Mapping):
        return None
    level, message = data.get("level"), data.get("message")
    if not isinstance(level, str) or not isinstance(message, str):
        return None
    logger, number = data.get("logger"), data.get("level_number")
    return Said(
        level,
        logger if isinstance(logger, str) else "",
        message,
        _exception(data.get("exception")),
        number if type(number) is int else 0,
    )


def _exception(described: Any) -> str:
    if not isinstance(described, Mapping):
        return ""
    kind, message = described.get("type"), described.get("message")
    if not isinstance(kind, str):
        return ""
    return f"{kind}: {message}" if isinstance(message, str) and message else kind
