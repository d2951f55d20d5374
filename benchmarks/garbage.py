"""What collections cost, with and without ``gc.freeze()``: ``python -m benchmarks.garbage``.

A full collection walks every container that lives, so what an application imports makes its own
allocations dearer. The time is taken by gc's own callbacks, inside the rounds.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

from benchmarks import _measure
from benchmarks._servers import Servers, all_servers
from benchmarks.tracers import BASE, EMPTY, INLINE, OURS


def run(servers: Servers, *, rounds: int = 10, processes: int = 2) -> dict[str, Any]:
    """Measure both ways, in fresh processes that take turns."""
    rows = []
    names = [BASE, EMPTY, INLINE, OURS]
    answers: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
    for number in range(processes):
        for freeze in (False, True):
            answers[freeze].append(
                _measure.fresh_process(
                    "benchmarks._rounds",
                    {
                        "workload": "lcel-100",
                        # Long rounds: a full collection has to happen in them to be seen.
                        "factor": 3.0,
                        "tracers": names,
                        "rounds": rounds,
                        "seed": _measure.SEED + number,
                        "servers": dict(servers),
                        "freeze": freeze,
                        "collections": True,
                    },
                )
            )
    for freeze, measured in answers.items():
        callbacks = measured[0]["invocations"] * measured[0]["callbacks"]
        for name in names:
            samples = [row for answer in measured for row in answer["rows"][name]]
            rows.append(
                {
                    "freeze": freeze,
                    "tracer": name,
                    "live_objects": measured[0]["objects"],
                    "wall_us": _us(samples, "wall", callbacks),
                    "gc_us": _us(samples, "gc", callbacks),
                    "full_collections_per_round": round(
                        statistics.mean(row["gc_counts"][2] for row in samples), 2
                    ),
                    "young_collections_per_round": round(
                        statistics.mean(row["gc_counts"][0] for row in samples), 1
                    ),
                }
            )
    return {"rounds": rounds, "processes": processes, "rows": rows}


def _us(samples: list[dict[str, Any]], clock: str, callbacks: int) -> float:
    # The mean and not the median: a full collection is rare and dear, and has to count.
    mean = statistics.mean(float(row[clock]) for row in samples)
    return round(mean / callbacks * 1e6, 2)


def text(result: dict[str, Any]) -> str:
    """Return the result as a table for a terminal."""
    lines = [f"{'':26}{'gc.freeze()':>12}{'wall µs':>10}{'gc µs':>8}{'full':>6}{'young':>7}"]
    lines += [
        f"{row['tracer']:26}{row['freeze']!s:>12}{row['wall_us']:>10}{row['gc_us']:>8}"
        f"{row['full_collections_per_round']:>6}{row['young_collections_per_round']:>7}"
        for row in result["rows"]
    ]
    return "\n".join(lines)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    with all_servers() as servers:
        print(text(run(servers, rounds=arguments.rounds, processes=arguments.processes)))


if __name__ == "__main__":
    main()
