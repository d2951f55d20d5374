"""The question of ``benchmarks/engines``, its answer in plain Python, and how engines are asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import zstandard

import asynctrack
from benchmarks.generate import generate
from tests.support.s3 import S3Server

ENGINES = Path(__file__).parents[2] / "benchmarks/engines"


def make_calls(root: Path) -> None:
    """Write two Runs of two processes and two days; half a segment of them once more, cut in
    another way, as after a replay."""
    generate(root, 9_000, runs=2, writers=2, days=2, batch_events=1_000)
    segment = min(root.glob("asynctrack/v1/*/*/dt=*/*.jsonl.zst"))
    lines = zstandard.ZstdDecompressor().decompressobj().decompress(segment.read_bytes())
    half = b"".join(lines.splitlines(keepends=True)[:500])
    name = segment.name.replace("-000000001000.", "-000000000500.")
    assert name != segment.name
    segment.with_name(name).write_bytes(zstandard.ZstdCompressor().compress(half))


def plain_answer(place: str, **access: Any) -> list[dict[str, Any]]:
    """p95 latency and tokens by model and day, in plain Python over ``open_run``."""
    groups: dict[tuple[str, str], list[tuple[float, int, int]]] = {}
    for run in asynctrack.open_experiment(place, **access):
        for trace in run.traces():
            for span in trace.walk():
                if span.kind != "chat_model" or span.outcome != "ok" or span.model is None:
                    continue
                assert span.start_unix_nano is not None
                assert span.duration is not None
                start = span.start_unix_nano // 1000
                day = datetime.fromtimestamp(start // 10**6, tz=timezone.utc).strftime("%Y-%m-%d")
                tokens = (span.input_tokens or 0, span.output_tokens or 0)
                groups.setdefault((span.model, day), []).append((span.duration, *tokens))
    answer = []
    for (model, day), calls in sorted(groups.items()):
        latencies = sorted(latency for latency, _, _ in calls)
        answer.append(
            {
                "model": model,
                "day": day,
                "calls": len(calls),
                "p95_seconds": latencies[-(-len(calls) * 95 // 100) - 1],
                "input_tokens": sum(read for _, read, _ in calls),
                "output_tokens": sum(written for _, _, written in calls),
            }
        )
    return answer


def ask(script: str, server: S3Server, *arguments: str) -> list[dict[str, Any]]:
    """What an example prints, run as its users run it."""
    # Ours use nothing that is to go; Ray itself uses an option of its own that is.
    strict = [] if script == "ray_data.py" else ["-W", "error::DeprecationWarning"]
    command = [sys.executable, *strict, str(ENGINES / script)]
    done = subprocess.run(
        [*command, f"s3://{server.bucket}/p", "--endpoint-url", server.endpoint_url, *arguments],
        env={
            **os.environ,
            "AWS_ACCESS_KEY_ID": server.access_key,
            "AWS_SECRET_ACCESS_KEY": server.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "DASK_LOGGING__DISTRIBUTED": "error",
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def joined(run: Path) -> list[tuple[int, Any, Any]]:
    """Document and messages of each event's inputs, as our own reader gives them."""
    return [
        (one.seq, one.inputs.get("document"), one.inputs.get("messages"))
        if isinstance(one.inputs, dict)
        else (one.seq, None, None)
        for one in asynctrack.open_run(run).events()
    ]
