"""Keeps the buffer supplied with segments, and the spool in order; driven by the worker.

Making a segment asks the disk, so it happens here, in a thread of ours, and ahead of time: a
callback only ever writes a line into pages that are in memory already. Where the disk refuses
(full, gone, read-only), events stay in memory within the buffer's bound, and it is tried again.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import anyio

from asynctrack._buffer.buffer import Buffer
from asynctrack._buffer.holding import Holding
from asynctrack._buffer.segment import Segment
from asynctrack._buffer.store import SegmentPiece
from asynctrack._common.artifact import Batch
from asynctrack._common.notices import Notices
from asynctrack._common.offload import offload
from asynctrack._spool.folder import bury, divide, sync_folder
from asynctrack._spool.homes import Homes
from asynctrack._spool.journal import Journal
from asynctrack._spool.layout import HELD

RETRY: Final = 1.0
"""Seconds between two tries to get a segment from a disk that refuses."""
COMMIT_INTERVAL: Final = 0.01
"""Seconds between two commits to the disk with ``durability="power"``: one for all events."""
FEW: Final = 2
"""Pieces that one which closes deletes at its very end, with everything else."""
HELD_PIECES: Final = 4
"""Full segments whose files stay open while they wait, so that they are read also where somebody
removes them. Further ones are opened again: descriptors are the program's."""


