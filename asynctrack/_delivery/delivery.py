"""One piece on its way: batch, artifact, receipt; and what is told and kept where one is refused.

What is too large is halved until it passes. What the backend refuses for good is buried in the
spool, with the reason, and counted. What goes on failing leaves its slot to others while it waits.
Where others have cut a file of the spool short, what is left of it is delivered, the rest counted.
"""

from __future__ import annotations

import asyncio
import errno
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from asynctrack._buffer.buffer import Buffer
from asynctrack._buffer.store import MemoryPiece, SegmentPiece
from asynctrack._common.artifact import Artifact, Receipt
from asynctrack._common.live import LiveTraces
from asynctrack._common.notices import Notices
from asynctrack._common.offload import offload
from asynctrack._delivery.encode import encode_batch
from asynctrack._delivery.gate import Gate
from asynctrack._delivery.parts import Content, Part, Work
from asynctrack._delivery.upload import DeferredError, Uploader
from asynctrack._errors import BackendError, PermanentError
from asynctrack._spool.keeper import Keeper

AGAIN: Final = 0.5
"""Seconds until a piece is read again for which there was no descriptor or no memory."""
_USED_UP: Final = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
_TOLD: Final = 10
"""Ranges of lost events that are named in a message."""


class Outcome(Protocol):
    """Learns what became of events."""

    def delivered(self, receipt: Receipt) -> None:
        """Note an artifact that is stored."""

    def refused(self, first_seq: int, last_seq: int) -> None:
        """Note events that the backend refuses for good."""


