"""Where ranged requests help, and where not: ``python -m benchmarks.ranges [--save]``.

Against a real S3 server on loopback (rclone), so a request costs about a millisecond: over a real
network each request more costs more, and each byte too. Segments are read whole: zstd frames cannot
be entered in the middle, and every event of a segment is wanted. Of a compacted Parquet file one
row group is read at a time.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from asynctrack._backends.s3_read import S3Store
from asynctrack._format import compact_prefix
from asynctrack._reading.compaction.compact import compact_run
from asynctrack._reading.sources.compacted import CompactStore, read_compacted
from asynctrack._reading.sources.stores import Location, find_runs
from benchmarks import _measure
from benchmarks.generate import generate
from tests.support.s3 import S3Server, rclone_s3

ROUNDS: Final = 15
SIZES: Final = (50_000, 500_000, 4_000_000)


class Counting(S3Store):
    """Counts requests and bytes."""

    requests = 0
    fetched = 0

    def read(self, key: str) -> bytes:
        content = super().read(key)
        self.requests += 1
        self.fetched += len(content)
        return content

    def read_range(self, key: str, start: int, end: int) -> bytes:
        content = super().read_range(key, start, end)
        self.requests += 1
        self.fetched += len(content)
        return content


def _median(act: Callable[[], Any]) -> float:
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        act()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def _whole_or_in_parts(store: S3Store) -> list[dict[str, Any]]:
    """Read objects of a segment's size with one request, and with four at a time."""
    rows = []
    with ThreadPoolExecutor(4) as pool:
        for size in SIZES:
            key = f"plain/{size}"
            store.write(key, bytes(size))
            part = size // 4

            def in_parts(key: str = key, part: int = part) -> bytes:
                ranges = [(n * part, (n + 1) * part) for n in range(4)]
                return b"".join(pool.map(lambda one: store.read_range(key, *one), ranges))

            assert len(in_parts()) == size
            rows.append(
                {
                    "bytes": size,
                    "one_request_seconds": _median(lambda key=key: store.read(key)),
                    "four_ranges_seconds": _median(in_parts),
                }
            )
    return rows


def _row_groups(server: S3Server) -> dict[str, Any]:
    """Read one segment's rows from a compacted file: its row group, or the file as a whole."""
    generate(server.folder / "runs", 200_000, batch_events=5_000)
    client = server.boto_client(timeout=30.0)
    (found,) = find_runs(S3Store(client, server.bucket), "runs")
    compact_run(found, now=4e9)
    store = Counting(client, server.bucket)
    location = Location(store, found.prefix, found.experiment, found.run)
    pieces = read_compacted(location, []).pieces()
    file, piece = next(iter(pieces.values()))
    store.requests = store.fetched = 0

    def ranged() -> bytes:
        rows = CompactStore(store, compact_prefix(location.prefix), pieces)
        return rows.read(rows.key(file, piece))

    assert ranged()
    requests, fetched = store.requests, store.fetched
    key = compact_prefix(location.prefix) + file.name

    def fetch_alone() -> None:
        store.read_range(key, file.footer, file.size)
        store.read_range(key, *file.groups[piece.group])

    return {
        "file_bytes": file.size,
        "row_groups": len(file.groups),
        "ranged_requests": requests,
        "ranged_bytes": fetched,
        "ranged_fetch_seconds": _median(fetch_alone),
        "whole_fetch_seconds": _median(lambda: store.read(key)),
        "ranged_lines_seconds": _median(ranged),
    }


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--save", action="store_true", help="write the result")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, rclone_s3(Path(place)) as server:
        segments = _whole_or_in_parts(S3Store(server.boto_client(timeout=30.0), server.bucket))
        result = {"segments": segments, "compacted": _row_groups(server.with_fresh_bucket())}
    for row in segments:
        print(
            f"an object of {row['bytes']:>9,} bytes: one request"
            f" {row['one_request_seconds'] * 1e3:.1f} ms, four ranges at a time"
            f" {row['four_ranges_seconds'] * 1e3:.1f} ms"
        )
    print(result["compacted"])
    if options.save:
        print(_measure.save("ranges", result))


if __name__ == "__main__":
    main()
