"""The AWS backend: S3 for artifacts and manifests, SageMaker for parameters and metrics.

The clients live in the worker's event loop and are made there: making
one imports and parses for a second. botocore's retries are off; ``retry`` is the only layer.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Final

import anyio

from asynctrack._backends import acknowledge
from asynctrack._backends.aws_errors import map_error
from asynctrack._backends.library import client_session, prepare
from asynctrack._backends.run import (
    RunTarget,
    local_parameter_names,
    local_parameters,
    mirror_parameters,
)
from asynctrack._backends.way import Way, store_of, way_of
from asynctrack._common.artifact import MetricPoint, NotTaken, ParameterValue, RunState, Written
from asynctrack._common.garbage import full_collections
from asynctrack._common.importing import gate
from asynctrack._common.offload import offload
from asynctrack._errors import BackendError, TransientError
from asynctrack._format import MEDIA_TYPE, run_prefix

if TYPE_CHECKING:
    from asynctrack._backends.clock import ServerClock
    from asynctrack._backends.credentials import DelegatedCredentials

CONNECT_TIMEOUT: Final = 3.0
READ_TIMEOUT: Final = 15.0
ATTEMPT_TIMEOUT: Final = 60.0
"""Seconds for connecting, for each read, and for one attempt in all."""
_FEW: Final = 10
"""Connections to SageMaker: botocore's own number, and more than there are requests at a time."""
_RETRIED_METRIC_ERRORS: Final = frozenset({"INTERNAL_ERROR", "CONFLICT_ERROR"})


