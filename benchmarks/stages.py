"""Each stage of the write path beside its floor: ``python -m benchmarks.stages [--callgrind]``.

The events are those of the LCEL workload, as LangChain really passes them (~350 bytes encoded). A
floor is what the bare library or a plain copy would cost for the same events, so a regression
names its stage. Times are those of the processor, medians of interleaved repetitions with
collections switched off (what they cost is ``garbage``'s question). ``--callgrind`` counts
instructions instead, which repeat exactly; it needs valgrind and takes some minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import gc
import json
import mmap
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import orjson
import zstandard

from benchmarks import _measure, cases
from benchmarks.instructions import under_callgrind

Captured = tuple[str, tuple[Any, ...], dict[str, Any]]
"""A callback as LangChain called it: name, arguments, keywords."""

LEAST = "orjson with the least converter"
"""The least that encodes LangChain's objects: what any encoder that rests on orjson costs."""
PASSES = ("look for null 100 KB", "redact 100 KB", "spool 100 KB")
"""What is done with a large line beside encoding it: each goes through all of it."""
ANSWER = "encode an OpenAI answer"
MAPPED = "spool, and not map"
"""A write, beside what a copy into a mapped file takes, which kills the process that has it mapped
when somebody else cuts the file short."""
INVOCATIONS = 40
LARGE = 100_000


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage.

    Attributes:
        name: What is measured.
        floor_name: What it is compared with.
        ours: One repetition; takes what ``setup`` returned.
        floor: One repetition of the floor; the same.
        events: Events in one repetition.
        setup: Untimed preparation of one repetition, for ours; the floor gets it too.
        goal: The ratio that issue 4 asks for, where it asks for one.
    """

    name: str
    floor_name: str
    ours: Callable[[Any], object]
    floor: Callable[[Any], object]
    events: int
    setup: Callable[[], Any] = lambda: None
    goal: float | None = None


def captured_callbacks(invocations: int = INVOCATIONS) -> list[Captured]:
    """Return the callbacks of some invocations of the LCEL chain, with what LangChain passed."""
    handler, seen = cases.recorder()
    handler.run_inline = True
    invoke = cases.WORKLOADS["lcel-100"].make()

    async def run() -> None:
        for number in range(invocations):
            await invoke(number, {"callbacks": [handler]})

    asyncio.run(run())
    return seen


def new_capture() -> Any:
    """Return a capture as the handlers have it, without a buffer behind it."""
    from asynctrack._capture.capture import Capture
    from asynctrack._capture.observations import Observations
    from asynctrack._capture.redact import Redactor

    return Capture(tokens="stream", redactor=Redactor(), observations=Observations())


Recorded = tuple[dict[str, Any], bytes]
"""What the capture stage hands to the encode stage: a record, and what is put in before the last
two bytes of its line, made once for many events."""


def _records(captured: list[Captured]) -> list[Recorded]:
    """Return what the capture stage hands to the encode stage."""
    records: list[Recorded] = []
    encoded: list[bytes] = []
    capture = new_capture()
    encode = capture.events.encode

    def keep(record: dict[str, Any]) -> bytes:
        records.append((record, b""))
        encoded.append(encode(record))
        return encoded[-1]

    capture.events.encode = keep
    for name, arguments, options in captured:
        whole = getattr(capture, name)(*arguments, **options)
        record, _ = records[-1]
        assert whole.startswith(encoded[-1][:-2])
        records[-1] = (record, whole[len(encoded[-1]) - 2 : -2])
    return records


def _encoded(recorded: Recorded) -> bytes:
    """Encode as the capture does, without looking for secrets."""
    from asynctrack._common import payload

    record, shared = recorded
    body = payload.encode(record)
    return body[:-2] + shared + body[-2:] if shared else body


@contextmanager
def all_stages() -> Iterator[list[Stage]]:
    """Make the stages; files and trackers that they use are gone when the block is left."""
    with (
        tempfile.TemporaryDirectory(prefix="asynctrack-stages-") as folder,
        tempfile.TemporaryFile(dir=folder) as file,
    ):
        captured = captured_callbacks()
        yield [
            *_capture_stages(captured),
            *_line_stages(captured, Path(folder)),
            *_large_stages(file.fileno()),
            _answer_stage(),
            _token_stage(),
        ]


def _capture_stages(captured: list[Captured]) -> list[Stage]:
    from asynctrack._capture.redact import Redactor

    records = _records(captured)
    bodies = [_encoded(record) for record in records]
    plain = [orjson.loads(body) for body in bodies]
    redactor = Redactor()
    capture = new_capture()
    calls = [(getattr(capture, name), arguments, options) for name, arguments, options in captured]

    def run_capture(_: Any) -> None:
        for call, arguments, options in calls:
            call(*arguments, **options)

    def run_encode(_: Any) -> None:
        encode = _encoded
        for record in records:
            encode(record)

    def bare_orjson(_: Any) -> None:
        dumps = orjson.dumps
        for record in plain:
            dumps(record)

    def least(_: Any) -> None:
        dumps, options = orjson.dumps, orjson.OPT_PASSTHROUGH_DATACLASS
        for record, _ in records:
            dumps(record, _fields_as_they_are, options)

    def run_redact(_: Any) -> None:
        body_of = redactor.body
        for body in bodies:
            body_of(body)

    def copy(_: Any) -> None:
        for body in bodies:
            bytearray(body)

    return [
        Stage("capture", "bare orjson", run_capture, bare_orjson, len(captured)),
        Stage("encode", "bare orjson", run_encode, bare_orjson, len(captured)),
        Stage(LEAST, "bare orjson", least, bare_orjson, len(captured)),
        Stage("redact", "copy", run_redact, copy, len(captured)),
    ]


def _fields_as_they_are(value: Any) -> Any:
    return value.__dict__


def _line_stages(captured: list[Captured], folder: Path) -> list[Stage]:
    from asynctrack._buffer.buffer import Buffer
    from asynctrack._buffer.store import Store
    from asynctrack._delivery.encode import compress
    from asynctrack._format import line_prefix, number_line

    records = _records(captured)
    bodies = [_encoded(record) for record in records]
    writer_id = "0" * 24
    prefix = line_prefix(writer_id)
    lines = [number_line(prefix, seq, body) for seq, body in enumerate(bodies, 1)]
    plain_lines = [orjson.loads(line) for line in lines]
    size = sum(map(len, lines))

    def new_buffer() -> Any:
        # As large as can be: one batch is what one repetition fills, nothing empties it.
        return Buffer(
            writer_id=writer_id,
            store=Store(writer_id, 1 << 40, len(lines), spooled=False),
            max_bytes=1 << 40,
            max_events=10**9,
            wake=lambda: None,
        )

    def filled_buffer() -> Any:
        buffer = new_buffer()
        for body in bodies:
            buffer.put_nowait(body)
        return buffer

    def enqueue(buffer: Any) -> None:
        put_nowait = buffer.put_nowait
        for body in bodies:
            put_nowait(body)

    def append(_: Any) -> None:
        queue: collections.deque[bytes] = collections.deque()
        for body in bodies:
            queue.append(body)

    def batch(buffer: Any) -> None:
        piece = buffer.take()
        while piece is not None:
            piece.raw()
            piece = buffer.take()

    def join(_: Any) -> None:
        b"".join(lines)

    raw = b"".join(lines)
    compressor = zstandard.ZstdCompressor(level=3, write_checksum=True)

    def run_compress(_: Any) -> None:
        compress(raw, "zstd")

    def bare_zstd(_: Any) -> None:
        compressor.compress(raw)

    def encode_and_compress(_: Any) -> None:
        encode = _encoded
        made = [number_line(prefix, seq, encode(record)) for seq, record in enumerate(records, 1)]
        compress(b"".join(made), "zstd")

    def bare_both(_: Any) -> None:
        dumps = orjson.dumps
        compressor.compress(b"\n".join([dumps(record) for record in plain_lines]))

    segments: list[Any] = []

    def new_segment() -> Any:
        return _new_segment(folder, 1, lines, segments)

    def spool(segment: Any) -> None:
        write = segment.append
        for line in lines:
            write(line)

    def bare_writes(segment: Any) -> None:
        _bare_writes(segment, lines)

    mapped = mmap.mmap(-1, size + 4096)

    def copy_to_map(_: Any) -> None:
        at = 0
        for line in lines:
            end = at + len(line)
            mapped[at:end] = line
            crc32(line)
            at = end

    long = [line[:-1] + b" " * (2048 - len(line)) + b"\n" for line in lines[:1000]]

    def new_long_segment() -> Any:
        return _new_segment(folder, 2, long, segments)

    def spool_long(segment: Any) -> None:
        write = segment.append
        for line in long:
            write(line)

    def long_writes(segment: Any) -> None:
        _bare_writes(segment, long)

    return [
        Stage("enqueue", "deque.append", enqueue, append, len(lines), new_buffer),
        Stage("spool", "bare pwrite", spool, bare_writes, len(lines), new_segment),
        Stage("spool 2 KB", "bare pwrite", spool_long, long_writes, len(long), new_long_segment),
        Stage(MAPPED, "copy into a mapping", spool, copy_to_map, len(lines), new_segment),
        Stage("batch", "join", batch, join, len(lines), filled_buffer),
        Stage("compress", "bare zstd", run_compress, bare_zstd, len(lines)),
        Stage(
            "encode + compress",
            "bare orjson + zstd",
            encode_and_compress,
            bare_both,
            len(lines),
            goal=1.5,
        ),
    ]


def _new_segment(folder: Path, ordinal: int, lines: list[bytes], made: list[Any]) -> Any:
    """Make a segment that takes these lines; the one made before it is deleted."""
    from asynctrack._spool.segment import Segment, Shape

    while made:
        made.pop().remove()
    segment = Segment(folder, ordinal, Shape(sum(map(len, lines)), len(lines)))
    segment.begin("0" * 24, 1)
    made.append(segment)
    return segment


def _bare_writes(segment: Any, lines: list[bytes]) -> None:
    number, at = segment._file.number, 0
    for line in lines:
        os.pwrite(number, line, at)
        at += len(line)


def _large_stages(file: int) -> list[Stage]:
    import numpy  # noqa: F401  # sagemaker brings it; it folds long lines
    from langchain_core.messages import AIMessage

    from asynctrack._capture.redact import Redactor
    from asynctrack._common import payload
    from asynctrack._common.search import question
    from asynctrack._spool.segment_format import make_record

    text = " ".join(f"word{number * 7919 % 10_007}" for number in range(LARGE // 8))[:LARGE]
    message = AIMessage(text)
    options = captured_callbacks(1)[-1][2]
    capture = new_capture()
    record = orjson.loads(payload.encode({"outputs": message, **options}))

    def run_capture(_: Any) -> None:
        capture.on_chain_end(message, **options)

    def run_encode(_: Any) -> None:
        payload.encode({"outputs": message, **options})

    def bare(_: Any) -> None:
        orjson.dumps(record)

    line = orjson.dumps(record)
    redactor = Redactor()
    null = question("null")
    mapped = mmap.mmap(-1, len(line))

    def copy(_: Any) -> None:
        mapped[:] = line

    def spool(_: Any) -> None:
        os.pwrite(file, make_record(0, line), 0)

    runs = (lambda _: null(line), lambda _: redactor.body(line), spool)
    return [
        Stage("capture 100 KB", "bare orjson", run_capture, bare, 1, goal=1.3),
        Stage("encode 100 KB", "bare orjson", run_encode, bare, 1),
        *(Stage(name, "copy", run, copy, 1) for name, run in zip(PASSES, runs, strict=True)),
    ]


def _answer_stage() -> Stage:
    """The end of a model call as langchain-openai makes it: with None in many places."""
    from langchain_core.messages import AIMessage
    from langchain_core.outputs import ChatGeneration, LLMResult

    from asynctrack._common import payload

    usage = {
        "completion_tokens": 15,
        "prompt_tokens": 17,
        "total_tokens": 32,
        "completion_tokens_details": {"audio_tokens": 0, "reasoning_tokens": 0},
        "prompt_tokens_details": {"audio_tokens": 0, "cached_tokens": 0},
    }
    said = {"model_name": "gpt-4o-mini", "system_fingerprint": None, "id": "chatcmpl-1"}
    message = AIMessage(
        content="Why did the fish cross the sea? To get to the other tide.",
        additional_kwargs={"refusal": None},
        response_metadata={"token_usage": usage, **said, "finish_reason": "stop", "logprobs": None},
        id="run-1",
    )
    generation = ChatGeneration(
        message=message, generation_info={"finish_reason": "stop", "logprobs": None}
    )
    result = LLMResult(generations=[[generation]], llm_output={"token_usage": usage, **said})
    record = {"event": "llm_end", "outputs": result}
    plain = orjson.loads(payload.encode(record))
    count = 100

    def run(_: Any) -> None:
        for _ in range(count):
            payload.encode(record)

    def floor(_: Any) -> None:
        for _ in range(count):
            orjson.dumps(plain)

    return Stage(ANSWER, "bare orjson", run, floor, count)


def _token_stage() -> Stage:
    from langchain_core.messages import AIMessageChunk
    from langchain_core.outputs import ChatGenerationChunk

    captured = captured_callbacks(1)
    options = next(options for name, _, options in captured if name == "on_chat_model_start")
    keywords = {
        "run_id": options["run_id"],
        "parent_run_id": options["parent_run_id"],
        "tags": options["tags"],
        "chunk": ChatGenerationChunk(message=AIMessageChunk(content="word ")),
    }
    count = 200

    def empty(token: str, **options: Any) -> None:
        pass

    def run(capture: Any) -> None:
        on_llm_new_token = capture.on_llm_new_token
        for _ in range(count):
            on_llm_new_token("word ", **keywords)

    def floor(_: Any) -> None:
        for _ in range(count):
            empty("word ", **keywords)

    return Stage("token", "empty function", run, floor, count, new_capture)


# -- time -------------------------------------------------------------------------------------


def measure(spec: dict[str, Any]) -> dict[str, Any]:
    """Time all stages in this process, interleaved.

    Args:
        spec: ``repetitions``.
    """
    with all_stages() as stages:
        times: dict[str, tuple[list[float], list[float]]] = {
            stage.name: ([], []) for stage in stages
        }
        for number in range(spec["repetitions"] + 3):
            for stage in stages:
                for into, run in zip(times[stage.name], (stage.ours, stage.floor), strict=True):
                    state = stage.setup()
                    gc.collect(0)
                    gc.disable()
                    # Short repetitions are repeated, so that the clock's own cost does not count.
                    loops = 20 if stage.events == 1 else 1
                    # What others do with the cores meanwhile does not count either.
                    started = time.thread_time()
                    for _ in range(loops):
                        run(state)
                    seconds = time.thread_time() - started
                    gc.enable()
                    if number >= 3:  # the first ones warm up
                        into.append(seconds / loops / stage.events * 1e6)
        return {stage.name: times[stage.name] for stage in stages}


def summarize(processes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Turn the times of several processes into rows."""
    with all_stages() as stages:
        facts = {stage.name: stage for stage in stages}
    rows = []
    for name, stage in facts.items():
        ours = [process[name][0] for process in processes]
        floor = [process[name][1] for process in processes]
        rows.append(
            {
                "stage": name,
                "floor": stage.floor_name,
                "us": _measure.median(ours).as_dict(),
                "floor_us": _measure.median(floor).as_dict(),
                "ratio": _measure.ratio(ours, floor).as_dict(),
                "goal": stage.goal,
            }
        )
    return rows


