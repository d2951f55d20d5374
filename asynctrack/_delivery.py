"""One piece on its way: batch, artifact, receipt; and what is told and kept where one is refused.

What is too large is halved until it passes. What the backend refuses for good is buried in the
spool, with the reason, and counted. Where others have cut a file of the spool short, what is left
of it is delivered, and the rest counted.
"""

from __future__ import annotations

import asyncio
import errno
from typing import Final

from asynctrack._artifact import Batch
from asynctrack._buffer import Buffer
from asynctrack._encode import encode_batch, runs, split_batch
from asynctrack._errors import PermanentError
from asynctrack._gate import Gate
from asynctrack._keeper import Keeper
from asynctrack._notices import Notices
from asynctrack._record import Recorder
from asynctrack._store import MemoryPiece, SegmentPiece
from asynctrack._upload import DeferredError, Uploader

TOO_LARGE: Final = frozenset({"EntityTooLarge", "RequestEntityTooLarge", "413"})
"""What S3 says of an object that is too large: its halves may pass."""
_USED_UP: Final = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
"""How the system says that it has no descriptor or memory at the moment."""
AGAIN: Final = 0.5
"""Seconds until it is asked again."""
_TOLD: Final = 10
"""Ranges of lost events that are named in a message."""


class Delivery:
    """Delivers pieces, several at a time.

    Args:
        writer_id: Who accepted the events.
        buffer: Where they wait until they are settled.
        uploader: Uploads artifacts.
        recorder: Is told what was delivered and what was refused.
        keeper: The spool, or None where there is none.
        notices: Rate-limited warnings.
        gate: Says when one that has failed may be tried again.
        concurrency: How many pieces are delivered at a time.
        compression: How artifacts are compressed.
    """

    def __init__(
        self,
        *,
        writer_id: str,
        buffer: Buffer,
        uploader: Uploader,
        recorder: Recorder,
        keeper: Keeper | None,
        notices: Notices,
        gate: Gate,
        concurrency: int,
        compression: str,
    ) -> None:
        self._writer_id = writer_id
        self._buffer = buffer
        self._uploader = uploader
        self._recorder = recorder
        self._keeper = keeper
        self._notices = notices
        self._gate = gate
        self._slots = asyncio.Semaphore(concurrency)
        self._compression = compression
        self.artifacts = 0
        self.bytes_delivered = 0
        self.under_way = 0
        """Bytes of the artifacts that are being uploaded."""

    @property
    def retries(self) -> int:
        """Uploads tried again."""
        return self._uploader.retries

    async def slot(self) -> None:
        """Wait until one more may be delivered; ``deliver`` gives the slot back."""
        await self._slots.acquire()

    async def deliver(self, piece: MemoryPiece | SegmentPiece) -> None:
        """Deliver a piece, in a slot that was waited for, and settle it."""
        failures = 0
        while (failures := await self._attempt(piece, failures)) > 0:
            # Others first, that have not been tried: what is repeated is a share of all requests.
            # Nothing of this one is kept in memory meanwhile that was not there before.
            self._slots.release()
            await self._gate.afford_retry()
            await self._slots.acquire()
        self._slots.release()

    async def _attempt(self, piece: MemoryPiece | SegmentPiece, failures: int) -> int:
        """Deliver a piece; where it has to wait for a retry, return how often it has failed."""
        last_seq = piece.first_seq + piece.events - 1
        lost = 0
        try:
            batch = Batch(self._writer_id, piece.first_seq, last_seq, await self._raw(piece))
        except OSError as error:
            refused, lost = await self._deliver_left(piece, error)
        else:
            try:
                refused = await self._upload(batch, failures, deferrable=True)
            except DeferredError as deferred:
                if isinstance(piece, SegmentPiece) and self._keeper is not None:
                    await self._keeper.let_go(piece)
                return deferred.failures
        if isinstance(piece, SegmentPiece) and self._keeper is not None:
            buried = [await self._keeper.bury(part, str(why)) for part, why in refused]
            if all(buried):
                await self._keeper.settled(piece)
        for part, why in refused:
            self._recorder.refused(part.first_seq, part.last_seq)
            self._tell_refused(part, why)
        self._buffer.settle(piece, refused=lost + sum(_events(part) for part, _ in refused))
        return 0

    async def _raw(self, piece: MemoryPiece | SegmentPiece) -> bytes:
        while True:
            try:
                return piece.raw()
            except OSError as error:
                if error.errno not in _USED_UP:
                    raise
                await asyncio.sleep(AGAIN)  # nothing is lost: it is there, and is read later

    async def _deliver_left(
        self, piece: MemoryPiece | SegmentPiece, error: OSError
    ) -> tuple[list[tuple[Batch, PermanentError]], int]:
        """Deliver what is left of a piece; return what is refused, and how many events are lost."""
        batches = list(runs(self._writer_id, piece.left()))
        at = piece.first_seq
        gone = []
        for batch in batches:
            gone.append((at, batch.first_seq - 1))
            at = batch.last_seq + 1
        gone.append((at, piece.first_seq + piece.events - 1))
        gone = [(first, last) for first, last in gone if first <= last]
        lost = sum(last - first + 1 for first, last in gone)
        for first, last in gone:
            self._recorder.refused(first, last)
        if lost:
            seqs = ", ".join(f"{first} to {last}" for first, last in gone[:_TOLD])
            self._notices.warn(
                "lost",
                f"asynctrack's spool was cut short, removed or damaged by others ({error}): {lost}"
                f" events (seq {seqs}{', …' if len(gone) > _TOLD else ''}) are lost. They are"
                " counted as dead_lettered.",
            )
        refused = []
        for batch in batches:
            refused += await self._upload(batch)
        return refused, lost

    async def _upload(
        self, batch: Batch, failures: int = 0, *, deferrable: bool = False
    ) -> list[tuple[Batch, PermanentError]]:
        """Upload a batch, in halves where it is too large; return what is refused for good."""
        artifact = encode_batch(batch, self._compression)
        self.under_way += len(artifact.content)
        try:
            receipt = await self._uploader.upload(
                artifact, failures=failures, deferrable=deferrable
            )
        except PermanentError as error:
            if error.code not in TOO_LARGE or _events(batch) == 1:
                return [(batch, error)]
            first, second = split_batch(batch)
            return [*await self._upload(first), *await self._upload(second)]
        finally:
            self.under_way -= len(artifact.content)
        self._recorder.delivered(receipt)
        self.artifacts += 1
        self.bytes_delivered += receipt.bytes
        return []

    def _tell_refused(self, part: Batch, error: PermanentError) -> None:
        where = "They are lost."
        if self._keeper is not None:
            where = f"They are in {self._keeper.path}; asynctrack show --dead-letters reads them."
        self._notices.warn(
            f"refused:{error.code}",
            f"asynctrack could not upload {_events(part)} events (seq {part.first_seq} to"
            f" {part.last_seq}): the backend refuses the object for good ({error}). They are"
            f" counted as dead_lettered. {where}",
        )


def _events(batch: Batch) -> int:
    return batch.last_seq - batch.first_seq + 1
