"""What is open around a call: the spans of the user's own code, by context variable.

LangChain tells a callback which run it is in, and knows nothing of our spans. A span remembers the
run in which it was opened. So the parent of whatever starts is the innermost of our spans that was
opened in the run that LangChain names, and that run itself where there is none.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Final, Protocol
from uuid import UUID


class Owner(Protocol):
    """The handler that a span goes to."""

    def _running(self) -> UUID | None:
        """Return LangChain's run that this is called in; None outside of any."""


class Here:
    """A span of the user's code that is open around a call, in this context and its copies.

    Args:
        span_id: The span.
        owner: The handler that it goes to.

    Attributes:
        within: LangChain's run in which it was opened; None outside of any.
        outer: The span around it.
        open: Whether its block goes on. A task that was started in the block may outlive it.
    """

    __slots__ = ("open", "outer", "owner", "span_id", "within")

    def __init__(self, span_id: UUID, owner: Owner) -> None:
        self.span_id = span_id
        self.owner = owner
        self.outer = _current.get()
        self.within = owner._running()
        self.open = True

    def parent_of(self, given: UUID | None, known: Callable[[UUID], object]) -> UUID | None:
        """Return the parent of what starts here; None for the one that LangChain gives.

        Args:
            given: LangChain's run that it is in; None where it says of none.
            known: Finds a span that a tracker has seen. Another tracker's are no parents.
        """
        run = given
        if run is None:
            run = self.owner._running()
            if run is not None and known(run) is None:
                run = None
        here: Here | None = self
        while here is not None:
            if (run is None or here.within == run) and known(here.span_id) is not None:
                return here.span_id
            here = here.outer
        return run if given is None else None

    def enter(self) -> None:
        """Make it what is around from here on."""
        _current.set(self)

    def leave(self) -> None:
        """End it: what was around it is around from here on.

        A framework may leave a block in another context than it was entered in. Nothing is to be
        put back there.
        """
        self.open = False
        here = _current.get()
        if here is self:
            while here is not None and not here.open:
                here = here.outer
            _current.set(here)


def around(run: UUID | None, known: Callable[[UUID], object]) -> UUID | None:
    """Return the span that a call is in, one of the user's code or a run of LangChain's.

    Args:
        run: LangChain's run that it is in; None outside of any.
        known: Finds a span that a tracker has seen; others do not count.
    """
    innermost = here()
    if innermost is not None:
        return innermost.parent_of(None, known)
    return None if run is None or known(run) is None else run


_current: Final[ContextVar[Here | None]] = ContextVar("asynctrack_span", default=None)

here: Final = _current.get
"""Returns what is around; None outside of any span of the user's code. It takes a hundredth of a
microsecond, so ask it at each start."""
put_here: Final = _current.set
"""Sets what is around, for who goes in and out of a span: a generator."""
