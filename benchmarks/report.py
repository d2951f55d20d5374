"""``report.md`` and the plots, from the committed results and from nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks import _measure
from benchmarks._report_format import Results, shown, table
from benchmarks._report_goals import goals, in_the_way
from benchmarks._report_many import many_section
from benchmarks._report_plots import plots
from benchmarks._report_values import (
    EARLIER,
    compression_section,
    life_section,
    value_goals,
    values_section,
)
from benchmarks.stages import MAPPED


def write(folder: Path) -> Path:
    """Write the report beside the results it is made of.

    Returns:
        Its path.
    """
    names = (
        *("overhead", "stages", "callbacks", "anatomy", "tokens", "instructions", "garbage"),
        *("lag", "scale", "import_time", "many", "values", "life", "compression", *EARLIER),
    )
    results: Results = {
        name: found for name in names if (found := _measure.load(name, folder)) is not None
    }
    drawn = plots(results, folder)
    parts = [
        "# What tracking costs, measured",
        "Written by `python -m benchmarks.run` from the JSON files beside it; nothing here is"
        " typed in by hand. Each figure is a median with its 95 % confidence interval; only"
        " figures of one run on one machine may be compared.",
        _conditions(results),
        "## Goals",
        table(("what", "goal", "measured", "reached"), goals(results)),
        *_value_goals(results),
        in_the_way(results),
        *(f"![{title}]({name})" for title, name in drawn),
        *_overhead_sections(results.get("overhead")),
        *_stage_section(results.get("stages"), results.get("instructions")),
        *_callback_section(results.get("callbacks")),
        *_anatomy_section(results.get("anatomy")),
        *_instruction_section(results.get("instructions")),
        *_garbage_section(results.get("garbage")),
        *_lag_section(results.get("lag")),
        *_scale_section(results.get("scale")),
        *many_section(results.get("many")),
        *values_section(results),
        *life_section(results),
        *compression_section(results.get("compression")),
        *_import_section(results.get("import_time")),
    ]
    path = folder / "report.md"
    path.write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")
    return path


# -- sections ---------------------------------------------------------------------------------


def _value_goals(results: Results) -> Iterable[str]:
    if not {"values", "life"} & results.keys():
        return
    yield (
        "### Large values, and whole lives\n\n*Before*: the code before values were stored once,"
        " measured by the same programs (`*-before.json`)."
    )
    yield table(("what", "goal", "before", "after", "reached"), [*value_goals(results)])


def _conditions(results: Results) -> str:
    lines = []
    for name, result in results.items():
        about = result["environment"]
        lines.append(
            f"- {name}: {about['when']}, git {about['git']}, Python {about['python']},"
            f" {about['cpus']} × {about['cpu']}, load {about['load_1_minute']}"
        )
    versions: dict[str, str] = {}
    for name, result in results.items():
        if name not in EARLIER:
            versions.update(result["environment"]["versions"])
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    return "\n".join([*lines, f"- versions: {listed}"])


def _overhead_sections(overhead: dict[str, Any] | None) -> Iterable[str]:
    if overhead is None:
        return
    yield "## Added to each callback"
    yield (
        "Differences to no handler in the same round, in microseconds. *App CPU*: the thread of"
        " the event loop. *Process CPU*: all threads, the flush included. *Delivered*: what share"
        " of the events, or of the spans, arrived. An empty async handler costs what the tasks do"
        " that langchain-core makes for its callbacks, and the full garbage collections that these"
        " bring about; *frozen* is without collections, by `gc.freeze()`, which is what"
        " `asynctrack demo` measures."
    )
    for result in overhead["results"]:
        if "failed" in result:
            title = f"### {result['workload']} ({result['group']}) failed"
            yield f"{title}\n\n```\n{result['failed']}\n```"
            continue
        yield (
            f"### {result['title']} ({result['group']})\n\n"
            f"{result['callbacks']} callbacks an invocation; {result['processes']} processes ×"
            f" {result['rounds']} rounds × {result['invocations']} invocations; without a handler"
            f" {result['base_us']['value']:.4g} µs a callback; {result['live_objects']:,} live"
            f" objects. {_measured(result)}"
            + "".join(f" Not installed: {name}." for name in result["missing"])
        )
        rows = [
            (
                name,
                shown(figures["thread_us"]),
                shown(figures.get("thread_over_empty")),
                shown(figures["process_us"]),
                shown(figures.get("process_over_empty")),
                shown(figures["wall_us"]),
                f"{figures['slowdown']['value']:.2f}",
                f"{figures['flush_seconds']:.3f}",
                f"{figures['delivered']:.1%}" if "delivered" in figures else "",
            )
            for name, figures in result["tracers"].items()
        ]
        yield table(
            ("tracer", "app CPU", "× empty async", "process CPU", "× empty async", "wall",
             "application × no handler", "flush, s", "delivered"),
            rows,
        )  # fmt: skip


def _measured(result: dict[str, Any]) -> str:
    about = result.get("measured")
    if about is None:  # results from before it was written down
        return ""
    return f"Measured {about['when']}, git {about['git']}, load {about['load_1_minute']}."


def _stage_section(
    stages: dict[str, Any] | None, instructions: dict[str, Any] | None
) -> Iterable[str]:
    if stages is None:
        return
    counted = {row["stage"]: row for row in (instructions or {}).get("rows", ())}
    yield "## Stages, for each event"
    rows = []
    for row in stages["rows"]:
        count = counted.get(row["stage"])
        rows.append(
            (
                row["stage"],
                row["floor"],
                shown(row["us"]),
                shown(row["floor_us"]),
                shown(row["ratio"]),
                f"{count['ours']:,}" if count else "",
                f"{count['ratio']:.2f}" if count else "",
            )
        )
    yield table(
        ("stage", "floor", "µs", "floor, µs", "ratio", "instructions", "ratio of instructions"),
        rows,
    )
    yield from _written(stages)


def _written(stages: dict[str, Any]) -> Iterable[str]:
    """How the disk is written, and what that costs the application's thread."""
    rows = {row["stage"]: row for row in stages["rows"]}
    if MAPPED not in rows:
        return
    written, long = rows["spool"], rows["spool 2 KB"]
    yield (
        "Each event that is accepted is one `pwrite` on the caller's thread, of the line and its"
        f" checksum together: {written['us']['value']:.2g} µs, {long['us']['value']:.2g} µs for a"
        f" line of 2 KB, of which the bare call is {written['floor_us']['value']:.2g} and"
        f" {long['floor_us']['value']:.2g} µs, and 0.2 µs asks whether the descriptor is still the"
        " spool's. The operating system has the event then, whatever becomes of the process. A"
        f" copy into a mapped file would take {rows[MAPPED]['floor_us']['value']:.2g} µs, and kill"
        " the program when somebody else cuts the file short."
    )


