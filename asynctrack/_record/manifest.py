"""The manifest: what a writer delivered, in its own object beside the artifacts.

It lists every artifact with its checksum, so that a reader can tell what is missing. Full pages of
artifacts are put aside as objects of their own: rewriting it costs the same after an hour and
after a year.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from asynctrack._common import payload
from asynctrack._common.artifact import Receipt
from asynctrack._format import SCHEMA_VERSION, manifest_name

PAGE: Final = 1_000
"""Artifacts listed in one page."""


class Manifest:
    """Collects receipts; encodes what is to be stored.

    Args:
        writer_id: Whose it is.
        experiment: The experiment's name.
        run: The Run's name.
    """

    def __init__(self, writer_id: str, experiment: str, run: str) -> None:
        self._head: dict[str, Any] = {
            "v": SCHEMA_VERSION,
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
        """Note an artifact that is stored."""
        self._receipts.append(receipt)
        _add_range(self._ranges, receipt.first_seq, receipt.last_seq)

    def refused(self, first_seq: int, last_seq: int) -> None:
        """Note events of an artifact that the backend refuses for good."""
        _add_range(self._refused, first_seq, last_seq)

    def full_page(self) -> tuple[str, bytes] | None:
        """Return name and content of a page to be stored on its own, once one is full."""
        if len(self._receipts) < PAGE:
            return None
        name = manifest_name(self._writer_id, len(self._pages))
        page = {
            "v": SCHEMA_VERSION,
            "writer_id": self._writer_id,
            "artifacts": [asdict(receipt) for receipt in self._receipts[:PAGE]],
        }
        return name, payload.encode(page)

    def page_stored(self, name: str) -> None:
        """Put a page aside that was stored."""
        del self._receipts[:PAGE]
        self._pages.append(name)

    def encode(
        self,
        *,
        state: str,
        counts: Mapping[str, Any],
        parameters: Mapping[str, Any],
        metrics: Mapping[str, Any],
    ) -> bytes:
        """Return the manifest.

        Args:
            state: ``open`` or ``closed``.
            counts: The counters of the accounting equation.
            parameters: Every parameter, whole.
            metrics: A summary of every metric.
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
                "artifacts": [asdict(receipt) for receipt in self._receipts],
                "parameters": dict(parameters),
                "metrics": dict(metrics),
            }
        )


def _add_range(ranges: list[list[int]], first: int, last: int) -> None:
    """Add a range to sorted, disjoint ranges; neighbours become one."""
    at = len(ranges)
    while at > 0 and ranges[at - 1][0] > first:
        at -= 1
    ranges.insert(at, [first, last])
    if at + 1 < len(ranges) and ranges[at][1] + 1 == ranges[at + 1][0]:
        ranges[at][1] = ranges.pop(at + 1)[1]
    if at > 0 and ranges[at - 1][1] + 1 == ranges[at][0]:
        ranges[at - 1][1] = ranges.pop(at)[1]
