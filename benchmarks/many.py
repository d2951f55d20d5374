"""A thousand trackers at once: ``python -m benchmarks.many [--quick]``.

1, 10, 100 and 1,000 trackers of one process, 16 events each, all of them open before the first is
left, into a folder and into a real S3 with an embedded SageMaker; as many one after another; 999
beside one whose S3 accepts and never answers; and how long the first tracker of a process stops the
event loop. Each figure is of a fresh process, after one tracker that is not counted, but for the
last. The handler's callbacks are called as LangChain calls them: what LangChain itself takes is the
same with any handler, and left out. Beside it what they ask of the disk and of AWS, by itself.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from benchmarks import _many_child, _many_floor, _many_opening, _measure
from benchmarks._many_floor import FLOORS
from benchmarks._servers import Servers, all_servers

EVENTS: Final = 16
COUNTS: Final = (1, 10, 100, 1_000)
PLACES: Final = ("folder", "s3")
FLAT: Final = (10, 1_000)
"""From how many on, and up to how many, a tracker costs the same."""
CONCURRENCY: Final = 4
"""How many PUTs are under way at a time: ``upload_concurrency``."""

_MEASURING: Final[dict[str, Callable[[dict[str, Any]], dict[str, Any]]]] = {
    "trackers": _many_child.measure,
    "opening": _many_opening.measure,
    "floor": _many_floor.measure,
}
_MANIFEST_BYTES: Final = 500


def _cells(
    servers: Servers, trackers: int, processes: int, *, in_turn: bool = False, place: str
) -> dict[str, Any]:
    return _together(
        [_cell(servers, trackers, place=place, in_turn=in_turn) for _ in range(processes)]
    )


def _cell(
    servers: Servers,
    trackers: int,
    *,
    place: str,
    in_turn: bool = False,
    hanging: bool = False,
) -> dict[str, Any]:
    spec = {
        "measure": "trackers",
        "place": place,
        "trackers": trackers,
        "events": EVENTS,
        "in_turn": in_turn,
        "hanging": hanging,
        "servers": dict(servers),
    }
    answer: dict[str, Any] = _measure.fresh_process("benchmarks.many", spec)
    return answer


def _together(answers: list[dict[str, Any]]) -> dict[str, Any]:
    """Put several processes' figures into one row: medians of times, the worst of all others."""
    last = answers[-1]
    trackers = last["trackers"] - last["hanging"]
    row: dict[str, Any] = {
        name: last[name] for name in ("place", "trackers", "events", "in_turn", "hanging")
    }
    row["processes"] = len(answers)
    row["expected"] = trackers * last["events"]
    for name in ("delivered", "accepted"):
        row[name] = min(answer[name] for answer in answers)
    for name in ("warnings", "threads", "memory_added", "disk_blocks", "disk_size", "spool_left"):
        row[name] = max(answer[name] for answer in answers)
    for name in ("wall_ms", "cpu_ms"):
        row[name] = _measure.median([[answer[name]] for answer in answers]).as_dict()
    for name in ("said", "failed"):
        row[name] = max((answer[name] for answer in answers), key=len)
    for name in ("requests", "artifact_bytes"):
        row[name] = last[name]
    return row


def _flat(rows: Sequence[dict[str, Any]], place: str) -> dict[str, float] | None:
    """Return what a tracker of many costs, of what one of a few does; None without both."""
    found = {row["trackers"]: row["cpu_ms"] for row in rows if row["place"] == place}
    few, many = (found.get(count) for count in FLAT)
    if few is None or many is None:
        return None
    return {
        "value": many["value"] / few["value"],
        "low": many["low"] / few["high"],
        "high": many["high"] / few["low"],
    }


def _floor(servers: Servers, floor: str, row: dict[str, Any], processes: int) -> dict[str, Any]:
    """Measure by itself what the trackers of a row ask of the disk or of AWS."""
    place, what = FLOORS[floor]
    spec = {
        "measure": "floor",
        "floor": floor,
        "servers": dict(servers),
        "sizes": [round(row["artifact_bytes"]), _MANIFEST_BYTES],
        "trackers": row["trackers"],
        "events": EVENTS,
        "concurrency": CONCURRENCY,
    }
    answers = [_measure.fresh_process("benchmarks.many", spec) for _ in range(processes)]
    return {
        "place": place,
        "floor": floor,
        "what": what,
        "sizes": spec["sizes"],
        "trackers": spec["trackers"],
        **{
            name: _measure.median([[answer[name]] for answer in answers]).as_dict()
            for name in ("wall_ms", "cpu_ms")
        },
    }


def _hanging(servers: Servers, trackers: int, processes: int) -> dict[str, Any]:
    """Measure healthy trackers beside one whose S3 hangs, and as many healthy ones, in turns."""
    beside, healthy = [], []
    for _ in range(processes):
        healthy.append(_cell(servers, trackers, place="s3"))
        beside.append(_cell(servers, trackers, place="s3", hanging=True))
    return {
        "healthy": _together(healthy),
        "beside": _together(beside),
        **{
            f"{name}_ratio": _measure.ratio(
                [[one[f"{name}_ms"]] for one in beside], [[one[f"{name}_ms"]] for one in healthy]
            ).as_dict()
            for name in ("wall", "cpu")
        },
    }


