"""Writes the bot's data into a folder, for people and benchmarks; see ``--help``."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path

from tests.support.bot import EXPERIMENT, PRICES, SEED, RunTruth, play


def main() -> None:
    """Play the bot, and print what happened."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.bot", description=__doc__)
    parser.add_argument(
        "folder", type=Path, help="where to track to, with prices.json and truth.json"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="1 is 500 conversations (default)")
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args()
    began = time.perf_counter()
    truth = play(options.folder, scale=options.scale, seed=options.seed)
    print(f"{EXPERIMENT} in {options.folder}, in {time.perf_counter() - began:.1f} s")
    (options.folder / "prices.json").write_text(json.dumps(PRICES, indent=2) + "\n")
    told = json.dumps(asdict(truth), indent=1, default=str)
    (options.folder / "truth.json").write_text(told + "\n")
    for run in truth.runs:
        _print(run)
    same, changed = len(truth.same_questions), len(truth.changed)
    answers = len(truth.changed_answers)
    print(f"\n{same} turns in both, {changed} end otherwise, {answers} with another answer")


def _print(run: RunTruth) -> None:
    said = f"{len(run.conversations)} conversations of {len(run.by_user)} users"
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in run.outcomes.items())
    print(
        f"\n{run.run}: {said}, {len(run.turns)} turns: {outcomes}; {run.recovered} recovered errors"
    )
    for kind, calls in (("tool", run.tools), ("retriever", run.retrievers), ("model", run.models)):
        for name, one in sorted(calls.items()):
            print(
                f"  {kind:<9} {name:<15} {one.calls:>5} calls, {one.cancelled} cancelled, ", end=""
            )
            errors = ", ".join(f"{count} {error}" for error, count in one.errors.items())
            print(f"{one.failed} failed, {one.failed / one.calls:.1%} {errors and f'({errors})'}")
    for name, usage in sorted(run.usage.items()):
        tokens = f"{usage.input_tokens:,} tokens in, {usage.cache_read_tokens:,} of them cached"
        print(f"  {name}: {tokens}, {usage.output_tokens:,} out, {usage.cost} USD")
    print(
        f"  slowest: {' '.join(run.slowest)}; {len(run.with_phrase)} traces with the phrase", end=""
    )
    print(f"; {len(run.feedback)} thumbs")


if __name__ == "__main__":
    main()
