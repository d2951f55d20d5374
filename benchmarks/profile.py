"""The hot path under a profiler: ``python -m benchmarks.profile [--sampling] [--workload NAME]``.

By default cProfile, which counts every call of asynctrack, LangChain left out; its own cost makes
small functions look dearer than they are. ``--sampling`` takes pyinstrument, which does not, and
shows the whole tree.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import importlib
import pstats
import tempfile
from typing import Any

from benchmarks import cases


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workload", choices=sorted(cases.WORKLOADS), default="lcel-100")
    parser.add_argument("--sampling", action="store_true", help="pyinstrument and not cProfile")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lines", type=int, default=35)
    arguments = parser.parse_args()

    from asynctrack import tracker

    workload = cases.WORKLOADS[arguments.workload]
    invoke = workload.make()
    loop = asyncio.new_event_loop()
    with tempfile.TemporaryDirectory(prefix="asynctrack-profile-") as folder:
        options: dict[str, Any] = {}
        from benchmarks.tracers import option_names

        if "spool_dir" in option_names():
            options["spool_dir"] = f"{folder}/spool"
        # A folder and not S3: the network belongs to the worker, this is about the callbacks.
        tracked = tracker(folder, **options)
        if workload.sync:
            handler: Any = tracked.__enter__()
        else:
            handler = loop.run_until_complete(tracked.__aenter__())
        config = {"callbacks": [handler]}
        cases.run_round(loop, invoke, workload.shrunk(0.2), config)

        def rounds() -> None:
            for _ in range(arguments.rounds):
                cases.run_round(loop, invoke, workload, config)

        if arguments.sampling:
            profiler = importlib.import_module("pyinstrument").Profiler(interval=0.0005)
            with profiler:
                rounds()
            print(profiler.output_text(unicode=True, show_all=True))
        else:
            profile = cProfile.Profile()
            profile.runcall(rounds)
            statistics = pstats.Stats(profile)
            statistics.sort_stats("tottime").print_stats("asynctrack|orjson|isinstance_python")
            statistics.print_stats(arguments.lines)
        if workload.sync:
            tracked.close()
        else:
            loop.run_until_complete(tracked.aclose())


if __name__ == "__main__":
    main()
