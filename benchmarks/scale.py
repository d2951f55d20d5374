"""Events 10^3 to 10^7 (``--largest 6``: fewer): ``python -m benchmarks.scale``.

Events of ~350 bytes go straight into the handler, as fast as it takes them, and from there into a
real S3: cost and memory for each event must stay flat, requests must stay few. Requests are
counted where they leave the process. Further questions: what bounds memory when S3 never answers,
and several processes into one Run.
"""

from __future__ import annotations

import argparse
import asyncio
import concurrent.futures
import gc
import json
import os
import resource
import secrets
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks import _measure
from benchmarks._servers import Servers, all_servers, make_run

PRICES: Final = (
    "S3 Standard in us-east-1: $0.005 for 1,000 PUT, $0.0004 for 1,000 GET or HEAD, $0.023 for a GB"
    " and month; as AWS's public S3 price list names them, noted in November 2026. SageMaker has no"
    " price for calls of its Experiments API."
)
PUT_PRICE: Final = 0.005 / 1000
GET_PRICE: Final = 0.0004 / 1000
STORAGE_PRICE: Final = 0.023 / 1e9
"""For a byte and a month."""
REPLACED_REQUESTS: Final = {"PUT": 1_000_000, "HEAD": 1_000_000}
"""What the replaced handler sends for a million events: a PUT and a HEAD for each."""
REPLACED_BYTES_PER_EVENT: Final = 350

PAYLOAD = {"topic": "fish", "question": "Why did the fish cross the sea? " * 2}
SLICE = 100
"""Events between two looks at the event loop: an application awaits now and then."""


def _rss() -> int:
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