def _callback_section(callbacks: dict[str, Any] | None) -> Iterable[str]:
    if callbacks is None:
        return
    yield (
        "## Each callback, inside asynctrack\n\nThrough the real handler into the spool,"
        " LangChain's part left out; microseconds of the calling thread."
    )
    yield table(
        ("callback", "async, µs", "lowest", "sync, µs", "lowest", "bare orjson, µs"),
        [
            (row["callback"], shown(row["async_us"]), f"{row['async_min_us']:.3g}",
             shown(row["sync_us"]), f"{row['sync_min_us']:.3g}", f"{row['orjson_us']:.3g}")
            for row in callbacks["rows"]
        ],
    )  # fmt: skip


def _anatomy_section(anatomy: dict[str, Any] | None) -> Iterable[str]:
    if anatomy is None:
        return
    yield (
        "## What a callback's cost is made of, inside a running chain\n\nHandlers that do more and"
        " more of what asynctrack does, interleaved on the LCEL workload with `gc.freeze()`:"
        f" {anatomy['processes']} processes × {anatomy['rounds']} rounds × {anatomy['invocations']}"
        " invocations. What one adds to the one before, in microseconds of the loop's thread."
    )
    rows = [(row["part"], row["what"], shown(row["us"])) for row in anatomy["rows"]]
    yield table(("part", "what", "µs"), [*rows, ("together", "", shown(anatomy["total_us"]))])


def _instruction_section(instructions: dict[str, Any] | None) -> Iterable[str]:
    if instructions is None:
        return
    yield (
        "## Instructions\n\nCounted by callgrind, for each callback; no times, but they repeat"
        " exactly, whatever else the machine does. asynctrack tracks into a folder here; the flush"
        " is its worker's part of the work."
    )
    for result in instructions["workloads"]:
        yield f"### {result['workload']}: {result['base']:,} without a handler"
        yield table(
            ("handler", "added", "× empty async", "flush", "with it × empty async"),
            [
                (row["tracer"], f"{row['added']:,}", f"{row['over_empty']:.3g}",
                 f"{row['flush']:,}", f"{row['with_flush_over_empty']:.3g}")
                for row in result["rows"]
            ],
        )  # fmt: skip


