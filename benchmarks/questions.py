"""How long the command line takes to answer: ``python -m benchmarks.questions FOLDER``.

FOLDER holds the Runs of one experiment: those of ``python -m benchmarks.generate``, say, or of the
tests' bot. Every question is a command of its own, as a user types it, from its start to its end.
The first one finds no index; the next ones find it. All of them find the files in the system's
cache, as far as it holds them.

A machine may be several times slower on one day than on another. What it is now is told by a
yardstick: how long Python takes to import ``langchain_core.callbacks``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks import _measure

BY_MODEL: Final = (
    "SELECT model, count(*) AS calls, quantile_disc(duration, 0.95) AS p95,"
    " sum(input_tokens) AS tokens FROM spans WHERE kind = 'chat_model' GROUP BY ALL ORDER BY ALL"
)
FAILURES: Final = (
    "SELECT name, count(*) AS calls, count(*) FILTER (outcome = 'error') AS failed"
    " FROM spans WHERE kind = 'tool' GROUP BY ALL ORDER BY failed DESC"
)


def questions(where: str, run: str, phrase: str) -> dict[str, Sequence[str]]:
    """Return the commands, by their names.

    Args:
        where: The experiment's folder.
        run: That of one of its Runs.
        phrase: What to search for.
    """
    return {
        "describe": ("query", where, "DESCRIBE spans"),
        "count": ("query", where, "SELECT count(*) FROM spans"),
        "p95 and tokens by model": ("query", where, BY_MODEL),
        "failures by tool": ("query", where, FAILURES),
        "show": ("show", run),
        "threads": ("threads", where),
        "search": ("search", where, phrase),
    }


def ask(command: Sequence[str], environment: Mapping[str, str]) -> dict[str, float]:
    """Run a command; return its seconds, CPU seconds and peak memory in bytes.

    Raises:
        RuntimeError: It failed.
    """
    began = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "asynctrack.cli", *command],
            stdout=said, stderr=said, env=environment,
        )  # fmt: skip
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - began
        if process.returncode:
            said.seek(0)
            raise RuntimeError(f"{command} failed:\n{said.read().decode()[-2000:]}")
    return {
        "seconds": seconds,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_bytes": used.ru_maxrss * 1024,
    }


def measure(folder: Path, *, phrase: str, times: int) -> dict[str, Any]:
    """Ask everything, first without an index.

    Args:
        folder: The experiment's Runs are in it.
        phrase: What to search for.
        times: How often each question is asked again.
    """
    import asynctrack

    (experiment,) = folder.glob("asynctrack/v1/experiment=*")
    run = min(experiment.glob("run=*"))
    events = sum(asynctrack.verify(one).events for one in experiment.glob("run=*"))
    with tempfile.TemporaryDirectory(dir=folder) as index:
        environment = {**_measure.clean_environment(), "ASYNCTRACK_INDEX_DIR": index}
        asked = questions(str(experiment), str(run), phrase)
        first = ask(asked["p95 and tokens by model"], environment)
        size = sum(path.stat().st_size for path in Path(index).rglob("*") if path.is_file())
        again: dict[str, Any] = {}
        for name, command in asked.items():
            found = [ask(command, environment) for _ in range(times)]
            again[name] = {
                "seconds": [one["seconds"] for one in found],
                "cpu_seconds": statistics.median([one["cpu_seconds"] for one in found]),
                "peak_bytes": max(one["peak_bytes"] for one in found),
            }
    yardstick = statistics.median(_yardstick() for _ in range(9))
    return {
        "events": events,
        "index_bytes": size,
        "first": first,
        "next": again,
        "yardstick_seconds": yardstick,
    }


def _yardstick() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import langchain_core.callbacks"], check=True)
    return time.perf_counter() - began


def text(result: Mapping[str, Any]) -> str:
    """Return a result in lines."""
    first = result["first"]
    found = [
        f"{result['events']:,} events; the index takes {result['index_bytes'] / 1e6:,.0f} MB",
        f"{'first question':26}{first['seconds']:8.2f} s {first['peak_bytes'] / 1e6:8,.0f} MB",
    ]
    for name, one in result["next"].items():
        seconds = statistics.median(one["seconds"])
        found.append(f"{'next: ' + name:26}{seconds:8.2f} s {one['peak_bytes'] / 1e6:8,.0f} MB")
    return "\n".join(found)


def markdown(results: Sequence[Mapping[str, Any]]) -> str:
    """Return a table with a column for each result, the smallest first."""
    heads = [f"{one['events']:,} events" for one in results]
    rows = {
        "the index, in MB": [f"{one['index_bytes'] / 1e6:,.0f}" for one in results],
        "first question, in s": [f"{one['first']['seconds']:.1f}" for one in results],
        "its memory, in MB": [f"{one['first']['peak_bytes'] / 1e6:,.0f}" for one in results],
    }
    for name in results[0]["next"]:
        medians = [statistics.median(one["next"][name]["seconds"]) for one in results]
        rows[f"next: {name}, in s"] = [f"{seconds:.2f}" for seconds in medians]
    memory = [max(one["peak_bytes"] for one in result["next"].values()) for result in results]
    rows["their memory, in MB"] = [f"{size / 1e6:,.0f}" for size in memory]
    rows["the yardstick, in s"] = [f"{one['yardstick_seconds']:.2f}" for one in results]
    lines = [("", *heads), ("---", *("--:" for _ in heads))]
    lines += [(name, *cells) for name, cells in rows.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--phrase", default="lighthouse 7", help="what to search for")
    parser.add_argument("--times", type=int, default=5, help="each question is asked again")
    parser.add_argument("--name", default="questions", help="of the result, in benchmarks/results")
    parser.add_argument("--save", action="store_true", help="write the result")
    options = parser.parse_args()
    result = measure(options.folder.absolute(), phrase=options.phrase, times=options.times)
    print(text(result))
    if options.save:
        _measure.save(options.name, result)


if __name__ == "__main__":
    main()
