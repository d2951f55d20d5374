"""The scoreboard as a table, and beside it where asynctrack is not the best."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

OURS: Final = "asynctrack"
MB: Final = 1_000_000
SAME_SECONDS: Final = 0.25
SAME_BYTES: Final = 3 * MB
"""Differences below these, or below a tenth, are none: each cell is one run on a shared machine."""
SHOWN_PACKAGES: Final = (
    *("asynctrack", "langsmith", "langfuse", "opentelemetry-sdk"),
    *("openinference-instrumentation-langchain", "langchain-core"),
)

Result = Mapping[str, Any]


def line(row: str, scenario: str, cell: Result) -> str:
    """Return a cell in one line, for a terminal."""
    return f"{scenario} · {row}: {_shown(row, cell)}"


def markdown(result: Result) -> str:
    """Return the table, what it was measured on, how to read it, and where others are better."""
    rows = list(result["rows"])
    lines = ["| | " + " | ".join(rows) + " |", "|---|" + "--:|" * len(rows)]
    for scenario in result["scenarios"]:
        cells = result["cells"].get(scenario["name"], {})
        shown = [_shown(row, cells.get(row)) for row in rows]
        lines.append(f"| {scenario['title']} | " + " | ".join(shown) + " |")
    lines += ["", *_notes(result), "", *_honest(result)]
    return "\n".join(lines) + "\n"


def not_better(result: Result) -> Iterator[tuple[str, str]]:
    """Tell where a peer is as good as asynctrack, or better.

    Yields:
        The scenario's title, and what is to be said about it.
    """
    peers = [row for row in result["rows"] if not row.startswith((OURS, "no tracer"))]
    for scenario in result["scenarios"]:
        cells = result["cells"].get(scenario["name"], {})
        ours = cells.get(OURS)
        if ours is None:
            continue
        for measure, same in (
            ("lost", 0.0),
            ("exit_seconds", SAME_SECONDS),
            ("memory", SAME_BYTES),
        ):
            if measure not in _measures(scenario["name"]):
                continue
            for peer in peers:
                theirs = cells.get(peer)
                if theirs is None:
                    continue
                close = max(same, max(ours[measure], theirs[measure]) / 10 if same else 0.0)
                if abs(ours[measure] - theirs[measure]) <= close:
                    yield scenario["title"], f"{peer} is as good in {_NAMES[measure]}"
                elif theirs[measure] < ours[measure]:
                    mine, other = _value(measure, ours), _value(measure, theirs)
                    yield scenario["title"], f"{peer} is better: {other} against {mine}"


_SAME = {"lost": 0.0, "exit_seconds": SAME_SECONDS, "memory": SAME_BYTES}
_NAMES = {"lost": "spans lost", "exit_seconds": "exit time", "memory": "memory"}


def _measures(scenario: str) -> tuple[str, ...]:
    # A process that is killed ends at once whoever traces it, and so does one that is terminated.
    if scenario in ("kill", "term", "fork-exit"):
        return ("lost", "memory")
    return ("lost", "exit_seconds", "memory")


def _value(measure: str, cell: Result) -> str:
    if measure == "lost":
        return f"{cell['lost']:,} lost"
    if measure == "memory":
        return f"+{cell['memory'] / MB:.0f} MB"
    over = "> " if cell["killed"] else ""
    return f"{over}{cell['exit_seconds']:.1f} s"


def _shown(row: str, cell: Result | None) -> str:
    if cell is None:
        return ""
    if row == "no tracer":
        return ", ".join(_value(measure, cell) for measure in ("exit_seconds", "memory"))
    lost = _value("lost", cell)
    rest = ", ".join(_value(measure, cell) for measure in ("exit_seconds", "memory"))
    return f"**{lost}**, {rest}" if row.startswith(OURS) else f"{lost}, {rest}"


def _notes(result: Result) -> Iterator[str]:
    environment = result["environment"]
    versions = ", ".join(
        f"{name} {environment['versions'][name]}"
        for name in SHOWN_PACKAGES
        if name in environment["versions"]
    )
    yield (
        f"Each cell: spans lost of {4 * result['invocations']:,}, time from the return of the last"
        " callback to the end of the process, growth of its peak memory since before the first"
        " callback (mapped files included). The application holds a SageMaker Run, whoever"
        " traces it: taking it down is part of every exit. One run each, default settings, the"
        f" close that its documentation tells where the process ends normally; `>`: killed after"
        f" {result['limit']:g} s."
    )
    yield ""
    yield (
        "asynctrack's losses are counted in S3 by an independent auditor after a second process"
        " has opened a tracker on the same spool; a server that did not answer, or answered 503,"
        " works again by then. That is the promise: what is accepted waits on disk. The peers keep"
        " nothing beyond their process, so it makes no difference to them. A span of asynctrack"
        " counts when both its start and its end are there, a span of a peer when any part of it"
        " has arrived."
    )
    yield ""
    yield (
        f"{versions}; Python {environment['python']}, {environment['cpus']} × {environment['cpu']},"
        f" {environment['system']}, load {environment['load_1_minute']}; revision"
        f" {environment['git']}, {environment['when']}."
    )
    if result["not_installed"]:
        yield ""
        yield f"Not installed and left out: {', '.join(result['not_installed'])}."
    for failure in result["failed"]:
        yield ""
        yield f"Failed: {failure.splitlines()[0]}"


def _honest(result: Result) -> Iterator[str]:
    found: dict[str, list[str]] = {}
    for scenario, one in not_better(result):
        found.setdefault(scenario, []).append(one)
    if not found:
        yield "asynctrack is better than every other column in every row and every figure of it."
        return
    yield "Where asynctrack is not better than every other:"
    yield ""
    for scenario, said in found.items():
        yield f"- {scenario}: {'; '.join(said)}."
