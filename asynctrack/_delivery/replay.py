"""Replay: deliver what writers that have died left in the spool.

A segment becomes the artifact that its writer would have made of it: same key, same bytes. Where
the writer died between the PUT and its answer, the object is written again, not twice. Each is
listed in a manifest before its segment is deleted, so that a replay that dies as well leaves
nothing out.

A segment that fails holds no other one up: it may be the only one that is refused. Dead letters,
which were refused for good, are sent again only when somebody says so.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from asynctrack._backends.protocol import Store
from asynctrack._common import payload
from asynctrack._common.artifact import Artifact, Batch, Receipt
from asynctrack._common.measured import measured_in
from asynctrack._common.offload import offload
from asynctrack._delivery.encode import encode_batch, split_batch
from asynctrack._delivery.replay_plan import SegmentPlan, plan_dead_letter, plan_segment
from asynctrack._errors import BackendError, PermanentError
from asynctrack._format import LAYOUT_VERSION, SUFFIXES, replay_name
from asynctrack._spool.folder import WriterFolder, bury, divide, forget, set_aside
from asynctrack._spool.layout import (
    dead_letters_in,
    held_files,
    read_description,
    waiting_segments,
)
from asynctrack._spool.recovery import recover_held

IN_A_ROW: Final = 3
"""Segments that fail one after the other, after which it is not a matter of theirs."""
_PAGE: Final = 200

Upload = Callable[[Artifact], Awaitable[Receipt]]
_Delivered = tuple[Receipt, "dict[str, float] | None"]
"""An artifact, and what the ends of spans in it add up to, as points of metrics."""


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


async def replay_folder(
    folder: WriterFolder,
    *,
    store: Store,
    upload: Upload,
    replayed_by: str,
    report: Callable[[SegmentOutcome], None],
    in_a_row: int = IN_A_ROW,
    failed: set[Path] | None = None,
) -> None:
    """Deliver a writer's segments, oldest first, and delete each that was delivered.

    Args:
        folder: The writer's folder, owned by the caller.
        store: Where its events belong.
        upload: Uploads an artifact there.
        replayed_by: Who replays; part of the names of the manifests that say so.
        report: Told of each segment.
        in_a_row: After so many that have failed one after the other, the rest is left.
        failed: Segments that have failed in an earlier round: they come last. Those of this round
            are added.

    Raises:
        BackendError: An upload failed and may work later; what is left stays.
        OSError: The folder cannot be changed.
    """
    failed = set() if failed is None else failed
    await offload(recover_held, folder.path)
    # Sorting keeps the order of those that are alike.
    paths = sorted(await offload(folder.segments), key=lambda path: path in failed)
    manifest = _ReplayManifest(store, replayed_by, died=True)
    await _replay(
        folder.path, paths, plan_segment, _settle, manifest, upload=upload, report=report,
        in_a_row=in_a_row, failed=failed,
    )  # fmt: skip
    if not manifest.stored and await offload(_is_empty, folder.path):
        # All was delivered before, and its own manifest does not say that it has ended. It is no
        # reason to keep the folder if this cannot be said either.
        with contextlib.suppress(BackendError):
            await manifest.nothing_left(folder.path.name)


async def replay_dead_letters(
    path: Path,
    *,
    store: Store,
    upload: Upload,
    replayed_by: str,
    report: Callable[[SegmentOutcome], None],
    in_a_row: int = IN_A_ROW,
) -> None:
    """Send again what was refused for good, and delete each file that was delivered.

    The folder need not be owned: a writer that lives adds files, and never comes back to one. Two
    that send the same file send the same object.

    Args:
        path: The writer's folder.
        store: As for ``replay_folder``.
        upload: The same.
        replayed_by: The same.
        report: Told of each file.
        in_a_row: As for ``replay_folder``.

    Raises:
        BackendError: An upload failed and may work later; what is left stays.
        OSError: The folder cannot be changed.
    """
    await _replay(
        path, await offload(dead_letters_in, path), plan_dead_letter, _settle_dead_letter,
        _ReplayManifest(store, replayed_by, died=False), upload=upload, report=report,
        in_a_row=in_a_row, failed=set(),
    )  # fmt: skip


async def _replay(
    folder: Path,
    paths: list[Path],
    read: Callable[[Path], SegmentPlan],
    settle: Callable[[Path, SegmentPlan, _Delivery], None],
    manifest: _ReplayManifest,
    *,
    upload: Upload,
    report: Callable[[SegmentOutcome], None],
    in_a_row: int,
    failed: set[Path],
) -> None:
    compression = (await offload(read_description, folder)).get("compression")
    if compression not in SUFFIXES:
        compression = "zstd"
    last: BackendError | None = None
    failures = 0
    for path in paths:
        plan = await offload(read, path)
        if plan.problem:
            if await offload(path.exists):  # else another one was faster
                report(SegmentOutcome(plan, problem=plan.problem))
            continue
        delivery = _Delivery(upload, compression, path)
        try:
            for batch in plan.batches:
                await delivery.deliver(batch)
        except BackendError as error:
            failed.add(path)
            failures += 1
            last = error
            if not error.answered or failures >= in_a_row:
                raise
            continue
        except OSError:
            raise
        except Exception as error:  # lines that are no events: whoever wrote them, they are kept
            problem = f"{path}: {type(error).__name__}: {error}"
            report(SegmentOutcome(plan, problem=problem))
            continue
        failures = 0
        failed.discard(path)
        await manifest.add(delivery.delivered)
        await offload(settle, folder, plan, delivery)
        report(SegmentOutcome(plan, delivery.events, tuple(delivery.refused)))
    if last is not None:
        raise last


@dataclass(slots=True)
class _Delivery:
    """Delivers the batches of one segment; in halves where one is too large, as its writer does."""

    upload: Upload
    compression: str
    path: Path
    events: int = 0
    delivered: list[_Delivered] = field(default_factory=list)
    refused: list[tuple[Batch, str]] = field(default_factory=list)

    async def deliver(self, batch: Batch) -> None:
        events = batch.last_seq - batch.first_seq + 1
        try:
            receipt = await self.upload(encode_batch(batch, self.compression))
            self.delivered.append((receipt, await offload(_points, batch)))
        except BackendError as error:
            if error.too_large and events > 1:
                first, second = split_batch(batch)
                await offload(divide, self.path, second.first_seq)
                await self.deliver(first)
                await self.deliver(second)
            elif isinstance(error, PermanentError):
                self.refused.append((batch, str(error)))
            else:
                raise
        else:
            self.events += events


def _points(batch: Batch) -> dict[str, float] | None:
    """Return what the ends in a batch add up to; None where a line cannot be read."""
    try:
        return dict(measured_in(batch.raw.splitlines()).points())
    except ValueError:
        return None


class _ReplayManifest:
    """Lists what one replay delivered, in pages, each stored anew with every segment.

    Args:
        store: Where its events belong.
        replayed_by: Who replays.
        died: Whether the writer has ended without closing: then its manifest, too, will not say
            any more what these events add up to.
    """

    def __init__(self, store: Store, replayed_by: str, *, died: bool) -> None:
        self._store = store
        self._replayed_by = replayed_by
        self._died = died
        self.stored = False
        self._writer_id = ""
        self._listed: list[_Delivered] = []

    async def add(self, delivered: list[_Delivered]) -> None:
        """List what was delivered.

        Raises:
            BackendError: It cannot be stored.
        """
        for receipt, points in delivered:
            # The writer's id is the first part of every key, which is what readers compare.
            writer_id = receipt.name.rpartition("/")[2].partition("-")[0]
            if writer_id != self._writer_id or len(self._listed) >= _PAGE:
                await self._save()
                self._writer_id, self._listed = writer_id, []
            self._listed.append((receipt, points))
        if delivered:
            await self._save()

    async def nothing_left(self, writer_id: str) -> None:
        """Say that a writer has died, and left nothing.

        Raises:
            BackendError: It cannot be stored.
        """
        self._writer_id = writer_id
        await self._put(0)

    async def _save(self) -> None:
        # Named for its first event: a second round of the same replay never replaces the page of
        # the first, unless it lists the same and more.
        if self._listed:
            await self._put(self._listed[0][0].first_seq)

    async def _put(self, number: int) -> None:
        page: dict[str, Any] = {
            "v": LAYOUT_VERSION,
            "writer_id": self._writer_id,
            "replayed_by": self._replayed_by,
            "died": self._died,
            "artifacts": [
                {**asdict(receipt), **({} if points is None else {"metrics": points})}
                for receipt, points in self._listed
            ],
        }
        content = payload.encode(page)
        await self._store.put(
            replay_name(self._writer_id, f"{self._replayed_by}-{number}"),
            content,
            crc32=zlib.crc32(content),
            media_type="application/json",
        )
        self.stored = True


def _is_empty(folder: Path) -> bool:
    """Return whether nothing in a writer's folder is worth keeping."""
    waiting = (*waiting_segments(folder), *held_files(folder), *dead_letters_in(folder))
    aside = (*waiting, *folder.glob("*.damaged"))
    return not aside


def _settle(folder: Path, plan: SegmentPlan, delivery: _Delivery) -> None:
    """Delete a segment, once what was refused and what is damaged is kept elsewhere."""
    for batch, reason in delivery.refused:
        bury(folder, batch, reason)
    if plan.damaged:
        set_aside(plan.path, ".damaged")
    else:
        forget(plan.path)


def _settle_dead_letter(folder: Path, plan: SegmentPlan, delivery: _Delivery) -> None:
    """Delete a file of dead letters, once what is refused again is kept elsewhere."""
    kept = [bury(folder, batch, reason) for batch, reason in delivery.refused]
    if plan.path not in kept:
        plan.path.unlink(missing_ok=True)
        for ending in (".reason", ".parts"):
            plan.path.with_suffix(ending).unlink(missing_ok=True)
