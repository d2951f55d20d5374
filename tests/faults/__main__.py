"""The fault tests at any scale: ``python -m tests.faults [--scale 10] [--seeds 10000] [--only …]``.

Each part is what a test in this folder or in ``tests/crash`` does with every push, more often:
``--scale 1`` are the numbers of the fault matrix divided by ten, ``--scale 10`` those numbers.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]


def simulate(seeds: int, first: int = 0) -> bool:
    """Play seeds of the simulation; tell whether all invariants held."""
    from tests.faults.simulation import play, scratch

    logging.disable(logging.CRITICAL)
    began = time.monotonic()
    with scratch() as folder:
        for seed in range(first, first + seeds):
            try:
                play(seed, folder / str(seed))
            except AssertionError as error:
                print(f"\n{error}")
                return False
            if seed % 50 == 49 or seed == first + seeds - 1:
                done = seed - first + 1
                print(f"\r{done} seeds, {time.monotonic() - began:.0f} s", end="", flush=True)
    print()
    return True


def command(*arguments: str, **environment: str) -> bool:
    """Run a program of this repository; tell whether it ended well."""
    import os

    print("$", *(f"{name}={value}" for name, value in environment.items()), *arguments, flush=True)
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env={**os.environ, **environment}, check=False
    )
    return done.returncode == 0


def tests(scale: int, *names: str) -> bool:
    """Run tests that read ``FAULT_SCALE``, at a scale."""
    return command(*("-m", "pytest", "-q", "-n0", "--timeout=7200", *names), FAULT_SCALE=str(scale))


def parts(scale: int, seeds: int, first: int) -> dict[str, Callable[[], bool]]:
    """What there is to do, by name."""
    return {
        "simulation": lambda: simulate(seeds, first),
        "kills": lambda: command("-m", "tests.crash", "--kills", str(200 * scale)),
        "crashes": lambda: command(
            *("-m", "pytest", "-q", "-n0", "--timeout=7200", "tests/buffer/test_store.py"),
            SPOOL_EXAMPLES=str(200 * scale),
        ),
        "requests": lambda: tests(
            scale,
            "tests/faults/test_requests.py::test_answers_lost",
            "tests/faults/test_requests.py::test_bits_flipped_on_the_way",
        ),
        "forks": lambda: tests(
            scale, "tests/faults/test_process.py::test_forked_with_every_lock_in_use"
        ),
        "gunicorn": lambda: tests(scale, "tests/faults/test_gunicorn.py"),
        "frozen": lambda: tests(scale, "tests/faults/test_process.py::test_frozen_and_thawed"),
        "threads": lambda: tests(scale, "tests/faults/test_tasks.py::test_threads_times_loops"),
        "cancelled": lambda: tests(
            scale, "tests/faults/test_tasks.py::test_cancelled_at_any_await"
        ),
        "disk": lambda: tests(scale, "tests/crash/test_disk.py::test_any_call_may_fail"),
        "finalizers": lambda: tests(
            scale, "tests/faults/test_process.py::test_finalizers_that_log_at_any_moment"
        ),
    }


def main() -> int:
    """Run from the command line; the exit code is 1 when anything did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--scale", type=int, default=10)
    parser.add_argument("--seeds", type=int, help="of the simulation; 1,000 times the scale")
    parser.add_argument("--first", type=int, default=0, help="seed")
    parser.add_argument("--only", nargs="*", choices=list(parts(1, 1, 0)))
    given = parser.parse_args()
    seeds = 1000 * given.scale if given.seeds is None else given.seeds
    only = given.only or (["simulation"] if given.seeds is not None else None)
    failed = []
    for name, part in parts(given.scale, seeds, given.first).items():
        if only is not None and name not in only:
            continue
        began = time.monotonic()
        print(f"== {name}", flush=True)
        if not part():
            failed.append(name)
        print(f"== {name}: {time.monotonic() - began:.0f} s", flush=True)
    print("failed: " + ", ".join(failed) if failed else "all of it held")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
