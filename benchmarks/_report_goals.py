"""The goals of issues 4 and 10 beside what was measured, and what stands in the way."""

from __future__ import annotations

from typing import Any

from benchmarks._report_format import Results, judged, overhead_of, shown
from benchmarks._report_many import many_goals, many_in_the_way
from benchmarks._report_values import values_in_the_way
from benchmarks.callbacks import CHAIN, SMALL
from benchmarks.lag import BESIDE, SITUATIONS
from benchmarks.stages import LEAST
from benchmarks.tracers import EMPTY, EMPTY_SYNC, INLINE, OURS

_APP = "CPU on the application's path,"
_ALL = "CPU in the whole process,"


def goals(results: Results) -> list[tuple[str, str, str, str]]:
    """Return the goals with what was measured; reached when the upper bound is below."""
    rows: list[tuple[str, str, str, str]] = []

    def judge(what: str, limit: float, figure: dict[str, float] | None, unit: str = "×") -> None:
        rows.append(judged(what, limit, figure, unit))

    for group, how in (("core", ""), ("frozen", ", gc.freeze()")):
        lcel = overhead_of(results, "lcel-100", group)
        ours = lcel["tracers"][OURS] if lcel else {}
        judge(f"{_APP} of the empty async handler{how}", 0.35, ours.get("thread_over_empty"))
        judge(f"{_ALL} of the empty async handler{how}", 0.5, ours.get("process_over_empty"))
    peers = overhead_of(results, "lcel-100", "peers")
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
    stream = overhead_of(results, "stream", "core")
    judge("the same in the streaming workload, between everything else", 1.5,
          stream["tracers"][OURS].get("thread_over_inline") if stream else None)  # fmt: skip
    rows_by_stage = {row["stage"]: row for row in results.get("stages", {}).get("rows", ())}
    encoding = "encode + compress"
    judge(f"{encoding}, of its floor", 1.5, rows_by_stage.get(encoding, {}).get("ratio"))
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
    sync = overhead_of(results, "sync", "core")
    judge("synchronous invoke of the LCEL chain, each callback, LangChain's part included", 5.0,
          sync["tracers"][OURS].get("thread_us") if sync else None, "µs")  # fmt: skip
    rows += many_goals(results.get("many"))
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


def in_the_way(results: Results) -> str:
    """Say what stands in the way of the goals that are not reached, from what was measured."""
    reasons = (
        _callbacks_in_the_way(results),
        _sync_in_the_way(results),
        _encoding_in_the_way(results),
        values_in_the_way(results.get("values")),
        _lag_in_the_way(results),
        many_in_the_way(results.get("many")),
    )
    return "## What stands in the way\n\n" + "\n".join(f"- {one}" for one in reasons if one)


def _callbacks_in_the_way(results: Results) -> str:
    lcel = overhead_of(results, "lcel-100", "core")
    rows = {row["callback"]: row for row in results.get("callbacks", {}).get("rows", ())}
    if not lcel or CHAIN not in rows:
        return ""
    inline, ours, own = lcel["tracers"][INLINE], lcel["tracers"][OURS], rows[CHAIN]
    said = (
        "**Callbacks.** LangChain's own part of an inline callback, with a handler that does"
        f" nothing, is {shown(inline['thread_us'])} µs, {shown(inline.get('thread_over_empty'))} ×"
        " the empty async handler: no inline handler can be below it. asynctrack is at"
        f" {shown(ours['thread_us'])} µs. {shown(own['async_us'])} µs of that are its own when"
        f" nothing runs in between ({own['orjson_us']} µs for bare orjson on the same events); the"
        " rest is that LangChain's code in between leaves neither code nor data in the"
        " processor's caches."
    )
    parts = {row["part"]: row["us"] for row in results.get("anatomy", {}).get("rows", ())}
    if {"let go", "write"} <= parts.keys():
        said += (
            " Before a callback returns, its event is with the operating system, so that a kill"
            " does not lose it. That takes a call that lets go of the interpreter, and one that"
            f" does nothing else adds {shown(parts['let go'])} µs in a running chain, whose other"
            f" threads wait for it; the write itself {shown(parts['write'])} µs (`anatomy`)."
        )
    for workload in results.get("instructions", {}).get("workloads", ()):
        counted = {row["tracer"]: row for row in workload["rows"]}
        if workload["workload"] == "lcel-100" and INLINE in counted and OURS in counted:
            said += (
                " In instructions, which no cache changes, the empty inline handler alone is at"
                f" {counted[INLINE]['over_empty']:.3g} × the empty async one, and asynctrack at"
                f" {counted[OURS]['over_empty']:.3g} ×: 0.35 × in all is out of reach for any"
                " inline handler by that measure."
            )
    return (
        said + " The parts are in the table of what a callback's cost is made of;"
        " `python -m benchmarks.profile` shows each function."
    )


def _sync_in_the_way(results: Results) -> str:
    sync = overhead_of(results, "sync", "core")
    rows = {row["callback"]: row for row in results.get("callbacks", {}).get("rows", ())}
    if not sync or CHAIN not in rows or EMPTY_SYNC not in sync["tracers"]:
        return ""
    empty = sync["tracers"][EMPTY_SYNC]["thread_us"]
    return (
        f"**Synchronous invoke.** LangChain's own part is {shown(empty)} µs. The chain's events are"
        f" larger than 350 bytes and hold messages: {shown(rows[CHAIN]['sync_us'])} µs on average"
        f" by themselves, {shown(rows[SMALL]['sync_us'])} µs for 350 bytes. The rest is caches,"
        " as above, and the worker's turns at the interpreter, as a synchronous chain never waits."
    )


def _encoding_in_the_way(results: Results) -> str:
    rows = {row["stage"]: row for row in results.get("stages", {}).get("rows", ())}
    if LEAST not in rows or "encode" not in rows:
        return ""
    return (
        "**Encode.** The floor is orjson on plain dictionaries. LangChain passes objects, for"
        " which orjson calls back into Python: with the shortest function there can be, one that"
        " returns an object's fields as they are, it is at"
        f" {shown(rows[LEAST]['ratio'])} × already. `encode` is at"
        f" {shown(rows['encode']['ratio'])} ×: it leaves out empty fields, bounds how much one"
        " event may hold before orjson walks it, tells NaN from null, and never raises."
        " The sustained rate rests on the same."
    )


def _lag_in_the_way(results: Results) -> str:
    rows = {row["situation"]: row for row in results.get("lag", {}).get("rows", ())}
    if BESIDE not in rows:
        return ""
    beside = rows[BESIDE]
    return (
        "**Event-loop lag.** An application without any handler, while *another* process tracks on"
        f" the same two processors, has a p99 of {shown(beside['p99_ratio'])} × and a maximum of"
        f" {shown(beside['max_ratio'])} ×: that much is the machine's, which runs the S3 server as"
        " well. Beyond it, a thread that wants the interpreter waits for the one that has it:"
        " half a millisecond while the engine computes (`asynctrack/_common/turns.py`), and longer"
        " where a library's C code does not let go."
    )


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
