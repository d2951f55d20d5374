"""What dead writers left in the spool, and which of the open trackers reaches where it belongs."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from asynctrack._backends.protocol import Backend, Store
from asynctrack._common.notices import Notices
from asynctrack._delivery.upload import Uploader
from asynctrack._spool.folder import UNFINISHED, SpoolBusyError, WriterFolder, sweep
from asynctrack._spool.layout import (
    DIRECTORY_VERSION,
    INFO,
    SpoolPlace,
    folder_names,
    held_files,
    is_alive,
    read_description,
    usable_spools,
    waiting_segments,
)

logger = logging.getLogger("asynctrack")

LATEST: Final = 500
"""Writers, the latest ones, that a tracker which closes waits for: where none of these is within
reach it does not wait for thousands of others."""
MAX_GONE: Final = 1_000
"""Writers that are gone whose descriptions are remembered."""


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


@dataclass(frozen=True, slots=True)
class Left:
    """What a dead writer left, for whom it is delivered, and where it belongs."""

    path: Path
    member: Member
    store: Store


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


class Leftovers:
    """Finds what dead writers left. Blocks; one thread at a time.

    Args:
        places: Returns where the spool may be.
        own: The writers of this process, which are left alone.
    """

    def __init__(
        self, places: Callable[[], Sequence[SpoolPlace]], own: Container[str] = ()
    ) -> None:
        self._places = places
        self._own = own
        self._members: dict[int, Member] = {}
        self._count = 0
        self._known: dict[str, _Known] = {}

    @property
    def members(self) -> list[Member]:
        """The trackers that take part, in the order in which they came."""
        return [*self._members.values()]

    def join(self, member: Member) -> None:
        """Look for what this tracker reaches as well."""
        self._count += 1
        member.number = self._count
        self._members[member.number] = member

    def leave(self, member: Member) -> None:
        """Do without it."""
        self._members.pop(member.number, None)

    def within_reach(self) -> Iterator[Left | int]:
        """Yield what dead writers left that a tracker reaches, the latest first. Blocks.

        Yields:
            Each of them; or how many there were so far, where none of these was within reach.
        """
        found = False
        seen = 0
        for spool_dir in usable_spools(self._places()):
            top = f"{spool_dir / DIRECTORY_VERSION}{os.sep}"
            for name in sorted(folder_names(spool_dir), reverse=True):
                seen += 1
                if seen == LATEST and not found:
                    yield seen
                left = self._look(top, name)
                if left is not None:
                    found = True
                    yield left
        if len(self._known) > 2 * seen + MAX_GONE:
            self._known.clear()  # most of them are gone

    def _look(self, top: str, name: str) -> Left | None:
        """Return what a dead writer left that a tracker reaches."""
        if name in self._own:
            return None
        if name.startswith(UNFINISHED):
            sweep(Path(top + name))
            return None
        reached = self._reached(top, name)
        if reached is None or is_alive(Path(top + name)):
            return None
        reached = self._reached(top, name)  # it may have said more before it died
        return None if reached is None else Left(Path(top + name), *reached)

    def _reached(self, top: str, name: str) -> tuple[Member, Store] | None:
        """Return a tracker that reaches where a writer's events belong, and a store for it."""
        known = self._look_at(top, name)
        latest = self._count
        for member in reversed([*self._members.values()]):
            if member.number <= known.checked:
                break
            if known.destination is None:
                self._tell_of_no_destination(member, Path(top + name))
                break
            try:
                store = member.backend.elsewhere(known.destination, known.experiment, known.run)
            except Exception as error:
                tell_of_ours(member, Path(top + name), error)
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
        known = self._known.get(folder)
        if known is None or known.written != written:
            info = read_description(Path(folder))
            destination = info.get("destination")
            known = self._known[folder] = _Known(
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
                if not (waiting_segments(path) or held_files(path)):
                    return
        except (SpoolBusyError, OSError):
            return
        member.notices.warn(
            f"no destination:{path.name}",
            f"asynctrack found events of a writer in {path} that does not say where"
            " they belong. They stay there: `asynctrack spool replay --to …`.",
        )


def tell_of_ours(member: Member, path: Path, error: Exception) -> None:
    """Warn of an error that nobody has thought of, and ask for a report."""
    logger.debug("replay of %s", path, exc_info=error)
    tell_of_trouble(
        member, path.name, path, f"{type(error).__name__}: {error}", "please report this"
    )


def tell_of_trouble(
    member: Member, kind: str, path: Path, why: str, next_step: str, advice: str = ""
) -> None:
    """Warn that a writer's folder was not replayed, or not all of it."""
    member.notices.warn(
        f"replay:{kind}",
        f"asynctrack could not replay all of {path} ({why}). What is left stays there;"
        f" {next_step}, and `asynctrack spool replay` does it by hand. {advice}".rstrip(),
    )
