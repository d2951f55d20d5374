"""Keeps the buffer supplied with segments, and the spool in order; driven by the worker.

Making a segment asks the disk, so it happens here, in the worker's thread, and ahead of time: a
callback only ever writes a line into pages that are in memory already. Where the disk refuses
(full, gone, read-only), events stay in memory within the buffer's bound, and it is tried again.
"""

from __future__ import annotations

import errno
import shutil
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import anyio

from asynctrack._buffer.buffer import Buffer
from asynctrack._buffer.store import SegmentPiece
from asynctrack._common.artifact import Batch
from asynctrack._common.notices import Notices
from asynctrack._common.offload import offload
from asynctrack._spool.folder import (
    SpoolBusyError,
    WriterFolder,
    bury,
    divide,
    make_place,
    sync_folder,
    used_bytes,
)
from asynctrack._spool.layout import SpoolPlace, usable_spools, writer_folder
from asynctrack._spool.segment import Segment

RETRY: Final = 1.0
"""Seconds between two tries to get a segment from a disk that refuses."""
KEEP_FREE: Final = 512 * 1024 * 1024
"""Bytes of the disk that the spool leaves to others; of a small one an eighth of it."""
COMMIT_INTERVAL: Final = 0.01
"""Seconds between two commits to the disk with ``durability="power"``: one for all events."""
HELD_PIECES: Final = 4
"""Full segments whose files stay open while they wait, so that they are read also where somebody
removes them. Further ones are opened again: descriptors are the program's."""
_BUSY_TRIES: Final = 50
_BUSY_WAIT: Final = 0.01
"""How often, and after how many seconds, a new folder is tried again that somebody else looks at:
a replay that comes between its making and its locking takes it for left behind, and deletes it."""


_told: set[str] = set()
"""Which moves to another place were told in this process: once, however many trackers it has."""


class _SpoolFullError(OSError):
    """The user's own bound of the spool is reached: no other place is meant then."""


