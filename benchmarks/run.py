"""All of it: ``python -m benchmarks.run [--quick] [--only NAME ...]``.

Writes ``results/<name>.json`` with versions, machine and git revision, then ``report.md`` and the
plots from what lies there. A full run measures every goal of issues 4, 10 and 12 and takes 18
minutes for the first on two cores that have nothing else to do; a quick one takes two and leaves
some of them out, as its report says. Its results go to a folder of their own, and are no figures to
quote.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import (
    _measure,
    anatomy,
    callbacks,
    compression,
    garbage,
    import_time,
    instructions,
    lag,
    life,
    many,
    overhead,
    report,
    scale,
    stages,
    tokens,
    values,
)
from benchmarks._servers import Servers, all_servers

Benchmark = Callable[[Servers, bool, Path], dict[str, Any]]


def _overhead(servers: Servers, quick: bool, folder: Path) -> dict[str, Any]:
    plans = overhead.quick_plans() if quick else overhead.full_plans()
    results = []
    for plan in plans:
        try:
            results.append(overhead.run(plan, servers))
        except RuntimeError as error:
            # The other results are not thrown away because one workload failed.
            results.append({"workload": plan.workload, "group": plan.group, "failed": str(error)})
            print(f"{plan.workload} ({plan.group}) failed: {error}", file=sys.stderr, flush=True)
            continue
        print(overhead.text(results[-1]), flush=True)
        _measure.save("overhead", {"results": results}, folder)  # it takes long: keep what is there
    return {"results": results}


def _lag(servers: Servers, quick: bool, folder: Path) -> dict[str, Any]:
    if quick:
        some = [one for one in lag.SITUATIONS if one.name in QUICK_LAG]
        result = lag.run(servers, samples=1, seconds=1.0, close=1.0, situations=some)
    else:
        result = lag.run(servers, samples=5, seconds=3.0)
    print("\n".join(lag.lines(result)), flush=True)
    return result


def _garbage(servers: Servers, quick: bool, folder: Path) -> dict[str, Any]:
    result = garbage.run(servers, rounds=2 if quick else 6, processes=1)
    print(garbage.text(result), flush=True)
    return result


def _stages(servers: Servers, quick: bool, folder: Path) -> dict[str, Any]:
    return stages.run(processes=1, repetitions=10) if quick else stages.run()


def _instructions(servers: Servers, quick: bool, folder: Path) -> dict[str, Any]:
    counted = [instructions.count(name) for name in ("lcel-100",)]
    for one in counted:
        print(instructions.text(one), flush=True)
    return {"rows": stages.callgrind(), "workloads": counted}


def _callbacks(servers: Servers, quick: bool, folder: Path) -> dict[str, Any]:
    result = callbacks.run(processes=1, rounds=8) if quick else callbacks.run()
    print(callbacks.text(result), flush=True)
    return result


def _anatomy(servers: Servers, quick: bool, folder: Path) -> dict[str, Any]:
    result = anatomy.run(processes=1, rounds=3, invocations=200) if quick else anatomy.run()
    print(anatomy.text(result), flush=True)
    return result


def _scale(servers: Servers, quick: bool, folder: Path) -> dict[str, Any]:
    if quick:
        return scale.run(servers, powers=(5,), processes=0, overflows=("default",))
    return scale.run(servers)


def _many(servers: Servers, quick: bool, folder: Path) -> dict[str, Any]:
    result = many.quick(servers) if quick else many.run(servers)
    print(many.text(result), flush=True)
    return result


def _values(servers: Servers, quick: bool, folder: Path) -> dict[str, Any]:
    result = values.run(processes=1, rounds=2) if quick else values.run()
    print(values.text_of(result), flush=True)
    return result


def _life(servers: Servers, quick: bool, folder: Path) -> dict[str, Any]:
    if quick:
        result = life.run(servers, processes=1, rounds=1, cold=1, peers=False)
    else:
        result = life.run(servers)
    print(life.text(result), flush=True)
    return result


def _compression(servers: Servers, quick: bool, folder: Path) -> dict[str, Any]:
    result = compression.run(processes=1, rounds=2) if quick else compression.run()
    print(compression.text_of(result), flush=True)
    return result


QUICK_LAG = ("no handler, warm", "asynctrack, warm", "asynctrack, warm, S3 hangs")
BENCHMARKS: dict[str, Benchmark] = {
    "import_time": lambda servers, quick, folder: import_time.run(repetitions=2 if quick else 15),
    "stages": _stages,
    "callbacks": _callbacks,
    "anatomy": _anatomy,
    "instructions": _instructions,
    "tokens": lambda servers, quick, folder: tokens.run(processes=1 if quick else 3),
    "overhead": _overhead,
    "garbage": _garbage,
    "lag": _lag,
    "scale": _scale,
    "many": _many,
    "values": _values,
    "life": _life,
    "compression": _compression,
}
QUICK = (
    "import_time",
    "stages",
    "callbacks",
    "tokens",
    "overhead",
    "lag",
    "scale",
    "many",
    "values",
)


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the main goals, roughly")
    parser.add_argument("--only", nargs="*", choices=sorted(BENCHMARKS), help="some of them")
    parser.add_argument("--results", type=Path, help="where they go")
    parser.add_argument("--report", action="store_true", help="only write the report anew")
    arguments = parser.parse_args()
    folder = arguments.results or (
        _measure.RESULTS.with_name("results-quick") if arguments.quick else _measure.RESULTS
    )
    failed = []
    begun = time.monotonic()
    if not arguments.report:
        names = arguments.only or (QUICK if arguments.quick else BENCHMARKS)
        with all_servers() as servers:
            for name in names:
                started = time.monotonic()
                print(f"== {name}", flush=True)
                try:
                    result = BENCHMARKS[name](servers, arguments.quick, folder)
                except Exception as error:
                    # The others are worth having all the same; the exit code tells.
                    failed.append(name)
                    print(f"{name} failed: {error}", file=sys.stderr, flush=True)
                    continue
                path = _measure.save(name, result, folder)
                print(f"{path.name} after {time.monotonic() - started:.0f} s", flush=True)
    written = report.write(folder)
    print(f"{written} is written, {time.monotonic() - begun:.0f} s after the start")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
