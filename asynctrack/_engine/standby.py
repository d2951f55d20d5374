"""While there is no worker: what keeps events safe then, done in the threads that track.

No thread or no descriptor may be left where a tracker is entered, the interpreter may end, or the
worker has met an error of ours. Events go to disk all the same, segment by segment, in a
millisecond each; the next tracker delivers them, or the worker that is to be had later.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import Final

from asynctrack._buffer.buffer import Buffer
from asynctrack._common.notices import warn
from asynctrack._engine.closing import Closing
from asynctrack._spool.keeper import RETRY, Keeper

_NO_DESCRIPTOR: Final = {errno.EMFILE, errno.ENFILE}


class Standby:
    """Stands in for the worker. One thread at a time.

    Args:
        buffer: Where events wait.
        keeper: The spool, or None where there is none.
        closing: How a writer closes.
        monotonic: The clock, in seconds.
    """

    def __init__(
        self,
        *,
        buffer: Buffer,
        keeper: Keeper | None,
        closing: Closing,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._buffer = buffer
        self._keeper = keeper
        self._closing = closing
        self._monotonic = monotonic
        self._again = 0.0
        self._refusal_told = False
        self.cause: BaseException | None = None
        """Why there is no worker, where that is not how it should be."""
        self.told = False
        """Whether it was said that there is none."""
        self.where_told = False
        """Whether it was said where events are meanwhile: on disk."""

    @property
    def keeps(self) -> bool:
        """Whether there is a disk to keep events on."""
        return self._keeper is not None

    def supply(self) -> None:
        """Bring to disk what waits for it, as far as it takes it. Blocks for milliseconds."""
        refused: OSError | None = None
        self._buffer.finish()
        if self._keeper is not None and self._monotonic() >= self._again:
            refused = self._keeper.supply_now()
            if refused is not None:
                self._again = self._monotonic() + RETRY
            else:
                self._refusal_told = False
        if self.cause is None:
            return  # the worker meets the same disk, and tells
        self._buffer.dismiss("buffer_full")  # whoever waits for room would wait for a worker
        if not self.told:
            self.told = True
            self._tell(self.cause, refused)
        elif refused is not None and self._keeper is not None and not self._refusal_told:
            self._keeper.tell(refused)
        self._refusal_told = self._refusal_told or refused is not None

    def close(self) -> None:
        """Close the writer: what the disk takes is there, what it refuses is lost. Blocks."""
        self._closing.without_worker()

    def _tell(self, cause: BaseException, refused: OSError | None) -> None:
        if self._keeper is None:
            where = "in memory, as durability='memory' says"
        elif refused is not None:
            where = f"in memory: its spool {self._keeper.path} takes nothing ({refused.strerror})"
        else:
            self.where_told = True
            where = f"on disk in {self._keeper.path}, where the next tracker finds them"
        warn(
            "asynctrack has no worker (%s): nothing is delivered. Events wait %s, and what finds no"
            " room is dropped and counted. A worker is tried again; %s.",
            cause_of(cause),
            where,
            _what_to_do(cause),
        )


def cause_of(error: BaseException) -> str:
    """Return in words why there is no worker."""
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


def _what_to_do(cause: BaseException) -> str:
    if isinstance(cause, OSError) and cause.errno in _NO_DESCRIPTOR:
        return "raise the limit of open files (ulimit -n), or look for what leaves them open"
    if "shutdown" in str(cause):
        return "enter the tracker before the program ends"
    if "event loop" in str(cause):
        return "what makes threads run in another one's event loop has to let asynctrack's alone"
    return (
        "raise the limit of threads (ulimit -u, or the container's limit of pids and memory), or"
        " look for what starts so many"
    )
