"""Issue 12's goals, before and after, and its sections: large values, whole lives, compression."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from benchmarks._life_child import FOLDER, S3
from benchmarks._report_format import Results, judged, overhead_of, shown, table
from benchmarks.life import WHOLE
from benchmarks.tracers import OURS
from benchmarks.values import IMAGES, KINDS

BEFORE: Final = "-before"
"""How the results of the code before issue 12 end."""
EARLIER: Final = tuple(f"{name}{BEFORE}" for name in ("values", "life", "overhead", "lag"))

_SEEN: Final = "100 KB text, seen before: what it adds on the application's thread, of bare orjson"
_NEW: Final = "100 KB text, new: what it adds on the application's thread, of bare orjson"

Figure = Mapping[str, float] | None


def value_goals(results: Results) -> Iterator[tuple[str, str, str, str, str]]:
    """Yield the goals of issue 12: what, goal, before, after, and whether it is reached."""
    before = {
        name.removesuffix(BEFORE): found for name, found in results.items() if name.endswith(BEFORE)
    }
    earlier, now = _figures(before), _figures(results)
    for what, (limit, unit) in _LIMITS.items():
        figure, old = now.get(what), earlier.get(what)
        name, goal, measured, reached = judged(what, limit, figure and dict(figure), unit)
        yield name, goal, f"{shown(dict(old))} {unit}" if old else "", measured, reached


_LIMITS: Final[Mapping[str, tuple[float, str]]] = {
    "LangGraph, 200 KB in the state, 60 steps: graph with tracking against without": (1.15, "×"),
    "– lines, of the information": (2.0, "×"),
    "– stored, of the information compressed by itself": (1.3, "×"),
    **{
        f"3 MB image {how}, six turns: {what}": limit
        for how in IMAGES.values()
        for what, limit in (
            ("longest stop of the loop", (5.0, "ms")),
            ("stored, of the information compressed by itself", (1.1, "×")),
        )
    },
    _SEEN: (0.5, "×"),
    _NEW: (1.3, "×"),
    "5 MB text, new: the callback, on the application's thread": (0.2, "ms"),
    "5 MB text, new: longest stop of the loop": (5.0, "ms"),
    **{
        f"LCEL, 100 at a time, whole life of {WHOLE:,} `ainvoke`, {where}: process, of the empty"
        " async handler": (0.5, "×")
        for where in ("folder", "S3")
    },
    "LCEL, steady state, application's thread, of the empty async handler": (0.35, "×"),
    "– the same after `gc.freeze()`": (1.0, "×"),
    "– whole process, of LangSmith": (0.1, "×"),
    "LangGraph agent, three tools, application's thread, of the empty async handler": (1.0, "×"),
    "fixed cost of a tracker, warm, folder, CPU": (3.0, "ms"),
    "fixed cost of a tracker, warm, S3, CPU": (6.0, "ms"),
    "loop lag p99, of no handler": (1.05, "×"),
    "loop lag, longest, of no handler": (1.1, "×"),
}


def _figures(results: Results) -> dict[str, Figure]:
    """Return what was measured, in the order of the limits."""
    found: list[Figure] = [
        *_values_figures(results.get("values")),
        *_life_figures(results.get("life"), "whole"),
        *_overhead_figures(results),
        *_life_figures(results.get("life"), "fixed"),
    ]
    lags = {row["situation"]: row for row in results.get("lag", {}).get("rows", ())}
    warm = lags.get("asynctrack, warm", {})
    found += [warm.get("p99_ratio"), warm.get("max_ratio")]
    return dict(zip(_LIMITS, found, strict=True))


def _values_figures(values: dict[str, Any] | None) -> Iterator[Figure]:
    if values is None:
        yield from [None] * (3 + 2 * len(IMAGES) + 4)
        return
    for name in ("wall", "lines", "stored"):
        yield values["graph"][f"{name}_ratio"]
    for name in IMAGES:
        yield values["images"][name]["stop_ms"]
        yield values["images"][name]["stored_ratio"]
    small, large = (values["texts"][size]["kinds"] for size in ("100 KB", "5 MB"))
    yield small["same"]["added_ratio"]
    yield small["new"]["added_ratio"]
    yield {name: value / 1e3 for name, value in large["new"]["us"].items()}
    yield large["new"]["stop_ms"]


def _life_figures(life: dict[str, Any] | None, what: str) -> Iterator[Figure]:
    rows = {row["tracer"]: row for row in (life or {}).get("rows", ())}
    for name in (FOLDER, S3):
        row = rows.get(name, {"sizes": []})
        if what == "fixed":
            yield row.get("process_fixed_ms")
        else:
            whole = [one for one in row["sizes"] if one["invocations"] == WHOLE]
            yield whole[0]["process_over_empty"] if whole else None


def _overhead_figures(results: Results) -> Iterator[Figure]:
    for workload, group in (("lcel-100", "core"), ("lcel-100", "frozen")):
        measured = overhead_of(results, workload, group)
        yield measured["tracers"][OURS].get("thread_over_empty") if measured else None
    peers = overhead_of(results, "lcel-100", "peers")
    over = peers["tracers"].get("LangSmith", {}).get("process_over_ours") if peers else None
    # LangSmith's ratio to ours, turned over.
    yield over and {"value": 1 / over["value"], "low": 1 / over["high"], "high": 1 / over["low"]}
    agent = overhead_of(results, "agent", "core")
    yield agent["tracers"][OURS].get("thread_over_empty") if agent else None


def values_in_the_way(values: dict[str, Any] | None) -> str:
    """Say what stands in the way of the goals of large values that are not reached."""
    if values is None:
        return ""
    graph, kinds = values["graph"], values["texts"]["100 KB"]["kinds"]
    added = {
        name: kinds[name]["us"]["value"] - values["texts"]["100 KB"]["short_us"]["value"]
        for name in ("same", "new")
    }
    return (
        "**Large values.** A step of the graph calls back four times, and two of these hand over"
        " the state: the document, and a conversation that grows to 60 messages. The document costs"
        " what a reference costs. Each message is compared with what it held when it was encoded,"
        " since it may have been changed; that is in the"
        f" {shown(graph['thread_us'])} µs that an event takes of the loop's thread (LangChain's"
        f" part included), while the graph itself takes {graph['thread_ms']['value']:.3g} ms for"
        f" {graph['events']} events. What the lines have besides the information are ids,"
        " LangGraph's metadata in each event, and references. A text of 100 KB adds"
        f" {added['same']:.3g} µs where it was seen before and {added['new']:.3g} µs where it is"
        " new, whatever its size: it is looked up, a sign stands for it while the event is searched"
        " for secrets, and a reference for the sign. Bare orjson takes"
        f" {values['texts']['100 KB']['bare_us']['value']:.3g} µs for it, so ratios as small as"
        " these are for larger texts: see the 5 MB. The longest stop there is one step over all of"
        " the text that does not let go of the interpreter."
    )


# -- sections ---------------------------------------------------------------------------------


def values_section(results: Results) -> Iterator[str]:
    """Yield what large values cost."""
    measured = [(suffix, results.get(f"values{suffix}")) for suffix in (BEFORE, "")]
    named = [(_when(suffix), one) for suffix, one in measured if one is not None]
    if not named:
        return
    yield (
        "## Large values\n\nA LangGraph graph of 60 steps whose state holds a document of 200 KB"
        " and a message more after each step; an image of 3 MB that goes through six turns of a"
        " conversation, as a data URL and as a block of LangChain's, of which LangChain tells the"
        " model's handlers as a data URL (so there are two forms of it, and its information is"
        " both). *Information* is what a run holds, each of it once, as JSON. Ratios of a run with"
        " a tracker to one without; the process with everything delivered; the longest stop, of a"
        " loop whose task asks to be woken each millisecond, until everything is delivered."
    )
    yield table(
        ("", "wall ×", "application's thread ×", "process ×", "wall without, ms",
         "lines, of the information", "stored, of the information compressed",
         "longest stop, ms", "longest callback, ms", "longest stop without, ms"),
        [
            (f"{what}{when}", *(shown(one[f"{clock}_ratio"]) for clock in _CLOCKS),
             shown(one["wall_ms"]), shown(one["lines_ratio"]), shown(one["stored_ratio"]),
             shown(one["stop_ms"]), shown(one["callback_ms"]), shown(one["none_stop_ms"]))
            for when, result in named
            for what, one in (
                ("graph", result["graph"]),
                *((f"image {how}", result["images"][name]) for name, how in IMAGES.items()),
            )
        ],
    )  # fmt: skip
    yield (
        "One `on_chain_start` with a text, on the application's thread. *Whole*: the callback, of"
        " bare orjson on the text, which it cannot be under as long as a callback with a short text"
        " is not. *Adds*: what is left of it without that one."
    )
    yield table(
        ("text", "µs", "whole, of bare orjson", "adds, of bare orjson", "longest stop, ms",
         "a short text, µs", "bare orjson, µs"),
        [
            (f"{size}, {KINDS[kind]}{when}", shown(row["us"]), shown(row["whole_ratio"]),
             shown(row["added_ratio"]), shown(row["stop_ms"]), shown(one["short_us"]),
             shown(one["bare_us"]))
            for when, result in named
            for size, one in result["texts"].items()
            for kind, row in one["kinds"].items()
        ],
    )  # fmt: skip
    if result := results.get("values"):
        waits = ", ".join(
            f"{size} {shown(one['in_memory_ms'])} ms" for size, one in result["texts"].items()
        )
        yield (
            "From the end of the callback that brings a new text until the worker has encoded it,"
            f" searched it for secrets and written it to the spool, it is in memory only: {waits}."
        )


_CLOCKS: Final = ("wall", "thread", "process")


def life_section(results: Results) -> Iterator[str]:
    """Yield what whole lives cost."""
    measured = [(suffix, results.get(f"life{suffix}")) for suffix in ("", BEFORE)]
    named = [(_when(suffix), one) for suffix, one in measured if one is not None]
    if not named:
        return
    yield (
        "## The whole life of a tracker\n\nFrom before `tracker(run)` until after the end of the"
        " block, for the LCEL chain, 100 at a time: what is added to the same invocations without a"
        " handler. *Fixed* and *each callback*: the straight line through lives with 8 and with"
        " 10,000 callbacks, of warm lives: all but the first of a process. *Imports* and *first"
        " life* (one invocation, its own CPU included) in processes of their own that have imported"
        " LangChain and, for S3, the SDK that makes the Run. `import asynctrack` itself is in"
        " the table of imports; its parts are imported in its first life. A peer's life"
        " goes from making its client until it is shut"
        " down; what MLflow starts once goes on."
    )
    yield table(
        ("tracer", "imports, CPU ms", "first life, CPU ms", "fixed, CPU ms",
         "each callback, CPU µs", "fixed, application's thread, ms",
         "each callback, application's thread, µs", "fixed, wall ms", "delivered"),
        [
            (f"{row['tracer']}{when}", shown(row.get("imports_process_ms")),
             shown(row.get("first_process_ms")), shown(row["process_fixed_ms"]),
             shown(row["process_each_us"]), shown(row["thread_fixed_ms"]),
             shown(row["thread_each_us"]), shown(row["wall_fixed_ms"]),
             f"{row['delivered']:.1%}" if "delivered" in row else "")
            for when, result in named
            for row in result["rows"]
        ],
    )  # fmt: skip
    yield from _lives(named)
    missing = {name for _, result in named for name in result["missing"]}
    if missing:
        yield f"Not installed: {', '.join(sorted(missing))}."


def _lives(named: list[tuple[str, dict[str, Any]]]) -> Iterator[str]:
    yield "The lives that the line goes through; milliseconds of CPU of the whole process."
    yield table(
        ("tracer", "callbacks", "process, ms", "× empty async", "application's thread, ms",
         "× empty async", "wall, ms"),
        [
            (f"{row['tracer']}{when}", f"{size['callbacks']:,}", shown(size["process_ms"]),
             _over_empty(size, "process"), shown(size["thread_ms"]), _over_empty(size, "thread"),
             shown(size["wall_ms"]))
            for when, result in named
            for row in result["rows"]
            for size in row["sizes"]
        ],
    )  # fmt: skip


_FEW: Final = 1_000
"""Callbacks below which the empty handler adds less than a clock can tell."""


def _over_empty(size: dict[str, Any], clock: str) -> str:
    return shown(size.get(f"{clock}_over_empty")) if size["callbacks"] >= _FEW else ""


def compression_section(compression: dict[str, Any] | None) -> Iterator[str]:
    """Yield how zstd's settings compare, and what a dictionary would bring."""
    if compression is None:
        return
    yield (
        "## Compression\n\nProcessor time and size with other settings of zstd, in turns; *of level"
        " 3* with zstd's own window of 2 MiB. Taken is level 3 with a window of 8 MiB: it finds a"
        " large value that stands in a batch in two forms, costs nothing else, and is the most that"
        " the format asks every reader to take. Long-distance matching finds little more and costs"
        " small events twice their time; level 1 stores small events in less and texts in more."
    )
    yield table(
        ("lines", "MB", "setting", "ms for each MB", "of level 3", "smaller by",
         "stored, of level 3"),
        [
            (row["batch"], f"{row['bytes'] / 1e6:.2f}", row["setting"], shown(row["ms_per_mb"]),
             shown(row["time_ratio"]), f"{row['bytes'] / row['size']:.3g} ×",
             f"{row['size_ratio']:.3f} ×")
            for row in compression["rows"]
        ],
    )  # fmt: skip
    yield (
        f"A dictionary of {compression['dictionary_bytes'] / 1024:.0f} KiB, trained with other runs"
        " of the same chain. It is not used: whoever reads would need it, and no engine takes one."
    )
    yield table(
        ("short runs", "bytes", "stored", "with the dictionary", "µs", "with the dictionary, µs"),
        [
            (f"{row['events']} events", f"{row['bytes']:,}", f"{row['plain']['size']:,}",
             f"{row['dictionary']['size']:,}", shown(row["plain"]["us"]),
             shown(row["dictionary"]["us"]))
            for row in compression["short"]
        ],
    )  # fmt: skip


def _when(suffix: str) -> str:
    return ", before" if suffix else ""
