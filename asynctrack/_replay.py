"""Replay: deliver what writers that have died left in the spool.

A segment becomes the artifact that its writer would have made of it: same key, same bytes. Where
the writer died between the PUT and its answer, the object is written again, not twice.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import anyio.to_thread

from asynctrack import _payload
from asynctrack._artifact import Artifact, Batch, Receipt
from asynctrack._backends._protocol import Backend, Store
from asynctrack._encode import encode_batch
from asynctrack._errors import PermanentError
from asynctrack._format import SCHEMA_VERSION, SUFFIXES, replay_name
from asynctrack._notices import Notices
from asynctrack._segment import SegmentContent, SegmentError, read_segment
from asynctrack._spool import WriterFolder, forget, orphans, set_aside
from asynctrack._upload import Uploader


@dataclass(frozen=True, slots=True)
class SegmentPlan:
    """What is to be done with a segment of a writer that has died.

    Attributes:
        path: The file of lines.
        artifact: What it becomes; None where it holds no good line.
        events: Good lines in it.
        damaged: Sequence numbers that are lost in it.
        problem: Why it cannot be read at all; empty where it can.
    """

    path: Path
    artifact: Artifact | None
    events: int = 0
    damaged: tuple[int, ...] = ()
    problem: str = ""


def plan_segment(path: Path, compression: str) -> SegmentPlan:
    """Read a segment and make its artifact. Blocks; changes nothing on disk."""
    try:
        content = read_segment(path)
    except (SegmentError, OSError) as error:
        return SegmentPlan(path, None, problem=str(error))
    if not content.lines:
        return SegmentPlan(path, None, damaged=content.damaged)
    artifact = encode_batch(_batch(content), compression)
    return SegmentPlan(path, artifact, len(content.lines), content.damaged)


async def replay_folder(
    folder: WriterFolder, store: Store, uploader: Uploader, replayed_by: str
) -> int:
    """Deliver a writer's segments, oldest first, and delete each that was delivered.

    Args:
        folder: The writer's folder, owned by the caller.
        store: Where its events belong.
        uploader: Uploads there.
        replayed_by: Who replays; part of the name of the manifest that says so.

    Returns:
        How many events were delivered.
    """
    compression = folder.description().get("compression")
    if compression not in SUFFIXES:
        compression = "zstd"
    delivered = 0
    receipts: list[Receipt] = []
    for path in folder.segments():
        plan = await anyio.to_thread.run_sync(plan_segment, path, compression)
        if plan.problem:
            uploader.notices.warn(f"unreadable:{path.name}", _unreadable(plan))
            continue
        if plan.artifact is not None:
            try:
                receipts.append(await uploader.upload(plan.artifact))
            except PermanentError as error:
                path.with_suffix(".reason").write_text(str(error))
                set_aside(path, ".dead")
                continue
            delivered += plan.events
        if plan.damaged:
            set_aside(path, ".damaged")
            uploader.notices.warn(f"damaged:{path}", _damaged(plan))
        else:
            await anyio.to_thread.run_sync(forget, path)
    if receipts:
        await _store_manifest(store, folder.path.name, replayed_by, receipts)
    return delivered


class Replayer:
    """Takes over what dead writers left behind, in the background of a tracker.

    Args:
        spool_dir: The spool.
        writer_id: The tracker's own writer, to be left alone.
        backend: Reaches where the events belong.
        make_uploader: Returns an uploader for a store.
        notices: Rate-limited warnings.
    """

    def __init__(
        self,
        *,
        spool_dir: Path,
        writer_id: str,
        backend: Backend,
        make_uploader: Callable[[Store], Uploader],
        notices: Notices,
    ) -> None:
        self._spool_dir = spool_dir
        self._writer_id = writer_id
        self._backend = backend
        self._make_uploader = make_uploader
        self._notices = notices
        self.events = 0

    async def run(self) -> None:
        """Deliver for every writer that has died and whose destination is within reach."""
        found = orphans(self._spool_dir, self._writer_id)
        while (folder := await anyio.to_thread.run_sync(next, found, None)) is not None:
            with folder:
                store = self._store_for(folder)
                if store is not None:
                    uploader = self._make_uploader(store)
                    self.events += await replay_folder(folder, store, uploader, self._writer_id)

    def _store_for(self, folder: WriterFolder) -> Store | None:
        info = folder.description()
        destination = info.get("destination")
        if not isinstance(destination, dict):
            if folder.segments():
                self._notices.warn(
                    f"no destination:{folder.path.name}",
                    f"asynctrack found events of a writer in {folder.path} that does not say where"
                    " they belong. They stay there: `asynctrack spool replay --to …`.",
                )
            return None
        return self._backend.elsewhere(
            destination, str(info.get("experiment", "")), str(info.get("run", ""))
        )


def _batch(content: SegmentContent) -> Batch:
    return Batch(
        content.writer_id,
        content.lines[0][0],
        content.lines[-1][0],
        b"".join(line for _, line in content.lines),
    )


async def _store_manifest(
    store: Store, writer_id: str, replayed_by: str, receipts: list[Receipt]
) -> None:
    page: dict[str, Any] = {
        "v": SCHEMA_VERSION,
        "writer_id": writer_id,
        "replayed_by": replayed_by,
        "artifacts": [asdict(receipt) for receipt in receipts],
    }
    content = _payload.encode(page)
    await store.put(
        replay_name(writer_id, replayed_by),
        content,
        crc32=zlib.crc32(content),
        media_type="application/json",
    )


def _unreadable(plan: SegmentPlan) -> str:
    return f"asynctrack cannot read a segment of its spool and leaves it as it is: {plan.problem}"


def _damaged(plan: SegmentPlan) -> str:
    numbers = ", ".join(map(str, plan.damaged[:10])) + ("…" if len(plan.damaged) > 10 else "")
    return (
        f"asynctrack found {len(plan.damaged)} damaged events in {plan.path} (seq {numbers}). The"
        " others were delivered; the file is kept beside it with the ending .damaged."
    )
