"""Kills children, replays what they left, and lets the auditor count.

In a round, one child after the other tracks into the same place and is killed; each also takes
over what the ones before it left, until it is killed as well. In the end a tracker that lives
replays the rest.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asynctrack import tracker
from asynctrack._spool.layout import writers
from tests.crash import points
from tests.crash.nursery import Child, Nursery
from tests.e2e.waiting import until_in_thread
from tests.support.auditor import Audit, audit_folder

SMALL: Mapping[str, Any] = {
    "max_batch_bytes": 16_384,
    "max_batch_events": 40,
    "max_delay": 0.05,
    "close_timeout": 120.0,
    "close_patience": 120.0,
}
"""So that pieces fill, are sealed, uploaded and deleted all the time."""
LARGE: Mapping[str, Any] = {"max_delay": 0.05, "close_timeout": 120.0, "close_patience": 120.0}
"""Pieces as large as by default."""


@dataclass
class Tally:
    """What the auditor found, over many kills.

    Attributes:
        kills: Children killed.
        events: Events found.
        accepted: Events that children reported as accepted.
        in_memory: Of these, those that were not on disk yet by their own account: pieces as small
            as these are filled faster than a busy machine makes the next one.
        lost: Of the others, those that were not found.
        doubled: Events found more than once.
        out_of_order: Anything else that the auditor objects to.
        points: How many kills there were at each fail point.
        problems: All of that in words.
    """

    kills: int = 0
    events: int = 0
    accepted: int = 0
    in_memory: int = 0
    lost: int = 0
    doubled: int = 0
    out_of_order: int = 0
    points: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def add(self, audit: Audit, children: Sequence[Child]) -> None:
        """Compare what is there with what the children said was accepted."""
        self.events += audit.events
        excused: set[str] = set()
        for child in children:
            found = audit.writers.get(child.writer_id)
            seqs = set(found.seqs) if found else set()
            self.accepted += child.accepted
            self.in_memory += child.pending
            # Of what was in memory, and so of what came behind its last report, nothing is known.
            last = child.accepted if child.pending else max(child.accepted, *seqs, 0)
            missing = [seq for seq in range(1, last + 1) if seq not in seqs]
            if child.pending:
                excused.add(child.writer_id)
            lost = max(0, len(missing) - child.pending)
            self.lost += lost
            if lost:
                self.problems.append(
                    f"{child.writer_id}: accepted {child.accepted}, {child.pending} of them in"
                    f" memory, {len(missing)} missing: {missing[:20]}"
                )
        self.doubled += sum(
            count - 1 for found in audit.writers.values() for count in found.duplicates.values()
        )
        for text in audit.problems:
            if " missing " in text or ("never starts" in text and text.split(":")[0] in excused):
                continue  # counted above
            self.problems.append(text)
            self.out_of_order += "times" not in text
        known = {child.writer_id for child in children}
        self.problems += [f"{one}: nobody's" for one in set(audit.writers) - known]

    def __str__(self) -> str:
        return (
            f"{self.kills} kills, {self.accepted} events accepted and reported, {self.in_memory} of"
            f" them in memory, {self.events} found: {self.lost} lost, {self.doubled} doubled,"
            f" {self.out_of_order} out of order"
        )

    @property
    def good(self) -> bool:
        """Whether each event is there exactly once, in order."""
        return not (self.lost or self.doubled or self.out_of_order or self.problems)


def moments(seed: int) -> Sequence[str]:
    """Fail points for a round: each other kill is at a random moment."""
    chances = random.Random(seed)
    return [
        f"{chances.choice(points.NAMES)}:{chances.choice((1, 1, 2, 3, 7))}" if number % 2 else ""
        for number in range(10)
    ]


def kill_one(
    nursery: Nursery, request: dict[str, Any], point: str, chances: random.Random
) -> Child:
    """Let a child track, and kill it: at a fail point, or at a random moment."""
    chains = int(chances.choice((0, 1, 3, 30, 100, 300)) * chances.random()) + 1
    # A fail point that does not come while it tracks comes when it closes, or never.
    limits = {"chains": chains} if point else {}
    child = nursery.birth(
        {
            **request,
            **limits,
            "point": point,
            "seed": chances.randrange(1 << 30),
            "quiet": 1,
            "values": True,
        }
    )
    if point:
        child.end()
        return child
    child.listen(1 + chains)
    for _ in range(int(chances.random() * 20_000)):
        pass  # somewhere between two reports
    child.kill()
    child.end()
    return child


def one_round(
    nursery: Nursery, folder: Path, tally: Tally, *, seed: int, at: Sequence[str] | None = None
) -> None:
    """Kill several children on one spool, replay, audit."""
    chances = random.Random(seed)
    spool, out = folder / "spool", folder / "out"
    request = {"out": str(out), "spool": str(spool)}
    children: list[Child] = []
    for point in moments(seed) if at is None else at:
        options = dict(chances.choice((SMALL, SMALL, LARGE)))
        child = kill_one(nursery, {**request, "options": options}, point, chances)
        if child.writer_id:
            children.append(child)
        tally.kills += not child.closed
        if point and not child.closed:
            name = point.partition(":")[0]
            tally.points[name] = tally.points.get(name, 0) + 1
    replay_all(folder / "own", spool)
    tally.add(audit_folder(out), children)


def replay_all(out: Path, spool: Path) -> int:
    """Let a tracker that lives replay everything; returns the events of others it delivered."""
    here = tracker(out, spool_dir=str(spool))
    with here as handler:
        until_in_thread(lambda: {path.name for path in writers(spool)} <= {here.writer_id})
    assert writers(spool) == []
    return handler.statistics().replayed
