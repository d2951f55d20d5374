"""A writer's folders: one in each place of the spool that took a segment of its.

Each segment is made in the first place that takes it: where the best one is full, read-only,
somebody else's or of a file system that lacks something, the next best is better than memory.
Everything here blocks, and is done in a thread.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from asynctrack._buffer.segment import Segment
from asynctrack._common.notices import Notices
from asynctrack._spool.descriptor import require_number
from asynctrack._spool.folder import SpoolBusyError, WriterFolder, make_place, sync_folder
from asynctrack._spool.layout import HELD, SpoolPlace, usable_spools, writer_folder
from asynctrack._spool.segment import Shape
from asynctrack._spool.usage import Usage

KEEP_FREE: Final = 512 * 1024 * 1024
"""Bytes of the disk that the spool leaves to others; of a small one an eighth of it."""

_told: set[str] = set()
"""Which moves to another place were told in this process: once, however many trackers it has."""


class _SpoolFullError(OSError):
    """The user's own bound of the spool is reached: no other place is meant then."""


class Homes:
    """The folders of one writer.

    Args:
        places: Returns where the spool may be, the best place first. Asked for each segment, as
            the process may be another user's by then.
        writer_id: Whose it is.
        info: Where the events belong, for a replay; no secrets.
        notices: Rate-limited warnings.
        usage: How much the spool holds.
        max_spool_bytes: Bound of the whole spool, in bytes.
        power: Whether what is made is to survive the power, too.
    """

    def __init__(
        self,
        *,
        places: Callable[[], Sequence[SpoolPlace]],
        writer_id: str,
        info: Callable[[], Mapping[str, Any]],
        notices: Notices,
        usage: Usage,
        max_spool_bytes: int,
        power: bool,
    ) -> None:
        self._places = places
        self._writer_id = writer_id
        self._info = info
        self._notices = notices
        self._usage = usage
        self._max_spool_bytes = max_spool_bytes
        self._power = power
        self._folders: dict[Path, WriterFolder] = {}
        self._described: dict[Path, Mapping[str, Any]] = {}
        self._used: dict[Path, None] = {}
        self._latest: Path | None = None
        self._journal_in: Path | None = None

    @property
    def path(self) -> Path:
        """The writer's folder in the place that took its last segment, or would take the first."""
        return self._latest or writer_folder(self._places()[0].path, self._writer_id)

    @property
    def where(self) -> str:
        """The writer's folders that took segments, for a message."""
        return " and ".join(map(str, self._used)) or str(self.path)

    def make(
        self,
        capacity: int,
        max_events: int,
        size: int = 0,
        events: int = 0,
        *,
        ending: str = ".open",
    ) -> Segment:
        """Make a segment in the first place that takes it; for the journal, where that is already.

        Args:
            capacity: Room for lines that it may have in the end, in bytes.
            max_events: The same, in lines.
            size: Bytes of lines that go there at once.
            events: How many these are.
            ending: Of its file's name.

        Raises:
            OSError: None does; the text names each, and why.
        """
        require_number()
        failed: list[str] = []
        places = self._places()
        for place in places:
            if ending == HELD and self._journal_in not in (None, place.path):
                continue  # whoever recovers the journal needs all of it
            try:
                segment = self._make_in(
                    place, places, Shape(capacity, max_events, size, events, ending)
                )
            except OSError as error:
                failed.append(f"{place.path} ({error.strerror or error})")
                if isinstance(error, _SpoolFullError) or place.last:
                    break
                continue
            self._latest = segment.path.parent
            self._used[self._latest] = None
            if ending == HELD:
                self._journal_in = place.path
            if failed:
                self._tell_of_move(f"{'; '.join(failed)}: events wait in {place.path}")
            return segment
        raise OSError(errno.EIO, "; ".join(failed) or str(self._journal_in))

    def grow(self, segment: Segment) -> None:
        """Claim more room for a segment that fills up.

        Raises:
            OSError: The disk, or the bound, has none.
        """
        with self._counted(segment):
            try:
                more = min(segment.claimed, segment.full - segment.claimed)
                spools = usable_spools(self._places())
                self._require_room(segment.path.parent, spools, more)
                segment.grow()
            except OSError:
                segment.stop_growing()
                raise
        self._keep_in_bounds(segment, spools)

    def filled(self, segment: Segment) -> None:
        """Note that lines went to a segment which were more by then than it was made for."""
        with self._counted(segment):
            segment.count_all()

    def removed(self, path: Path, size: int) -> None:
        """Note that a file of this writer's was deleted, or cut by so many bytes."""
        self._count(path, -size)

    @property
    def outdated(self) -> bool:
        """Whether where the events belong is known better than it is written down."""
        info = dict(self._info())
        return any(known != info for known in [*self._described.values()])

    def describe(self) -> None:
        """Write down where the events belong, where that is known better now.

        Raises:
            OSError: The disk refuses.
        """
        for folder in [*self._folders.values()]:
            info = dict(self._info())
            if self._described.get(folder.path) != info:
                folder.describe(info, sync=self._power)
                self._described[folder.path] = info

    def restore(self) -> None:
        """Make folders anew that were removed, for what is left to be put into."""
        for folder in [*self._folders.values()]:
            try:
                if not folder.path.is_dir():
                    self._own_again(folder)
            except OSError:
                pass  # there is no place for them

    def close(self) -> None:
        """Give the folders up."""
        for folder in self._folders.values():
            folder.close()

    def abandon(self) -> None:
        """Leave all to the parent: in the child of a fork."""
        for folder in self._folders.values():
            folder.abandon()

    def _make_in(self, place: SpoolPlace, places: Sequence[SpoolPlace], shape: Shape) -> Segment:
        path = writer_folder(place.path, self._writer_id)
        folder = self._folders.get(path)
        first = folder is None
        if folder is None:
            make_place(place)
            folder = self._own(path, 0)
        elif not folder.owned or not path.is_dir():
            folder = self._own_again(folder)
        spools = usable_spools(places)
        self._require_room(path, spools, shape.claim, glance=first)
        segment = folder.new_segment(shape)
        self._count(segment.path, segment.claimed)
        self._keep_in_bounds(segment, spools)
        if self._power:
            try:
                # The zeros it was made with, now: not with the first events' commit.
                segment.write_through()
                sync_folder(path)
            except OSError:
                segment.remove()
                raise
        return segment

    def _require_room(
        self, where: Path, spools: Sequence[Path], size: int, *, glance: bool = False
    ) -> None:
        """Make sure that the disk and the bound have room for so much more.

        Raises:
            OSError: One has none.
        """
        usage = shutil.disk_usage(where)
        keep_free = min(KEEP_FREE, usage.total // 8)
        if usage.free - size < keep_free:
            raise OSError(
                errno.ENOSPC, f"less than {keep_free} bytes would be left free on the disk"
            )
        if not self._usage.fits(spools, size, self._max_spool_bytes, glance=glance):
            raise _SpoolFullError(
                errno.EDQUOT, f"the spool holds max_spool_bytes={self._max_spool_bytes}"
            )

    def _keep_in_bounds(self, segment: Segment, spools: Sequence[Path]) -> None:
        """Let nothing go beyond what it has claimed, where the bound is near."""
        more = segment.full - segment.claimed
        if not self._usage.fits(spools, more, self._max_spool_bytes, glance=True):
            with self._counted(segment):
                segment.stop_growing()

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
        info = dict(self._info())
        try:
            folder = WriterFolder(path, info=info, after=after, sync=self._power)
        except SpoolBusyError:
            raise OSError(
                errno.EBUSY, "another process holds the lock of this very writer"
            ) from None
        self._folders[path], self._described[path] = folder, info
        return folder

    @contextmanager
    def _counted(self, segment: Segment) -> Iterator[None]:
        """Count what a segment claims more after the block, also where lines went beyond it."""
        before = segment.claimed
        try:
            yield
        finally:
            self._count(segment.path, segment.claimed - before)

    def _count(self, path: Path, size: int) -> None:
        self._usage.add(path.parents[2], size)

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
