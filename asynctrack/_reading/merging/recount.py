"""What the ends of spans add up to that no manifest counts: of writers that died.

A writer stores its manifest every ten seconds. What it did after the last one is in its artifacts,
and in this machine's spool until somebody has delivered it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from asynctrack._common.measured import Measured
from asynctrack._reading.merging.fetch import Fetcher
from asynctrack._reading.merging.merge import merged_events
from asynctrack._reading.sources.listing import StoredArtifact
from asynctrack._reading.sources.manifests import WriterManifest

MOST_BYTES: Final = 64 * 1024 * 1024
"""Size of what is read for it at the most: artifacts as stored, lines in the spool as they are."""


def uncounted(writer: WriterManifest, stored: Sequence[StoredArtifact]) -> list[StoredArtifact]:
    """Return those artifacts of a writer in which there may be events that its metrics lack.

    Args:
        writer: What its manifests say.
        stored: Its artifacts, and what waits in the spool.
    """
    since = writer.metrics_seq or 0
    counted = {(one.first_seq, one.last_seq) for one in writer.replay_counted}
    return [
        one
        for one in stored
        if one.place.last_seq > since and (one.place.first_seq, one.place.last_seq) not in counted
    ]


def recount(
    writers: Sequence[WriterManifest], artifacts: Mapping[str, Sequence[StoredArtifact]]
) -> Measured | None:
    """Return what the events of writers add up to that their metrics lack. Blocks.

    Args:
        writers: Who.
        artifacts: What there is of each, and what waits in the spool.

    Returns:
        None where it is not known: an old manifest does not say which events it counts, or there
        is too much to be read for it.

    Raises:
        ReadError: A folder cannot be read.
        BackendError: S3 said no.
    """
    if any(writer.metrics_seq is None for writer in writers):
        return None
    wanted = {
        writer.writer_id: uncounted(writer, artifacts.get(writer.writer_id, ()))
        for writer in writers
    }
    if sum(one.size for some in wanted.values() for one in some) > MOST_BYTES:
        return None
    since = {writer.writer_id: writer.metrics_seq or 0 for writer in writers}
    found = Measured()
    fetcher = Fetcher()
    try:
        for event in merged_events(
            wanted, {}, fetcher=fetcher, report=lambda _: None, set_aside=True, resolve=False
        ):
            if event.seq > since[event.writer_id]:
                found.add_event(event.raw)
    finally:
        fetcher.close()
    return found
