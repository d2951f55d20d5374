"""The report's plots."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

from benchmarks._report_format import Results, overhead_of
from benchmarks.tracers import OURS


def plots(results: Results, folder: Path) -> list[tuple[str, str]]:
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
        found = overhead_of(results, "lcel-100", group)
        for name, figures in (found or {"tracers": {}})["tracers"].items():
            measured.setdefault(name, figures["process_us"])
    if measured:
        _bars(axes, [*measured], [*measured.values()], "µs, whole process, flush included")
        axes.set_xscale("symlog", linthresh=10)
    return bool(measured)


def _draw_concurrency(results: Results, axes: Any) -> bool:
    points: dict[str, list[tuple[int, dict[str, float]]]] = {}
    for workload in ("lcel-1", "lcel-100", "lcel-10000"):
        found = overhead_of(results, workload, "core")
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
