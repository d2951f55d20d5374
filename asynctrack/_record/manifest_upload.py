"""The manifest on its way to the store: when there is something new to say, and once at the end."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final

from asynctrack._backends.protocol import Backend
from asynctrack._common.artifact import Receipt
from asynctrack._format import manifest_name
from asynctrack._record.manifest import Manifest

INTERVAL: Final = 10.0
"""Seconds between two manifests."""


class ManifestUpload:
    """Stores what a manifest has to say that is not stored yet.

    Args:
        writer_id: Whose it is.
        backend: Where it goes.
        counts: Returns the counters of the accounting equation.
        monotonic: The clock, in seconds.
    """

    def __init__(
        self,
        *,
        writer_id: str,
        backend: Backend,
        counts: Callable[[], Mapping[str, Any]],
        monotonic: Callable[[], float],
    ) -> None:
        self._name = manifest_name(writer_id)
        self._backend = backend
        self._counts = counts
        self._monotonic = monotonic
        self._manifest = Manifest(writer_id, backend.experiment, backend.run)
        self._due = monotonic() + INTERVAL
        self._dirty = False
        self._stored = self._closed = False
        self.parameters: dict[str, Any] = {}
        """Every parameter, whole."""

    @property
    def uri(self) -> str:
        """Where the manifest is."""
        return self._backend.uri(self._name)

    @property
    def due(self) -> bool:
        """Whether it is time for another one."""
        return self._monotonic() >= self._due

    @property
    def complete(self) -> bool:
        """Whether what is stored says all there is to say; also where that is nothing."""
        return self._stored and not self._dirty

    def delivered(self, receipt: Receipt) -> None:
        """Note an artifact that is stored."""
        self._manifest.delivered(receipt)
        self._dirty = True

    def refused(self, first_seq: int, last_seq: int) -> None:
        """Note events that the backend refuses for good."""
        self._manifest.refused(first_seq, last_seq)
        self._dirty = True

    def changed(self) -> None:
        """Note that there is something new to say."""
        self._dirty = True

    async def store(
        self,
        *,
        closed: bool,
        found: Callable[[], Mapping[str, Any]],
        metrics: Callable[[], Mapping[str, Any]],
    ) -> None:
        """Store it where it says something new.

        Args:
            closed: Whether the writer says that it is closed.
            found: Returns parameters that are not the user's, under their keys in the Run.
            metrics: Returns a summary of every metric.

        Raises:
            BackendError: It is not stored.
        """
        if not self._dirty and self._closed is closed:
            self._stored = True
            return
        while (page := self._manifest.full_page()) is not None:
            await self._put(*page)
            self._manifest.page_stored(page[0])
        counts = self._counts()
        if not (counts.get("accepted") or self.parameters or self._dirty):
            self._stored = True
            return
        self._dirty = self._stored = False
        self._due = self._monotonic() + INTERVAL
        every = dict(self.parameters)
        for name, value in found().items():
            every.setdefault(name, value)  # the user's own value of a name is the user's
        content = self._manifest.encode(
            state="closed" if closed else "open",
            counts=counts,
            parameters=every,
            metrics=metrics(),
        )
        try:
            await self._put(self._name, content)
        except BaseException:
            self._dirty = True
            raise
        self._stored, self._closed = True, closed

    async def _put(self, name: str, content: bytes) -> None:
        await self._backend.put(
            name, content, crc32=zlib.crc32(content), media_type="application/json"
        )
