"""``report.md`` and the plots, from the committed results and from nothing else."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import _measure
from benchmarks.callbacks import CHAIN, SMALL
from benchmarks.lag import SITUATIONS
from benchmarks.tracers import EMPTY, INLINE, OURS

Results = dict[str, dict[str, Any]]


def write(folder: Path) -> Path:
    """Write the report beside the results it is made of.

    Returns:
        Its path.
    """
    names = (
        *("overhead", "stages", "callbacks", "tokens", "instructions", "garbage", "lag"),
        *("scale", "import_time"),
    )
    results: Results = {
        name: found for name in names if (found := _measure.load(name, folder)) is not None
    }
    plots = _plots(results, folder)
    parts = [
        "# What tracking costs, measured",
        "Written by `python -m benchmarks.run` from the JSON files beside it; nothing here is"
        " typed in by hand. Each figure is a median with its 95 % confidence interval; only"
        " figures of one run on one machine may be compared.",
        _conditions(results),
        "## Goals",
        _table(("what", "goal", "measured", "reached"), goals(results)),
        _in_the_way(results),
        *(f"![{title}]({name})" for title, name in plots),
        *_overhead_sections(results.get("overhead")),
        *_stage_section(results.get("stages"), results.get("instructions")),
        *_callback_section(results.get("callbacks")),
        *_instruction_section(results.get("instructions")),
        *_garbage_section(results.get("garbage")),
        *_lag_section(results.get("lag")),
        *_scale_section(results.get("scale")),
        *_import_section(results.get("import_time")),
    ]
    path = folder / "report.md"
    path.write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")
    return path


# -- goals ------------------------------------------------------------------------------------


_APP = "CPU on the application's path,"
_ALL = "CPU in the whole process,"


def goals(results: Results) -> list[tuple[str, str, str, str]]:
    """Return issue 4's goals with what was measured; reached when the upper bound is below."""
    rows: list[tuple[str, str, str, str]] = []

    def judge(what: str, limit: float, figure: dict[str, float] | None, unit: str = "×") -> None:
        if figure is None:
            rows.append((what, f"≤ {limit:g} {unit}", "not measured", "–"))
            return
        reached = "yes" if figure["high"] <= limit else "no"
        if reached == "no" and figure["low"] <= limit:
            reached = "not shown"
        rows.append((what, f"≤ {limit:g} {unit}", f"{_figure(figure)} {unit}", reached))

    for group, how in (("core", ""), ("frozen", ", gc.freeze()")):
        lcel = _found(results, "lcel-100", group)
        ours = lcel["tracers"][OURS] if lcel else {}
        judge(f"{_APP} of the empty async handler{how}", 0.35, ours.get("thread_over_empty"))
        judge(f"{_ALL} of the empty async handler{how}", 0.5, ours.get("process_over_empty"))
    peers = _found(results, "lcel-100", "peers")
    cheapest = _cheapest_complete_peer(peers)
    if peers and cheapest:
        # LangSmith's ratio to ours, turned over.
        over = peers["tracers"][cheapest]["process_over_ours"]
        inverse = {"value": 1 / over["value"], "low": 1 / over["high"], "high": 1 / over["low"]}
        judge(f"{_ALL} of {cheapest}, the cheapest peer that delivers everything", 0.1, inverse)
    else:
        judge(f"{_ALL} of the cheapest peer that delivers everything", 0.1, None)
    judge("streamed token, LangChain's call included, of the empty inline handler", 1.5,
          results.get("tokens", {}).get("ratio"))  # fmt: skip
    stream = _found(results, "stream", "core")
    judge("the same in the streaming workload, between everything else", 1.5,
          stream["tracers"][OURS].get("thread_over_inline") if stream else None)  # fmt: skip
    rows_by_stage = {row["stage"]: row for row in results.get("stages", {}).get("rows", ())}
    for stage, limit in (("encode + compress", 1.5), ("capture 100 KB", 1.3)):
        judge(f"{stage}, of its floor", limit, rows_by_stage.get(stage, {}).get("ratio"))
    lags = {row["situation"]: row for row in results.get("lag", {}).get("rows", ())}
    for situation in (one.name for one in SITUATIONS if one.tracked):
        for figure in ("p99", "max"):
            ratio = lags.get(situation, {}).get(f"{figure}_ratio")
            judge(f"event-loop lag {figure}, {situation}, of no handler", 1.1, ratio)
    rows += _scale_goals(results.get("scale"))
    imports = {row["import"]: row for row in results.get("import_time", {}).get("rows", ())}
    judge(
        "import asynctrack, of langchain_core.callbacks",
        1.1,
        imports.get("asynctrack", {}).get("ratio"),
    )
    small = {row["callback"]: row for row in results.get("callbacks", {}).get("rows", ())}
    judge("synchronous callback, events of ~350 bytes, caller's CPU", 5.0,
          small.get(SMALL, {}).get("sync_us"), "µs")  # fmt: skip
    sync = _found(results, "sync", "core")
    judge("synchronous invoke of the LCEL chain, each callback, LangChain's part included", 5.0,
          sync["tracers"][OURS].get("thread_us") if sync else None, "µs")  # fmt: skip
    return rows


