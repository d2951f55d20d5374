"""What the whole life of a tracker costs: ``python -m benchmarks.life``.

From before ``tracker(run)`` until after the end of the block: opening, tracking, closing, manifest
and Run writes are in it, and so is what its threads do meanwhile. Lives with 8 to 10,000 callbacks
of the LCEL chain take turns with the same invocations without a handler; a straight line from the
smallest to the largest divides what they add into a fixed cost and a cost for each callback. *Warm*
is each life but the first of a process; *cold* the imports and the first life, each in a process of
its own. For the peers, making their client and shutting it down is opening and closing.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from typing import Any, Final

from benchmarks import _life_child, _measure, tracers
from benchmarks._life_child import FOLDER, S3
from benchmarks._servers import Servers, all_servers
from benchmarks.tracers import BASE, EMPTY

OURS: Final = (FOLDER, S3)
PEERS: Final = ("LangSmith", "Langfuse", "OpenInference + OTel batch", "MLflow autolog")
CLOCKS: Final = ("process", "thread", "wall")
SIZES: Final = (1, 12, 125, 1250)
"""Invocations, of eight callbacks each."""
WHOLE: Final = 2000
"""Invocations of the life that the goal is about."""
_MORE_ROUNDS: Final = {1: 4, 12: 2}
"""Short lives are repeated more often, as each tells less."""


def run(
    servers: Servers, *, processes: int = 2, rounds: int = 3, cold: int = 3, peers: bool = True
) -> dict[str, Any]:
    """Measure every tracer that is installed.

    Args:
        servers: What is tracked into.
        processes: Fresh processes for each tracker of ours; the peers get one.
        rounds: Lives of the largest sizes in each process; of the peers, one less.
        cold: Fresh processes for each tracer's first life.
        peers: Whether they are measured, too.
    """
    names = [*OURS, *(PEERS if peers else ())]
    missing = {name: why for name in names if (why := tracers.installed(name))}
    rows: list[dict[str, Any]] = []
    failed: dict[str, str] = {}
    for name in names:
        if name in missing:
            continue
        try:
            answers, first = _ask(servers, name, processes, rounds, cold)
        except RuntimeError as error:
            failed[name] = str(error)
            continue
        if not any(row["tracer"] == EMPTY for row in rows):
            rows.append(summarize(EMPTY, answers, []))
        rows.append(summarize(name, answers, first))
    return {
        "processes": processes,
        "rounds": rounds,
        "cold": cold,
        "missing": missing,
        "failed": failed,
        "rows": rows,
    }


def _ask(
    servers: Servers, name: str, processes: int, rounds: int, cold: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    spec: dict[str, Any] = {"tracer": name, "servers": dict(servers), "seed": _measure.SEED}
    sizes = (*SIZES, WHOLE) if name in OURS else SIZES
    rounds = rounds if name in OURS else max(1, rounds - 1)
    times = {str(size): rounds * _MORE_ROUNDS.get(size, 1) for size in sizes}
    first = [_measure.fresh_process("benchmarks.life", {**spec, "cold": True}) for _ in range(cold)]
    answers = [
        _measure.fresh_process(
            "benchmarks.life",
            {**spec, "cold": False, "rounds": times, "seed": _measure.SEED + number},
        )
        for number in range(processes if name in OURS else 1)
    ]
    return answers, first


def summarize(
    name: str, answers: Sequence[dict[str, Any]], first: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Turn lives into what they add, in all and by size.

    Args:
        name: The tracer, one that the answers have.
        answers: Of processes that measured warm lives.
        first: Of processes that measured a first one.
    """
    per = answers[0]["callbacks"]
    row: dict[str, Any] = {"tracer": name, "sizes": []}
    for size in answers[0]["rows"]:
        figures: dict[str, Any] = {"invocations": int(size), "callbacks": int(size) * per}
        for clock in CLOCKS:
            added = _added(answers, name, size, clock)
            figures[f"{clock}_ms"] = _measure.median(added).as_dict()
            if name != EMPTY:
                empty = _added(answers, EMPTY, size, clock)
                figures[f"{clock}_over_empty"] = _measure.ratio(added, empty).as_dict()
        row["sizes"].append(figures)
    for clock in CLOCKS:
        fixed, each = line(
            _added(answers, name, str(SIZES[0]), clock),
            _added(answers, name, str(SIZES[-1]), clock),
            SIZES[0] * per,
            SIZES[-1] * per,
        )
        row[f"{clock}_fixed_ms"] = _measure.median(fixed).as_dict()
        row[f"{clock}_each_us"] = _measure.median(each).as_dict()
    shares = [
        one["delivered"]
        for answer in answers
        for lives in answer["rows"].values()
        for one in lives[name]
        if "delivered" in one
    ]
    if shares:
        row["delivered"] = round(statistics.fmean(shares), 4)
    for part in ("imports", "first"):
        for clock in ("process", "wall"):
            if first and (part == "first" or name not in OURS):
                values = [[answer[part][clock]] for answer in first]
                row[f"{part}_{clock}_ms"] = _measure.median(values).as_dict()
    return row