# -- instructions -----------------------------------------------------------------------------


def run_for_callgrind() -> None:
    """Run each stage between two calls of getppid, at which valgrind writes its counters."""
    names = []
    with all_stages() as stages:
        gc.disable()
        for stage in stages:
            for kind, run in (("ours", stage.ours), ("floor", stage.floor)):
                run(stage.setup())  # warm: specialised bytecode, filled caches
                run(stage.setup())
                state = stage.setup()
                os.getppid()
                run(state)
                os.getppid()
                names.append((stage.name, kind, stage.events))
    print(json.dumps(names))


def callgrind() -> list[dict[str, Any]]:
    """Count the instructions of each stage with valgrind.

    Raises:
        RuntimeError: valgrind is not there, or it failed.
    """
    with tempfile.TemporaryDirectory(prefix="asynctrack-callgrind-") as folder:
        names, totals = under_callgrind("benchmarks.stages", ["--once"], Path(folder))
    # Two dumps each: what came before, the stage.
    found_rows: dict[str, dict[str, Any]] = {}
    for (name, kind, events), total in zip(names, totals[1::2], strict=False):
        found_rows.setdefault(name, {"stage": name})[kind] = round(total / events)
    return [{**row, "ratio": round(row["ours"] / row["floor"], 3)} for row in found_rows.values()]


def run(*, processes: int = 3, repetitions: int = 40) -> dict[str, Any]:
    """Time all stages in several fresh processes."""
    spec = {"repetitions": repetitions}
    measured = [_measure.fresh_process("benchmarks.stages", spec) for _ in range(processes)]
    return {"processes": processes, "repetitions": repetitions, "rows": summarize(measured)}


def main() -> None:
    """Run from the command line, or as the measuring process."""
    if (spec := _measure.asked()) is not None:
        print(json.dumps(measure(spec)))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--callgrind", action="store_true", help="count instructions instead")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.once:
        run_for_callgrind()
    elif arguments.callgrind:
        for row in callgrind():
            print(f"{row['stage']:20}{row['ours']:>10,}{row['floor']:>10,}{row['ratio']:>8.2f}")
    else:
        for row in run()["rows"]:
            print(
                f"{row['stage']:20}{row['us']['value']:>10} µs{row['floor_us']['value']:>10} µs"
                f"{row['ratio']['value']:>8.2f}  ({row['ratio']['low']}–{row['ratio']['high']})"
            )


if __name__ == "__main__":
    main()