def _scale_goals(scale: dict[str, Any] | None) -> list[tuple[str, str, str, str]]:
    if scale is None:
        return [
            (what, goal, "not measured", "–")
            for what, goal in (
                ("sustained rate, of what one core does", "≥ 70 %"),
                ("requests for a million events", "≤ 200"),
                ("memory added", "≤ max_buffer_bytes + 30 MB"),
            )
        ]
    last = scale["sizes"][-1]
    whole = last["delivered"] == last["accepted"] == last["events"] and not last["dropped"]
    buffer = (scale["buffer_bytes"] + 30e6) / 1e6
    rows = []
    for name, key in (
        ("with bare orjson and zstd, nothing else", "rate_over_bare"),
        ("with asynctrack's capture and encoder, nothing else", "rate_over_own"),
    ):
        measured = f"{scale[key]:.0%}{'' if whole else ', events missing'}"
        reached = "yes" if scale[key] >= 0.7 and whole else "no"
        rows.append((f"sustained rate, of what one core does {name}", "≥ 70 %", measured, reached))
    total = scale["million"]["requests_total"]
    rows.append(("requests for a million events", "≤ 200", f"{total:g}", _yes(total <= 200)))
    for name, run in (
        ("S3 well", last),
        *((f"S3 hangs, {n}", r) for n, r in scale["s3_down"].items()),
    ):
        added = run["rss_peak_added"] / 1e6
        rows.append(
            (
                f"memory added, {name}",
                f"≤ {buffer:.0f} MB",
                f"{added:.0f} MB",
                _yes(added <= buffer),
            )
        )
    return rows


def _in_the_way(results: Results) -> str:
    """Say what no handler can be below, from what was measured beside ours."""
    lines = []
    lcel = _found(results, "lcel-100", "core")
    if lcel:
        inline, ours = lcel["tracers"][INLINE], lcel["tracers"][OURS]
        lines.append(
            "LangChain's own part of an inline callback, with a handler that does nothing, is"
            f" {_figure(inline['thread_us'])} µs, {_figure(inline.get('thread_over_empty'))} × the"
            f" empty async handler: no inline handler can be below it. asynctrack is at"
            f" {_figure(ours['thread_us'])} µs."
        )
    rows = {row["callback"]: row for row in results.get("callbacks", {}).get("rows", ())}
    if CHAIN in rows:
        row = rows[CHAIN]
        lines.append(
            f"Of that, {_figure(row['async_us'])} µs are spent in asynctrack by itself, with"
            f" {row['orjson_us']} µs for bare orjson on the same events; the rest is what both cost"
            " between LangChain's own code, where caches hold neither. What it is spent on is in"
            " the tables of callbacks and stages below; `python -m benchmarks.profile` shows it."
        )
    return " ".join(lines)


def _yes(reached: bool) -> str:
    return "yes" if reached else "no"


def _cheapest_complete_peer(peers: dict[str, Any] | None) -> str | None:
    if peers is None:
        return None
    costs = {
        name: figures["process_us"]["value"]
        for name, figures in peers["tracers"].items()
        if name not in (EMPTY, INLINE, OURS) and figures.get("delivered", 0) >= 0.999
    }
    return min(costs, key=lambda name: costs[name]) if costs else None


# -- sections ---------------------------------------------------------------------------------


