"""One piece on its way: batch, artifact, receipt; and what is told and kept where one is refused.

What is too large is halved until it passes. What the backend refuses for good is buried in the
spool, with the reason, and counted. What goes on failing leaves its slot to others while it waits.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

from asynctrack._artifact import Batch
from asynctrack._buffer import Buffer
from asynctrack._encode import encode_batch
from asynctrack._errors import BackendError, PermanentError
from asynctrack._gate import Gate
from asynctrack._keeper import Keeper
from asynctrack._notices import Notices
from asynctrack._record import Recorder
from asynctrack._store import MemoryPiece, SegmentPiece
from asynctrack._upload import DeferredError, Uploader


@dataclass(slots=True)
class _Part:
    """Some events of a piece, by their numbers, that become an artifact of their own."""

    first_seq: int
    last_seq: int
    failures: int = 0

    @property
    def events(self) -> int:
        return self.last_seq - self.first_seq + 1

    def of(self, whole: Batch) -> Batch:
        """Return them out of all events of the piece."""
        if self.events == _events(whole):
            return whole
        lines = whole.raw.splitlines(keepends=True)
        start = self.first_seq - whole.first_seq
        raw = b"".join(lines[start : start + self.events])
        return Batch(whole.writer_id, self.first_seq, self.last_seq, raw)


@dataclass(slots=True)
class _Work:
    """What is left to do of a piece. No bytes: it may be much, and it may wait for long."""

    todo: deque[_Part]
    refused: list[tuple[_Part, PermanentError]] = field(default_factory=list)


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
        work = _Work(deque([_Part(piece.first_seq, piece.first_seq + piece.events - 1)]))
        while (deferred := await self._attempt(piece, work)) is not None:
            # Others first: what is repeated is a share of all requests, and what is refused for a
            # reason of its own holds up nothing else.
            # Nothing of this one is kept in memory meanwhile that was not there before.
            self._slots.release()
            await self._gate.pause(deferred.wait)
            if not self._gate.may_retry():
                await self._gate.afford_retry()
            await self._slots.acquire()
        self._slots.release()

    async def _attempt(
        self, piece: MemoryPiece | SegmentPiece, work: _Work
    ) -> DeferredError | None:
        """Deliver what is left of a piece; return why it has to leave its slot, where it has to."""
        last_seq = piece.first_seq + piece.events - 1
        try:
            batch = Batch(self._writer_id, piece.first_seq, last_seq, piece.raw())
        except OSError as error:
            lost = sum(part.events for part in work.todo) + sum(
                part.events for part, _ in work.refused
            )
            self._notices.warn(
                "lost",
                f"asynctrack's spool was removed or damaged by others ({error}): {lost} of"
                f" {piece.events} events (seq {piece.first_seq} to {last_seq}) are lost. They are"
                " counted as dead_lettered.",
            )
            for part in (*work.todo, *(part for part, _ in work.refused)):
                self._recorder.refused(part.first_seq, part.last_seq)
            self._buffer.settle(piece, refused=lost)
            return None
        if isinstance(piece, SegmentPiece) and self._keeper is not None:
            await self._keeper.unmap(piece)
        deferred: DeferredError | None = None
        while work.todo:
            if deferred is not None and work.todo[0].failures:
                return deferred
            try:
                await self._upload(piece, batch, work)
            except DeferredError as error:
                deferred = error
        if isinstance(piece, SegmentPiece) and self._keeper is not None:
            buried = [
                await self._keeper.bury(part.of(batch), str(why)) for part, why in work.refused
            ]
            if all(buried):
                await self._keeper.settled(piece)
        for part, why in work.refused:
            self._recorder.refused(part.first_seq, part.last_seq)
            self._tell_refused(part, why)
        self._buffer.settle(piece, refused=sum(part.events for part, _ in work.refused))
        return None

    async def _upload(self, piece: MemoryPiece | SegmentPiece, batch: Batch, work: _Work) -> None:
        """Upload the next part; in halves where it is too large.

        Raises:
            DeferredError: It waits behind the other parts, which are next.
        """
        part = work.todo[0]
        artifact = encode_batch(part.of(batch), self._compression)
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
                work.todo.appendleft(_Part(middle, part.last_seq))
                work.todo.appendleft(_Part(part.first_seq, middle - 1))
            elif isinstance(error, PermanentError):
                work.refused.append((part, error))
            else:  # without ``attempts`` an upload ends with nothing else
                raise
            return
        finally:
            self.under_way -= len(artifact.content)
        work.todo.popleft()
        self._recorder.delivered(receipt)
        self.artifacts += 1
        self.bytes_delivered += receipt.bytes

    def _tell_refused(self, part: _Part, error: PermanentError) -> None:
        where = "They are lost."
        if self._keeper is not None:
            where = (
                f"They are in {self._keeper.path}; asynctrack show --dead-letters reads them,"
                " asynctrack spool replay --dead-letters sends them again."
            )
        self._notices.warn(
            f"refused:{error.code}",
            f"asynctrack could not upload {part.events} events (seq {part.first_seq} to"
            f" {part.last_seq}): the backend refuses the object for good ({error}). They are"
            f" counted as dead_lettered. {where}",
        )


def _events(batch: Batch) -> int:
    return batch.last_seq - batch.first_seq + 1
