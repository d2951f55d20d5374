"""The backend of S3, for artifacts and manifests; the record of a SageMaker Run goes with it.

One for each tracker, and light: it is made in the user's event loop, and knows a Run. The clients
are shared, see ``clients``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

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
from asynctrack._backends.protocol import Record
from asynctrack._backends.run import RunTarget
from asynctrack._backends.sagemaker_record import SageMakerRecord
from asynctrack._backends.way import way_of
from asynctrack._errors import BackendError, TransientError
from asynctrack._format import run_prefix


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
    """Artifacts and manifests in S3.

    Args:
        run: The user's Run object of SageMaker, which only its record changes; or None.
        target: What was read from it.
        pool: Where the clients come from.
        bucket: Bucket that takes the place of the Run's, or None.
        prefix: Prefix that takes the place of the Run's, or None.
        put_options: Further arguments of every PutObject.
        record: The record where there is no Run of SageMaker's; None for no record at all.
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
        record: Record | None = None,
    ) -> None:
        self.experiment = target.experiment
        self.run = target.run
        self.record: Record | None = record
        if target.sagemaker is not None:
            self.record = SageMakerRecord(run, target, lambda: self._clients)
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

    async def aclose(self) -> None:
        """Give the clients back."""
        given, self._clients, self._store = self._clients, None, None
        if given is not None:
            await self._pool.release(given)

    @property
    def _opened(self) -> AwsClients:
        if self._clients is None:
            raise _not_open()
        return self._clients


def _not_open() -> BackendError:
    return TransientError("Closed", "the backend is not open")