def _opening(servers: Servers, samples: int) -> list[dict[str, Any]]:
    answers: dict[str, list[dict[str, float]]] = {place: [] for place in ("none", *PLACES)}
    with _compiled():
        for number in range(samples + 1):
            for place, found in answers.items():
                spec = {"measure": "opening", "place": place, "servers": dict(servers)}
                answer = _measure.fresh_process("benchmarks.many", spec)
                if number:  # the first of each compiles
                    found.append(answer)
    return [
        {
            "place": place,
            "samples": samples,
            "max_ms": max(answer["stop_ms"] for answer in found),
            "all_ms": sorted(round(answer["stop_ms"], 2) for answer in found),
            **{
                name: _measure.median([[answer[name]] for answer in found]).as_dict()
                for name in found[0]
            },
        }
        for place, found in answers.items()
    ]


@contextmanager
def _compiled() -> Iterator[None]:
    """Let processes find modules compiled, as an installation has them."""
    names = ("PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX")
    before = {name: os.environ.pop(name, None) for name in names}
    with tempfile.TemporaryDirectory(prefix="asynctrack-pyc-") as folder:
        os.environ["PYTHONPYCACHEPREFIX"] = folder
        try:
            yield
        finally:
            del os.environ["PYTHONPYCACHEPREFIX"]
            os.environ.update({name: value for name, value in before.items() if value is not None})


def run(
    servers: Servers,
    *,
    counts: Sequence[int] = COUNTS,
    places: Sequence[str] = PLACES,
    processes: int = 3,
    samples: int = 10,
) -> dict[str, Any]:
    """Measure all of it.

    Args:
        servers: Where to.
        counts: How many trackers at once; the last of them is also how many one after another, and
            beside one whose S3 hangs.
        places: ``folder``, ``s3``, or both.
        processes: Fresh processes for each figure.
        samples: Fresh processes for the first tracker's opening.
    """
    at_once = [
        _cells(servers, count, processes, place=place) for place in places for count in counts
    ]
    most = counts[-1]
    largest = {row["place"]: row for row in at_once}
    return {
        "events": EVENTS,
        "processes": processes,
        "at_once": at_once,
        "flat": {place: _flat(at_once, place) for place in places},
        "in_turn": [
            _cells(servers, most, processes, in_turn=True, place=place) for place in places
        ],
        "floors": [
            _floor(servers, floor, largest[place], processes)
            for floor, (place, _) in FLOORS.items()
            if place in largest
        ],
        "hanging": _hanging(servers, most, processes) if "s3" in places else None,
        "opening": _opening(servers, samples),
    }


def lines(result: dict[str, Any]) -> Iterator[str]:
    """Yield the result as tables for a terminal."""
    yield (
        f"{'':22}{'trackers':>9}{'delivered':>16}{'said':>6}{'CPU, ms':>9}{'wall, ms':>9}"
        f"{'threads':>8}{'MB':>7}{'disk, KiB':>10}"
    )
    hanging = result["hanging"]
    named = [
        *((f"{row['place']}, at once", row) for row in result["at_once"]),
        *((f"{row['place']}, in turn", row) for row in result["in_turn"]),
        *((f"s3, {name}", hanging[name]) for name in ("healthy", "beside") if hanging),
    ]
    for name, row in named:
        delivered = f"{row['delivered']:,}/{row['expected']:,}"
        yield (
            f"{name:22}{row['trackers']:>9,}{delivered:>16}{row['warnings']:>6}"
            f"{row['cpu_ms']['value']:>9.2f}{row['wall_ms']['value']:>9.2f}{row['threads']:>8}"
            f"{row['memory_added'] / 1e6:>7.1f}{row['disk_blocks'] / 1024:>10.1f}"
        )
    for floor in result["floors"]:
        yield (
            f"floor: {floor['what']}: {floor['cpu_ms']['value']:.2f} ms CPU,"
            f" {floor['wall_ms']['value']:.2f} ms"
        )
    for place, ratio in result["flat"].items():
        if ratio:
            yield f"{place}: {FLAT[1]:,} cost {ratio['value']:.2f} × what {FLAT[0]} do, each"
    if hanging:
        yield f"beside one that hangs: {hanging['wall_ratio']['value']:.2f} × the wall time"
    for row in result["opening"]:
        yield (
            f"longest stop of the loop, {row['place']:8}{row['stop_ms']['value']:>7.1f} ms, at most"
            f" {row['max_ms']:.1f} ms of {row['samples']}"
        )


def text(result: dict[str, Any]) -> str:
    """Return ``lines`` in one."""
    return "\n".join(lines(result))


def quick(servers: Servers) -> dict[str, Any]:
    """Measure a little of it: figures that are not to be quoted."""
    return run(servers, counts=(1, 10, 50), processes=1, samples=3)


def main() -> None:
    """Run from the command line, or as the measuring process."""
    if (spec := _measure.asked()) is not None:
        print(json.dumps(_MEASURING[spec["measure"]](spec)))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="up to 50 trackers, roughly")
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS, help="how many at once")
    parser.add_argument("--places", nargs="+", choices=PLACES, default=PLACES)
    parser.add_argument("--processes", type=int, default=3)
    arguments = parser.parse_args()
    with all_servers() as servers:
        result = (
            quick(servers)
            if arguments.quick
            else run(
                servers,
                counts=arguments.counts,
                places=arguments.places,
                processes=arguments.processes,
            )
        )
    print(text(result))


if __name__ == "__main__":
    main()
