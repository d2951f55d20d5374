"""Deterministic simulation of the whole tracker on a virtual clock. Row 42.

CI plays a few hundred seeds; ``python -m tests.faults --seeds 10000`` plays more.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from asynctrack._buffer.store import SegmentPiece
from asynctrack._spool.keeper import Keeper
from tests.faults.simulation import DISK_CALLS, play, scratch
from tests.support.virtual import Stuck, VirtualLoop, run

BLOCKS, SEEDS = 10, 30

pytestmark = pytest.mark.may_block("the disk is called in place, on a clock turned by hand")


@pytest.mark.parametrize("block", range(BLOCKS))
def test_the_invariants_hold(block: int) -> None:
    """Troubles of server and disk, deaths at any await: I1 to I5 hold, and it always ends."""
    with scratch() as folder:
        for seed in range(block * SEEDS, (block + 1) * SEEDS):
            play(seed, folder / str(seed))


def test_the_seeds_meet_each_trouble(tmp_path: Path) -> None:
    """A disk that refuses in each place, objects that are too large or refused for good, deaths."""
    missing = {*DISK_CALLS, "too large", "poison", "killed"}
    for seed in range(BLOCKS * SEEDS):
        for entry in play(seed, tmp_path / str(seed)).history:
            what = entry.split(" ", 1)[1].removeprefix("refused ")
            missing -= {one for one in missing if what.startswith(one)}
        if not missing:
            return
    pytest.fail(f"never met: {missing}")


@pytest.mark.parametrize("seed", [1, 4, 45])
def test_a_seed_reproduces(seed: int, tmp_path: Path) -> None:
    """The same seed is the same history, to the microsecond and the last byte."""
    histories = [play(seed, tmp_path / name).history for name in ("a", "b")]
    assert histories[0] == histories[1] and len(histories[0]) > 5
    assert play(seed + 1, tmp_path / "c").history != histories[0]


def test_a_defect_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tracker that deletes a piece before it is acknowledged does not pass for long."""
    seal = Keeper.seal

    def seal_and_delete(self: Keeper, piece: SegmentPiece) -> None:
        seal(self, piece)
        piece.segment.path.unlink()

    monkeypatch.setattr(Keeper, "seal", seal_and_delete)
    with pytest.raises(AssertionError, match=r"seed \d+: .*"):
        for seed in range(100):
            play(seed, tmp_path / str(seed))


def test_the_virtual_clock() -> None:
    """Waiting costs no time, happens in order, and waiting for nothing is an error."""
    import asyncio

    async def main(loop: VirtualLoop) -> list[float]:
        times = []

        async def wait(seconds: float) -> None:
            await asyncio.sleep(seconds)
            times.append(loop.time())

        await asyncio.gather(wait(3_600.0), wait(1.0), wait(86_400.0))
        return times

    assert run(main) == pytest.approx([1.0, 3_600.0, 86_400.0])

    async def stuck(loop: VirtualLoop) -> None:
        await loop.create_future()

    with pytest.raises(Stuck):
        run(stuck)
