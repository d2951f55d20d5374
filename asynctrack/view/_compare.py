"""Two Runs side by side, as their page shows them: whole Runs, by component, and what changed in
the answers to the same questions. Every function blocks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from asynctrack._common.outcome import said_outcome
from asynctrack._reading.answers.changes import MEASURES, TRACE, Change, Sample, changes, samples
from asynctrack._reading.answers.noise import Estimate, difference, rate
from asynctrack._reading.answers.pairs import Asked as Trace
from asynctrack._reading.answers.pairs import Matches, match, texts, traces_of

from ._index import Index
from ._progress import RunState
from ._scope import Scope
from ._shapes import Data

PAIRS: Final = 50
"""Changed answers on one page."""
SAID: Final = 2_000
"""Characters of a question and of an answer that are shown; its trace shows all."""
OWN_METRICS: Final = ("gen_ai.", "asynctrack.")
"""Metrics that asynctrack writes for the last seconds: the tables have them of the whole Run."""
ENDINGS: Final = ("failed", "cancelled", "unfinished", "abandoned")
"""Of these, fewer are better."""
COMPONENTS: Final = 200
"""Components that are compared."""


def in_order(runs: Sequence[RunState], started: Mapping[int, float | None]) -> list[RunState]:
    """Return Runs, the earlier one first, whichever was asked for first."""
    return sorted(runs, key=lambda run: started.get(run.number) or math.inf)


def metrics_of(run: RunState) -> Data:
    """Return the user's own metrics: their last values."""
    return {
        name: metric.last
        for name, metric in run.metrics.items()
        if not name.startswith(OWN_METRICS)
    }


def differences_of(sides: Sequence[Mapping[str, Any]], components: Sequence[Data]) -> Data:
    """Return what changed of all traces: of how they ended, and as ``components_of`` has it."""
    found: Data = {}
    for name in ENDINGS:
        first, second = (rate(side[name], side["traces"]) for side in sides)
        if first is not None and second is not None:
            found[name] = _estimate(difference(first, second))
    for one in components:
        if one["kind"] == TRACE:
            found.update(one["differences"])
    return found


def components_of(index: Index, runs: Sequence[RunState]) -> list[Data]:
    """Return components side by side, what changed beyond noise first in each kind."""
    found = changes(*(samples(_scope(index, run)) for run in runs))
    return [_change(one) for one in found[:COMPONENTS]]


def matches_of(index: Index, runs: Sequence[RunState]) -> Matches:
    """Return which traces of the Runs were asked the same."""
    return match(*(traces_of(_scope(index, run)) for run in runs))


def pairs_of(index: Index, runs: Sequence[RunState], matches: Matches, page: int) -> Data:
    """Return a page of the answers that changed."""
    changed = matches.changed
    shown = changed[page * PAIRS : (page + 1) * PAIRS]
    sides = [[pair.first for pair in shown], [pair.second for pair in shown]]
    said = [
        texts(_scope(index, run), [one.number for one in side])
        for run, side in zip(runs, sides, strict=True)
    ]
    pairs = []
    for pair in shown:
        question = said[0].get(pair.first.number)
        pairs.append(
            {
                "name": pair.first.name,
                "question": "" if question is None else question.question[:SAID],
                "sides": [
                    _answer(trace, found[trace.number].answer if trace.number in found else "")
                    for trace, found in zip((pair.first, pair.second), said, strict=True)
                ],
            }
        )
    return {
        "matched": len(matches.pairs),
        "changed": len(changed),
        "only": [len(matches.only_first), len(matches.only_second)],
        "page": page,
        "pages": max(1, -(-len(changed) // PAIRS)),
        "pairs": pairs,
    }


def _scope(index: Index, run: RunState) -> Scope:
    return Scope(index, "run = $run", {"run": run.number})


def _answer(trace: Trace, answer: str) -> Data:
    return {
        "trace_id": trace.trace_id,
        "outcome": trace.outcome,
        "said": said_outcome(trace.outcome, trace.cause),
        "error": None if trace.error is None else trace.error[:SAID],
        "duration": trace.duration,
        "answer": answer[:SAID],
        "cut": len(answer) > SAID,
    }


def _change(one: Change) -> Data:
    return {
        "kind": one.kind,
        "name": one.name,
        "sides": [_sample(one.first), _sample(one.second)],
        "differences": {name: _estimate(found) for name, found in one.differences.items()},
    }


def _sample(side: Sample | None) -> Data | None:
    if side is None:
        return None
    measured = {name: side.measured[name].value for name in MEASURES if name in side.measured}
    return {"calls": side.calls, "failed": side.failed, "measured": measured}


def _estimate(found: Estimate) -> dict[str, Any]:
    known = {name: one if math.isfinite(one) else None for name, one in asdict(found).items()}
    return {**known, "beyond_noise": found.beyond_noise}
