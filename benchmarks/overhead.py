"""What each tracer adds to a callback: ``python -m benchmarks.overhead [--workload NAME ...]``.

CPU of the application's thread (the loop's), CPU of the whole process with the flush, and wall
time, all as differences to no handler in the same round; see ``_measure`` for why.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import _measure, cases, tracers
from benchmarks._servers import Servers, all_servers
from benchmarks.tracers import BASE, EMPTY, INLINE, OURS

CLOCKS = ("thread", "process", "wall")
BASES = (BASE, EMPTY, INLINE, OURS)
SMALL_PEERS = ("LangSmith", "Langfuse", "OpenInference + OTel batch", "SageMakerCallbackHandler")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured together, in the same processes.

    Attributes:
        workload: Its name.
        group: ``core``, ``frozen``, ``variants``, ``peers`` or ``mlflow``.
        tracers: Take turns; the first is the base of all differences.
        processes: Fresh processes, one after the other.
        rounds: Of each tracer in each process.
        factor: Of the workload's invocations.
        freeze: ``gc.freeze()`` before the rounds, which takes much of the scatter out.
    """

    workload: str
    group: str
    tracers: tuple[str, ...]
    processes: int
    rounds: int
    factor: float = 1.0
    freeze: bool = False


def full_plans() -> list[Plan]:
    """Return what a full run measures."""
    plans = [
        # 2,000 invocations a round, as in the baselines that the issue names: long enough for the
        # full collections that a handler brings about, and for batches as they are in real use.
        Plan("lcel-100", "core", BASES, 3, 5, 10.0),
        Plan("lcel-100", "frozen", BASES, 1, 5, 5.0, freeze=True),
        Plan("stream", "core", BASES, 2, 6, 0.5),
        Plan("sync", "core", (*BASES, "empty sync handler"), 2, 8),
        Plan("lcel-100", "peers", (*BASES, *SMALL_PEERS), 2, 3, 4.0),
        Plan("lcel-1", "core", BASES, 1, 8),
        Plan("lcel-10000", "core", BASES, 1, 2, 0.3),
        Plan("lcel-latency", "core", BASES, 1, 5),
        Plan("payload-1kb", "core", BASES, 1, 8),
        Plan("payload-100kb", "core", BASES, 1, 8),
        Plan("payload-5mb", "core", BASES, 1, 6),
        Plan("agent", "core", BASES, 1, 8),
        Plan("retrieval", "core", BASES, 1, 8),
        Plan("lcel-100", "variants", (*BASES, *tracers.VARIANTS), 1, 5),
    ]
    for workload, rounds, factor in (
        ("stream", 2, 0.2),
        ("payload-100kb", 2, 0.5),
        ("agent", 3, 0.5),
        ("retrieval", 3, 0.3),
    ):
        plans.append(Plan(workload, "peers", (*BASES, *SMALL_PEERS), 1, rounds, factor))
    # MLflow apart: its imports make everybody's collections dearer.
    plans.append(Plan("lcel-100", "mlflow", (*BASES, "MLflow autolog"), 1, 3, 0.25))
    return plans


def quick_plans() -> list[Plan]:
    """Return what ``--quick`` measures: the goals that a change is likeliest to move."""
    return [
        Plan("lcel-100", "core", BASES, 1, 3, 2.0),
        Plan("sync", "core", BASES, 1, 3, 0.5),
        Plan("lcel-100", "peers", (*BASES, "LangSmith"), 1, 3, 0.15),
    ]


def run(plan: Plan, servers: Servers) -> dict[str, Any]:
    """Measure one plan; tracers that are not installed are left out and named."""
    missing = {name: why for name in plan.tracers if (why := tracers.installed(name))}
    names = [name for name in plan.tracers if name not in missing]
    answers = [
        _measure.fresh_process(
            "benchmarks._rounds",
            {
                "workload": plan.workload,
                "factor": plan.factor,
                "tracers": names,
                "rounds": plan.rounds,
                "seed": _measure.SEED + number,
                "servers": dict(servers),
                "freeze": plan.freeze,
            },
        )
        for number in range(plan.processes)
    ]
    first = answers[0]
    result = {
        "workload": plan.workload,
        "title": cases.WORKLOADS[plan.workload].title,
        "group": plan.group,
        "processes": plan.processes,
        "rounds": plan.rounds,
        "invocations": first["invocations"],
        "concurrency": first["concurrency"],
        "callbacks": first["callbacks"],
        "live_objects": first["objects"],
        "missing": missing,
        "tracers": summarize(answers, names),
    }
    about = _measure.environment()
    result["measured"] = {key: about[key] for key in ("when", "git", "load_1_minute")}
    base = _series(answers, BASE, "wall", first)
    result["base_us"] = _measure.median(base).as_dict()
    return result


