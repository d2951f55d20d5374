"""Values in Parquet, kept or resolved: ``python -m benchmarks.compact_values [--save]``.

A LangGraph run of 60 states with a document of 200 KB and messages that grow, compacted both ways.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from asynctrack._backends.s3_read import Access
from asynctrack._reading.compaction.compact import VALUES, compact_run
from asynctrack._reading.sources.locate import locate_runs
from benchmarks import _measure
from tests.reading.valued import track_states

STATES: Final = 60
DOCUMENT: Final = 200_000
BATCH: Final = 50
"""Events of an artifact: as of a run that takes minutes."""
ROUNDS: Final = 5


def measure() -> dict[str, Any]:
    """Compact the Run both ways; return sizes, and the CPU of the quickest round."""
    result: dict[str, Any] = {"states": STATES, "document_bytes": DOCUMENT, "values": {}}
    for values in VALUES:
        took = []
        for _ in range(ROUNDS):
            with tempfile.TemporaryDirectory() as folder:
                run = track_states(
                    Path(folder), states=STATES, size=DOCUMENT, max_batch_events=BATCH
                )
                (found,) = locate_runs(run, None, Access())
                began = time.process_time()
                report = compact_run(found.locations[0], now=4e9, values=values)
                took.append(time.process_time() - began)
        result["events"] = report.events
        result["segment_bytes"] = report.segment_bytes
        result["values"][values] = {"file_bytes": report.file_bytes, "cpu_seconds": min(took)}
    return result


def main() -> None:
    """Measure, print, and save if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--save", action="store_true", help="write benchmarks/results")
    options = parser.parse_args()
    result = measure()
    for values, found in result["values"].items():
        print(f"{values}: {found['file_bytes']:,} bytes, {found['cpu_seconds']:.2f} s of CPU")
    if options.save:
        print(_measure.save("compact_values", result))


if __name__ == "__main__":
    main()