def _conditions(results: Results) -> str:
    lines = []
    for name, result in results.items():
        about = result["environment"]
        lines.append(
            f"- {name}: {about['when']}, git {about['git']}, Python {about['python']},"
            f" {about['cpus']} × {about['cpu']}, load {about['load_1_minute']}"
        )
    versions: dict[str, str] = {}
    for result in results.values():
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
        " of the events, or of the spans, arrived."
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
                _figure(figures["thread_us"]),
                _figure(figures.get("thread_over_empty")),
                _figure(figures["process_us"]),
                _figure(figures.get("process_over_empty")),
                _figure(figures["wall_us"]),
                f"{figures['slowdown']['value']:.2f}",
                f"{figures['flush_seconds']:.3f}",
                f"{figures['delivered']:.1%}" if "delivered" in figures else "",
            )
            for name, figures in result["tracers"].items()
        ]
        yield _table(
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
                _figure(row["us"]),
                _figure(row["floor_us"]),
                _figure(row["ratio"]),
                f"{count['ours']:,}" if count else "",
                f"{count['ratio']:.2f}" if count else "",
            )
        )
    yield _table(
        ("stage", "floor", "µs", "floor, µs", "ratio", "instructions", "ratio of instructions"),
        rows,
    )


def _callback_section(callbacks: dict[str, Any] | None) -> Iterable[str]:
    if callbacks is None:
        return
    yield (
        "## Each callback, inside asynctrack\n\nThrough the real handler into the spool,"
        " LangChain's part left out; microseconds of the calling thread."
    )
    yield _table(
        ("callback", "async, µs", "lowest", "sync, µs", "lowest", "bare orjson, µs"),
        [
            (row["callback"], _figure(row["async_us"]), f"{row['async_min_us']:.3g}",
             _figure(row["sync_us"]), f"{row['sync_min_us']:.3g}", f"{row['orjson_us']:.3g}")
            for row in callbacks["rows"]
        ],
    )  # fmt: skip


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
        yield _table(
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
    yield _table(
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
    yield _table(
        ("situation", "p50", "p99", "p99.9", "max", "p99 ×", "max ×", "close, s"),
        [
            (row["situation"],
             *(_figure(row[f"{name}_ms"]) for name in ("p50", "p99", "p999", "max")),
             _figure(row["p99_ratio"]), _figure(row["max_ratio"]), f"{row['close_seconds']:g}")
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
    yield _table(
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
    yield _table(
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
    yield _table(
        ("import", "CPU, ms", "wall, ms", "× langchain_core.callbacks"),
        [
            (row["import"], _figure(row["cpu_ms"]), _figure(row["wall_ms"]), _figure(row["ratio"]))
            for row in imports["rows"]
        ],
    )


# -- help -------------------------------------------------------------------------------------


def _found(results: Results, workload: str, group: str) -> dict[str, Any] | None:
    for result in results.get("overhead", {}).get("results", ()):
        named = result["workload"] == workload and result["group"] == group
        if named and "failed" not in result:
            found: dict[str, Any] = result
            return found
    return None


def _figure(figure: dict[str, float] | None) -> str:
    if figure is None:
        return ""
    value, low, high = (
        "∞" if figure[part] >= _measure.UNBOUNDED else f"{figure[part]:.3g}"
        for part in ("value", "low", "high")
    )
    return f"{value} ({low}–{high})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *("--:" for _ in head[1:])], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


# -- plots ------------------------------------------------------------------------------------


def _plots(results: Results, folder: Path) -> list[tuple[str, str]]:
    """Draw what there are results for; nothing without matplotlib. Returns titles and files."""
    if importlib.util.find_spec("matplotlib") is None:
        return []
    matplotlib = importlib.import_module("matplotlib")
    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "asynctrack"  # the same results give the same file
    pyplot = importlib.import_module("matplotlib.pyplot")
    made = []
    for name, title, draw in (
        ("overhead-by-tracer", "CPU added to a callback, by tracer", _draw_tracers),
        ("overhead-by-concurrency", "CPU added to a callback, by concurrency", _draw_concurrency),
        ("lag", "Event-loop lag", _draw_lag),
        ("memory", "Memory over time", _draw_memory),
        ("cost", "Cost of a million events at list prices", _draw_cost),
    ):
        figure, axes = pyplot.subplots(figsize=(7.5, 3.8), layout="constrained")
        if draw(results, axes):
            axes.set_title(title)
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
            made.append((title, f"{name}.svg"))
        pyplot.close(figure)
    return made


def _bars(axes: Any, names: list[str], figures: list[dict[str, float]], unit: str) -> None:
    values = [figure["value"] for figure in figures]
    # A confidence interval that the median of the differences itself left is drawn as none.
    spread = [
        [max(0.0, figure["value"] - figure["low"]) for figure in figures],
        [max(0.0, figure["high"] - figure["value"]) for figure in figures],
    ]
    colours = ["#c0392b" if name == OURS else "#7f8c8d" for name in names]
    axes.barh(names, values, xerr=spread, color=colours, ecolor="#2c3e50", capsize=3)
    axes.invert_yaxis()
    axes.set_xlabel(unit)


def _draw_tracers(results: Results, axes: Any) -> bool:
    measured: dict[str, Any] = {}
    for group in ("core", "peers", "mlflow"):
        found = _found(results, "lcel-100", group)
        for name, figures in (found or {"tracers": {}})["tracers"].items():
            measured.setdefault(name, figures["process_us"])
    if measured:
        _bars(axes, [*measured], [*measured.values()], "µs, whole process, flush included")
        axes.set_xscale("symlog", linthresh=10)
    return bool(measured)


def _draw_concurrency(results: Results, axes: Any) -> bool:
    points: dict[str, list[tuple[int, dict[str, float]]]] = {}
    for workload in ("lcel-1", "lcel-100", "lcel-10000"):
        found = _found(results, workload, "core")
        for name, figures in (found or {"tracers": {}})["tracers"].items():
            assert found is not None
            points.setdefault(name, []).append((found["concurrency"], figures["thread_us"]))
    for name, series in points.items():
        axes.plot(
            [at for at, _ in series],
            [max(0.0, one["value"]) for _, one in series],
            "o-",
            label=name,
        )
    if points:
        axes.set_xscale("log")
        axes.set_ylim(bottom=0)
        axes.set_xlabel("invocations at the same time")
        axes.set_ylabel("µs, application's thread")
        axes.legend()
    return bool(points)


def _draw_lag(results: Results, axes: Any) -> bool:
    rows = results.get("lag", {}).get("rows", ())
    for row in rows:
        axes.plot(row["sorted_ms"], range(101), label=row["situation"])
    if rows:
        axes.set_xscale("log")
        axes.set_xlabel("milliseconds late")
        axes.set_ylabel("% of samples")
        axes.legend(fontsize="small")
    return bool(rows)


def _draw_memory(results: Results, axes: Any) -> bool:
    scale = results.get("scale")
    if scale is None:
        return False
    runs = {f"{scale['sizes'][-1]['events']:,} events, S3 well": scale["sizes"][-1]}
    runs.update({f"S3 hangs, {name}": run for name, run in scale["s3_down"].items()})
    for name, run in runs.items():
        start = run["rss_before"] / 1e6
        memory = [(when, size - start) for when, size in run["memory"]]
        axes.plot([when for when, _ in memory], [size for _, size in memory], label=name)
    limit = (scale["buffer_bytes"] + 30e6) / 1e6
    axes.axhline(limit, linestyle="--", color="#2c3e50", label="max_buffer_bytes + 30 MB")
    axes.set_xlabel("seconds")
    axes.set_ylabel("MB added")
    axes.legend(fontsize="small")
    return True


def _draw_cost(results: Results, axes: Any) -> bool:
    scale = results.get("scale")
    if scale is None:
        return False
    million = scale["million"]
    names = ["asynctrack", "SageMakerCallbackHandler"]
    values = [
        million["dollars_requests"] + million["dollars_storage_month"],
        million["replaced_dollars_requests"] + million["replaced_dollars_storage_month"],
    ]
    axes.barh(names, values, color=["#c0392b", "#7f8c8d"])
    axes.set_xscale("log")
    axes.invert_yaxis()
    axes.set_xlabel("dollars: requests and one month of storage")
    for at, value in enumerate(values):
        axes.text(value, at, f" ${value:.4f}", va="center")
    axes.set_xlim(right=max(values) * 8)
    return True
