"""Sampling: which traces are kept, decided once for each, at its root.

The decision is the trace id's: a hash of it, taken as a number from 0 to 1, is below the rate or
not. So it is the same in every process, and the traces of a lower rate are among those of a higher.
It is the id's hash and not the id: LangChain's begin with the time.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID

from asynctrack._common import marker
from asynctrack._options import Root, Sample

_HASHES: Final = 1 << 64


class Fate:
    """What becomes of a trace; its spans share it. One that is simply kept has none.

    Attributes:
        left_out: Whether it is left out; None as long as that is open.
    """

    __slots__ = ("left_out",)

    def __init__(self, left_out: bool | None) -> None:
        self.left_out = left_out


class Held(Fate, ABC):
    """The fate of a trace that is held until its root ends, and kept if that fails."""

    __slots__ = ()

    @abstractmethod
    def put(self, body: Any, measured: Callable[[], None] | None) -> bool:
        """Hold an event.

        Args:
            body: The event.
            measured: Counts it for the Run; called if it is kept.

        Returns:
            Whether it is to be accepted now, as the trace is kept; False where it is held, or left
            out.
        """

    @abstractmethod
    def root_ended(self, *, failed: bool) -> None:
        """Decide: the trace is kept if it has failed."""


LEFT_OUT: Final = Fate(left_out=True)
"""Of all traces whose sample leaves them out, whatever comes of them."""


def share(trace_id: object) -> float:
    """Return the number from 0 to 1 that stands for a trace: below its rate, it is kept.

    Args:
        trace_id: LangChain's run id of the root, or its text.
    """
    if not isinstance(trace_id, UUID):
        try:
            trace_id = UUID(str(trace_id))
        except ValueError:
            text = str(trace_id).encode("utf-8", "surrogatepass")
            return int.from_bytes(blake2b(text, digest_size=8).digest(), "big") / _HASHES
    return int.from_bytes(blake2b(trace_id.bytes, digest_size=8).digest(), "big") / _HASHES


class Sampling:
    """Decides about traces, and counts what is left out.

    Args:
        sample: The rate, or a function that returns it for a root.
        warn: Tells the user of a function that fails; called once.
        hold: Begins to hold a trace until its end is known; None where failed ones are not kept.
    """

    def __init__(
        self,
        sample: Sample,
        warn: Callable[[str], None],
        hold: Callable[[], Fate] | None = None,
    ) -> None:
        self._rate = None if callable(sample) else float(sample)
        self._function = sample if callable(sample) else None
        self._warn = warn
        self._told = False
        self._hold = hold
        self._lock = threading.RLock()  # re-entrant: a finalizer may end a span while it is held
        self.traces_kept = 0
        """Traces that the sample keeps."""
        self.traces_left_out = 0
        """Traces that were left out, of which nothing is known any more."""
        self.events = 0
        """Their events."""

    def begin(
        self,
        trace_id: UUID,
        name: str | None,
        tags: Sequence[str] | None,
        metadata: Mapping[str, Any] | None,
    ) -> tuple[Fate | None, dict[str, Any]]:
        """Decide about a trace that begins. Raises nothing.

        Returns:
            Its fate, and what its first event says of it.
        """
        rate = self._rate
        if rate is None:
            rate = self._asked(name, tags, metadata)
        mark: dict[str, Any] = {"rate": rate}
        if self._hold is not None:
            mark["keep_errors"] = True
        if rate >= 1 or share(trace_id) < rate:
            with self._lock:
                self.traces_kept += 1
            return None, mark
        if self._hold is not None:
            return self._hold(), mark
        self.leave_out(traces=1)
        return LEFT_OUT, mark

    def leave_out(self, events: int = 0, traces: int = 0) -> None:
        """Count what is left out."""
        with self._lock:
            self.events += events
            self.traces_left_out += traces

    def described(self) -> dict[str, Any]:
        """Return what the manifest says of it."""
        return {
            "rate": self._rate,  # None: a function's, which each trace tells
            "keep_errors": self._hold is not None,
            "traces_kept": self.traces_kept,
            "traces_left_out": self.traces_left_out,
            "events_left_out": self.events,
        }

    def _asked(
        self, name: str | None, tags: Sequence[str] | None, metadata: Mapping[str, Any] | None
    ) -> float:
        """Return what the user's function says; where it fails, that all is kept."""
        assert self._function is not None
        try:
            root = Root(name, tuple(tags or ()), MappingProxyType(dict(metadata or {})))
            said = self._function(root)
            number = isinstance(said, (bool, int, float))
            if number and 0 <= said <= 1:
                return float(said)
            what = f"{float(said):g}" if number else marker.type_name(said)
            self._tell(f"it returned {what}, not True, False or a number from 0 to 1")
        except Exception as error:
            self._tell(f"it raised {type(error).__name__}")
        return 1.0

    def _tell(self, why: str) -> None:
        if self._told:
            return
        self._told = True
        self._warn(
            f"asynctrack could not ask the function given as sample= about a trace: {why}. The"
            " trace is kept, and so is each further one of which it says nothing."
        )
