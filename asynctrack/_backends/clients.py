"""The clients for one way to reach AWS, and the pool in which trackers share them.

A client costs a tenth of a second and megabytes, and it has connections of its own. A thousand
Runs that reach AWS alike, with the same keys, are served by the same three clients.

All of it lives in the engine's event loop. botocore's retries are off; ``retry`` is the only layer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Hashable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast
from weakref import WeakKeyDictionary

import anyio

from asynctrack._backends import acknowledge
from asynctrack._backends.aws_errors import map_error
from asynctrack._backends.identity import SameObject, identity_of
from asynctrack._backends.library import client_session, prepare
from asynctrack._backends.run import RunTarget
from asynctrack._backends.way import Way, way_of
from asynctrack._common.importing import gate
from asynctrack._common.offload import offload
from asynctrack._errors import BackendError, TransientError

if TYPE_CHECKING:
    from asynctrack._backends.clock import ServerClock
    from asynctrack._backends.credentials import DelegatedCredentials

logger = logging.getLogger("asynctrack")

CONNECT_TIMEOUT: Final = 3.0
READ_TIMEOUT: Final = 15.0
ATTEMPT_TIMEOUT: Final = 60.0
"""Seconds for connecting, for each read, and for one attempt in all."""
CLOSE_TIMEOUT: Final = 2.0
"""Seconds that closing clients may take."""
LOOK_TIMEOUT: Final = 10.0
"""Seconds that finding the credentials may take before the clients are made without."""
KEPT: Final = 4
"""Ways whose clients stay open for the next tracker while no tracker uses them."""
S3_CONNECTIONS: Final = 66
"""Connections to S3 of all trackers that go the same way: 64 uploads, a manifest and a probe."""
_FEW: Final = 10
"""Connections to SageMaker: botocore's own number, and more than there are requests at a time."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ClientKey:
    """What clients have to have in common to be the same ones.

    Its text names no option and no credential: both may hold secrets.

    Attributes:
        store: What a bucket's name is unique in.
        s3: How S3 is reached.
        sagemaker: How SageMaker is reached.
        metrics: How SageMaker's metrics are reached.
        profile: Name of the profile, which says where credentials are looked for again.
        credentials: Whose credentials, see ``identity_of``.
    """

    store: str
    s3: Hashable = field(repr=False)
    sagemaker: Hashable = field(repr=False)
    metrics: Hashable = field(repr=False)
    profile: str | None = field(repr=False)
    credentials: Hashable = field(repr=False)


