"""The manifest: what a writer delivered, in its own object beside the artifacts.

It lists every artifact with its checksum, so a reader can tell what is missing. Full pages of
artifacts become objects of their own, so storing the manifest again costs the same after an hour
and after a year. It is stored every ``INTERVAL`` if there is something new, and at the end.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, Final

from asynctrack._backends.protocol import Backend
from asynctrack._common import payload
from asynctrack._common.artifact import Receipt
from asynctrack._format import LAYOUT_VERSION, manifest_name

PAGE: Final = 1_000
"""Artifacts in one page."""
INTERVAL: Final = 10.0
"""Seconds between two manifests."""


class Manifest:
    """Collects receipts and encodes them.

    Args:
        writer_id: Whose it is.
        experiment: The experiment's name.
        run: The Run's name.
    """

    def __init__(self, writer_id: str, experiment: str, run: str) -> None:
        self._head: dict[str, Any] = {
            "v": LAYOUT_VERSION,
            "writer_id": writer_id,
            "experiment": experiment,
            "run": run,
            "created_unix_nano": time.time_ns(),
        }
        self._writer_id = writer_id
        self._receipts: list[Receipt] = []
        self._ranges: list[list[int]] = []
        self._pages: list[str] = []
        self._refused: list[list[int]] = []

    def delivered(self, receipt: Receipt) -> None:
        """Note a stored artifact."""
        self._receipts.append(receipt)
        _add_range(self._ranges, receipt.first_seq, receipt.last_seq)

    def refused(self, first_seq: int, last_seq: int) -> None:
        """Note events of an artifact that the backend refuses for good."""
        _add_range(self._refused, first_seq, last_seq)

    def full_page(self) -> tuple[str, bytes] | None:
        """Return name and content of the next full page, or None."""
        if len(self._receipts) < PAGE:
            return None
        name = manifest_name(self._writer_id, len(self._pages))
        page = {
            "v": LAYOUT_VERSION,
            "writer_id": self._writer_id,
            "artifacts": [_listed(receipt) for receipt in self._receipts[:PAGE]],
        }
        return name, payload.encode(page)

    def page_stored(self, name: str) -> None:
        """Drop a page that is stored now."""
        del self._receipts[:PAGE]
        self._pages.append(name)

    def encode(
        self,
        *,
        state: str,
        counts: Mapping[str, Any],
        parameters: Mapping[str, Any],
        metrics: Mapping[str, Any],
        metrics_seq: int,
    ) -> bytes:
        """Return the manifest.

        Args:
            state: ``open`` or ``closed``.
            counts: The counters of the accounting equation.
            parameters: Every parameter, whole.
            metrics: A summary of every metric.
            metrics_seq: Number of the last event that the metrics count.
        """
        return payload.encode(
            {
                **self._head,
                "updated_unix_nano": time.time_ns(),
                "state": state,
                **counts,
                "ranges": self._ranges,
                "refused_ranges": self._refused,
                "pages": self._pages,
                "artifacts": [_listed(receipt) for receipt in self._receipts],
                "parameters": dict(parameters),
                "metrics": dict(metrics),
                "metrics_seq": metrics_seq,
            }
        )


class ManifestUpload:
    """Stores a writer's manifest, again whenever it has changed.

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
        """Every parameter of the user's, whole."""

    @property
    def uri(self) -> str:
        """Where the manifest is."""
        return self._backend.uri(self._name)

    @property
    def due(self) -> bool:
        """Whether it is time to store it again."""
        return self._monotonic() >= self._due

    @property
    def complete(self) -> bool:
        """Whether the stored one is up to date, or none is needed."""
        return self._stored and not self._dirty

    def delivered(self, receipt: Receipt) -> None:
        """Note a stored artifact."""
        self._manifest.delivered(receipt)
        self._dirty = True

    def refused(self, first_seq: int, last_seq: int) -> None:
        """Note events that the backend refuses for good."""
        self._manifest.refused(first_seq, last_seq)
        self._dirty = True

    def changed(self) -> None:
        """Note that it has to be stored again."""
        self._dirty = True

    def needed(self, closed: bool) -> bool:
        """Return whether it says anything new.

        Args:
            closed: Whether the writer is closed.
        """
        if self._dirty or self._closed is not closed:
            return True
        self._stored = True
        return False

    async def store(
        self,
        *,
        closed: bool,
        found: Callable[[], Mapping[str, Any]],
        metrics: Callable[[], Mapping[str, Any]],
        metrics_seq: Callable[[], int],
    ) -> None:
        """Store it if it says something new.

        Args:
            closed: Whether the writer is closed.
            found: Returns the parameters that asynctrack adds, under their keys in the Run.
            metrics: Returns a summary of every metric.
            metrics_seq: Returns the number of the last event that the metrics count.

        Raises:
            BackendError: It is not stored.
        """
        while (page := self._manifest.full_page()) is not None:
            await self._put(*page)
            self._manifest.page_stored(page[0])
        counts = self._counts()
        left_out = counts.get("sampling", {}).get("traces_left_out")
        if not (counts.get("accepted") or self.parameters or self._dirty or left_out):
            self._stored = True
            return
        self._dirty = self._stored = False
        self._due = self._monotonic() + INTERVAL
        every = dict(self.parameters)
        for name, value in found().items():
            every.setdefault(name, value)  # the user's own value of a name wins
        content = self._manifest.encode(
            state="closed" if closed else "open",
            counts=counts,
            parameters=every,
            metrics=metrics(),
            metrics_seq=metrics_seq(),
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


def _listed(receipt: Receipt) -> dict[str, Any]:
    # A tenth of the time of `asdict`, which copies every value; up to 1,000 of them every 10 s.
    return {name: getattr(receipt, name) for name in _FIELDS}


_FIELDS: Final = tuple(field.name for field in fields(Receipt))


def _add_range(ranges: list[list[int]], first: int, last: int) -> None:
    """Add a range to sorted, disjoint ranges; join neighbours."""
    at = len(ranges)
    while at > 0 and ranges[at - 1][0] > first:
        at -= 1
    ranges.insert(at, [first, last])
    if at + 1 < len(ranges) and ranges[at][1] + 1 == ranges[at + 1][0]:
        ranges[at][1] = ranges.pop(at + 1)[1]
    if at > 0 and ranges[at - 1][1] + 1 == ranges[at][0]:
        ranges[at - 1][1] = ranges.pop(at)[1]
