"""Keeps the buffer supplied with segments, and the spool in order; driven by the worker.

Making a segment asks the disk, so it happens here, in the worker's thread, and ahead of time: a
callback only ever copies into memory that is mapped already. Where the disk refuses (full, gone,
read-only), events stay in memory within the buffer's bound, and it is tried again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

import anyio.to_thread

from asynctrack._artifact import Batch
from asynctrack._buffer import Buffer
from asynctrack._notices import Notices
from asynctrack._segment import Segment
from asynctrack._spool import WriterFolder, bury, used_bytes, writer_folder
from asynctrack._store import SegmentPiece

RETRY: Final = 1.0
"""Seconds between two tries to get a segment from a disk that refuses."""
KEEP_FREE: Final = 512 * 1024 * 1024
"""Bytes of the disk that the spool leaves to others."""
COMMIT_INTERVAL: Final = 0.01
"""Seconds between two commits to the disk with ``durability="power"``: one for all events."""
MAPPED_PIECES: Final = 4
"""Full segments that stay mapped while they wait; further ones are read back from disk."""


class Keeper:
    """The spool of one writer.

    Args:
        spool_dir: The spool's folder.
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
        spool_dir: Path,
        writer_id: str,
        info: Callable[[], Mapping[str, Any]],
        buffer: Buffer,
        notices: Notices,
        max_spool_bytes: int,
        power: bool,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self.path = writer_folder(spool_dir, writer_id)
        self.spool_dir = spool_dir
        self._info = info
        self._buffer = buffer
        self._notices = notices
        self._max_spool_bytes = max_spool_bytes
        self._power = power
        self._sleep = sleep
        self._folder: WriterFolder | None = None

    async def supply(self) -> bool:
        """Make and hand over every segment that is wanted.

        Returns:
            Whether there was none wanted, or all were had; False where the disk refuses.
        """
        while (wanted := self._buffer.segment_wanted()) is not None:
            try:
                segment = await anyio.to_thread.run_sync(self._make, *wanted)
            except OSError as error:
                self._notices.warn(
                    "spool",
                    f"asynctrack cannot write to its spool {self.path} ({error.strerror}):"
                    " events wait in memory only, within max_buffer_bytes, and are dropped and"
                    " counted beyond it. It is tried again; make room, or set spool_dir=…",
                )
                return False
            back = self._buffer.supply(segment)
            if back is not None:
                await anyio.to_thread.run_sync(back.remove)
        return True

    async def describe(self) -> None:
        """Write down where the events belong, once more: it may be known better now."""
        if self._folder is not None:
            try:
                await anyio.to_thread.run_sync(self._folder.describe, dict(self._info()))
            except OSError:
                pass  # the next segment meets the same disk, and tells

    async def seal(self, piece: SegmentPiece) -> None:
        """Mark a piece as complete, before anything of it is uploaded."""
        try:
            await anyio.to_thread.run_sync(self._seal, piece.segment)
        except OSError as error:
            self._notices.warn(
                "spool",
                f"asynctrack's spool {self.path} is in trouble ({error.strerror}); the events in"
                " it are uploaded from memory.",
            )

    async def settled(self, piece: SegmentPiece) -> None:
        """Delete a piece that was acknowledged, or whose rest was buried."""
        try:
            await anyio.to_thread.run_sync(piece.segment.remove)
        except OSError:
            pass  # a replay writes the same object again: nothing is lost and nothing doubled

    async def bury(self, batch: Batch, reason: str) -> None:
        """Set events aside that the backend refuses for good, with the reason."""
        try:
            await anyio.to_thread.run_sync(bury, self.path, batch, reason)
        except OSError as error:
            self._notices.warn(
                "spool",
                f"asynctrack could not set dead letters aside in {self.path}"
                f" ({error.strerror}): they are lost.",
            )

    async def commit(self) -> None:
        """Commit to the disk what was accepted, again and again; for ``durability="power"``."""
        done: dict[Path, int] = {}
        while self._power:
            await self._sleep(COMMIT_INTERVAL)
            for segment in self._buffer.segments():
                events = segment.events
                if done.get(segment.index_path) == events:
                    continue
                try:
                    await anyio.to_thread.run_sync(segment.sync)
                except (OSError, ValueError) as error:
                    # A failed sync must not be repeated on the same file: the kernel may have
                    # dropped the pages and would report success. ValueError: sealed meanwhile.
                    if isinstance(error, OSError):
                        self._notices.warn(
                            "commit",
                            f"asynctrack could not commit to the disk ({error.strerror}); what"
                            " was accepted survives the process but perhaps not a power failure.",
                        )
                done = {**done, segment.index_path: events} if len(done) < 1000 else {}

    async def unmap_waiting(self) -> None:
        """Let go of the memory of full segments that will not be uploaded soon."""
        for segment in self._buffer.segments()[MAPPED_PIECES:-1]:
            if segment.mapped:
                await anyio.to_thread.run_sync(segment.unmap)

    def close(self) -> None:
        """Give back what is not used; what was not delivered stays on disk. Blocks."""
        spare = self._buffer.take_spare()
        try:
            if spare is not None:
                spare.remove()
            for segment in self._buffer.segments():
                if segment.mapped:
                    segment.trim()
        except OSError:
            pass  # untrimmed segments are read just as well
        if self._folder is not None:
            self._folder.close()

    # -- in a thread --------------------------------------------------------------------------

    def _make(self, capacity: int, max_events: int) -> Segment:
        if self._folder is None:
            folder = WriterFolder(self.path)
            folder.describe(self._info())
            self._folder = folder
        elif not self.path.is_dir():
            # The folder was removed under our hands: begin anew, with a new lock.
            self._folder.abandon()
            self._folder = None
            return self._make(capacity, max_events)
        free = shutil.disk_usage(self.path).free
        if free - capacity < KEEP_FREE:
            raise OSError(28, f"less than {KEEP_FREE} bytes would be left free on the disk")
        if used_bytes(self.spool_dir) + capacity > self._max_spool_bytes:
            raise OSError(122, f"the spool holds max_spool_bytes={self._max_spool_bytes}")
        return self._folder.new_segment(capacity, max_events)

    def _seal(self, segment: Segment) -> None:
        if self._power and segment.mapped:
            segment.sync()
        segment.seal()
        if self._power:
            _sync_folder(self.path)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
