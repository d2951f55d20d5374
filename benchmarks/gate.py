"""What CI runs: ``python -m benchmarks.gate``. Exit code 1, and why, when a bound is broken.

The bounds are on ratios within one run, and generous: they catch a stage that became twice as dear,
not a noisy neighbour. Each is judged by the lower end of its confidence interval, so that only what
is certainly too slow fails. The goals themselves are in ``results/report.md``. Under a minute.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Any

from benchmarks import _measure, overhead, stages, tokens
from benchmarks._servers import all_servers
from benchmarks.tracers import BASE, EMPTY, INLINE, OURS

# What was measured (2 cores, Python 3.11), times about two and a half. The micro-benchmarks have
# bounds on one side only: a faster stage is no reason to fail.
STAGE_BOUNDS = {
    "capture": 60.0,
    "encode": 24.0,
    "redact": 27.0,
    "enqueue": 120.0,
    "spool": 7.0,  # beside a bare pwrite; it was a copy into memory before
    "spool 2 KB": 7.0,
    "batch": 6.0,
    "compress": 2.5,
    "encode + compress": 12.0,
    "capture 100 KB": 27.0,
    "encode 100 KB": 15.0,
    stages.ANSWER: 48.0,
    "token": 7.0,
}
TOKEN_BOUND = 2.5
"""What asynctrack adds to a streamed token, over the empty inline handler."""
LCEL_BOUND = 3.0
"""CPU that asynctrack adds on the application's thread, over the empty async handler."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One ratio beside its bound.

    Attributes:
        name: What was measured.
        ratio: The ratio and its confidence interval.
        bound: What its lower end may be at the most.
    """

    name: str
    ratio: dict[str, float]
    bound: float

    @property
    def broken(self) -> bool:
        """Whether it is certainly over the bound."""
        return self.ratio["low"] > self.bound

    def __str__(self) -> str:
        ratio = self.ratio
        return (
            f"{'OVER ' if self.broken else 'ok   '}{self.name:36}{ratio['value']:>8.2f} ×"
            f"  ({ratio['low']:.2f}–{ratio['high']:.2f}, bound {self.bound:g})"
        )


def judge_stages(rows: list[dict[str, Any]]) -> list[Finding]:
    """Put the rows of ``stages`` beside their bounds."""
    return [
        Finding(f"{row['stage']} / {row['floor']}", row["ratio"], STAGE_BOUNDS[row["stage"]])
        for row in rows
        if row["stage"] in STAGE_BOUNDS
    ]


def judge_token(result: dict[str, Any]) -> list[Finding]:
    """Put the streamed token beside its bound."""
    return [Finding(f"token: {OURS} / {INLINE}", result["ratio"], TOKEN_BOUND)]


def judge_overhead(result: dict[str, Any]) -> list[Finding]:
    """Put the LCEL ratio beside its bound."""
    ratio = result["tracers"][OURS]["thread_over_empty"]
    return [Finding(f"LCEL: {OURS} / {EMPTY}", ratio, LCEL_BOUND)]


def verdict(findings: list[Finding]) -> str | None:
    """Return what is wrong, or None."""
    broken = [finding for finding in findings if finding.broken]
    if not broken:
        return None
    names = "\n".join(f"  {finding}" for finding in broken)
    return (
        f"{len(broken)} of {len(findings)} bounds on what tracking costs are broken, by the lower"
        f" end of the confidence interval:\n{names}\nThe stage named first in the pipeline is where"
        " to look: `python -m benchmarks.stages --callgrind` counts its instructions,"
        " `python -m benchmarks.profile` shows the hot path. A cost that is meant: raise the bound"
        " in benchmarks/gate.py and say why."
    )


def main() -> int:
    """Measure, print every ratio, and tell by the exit code."""
    started = time.monotonic()
    findings = judge_stages(stages.run(processes=1, repetitions=12)["rows"])
    findings += judge_token(tokens.run(processes=1, rounds=15))
    with all_servers() as servers:
        plan = overhead.Plan("lcel-100", "gate", (BASE, EMPTY, INLINE, OURS), 1, 4, 4.0)
        findings += judge_overhead(overhead.run(plan, servers))
    for finding in findings:
        print(finding)
    wrong = verdict(findings)
    print(
        f"measured in {time.monotonic() - started:.0f} s,"
        f" load {_measure.environment()['load_1_minute']}"
    )
    if wrong is not None:
        print(wrong, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
