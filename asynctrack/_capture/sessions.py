"""Session, user and thread: brought into the metadata of a trace's root, where readers look.

Users write them into a chain's metadata themselves, or name them in ``config["configurable"]``,
which LangChain hands to no handler, or once for all that is called in a ``with session(...)``
block. The nearest to the chain counts, for each of the three.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Final

from asynctrack._common.sessions import (
    OWN_SESSION_KEYS,
    THREAD_KEYS,
    USER_KEYS,
    id_text,
    is_id,
)
from asynctrack._errors import StateError

if TYPE_CHECKING:
    from uuid import UUID

MAX_TRACES: Final = 1_000
"""Latest traces that a session knows: it may be as long as a service runs."""
MAX_FRAMES: Final = 24
"""Calls between a callback and the one that has the config, at the most. An asynchronous handler
that is called where no event loop runs has one of its own in between."""
_LIBRARIES: Final = ("langchain", "langgraph")
_CONFIG: Final = "config"


class Session:
    """Names the session, user and thread of all that is called in its ``with`` block.

    Made by ``session(...)`` or ``handler.session(...)``; enter each once.

    Args:
        ids: What it names.

    Attributes:
        session_id: The session; inside a block of another session, that one's by default.
        user_id: The user, likewise.
        thread_id: The thread, likewise.
    """

    __slots__ = ("_entered", "_outer", "_traces", "session_id", "thread_id", "user_id")

    def __init__(self, ids: Mapping[str, str | None]) -> None:
        self.session_id = ids.get("session_id")
        self.user_id = ids.get("user_id")
        self.thread_id = ids.get("thread_id")
        self._traces: list[str] = []
        self._outer: Session | None = None
        self._entered = False

    @property
    def trace_ids(self) -> tuple[str, ...]:
        """The traces that began in the block so far, by the start of each; the latest 1,000."""
        return tuple(self._traces)

    @property
    def trace_id(self) -> str | None:
        """The last of them: what ``log_feedback`` takes. None where there is none."""
        return self._traces[-1] if self._traces else None

    def __repr__(self) -> str:
        named = ", ".join(f"{name}={value!r}" for name, value in self._ids().items())
        return f"<asynctrack.Session {named or 'of nobody'}>"

    def __enter__(self) -> Session:
        if self._entered:
            raise StateError("this session was entered before: call session(...) for each block")
        self._entered = True
        outer = self._outer = _current.get()
        if outer is not None:
            self.session_id = self.session_id or outer.session_id
            self.user_id = self.user_id or outer.user_id
            self.thread_id = self.thread_id or outer.thread_id
        _current.set(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # A framework may leave the block in another context than it was entered in, where a token
        # would raise. Nothing is to be put back there.
        if _current.get() is self:
            _current.set(self._outer)

    def _ids(self) -> dict[str, str]:
        """Return what it names, under the names that readers look for."""
        named = {
            "session_id": self.session_id, "user_id": self.user_id, "thread_id": self.thread_id,
        }  # fmt: skip
        return {name: value for name, value in named.items() if value}

    def _note(self, trace_id: str) -> None:
        """Note a trace that begins; of each once, however many handlers tell of it."""
        session: Session | None = self
        while session is not None:
            traces = session._traces
            if trace_id not in traces[-_RECENT:]:
                traces.append(trace_id)
                if len(traces) > MAX_TRACES:
                    del traces[:-MAX_TRACES]
            session = session._outer


_RECENT: Final = 64
_current: ContextVar[Session | None] = ContextVar("asynctrack_session", default=None)


def current_session() -> Session | None:
    """Return the session whose block this is called in; None outside of any."""
    return _current.get()


def session(
    *,
    session_id: str | int | UUID | None = None,
    user_id: str | int | UUID | None = None,
    thread_id: str | int | UUID | None = None,
) -> Session:
    """Name the session, user and thread of all that is called in a ``with`` block.

    Each trace that begins in the block gets them, of every handler, unless the metadata of its
    chain name others. Tasks and threads have a block each: one counts where its context is, as
    with any context variable. Blocks may be nested: the inner one adds to the outer one.

    Args:
        session_id: The session.
        user_id: The user.
        thread_id: The thread: a conversation, LangGraph's ``thread_id``. It is the session, too,
            where none is named.

    Returns:
        What to enter; it knows the traces that began in the block.

    Raises:
        OptionError: An id is no text and no number; the text names it, its value and what is.

    Example:
        >>> from asynctrack import open_run, session, tracker
        >>> from langchain_core.runnables import RunnableLambda
        >>> answer = RunnableLambda(str.upper)
        >>> with tracker("runs") as handler:
        ...     with session(user_id="ada", thread_id="c7") as asked:
        ...         answer.invoke("hello", config={"callbacks": [handler]})
        'HELLO'
        >>> (trace,) = open_run("runs").traces()
        >>> trace.user_id, trace.session_id, trace.trace_id == asked.trace_id
        ('ada', 'c7', True)
    """
    given = {"session_id": session_id, "user_id": user_id, "thread_id": thread_id}
    return Session({name: id_text(name, value) for name, value in given.items()})


class Roots:
    """Completes the metadata of roots.

    Args:
        session_keys: Further names of metadata that tell the session, the user's own.
        user_keys: The same for the user.
    """

    def __init__(self, session_keys: Sequence[str] = (), user_keys: Sequence[str] = ()) -> None:
        self._own = bool(session_keys or user_keys)
        # For each id: its names in metadata, and those that count where none of these is there.
        self._ids = (
            ("session_id", OWN_SESSION_KEYS, tuple(session_keys)),
            ("user_id", USER_KEYS, tuple(user_keys)),
            ("thread_id", THREAD_KEYS, ()),
        )

    def complete(
        self, metadata: Mapping[str, Any] | None, trace_id: UUID, frame: FrameType
    ) -> Mapping[str, Any] | None:
        """Return the metadata of a root with the ids that they lack. Raises nothing.

        Args:
            metadata: As LangChain gives them; they stay as they are.
            trace_id: The trace that begins.
            frame: Who asks, below LangChain's own calls.
        """
        try:
            current = _current.get()
            if current is not None:
                current._note(str(trace_id))
            configured = configurable_above(frame)
            if current is None and not configured and not self._own:
                return metadata
            added = self._lacking(metadata or {}, configured, current)
        except Exception:  # of an odd mapping: the trace is worth more than its session
            return metadata
        return {**(metadata or {}), **added} if added else metadata

    def _lacking(
        self, metadata: Mapping[str, Any], configured: Mapping[str, Any], current: Session | None
    ) -> dict[str, str]:
        around = {} if current is None else current._ids()
        added: dict[str, str] = {}
        for name, names, own in self._ids:
            if _first(metadata, names) is not None:
                continue
            value = _first(metadata, own)
            if value is None:
                value = _first(configured, (*names, *own))
            if value is None:
                value = around.get(name)
            if value is not None:
                added[name] = value
        return added


def configurable_above(frame: FrameType | None) -> Mapping[str, Any]:
    """Return ``config["configurable"]`` of the call of LangChain's that a callback comes from.

    LangChain hands it to its own tracer only. The context variable of its configs has that of what
    is around a call, and so nothing at a root: the call itself is the only one that knows it.

    Args:
        frame: Where to begin.

    Returns:
        What it holds; nothing where it cannot be seen, as from another thread.
    """
    for _ in range(MAX_FRAMES):
        if frame is None:
            break
        if _CONFIG in frame.f_code.co_varnames and _is_librarys(frame):
            config = frame.f_locals.get(_CONFIG)
            if isinstance(config, dict):
                found = config.get("configurable")
                return found if isinstance(found, dict) else {}
        frame = frame.f_back
    return {}


def _is_librarys(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).startswith(_LIBRARIES)


def _first(values: Mapping[str, Any], names: Iterable[str]) -> str | None:
    for name in names:
        value = values.get(name)
        if value != "" and is_id(value):
            return str(value)
    return None
