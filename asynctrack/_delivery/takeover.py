"""Takes over what dead writers left in the spool, once for all trackers of a process."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Container, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import anyio

from asynctrack._backends.protocol import Backend, Store
from asynctrack._common.artifact import Artifact, Receipt
from asynctrack._common.notices import Notices
from asynctrack._common.offload import offload
from asynctrack._delivery.replay import SegmentOutcome, replay_folder
from asynctrack._delivery.replay_plan import numbers
from asynctrack._delivery.upload import DeferredError, Uploader
from asynctrack._errors import BackendError, TransientError
from asynctrack._spool.folder import UNFINISHED, SpoolBusyError, WriterFolder, sweep
from asynctrack._spool.layout import (
    DIRECTORY_VERSION,
    INFO,
    SpoolPlace,
    folder_names,
    read_description,
    usable_spools,
    waiting_segments,
)

logger = logging.getLogger("asynctrack")

ATTEMPTS: Final = 3
PATIENCE: Final = 60.0
"""Attempts at one artifact, and seconds, that may hold up those of other writers."""
AGAIN: Final = 10.0
MAX_AGAIN: Final = 600.0
"""Seconds until it is tried again: after a round that delivered something, and at the most."""
PAUSE: Final = 0.02
"""Seconds between two rounds that nobody waits for: many trackers may come at the same moment."""
LATEST: Final = 500
"""Writers, the latest ones, that a tracker which closes waits for: where none of these is within
reach it does not wait for thousands of others."""


@dataclass(eq=False, slots=True)
class Member:
    """A tracker that takes part: what it reaches is delivered for it, and counted as its own.

    Attributes:
        writer_id: Its own writer, to be left alone.
        backend: Reaches where events belong.
        make_uploader: Returns an uploader for a store: one that no other waits for, so that a
            destination in trouble holds up neither the tracker's own nor another one.
        notices: Its warnings.
        events: Events that were delivered for it.
        looked: Set when all there was has been tried once since it came, or the ``LATEST`` are out
            of reach.
        number: Its place in the order in which they came.
    """

    writer_id: str
    backend: Backend
    make_uploader: Callable[[Store], Uploader]
    notices: Notices
    events: int = 0
    looked: asyncio.Event = field(default_factory=asyncio.Event)
    number: int = 0


@dataclass(slots=True)
class _Known:
    """What a writer says of itself, as it was read at some time.

    Attributes:
        written: When it wrote that, as its file says.
        destination: Where its events belong; None where it does not say.
        experiment: The experiment's name.
        run: The Run's name.
        checked: The number of the last tracker that was asked whether it reaches it; of those up
            to it none does.
    """

    written: int
    destination: dict[str, Any] | None
    experiment: str
    run: str
    checked: int = 0


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
        self._places = places
        self._sleep = sleep
        self._own = own
        self._members: dict[int, Member] = {}
        self._count = 0
        self._serves: Member | None = None
        self._known: dict[str, _Known] = {}
        self._task: asyncio.Task[None] | None = None
        self._scope: anyio.CancelScope | None = None
        self._asked, self._hurry = asyncio.Event(), asyncio.Event()
        self._left = False
        self._failed: set[Path] = set()
        self.events = 0

    # -- what a tracker asks --------------------------------------------------------------------

    def join(self, member: Member) -> None:
        """Deliver what this tracker reaches as well, from now on."""
        self._count += 1
        member.number = self._count
        self._members[member.number] = member
        self._begin()

    async def leave(self, member: Member) -> None:
        """Do without a tracker that closes; nothing is under way for it any more then."""
        self._members.pop(member.number, None)
        task = self._task
        if task is not None and (not self._members or self._serves is member):
            self._task = None
            if self._scope is None:
                task.cancel()  # it has not begun
            else:
                self._scope.cancel()
            await asyncio.wait({task})
            if self._members:
                self._begin()

    def _begin(self) -> None:
        self._asked.set()
        if self._task is None:
            self._scope = None
            self._task = asyncio.ensure_future(self._go_on())

    async def looked(self, member: Member) -> None:
        """Wait until what this tracker reaches was tried once, where there is something."""
        self._hurry.set()
        await member.looked.wait()

    # -- rounds -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Deliver for every writer that has died and whose destination is within reach.

        What cannot be delivered now holds nothing else up; it is left to ``keep_trying``.
        """
        self._left = False
        members = [*self._members.values()]
        found = self._within_reach()
        while (one := await offload(next, found, None)) is not None:
            if isinstance(one, int):
                for member in members:
                    member.looked.set()
                continue
            folder, member, store = one
            self._serves = member
            try:
                with folder:
                    await self._replay(folder, member, store)
            finally:
                self._serves = None
        for member in members:
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
        with anyio.CancelScope() as scope:
            self._scope = scope
            while True:
                self._asked.clear()
                self._hurry.clear()
                before = self.events
                await self.run()
                if self.events > before:
                    wait = AGAIN
                with anyio.move_on_after(PAUSE):
                    await self._hurry.wait()
                with anyio.move_on_after(wait if self._left else None) as pause:
                    await self._asked.wait()
                wait = min(wait * 2, MAX_AGAIN) if pause.cancelled_caught else AGAIN

    # -- in a thread ------------------------------------------------------------------------------

    def _within_reach(self) -> Iterator[tuple[WriterFolder, Member, Store] | int]:
        """Yield what dead writers left that a tracker reaches, the latest first. Blocks.

        Yields:
            The folder, owned, to be closed before the next one; for whom; and where it belongs. Or
            how many there were so far, where none of these was within reach.
        """
        for spool_dir in usable_spools(self._places()):
            yield from self._within_reach_in(spool_dir)

    def _within_reach_in(
        self, spool_dir: Path
    ) -> Iterator[tuple[WriterFolder, Member, Store] | int]:
        names = sorted(folder_names(spool_dir), reverse=True)
        if len(self._known) > 2 * len(names):
            self._known = {name: self._known[name] for name in names if name in self._known}
        top = f"{spool_dir / DIRECTORY_VERSION}{os.sep}"
        found = False
        for number, name in enumerate(names):
            if number == LATEST and not found:
                yield number
            if name in self._own:
                continue
            if name.startswith(UNFINISHED):
                sweep(Path(top + name))
                continue
            if self._reached(top, name) is None:
                continue
            try:
                folder = WriterFolder(Path(top + name), make=False)
            except (SpoolBusyError, OSError):
                continue  # it lives, or somebody else is at it
            reached = self._reached(top, name)  # it may have said more before it died
            if reached is None:
                folder.close()
            else:
                found = True
                yield folder, *reached

    def _reached(self, top: str, name: str) -> tuple[Member, Store] | None:
        """Return a tracker that reaches where a writer's events belong, and a store for it."""
        known = self._look_at(top, name)
        latest = self._count
        for number in range(latest, known.checked, -1):
            member = self._members.get(number)
            if member is None:
                continue
            if known.destination is None:
                self._tell_of_no_destination(member, Path(top + name))
                break
            try:
                store = member.backend.elsewhere(known.destination, known.experiment, known.run)
            except Exception as error:
                _tell_of_ours(member, Path(top + name), error)
                break
            if store is not None:
                return member, store
        known.checked = latest
        return None

    def _look_at(self, top: str, name: str) -> _Known:
        # Texts and not paths: there may be thousands, which all are looked at for each tracker.
        folder = top + name
        try:
            written = os.stat(f"{folder}{os.sep}{INFO}").st_mtime_ns  # noqa: PTH116  # as above
        except OSError:
            written = 0
        known = self._known.get(name)
        if known is None or known.written != written:
            info = read_description(Path(folder))
            destination = info.get("destination")
            known = self._known[name] = _Known(
                written,
                destination if isinstance(destination, dict) else None,
                str(info.get("experiment", "")),
                str(info.get("run", "")),
            )
        return known

    def _tell_of_no_destination(self, member: Member, path: Path) -> None:
        try:
            # Who closes it deletes it, where it holds nothing.
            with WriterFolder(path, make=False):
                if not waiting_segments(path):
                    return
        except (SpoolBusyError, OSError):
            return
        member.notices.warn(
            f"no destination:{path.name}",
            f"asynctrack found events of a writer in {path} that does not say where"
            " they belong. They stay there: `asynctrack spool replay --to …`.",
        )

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
            _warn(member, error.code, folder.path, str(error), "it is tried again", error.advice)
        except OSError as error:
            self._left = True
            _warn(member, str(error.errno), folder.path, str(error), "it is tried again")
        except Exception as error:
            _tell_of_ours(member, folder.path, error)

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


def _tell_of_ours(member: Member, path: Path, error: Exception) -> None:
    logger.debug("replay of %s", path, exc_info=error)
    _warn(member, path.name, path, f"{type(error).__name__}: {error}", "please report this")


def _warn(
    member: Member, kind: str, path: Path, why: str, next_step: str, advice: str = ""
) -> None:
    member.notices.warn(
        f"replay:{kind}",
        f"asynctrack could not replay all of {path} ({why}). What is left stays there;"
        f" {next_step}, and `asynctrack spool replay` does it by hand. {advice}".rstrip(),
    )