class Requests:
    """Counts the HTTP requests of aiobotocore, where they leave the process."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.bytes = 0
        self._lock = threading.Lock()

    def install(self) -> None:
        """Count from now on."""
        from aiobotocore.httpsession import AIOHTTPSession

        send = AIOHTTPSession.send
        requests = self

        async def counted(session: Any, request: Any) -> Any:
            target = request.headers.get("X-Amz-Target", b"")
            kind = bytes(target).decode() if isinstance(target, bytes) else str(target)
            name = kind.rpartition(".")[2] or f"{request.method} {_service(request.url)}"
            body = request.body
            with requests._lock:
                requests.counts[name] = requests.counts.get(name, 0) + 1
                requests.bytes += len(body) if isinstance(body, (bytes, bytearray, str)) else 0
            return await send(session, request)

        AIOHTTPSession.send = counted


def _service(url: str) -> str:
    if "_manifest" in url:
        return "manifest"
    if "asynctrack/v1" in url:
        return "S3"
    return "metrics" if "metrics" in url.lower() else "other"


def calls_of_350_bytes(pairs: int) -> list[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    """Return calls as LangChain makes them, a start and an end in turns, ~350 bytes encoded."""
    root = uuid.uuid4()
    metadata = {"ls_integration": "langchain_chat", "user": "u-1"}
    answer = {"output": "To get to the other tide. " * 3}
    calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
    for _ in range(pairs):
        span = {"run_id": uuid.uuid4(), "parent_run_id": root, "tags": ["seq:step:1"]}
        named = {"metadata": metadata, "name": "RunnableSequence"}
        calls.append(("on_chain_start", (None, PAYLOAD), {**span, **named}))
        calls.append(("on_chain_end", (answer,), span))
    return calls


async def _feed(handler: Any, events: int) -> None:
    """Call the handler as LangChain does, in pairs of start and end."""
    start, end = handler.on_chain_start, handler.on_chain_end
    root = uuid.uuid4()
    keywords = {"parent_run_id": root, "tags": ["seq:step:1"]}
    metadata = {"ls_integration": "langchain_chat", "user": "u-1"}
    answer = {"output": "To get to the other tide. " * 3}
    for number in range(events // 2):
        span = uuid.uuid4()
        await start(
            None, PAYLOAD, run_id=span, metadata=metadata, name="RunnableSequence", **keywords
        )
        await end(answer, run_id=span, **keywords)
        if not number % SLICE:
            await asyncio.sleep(0)


def measure(spec: dict[str, Any]) -> dict[str, Any]:
    """Track one number of events in this process.

    Args:
        spec: ``events``, ``servers``, ``options``, ``s3`` (``ok`` or ``hang``), ``experiment``.
    """
    import aioboto3  # noqa: F401  # imports are not what is measured here

    from asynctrack import tracker

    requests = Requests()
    requests.install()
    stub = spec["servers"]["stub"] + "/__hang"
    run = make_run(
        spec["servers"],
        "scale",
        s3_url=stub if spec["s3"] == "hang" else None,
        experiment=spec.get("experiment"),
    )
    options = dict(spec["options"])
    spool = tempfile.TemporaryDirectory(prefix="asynctrack-bench-")
    from benchmarks.tracers import option_names

    if "spool_dir" in option_names():
        options["spool_dir"] = spool.name
    memory: list[tuple[float, int]] = []

    async def main() -> dict[str, Any]:
        async with tracker(run, **options) as handler:
            await _feed(handler, 200)
            await handler.flush(10.0 if spec["s3"] == "ok" else 0.5)
            before = handler.statistics()
            gc.collect()
            rss = _rss()
            done = threading.Event()
            watcher = threading.Thread(target=_watch, args=(memory, done), daemon=True)
            watcher.start()
            cpu, thread, started = time.process_time(), time.thread_time(), time.perf_counter()
            await _feed(handler, spec["events"])
            fed = time.perf_counter()
            thread = time.thread_time() - thread
            await handler.flush(None if spec["s3"] == "ok" else 0.5)
            ended = time.perf_counter()
            cpu = time.process_time() - cpu
            done.set()
            watcher.join()
            counted = dict(requests.counts)
        told = handler.statistics()
        return {
            "events": spec["events"],
            "accepted": told.accepted - before.accepted,
            "delivered": told.delivered - before.delivered,
            "dropped": dict(told.dropped),
            "spooled": told.spooled,
            "wall": ended - started,
            "feed": fed - started,
            "flush": ended - fed,
            "cpu_us": cpu / spec["events"] * 1e6,
            "app_cpu_us": thread / spec["events"] * 1e6,
            "rate": (told.delivered - before.delivered) / (ended - started),
            "rss_before": rss,
            "rss_peak_added": max(size for _, size in memory) - rss,
            "memory": _thinned(memory, started),
            "requests": counted,
            "requests_at_end": dict(requests.counts),
            "request_bytes": requests.bytes,
            "bytes_delivered": told.bytes_delivered,
            "artifacts": told.artifacts,
            "max_rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }

    try:
        return asyncio.run(main())
    finally:
        spool.cleanup()


def _watch(memory: list[tuple[float, int]], done: threading.Event) -> None:
    while True:
        memory.append((time.perf_counter(), _rss()))
        if done.wait(0.02):
            return


def _thinned(memory: list[tuple[float, int]], started: float) -> list[list[float]]:
    step = max(1, len(memory) // 60)
    return [[round(when - started, 2), round(size / 1e6, 1)] for when, size in memory[::step]]


def one_core_rate() -> dict[str, float]:
    """Return how many such events a second one core can encode and compress, twice over.

    ``bare``: orjson on plain events, then zstd. ``own``: asynctrack's capture and encoder without
    buffer, thread and network: what its own pipeline could do at the most.
    """
    import orjson
    import zstandard

    from asynctrack._capture.capture import Capture
    from asynctrack._capture.observations import Observations
    from asynctrack._capture.redact import Redactor

    bodies: list[bytes] = []

    class Collecting:
        """Calls the capture as the handler does, and keeps what it returns."""

        def __init__(self) -> None:
            self.capture = Capture(
                tokens="stream", redactor=Redactor(), observations=Observations()
            )

        async def on_chain_start(self, *arguments: Any, **options: Any) -> None:
            bodies.append(self.capture.on_chain_start(*arguments, **options))

        async def on_chain_end(self, *arguments: Any, **options: Any) -> None:
            bodies.append(self.capture.on_chain_end(*arguments, **options))

    count = 20_000
    asyncio.run(_feed(Collecting(), count))  # warm
    plain = [orjson.loads(body) for body in bodies]
    own = bare = 0.0
    for _ in range(3):
        bodies.clear()
        started = time.thread_time()
        asyncio.run(_feed(Collecting(), count))
        zstandard.ZstdCompressor(level=3).compress(b"\n".join(bodies))
        own = max(own, count / (time.thread_time() - started))
        started = time.thread_time()
        lines = [orjson.dumps(event) for event in plain]
        zstandard.ZstdCompressor(level=3).compress(b"\n".join(lines))
        bare = max(bare, count / (time.thread_time() - started))
    return {"bare": bare, "own": own, "event_bytes": sum(map(len, bodies)) / len(bodies)}


def run(
    servers: Servers,
    *,
    powers: Sequence[int] = (3, 4, 5, 6, 7),
    processes: int = 2,
    overflows: Sequence[str] = ("drop_newest", "default"),
) -> dict[str, Any]:
    """Measure all sizes, the memory bound, and several processes into one Run.

    Args:
        servers: Where to.
        powers: Of ten: how many events.
        processes: How many into one Run at the same time; 0 leaves that out.
        overflows: With which memory is measured while S3 does not answer.
    """

    def track(
        events: int, options: dict[str, Any], s3: str = "ok", experiment: str | None = None
    ) -> dict[str, Any]:
        spec = {
            "events": events,
            "servers": dict(servers),
            "options": options,
            "s3": s3,
            "experiment": experiment,
        }
        answer: dict[str, Any] = _measure.fresh_process("benchmarks.scale", spec)
        return answer

    sizes = [track(10**power, {}) for power in powers]
    flood = 10 ** min(powers[-1], 5) * 4
    down = {}
    for overflow in overflows:
        spooled = overflow == "default"
        options = {} if spooled else {**_memory(), "overflow": overflow}
        down[overflow if spooled else f"overflow={overflow}"] = track(
            flood, {**options, "close_timeout": 1.0}, "hang"
        )
    ceiling = _measure.fresh_process("benchmarks.scale", {"ceiling": True})
    largest_run = sizes[-1]
    return {
        "sizes": sizes,
        "s3_down": down,
        "one_core": ceiling,
        "rate_over_bare": largest_run["rate"] / ceiling["bare"],
        "rate_over_own": largest_run["rate"] / ceiling["own"],
        "together": _together(track, 10 ** min(powers[-1], 5), processes) if processes else None,
        "million": cost_of_a_million(largest_run),
        "prices": PRICES,
        "buffer_bytes": 64 * 1024 * 1024,
    }


def _together(track: Callable[..., dict[str, Any]], events: int, processes: int) -> dict[str, Any]:
    """Let several processes track into one Run at the same time."""
    experiment = f"together-{secrets.token_hex(4)}"
    track(10, {}, experiment=experiment)  # makes the Run that all of them then track into
    started = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(processes) as pool:
        found = list(pool.map(lambda _: track(events, {}, experiment=experiment), range(processes)))
    return {
        "processes": processes,
        "events": events * processes,
        "delivered": sum(one["delivered"] for one in found),
        "seconds_with_start": time.perf_counter() - started,
        "rate": sum(one["rate"] for one in found),
    }


def _memory() -> dict[str, Any]:
    from benchmarks.tracers import option_choices

    return {"durability": "memory"} if "memory" in option_choices("durability") else {}


def cost_of_a_million(measured: dict[str, Any]) -> dict[str, Any]:
    """Scale a measured run to a million events and price it; the replaced handler beside it."""
    factor = 1e6 / measured["events"]
    requests = {name: count * factor for name, count in measured["requests_at_end"].items()}
    puts = sum(count for name, count in requests.items() if name in ("PUT S3", "PUT manifest"))
    stored = measured["bytes_delivered"] * factor
    replaced = REPLACED_REQUESTS["PUT"] * PUT_PRICE + REPLACED_REQUESTS["HEAD"] * GET_PRICE
    return {
        "requests": {name: round(count, 1) for name, count in requests.items()},
        "requests_total": round(sum(requests.values()), 1),
        "stored_bytes": round(stored),
        "dollars_requests": puts * PUT_PRICE,
        "dollars_storage_month": stored * STORAGE_PRICE,
        "replaced_requests": sum(REPLACED_REQUESTS.values()),
        "replaced_dollars_requests": replaced,
        "replaced_dollars_storage_month": 1e6 * REPLACED_BYTES_PER_EVENT * STORAGE_PRICE,
    }


def main() -> None:
    """Run from the command line, or as the measuring process."""
    if (spec := _measure.asked()) is not None:
        print(json.dumps(one_core_rate() if spec.get("ceiling") else measure(spec)))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--largest", type=int, default=7, help="power of ten of the largest run")
    arguments = parser.parse_args()
    with all_servers() as servers:
        result = run(servers, powers=range(3, arguments.largest + 1))
    for row in result["sizes"]:
        row.pop("memory")
    for row in result["s3_down"].values():
        row.pop("memory")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
