"""Runs that use the id of a run that is still open: each becomes a span of its own.

A program may pass one ``run_id`` to two calls at the same time. Then LangChain's callbacks of both
name the same run. They differ in the context in which they come: what the second one calls comes in
a copy of the context in which it started. So the new id is kept there.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from uuid import UUID, uuid4

_Key = tuple[int, UUID]
_renamed: ContextVar[Mapping[_Key, UUID]] = ContextVar("asynctrack_renamed")


class Doubles:
    """The new ids of one tracker's runs.

    Attributes:
        open: The runs that are open, by their new ids: their own id, and what LangChain calls their
            parent. With none there is nothing to ask.
    """

    def __init__(self) -> None:
        self.open: dict[UUID, tuple[UUID, UUID | None]] = {}

    def begin(self, run_id: UUID, parent_run_id: UUID | None) -> UUID:
        """Give a run a new id, in this context and what copies it."""
        new = uuid4()
        renamed = _renamed.get({}).items()
        kept = {key: one for key, one in renamed if key[0] != id(self) or one in self.open}
        self.open[new] = (run_id, parent_run_id)
        _renamed.set({**kept, (id(self), run_id): new})
        return new

    def of(self, run_id: UUID) -> UUID:
        """Return the id that a run has in this context."""
        new = _renamed.get({}).get((id(self), run_id), run_id)
        return new if new in self.open else run_id

    def end(self, run_id: UUID, parent_run_id: UUID | None) -> UUID:
        """Return the id that a run has in this context, which ends here."""
        new = self.of(run_id)
        if new is run_id and parent_run_id is not None:
            # LangChain called the start in a context of its own. What is called in something else
            # than the first run of this id is known by that.
            came = (run_id, parent_run_id)
            new = next((one for one, run in list(self.open.items()) if run == came), run_id)
        # LangChain calls this in a task of its own, whose context nobody sees: it stays there.
        self.open.pop(new, None)
        return new
