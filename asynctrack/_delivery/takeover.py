"""Takes over what dead writers left in the spool, in the background of a tracker."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

import anyio

from asynctrack._backends.protocol import Backend, Store
from asynctrack._common.artifact import Artifact, Receipt
from asynctrack._common.notices import Notices
from asynctrack._common.offload import offload
from asynctrack._delivery.replay import SegmentOutcome, replay_folder
from asynctrack._delivery.replay_plan import numbers
from asynctrack._delivery.upload import DeferredError, Uploader
from asynctrack._errors import BackendError, TransientError
from asynctrack._spool.folder import WriterFolder, orphans
from asynctrack._spool.layout import SpoolPlace, usable_spools

logger = logging.getLogger("asynctrack")

ATTEMPTS: Final = 3
PATIENCE: Final = 60.0
"""Attempts at one artifact, and seconds, that may hold up those of other writers."""
AGAIN: Final = 10.0
MAX_AGAIN: Final = 600.0
"""Seconds until it is tried again: after a round that delivered something, and at the most."""


class Replayer:
    """Takes over what dead writers left behind, in the background of a tracker.

    Args:
        places: Returns where the spool may be: what waits in any of them is delivered.
        writer_id: The tracker's own writer, to be left alone.
        backend: Reaches where the events belong.
        make_uploader: Returns an uploader for a store: one that no other waits for, so that a
            destination in trouble holds up neither the tracker's own nor another one.
        notices: Rate-limited warnings.
        sleep: Waits, in seconds.
    """

    def __init__(
        self,
        *,
        places: Callable[[], Sequence[SpoolPlace]],
        writer_id: str,
        backend: Backend,
        make_uploader: Callable[[Store], Uploader],
        notices: Notices,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self._places = places
        self._writer_id = writer_id
        self._backend = backend
        self._make_uploader = make_uploader
        self._notices = notices
        self._sleep = sleep
        self._left = False
        self._failed: set[Path] = set()
        self.events = 0

    async def run(self) -> None:
        """Deliver for every writer that has died and whose destination is within reach.

        What cannot be delivered now holds nothing else up; it is left to ``keep_trying``.
        """
        self._left = False
        for spool_dir in await offload(lambda: usable_spools(self._places())):
            found = orphans(spool_dir, self._writer_id)
            while (folder := await offload(next, found, None)) is not None:
                with folder:
                    await self._replay(folder)

    async def keep_trying(self) -> None:
        """Try again what ``run`` had to leave until nothing is left.

        Less and less often while nothing moves.
        """
        wait = AGAIN
        while self._left:
            await self._sleep(wait)
            before = self.events
            await self.run()
            wait = AGAIN if self.events > before else min(wait * 2, MAX_AGAIN)

    async def _replay(self, folder: WriterFolder) -> None:
        try:
            store = self._store_for(folder)
            if store is None:
                return
            uploader = self._make_uploader(store)

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
                replayed_by=self._writer_id,
                report=self._report,
                failed=self._failed,
            )
        except BackendError as error:
            self._left = True
            # One warning for all that fail alike: there may be many of them.
            self._warn(error.code, folder, str(error), "it is tried again", error.advice)
        except OSError as error:
            self._left = True
            self._warn(str(error.errno), folder, str(error), "it is tried again")
        except Exception as error:
            logger.debug("replay of %s", folder.path, exc_info=True)
            why = f"{type(error).__name__}: {error}"
            self._warn(folder.path.name, folder, why, "please report this")

    def _warn(
        self, kind: str, folder: WriterFolder, why: str, next_step: str, advice: str = ""
    ) -> None:
        self._notices.warn(
            f"replay:{kind}",
            f"asynctrack could not replay all of {folder.path} ({why}). What is left stays there;"
            f" {next_step}, and `asynctrack spool replay` does it by hand. {advice}".rstrip(),
        )

    def _report(self, outcome: SegmentOutcome) -> None:
        self.events += outcome.delivered
        path = outcome.plan.path
        if outcome.problem:
            self._notices.warn(
                f"unreadable:{path}",
                "asynctrack cannot read a segment of its spool and leaves it as it is:"
                f" {outcome.problem}",
            )
        elif outcome.plan.damaged:
            self._notices.warn(
                f"damaged:{path}",
                f"asynctrack found {len(outcome.plan.damaged)} damaged events in {path}"
                f" (seq {numbers(outcome.plan.damaged)}). The others were delivered; the file is"
                " kept beside it with the ending .damaged.",
            )
        for batch, reason in outcome.refused:
            self._notices.warn(
                f"refused:{path}",
                f"asynctrack could not replay the events {batch.first_seq} to {batch.last_seq} of"
                f" {path}: the backend refuses them for good ({reason}). They are kept beside it"
                " in a file that ends in .dead; asynctrack spool replay --dead-letters sends them"
                " again.",
            )

    def _store_for(self, folder: WriterFolder) -> Store | None:
        info = folder.description()
        destination = info.get("destination")
        if not isinstance(destination, dict):
            if folder.segments():
                self._notices.warn(
                    f"no destination:{folder.path.name}",
                    f"asynctrack found events of a writer in {folder.path} that does not say where"
                    " they belong. They stay there: `asynctrack spool replay --to …`.",
                )
            return None
        return self._backend.elsewhere(
            destination, str(info.get("experiment", "")), str(info.get("run", ""))
        )
