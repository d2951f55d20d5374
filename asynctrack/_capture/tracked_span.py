"""``handler.span(...)``: a span of the user's own code, in the trace of the chains around it.

Its events are those of LangChain's callbacks, so that all who read them know them. It raises
nothing of its own but for wrong use, and waits for room in the buffer only where that blocks no
event loop: ``async with`` awaits it, ``with`` waits for it in a thread that runs no loop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from sys import modules
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Protocol
from uuid import UUID, uuid4

from asynctrack._capture import current
from asynctrack._capture.current import Here
from asynctrack._common.marker import safe_str
from asynctrack._common.own import is_own
from asynctrack._common.traceparent import KEY, parsed
from asynctrack._errors import StateError

if TYPE_CHECKING:
    from asynctrack._capture.event import Body
    from asynctrack._capture.sink import Sink

_OWN_EVENTS: Final = ("chain", "tool", "retriever")
"""The kinds that have events of their own; any other is a chain whose ``run_type`` it is."""


class Owner(current.Owner, Protocol):
    """The handler that a span goes to."""

    @property
    def _sink(self) -> Sink:
        """Where its events go; another one in the child of a fork."""


class TrackedSpan:
    """A span of your own code: enter it with ``with`` or ``async with``, once.

    Made by ``handler.span(...)``.

    Attributes:
        name: Its name.
        outputs: What comes out of it: set it in the block. It is stored as the block ends, also if
            that ends with an exception.
        said: What else is stored of its end.

    Args:
        owner: The handler that it goes to; None where nothing is tracked.
        name: Its name.
        inputs: What goes in.
        kind: What it is.
        tags: As LangChain's.
        metadata: As LangChain's.
        traceparent: W3C's header of who calls.
    """

    def __init__(
        self,
        owner: Owner | None,
        name: str,
        *,
        inputs: Any = None,
        kind: str = "chain",
        tags: Sequence[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        traceparent: str | None = None,
    ) -> None:
        self.name = text_of(name)
        self.outputs: Any = None
        self.said: dict[str, Any] = {}
        self._owner = owner
        self._inputs = inputs
        self._kind = kind
        self._tags = tags
        self._metadata = metadata
        self._called_by = None if traceparent is None else parsed(traceparent)
        self._here: Here | None = None
        self._entered = False
        self._trace_id: UUID | None = None

    @property
    def span_id(self) -> str | None:
        """Its id, which ``log_feedback`` takes; None before it is entered."""
        return None if self._here is None else str(self._here.span_id)

    @property
    def trace_id(self) -> str | None:
        """The trace that it is part of, which ``log_feedback`` takes; None before it is entered."""
        return None if self._trace_id is None else str(self._trace_id)

    def __repr__(self) -> str:
        here = self._here
        if self._owner is None:
            state = "not tracked"
        else:
            state = "not entered" if here is None else "open" if here.open else "ended"
        return f"<asynctrack.TrackedSpan {self.name!r}: {state}>"

    def __enter__(self) -> TrackedSpan:
        begun = self._begin()
        if begun is not None:
            try:
                put(*begun, True)
            except BaseException as error:  # Ctrl-C: nobody leaves a block that was not entered
                self.__exit__(type(error), error, None)
                raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        ended = self._end(error)
        if ended is not None:
            put(*ended, False, error)

    async def __aenter__(self) -> TrackedSpan:
        begun = self._begin()
        if begun is not None:
            try:
                await put_awaiting(*begun, True)
            except BaseException as error:  # cancelled: as above
                self.__exit__(type(error), error, None)
                raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        ended = self._end(error)
        if ended is not None:
            await put_awaiting(*ended, False, error)

    @property
    def is_nobodys(self) -> bool:
        """Whether nothing is tracked."""
        return self._owner is None

    def resume(self, inner: Here) -> None:
        """Note that its own code goes on in the LangChain run of this moment, whatever ran before.

        Args:
            inner: The innermost span in it, or itself.
        """
        inside: list[Here] = []
        here: Here | None = inner
        while here is not None:
            inside.append(here)
            if here is self._here:
                for one in inside:
                    one.within = one.owner._running()
                return
            here = here.outer

    # -- inside -------------------------------------------------------------------------------

    def _begin(self) -> tuple[Sink, Body] | None:
        """Start it, and be what is around from here on; return the event that is to be stored, and
        where."""
        if self._entered:
            raise StateError("this span was entered before: call span(...) for each block")
        self._entered = True
        owner = self._owner
        if owner is None:
            return None
        sink, here = owner._sink, Here(uuid4(), owner)
        self._here = here
        body = None
        try:
            if not (is_own() and sink.leaves_out()):
                body = self._start(sink, here)
                self._trace_id = sink.capture.events.spans.trace_of(here.span_id, None)
        except Exception as error:
            sink.capture_failed("span", error)
        here.enter()
        self._inputs = None  # stored: the span may be open for long
        return None if body is None else (sink, body)

    def _end(self, error: BaseException | None) -> tuple[Sink, Body] | None:
        """End it, and be around no longer; return the event that is to be stored, and where."""
        here, owner = self._here, self._owner
        if here is None or owner is None or not here.open:
            return None
        here.leave()
        sink, body = owner._sink, None
        if is_own() and sink.leaves_out():
            return None
        try:
            body = self._stop(sink, here.span_id, error)
        except Exception as failure:
            sink.capture_failed("span", failure)
        return None if body is None else (sink, body)

    def _start(self, sink: Sink, here: Here) -> Body | None:
        events = sink.capture.events
        parent = here.within
        if parent is not None and events.spans.known(parent) is None:
            parent = None  # a chain that is not tracked here
        metadata, apart = self._metadata, self._called_by is not None
        if apart:  # the service's trace, not that of what waits for its messages
            parent, metadata = None, {**(metadata or {}), KEY: str(self._called_by)}
        inputs, data = self._inputs, {}
        if self._kind not in _OWN_EVENTS:
            data["run_type"] = self._kind
        elif self._kind == "retriever" and not isinstance(inputs, Mapping):
            inputs = {"query": inputs}
        return events.start(
            f"{self._event}_start", here.span_id, parent, self.name, self._tags, metadata, inputs,
            None, data, apart=apart,
        )  # fmt: skip

    def _stop(self, sink: Sink, span_id: UUID, error: BaseException | None) -> Body | None:
        outputs, said = self.outputs, self.said
        if error is not None:
            said = said if outputs is None else {**said, "outputs": outputs}
            return sink.capture.events.error(f"{self._event}_error", error, span_id, **said)
        if self._event == "tool":
            return sink.capture.on_tool_end(outputs, run_id=span_id, **said)
        if self._event == "retriever" and not isinstance(outputs, Mapping):
            outputs = {"documents": outputs}
        return sink.capture.events.end(f"{self._event}_end", span_id, None, None, outputs, {**said})

    @property
    def _event(self) -> str:
        return self._kind if self._kind in _OWN_EVENTS else "chain"


def put(sink: Sink, body: Body, sheddable: bool, cause: object = None) -> None:
    """Store an event; wait for room in this thread, unless an event loop runs in it.

    Args:
        sink: Where it goes.
        body: The event.
        sheddable: It is dropped first where there is little room.
        cause: The exception that it tells of.
    """
    if sink.put_nowait(body, sheddable):
        return
    if _runs_a_loop():
        sink.put_without_waiting(body, sheddable)
    else:
        sink.put_blocking(body, sheddable, cause)


async def put_awaiting(sink: Sink, body: Body, sheddable: bool, cause: object = None) -> None:
    """Store an event; await room for it. The arguments are those of ``put``."""
    if not sink.put_nowait(body, sheddable):
        await sink.put(body, sheddable, cause)


def text_of(name: object) -> str:
    """Return a name as the text that it is stored as, whatever was given. Raises nothing."""
    return name if type(name) is str else safe_str(name)


def _runs_a_loop() -> bool:
    # Who has not imported it runs no loop of it.
    events = modules.get("asyncio.events")
    return events is not None and events._get_running_loop() is not None
