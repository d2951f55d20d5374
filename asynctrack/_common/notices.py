"""Warnings: say what is wrong once, clearly, then count; and so that nothing else comes of it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from asynctrack._common.own import is_own, own_work

logger = logging.getLogger("asynctrack")

INTERVAL: Final = 60.0
"""Seconds between two warnings of the same kind."""


@dataclass(slots=True)
class _Kind:
    """What is known of one kind of warning.

    Attributes:
        told: When it was logged last, in seconds.
        teller: Who it came from then.
        text: The latest text that was held back.
        held_back: How often it came since.
        trackers: Who it came from since, besides the one that was logged.
    """

    told: float
    teller: str
    text: str = ""
    held_back: int = 0
    trackers: set[str] = field(default_factory=set)


class Board:
    """The warnings of all trackers of a process: one cause is told once in ``INTERVAL``.

    Args:
        monotonic: The clock, in seconds.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.RLock()  # re-entrant: a finalizer may warn while it is held
        self._kinds: dict[tuple[object, str], _Kind] = {}
        self._swept = monotonic()

    def warn(self, cause: tuple[object, str], tracker: str, text: str) -> None:
        """Log a warning, unless one of the same cause was logged a moment ago; count it then.

        Args:
            cause: What counts as the same warning.
            tracker: Who warns.
            text: What happened, where the data is now, and what to do. No secrets.
        """
        now = self._monotonic()
        if now - self._swept >= INTERVAL:
            self._swept = now
            self._tell_old(now - INTERVAL, cause)
        with self._lock:
            known = self._kinds.get(cause)
            if known is not None and now - known.told < INTERVAL:
                known.text = text
                known.held_back += 1
                if tracker != known.teller:
                    known.trackers.add(tracker)
                return
            self._kinds[cause] = _Kind(now, tracker)
        more = ""
        if known is not None and known.held_back:
            more = f" (and {known.held_back} more times since the last warning{_of(known)})"
        warn("%s%s", text, more)

    def tell_rest(self) -> None:
        """Log what was held back of other trackers than the one that was told of."""
        self._tell_old(float("inf"), None)

    def _tell_old(self, until: float, but: tuple[object, str] | None) -> None:
        """Log, and forget, what was told before that moment."""
        with self._lock:
            old = [one for one, it in self._kinds.items() if it.told <= until and one != but]
            kinds = [self._kinds.pop(one) for one in old]
        for known in kinds:
            if known.trackers:
                warn("%s (%d more times%s)", known.text, known.held_back, _of(known))


def _of(known: _Kind) -> str:
    count = len(known.trackers)
    return f", in {count} more tracker{'s' if count > 1 else ''}" if count else ""


class Notices:
    """The warnings of one tracker.

    Args:
        board: Those of the process; None for a board of its own.
        tracker: Who warns.
        place: Where its events go: two trackers may fail for the same cause at the same place.
    """

    def __init__(
        self, board: Board | None = None, *, tracker: str = "", place: object = None
    ) -> None:
        self._board = board or Board()
        self._tracker = tracker
        self._place = place

    def warn(self, kind: str, text: str) -> None:
        """Log a warning, unless one of this kind was logged a moment ago; count it then.

        Args:
            kind: What counts as the same warning.
            text: What happened, where the data is now, and what to do. No secrets.
        """
        self._board.warn((self._place, kind), self._tracker, text)


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