def summarize(answers: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """Turn the rounds of several processes into figures for each tracer."""
    added = {
        clock: {
            name: _measure.differences(
                _series(answers, name, clock, answers[0]), _series(answers, BASE, clock, answers[0])
            )
            for name in names
        }
        for clock in CLOCKS
    }
    summary: dict[str, Any] = {}
    for name in names:
        if name == BASE:
            continue
        figures: dict[str, Any] = {}
        for clock in CLOCKS:
            mine = added[clock][name]
            figures[f"{clock}_us"] = _measure.median(mine).as_dict()
            for key, reference in (("empty", EMPTY), ("inline", INLINE), ("ours", OURS)):
                if reference in names and reference != name:
                    ratio = _measure.ratio(mine, added[clock][reference])
                    figures[f"{clock}_over_{key}"] = ratio.as_dict()
        wall = _series(answers, name, "wall", answers[0])
        figures["slowdown"] = _measure.ratio(
            wall, _series(answers, BASE, "wall", answers[0])
        ).as_dict()
        flushes = [row["flush"] for answer in answers for row in answer["rows"][name]]
        figures["flush_seconds"] = round(statistics.median(flushes), 4)
        figures.update(_delivered(answers, name))
        summary[name] = figures
    return summary


def _series(
    answers: Sequence[dict[str, Any]], name: str, clock: str, first: dict[str, Any]
) -> list[list[float]]:
    """Return a clock's microseconds for each callback, by process and round."""
    callbacks = first["invocations"] * first["callbacks"]
    return [[row[clock] / callbacks * 1e6 for row in answer["rows"][name]] for answer in answers]


def _delivered(answers: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    """Return what share arrived, and in how many requests and bytes, as far as it is known."""
    told = [answer["told"].get(name) or {} for answer in answers]
    received = [answer["received"].get(name) for answer in answers]
    rounds = sum(len(answer["rows"][name]) for answer in answers)
    invocations = answers[0]["invocations"] * rounds
    found: dict[str, Any] = {}
    if all(received):
        spans = sum(one["spans"] for one in received if one)
        found["delivered"] = round(spans / (answers[0]["spans"] * invocations), 4)
        found["requests"] = sum(one["requests"] for one in received if one)
        found["bytes"] = sum(one["bytes"] for one in received if one)
    elif all("accepted" in one for one in told):
        accepted = sum(one["accepted"] for one in told)
        found["delivered"] = round(sum(one["delivered_events"] for one in told) / accepted, 4)
        found["requests"] = sum(one["requests"] for one in told)
        found["bytes"] = sum(one["bytes"] for one in told)
    elif all("delivered_events" in one for one in told):
        events = sum(one["delivered_events"] for one in told)
        found["delivered"] = round(events / (answers[0]["callbacks"] * invocations), 4)
    return found


def text(result: dict[str, Any]) -> str:
    """Return a result as a table for a terminal."""
    lines = [
        f"{result['title']} ({result['group']}): {result['callbacks']} callbacks,"
        f" {result['processes']} processes × {result['rounds']} rounds × {result['invocations']};"
        f" no handler {result['base_us']['value']} µs a callback",
        f"{'':34}{'app CPU µs':>24}{'× empty':>20}{'process CPU µs':>24}{'× empty':>20}",
    ]
    for name, figures in result["tracers"].items():
        cells = (figures.get(key) for key in _COLUMNS)
        lines.append(f"{name:34}" + "".join(map(_cell, cells, _WIDTHS)))
    return "\n".join(lines)


_COLUMNS = ("thread_us", "thread_over_empty", "process_us", "process_over_empty")
_WIDTHS = (24, 20, 24, 20)


def _cell(figure: dict[str, float] | None, width: int) -> str:
    if figure is None:
        return " " * width
    return f"{figure['value']:.3g} ({figure['low']:.3g}–{figure['high']:.3g})".rjust(width)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workload", nargs="*", choices=sorted(cases.WORKLOADS))
    parser.add_argument("--tracer", nargs="*", choices=sorted(tracers.TRACERS), default=[])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--factor", type=float, default=1.0)
    parser.add_argument("--freeze", action="store_true", help="gc.freeze() before measuring")
    arguments = parser.parse_args()
    names = tuple(dict.fromkeys((*BASES, *arguments.tracer)))
    with all_servers() as servers:
        for workload in arguments.workload or ["lcel-100"]:
            plan = Plan(
                workload,
                "chosen",
                names,
                arguments.processes,
                arguments.rounds,
                arguments.factor,
                arguments.freeze,
            )
            print(text(run(plan, servers)), flush=True)


if __name__ == "__main__":
    main()
