"""Warnings: say what is wrong once, clearly, then count; and so that nothing else comes of it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from asynctrack._common.own import is_own, own_work

logger = logging.getLogger("asynctrack")

INTERVAL: Final = 60.0
"""Seconds between two warnings of the same kind."""


class Notices:
    """Warnings of one tracker, at most one of a kind in ``INTERVAL``.

    Args:
        monotonic: The clock, in seconds.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.RLock()  # re-entrant: a finalizer may warn while it is held
        self._last: dict[str, float] = {}
        self._held_back: dict[str, int] = {}

    def warn(self, kind: str, text: str) -> None:
        """Log a warning, unless one of this kind was logged a moment ago; count it then.

        Args:
            kind: What counts as the same warning.
            text: What happened, where the data is now, and what to do. No secrets.
        """
        now = self._monotonic()
        with self._lock:
            last = self._last.get(kind)
            if last is not None and now - last < INTERVAL:
                self._held_back[kind] = self._held_back.get(kind, 0) + 1
                return
            self._last[kind] = now
            held_back = self._held_back.pop(kind, 0)
        more = f" (and {held_back} more times since the last warning)" if held_back else ""
        warn("%s%s", text, more)


def warn(text: str, *args: object) -> None:
    """Log a warning; raises nothing, whatever the program's handlers do.

    Args:
        text: A template, as for ``logger.warning``.
        *args: What goes into it.
    """
    _log(logging.WARNING, text, args, None)


def report(error: BaseException, text: str, *args: object) -> None:
    """Log an error of ours, with its traceback; raises nothing.

    Args:
        error: What was raised.
        text: A template, as for ``logger.error``.
        *args: What goes into it.
    """
    _log(logging.ERROR, text, args, error)


def _log(level: int, text: str, args: tuple[object, ...], error: BaseException | None) -> None:
    """Log where somebody listens.

    A stream that a handler was given may be closed by now: pytest closes what it captures with
    after each test, and a tracker may have something to say later. logging would print a traceback
    for each such handler. So these are passed over, and only these: where no other has heard of it,
    it is said as if there were no handler.
    """
    if not logger.isEnabledFor(level):
        return
    with own_work():
        try:
            handlers = _handlers()
            open_ones = [one for one in handlers if not _is_closed(one)]
            if len(open_ones) == len(handlers):
                logger.log(level, text, *args, exc_info=error)
                return
            caught = None if error is None else (type(error), error, error.__traceback__)
            record = logger.makeRecord(logger.name, level, __file__, 0, text, args, caught)
            if not logger.filter(record):
                return
            if not open_ones and logging.lastResort is not None:
                open_ones = [logging.lastResort]
            for handler in open_ones:
                if level >= handler.level:
                    handler.handle(record)
        except Exception:
            pass  # a handler's own: whoever logs is told by it, and goes on


def hush_closed_streams() -> None:
    """Keep what the libraries below us log on our behalf from handlers that cannot write any more.

    For the interpreter's end, when the program hears nothing of it but a traceback for each record.
    What the program itself logs is left alone.
    """
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    for one in loggers:
        for handler in one.handlers if isinstance(one, logging.Logger) else ():
            if _is_closed(handler):
                handler.addFilter(_is_not_ours)


def _is_not_ours(record: logging.LogRecord) -> bool:
    return not is_own()


def _handlers() -> list[logging.Handler]:
    found: list[logging.Handler] = []
    one: logging.Logger | None = logger
    while one is not None:
        found += one.handlers
        one = one.parent if one.propagate else None
    return found


def _is_closed(handler: logging.Handler) -> bool:
    return getattr(getattr(handler, "stream", None), "closed", False) is True