class Delivery:
    """Delivers pieces, several at a time.

    Args:
        writer_id: Who accepted the events.
        buffer: Where they wait until they are settled.
        make_uploader: Returns what uploads artifacts, through a gate.
        outcome: Learns what was delivered and what was refused.
        keeper: The spool, or None where there is none.
        notices: Rate-limited warnings.
        concurrency: How many pieces are delivered at a time.
        compression: How artifacts are compressed.
        live: Gets each artifact once, before it is uploaded; None where nobody wants it.
    """

    def __init__(
        self,
        *,
        writer_id: str,
        buffer: Buffer,
        make_uploader: Callable[[Gate], Uploader],
        outcome: Outcome,
        keeper: Keeper | None,
        notices: Notices,
        concurrency: int,
        compression: str,
        live: LiveTraces | None = None,
    ) -> None:
        self._writer_id = writer_id
        self._live = live
        self._buffer = buffer
        self._make_uploader = make_uploader
        self._uploader: Uploader
        self._gate: Gate
        self._outcome = outcome
        self._keeper = keeper
        self._notices = notices
        self._slots = asyncio.Semaphore(concurrency)
        self._compression = compression
        self._again = 0  # pieces that wait for their next attempt
        self.closing = False
        """Whether the tracker closes: what is to be deleted may wait for that."""
        self.artifacts = 0
        self.bytes_delivered = 0
        self.under_way = 0
        """Bytes of the artifacts that are being uploaded."""

    def open(self, gate: Gate) -> None:
        """Get ready to deliver.

        Args:
            gate: Says how many uploads may be under way, and when one is tried again.
        """
        self._gate = gate
        self._uploader = self._make_uploader(gate)

    @property
    def retries(self) -> int:
        """Uploads tried again."""
        return self._uploader.retries if hasattr(self, "_uploader") else 0

    @property
    def passed_by_others(self) -> int:
        """Uploads that came through the same gate, also others', while none of these has to be
        tried again: its turn comes."""
        return self._gate.passed if hasattr(self, "_gate") and not self._again else 0

    async def slot(self) -> None:
        """Wait until one more may be delivered; ``deliver`` gives the slot back."""
        await self._slots.acquire()

    def give_back(self) -> None:
        """Give a slot back that was not needed."""
        self._slots.release()

    async def deliver(self, piece: MemoryPiece | SegmentPiece) -> None:
        """Deliver a piece, in a slot that was waited for, and settle it."""
        work = Work(deque([Part(piece.first_seq, piece.first_seq + piece.events - 1)]))
        while (deferred := await self._attempt(piece, work)) is not None:
            # Others first: what is repeated is a share of all requests, and what is refused for a
            # reason of its own holds up nothing else.
            # Nothing of this one is kept in memory meanwhile that was not there before.
            self._slots.release()
            self._again += 1
            try:
                await self._gate.pause(deferred.wait)
                if not self._gate.may_retry():
                    await self._gate.afford_retry()
                await self._slots.acquire()
            finally:
                self._again -= 1
        self._slots.release()

    async def _attempt(self, piece: MemoryPiece | SegmentPiece, work: Work) -> DeferredError | None:
        """Deliver what is left of a piece; return why it has to leave its slot, where it has to."""
        keeper = self._keeper if isinstance(piece, SegmentPiece) else None
        deferred: DeferredError | None = None
        content: Content | None = None
        while work.todo:
            if deferred is not None and work.todo[0].failures:
                if keeper is not None and isinstance(piece, SegmentPiece):
                    await keeper.let_go(piece)
                return deferred
            # Not kept while it is uploaded, as others wait for their turn; unless others have
            # damaged it, as it takes long then to find what is left.
            if content is None or content.whole:
                content = await self._read(piece, work)
            if not work.todo:
                break
            batch = content.batch(work.todo[0])
            artifact = encode_batch(batch, self._compression)
            if self._live is not None and not work.todo[0].shown:
                work.todo[0].shown = True
                self._live.take(artifact, batch.raw)
            del batch
            content = None if content.whole else content
            try:
                await self._upload(piece, artifact, work)
            except DeferredError as error:
                deferred = error
        refused = len(work.refused)
        buried = await self._bury(piece, work)
        if keeper is not None and isinstance(piece, SegmentPiece):
            # What was read before and cannot be read now may be there for a later tracker.
            if all(buried) and len(buried) == refused:
                await keeper.settled(piece, closing=self.closing)
            else:
                await keeper.let_go(piece)
        for (part, why), kept in zip(work.refused, buried, strict=True):
            self._outcome.refused(part.first_seq, part.last_seq)
            self._tell_refused(part, why, piece, kept=kept)
        dead = work.lost + sum(part.events for part, _ in work.refused)
        self._buffer.settle(piece, refused=dead)
        return None

    async def _bury(self, piece: MemoryPiece | SegmentPiece, work: Work) -> list[bool]:
        """Set refused events aside, also those that were in memory; tell of each whether it is."""
        if not work.refused or self._keeper is None:
            return [False] * len(work.refused)
        content = await self._read(piece, work)  # what is gone by now is not refused, but lost
        return [
            await self._keeper.bury(content.batch(part), str(why)) for part, why in work.refused
        ]

    async def _read(self, piece: MemoryPiece | SegmentPiece, work: Work) -> Content:
        """Return the lines of a piece: all, or those that others have left of it."""
        while True:
            try:
                if not isinstance(piece, SegmentPiece):
                    return Content(self._writer_id, piece)
                return await offload(self._seal_and_read, piece, work)
            except OSError as error:
                if error.errno not in _USED_UP:
                    left = dict(await offload(piece.left))
                    self._tell_lost(work.keep(left), error)
                    return Content(self._writer_id, piece, left)
            await asyncio.sleep(AGAIN)  # nothing is lost: it is there, and is read later

    def _seal_and_read(self, piece: SegmentPiece, work: Work) -> Content:
        if not work.sealed and self._keeper is not None:
            self._keeper.seal(piece)
            work.sealed = True
        return Content(self._writer_id, piece)

    async def _upload(
        self, piece: MemoryPiece | SegmentPiece, artifact: Artifact, work: Work
    ) -> None:
        """Upload the next part; in halves where it is too large.

        Raises:
            DeferredError: It waits behind the other parts, which are next.
        """
        part = work.todo[0]
        self.under_way += len(artifact.content)
        try:
            receipt = await self._uploader.upload(artifact, failures=part.failures, deferrable=True)
        except DeferredError as deferred:
            part.failures = deferred.failures
            work.todo.rotate(-1)
            raise
        except BackendError as error:
            work.todo.popleft()
            if error.too_large and part.events > 1:
                middle = part.first_seq + part.events // 2
                if isinstance(piece, SegmentPiece) and self._keeper is not None:
                    await self._keeper.divide(piece, middle)
                work.todo.appendleft(Part(middle, part.last_seq, shown=part.shown))
                work.todo.appendleft(Part(part.first_seq, middle - 1, shown=part.shown))
            elif isinstance(error, PermanentError):
                work.refused.append((part, error))
            else:  # without ``attempts`` an upload ends with nothing else
                raise
            return
        finally:
            self.under_way -= len(artifact.content)
        work.todo.popleft()
        self._outcome.delivered(receipt)
        self.artifacts += 1
        self.bytes_delivered += receipt.bytes

    def _tell_lost(self, gone: list[Part], error: OSError) -> None:
        if not gone:
            return
        for part in gone:
            self._outcome.refused(part.first_seq, part.last_seq)
        lost = sum(part.events for part in gone)
        seqs = ", ".join(f"{part.first_seq} to {part.last_seq}" for part in gone[:_TOLD])
        self._notices.warn(
            "lost",
            f"asynctrack's spool was cut short, removed or damaged by others ({error}): {lost}"
            f" events (seq {seqs}{', …' if len(gone) > _TOLD else ''}) are lost. They are counted"
            " as dead_lettered.",
        )

    def _tell_refused(
        self, part: Part, error: PermanentError, piece: MemoryPiece | SegmentPiece, *, kept: bool
    ) -> None:
        where = "They are lost."
        if kept and self._keeper is not None:
            where = (
                f"They are in {self._keeper.path}; asynctrack show --dead-letters reads them,"
                " asynctrack spool replay --dead-letters sends them again."
            )
        elif isinstance(piece, SegmentPiece):
            where = f"They stay in {piece.segment.path}, for a later tracker to send again."
        self._notices.warn(
            f"refused:{error.code}",
            f"asynctrack could not upload {part.events} events (seq {part.first_seq} to"
            f" {part.last_seq}): the backend refuses the object for good ({error}). They are"
            f" counted as dead_lettered. {where}",
        )
