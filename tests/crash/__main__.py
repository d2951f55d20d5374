"""``python -m tests.crash --kills 2000``: the kill tests at any scale."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.crash.kills import Tally, one_round
from tests.crash.nursery import nursery


def main() -> int:
    """Kill until the number is reached; the exit code is 1 when anything is not as it should be."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--kills", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0, help="of the first round")
    options = parser.parse_args()
    tally = Tally()
    began = time.monotonic()
    seed = options.seed
    with nursery() as nest:
        while tally.kills < options.kills and tally.good:
            folder = Path(tempfile.mkdtemp(prefix="asynctrack-crash-"))
            one_round(nest, folder, tally, seed=seed)
            print(f"\r{tally}, {time.monotonic() - began:.0f} s", end="", flush=True)
            if not tally.good:
                print(f"\nseed {seed}, in {folder}:", *tally.problems, sep="\n  ")
                break
            shutil.rmtree(folder)
            seed += 1
    print()
    for name, count in sorted(tally.points.items()):
        print(f"  {count:5} kills at {name}")
    return 0 if tally.good else 1


if __name__ == "__main__":
    sys.exit(main())
