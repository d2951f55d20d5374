"""Log records into the span around them: a handler of ``logging``, and a processor of structlog.

Both run in the program's threads and event loops, wherever it logs. So they never wait: where there
is no room for a record it is dropped and counted, those below ERROR first. They raise nothing, and
read no file.

What asynctrack itself logs is left out, and so is what is logged while a record is taken: by a
``__str__`` of the program, for one.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, MutableMapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from asynctrack._capture.installed import asked
from asynctrack._capture.moment import note
from asynctrack._capture.plain import nearest
from asynctrack._capture.tracebacks import describe_error
from asynctrack._common import marker
from asynctrack._common.log_record import NAME

if TYPE_CHECKING:
    from asynctrack._capture.handlers import AsyncHandler, SyncHandler
    from asynctrack._capture.tracked_span import Owner

_OURS: Final = "asynctrack"
_USUAL: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"asctime", "message", "taskName"}
"""What every record has; anything else was given as ``extra``."""
_LEVELS: Final = {
    "critical": 50, "fatal": 50, "exception": 40, "error": 40, "warning": 30, "warn": 30,
    "info": 20, "debug": 10, "notset": 0,
}  # fmt: skip
_taking: Final[ContextVar[bool]] = ContextVar("asynctrack_takes_a_record", default=False)


class LogHandler(logging.Handler):
    """Puts log records into the span around them: ``logging.getLogger().addHandler(LogHandler())``.

    A record is in the innermost span of your own code or of LangChain's; outside of any it is
    stored by itself. Its level, logger, message, place, exception, stack and ``extra`` are kept.
    It never waits; what there is no room for is dropped and counted.

    Args:
        handler: Whose spans; by default that of the chain or the span around the record, else the
            one that is installed. Where there is none, nothing is stored.
        level: The least level, as logging has it.

    Example:
        >>> import logging
        >>> from asynctrack import LogHandler, open_run, tracker
        >>> log = logging.getLogger("shop")
        >>> with tracker("runs") as handler:
        ...     log.addHandler(LogHandler(handler))
        ...     with handler.span("buy"):
        ...         log.warning("no %s left", "fish", extra={"shelf": 3})
        ...     log.removeHandler(log.handlers[-1])
        >>> (trace,) = open_run("runs").traces()
        >>> (record,) = trace.root.notes
        >>> record.data["level"], record.data["message"], record.data["extra"]
        ('WARNING', 'no fish left', {'shelf': 3})
    """

    def __init__(
        self, handler: AsyncHandler | SyncHandler | None = None, level: int | str = logging.NOTSET
    ) -> None:
        super().__init__(level)
        self._owner: Owner | None = handler

    def emit(self, record: logging.LogRecord) -> None:
        """Store a record; raises nothing."""
        if _is_ours(record.name):
            return
        _take(self._owner, record.levelno, lambda: _data_of(record))


class StructlogProcessor:
    """A processor of structlog's that puts events into the span around them, and passes them on.

    Put it before the renderer, and before ``format_exc_info``, which makes a text of an exception.

    Args:
        handler: As of ``LogHandler``.

    Example:
        >>> import asynctrack
        >>> processor = asynctrack.StructlogProcessor()
        >>> with asynctrack.tracker("runs", install=True), asynctrack.span("buy"):
        ...     processor(None, "info", {"event": "sold", "fish": 2})
        {'event': 'sold', 'fish': 2}
        >>> (trace,) = asynctrack.open_run("runs").traces()
        >>> (record,) = trace.root.notes
        >>> record.data["level"], record.data["message"], record.data["extra"]
        ('INFO', 'sold', {'fish': 2})
    """

    def __init__(self, handler: AsyncHandler | SyncHandler | None = None) -> None:
        self._owner: Owner | None = handler

    def __call__(
        self, logger: Any, method_name: str, event_dict: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        """Store an event; raises nothing.

        Args:
            logger: What it is logged by.
            method_name: What was called of it.
            event_dict: The event.

        Returns:
            The same.
        """
        try:
            level = str(event_dict.get("level") or method_name).lower()
            name = str(event_dict.get("logger") or getattr(logger, "name", None) or "")
            if not _is_ours(name):
                number = _LEVELS.get(level, 0)
                _take(
                    self._owner, number, lambda: _data_from(name, level, number, dict(event_dict))
                )
        except Exception:
            pass  # an odd logger or event of the program's: it goes on
        return event_dict


def _take(owner: Owner | None, level: int, data: Any) -> None:
    """Store a record in the span around it."""
    if _taking.get():
        return
    try:
        token = _taking.set(True)
    except Exception:  # the interpreter ends
        return
    try:
        # Opens no tracker: that takes a second, and who opens one may log, and wait for the lock
        # of the log handler that waits here.
        owner = owner or nearest(asked.present)
        if owner is not None:
            note(owner, NAME, data(), sheddable=level < logging.ERROR)
    except Exception as error:
        if owner is not None:
            owner._sink.capture_failed("a log record", error)
    finally:
        _taking.reset(token)


def _is_ours(logger: object) -> bool:
    name = logger if type(logger) is str else marker.safe_str(logger)
    return name == _OURS or name.startswith(f"{_OURS}.")


def _data_of(record: logging.LogRecord) -> dict[str, Any]:
    try:
        message = str(record.getMessage())
        more: dict[str, Any] = {}
    except Exception:  # arguments that do not fit, or of which one cannot be a text
        message, more = marker.safe_str(record.msg), {"args": record.args}
    extra = {name: value for name, value in record.__dict__.items() if name not in _USUAL}
    error = _error_of(record.exc_info)
    found = {
        "level": record.levelname,
        "level_number": record.levelno,
        "logger": record.name,
        "message": message,
        **more,
        "exception": None if error is None else describe_error(error),
        "stack": record.stack_info,
        "file": record.pathname,
        "line": record.lineno,
        "function": record.funcName,
        "extra": extra or None,
    }
    return {name: value for name, value in found.items() if value is not None}


def _data_from(logger: str, level: str, number: int, event: Mapping[str, Any]) -> dict[str, Any]:
    given = {
        name: value
        for name, value in event.items()
        if not (isinstance(name, str) and name.startswith("_"))
    }
    for name in ("level", "logger"):
        given.pop(name, None)
    message = marker.safe_str(given.pop("event", ""))
    error, stack = _error_of(given.pop("exc_info", None)), given.pop("stack", None)
    found = {
        "level": level.upper(),
        "level_number": number or None,
        "logger": logger or None,
        "message": message,
        "exception": None if error is None else describe_error(error),
        "stack": stack,
        "extra": given or None,
    }
    return {name: value for name, value in found.items() if value is not None}


def _error_of(exc_info: object) -> BaseException | None:
    """Return the exception that came with a record, in any of the forms in which one may be
    given."""
    if isinstance(exc_info, BaseException):
        return exc_info
    if isinstance(exc_info, tuple):
        found = exc_info[1] if len(exc_info) > 1 else None
    else:
        found = sys.exc_info()[1] if exc_info else None
    return found if isinstance(found, BaseException) else None