class AwsBackend:
    """Artifacts and manifests in S3, parameters and metrics in the Run.

    Args:
        run: The user's Run object; only ``mirror`` changes it.
        target: What was read from it.
        bucket: Bucket that takes the place of the Run's, or None.
        prefix: Prefix that takes the place of the Run's, or None.
        connections: How many requests to S3 may be under way at a time.
        put_options: Further arguments of every PutObject.
    """

    def __init__(
        self,
        run: Any,
        target: RunTarget,
        *,
        bucket: str | None,
        prefix: str | None,
        connections: int,
        put_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.experiment = target.experiment
        self.run = target.run
        self._run = run
        self._target = target
        self._bucket = bucket
        self._prefix = prefix
        self._connections = connections
        self._put_options = dict(put_options or {})
        self._root = ""
        self._stack: AsyncExitStack | None = None
        self._s3: Any = None
        self._sagemaker: Any = None
        self._metrics: Any = None
        self._clock: ServerClock | None = None
        self._credentials: DelegatedCredentials | None = None
        self._way: Way | None = None if target.s3 is None else way_of(target.s3)
        self._reached = False

    @property
    def target(self) -> str:
        """Return the Run's address."""
        return self._target.address

    @property
    def way(self) -> Hashable:
        """Return what all have in common that reach the same bucket alike."""
        return (self._bucket, repr(self._way), id(self._target.session.boto_session))

    @property
    def recordable(self) -> bool:
        """Whether there are clients: the Run needs SageMaker only, and no bucket."""
        return self._stack is not None

    @property
    def located(self) -> bool:
        """Whether the bucket is known."""
        return bool(self._root)

    async def open(self) -> None:
        """Make the clients and find the bucket."""
        try:
            if self._stack is None:
                stack = AsyncExitStack()
                try:
                    with gate.importing(), full_collections.held_up():
                        await self._make_clients(stack)
                except BaseException:
                    await stack.aclose()
                    raise
                self._stack = stack
            await self._find_bucket()
        except Exception as error:
            raise map_error(error) from error

    def uri(self, name: str = "") -> str:
        """Return the ``s3://`` address of an object below the Run's folder."""
        return f"s3://{self._bucket}/{self._root}{name}"

    def destination(self) -> Mapping[str, Any]:
        """Return bucket, folder, how S3 is reached, and whether anything ever got there."""
        return {
            "kind": "s3",
            "bucket": self._bucket,
            "root": self._root,
            "region": self._way.region if self._way else None,
            "endpoint_url": self._way.endpoint_url if self._way else None,
            "run": self.target,
            "reached": self._reached,
        }

    def elsewhere(
        self, destination: Mapping[str, Any], experiment: str, run: str
    ) -> _Elsewhere | None:
        """Return a store for another Run's folder, where this S3 is the one it belongs to."""
        if self._way is None or not belongs(destination, self.destination()):
            return None
        bucket, root = destination.get("bucket"), destination.get("root")
        if not bucket or not root:
            # It died before it had asked for the default bucket, which is ours as well.
            bucket, root = self._bucket, run_prefix(self._prefix or "", experiment, run)
        return _Elsewhere(self, str(bucket), str(root))

    async def put(self, name: str, content: bytes, *, crc32: int, media_type: str) -> None:
        """Store an object; S3 compares it with the checksum made when it was encoded."""
        await self.put_at(self._bucket or "", self._root + name, content, crc32, media_type)
        self._reached = True

    async def put_at(
        self, bucket: str, key: str, content: bytes, crc32: int, media_type: str
    ) -> None:
        """Store an object anywhere in S3, by S3's own word."""
        place: dict[str, Any] = {"Bucket": bucket, "Key": key}
        checksum = acknowledge.checksum_of(crc32)
        put = await self._call(
            self._s3.put_object,
            **place,
            Body=content,
            ContentType=media_type,
            ChecksumCRC32=checksum,
            **self._put_options,
        )
        if acknowledge.is_acknowledged(put, checksum):
            return
        options = {
            name: self._put_options[name]
            for name in acknowledge.HEAD_OPTIONS
            if name in self._put_options
        }
        try:
            head = await self._call(
                self._s3.head_object, **place, ChecksumMode="ENABLED", **options
            )
        except BackendError as error:
            raise acknowledge.unacknowledged(
                put, f"asked for the object itself: {error}"
            ) from error
        acknowledge.require_stored(
            put,
            head,
            size=len(content),
            checksum=checksum,
            md5=lambda: acknowledge.md5_of(content),
        )

    async def state(self) -> RunState:
        """Return the Run's parameters and output artifacts."""
        answer = await self._call(
            self._sagemaker.describe_trial_component,
            recording=True,
            TrialComponentName=self._target.trial_component,
        )
        acknowledge.require_field(answer, "TrialComponentArn")
        parameters = {
            key: value.get("NumberValue", value.get("StringValue", ""))
            for key, value in (answer.get("Parameters") or {}).items()
        }
        artifacts = {
            key: value["Value"] for key, value in (answer.get("OutputArtifacts") or {}).items()
        }
        return RunState(parameters, artifacts, local_parameter_names(self._run))

    async def update(
        self,
        parameters: Mapping[str, ParameterValue],
        artifacts: Mapping[str, str],
        remove: Sequence[str] = (),
    ) -> None:
        """Send a delta; AWS merges it by key."""
        request: dict[str, Any] = {"TrialComponentName": self._target.trial_component}
        if parameters:
            request["Parameters"] = {
                key: {"StringValue": value} if isinstance(value, str) else {"NumberValue": value}
                for key, value in parameters.items()
            }
        if artifacts:
            request["OutputArtifacts"] = {
                key: {"Value": value, "MediaType": MEDIA_TYPE} for key, value in artifacts.items()
            }
        if remove:
            request["ParametersToRemove"] = list(remove)
        answer = await self._call(self._sagemaker.update_trial_component, recording=True, **request)
        acknowledge.require_field(answer, "TrialComponentArn")

    async def put_metrics(self, points: Sequence[MetricPoint]) -> NotTaken:
        """Send up to 10 points, AWS's limit for one request; return those it did not take."""
        answer = await self._call(
            self._metrics.batch_put_metrics,
            recording=True,
            TrialComponentName=self._target.trial_component.lower(),
            MetricData=[
                {
                    "MetricName": point.name,
                    "Timestamp": datetime.fromtimestamp(
                        point.time_unix_nano / 1e9, tz=timezone.utc
                    ),
                    "Step": point.step,
                    "Value": point.value,
                }
                for point in points
            ],
        )
        acknowledge.require_metrics_taken(answer)
        again, refused = [], []
        for failure in answer.get("Errors") or ():
            index = failure.get("MetricIndex")
            if not (isinstance(index, int) and 0 <= index < len(points)):
                continue
            if failure.get("Code") in _RETRIED_METRIC_ERRORS:
                again.append(points[index])
            else:
                refused.append(points[index])
        return NotTaken(again, refused)

    async def aclose(self) -> None:
        """Close the clients."""
        stack, self._stack = self._stack, None
        if stack is not None:
            try:
                await stack.aclose()
            except Exception as error:
                raise map_error(error) from error

    def local(self) -> Mapping[str, Any]:
        """Return the Run's local copy of the parameters."""
        return local_parameters(self._run)

    def mirror(self, written: Iterable[Written]) -> None:
        """Bring what was written into the Run's local copy."""
        mirror_parameters(self._run, written)

    async def _call(self, operation: Any, *, recording: bool = False, **request: Any) -> Any:
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

    async def _find_bucket(self) -> None:
        prefix = self._target.prefix
        if self._bucket is None:
            self._bucket = self._target.bucket
        if self._bucket is None:
            # As the SDK does: the default prefix goes with the default bucket, and only with it.
            with anyio.move_on_after(ATTEMPT_TIMEOUT) as scope:
                self._bucket, prefix = await offload(
                    self._target.default_bucket, abandon_on_cancel=True
                )
            if scope.cancelled_caught:
                raise TransientError("Timeout", "asking for the default bucket took too long")
        if self._prefix is not None:
            prefix = self._prefix
        self._prefix = prefix
        self._root = run_prefix(prefix, self.experiment, self.run)

    async def _make_clients(self, stack: AsyncExitStack) -> None:
        # In a thread: it takes seconds, in which the worker's loop has the spool to look after.
        await offload(prepare)
        from aiobotocore.session import AioSession

        from asynctrack._backends.clock import ServerClock
        from asynctrack._backends.credentials import DelegatedCredentials

        target = self._target
        if self._way is None:
            self._way = way_of(await offload(target.s3_client))
        session = AioSession()
        self._credentials = DelegatedCredentials(target.credentials, target.credentials_anew)
        self._credentials.sign_for(session)
        target.lend(session)
        clients = client_session(session, self._way.region)
        self._clock = ServerClock()
        self._s3, self._sagemaker, self._metrics = [
            await stack.enter_async_context(clients.client(service, **_as(way, connections)))
            for service, way, connections in (
                # Two more than uploads, for the manifest and a probe.
                ("s3", self._way, self._connections + 2),
                ("sagemaker", way_of(target.sagemaker), _FEW),
                ("sagemaker-metrics", way_of(target.metrics), _FEW),
            )
        ]
        for client in (self._s3, self._sagemaker, self._metrics):
            self._clock.sign_for(client.meta.events)
            acknowledge.listen(client.meta.events)


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


def belongs(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
    """Tell whether what another writer left may be sent to our S3: to its own, and no other.

    A writer that never got anything anywhere may have had the wrong address: its events go where
    the same Run goes now.

    Args:
        theirs: Its ``destination()``.
        ours: Our own.
    """
    if theirs.get("kind") != "s3":
        return False
    there, here = (store_of(one.get("endpoint_url"), one.get("region")) for one in (theirs, ours))
    if not theirs.get("bucket"):  # it died before it had asked for the default one: as ours
        return there == here and theirs.get("region") == ours["region"]
    same_run = all(theirs.get(name) == ours[name] for name in ("run", "bucket", "root"))
    return there == here or (same_run and theirs.get("reached") is False)


class _Elsewhere:
    """Another Run's folder, through the same client."""

    def __init__(self, backend: AwsBackend, bucket: str, root: str) -> None:
        self._backend = backend
        self._bucket = bucket
        self._root = root

    async def put(self, name: str, content: bytes, *, crc32: int, media_type: str) -> None:
        """Store an object below that folder."""
        await self._backend.put_at(self._bucket, self._root + name, content, crc32, media_type)
