"""Handlers that track without being passed: one for a context, one for the whole process.

LangChain asks for them wherever a chain, a model or a tool begins, see ``handlers.offer``. The
nearest counts: the one of the innermost block of this context, else the process's.

No block's end needs the context that it began in. A framework may leave it in another one, and
tasks that it started have copies of it. So a context holds a place, and a place that has been left
is passed over, wherever it is found.
"""

from __future__ import annotations

from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from asynctrack._errors import OptionError, StateError

if TYPE_CHECKING:
    from asynctrack._capture.handlers import AsyncHandler, SyncHandler

_I = TypeVar("_I", bound="Installed")


class Installed:
    """A handler that is installed, until ``undo()`` or the end of its ``with`` block.

    Made by ``install(...)``.

    Args:
        handler: The handler, or None where nothing is to be tracked.
        process: Whether it is for the whole process.
    """

    __slots__ = ("_handler", "_left", "_outer", "_process")

    def __init__(self, handler: AsyncHandler | SyncHandler | None, process: bool) -> None:
        global _everywhere
        self._handler = handler
        self._process = process
        self._left = False
        self._outer: Installed | None = _nearest(_everywhere if process else _here.get())
        if process:
            _everywhere = self
        else:
            _here.set(self)

    @property
    def handler(self) -> AsyncHandler | SyncHandler | None:
        """The handler, or None where nothing is tracked."""
        return self._handler

    @property
    def present(self) -> AsyncHandler | SyncHandler | None:
        """The handler that is there already; asking for it never makes one."""
        return self._handler

    def undo(self) -> None:
        """Let it be as before, in every context that has it. May be called in any, and twice."""
        global _everywhere
        self._left, self._handler = True, None  # contexts keep the place: not what is behind it
        if self._process:
            _everywhere = _nearest(_everywhere)
        elif _here.get() is self:
            _here.set(_nearest(self))

    def __enter__(self: _I) -> _I:
        if self._left:
            raise StateError("this was undone before: call install(...) again")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.undo()

    def __repr__(self) -> str:
        where = "in the process" if self._process else "in a context"
        what = "undone" if self._left else repr(self._handler or "nothing is tracked")
        return f"<asynctrack.Installed {where}: {what}>"


_here: ContextVar[Installed | None] = ContextVar("asynctrack_installed", default=None)
_everywhere: Installed | None = None


def _nearest(place: Installed | None) -> Installed | None:
    """Return the nearest place that has not been left."""
    while place is not None and place._left:
        place = place._outer
    return place


class _Asked:
    """What LangChain asks: it takes a context variable, and calls its ``get``."""

    def get(self) -> Any:
        """Return the handler that tracks here, or None."""
        place = self._place()
        return None if place is None else place.handler

    def present(self) -> Any:
        """Return the handler that tracks here already, or None: makes none, and waits for none."""
        place = self._place()
        return None if place is None else place.present

    @staticmethod
    def _place() -> Installed | None:
        return _nearest(_here.get()) or _nearest(_everywhere)


asked = _Asked()
"""The one of this process."""


def install(handler: AsyncHandler | SyncHandler | None, *, process: bool = False) -> Installed:
    """Track every chain, graph, model and tool that is called from here on, without ``callbacks``.

    "Here" is the current context, as with any context variable: this task or thread, what it calls,
    and the tasks that it starts. A handler that is passed in ``callbacks`` as well is told of each
    event once. Blocks may be nested: the inner one counts.

    Args:
        handler: What ``tracker(...)`` gave, or None: nothing is tracked here but what is passed a
            handler.
        process: Whether it is for all threads and tasks of the process that have none of their own.
            A server's requests do not come from the context in which it starts.

    Returns:
        What is undone by ``undo()``, or by leaving it as a ``with`` block. It ends with its tracker
        too.

    Raises:
        OptionError: It is no handler of asynctrack's.

    Example:
        >>> from asynctrack import install, open_run, tracker
        >>> from langchain_core.runnables import RunnableLambda
        >>> shout = RunnableLambda(str.upper)
        >>> with tracker("runs") as handler:
        ...     with install(handler):
        ...         shout.invoke("tracked")
        ...         with install(None):
        ...             shout.invoke("not tracked")
        'TRACKED'
        'NOT TRACKED'
        >>> [trace.root.inputs for trace in open_run("runs").traces()]
        ['tracked']
    """
    if handler is not None:
        if not callable(getattr(handler, "flush_tracker", None)):
            raise OptionError("handler", handler, "what tracker(...) gave when it was entered")
        offer()
    return Installed(handler, process)


def offer() -> None:
    """Have LangChain ask for installed handlers, from now on. Imports LangChain."""
    global _known
    if not _known:
        from asynctrack._capture.handlers import offer as offer_to_langchain

        offer_to_langchain(asked)
        _known = True


def is_unknown() -> bool:
    """Return whether LangChain does not ask yet."""
    return not _known


_known = False
