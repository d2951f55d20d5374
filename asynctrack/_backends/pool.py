"""The pool in which the trackers of one engine share the clients that reach AWS.

A client costs a tenth of a second and megabytes, and it has connections of its own. A thousand
Runs that reach AWS alike, with the same keys, are served by the same three clients.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Hashable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakKeyDictionary

import anyio

from asynctrack._backends.aws_errors import map_error
from asynctrack._backends.clients import CLOSE_TIMEOUT, AwsClients, ClientKey
from asynctrack._backends.identity import SameObject, identity_of
from asynctrack._backends.once import Once, closed, has_result
from asynctrack._backends.run import RunTarget
from asynctrack._backends.way import Way, way_of
from asynctrack._common.garbage import full_collections
from asynctrack._common.offload import offload
from asynctrack._errors import BackendError

logger = logging.getLogger("asynctrack")

LOOK_TIMEOUT: Final = 10.0
"""Seconds that finding the credentials may take before the clients are made without."""
KEPT: Final = 4
"""Ways whose clients stay open for the next tracker while no tracker uses them."""


@dataclass(slots=True)
class _Shared:
    """Clients, and how many trackers use them."""

    making: asyncio.Task[AwsClients]
    users: int = 0


class ClientPool:
    """Shares clients between the trackers of one engine.

    Made anywhere, used in one event loop only. It does not survive a fork: the engine of the child
    makes another one.
    """

    def __init__(self) -> None:
        self._shared: dict[ClientKey, _Shared] = {}
        self._unused: dict[ClientKey, None] = {}  # the longest unused first
        self._looks = Once()
        self._ways: WeakKeyDictionary[Any, Way] = WeakKeyDictionary()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    async def acquire(self, target: RunTarget) -> AwsClients:
        """Return the clients for a Run; each call wants one ``release``.

        Those who want the same clients at the same time wait for one making of them. One that
        fails, fails for all who wait; the next call tries anew.

        Args:
            target: The Run.

        Raises:
            BackendError: They cannot be made now.
        """
        key, way = await self._key_of(target)
        if self._closed:
            raise closed()
        shared = self._shared.get(key)
        if shared is None or (shared.making.done() and not has_result(shared.making)):
            making = asyncio.create_task(_make(key, way, target))
            shared = self._shared[key] = _Shared(making)
            making.add_done_callback(lambda _: self._made(key, shared))
        shared.users += 1
        self._unused.pop(key, None)
        try:
            # Shielded: who is cancelled leaves it to the others, or to the next one.
            return await asyncio.shield(shared.making)
        except BaseException:
            shared.users -= 1
            self._keep_few(key, shared)
            if shared.making.cancelled():
                raise closed() from None
            raise

    async def release(self, clients: AwsClients) -> None:
        """Give back what ``acquire`` returned. It stays open for the next tracker.

        Args:
            clients: The clients.
        """
        shared = self._shared.get(clients.key)
        if shared is None or not shared.users:
            return  # the pool was closed meanwhile
        shared.users -= 1
        self._keep_few(clients.key, shared)

    async def aclose_unused(self) -> None:
        """Close the clients that no tracker uses. Takes a few seconds at the most."""
        while self._unused:
            self._close_oldest()
        with anyio.CancelScope(shield=True):
            if self._tasks:
                await asyncio.wait({*self._tasks}, timeout=2 * CLOSE_TIMEOUT)

    async def aclose(self) -> None:
        """Close all clients, also those in use. Takes a few seconds at the most."""
        self._closed = True
        shared, self._shared = [*self._shared.values()], {}
        self._unused.clear()
        making = [one.making for one in shared if not one.making.done()]
        self._looks.cancel()
        for task in making:
            task.cancel()
        for one in shared:
            if one.making not in making and has_result(one.making):
                self._start(one.making.result().aclose())
        with anyio.CancelScope(shield=True):
            if tasks := {*making, *self._tasks}:
                await asyncio.wait(tasks, timeout=2 * CLOSE_TIMEOUT)

    def _made(self, key: ClientKey, shared: _Shared) -> None:
        if not has_result(shared.making):  # asks for its error, as above
            if self._shared.get(key) is shared:
                del self._shared[key]
        elif self._closed:
            self._start(shared.making.result().aclose())
        else:
            self._keep_few(key, shared)

    def _keep_few(self, key: ClientKey, shared: _Shared) -> None:
        """Close what no tracker has used for longest, where too much of that is open."""
        if shared.users or not has_result(shared.making) or self._shared.get(key) is not shared:
            return
        self._unused.pop(key, None)
        self._unused[key] = None
        while len(self._unused) > KEPT:
            self._close_oldest()

    def _close_oldest(self) -> None:
        oldest = next(iter(self._unused))
        del self._unused[oldest]
        self._start(self._shared.pop(oldest).making.result().aclose())

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)  # asyncio itself holds on to no task
        task.add_done_callback(self._tasks.discard)

    async def _key_of(self, target: RunTarget) -> tuple[ClientKey, Way]:
        session = target.session.boto_session
        way = await self._way_to_s3(target, session)
        at_hand = target.credentials_at_hand()
        if at_hand is not None:  # without a thread for each of a thousand sessions
            credentials = identity_of(at_hand, session)
        else:
            credentials = await self._looks.once(
                ("credentials", id(session)), lambda: _credentials_of(target)
            )
        return ClientKey(
            store=way.store,
            s3=way.identity,
            sagemaker=target.sagemaker and way_of(target.sagemaker).identity,
            metrics=target.metrics and way_of(target.metrics).identity,
            profile=target.profile,
            credentials=credentials,
        ), way

    async def _way_to_s3(self, target: RunTarget, session: Any) -> Way:
        if target.s3 is not None:
            return way_of(target.s3)
        with suppress(TypeError):  # a session of another kind, that cannot be remembered
            if (known := self._ways.get(session)) is not None:
                return known

        async def look() -> Way:
            try:
                with full_collections.held_up():
                    return way_of(await offload(target.s3_client))
            except Exception as error:
                raise map_error(error) from error

        way: Way = await self._looks.once(("way", id(session)), look)
        with suppress(TypeError):
            self._ways[session] = way
        return way


async def _make(key: ClientKey, way: Way, target: RunTarget) -> AwsClients:
    clients = AwsClients(key, way)
    try:
        await clients.open(target)
    except BackendError:
        raise
    except Exception as error:
        raise map_error(error) from error
    return clients


async def _credentials_of(target: RunTarget) -> Hashable:
    """Return whose credentials a Run has. Where that takes long or fails, requests say so."""
    session = target.session.boto_session
    try:
        with anyio.move_on_after(LOOK_TIMEOUT):
            return await offload(
                lambda: identity_of(target.credentials(), session), abandon_on_cancel=True
            )
    except Exception as error:
        logger.debug("looking for AWS credentials: %s", type(error).__name__)
    return SameObject(session)