class Keeper:
    """The spool of one writer.

    Args:
        homes: Where segments are made.
        buffer: What wants segments.
        notices: Rate-limited warnings.
        power: Whether what was accepted is committed to the disk every ``COMMIT_INTERVAL``.
        sleep: Waits, in seconds.
        holding: Has the traces that are held until their root ends; None where none is.
        journal: Has them on disk.
    """

    def __init__(
        self,
        *,
        homes: Homes,
        buffer: Buffer,
        notices: Notices,
        power: bool,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        holding: Holding | None = None,
        journal: Journal | None = None,
    ) -> None:
        self._homes = homes
        self._buffer = buffer
        self._notices = notices
        self.power = power
        """Whether what was accepted is committed to the disk."""
        self._sleep = sleep
        self._sealed: set[Segment] = set()  # until they are settled: no longer in the buffer
        self._settled: list[Segment] = []  # to be deleted as it closes
        self._divided: set[Segment] = set()
        self._closed = False
        self._holding = holding
        self._journal = journal
        # One thread at a time makes segments. Re-entrant: a finalizer may close the tracker.
        self._making = threading.RLock()

    @property
    def path(self) -> Path:
        """The writer's folder in the place that took its last segment."""
        return self._homes.path

    @property
    def where(self) -> str:
        """The writer's folders that took segments, for a message."""
        return self._homes.where

    async def supply(self, *, for_memory: bool = False) -> bool:
        """Make and hand over every segment that is wanted.

        Args:
            for_memory: Whether only those for lines that are in memory are meant.

        Returns:
            Whether there was none wanted, or all were had; False where the disk refuses.
        """
        while self.wanted and not (for_memory and not any(self._buffer.lines_in_memory())):
            error = await offload(self._supply_one)
            if error is not None:
                self.tell(error)
                return False
        return True

    def supply_now(self) -> OSError | None:
        """Do the same in this thread, where there is no worker. Blocks for a millisecond each.

        Returns:
            What the disk says where it refuses, for who calls this to ``tell``; else None.
        """
        while self.wanted:
            error = self._supply_one()
            if error is not None:
                return error
        return None

    @property
    def wanted(self) -> bool:
        """Whether a segment is to be made, or to grow."""
        if self._closed:
            return False
        if self._buffer.segment_wanted() or self._buffer.low_segment():
            return True
        return self._journal is not None and self._journal.asks

    def _supply_one(self) -> OSError | None:
        """Take, make and hand over in one go: a cancellation in between would leave it to nobody.

        Returns:
            What the disk says where it refuses.
        """
        with self._making:
            try:
                return self._supply_next()
            finally:
                if self._closed:
                    self._close_files()  # what was made meanwhile

    def _supply_next(self) -> OSError | None:
        self._give_up_failed()
        for segment in self._buffer.segments()[HELD_PIECES:-1]:
            if segment.held:
                self._let_go(segment)
        low = self._buffer.low_segment()
        if low is not None:
            try:
                self._homes.grow(low)
            except OSError:
                pass  # it takes no more than it has: the next segment meets the same disk
        wanted = None if self._closed else self._buffer.segment_wanted()
        if wanted is None:
            # Else another thread was faster.
            return None if self._journal is None else self._serve(self._journal)
        try:
            self._hand_over(self._homes.make(*wanted, *self._buffer.lines_in_memory()))
        except OSError as error:
            self._buffer.disk_answered(False)
            return error
        self._buffer.disk_answered(True)
        return None

    def _serve(self, journal: Journal) -> OSError | None:
        """Make, let grow and delete files of the journal; return what the disk says against it."""
        while (done := journal.next_done()) is not None:
            self._discard(done)
        try:
            if (low := journal.low) is not None:
                self._homes.grow(low)
        except OSError:
            pass  # as for a segment
        wanted = None if self._closed else journal.wanted
        if wanted is None:
            return None
        try:
            segment = self._homes.make(*wanted, ending=HELD)
        except OSError as error:
            return error
        if self._holding is not None:
            self._holding.supplied(lambda: journal.take(segment))
        return None

    def _hand_over(self, segment: Segment) -> None:
        try:
            back = self._buffer.supply(segment)
        except OSError as error:
            self._discard(segment)
            # As ``Homes.make`` says it.
            raise OSError(error.errno, f"{segment.path.parent} ({error.strerror})") from error
        if back is not None:
            self._discard(back)
        else:
            self._homes.filled(segment)
            self._note_stored()

    def _give_up_failed(self) -> None:
        for segment in self._buffer.take_failed():
            self._give_up(segment)

    def _give_up(self, segment: Segment) -> None:
        """Look at a segment that takes no more lines, because of the disk or others. Blocks."""
        if not segment.events:
            self._discard(segment)  # a spare: nothing is lost by that
            return
        self._notices.warn(
            "segment",
            f"asynctrack could not go on writing {segment.path} ({segment.failed}); what is in it"
            " is delivered as far as it is there, and further events go to a new file.",
        )

    def tell(self, error: OSError) -> None:
        """Warn of a disk that refuses."""
        self._notices.warn(
            "spool",
            f"asynctrack cannot write to its spool {error.strerror}: events wait in"
            " memory only, within max_buffer_bytes, and are dropped and counted beyond it. It is"
            " tried again; make room, or set spool_dir=…",
        )

    async def describe(self) -> None:
        """Write down where the events belong, once more: it may be known better now."""
        if not self._homes.outdated:
            return
        try:
            await offload(self._homes.describe)
        except OSError:
            pass  # the next segment meets the same disk, and tells

    def cut(self, piece: SegmentPiece) -> None:
        """Note that a piece is on its way: its file is closed in the end, whatever comes of it."""
        self._sealed.add(piece.segment)

    def seal(self, piece: SegmentPiece) -> None:
        """Mark a piece as complete, before anything of it is uploaded. Blocks; raises nothing."""
        try:
            self._seal(piece.segment)
        except OSError as error:
            self._notices.warn(
                "spool",
                f"asynctrack's spool {piece.segment.path.parent} is in trouble"
                f" ({error.strerror}); the events in it are uploaded as far as they can be read.",
            )

    async def settled(self, piece: SegmentPiece, *, closing: bool = False) -> None:
        """Delete a piece that was acknowledged, or whose rest was buried.

        Args:
            piece: The piece.
            closing: Whether ``close`` follows soon, and does it then.
        """
        if closing and len(self._settled) < FEW:
            self._settled.append(piece.segment)
            return
        try:
            await offload(self._remove, piece.segment)
        except OSError:
            pass  # a replay writes the same object again: nothing is lost and nothing doubled

    async def divide(self, piece: SegmentPiece, first_seq: int) -> None:
        """Note that a piece becomes another artifact from this number on: see ``_spool.divide``."""
        self._divided.add(piece.segment)
        try:
            await offload(divide, piece.segment.path, first_seq)
        except OSError:
            pass  # what of it is stored twice in the end is folded by readers

    async def bury(self, batch: Batch, reason: str) -> bool:
        """Set events aside that the backend refuses for good, with the reason.

        Returns:
            Whether they are; where not, their segment must stay.
        """
        try:
            await offload(bury, self.path, batch, reason)
        except OSError as error:
            self._notices.warn(
                "spool",
                f"asynctrack could not set dead letters aside in {self.path} ({error.strerror}).",
            )
            return False
        return True

    async def commit(self) -> None:
        """Commit to the disk what was accepted, again and again; for ``durability="power"``."""
        done: dict[Path, int] = {}
        while self.power:
            await self._sleep(COMMIT_INTERVAL)
            held = [] if self._journal is None else self._journal.segments()
            for segment in [*self._buffer.segments(), *held]:
                events = segment.events
                if done.get(segment.path) == events:
                    continue
                try:
                    await offload(segment.sync)
                except OSError as error:
                    self._notices.warn(
                        "commit",
                        f"asynctrack could not commit to the disk ({error.strerror}); what"
                        " was accepted survives the process but perhaps not a power failure.",
                    )
                done = {**done, segment.path: events} if len(done) < 1000 else {}

    async def let_go(self, piece: SegmentPiece) -> None:
        """Close the file of a piece that will not be uploaded soon."""
        await offload(self._let_go, piece.segment)

    async def aclose(self) -> None:
        """Close in a thread."""
        self._buffer.close("worker_failed")  # before: nothing is to be accepted meanwhile
        await offload(self.close)

    def close(self) -> None:
        """Give back what is not used; what was not delivered stays on disk. Blocks.

        Nothing can be accepted any more after that.
        """
        # For a worker that fails: the others have closed it with a reason of their own.
        self._buffer.close("worker_failed")
        self._closed = True
        if self._making.acquire(blocking=False):
            try:
                self._close_files()
            finally:
                self._making.release()
        # Else the disk holds up another thread that makes a segment: it closes all in the end.

    def _close_files(self) -> None:
        self._give_up_failed()
        spare = self._buffer.take_spare()
        if spare is not None:
            self._discard(spare)
        while self._settled:
            try:
                self._remove(self._settled.pop())
            except OSError:
                pass  # as in ``settled``
        self._note_stored()
        held = [] if self._journal is None else self._journal.close()
        while self._journal is not None and (done := self._journal.next_done()) is not None:
            self._discard(done)
        segments = [*self._sealed, *self._buffer.segments(), *held]
        if segments:
            self._homes.restore()
        for segment in segments:
            try:
                if segment.held and not segment.path.exists():
                    segment.save_again()  # somebody removed it, and it was not delivered
                self._homes.removed(segment.path, segment.trim())
            except OSError:
                pass  # an untrimmed segment is read just as well
            finally:
                segment.let_go()
        self._homes.close()

    def abandon(self) -> None:
        """Leave all to the parent: in the child of a fork."""
        self._homes.abandon()

    # -- in a thread --------------------------------------------------------------------------

    def _note_stored(self) -> None:
        if self._holding is not None:
            self._holding.note_stored()

    def _remove(self, segment: Segment) -> None:
        self._note_stored()
        self._sealed.discard(segment)  # its file is closed, whatever the disk says
        self._homes.removed(segment.path, segment.claimed)
        segment.remove()
        if segment in self._divided:
            self._divided.discard(segment)
            segment.path.with_suffix(".parts").unlink(missing_ok=True)

    def _seal(self, segment: Segment) -> None:
        if self.power:
            segment.sync()
        self._homes.removed(segment.path, segment.seal())
        if self.power:
            sync_folder(segment.path.parent)

    def _let_go(self, segment: Segment) -> None:
        try:
            if not segment.path.exists():
                segment.save_again()  # somebody removed it
            if self.power:
                segment.sync()
        except OSError:
            return  # in the file that is open it is at least as safe
        segment.let_go()

    def _discard(self, segment: Segment) -> None:
        self._homes.removed(segment.path, segment.claimed)
        try:
            segment.remove()
        except OSError:
            pass  # a replay finds an empty segment and deletes it
