"""Replay: deliver what writers that have died left in the spool.

A segment becomes the artifact that its writer would have made of it: same key, same bytes. Where
the writer died between the PUT and its answer, the object is written again, not twice. Each is
listed in a manifest before its segment is deleted, so that a replay that dies as well leaves
nothing out.
"""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from asynctrack import _payload
from asynctrack._artifact import Artifact, Batch, Receipt
from asynctrack._backends._protocol import Store
from asynctrack._encode import encode_batch, runs, split_batch
from asynctrack._errors import BackendError, PermanentError
from asynctrack._format import SCHEMA_VERSION, SUFFIXES, replay_name
from asynctrack._offload import offload
from asynctrack._segment_content import read_segment
from asynctrack._segment_format import SegmentError
from asynctrack._spool import WriterFolder, bury, forget, set_aside

TOO_LARGE: Final = frozenset({"EntityTooLarge", "RequestEntityTooLarge", "413"})
"""What S3 says of an object that is too large: its halves may pass."""
_PAGE: Final = 200

Upload = Callable[[Artifact], Awaitable[Receipt]]


@dataclass(frozen=True, slots=True)
class SegmentPlan:
    """What is to be done with a segment of a writer that has died.

    Attributes:
        path: The file of lines.
        batches: What it becomes: one, or one for each unbroken run of numbers where lines are
            damaged, so that it never takes the key of an object that has them all.
        events: Good lines in it.
        damaged: Sequence numbers that are lost in it.
        problem: Why it cannot be read at all; empty where it can.
    """

    path: Path
    batches: tuple[Batch, ...] = ()
    events: int = 0
    damaged: tuple[int, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class SegmentOutcome:
    """What became of a segment.

    Attributes:
        plan: What was to be done.
        delivered: Events delivered.
        refused: What the backend refuses for good, and why; it is in files ending in ``.dead``.
        problem: Why it was left as it is; empty where it was not.
    """

    plan: SegmentPlan
    delivered: int = 0
    refused: tuple[tuple[Batch, str], ...] = ()
    problem: str = ""


def plan_segment(path: Path) -> SegmentPlan:
    """Read a segment. Blocks; changes nothing on disk, and raises nothing."""
    try:
        content = read_segment(path)
    except (SegmentError, OSError) as error:
        return SegmentPlan(path, problem=str(error))
    return SegmentPlan(
        path, tuple(runs(content.writer_id, content.lines)), len(content.lines), content.damaged
    )


async def replay_folder(
    folder: WriterFolder,
    *,
    store: Store,
    upload: Upload,
    replayed_by: str,
    report: Callable[[SegmentOutcome], None],
) -> None:
    """Deliver a writer's segments, oldest first, and delete each that was delivered.

    Args:
        folder: The writer's folder, owned by the caller.
        store: Where its events belong.
        upload: Uploads an artifact there.
        replayed_by: Who replays; part of the names of the manifests that say so.
        report: Told of each segment.

    Raises:
        BackendError: An upload failed and may work later; what is left stays.
        OSError: The folder cannot be changed.
    """
    compression = folder.description().get("compression")
    if compression not in SUFFIXES:
        compression = "zstd"
    manifest = _ReplayManifest(store, replayed_by)
    for path in folder.segments():
        plan = await offload(plan_segment, path)
        if plan.problem:
            report(SegmentOutcome(plan, problem=plan.problem))
            continue
        delivery = _Delivery(upload, compression)
        try:
            for batch in plan.batches:
                await delivery.deliver(batch)
        except (BackendError, OSError):
            raise
        except Exception as error:  # lines that are no events: whoever wrote them, they are kept
            problem = f"{path}: {type(error).__name__}: {error}"
            report(SegmentOutcome(plan, problem=problem))
            continue
        await manifest.add(delivery.receipts)
        await offload(_settle, folder.path, plan, delivery)
        report(SegmentOutcome(plan, delivery.events, tuple(delivery.refused)))


def numbers(seqs: tuple[int, ...]) -> str:
    """Return the first of these numbers, for a message."""
    return ", ".join(map(str, seqs[:10])) + ("…" if len(seqs) > 10 else "")


@dataclass(slots=True)
class _Delivery:
    """Delivers the batches of one segment; in halves where one is too large, as its writer does."""

    upload: Upload
    compression: str
    events: int = 0
    receipts: list[Receipt] = field(default_factory=list)
    refused: list[tuple[Batch, str]] = field(default_factory=list)

    async def deliver(self, batch: Batch) -> None:
        events = batch.last_seq - batch.first_seq + 1
        try:
            self.receipts.append(await self.upload(encode_batch(batch, self.compression)))
        except PermanentError as error:
            if error.code not in TOO_LARGE or events == 1:
                self.refused.append((batch, str(error)))
                return
            for half in split_batch(batch):
                await self.deliver(half)
        else:
            self.events += events


class _ReplayManifest:
    """Lists what one replay delivered, in pages, each stored anew with every segment."""

    def __init__(self, store: Store, replayed_by: str) -> None:
        self._store = store
        self._replayed_by = replayed_by
        self._writer_id = ""
        self._receipts: list[Receipt] = []

    async def add(self, receipts: list[Receipt]) -> None:
        """List what was delivered.

        Raises:
            BackendError: It cannot be stored.
        """
        for receipt in receipts:
            # The writer's id is the first part of every key, which is what readers compare.
            writer_id = receipt.name.rpartition("/")[2].partition("-")[0]
            if writer_id != self._writer_id or len(self._receipts) >= _PAGE:
                await self._save()
                self._writer_id, self._receipts = writer_id, []
            self._receipts.append(receipt)
        if receipts:
            await self._save()

    async def _save(self) -> None:
        if not self._receipts:
            return
        page: dict[str, Any] = {
            "v": SCHEMA_VERSION,
            "writer_id": self._writer_id,
            "replayed_by": self._replayed_by,
            "artifacts": [asdict(receipt) for receipt in self._receipts],
        }
        content = _payload.encode(page)
        # Named for its first event: a second round of the same replay never replaces the page of
        # the first, unless it lists the same and more.
        await self._store.put(
            replay_name(self._writer_id, f"{self._replayed_by}-{self._receipts[0].first_seq}"),
            content,
            crc32=zlib.crc32(content),
            media_type="application/json",
        )


def _settle(folder: Path, plan: SegmentPlan, delivery: _Delivery) -> None:
    """Delete a segment, once what was refused and what is damaged is kept elsewhere."""
    for batch, reason in delivery.refused:
        bury(folder, batch, reason)
    if plan.damaged:
        set_aside(plan.path, ".damaged")
    else:
        forget(plan.path)
