"""Takes over what dead writers left in the spool, once for all trackers of a process."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Container, Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import anyio

from asynctrack._backends.protocol import Store
from asynctrack._common.artifact import Artifact, Receipt
from asynctrack._common.offload import offload
from asynctrack._common.wakeup import Wakeup
from asynctrack._delivery.leftovers import Left, Leftovers, Member, tell_of_ours, tell_of_trouble
from asynctrack._delivery.replay import SegmentOutcome, replay_folder
from asynctrack._delivery.replay_plan import numbers
from asynctrack._delivery.upload import DeferredError
from asynctrack._errors import BackendError, TransientError
from asynctrack._spool.folder import SpoolBusyError, WriterFolder
from asynctrack._spool.layout import SpoolPlace

logger = logging.getLogger("asynctrack")

ATTEMPTS: Final = 3
PATIENCE: Final = 60.0
"""Attempts at one artifact, and seconds, that may hold up those of other writers."""
AGAIN: Final = 10.0
MAX_AGAIN: Final = 600.0
"""Seconds until it is tried again: after a round that delivered something, and at the most."""
MAX_FAILED: Final = 10_000
"""Segments that have failed, and come last, that are remembered."""
PAUSE: Final = 0.02
"""Seconds between two rounds that nobody waits for: many trackers may come at the same moment."""


@dataclass(eq=False, slots=True)
class _Lane:
    """What goes one way, one writer after the other.

    Attributes:
        waiting: What is to be delivered, and what is being delivered, the first.
        serves: The tracker for which that is.
        scope: Ends it.
    """

    waiting: deque[Left] = field(default_factory=deque)
    serves: Member | None = None
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    task: asyncio.Task[None] = field(init=False)

    def add(self, left: Left) -> None:
        """Deliver this as well, unless it waits already."""
        if all(left.path != one.path for one in self.waiting):
            self.waiting.append(left)


class Replayer:
    """Takes over what dead writers left behind, in the background of the trackers of a process.

    Args:
        places: Returns where the spool may be: what waits in any of them is delivered.
        own: The writers of this process, which are left alone.
        sleep: Waits, in seconds.
    """

    def __init__(
        self,
        places: Callable[[], Sequence[SpoolPlace]],
        own: Container[str] = (),
        *,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self._leftovers = Leftovers(places, own)
        self._sleep = sleep
        self._lanes: dict[Hashable, _Lane] = {}
        self._task: asyncio.Task[None] | None = None
        self._asked, self._hurry = Wakeup(), Wakeup()
        self._left = False
        self._failed: set[Path] = set()
        self.events = 0

    # -- what a tracker asks --------------------------------------------------------------------

    @property
    def used(self) -> bool:
        """Whether a tracker takes part."""
        return bool(self._leftovers.members)

    def join(self, member: Member) -> None:
        """Deliver what this tracker reaches as well, from now on."""
        self._leftovers.join(member)
        self._asked.set()
        if self._task is None or self._task.done():
            self._task = asyncio.ensure_future(self._go_on())

    def leave(self, member: Member) -> Collection[asyncio.Task[None]]:
        """Do without a tracker that closes.

        Returns:
            What is under way for it, and ends now.
        """
        self._leftovers.leave(member)
        last = not self._leftovers.members
        ending = [lane for lane in self._lanes.values() if last or lane.serves is member]
        for lane in ending:
            lane.scope.cancel()
        if not last:
            self._asked.set()  # others may reach what is left there
        return {lane.task for lane in ending}

    def end(self) -> None:
        """End the looking; for one that nobody uses."""
        if self._task is not None:
            self._task.cancel()

    async def looked(self, member: Member) -> None:
        """Wait until what this tracker reaches was tried once, where there is something."""
        self._hurry.set()
        await member.looked.wait()

    # -- rounds -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Deliver for every writer that has died and whose destination is within reach.

        What cannot be delivered now holds nothing else up; it is left to ``keep_trying``.
        """
        await self._look()
        while self._lanes:
            await asyncio.wait({lane.task for lane in self._lanes.values()})

    async def _look(self) -> None:
        """Look for what is within reach, and have it delivered: what goes one way, in one lane."""
        self._left = False
        if len(self._failed) > MAX_FAILED:
            self._failed.clear()  # then they are tried in another order
        members = self._leftovers.members
        found = self._leftovers.within_reach()
        while (one := await offload(next, found, None)) is not None:
            if isinstance(one, Left):
                self._lane(one.member.backend.way).add(one)
            else:
                self._tell_looked(members)
        self._tell_looked(members)

    def _lane(self, way: Hashable) -> _Lane:
        lane = self._lanes.get(way)
        if lane is None:
            lane = self._lanes[way] = _Lane()
            lane.task = asyncio.ensure_future(self._deliver(way, lane))
        return lane

    async def _deliver(self, way: Hashable, lane: _Lane) -> None:
        """Deliver what goes one way; a destination in trouble holds up its own only."""
        try:
            with lane.scope:
                while lane.waiting:
                    left = lane.waiting[0]
                    lane.serves = left.member
                    folder = None
                    if left.member in self._leftovers.members:
                        folder = await offload(_own, left.path)
                    else:
                        self._asked.set()  # others may reach it
                    if folder is not None:  # else it lives, or somebody else is at it
                        try:
                            await self._replay(folder, left.member, left.store)
                        finally:
                            with anyio.CancelScope(shield=True):
                                await offload(folder.close)
                    lane.waiting.popleft()
        finally:
            del self._lanes[way]
            self._tell_looked(self._leftovers.members, way)

    def _tell_looked(self, members: Sequence[Member], way: Hashable = None) -> None:
        """Let those go for whom nothing is under way."""
        for member in members:
            own = member.backend.way
            if own == way or (way is None and own not in self._lanes):
                member.looked.set()

    async def keep_trying(self) -> None:
        """Try again what ``run`` had to leave until nothing is left.

        Less and less often while nothing moves.
        """
        wait = AGAIN
        while self._left:
            before = self.events
            await self._sleep(wait)
            await self.run()
            wait = AGAIN if self.events > before else min(wait * 2, MAX_AGAIN)

    async def _go_on(self) -> None:
        """Look whenever a tracker comes, and again for what had to be left."""
        wait = AGAIN
        while True:
            self._asked.clear()
            self._hurry.clear()
            before = self.events
            await self._look()
            await self._hurry.wait(PAUSE)
            # What is under way may be left in the end.
            again = wait if self.used and (self._left or self._lanes) else None
            asked = await self._asked.wait(again)
            wait = AGAIN if asked or self.events > before else min(wait * 2, MAX_AGAIN)

    # -- one writer -------------------------------------------------------------------------------

    async def _replay(self, folder: WriterFolder, member: Member, store: Store) -> None:
        try:
            uploader = member.make_uploader(store)

            async def upload(artifact: Artifact) -> Receipt:
                try:
                    with anyio.move_on_after(PATIENCE):
                        return await uploader.upload(artifact, attempts=ATTEMPTS, deferrable=True)
                except DeferredError:
                    raise TransientError("Busy", "retries are used up for now") from None
                raise TransientError("Timeout", f"not delivered within {PATIENCE:g} seconds")

            await replay_folder(
                folder,
                store=store,
                upload=upload,
                replayed_by=member.writer_id,
                report=lambda outcome: self._report(member, outcome),
                failed=self._failed,
            )
        except BackendError as error:
            self._left = True
            # One warning for all that fail alike: there may be many of them.
            tell_of_trouble(
                member, error.code, folder.path, str(error), "it is tried again", error.advice
            )
        except OSError as error:
            self._left = True
            tell_of_trouble(member, str(error.errno), folder.path, str(error), "it is tried again")
        except Exception as error:
            tell_of_ours(member, folder.path, error)

    def _report(self, member: Member, outcome: SegmentOutcome) -> None:
        self.events += outcome.delivered
        member.events += outcome.delivered
        path = outcome.plan.path
        if outcome.problem:
            member.notices.warn(
                f"unreadable:{path}",
                "asynctrack cannot read a segment of its spool and leaves it as it is:"
                f" {outcome.problem}",
            )
        elif outcome.plan.damaged:
            member.notices.warn(
                f"damaged:{path}",
                f"asynctrack found {len(outcome.plan.damaged)} damaged events in {path}"
                f" (seq {numbers(outcome.plan.damaged)}). The others were delivered; the file is"
                " kept beside it with the ending .damaged.",
            )
        for batch, reason in outcome.refused:
            member.notices.warn(
                f"refused:{path}",
                f"asynctrack could not replay the events {batch.first_seq} to {batch.last_seq} of"
                f" {path}: the backend refuses them for good ({reason}). They are kept beside it"
                " in a file that ends in .dead; asynctrack spool replay --dead-letters sends them"
                " again.",
            )


def _own(path: Path) -> WriterFolder | None:
    try:
        return WriterFolder(path, make=False)
    except (SpoolBusyError, OSError):
        return None
