"""A question that a page asks of the index, which may be given up before it is answered.

Who types does not wait for the answer to what was typed before; at ten million events such answers
would queue up.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TypeVar

Answer = TypeVar("Answer")


class GivenUpError(Exception):
    """The page has stopped waiting for the answer."""


class Question:
    """One question, however many queries its answer takes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cursors: set[Any] = set()
        self._given_up = False

    @property
    def given_up(self) -> bool:
        """Whether the page has stopped waiting for the answer."""
        return self._given_up

    def answer(self, answer: Callable[..., Answer], *given: Any) -> Answer:
        """Call a function and return its result; its queries belong to this question."""
        token = _asked.set(self)
        try:
            return answer(*given)
        finally:
            _asked.reset(token)

    def give_up(self) -> None:
        """Interrupt its queries, and refuse new ones. From any thread."""
        with self._lock:
            self._given_up = True
            for cursor in self._cursors:
                cursor.interrupt()

    def begin(self, cursor: Any) -> None:
        """Note a cursor that is going to work on it.

        Raises:
            GivenUpError: Nobody waits for the answer any more.
        """
        with self._lock:
            if self._given_up:
                raise GivenUpError
            self._cursors.add(cursor)

    def end(self, cursor: Any) -> None:
        """Note that a cursor is done."""
        with self._lock:
            self._cursors.discard(cursor)


def asked() -> Question | None:
    """Return the question that this thread works on, or None."""
    return _asked.get()


_asked: ContextVar[Question | None] = ContextVar("asynctrack_view_question", default=None)
