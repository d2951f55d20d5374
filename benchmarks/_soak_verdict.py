"""What the samples of a soak say: flat or growing, balanced or not."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Final

MIB: Final = 1 << 20
SLACK: Final[Mapping[str, float]] = {
    "memory": 8 * MIB,
    "private_memory": 8 * MIB,
    "files": 4,
    "sockets": 4,
    "threads": 3,
}
"""How much the median of the last third may be above that of the middle third. The first third is
warming up: caches, pools, lazily imported modules."""
MOST: Final[Mapping[str, float]] = {
    "sockets": 32,
    "threads": 48,
    "files": 64,
    "spool_files": 32,
}
"""What no sample may exceed. A segment has two files; open at a time are those in upload, a few
that wait, the one that is written and a spare."""
FEWEST_SAMPLES: Final = 9

Sample = Mapping[str, Any]
Finding = dict[str, Any]


def judge(samples: Sequence[Sample], final: Sample) -> list[Finding]:
    """Return what was looked at, and whether it is well."""
    third = len(samples) // 3
    middle, last = samples[third : 2 * third], samples[2 * third :]
    findings: list[Finding] = [
        {
            "what": "there are samples enough to tell",
            "ok": len(samples) >= FEWEST_SAMPLES,
            "found": f"{len(samples)} samples",
        }
    ]
    if len(samples) >= FEWEST_SAMPLES:
        findings += [_flat(key, middle, last) for key in SLACK]
    findings += [_bounded(samples, key) for key in MOST]
    unbalanced = [sample for sample in (*samples, final) if not _balanced(sample)]
    findings.append(
        {
            "what": "the accounting equation holds in every sample",
            "ok": not unbalanced,
            "found": f"{len(unbalanced)} of {len(samples) + 1} without it",
        }
    )
    findings.append(
        {
            "what": "no file of the spool is open after closing",
            "ok": not final["spool_files"],
            "found": str(final["spool_files"]),
        }
    )
    kept = final["delivered"] == final["accepted"] and not final["dropped"]
    findings.append(
        {
            "what": "everything is delivered at the end, nothing was dropped",
            "ok": kept,
            "found": f"{final['delivered']} of {final['accepted']}, dropped {final['dropped']}",
        }
    )
    return findings


def text(result: Mapping[str, Any]) -> str:
    """Return the verdict for a terminal."""
    final = result["final"]
    faults = result["faults"].values()
    lines = [
        f"{result['seconds']:g} s, {final['accepted']} events, {final['artifacts']} artifacts,"
        f" {final['retries']} retries, {sum(fault['times'] for fault in faults)} faults,"
        f" seed {result['seed']}"
    ]
    lines += [
        f"{'ok  ' if finding['ok'] else 'FAIL'} {finding['what']}: {finding['found']}"
        for finding in result["findings"]
    ]
    return "\n".join(lines)


def _balanced(sample: Sample) -> bool:
    # Added up here and not asked for: a snapshot does not vouch for itself.
    parts = ("delivered", "spooled", "pending", "dead_lettered")
    return int(sample["accepted"]) == sum(int(sample[part]) for part in parts)


def _flat(key: str, middle: Sequence[Sample], last: Sequence[Sample]) -> Finding:
    before = statistics.median(sample[key] for sample in middle)
    after = statistics.median(sample[key] for sample in last)
    unit = MIB if "memory" in key else 1
    return {
        "what": f"{key.replace('_', ' ')} is flat",
        "ok": after - before <= SLACK[key],
        "found": f"{before / unit:.1f} → {after / unit:.1f}{' MiB' if unit == MIB else ''}",
    }


def _bounded(samples: Sequence[Sample], key: str) -> Finding:
    most = max((sample[key] for sample in samples), default=0)
    return {
        "what": f"{key.replace('_', ' ')} stay bounded",
        "ok": most <= MOST[key],
        "found": f"at most {most}",
    }