class AwsClients:
    """The three clients for one way to reach AWS, and how a request is made with them.

    Made by ``ClientPool.acquire``. Knows no Run and no bucket of one.

    Attributes:
        key: What they share with others.
        way: How S3 is reached.
        s3: aiobotocore's client of S3.
        sagemaker: The one of SageMaker.
        metrics: The one of SageMaker's metrics.
        account_bucket: Name of the account's default bucket, once somebody has asked for it.
    """

    def __init__(self, key: ClientKey, way: Way) -> None:
        self.key = key
        self.way = way
        self.s3: Any = None
        self.sagemaker: Any = None
        self.metrics: Any = None
        self.account_bucket: str | None = None
        self._stack = AsyncExitStack()
        self._clock: ServerClock | None = None
        self._credentials: DelegatedCredentials | None = None

    async def open(self, target: RunTarget) -> None:
        """Make the clients.

        Args:
            target: A Run that is reached this way.

        Raises:
            Exception: Whatever the libraries raise; nothing stays open then.
        """
        try:
            with gate.importing():
                await self._open(target)
        except BaseException:
            await self._stack.aclose()
            raise

    async def call(self, operation: Any, *, recording: bool = False, **request: Any) -> Any:
        """Make a request: one attempt within its time, and a second one where the clock was wrong.

        Args:
            operation: Method of one of the clients.
            recording: Whether it is a request to SageMaker.
            **request: Its arguments.

        Returns:
            botocore's picture of the answer.

        Raises:
            BackendError: Whatever went wrong, mapped.
        """
        try:
            with anyio.fail_after(ATTEMPT_TIMEOUT):
                signed_with = 0.0 if self._clock is None else self._clock.offset
                try:
                    return await operation(**request)
                except Exception as error:
                    response = getattr(error, "response", None)
                    if (
                        self._clock is None
                        or not isinstance(response, dict)
                        or not self._clock.corrected(signed_with, response)
                    ):
                        raise
                # Once, and signed anew: the refusal said what was wrong with it.
                return await operation(**request)
        except BackendError:
            raise
        except Exception as error:
            mapped = map_error(error, recording=recording)
            if self._credentials is not None:
                self._credentials.refused(mapped.code)
            raise mapped from error

    async def aclose(self) -> None:
        """Close the connections. Takes ``CLOSE_TIMEOUT`` at the most and raises nothing."""
        with anyio.CancelScope(shield=True), anyio.move_on_after(CLOSE_TIMEOUT):
            try:
                await self._stack.aclose()
            except Exception as error:
                logger.debug("closing the connections to AWS: %s", map_error(error))

    async def _open(self, target: RunTarget) -> None:
        # In a thread: it takes seconds, in which the loop has others to look after.
        await offload(prepare)
        from aiobotocore.session import AioSession

        from asynctrack._backends.clock import ServerClock
        from asynctrack._backends.credentials import DelegatedCredentials

        session = AioSession()
        self._credentials = DelegatedCredentials(target.credentials, target.credentials_anew)
        self._credentials.sign_for(session)
        target.lend(session)
        clients = client_session(session, self.way.region)
        self._clock = ServerClock()
        self.s3, self.sagemaker, self.metrics = [
            await self._stack.enter_async_context(clients.client(service, **_as(way, connections)))
            for service, way, connections in (
                ("s3", self.way, S3_CONNECTIONS),
                ("sagemaker", way_of(target.sagemaker), _FEW),
                ("sagemaker-metrics", way_of(target.metrics), _FEW),
            )
        ]
        for client in (self.s3, self.sagemaker, self.metrics):
            self._clock.sign_for(client.meta.events)
            acknowledge.listen(client.meta.events)


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
        self._looks: dict[Hashable, asyncio.Task[Any]] = {}
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
            raise _closed()
        shared = self._shared.get(key)
        if shared is None:
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
                raise _closed() from None
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

    async def aclose(self) -> None:
        """Close all clients, also those in use. Takes a few seconds at the most."""
        self._closed = True
        shared, self._shared = [*self._shared.values()], {}
        self._unused.clear()
        making = [one.making for one in shared if not one.making.done()]
        for task in (*making, *self._looks.values()):
            task.cancel()
        for one in shared:
            if one.making not in making and _has_result(one.making):
                self._start(one.making.result().aclose())
        with anyio.CancelScope(shield=True):
            if tasks := {*making, *self._tasks}:
                await asyncio.wait(tasks, timeout=2 * CLOSE_TIMEOUT)

    def _made(self, key: ClientKey, shared: _Shared) -> None:
        if not _has_result(shared.making):  # asks for its error, as above
            if self._shared.get(key) is shared:
                del self._shared[key]
        elif self._closed:
            self._start(shared.making.result().aclose())
        else:
            self._keep_few(key, shared)

    def _keep_few(self, key: ClientKey, shared: _Shared) -> None:
        """Close what no tracker has used for longest, where too much of that is open."""
        if shared.users or not _has_result(shared.making) or self._shared.get(key) is not shared:
            return
        self._unused.pop(key, None)
        self._unused[key] = None
        while len(self._unused) > KEPT:
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
            credentials = await self._once(
                ("credentials", id(session)), lambda: _credentials_of(target)
            )
        return ClientKey(
            store=way.store,
            s3=way.identity,
            sagemaker=way_of(target.sagemaker).identity,
            metrics=way_of(target.metrics).identity,
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
                with gate.importing():
                    return way_of(await offload(target.s3_client))
            except Exception as error:
                raise map_error(error) from error

        way: Way = await self._once(("way", id(session)), look)
        with suppress(TypeError):
            self._ways[session] = way
        return way

    async def _once(self, what: Hashable, look: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """Do what several want at the same time once, and give all of them the result."""
        task = self._looks.get(what)
        if task is None:
            task = self._looks[what] = asyncio.create_task(look())
            task.add_done_callback(lambda _: self._looked(what, task))
        try:
            return cast("_T", await asyncio.shield(task))
        except asyncio.CancelledError:
            if task.cancelled():
                raise _closed() from None
            raise

    def _looked(self, what: Hashable, task: asyncio.Task[Any]) -> None:
        del self._looks[what]
        _has_result(task)  # asks for its error, which else is reported as lost


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


def _has_result(task: asyncio.Task[Any]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


def _closed() -> BackendError:
    return TransientError("Closed", "the connections to AWS are closed")


def _as(way: Way, connections: int) -> dict[str, Any]:
    """Return the arguments of a client that goes the same way, with what is ours to say."""
    from aiobotocore.config import AioConfig

    from asynctrack._backends.http import OneAttemptSession

    config = way.config(
        connect_timeout=CONNECT_TIMEOUT,
        read_timeout=READ_TIMEOUT,
        max_pool_connections=connections,
        retries={"total_max_attempts": 1, "mode": "standard"},
    )
    return {
        "region_name": way.region,
        "endpoint_url": way.endpoint_url,
        "verify": way.verify,
        "config": AioConfig(http_session_cls=OneAttemptSession, **config),
    }
