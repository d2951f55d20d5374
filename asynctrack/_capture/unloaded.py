"""Stands in for a tracker if asynctrack itself cannot be loaded: no descriptor is left to read it.

Python reads its modules when the first tracker is made, and what they need when it is entered. A
program that has no descriptor left then, or that has ended, gets a handler that takes every
callback, counts it as dropped, and lets the program go on.
"""

from __future__ import annotations

import errno
import importlib
import os
from collections.abc import Callable, Generator
from typing import Any

from asynctrack._capture.sessions import session
from asynctrack._statistics import Statistics


def is_environments(error: BaseException) -> bool:
    """Return whether the system refused or the interpreter ends; anything else is a mistake."""
    if isinstance(error, ImportError):  # how a library in C says it
        return os.strerror(errno.EMFILE) in str(error)
    return isinstance(error, (OSError, MemoryError, RuntimeError))


class Unloaded:
    """Stands in for a tracker.

    Args:
        error: Why it could not be loaded.
    """

    writer_id = ""

    def __init__(self, error: BaseException) -> None:
        self._error = error
        self._dropped = 0

    def __enter__(self) -> Any:
        return self.enter("BaseCallbackHandler")

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Any:
        return self.enter("AsyncCallbackHandler")

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def enter(self, base: str) -> Any:
        """Warn, and return a handler.

        Args:
            base: The name of LangChain's class for it.
        """
        self._say(
            f"asynctrack cannot be loaded ({self._error}): nothing is tracked, every event is"
            " counted as dropped. Raise the limit of open files (ulimit -n), or look for what"
            " leaves them open; and enter the tracker before the program ends."
        )
        return _handler(base, self._drop, self.statistics)

    def statistics(self) -> Statistics:
        """Return the counters: all events are dropped."""
        return Statistics(dropped={"not_loaded": self._dropped} if self._dropped else {})

    def close(self) -> None:
        """Do nothing: there is nothing to wait for."""

    async def aclose(self) -> None:
        """Do nothing: there is nothing to wait for."""

    def _drop(self, *_: Any, **__: Any) -> None:
        self._dropped += 1

    def _say(self, text: str) -> None:
        try:
            import logging  # LangChain needs it too

            logging.getLogger("asynctrack").warning("%s", text)
        except Exception:
            pass  # it cannot be loaded either, or one of the program's log handlers raises


class _Nothing:
    """A flush that has ended and delivered nothing."""

    def __await__(self) -> Generator[Any, None, bool]:
        return self.result()
        yield

    def done(self) -> bool:
        """Return True."""
        return True

    def result(self, timeout: float | None = None) -> bool:
        """Return False."""
        return False


class _NoSpan:
    """A span that is not tracked."""

    span_id = trace_id = outputs = None

    def __enter__(self) -> _NoSpan:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    async def __aenter__(self) -> _NoSpan:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass


def _handler(base: str, drop: Callable[..., None], statistics: Callable[[], Statistics]) -> Any:
    """Make a handler of LangChain's class, or of none if that cannot be loaded either."""
    try:
        parent: Any = getattr(importlib.import_module("langchain_core.callbacks.base"), base)
    except Exception:
        parent = object
    asynchronous = base.startswith("Async")

    async def awaited(self: Any, *args: Any, **kwargs: Any) -> Any:
        return called(self, *args, **kwargs)

    def called(self: Any, *args: Any, **kwargs: Any) -> Any:
        drop()

    def span(self: Any, *args: Any, **kwargs: Any) -> _NoSpan:
        drop()  # its start
        drop()  # and its end
        return _NoSpan()

    def tracked(self: Any, function: Any = None, /, **options: Any) -> Any:
        return function if function is not None else lambda one: one

    async def flush(self: Any, timeout: float | None = None) -> bool:
        return False

    callback = awaited if asynchronous else called

    def any_callback(self: Any, name: str) -> Any:
        if not name.startswith("on_"):
            raise AttributeError(name)
        return callback.__get__(self)

    methods: dict[str, Any] = {name: callback for name in dir(parent) if name.startswith("on_")}
    methods |= {
        "__getattr__": any_callback,  # without LangChain's class
        "run_inline": asynchronous,
        "__repr__": lambda self: "<handler of asynctrack, not loaded: it drops every event>",
        "statistics": lambda self: statistics(),
        "log_parameters": called,
        "log_metric": called,
        "log_feedback": called,
        "session": staticmethod(session),
        "span": span,
        "tracked": tracked,
        "log": called,
        "flush_tracker": lambda self: _Nothing(),
        "flush": flush if asynchronous else lambda self, timeout=None: False,
    }
    return type("UnloadedHandler", (parent,), methods)()