class Keeper:
    """The spool of one writer.

    Each segment is made in the first place that takes it: where the best one is full, read-only,
    somebody else's or of a file system that lacks something, the next best is better than memory.

    Args:
        places: Returns where the spool may be, the best place first. Asked for each segment, as
            the process may be another user's by then.
        writer_id: Whose it is.
        info: Where the events belong, for a replay; no secrets.
        buffer: What wants segments.
        notices: Rate-limited warnings.
        max_spool_bytes: Bound of the whole spool, in bytes.
        power: Whether what was accepted is committed to the disk every ``COMMIT_INTERVAL``.
        sleep: Waits, in seconds.
    """

    def __init__(
        self,
        *,
        places: Callable[[], Sequence[SpoolPlace]],
        writer_id: str,
        info: Callable[[], Mapping[str, Any]],
        buffer: Buffer,
        notices: Notices,
        max_spool_bytes: int,
        power: bool,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self._places = places
        self._writer_id = writer_id
        self.path = writer_folder(places()[0].path, writer_id)
        """The writer's folder in the place that took its last segment."""
        self._info = info
        self._buffer = buffer
        self._notices = notices
        self._max_spool_bytes = max_spool_bytes
        self._power = power
        self._sleep = sleep
        self._folders: dict[Path, WriterFolder] = {}
        self._used: dict[Path, None] = {}
        self._sealed: set[Segment] = set()  # until they are settled: no longer in the buffer
        self._closed = False
        # One thread at a time makes segments. Re-entrant: a finalizer may close the tracker.
        self._making = threading.RLock()

    @property
    def where(self) -> str:
        """The writer's folders that took segments, for a message."""
        return " and ".join(map(str, self._used)) or str(self.path)

    async def supply(self) -> bool:
        """Make and hand over every segment that is wanted.

        Returns:
            Whether there was none wanted, or all were had; False where the disk refuses.
        """
        while self._wanted:
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
        while self._wanted:
            error = self._supply_one()
            if error is not None:
                return error
        return None

    @property
    def _wanted(self) -> tuple[int, int] | None:
        return None if self._closed else self._buffer.segment_wanted()

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
        wanted = self._wanted
        if wanted is None:
            return None  # another thread was faster
        try:
            self._hand_over(self._make(*wanted))
        except OSError as error:
            self._buffer.disk_answered(False)
            return error
        self._buffer.disk_answered(True)
        return None

    def _hand_over(self, segment: Segment) -> None:
        try:
            back = self._buffer.supply(segment)
        except OSError as error:
            _discard(segment)
            # As ``_make`` says it.
            raise OSError(error.errno, f"{segment.path.parent} ({error.strerror})") from error
        if back is not None:
            _discard(back)

    def _give_up_failed(self) -> None:
        for segment in self._buffer.take_failed():
            self._give_up(segment)

    def _give_up(self, segment: Segment) -> None:
        """Look at a segment that takes no more lines, because of the disk or others. Blocks."""
        if not segment.events:
            _discard(segment)  # a spare: nothing is lost by that
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

    def _tell_of_move(self, what: str) -> None:
        if what in _told:
            return
        _told.add(what)
        self._notices.warn(
            "spool moved",
            f"asynctrack cannot write to its spool {what} until they are delivered; this user's"
            " next tracker and the asynctrack command look there as well. To choose a folder that"
            " lasts and that this user may write to: spool_dir=… or ASYNCTRACK_SPOOL_DIR",
        )

    async def describe(self) -> None:
        """Write down where the events belong, once more: it may be known better now."""
        for folder in [*self._folders.values()]:
            try:
                await offload(self._describe, folder)
            except OSError:
                pass  # the next segment meets the same disk, and tells

    async def seal(self, piece: SegmentPiece) -> None:
        """Mark a piece as complete, before anything of it is uploaded."""
        self._sealed.add(piece.segment)
        try:
            await offload(self._seal, piece.segment)
        except OSError as error:
            self._notices.warn(
                "spool",
                f"asynctrack's spool {piece.segment.path.parent} is in trouble"
                f" ({error.strerror}); the events in it are uploaded as far as they can be read.",
            )

    async def settled(self, piece: SegmentPiece) -> None:
        """Delete a piece that was acknowledged, or whose rest was buried."""
        segment = piece.segment

        def remove() -> None:
            self._sealed.discard(segment)  # its file is closed, whatever the disk says
            segment.remove()
            segment.path.with_suffix(".parts").unlink(missing_ok=True)

        try:
            await offload(remove)
        except OSError:
            pass  # a replay writes the same object again: nothing is lost and nothing doubled

    async def divide(self, piece: SegmentPiece, first_seq: int) -> None:
        """Note that a piece becomes another artifact from this number on: see ``_spool.divide``."""
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
        while self._power:
            await self._sleep(COMMIT_INTERVAL)
            for segment in self._buffer.segments():
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
            _discard(spare)
        segments = [*self._sealed, *self._buffer.segments()]
        for folder in [*self._folders.values()] if segments else []:
            try:
                if not folder.path.is_dir():
                    self._own_again(folder)
            except OSError:
                pass  # there is no place for them
        for segment in segments:
            try:
                if segment.held and not segment.path.exists():
                    segment.save_again()  # somebody removed it, and it was not delivered
                segment.trim()
            except OSError:
                pass  # an untrimmed segment is read just as well
            finally:
                segment.let_go()
        for folder in self._folders.values():
            folder.close()

    def abandon(self) -> None:
        """Leave all to the parent: in the child of a fork."""
        for folder in self._folders.values():
            folder.abandon()

    # -- in a thread --------------------------------------------------------------------------

    def _make(self, capacity: int, max_events: int) -> Segment:
        """Make a segment in the first place that takes it.

        Raises:
            OSError: None does; the text names each, and why.
        """
        places = self._places()
        failed: list[str] = []
        for place in places:
            try:
                segment = self._make_in(place, capacity, max_events)
            except OSError as error:
                failed.append(f"{place.path} ({error.strerror or error})")
                if isinstance(error, _SpoolFullError) or place.last:
                    break
                continue
            self.path = segment.path.parent
            self._used[self.path] = None
            if failed:
                self._tell_of_move(f"{'; '.join(failed)}: events wait in {place.path}")
            return segment
        raise OSError(errno.EIO, "; ".join(failed))

    def _make_in(self, place: SpoolPlace, capacity: int, max_events: int) -> Segment:
        path = writer_folder(place.path, self._writer_id)
        folder = self._folders.get(path)
        if folder is None:
            make_place(place)
            folder = self._own(path, 0)
        elif not folder.owned or not path.is_dir():
            folder = self._own_again(folder)
        usage = shutil.disk_usage(path)
        keep_free = min(KEEP_FREE, usage.total // 8)
        if usage.free - capacity < keep_free:
            raise OSError(
                errno.ENOSPC, f"less than {keep_free} bytes would be left free on the disk"
            )
        if sum(map(used_bytes, usable_spools(self._places()))) + capacity > self._max_spool_bytes:
            raise _SpoolFullError(
                errno.EDQUOT,
                f"the spool holds max_spool_bytes={self._max_spool_bytes}; each open tracker takes"
                f" two segments of {capacity} bytes of it: with many at a time make"
                " max_batch_bytes smaller",
            )
        segment = folder.new_segment(capacity, max_events)
        if self._power:
            try:
                # The zeros it was made with, now: not with the first events' commit.
                segment.write_through()
                sync_folder(path)
            except OSError:
                segment.remove()
                raise
        return segment

    def _own_again(self, folder: WriterFolder) -> WriterFolder:
        """Begin anew, with a new lock, where folder or lock was taken from under our hands.

        Numbers go on, as segments that were in it rename and delete by number in the end.
        """
        after = folder.last_ordinal
        removed = not folder.path.is_dir()
        folder.abandon()
        del self._folders[folder.path]
        owned = self._own(folder.path, after)
        if removed:
            self._notices.warn(
                "spool",
                f"asynctrack's spool {folder.path} was removed while it was in use. It is made"
                " anew; what was in it is uploaded as far as its files are still open.",
            )
        return owned

    def _own(self, path: Path, after: int) -> WriterFolder:
        """Make the folder, and say in it where the events belong.

        Raises:
            OSError: The disk refuses; nothing is held then.
        """
        for _ in range(_BUSY_TRIES):
            try:
                folder = WriterFolder(path, after=after)
                break
            except (SpoolBusyError, FileNotFoundError):
                time.sleep(_BUSY_WAIT)
        else:
            raise OSError(errno.EBUSY, "another process holds the lock of this very writer")
        try:
            self._describe(folder)
            if self._power:
                sync_folder(path.parent)
        except BaseException:
            folder.close()
            raise
        self._folders[path] = folder
        return folder

    def _describe(self, folder: WriterFolder) -> None:
        folder.describe(dict(self._info()), sync=self._power)

    def _seal(self, segment: Segment) -> None:
        if self._power:
            segment.sync()
        segment.seal()
        if self._power:
            sync_folder(segment.path.parent)

    def _let_go(self, segment: Segment) -> None:
        try:
            if not segment.path.exists():
                segment.save_again()  # somebody removed it
            if self._power:
                segment.sync()
        except OSError:
            return  # in the file that is open it is at least as safe
        segment.let_go()


def _discard(segment: Segment) -> None:
    try:
        segment.remove()
    except OSError:
        pass  # a replay finds an empty segment and deletes it
