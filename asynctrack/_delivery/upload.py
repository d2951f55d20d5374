"""Artifact to Receipt: try until the backend has acknowledged it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Final, Protocol

from asynctrack._common.artifact import Artifact, Receipt
from asynctrack._common.notices import Notices, report
from asynctrack._common.retry import RetryPolicy
from asynctrack._delivery.gate import Gate
from asynctrack._errors import BackendError, PausingError, TransientError

MAX_BACKOFF: Final = 10.0
"""Seconds between two attempts at one artifact at the most: it resumes soon after an outage."""
WARN_AFTER: Final = 3
"""Failed attempts at one artifact before the user is told; hiccups are not worth a warning."""


class DeferredError(Exception):
    """An upload that has failed leaves its place to others until its next attempt: it may be the
    only one that is refused.

    Args:
        failures: How often it has failed.
        wait: Seconds until then at the least; after them it waits for its turn among the retries.
    """

    def __init__(self, failures: int, wait: float = 0.0) -> None:
        super().__init__(failures, wait)
        self.failures = failures
        self.wait = wait


class Store(Protocol):
    """Where artifacts go."""

    async def put(self, name: str, content: bytes, *, crc32: int, media_type: str) -> None:
        """Store an object; the same call again stores the same object."""


class Uploader:
    """Uploads artifacts, each until it is acknowledged or refused for good.

    Args:
        store: Where artifacts go.
        media_type: Their media type.
        notices: Rate-limited warnings.
        gate: Shared by all that use the same service.
        policy: How long to wait between attempts.
        uniform: Random numbers in [0, 1).
        uploaded: Told the seconds of each attempt that worked; None where nobody asks.
    """

    def __init__(
        self,
        *,
        store: Store,
        media_type: str,
        notices: Notices,
        gate: Gate,
        policy: RetryPolicy | None = None,
        uniform: Callable[[], float] = random.random,
        uploaded: Callable[[float], None] | None = None,
    ) -> None:
        self._store = store
        self._uploaded = uploaded
        self._media_type = media_type
        self.notices = notices
        self._gate = gate
        self._policy = policy or RetryPolicy()
        self._uniform = uniform
        self.retries = 0
        self._failing = False  # since it got through the last time

    async def upload(
        self,
        artifact: Artifact,
        *,
        failures: int = 0,
        deferrable: bool = False,
        attempts: int | None = None,
    ) -> Receipt:
        """Upload an artifact; the same key and bytes in every attempt.

        Args:
            artifact: What to upload.
            failures: Attempts that have failed before.
            deferrable: Whether to raise ``DeferredError`` rather than wait for the retry budget;
                without ``attempts`` also rather than wait at all, while nothing gets through.
            attempts: After so many the error is raised, for the caller to come back later; one
                that waits for somebody to mend it, at once. None goes on without end.

        Raises:
            PermanentError: The backend refuses this very object.
            TransientError: It failed, as often as ``attempts`` says; or it is too large for
                something on the way, at once where it has several events: its halves may pass.
            PausingError: The same.
            DeferredError: Let others go first.
        """
        while True:
            await self._gate.enter(first=not failures, fresh=not self._failing)
            begun = time.perf_counter()
            try:
                await self._store.put(
                    artifact.name,
                    artifact.content,
                    crc32=artifact.crc32,
                    media_type=self._media_type,
                )
            except (TransientError, PausingError) as error:
                if error.too_large and artifact.events > 1:
                    self._gate.leave()
                    raise
                self._failing = True
                self._gate.failed(error.retry_after, refused=isinstance(error, PausingError))
                failures += 1
                self.retries += 1
                if attempts is not None and (
                    failures >= attempts or isinstance(error, PausingError)
                ):
                    raise
                self._tell(error, failures)
                wait = self._policy.wait(failures, self._uniform(), error.retry_after)
            except BaseException:
                self._gate.leave()
                raise
            else:
                self._failing = False
                self._gate.succeeded()
                self._tell_uploaded(time.perf_counter() - begun)
                return Receipt.of(artifact)
            if deferrable and attempts is None and (self._gate.down or failures >= WARN_AFTER):
                raise DeferredError(failures, wait)
            await self._gate.pause(wait)
            if not self._gate.may_retry():
                if deferrable:
                    raise DeferredError(failures)
                await self._gate.afford_retry()

    def _tell_uploaded(self, seconds: float) -> None:
        if self._uploaded is None:
            return
        try:
            self._uploaded(seconds)
        except Exception as error:  # an instrument of the program's: the artifact is stored
            self._uploaded = None
            report(error, "asynctrack cannot measure its uploads")

    def _tell(self, error: BackendError, failures: int) -> None:
        if isinstance(error, PausingError) or error.advice or failures >= WARN_AFTER:
            self.notices.warn(
                f"upload:{error.code}",
                f"asynctrack cannot upload at the moment ({error}). The events wait in memory, or"
                " on disk where there is a spool, and every attempt is repeated until it works."
                f" {error.advice}".rstrip(),
            )
