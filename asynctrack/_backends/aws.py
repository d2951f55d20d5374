"""The AWS backend: S3 for artifacts and manifests, SageMaker for parameters and metrics.

One for each tracker, and light: it is made in the user's event loop, and knows a Run. The clients
are shared, see ``clients``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from typing import Any, Final

from asynctrack._backends import acknowledge
from asynctrack._backends.belonging import (
    belongs,
    description,
    is_default,
    is_nameless,
    place_of,
)
from asynctrack._backends.clients import AwsClients, ClientKey, asked
from asynctrack._backends.identity import frozen
from asynctrack._backends.pool import ClientPool
from asynctrack._backends.run import (
    RunTarget,
    local_parameter_names,
    local_parameters,
    mirror_parameters,
)
from asynctrack._backends.way import way_of
from asynctrack._common.artifact import MetricPoint, NotTaken, ParameterValue, RunState, Written
from asynctrack._errors import BackendError, TransientError
from asynctrack._format import MEDIA_TYPE, run_prefix

_RETRIED_METRIC_ERRORS: Final = frozenset({"INTERNAL_ERROR", "CONFLICT_ERROR"})


@dataclass(frozen=True, slots=True)
class AwsWay:
    """What Runs have in common whose artifacts go to the same bucket in the same way.

    Attributes:
        clients: The clients' key.
        bucket: The bucket's name.
        options: Further arguments of every PutObject, which may hold a key.
    """

    clients: ClientKey
    bucket: str
    options: Hashable = field(repr=False)


class AwsStore:
    """A folder in a bucket.

    Args:
        clients: Through what it is reached.
        bucket: The bucket's name; or returns it, and is asked at the first put.
        root: The folder's key prefix.
        options: Further arguments of every PutObject.
    """

    def __init__(
        self,
        clients: AwsClients,
        bucket: str | Callable[[], Awaitable[str]],
        root: str,
        options: Mapping[str, Any],
    ) -> None:
        self._clients = clients
        self._bucket = bucket
        self._root = root
        self._options = options

    async def put(self, name: str, content: bytes, *, crc32: int, media_type: str) -> None:
        """Store an object by S3's own word.

        S3 compares it with the checksum made when it was encoded.
        """
        if not isinstance(self._bucket, str):
            self._bucket = await self._bucket()
        place: dict[str, Any] = {"Bucket": self._bucket, "Key": self._root + name}
        checksum = acknowledge.checksum_of(crc32)
        put = await self._clients.call(
            self._clients.s3.put_object,
            **place,
            Body=content,
            ContentType=media_type,
            ChecksumCRC32=checksum,
            **self._options,
        )
        if acknowledge.is_acknowledged(put, checksum):
            return
        options = {
            name: self._options[name] for name in acknowledge.HEAD_OPTIONS if name in self._options
        }
        try:
            head = await self._clients.call(
                self._clients.s3.head_object, **place, ChecksumMode="ENABLED", **options
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


class AwsBackend:
    """Artifacts and manifests in S3, parameters and metrics in the Run.

    Args:
        run: The user's Run object; only ``mirror`` changes it.
        target: What was read from it.
        pool: Where the clients come from.
        bucket: Bucket that takes the place of the Run's, or None.
        prefix: Prefix that takes the place of the Run's, or None.
        put_options: Further arguments of every PutObject.
    """

    def __init__(
        self,
        run: Any,
        target: RunTarget,
        *,
        pool: ClientPool,
        bucket: str | None,
        prefix: str | None,
        put_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.experiment = target.experiment
        self.run = target.run
        self._run = run
        self._target = target
        self._pool = pool
        self._put_options = dict(put_options or {})
        self._default = is_default(target, bucket)
        self._ask_for_bucket = bucket is None and target.bucket is None
        self._bucket, self._prefix = place_of(target, bucket, prefix)
        self._root = run_prefix(self._prefix, target.experiment, target.run)
        self._way = None if target.s3 is None else way_of(target.s3)
        self._clients: AwsClients | None = None
        self._store: AwsStore | None = None
        self._shared_way: AwsWay | None = None
        self._reached = False

    @property
    def target(self) -> str:
        """Return the Run's address."""
        return self._target.address

    @property
    def recordable(self) -> bool:
        """Whether there are clients: the Run needs SageMaker only, and no bucket."""
        return self._clients is not None

    @property
    def located(self) -> bool:
        """Whether the bucket is known: it stays so when it is closed."""
        return self._shared_way is not None

    @property
    def way(self) -> Hashable:
        """Return what those have in common who go to the same bucket in the same way."""
        if self._shared_way is None:
            raise _not_open()
        return self._shared_way

    async def open(self) -> None:
        """Get the clients and find the bucket."""
        if self._clients is None:
            self._clients = await self._pool.acquire(self._target)
            self._way = self._clients.way
        if self._ask_for_bucket:
            if self._default:
                self._bucket = await self._clients.default_bucket(self._target)
            else:
                self._bucket, _ = await asked(self._target.default_bucket)
            self._ask_for_bucket = False
        bucket = self._bucket or ""
        self._shared_way = AwsWay(self._clients.key, bucket, frozen(self._put_options))
        self._store = AwsStore(self._clients, bucket, self._root, self._put_options)

    def uri(self, name: str = "") -> str:
        """Return the ``s3://`` address of an object below the Run's folder."""
        return f"s3://{self._bucket}/{self._root}{name}"

    def destination(self) -> Mapping[str, Any]:
        """Return bucket, folder, how S3 is reached, and whether anything ever got there."""
        return description(
            self._target,
            bucket=self._bucket,
            root=self._root,
            default=self._default,
            way=self._way,
            reached=self._reached,
        )

    def elsewhere(
        self, destination: Mapping[str, Any], experiment: str, run: str
    ) -> AwsStore | None:
        """Return a store for another Run's folder, where this S3 is the one it belongs to."""
        if self._store is None or not belongs(destination, self.destination()):
            return None
        bucket: str | Callable[[], Awaitable[str]] = str(destination.get("bucket") or self._bucket)
        root = str(destination.get("root") or run_prefix(self._prefix, experiment, run))
        shared, target = self._opened, self._target
        if is_nameless(destination) and not self._default:
            bucket = partial(shared.default_bucket_name, target)
        return AwsStore(shared, bucket, root, self._put_options)

    async def put(self, name: str, content: bytes, *, crc32: int, media_type: str) -> None:
        """Store an object below the Run's folder."""
        if self._store is None:
            raise _not_open()
        await self._store.put(name, content, crc32=crc32, media_type=media_type)
        self._reached = True

    async def state(self) -> RunState:
        """Return the Run's parameters and output artifacts."""
        answer = await self._opened.call(
            self._opened.sagemaker.describe_trial_component,
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
        answer = await self._opened.call(
            self._opened.sagemaker.update_trial_component, recording=True, **request
        )
        acknowledge.require_field(answer, "TrialComponentArn")

    async def put_metrics(self, points: Sequence[MetricPoint]) -> NotTaken:
        """Send up to 10 points, AWS's limit for one request; return those it did not take."""
        answer = await self._opened.call(
            self._opened.metrics.batch_put_metrics,
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
        """Give the clients back."""
        given, self._clients, self._store = self._clients, None, None
        if given is not None:
            await self._pool.release(given)

    def local(self) -> Mapping[str, Any]:
        """Return the Run's local copy of the parameters."""
        return local_parameters(self._run)

    def mirror(self, written: Iterable[Written]) -> None:
        """Bring what was written into the Run's local copy."""
        mirror_parameters(self._run, written)

    @property
    def _opened(self) -> AwsClients:
        if self._clients is None:
            raise _not_open()
        return self._clients


def _not_open() -> BackendError:
    return TransientError("Closed", "the backend is not open")
