"""The clients for one way to reach AWS, and how a request is made with them.

They live in the engine's event loop, shared by the trackers that reach AWS alike: see ``pool``.
botocore's retries are off; ``retry`` is the only layer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio

from asynctrack._backends import acknowledge
from asynctrack._backends.aws_errors import map_error
from asynctrack._backends.library import client_session, prepare
from asynctrack._backends.once import Once
from asynctrack._backends.run import RunTarget
from asynctrack._backends.way import Way, remember_endpoint, way_of
from asynctrack._common.garbage import full_collections
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
    """The clients for one way to reach AWS, and how a request is made with them.

    Made by ``ClientPool.acquire``. Knows no Run and no bucket of one.

    Attributes:
        key: What they share with others.
        way: How S3 is reached.
        s3: aiobotocore's client of S3.
        sagemaker: The one of SageMaker; None where no Run of its own is tracked into.
        metrics: The one of SageMaker's metrics, likewise.
    """

    def __init__(self, key: ClientKey, way: Way) -> None:
        self.key = key
        self.way = way
        self.s3: Any = None
        self.sagemaker: Any = None
        self.metrics: Any = None
        self._buckets: dict[Hashable, str] = {}
        self._asking = Once()
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
            with full_collections.held_up():
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

    async def default_bucket(self, target: RunTarget) -> str:
        """Return the account's default bucket, made by the SDK where it is missing, for its Run.

        Asked for once, for all Runs that have the SDK's default bucket.

        Args:
            target: A Run that has it, and is reached this way.

        Raises:
            BackendError: There is no answer.
        """
        return await self._bucket("made", target, lambda: target.default_bucket()[0])

    async def default_bucket_name(self, target: RunTarget) -> str:
        """Return the name of the account's default bucket, and make none.

        Args:
            target: A Run that is reached this way; its own bucket may be another one.

        Raises:
            BackendError: There is no answer.
        """
        return await self._bucket("named", target, target.account_bucket)

    async def _bucket(self, how: str, target: RunTarget, ask: Callable[[], str]) -> str:
        # Each region has one.
        what = how, getattr(target.session.boto_session, "region_name", None)
        if what not in self._buckets:
            self._buckets[what] = await self._asking.once(what, lambda: asked(ask))
        return self._buckets[what]

    async def aclose(self) -> None:
        """Close the connections. Takes ``CLOSE_TIMEOUT`` at the most and raises nothing."""
        self._asking.cancel()
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
        self._clock = clock = ServerClock()

        async def made(service: str, way: Way, connections: int) -> Any:
            client = await self._stack.enter_async_context(
                clients.client(service, **_as(way, connections, session))
            )
            clock.sign_for(client.meta.events)
            acknowledge.listen(client.meta.events)
            return client

        self.s3 = await made("s3", self.way, S3_CONNECTIONS)
        remember_endpoint(self.s3)
        if target.sagemaker is not None:
            self.sagemaker = await made("sagemaker", way_of(target.sagemaker), _FEW)
            self.metrics = await made("sagemaker-metrics", way_of(target.metrics), _FEW)


async def asked(question: Callable[[], _T]) -> _T:
    """Ask the network for the default bucket, in a thread and within the time of an attempt.

    Raises:
        BackendError: There is no answer.
    """
    try:
        with anyio.move_on_after(ATTEMPT_TIMEOUT):
            return await offload(question, abandon_on_cancel=True)
    except BackendError:
        raise
    except Exception as error:
        raise map_error(error) from error
    raise TransientError("Timeout", "asking for the default bucket took too long")


def _as(way: Way, connections: int, session: Any) -> dict[str, Any]:
    """Return the arguments of a client that goes the same way, with what is ours to say."""
    from aiobotocore.config import AioConfig

    from asynctrack._backends.http import OneAttemptSession

    config = way.config(
        connect_timeout=CONNECT_TIMEOUT,
        read_timeout=READ_TIMEOUT,
        max_pool_connections=connections,
        retries={"total_max_attempts": 1, "mode": "standard"},
    )
    # Else botocore puts its name together twice for each request, a tenth of what that takes.
    if not (config.get("user_agent_appid") or session.get_config_variable("user_agent_appid")):
        extra = f" {session.user_agent_extra}"  # botocore adds it again
        config.setdefault("user_agent", session.user_agent().removesuffix(extra))
    return {
        "region_name": way.region,
        "endpoint_url": way.endpoint_url,
        "verify": way.verify,
        "config": AioConfig(http_session_cls=OneAttemptSession, **config),
    }
