"""Who loses what when things go wrong: ``python -m benchmarks.scoreboard [--quick]``.

The same workload (LangChain chains, 1,000 spans) runs in a child process with each tracer, against
a server of its kind behind a proxy. Then the process is killed, terminated, or was forked, or the
server has never answered, or has answered 503 all the time. What is counted is what the server has
in the end, how long the process took to end, and how much memory it took; see ``_scoreboard_cell``.

Peers are an extra of their own: ``langsmith``, ``langfuse``, ``opentelemetry-sdk`` with
``opentelemetry-exporter-otlp-proto-http`` and ``openinference-instrumentation-langchain``. Those
not installed are left out and named. Writes ``results/scoreboard.json`` and ``scoreboard.md``. All
of it takes about 10 minutes on two cores, ``--quick`` a few; quick results go to a folder of their
own, they are no figures to quote.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from benchmarks import _measure, tracers
from benchmarks._scoreboard_cell import Cell, Row, Scenario, Site, measure, site
from benchmarks._scoreboard_table import line, markdown

SCENARIOS: Final = (
    Scenario("well", "nothing goes wrong, normal exit"),
    Scenario("kill", "SIGKILL after the last callback", end="kill"),
    Scenario("term", "SIGTERM after the last callback", end="term"),
    Scenario("fork", "forked child tracks and ends normally", end="fork"),
    Scenario("fork-exit", "forked child tracks and calls `os._exit`", end="fork_exit"),
    Scenario("hang", "server accepts and never answers", fault="hang"),
    Scenario("503", "server answers 503 all the time", fault="503"),
    Scenario(
        "hang-100kb",
        "server never answers, prompts of 100 KB",
        fault="hang",
        workload="payload-100kb",
    ),
)
ROWS: Final = (
    Row("asynctrack", tracers.OURS),
    Row("LangSmith", "LangSmith"),
    Row("Langfuse", "Langfuse"),
    Row("OpenTelemetry (OpenInference, batch)", "OpenInference + OTel batch"),
    Row("no tracer", tracers.BASE),
)
QUICK: Final = ("well", "kill", "hang")


def applies(row: Row, scenario: Scenario) -> bool:
    """Tell whether a cell says anything: some rows differ in some scenarios only."""
    if row.tracer == tracers.BASE:  # what the workload itself takes
        return scenario.workload != SCENARIOS[0].workload or scenario.name == "well"
    return True


def run(
    servers: Site,
    rows: Sequence[Row] = ROWS,
    scenarios: Sequence[Scenario] = SCENARIOS,
    *,
    invocations: int = 250,
    limit: float = 60.0,
    save: Callable[[dict[str, Any]], object] = lambda result: None,
) -> dict[str, Any]:
    """Measure all cells.

    Args:
        servers: From ``_scoreboard_cell.site``.
        rows: Who.
        scenarios: What goes wrong.
        invocations: Chains in a cell; each has four spans.
        limit: Seconds that a process may take to end before it is killed.
        save: Called with the result so far after each cell.
    """
    missing = {row.title: need for row in ROWS if (need := tracers.installed(row.tracer))}
    cells: dict[str, dict[str, Any]] = {}
    failed: list[str] = []
    result: dict[str, Any] = {
        "invocations": invocations,
        "limit": limit,
        "scenarios": [asdict(scenario) for scenario in SCENARIOS],
        "rows": [row.title for row in ROWS if row.title not in missing],
        "not_installed": missing,
        "failed": failed,
        "cells": cells,
    }
    for scenario in scenarios:
        for row in rows:
            if row.title in missing or not applies(row, scenario):
                continue
            started = time.monotonic()
            try:
                cell: Cell = measure(row, scenario, servers, invocations=invocations, limit=limit)
            except RuntimeError as error:
                # The others are worth having all the same; the exit code tells.
                failed.append(f"{row.title}, {scenario.title}: {error}")
                print(failed[-1], file=sys.stderr, flush=True)
                continue
            # Beside each: parts of a scoreboard may be measured at different times.
            measured = {**asdict(cell), "git": _measure.environment()["git"]}
            cells.setdefault(scenario.name, {})[row.title] = measured
            took = time.monotonic() - started
            print(f"{line(row.title, scenario.title, asdict(cell))} ({took:.0f} s)", flush=True)
            save(result)
    save(result)
    return result


def added(saved: dict[str, Any] | None, result: dict[str, Any]) -> dict[str, Any]:
    """Return the result with those cells of a saved one that it does not have itself."""
    if saved is None:
        return result
    cells = {
        name: {**saved["cells"].get(name, {}), **result["cells"].get(name, {})}
        for name in {**saved["cells"], **result["cells"]}
    }
    return {**result, "cells": cells, "failed": [*saved["failed"], *result["failed"]]}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller, to see that it runs")
    parser.add_argument("--only", nargs="*", choices=[scenario.name for scenario in SCENARIOS])
    parser.add_argument("--rows", nargs="*", choices=[row.title for row in ROWS])
    parser.add_argument("--add", action="store_true", help="keep what was measured before")
    parser.add_argument("--limit", type=float, help="seconds until a process is killed")
    parser.add_argument("--results", type=Path, help="where they go")
    parser.add_argument("--table", action="store_true", help="only write the table anew")
    parsed = parser.parse_args(arguments)
    quick = _measure.RESULTS.with_name("results-quick")
    folder = parsed.results or (quick if parsed.quick else _measure.RESULTS)
    failed = False
    if not parsed.table:
        names = parsed.only or (QUICK if parsed.quick else [one.name for one in SCENARIOS])
        before = _measure.load("scoreboard", folder) if parsed.add else None

        def save(result: dict[str, Any]) -> None:
            _measure.save("scoreboard", added(before, result), folder)

        with site() as servers:
            result = run(
                servers,
                [row for row in ROWS if parsed.rows is None or row.title in parsed.rows],
                [scenario for scenario in SCENARIOS if scenario.name in names],
                invocations=50 if parsed.quick else 250,
                limit=parsed.limit or (10.0 if parsed.quick else 60.0),
                save=save,
            )
        failed = bool(result["failed"])
    saved = _measure.load("scoreboard", folder)
    if saved is None:
        print(f"there is no scoreboard.json in {folder}", file=sys.stderr)
        return 1
    path = folder / "scoreboard.md"
    path.write_text(markdown(saved), encoding="utf-8")
    print(f"{path} is written")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
