"""Writes Runs of any size: ``python -m benchmarks.generate --events N FOLDER``.

A few chains are tracked for once; their lines are the templates. Each generated trace is one of
them with ids, times, model, token counts and topic of its own, and traces overlap as they do when
many run at a time. Keys, artifacts and manifests are made by the tracker's own code: the result is
what a tracker would have written. The same arguments give the same Runs, but for the templates'
own small differences.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from asynctrack._common.artifact import Batch, Receipt
from asynctrack._delivery.encode import encode_batch
from asynctrack._format import line_prefix, manifest_name, number_line, run_prefix
from asynctrack._record.manifest import Manifest

MODELS: Final = ("local-1", "local-1-mini", "other-large", "other-small")
TOPICS: Final = ("fish", "sea", "tide", "ship", "whale", "harbour", "lighthouse", "storm")
WEIGHTS: Final = {"lcel-1": 70, "agent": 8, "retrieval": 12, "stream": 4, "failing": 6}
START: Final = 1_767_225_600 * 10**9  # 2026-01-01T00:00:00Z
OVERLAP: Final = 20
"""Traces that run at the same time."""
BATCH_EVENTS: Final = 20_000
BATCH_BYTES: Final = 8 * 1024 * 1024

_SLOT = re.compile(
    rb'(?P<time>(?<="time_unix_nano":)\d+)'
    rb'|(?P<duration>(?<="duration":)[0-9.e-]+)'
    rb"|(?P<id>[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12})"
    rb"|(?P<model>local-1)"
    rb'|(?P<read>(?<="gen_ai.usage.input_tokens":)\d+)'
    rb'|(?P<written>(?<="gen_ai.usage.output_tokens":)\d+)'
    rb"|(?P<topic>fish 0)"
)


@dataclass(frozen=True, slots=True)
class Line:
    """One event of a template: fixed bytes with slots between them.

    Attributes:
        parts: The fixed bytes.
        slots: What goes between them: the number of an id, or a name.
        offset: Nanoseconds after the trace's start.
        calls: Model calls of the trace that had ended before.
        duration: Nanoseconds that the span took that it ends.
        within: Model calls that the span was in.
    """

    parts: tuple[bytes, ...]
    slots: tuple[int | str, ...]
    offset: int
    calls: int
    duration: int = 0
    within: int = 0


@dataclass(frozen=True, slots=True)
class Template:
    """One trace: its events, how many ids it has, and how many of its events count tokens."""

    name: str
    lines: tuple[Line, ...]
    ids: int
    counted: int


Tally = dict[str, int]
"""What a tracker's metrics would add up to, by the metric's name."""


def record_templates() -> dict[str, Template]:
    """Track each kind of chain once, and take its lines."""
    templates = {}
    with tempfile.TemporaryDirectory() as place:
        for name in WEIGHTS:
            folder = Path(place) / name
            asyncio.run(_track(_chain(name), name, folder))
            (artifact,) = folder.glob("asynctrack/v1/experiment=x/run=*/dt=*/*.jsonl")
            templates[name] = _template(name, artifact.read_bytes())
    return templates


async def _track(invoke: Any, name: str, folder: Path) -> None:
    from asynctrack import tracker

    async with tracker(
        folder, experiment_name="x", run_name=name, durability="memory", compression="none"
    ) as handler:
        await invoke(0, {"callbacks": [handler]})


def _chain(name: str) -> Any:
    from benchmarks import cases

    if name != "failing":
        return cases.WORKLOADS[name].make()
    from langchain_core.runnables import RunnableLambda

    def fail(_: Any) -> Any:
        raise TimeoutError("the model did not answer within 60 s")

    chain: Any = RunnableLambda(lambda topic: f"Tell me a joke about {topic}.") | fail

    async def invoke(number: int, config: dict[str, Any]) -> None:
        with suppress(TimeoutError):
            await chain.ainvoke(f"fish {number}", config=config)

    return invoke


def _template(name: str, content: bytes) -> Template:
    ids: dict[bytes, int] = {}
    lines = []
    before: dict[str, int] = {}
    start = calls = 0
    for whole in content.splitlines():
        # From the body on: writer and number are put before it again.
        body = b"{" + whole[whole.index(b'"time_unix_nano"') :]
        parts, slots = [], []
        at = moment = took = 0
        for match in _SLOT.finditer(body):
            kind = str(match.lastgroup)
            if kind == "time":
                if moment:
                    continue
                moment = int(match[0])
            if kind == "duration":
                took = round(float(match[0]) * 1e9)
            parts.append(body[at : match.start()])
            slots.append(ids.setdefault(match[0], len(ids)) if kind == "id" else kind)
            at = match.end()
        start = start or moment
        ended = b'"event":"llm_end"' in body
        calls += ended  # its own end comes after the time it took
        span_id = json.loads(body)["span_id"]
        within = calls - before.setdefault(span_id, calls)
        lines.append(Line((*parts, body[at:]), tuple(slots), moment - start, calls, took, within))
    counted = sum("read" in line.slots for line in lines)
    return Template(name, tuple(lines), len(ids), counted)


def traces(
    templates: dict[str, Template], random_: random.Random, start: int, span: int, tally: Tally
) -> Iterator[list[tuple[int, bytes]]]:
    """Yield blocks of overlapping traces without end: time and body of each event, in order.

    Args:
        templates: The kinds of traces.
        random_: Draws everything.
        start: When the first one starts, in nanoseconds.
        span: Nanoseconds from one block to the next.
        tally: Is added to.
    """
    names = list(WEIGHTS)
    weights = list(WEIGHTS.values())
    topics = [f"{topic} {number}".encode() for topic in TOPICS for number in range(1, 51)]
    while True:
        block: list[tuple[int, bytes]] = []
        for name in random_.choices(names, weights, k=OVERLAP):
            template = templates[name]
            began = start + random_.randrange(10**9)
            latency = int(random_.lognormvariate(-0.5, 0.6) * 1e9)
            high = random_.getrandbits(62)
            ids = [
                b"%08x-%04x-7%03x-%04x-%012x" % (
                    began >> 36 & 0xFFFFFFFF, began >> 20 & 0xFFFF, number & 0xFFF,
                    0x8000 | high >> 48, high & 0xFFFFFFFFFFFF,
                )
                for number in range(template.ids)
            ]  # fmt: skip
            model = MODELS[high % len(MODELS)].encode()
            values: dict[int | str, bytes] = dict(enumerate(ids))
            values["model"] = model
            values["topic"] = random_.choice(topics)
            values["read"] = b"%d" % (high % 1500 + 10)
            values["written"] = b"%d" % (high % 700 + 1)
            for metric, value in (
                ("asynctrack.trace.count", 1),
                ("asynctrack.trace.errors", name == "failing"),
                ("gen_ai.client.operation.count", template.counted),
                ("gen_ai.usage.input_tokens", template.counted * (high % 1500 + 10)),
                ("gen_ai.usage.output_tokens", template.counted * (high % 700 + 1)),
            ):
                tally[metric] = tally.get(metric, 0) + value
            for line in template.lines:
                moment = began + line.offset + line.calls * latency
                values["time"] = b"%d" % moment
                took = line.duration + line.within * latency
                values["duration"] = b"%d.%09d" % divmod(took, 10**9)
                pieces = [line.parts[0]]
                for slot, part in zip(line.slots, line.parts[1:], strict=True):
                    pieces.append(values[slot])
                    pieces.append(part)
                block.append((moment, b"".join(pieces)))
        block.sort(key=lambda one: one[0])
        yield block
        start += span


def write_run(
    folder: Path,
    experiment: str,
    run: str,
    events: int,
    templates: dict[str, Template],
    *,
    seed: int = 0,
    writers: int = 1,
    days: int = 1,
    batch_events: int = BATCH_EVENTS,
) -> int:
    """Write one Run.

    Args:
        folder: Where to; any folder.
        experiment: The experiment's name.
        run: The Run's name.
        events: How many at least; whole traces only.
        templates: The kinds of traces.
        seed: Draws the same again.
        writers: How many writers share them.
        days: Over how many days they are spread.
        batch_events: Events of an artifact at the most.

    Returns:
        How many events were written.
    """
    root = folder / run_prefix("", experiment, run)
    written = 0
    for number in range(writers):
        random_ = random.Random(f"{seed}/{run}/{number}")
        writer_id = f"{random_.getrandbits(96):024x}"
        share = events // writers
        span = _span(templates, share, days)
        manifest = Manifest(writer_id, experiment, run)
        manifest._head["created_unix_nano"] = START  # the tracker takes the present
        seq = 0
        lines: list[bytes] = []
        size = 0
        first = 1
        pages = 0
        tally: Tally = {}
        made = traces(templates, random_, START + number, span, tally)
        while seq < share:
            for _, body in next(made):
                seq += 1
                line = number_line(line_prefix(writer_id), seq, body)
                if lines and (size + len(line) > BATCH_BYTES or len(lines) >= batch_events):
                    manifest.delivered(
                        _store(root, Batch(writer_id, first, seq - 1, b"".join(lines)))
                    )
                    lines, size, first = [], 0, seq
                    page = manifest.full_page()
                    if page is not None:
                        _put(root / page[0], page[1])
                        manifest.page_stored(page[0])
                        pages += 1
                lines.append(line)
                size += len(line)
        manifest.delivered(_store(root, Batch(writer_id, first, seq, b"".join(lines))))
        counts = {"accepted": seq, "delivered": seq, "pending": 0, "dead_lettered": 0}
        content = manifest.encode(
            state="closed",
            counts=counts,
            parameters={"temperature": round(random_.random(), 2), "scenario": run},
            metrics={
                name: {"count": 1, "sum": value, "min": value, "max": value, "last": value}
                for name, value in tally.items()
            },
            metrics_seq=seq,
        )
        _put(root / manifest_name(writer_id), content)
        written += seq
    return written


def _span(templates: dict[str, Template], events: int, days: int) -> int:
    """Return nanoseconds from block to block, so that the events fill the days and no more."""
    total = sum(weight * len(templates[name].lines) for name, weight in WEIGHTS.items())
    blocks = events / (OVERLAP * total / sum(WEIGHTS.values()))
    return int(days * 86_400 * 10**9 * 0.9 / max(1.0, blocks))


def _store(root: Path, batch: Batch) -> Receipt:
    artifact = encode_batch(batch, "zstd")
    _put(root / artifact.name, artifact.content)
    return Receipt.of(artifact)


def _put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def generate(
    folder: Path,
    events: int,
    *,
    experiment: str = "generated",
    runs: int = 1,
    writers: int = 1,
    days: int = 1,
    batch_events: int = BATCH_EVENTS,
    seed: int = 0,
) -> int:
    """Write Runs; see ``write_run``. Returns how many events were written."""
    templates = record_templates()
    return sum(
        write_run(
            folder, experiment, f"run-{number}", events // runs, templates,
            seed=seed, writers=writers, days=days, batch_events=batch_events,
        )
        for number in range(1, runs + 1)
    )  # fmt: skip


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where to; the Runs go below asynctrack/v1/")
    parser.add_argument("--events", type=int, default=1_000_000, help="how many, about")
    parser.add_argument("--experiment", default="generated")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--writers", type=int, default=1, help="of each Run")
    parser.add_argument("--days", type=int, default=1, help="over which they are spread")
    parser.add_argument("--batch-events", type=int, default=BATCH_EVENTS, help="of an artifact")
    parser.add_argument("--seed", type=int, default=0)
    options = vars(parser.parse_args())
    began = time.perf_counter()
    events = generate(options.pop("folder"), options.pop("events"), **options)
    seconds = time.perf_counter() - began
    print(f"{events:,} events in {seconds:.1f} s, {events / seconds:,.0f} a second")


if __name__ == "__main__":
    main()