def line(
    small: _measure.Rounds, large: _measure.Rounds, least: int, most: int
) -> tuple[list[list[float]], list[list[float]]]:
    """Divide what lives add, in milliseconds, into a fixed cost and one for each callback.

    Args:
        small: What lives of the smallest size add, by process and round.
        large: The same of the largest.
        least: Callbacks of the smallest.
        most: Callbacks of the largest.

    Returns:
        Milliseconds of the fixed cost, by the rounds of the smallest; microseconds for each
        callback, by those of the largest.
    """
    fixed, each = [], []
    for few, many in zip(small, large, strict=True):
        begin = statistics.median(few)
        slopes = [(value - begin) / (most - least) for value in many]
        slope = statistics.median(slopes)
        each.append([1e3 * value for value in slopes])
        fixed.append([value - least * slope for value in few])
    return fixed, each


def _added(
    answers: Sequence[dict[str, Any]], name: str, size: str, clock: str
) -> list[list[float]]:
    mine, base = (
        [[one[clock] for one in answer["rows"][size][which]] for answer in answers]
        for which in (name, BASE)
    )
    return _measure.differences(mine, base)


def text(result: dict[str, Any]) -> str:
    """Return the result as a table for a terminal."""
    lines = [f"{'added by whole lives':28}{'fixed, ms':>26}{'each, µs':>24}{'first, ms':>24}"]
    for row in result["rows"]:
        cells = (row["process_fixed_ms"], row["process_each_us"], row.get("first_process_ms"))
        shown = (
            f"{one['value']:.3g} ({one['low']:.3g}–{one['high']:.3g})" if one else ""
            for one in cells
        )
        lines.append(f"{row['tracer']:28}" + "".join(f"{one:>24}" for one in shown))
        if WHOLE in (last := row["sizes"][-1]).values() and "process_over_empty" in last:
            over = last["process_over_empty"]
            lines.append(
                f"  {WHOLE:,} invocations, process, of the empty async handler:"
                f" {over['value']:.3g} ({over['low']:.3g}–{over['high']:.3g})"
            )
    lines += [f"{name}: not installed: {why}" for name, why in result["missing"].items()]
    lines += [f"{name} failed: {why}" for name, why in result["failed"].items()]
    return "\n".join(lines)


def main() -> None:
    """Run from the command line, or as the measuring process."""
    if (spec := _measure.asked()) is not None:
        print(json.dumps(_life_child.measure(spec)))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-peers", action="store_true", help="asynctrack only")
    arguments = parser.parse_args()
    with all_servers() as servers:
        found = run(
            servers,
            processes=arguments.processes,
            rounds=arguments.rounds,
            peers=not arguments.no_peers,
        )
    print(text(found))


if __name__ == "__main__":
    main()