def _garbage_section(garbage: dict[str, Any] | None) -> Iterable[str]:
    if garbage is None:
        return
    yield "## Collections, with and without `gc.freeze()`"
    yield table(
        ("tracer", "gc.freeze()", "live objects", "wall, µs a callback", "of it collections, µs",
         "full ones a round", "young ones a round"),
        [
            (row["tracer"], "yes" if row["freeze"] else "no", f"{row['live_objects']:,}",
             f"{row['wall_us']:g}", f"{row['gc_us']:g}", f"{row['full_collections_per_round']:g}",
             f"{row['young_collections_per_round']:g}")
            for row in garbage["rows"]
        ],
    )  # fmt: skip


def _lag_section(lag: dict[str, Any] | None) -> Iterable[str]:
    if lag is None:
        return
    yield (
        "## Event-loop lag\n\n"
        f"{lag['samples']} processes each, {lag['seconds']:g} s at {lag['rate']} invocations a"
        " second, start and close included; milliseconds, and ratios to no handler."
    )
    yield table(
        ("situation", "p50", "p99", "p99.9", "max", "p99 ×", "max ×", "close, s"),
        [
            (row["situation"],
             *(shown(row[f"{name}_ms"]) for name in ("p50", "p99", "p999", "max")),
             shown(row["p99_ratio"]), shown(row["max_ratio"]), f"{row['close_seconds']:g}")
            for row in lag["rows"]
        ],
    )  # fmt: skip


def _scale_section(scale: dict[str, Any] | None) -> Iterable[str]:
    if scale is None:
        return
    core = scale["one_core"]
    yield (
        "## Scale\n\n"
        f"Events of {core['event_bytes']:.0f} bytes, as fast as the handler takes them. One core"
        f" encodes and compresses {core['bare']:,.0f} of them a second with bare orjson and zstd,"
        f" {core['own']:,.0f} with asynctrack's capture and encoder and nothing else."
    )
    yield table(
        ("events", "delivered", "events a second", "CPU, µs", "of it application's", "memory, MB",
         "flush, s", "requests"),
        [
            (f"{row['events']:,}", f"{row['delivered']:,}", f"{row['rate']:,.0f}",
             f"{row['cpu_us']:.1f}", f"{row['app_cpu_us']:.1f}",
             f"{row['rss_peak_added'] / 1e6:.0f}", f"{row['flush']:.2f}",
             ", ".join(f"{count} {name}" for name, count in row["requests_at_end"].items()))
            for row in scale["sizes"]
        ],
    )  # fmt: skip
    together, million = scale["together"], scale["million"]
    if together is not None:
        yield (
            f"{together['processes']} processes into one Run at the same time:"
            f" {together['delivered']:,} of {together['events']:,} delivered,"
            f" {together['rate']:,.0f} a second together."
        )
    yield (
        f"A million events: {million['requests_total']:g} requests"
        f" ({', '.join(f'{count:g} {name}' for name, count in million['requests'].items())}),"
        f" {million['stored_bytes'] / 1e6:.0f} MB stored; at list prices"
        f" ${million['dollars_requests']:.4f} for requests and"
        f" ${million['dollars_storage_month']:.4f} a month. The replaced handler:"
        f" {million['replaced_requests']:,} requests, ${million['replaced_dollars_requests']:.2f},"
        f" ${million['replaced_dollars_storage_month']:.4f} a month. Prices: {scale['prices']}"
    )
    yield table(
        ("S3 never answers", "events", "accepted", "spooled", "dropped", "memory added, MB"),
        [
            (name, f"{row['events']:,}", f"{row['accepted']:,}", f"{row['spooled']:,}",
             f"{sum(row['dropped'].values()):,}", f"{row['rss_peak_added'] / 1e6:.0f}")
            for name, row in scale["s3_down"].items()
        ],
    )  # fmt: skip


def _import_section(imports: dict[str, Any] | None) -> Iterable[str]:
    if imports is None:
        return
    yield "## Imports"
    yield table(
        ("import", "CPU, ms", "wall, ms", "× langchain_core.callbacks"),
        [
            (row["import"], shown(row["cpu_ms"]), shown(row["wall_ms"]), shown(row["ratio"]))
            for row in imports["rows"]
        ],
    )
