"""Fetches artifacts ahead of their reader, and compares their checksums."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from asynctrack._backends.protocol import GoneError
from asynctrack._reading.sources.listing import StoredArtifact, find_compacted, find_delivered

AHEAD: Final = 8
"""Artifacts that are fetched at a time."""
AHEAD_BYTES: Final = 64 * 1024 * 1024
"""Their size as stored, in bytes; one for each writer is always fetched."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """An artifact's bytes, or None where it is not there any more, and their checksum."""

    artifact: StoredArtifact
    content: bytes | None
    sha256: str

    @property
    def intact(self) -> bool:
        """Whether the checksum is the one listed; True if none is listed."""
        return self.artifact.sha256 is None or self.artifact.sha256 == self.sha256


class Fetcher:
    """Fetches artifacts in threads, a bounded number and size ahead of their reader.

    Args:
        ahead: How many at a time.
        ahead_bytes: Their size at most, in bytes.
    """

    def __init__(self, ahead: int = AHEAD, ahead_bytes: int = AHEAD_BYTES) -> None:
        self._ahead = ahead
        self._ahead_bytes = ahead_bytes
        self._pool = ThreadPoolExecutor(ahead, thread_name_prefix="asynctrack-read")
        self._bytes = 0
        self._streams = 0

    def fetch(self, artifacts: Iterable[StoredArtifact]) -> Iterator[Fetched]:
        """Yield artifacts with their bytes, in the order given."""
        todo = iter(artifacts)
        upcoming = next(todo, None)
        waiting: deque[tuple[StoredArtifact, Future[Fetched]]] = deque()
        self._streams += 1
        try:
            while upcoming is not None or waiting:
                while upcoming is not None and (
                    not waiting or self._has_room(len(waiting), upcoming)
                ):
                    waiting.append((upcoming, self._pool.submit(_fetch, upcoming)))
                    self._bytes += upcoming.size
                    upcoming = next(todo, None)
                artifact, future = waiting.popleft()
                try:
                    fetched = future.result()
                finally:
                    self._bytes -= artifact.size
                yield fetched
        finally:
            self._streams -= 1
            for artifact, future in waiting:
                self._bytes -= artifact.size
                future.cancel()

    def close(self) -> None:
        """Stop, without waiting for what is being fetched."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _has_room(self, waiting: int, artifact: StoredArtifact) -> bool:
        share = self._ahead // self._streams
        return waiting < share and self._bytes + artifact.size <= self._ahead_bytes


def _fetch(artifact: StoredArtifact) -> Fetched:
    fetched = _read(artifact)
    # Once more before it counts as damaged: the bytes may have changed on their way.
    return fetched if fetched.content is None or fetched.intact else _read(artifact)


def _read(artifact: StoredArtifact) -> Fetched:
    try:
        content = artifact.store.read(artifact.key)
    except GoneError:
        # A segment of the spool is deleted only after its delivery, one of S3 or a folder only
        # after it was compacted: so what replaces it is there.
        there = find_delivered(artifact) if artifact.spooled else find_compacted(artifact)
        return Fetched(artifact, None, "") if there is None else _read(there)
    return Fetched(artifact, content, hashlib.sha256(content).hexdigest())
