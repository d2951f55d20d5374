"""Which settings of zstd suit what is stored: ``python -m benchmarks.compression``.

Lines of LangGraph states with repeats (version 1) and with values stored once (version 2), small
events, texts and an image that stand in one batch in two forms. Processor time and size with other
levels, windows and long-distance matching, in turns; then what a dictionary brings to short runs.
What is stored has to be read by anything that reads zstd: a window of at most 8 MiB, no dictionary.
"""

from __future__ import annotations

import base64
import random
import time
from collections.abc import Mapping
from typing import Any, Final

import orjson
import zstandard

from benchmarks import _measure, cases
from benchmarks._values_cases import Graph, text
from benchmarks._values_lines import stored_once, with_repeats

BATCH: Final = 8 << 20
TODAY: Final = "level 3"
SETTINGS: Final[Mapping[str, Mapping[str, Any]]] = {
    TODAY: {"level": 3},
    "level 3, 8 MiB": {"level": 3, "window_log": 23},
    "level 3, 8 MiB, long distance": {"level": 3, "window_log": 23, "enable_ldm": True},
    "level 3, 128 MiB, long distance": {"level": 3, "window_log": 27, "enable_ldm": True},
    "level 1, 8 MiB": {"level": 1, "window_log": 23},
    "level 1, 8 MiB, long distance": {"level": 1, "window_log": 23, "enable_ldm": True},
    "level 6, 8 MiB": {"level": 6, "window_log": 23},
    "level 9, 8 MiB": {"level": 9, "window_log": 23},
}
DICTIONARY: Final = 16_384
RUNS: Final = (2, 4, 12)
"""Invocations of a short run, of eight events each."""


def _compressor(settings: Mapping[str, Any], size: int) -> zstandard.ZstdCompressor:
    others = {name: value for name, value in settings.items() if name != "level"}
    parameters = zstandard.ZstdCompressionParameters.from_level(
        settings["level"], source_size=size, write_checksum=True, **others
    )
    return zstandard.ZstdCompressor(compression_params=parameters)


def batches() -> dict[str, bytes]:
    """Return what is compressed, by what it is."""
    graph = Graph()
    repeats = [with_repeats(graph.make(1000 * number)[0]) for number in range(8)]
    once = [b"".join(stored_once(lines)) for lines in repeats]
    data = base64.b64encode(random.Random(1).randbytes(3_000_000)).decode()
    document = text(2_000_000, 1)
    prompts = [document, f"Answer from this: {document} What is a reef?"]
    return {
        "states with repeats (version 1)": b"".join(repeats[0])[:BATCH],
        "states, values once (version 2)": once[0],
        "8 graphs' states, values once": b"".join(once)[:BATCH],
        "LCEL events": b"".join(_lcel(2_500))[:BATCH],
        "an image in two forms": _values(data, f"data:image/png;base64,{data}"),
        "a text, and a prompt with it": _values(*prompts),
    }


def _lcel(invocations: int) -> list[bytes]:
    invoke = cases.WORKLOADS["lcel-1"].make()

    async def run(config: dict[str, Any]) -> None:
        for number in range(invocations):
            await invoke(number, config)

    return with_repeats(run)


def _values(*texts: str) -> bytes:
    return b"".join(
        orjson.dumps({"v": 2, "seq": seq, "event": "value", "name": f"{seq:032x}", "data": one})
        + b"\n"
        for seq, one in enumerate(texts, 1)
    )


def measure(spec: dict[str, Any]) -> dict[str, Any]:
    """Compress everything with all settings, in turns.

    Args:
        spec: ``rounds``.
    """
    found: dict[str, Any] = {}
    for name, raw in batches().items():
        times: dict[str, list[float]] = {setting: [] for setting in SETTINGS}
        sizes: dict[str, int] = {}
        for _ in range(spec["rounds"]):
            for setting, settings in SETTINGS.items():
                started = time.thread_time()
                content = _compressor(settings, len(raw)).compress(raw)
                times[setting].append((time.thread_time() - started) * 1e3 / (len(raw) / 1e6))
                sizes[setting] = len(content)
        found[name] = {"bytes": len(raw), "times": times, "sizes": sizes}
    return {"batches": found, "short": _short_runs(spec["rounds"])}


def _short_runs(rounds: int) -> list[dict[str, Any]]:
    """Compress short runs with a dictionary that was trained with others of the same chain."""
    lines = _lcel(1_000)
    per = len(lines) // 1_000
    samples = [
        b"".join(lines[start : start + 2 * per])
        for start in range(100 * per, len(lines) - 2 * per, 2 * per)
    ]
    trained = zstandard.train_dictionary(DICTIONARY, samples)
    rows = []
    for invocations in RUNS:
        raw = b"".join(lines[: invocations * per])
        row: dict[str, Any] = {"events": invocations * per, "bytes": len(raw)}
        for name, options in (("plain", {}), ("dictionary", {"dict_data": trained})):
            times = []
            for _ in range(10 * rounds):
                started = time.thread_time()
                content = zstandard.ZstdCompressor(level=3, **options).compress(raw)
                times.append((time.thread_time() - started) * 1e6)
            row[name] = {"us": times, "size": len(content)}
        rows.append(row)
    return rows


def run(*, processes: int = 2, rounds: int = 7) -> dict[str, Any]:
    """Measure in fresh processes."""
    answers = [
        _measure.fresh_process("benchmarks.compression", {"rounds": rounds})
        for _ in range(processes)
    ]
    rows = []
    for name, first in answers[0]["batches"].items():
        today = [answer["batches"][name]["times"][TODAY] for answer in answers]
        for setting in SETTINGS:
            times = [answer["batches"][name]["times"][setting] for answer in answers]
            size = first["sizes"][setting]
            rows.append(
                {
                    "batch": name,
                    "bytes": first["bytes"],
                    "setting": setting,
                    "ms_per_mb": _measure.median(times).as_dict(),
                    "time_ratio": _measure.ratio(times, today).as_dict(),
                    "size": size,
                    "size_ratio": round(size / first["sizes"][TODAY], 4),
                }
            )
    short = [
        {
            **{key: row[key] for key in ("events", "bytes")},
            **{
                name: {
                    "size": row[name]["size"],
                    "us": _measure.median([one["short"][at][name]["us"] for one in answers])
                    .as_dict(),
                }
                for name in ("plain", "dictionary")
            },
        }
        for at, row in enumerate(answers[0]["short"])
    ]  # fmt: skip
    return {
        "processes": processes,
        "rounds": rounds,
        "dictionary_bytes": DICTIONARY,
        "rows": rows,
        "short": short,
    }


def text_of(result: dict[str, Any]) -> str:
    """Return the result as a table for a terminal."""
    rows = (
        f"{row['batch']:34}{row['setting']:34}{row['ms_per_mb']['value']:>8.3g} ms/MB"
        f"{row['size']:>10,}{row['size_ratio']:>8.3g}"
        for row in result["rows"]
    )
    short = (
        f"{row['events']} events, {row['bytes']:,} bytes: {row['plain']['size']:,};"
        f" with a dictionary {row['dictionary']['size']:,}"
        for row in result["short"]
    )
    return "\n".join([*rows, *short])


if __name__ == "__main__":
    _measure.main(__doc__, measure, run, text_of, rounds=3)
