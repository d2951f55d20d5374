"""Where the events of a run of MLflow go, if that is S3 or is known only once MLflow has said it.

Beside the run's artifacts, unless the user names a bucket or a folder: the run's address is all
that is known then, until MLflow answers. Events wait in the spool meanwhile, which names the run.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from asynctrack._backends.bucket import BucketBackend
from asynctrack._backends.local import LocalBackend
from asynctrack._backends.mlflow.address import (
    S3_ENDPOINT,
    MlflowTarget,
    Place,
    place_of_artifacts,
    without_secrets,
)
from asynctrack._backends.mlflow.record import MlflowRecord
from asynctrack._backends.pool import ClientPool
from asynctrack._backends.protocol import Backend, Record, Store
from asynctrack._errors import PausingError, TransientError
from asynctrack._format import run_prefix

PROXIED: Final = (
    "Give a bucket (bucket=…) or a folder (folder=…) for the events; `asynctrack spool replay --to"
    " …` delivers what waits."
)


class MlflowPlace:
    """A backend that finds out, when it is opened, which other one it is.

    Args:
        record: The run's record.
        experiment: The experiment's name in keys.
        run: The Run's name in keys.
        pool: Where the clients of S3 come from.
        place: Where events go; None for where the run's artifacts are.
        prefix: What stands before the Run's folder there.
        put_options: Further arguments of every PutObject.
    """

    def __init__(
        self,
        record: MlflowRecord,
        experiment: str,
        run: str,
        *,
        pool: ClientPool,
        place: Place | None,
        prefix: str,
        put_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.experiment = experiment
        self.run = run
        self.record: Record | None = record
        self._run = record
        self._pool = pool
        self._place = place
        self._prefix = prefix
        self._put_options = put_options
        self._found: Backend | None = None

    @property
    def located(self) -> bool:
        """Whether it is known where events go."""
        return self._found is not None and self._found.located

    @property
    def way(self) -> Hashable:
        """Return what those have in common who go there in the same way."""
        return self._there.way

    async def open(self) -> None:
        """Find out where events go, and open that."""
        if self._found is None:
            place = self._place
            if place is None:
                uri = self._run.run.artifact_uri or (await self._run.found()).artifact_uri
                place = require_place(uri)
            self._found = self._backend(place)
        await self._found.open()

    def _backend(self, place: Place) -> Backend:
        if not place.bucket:
            folder = Path(place.path)
            return LocalBackend(folder, self._prefix, self.experiment, self.run, self.record)
        return BucketBackend(
            pool=self._pool,
            bucket=place.bucket,
            prefix=self._key_prefix(place),
            experiment=self.experiment,
            run=self.run,
            put_options=self._put_options,
            record=self.record,
            endpoint_url=os.environ.get(S3_ENDPOINT) or None,
        )

    def _key_prefix(self, place: Place) -> str:
        return "/".join(part for part in (place.path, self._prefix) if part)

    def uri(self, name: str = "") -> str:
        """Return the address of an object below the Run's folder."""
        return self._there.uri(name)

    def destination(self) -> Mapping[str, Any]:
        """Return where events go; where that is not known yet, of which run they are."""
        if self._found is not None:
            return self._found.destination()
        if self._place is not None:
            found = {
                "kind": "s3",
                "bucket": self._place.bucket,
                "root": run_prefix(self._key_prefix(self._place), self.experiment, self.run),
                "run": self._run.target,
                "reached": False,
            }
            endpoint = os.environ.get(S3_ENDPOINT)
            return {**found, "endpoint_url": endpoint} if endpoint else found
        return describe(self._run.run, self._prefix)

    def elsewhere(self, destination: Mapping[str, Any], experiment: str, run: str) -> Store | None:
        """Return a store for what another writer left: here, or beside a run of this server's."""
        if destination.get("kind") != "mlflow":
            return (
                None if self._found is None else self._found.elsewhere(destination, experiment, run)
            )
        tracking = self._run.run.tracking
        if destination.get("tracking") != without_secrets(tracking or ""):
            return None
        return left_beside_artifacts(
            destination,
            experiment,
            run,
            tracking=tracking,
            pool=self._pool,
            put_options=self._put_options,
        )

    async def put(self, name: str, content: bytes, *, crc32: int, media_type: str) -> None:
        """Store an object below the Run's folder."""
        await self._there.put(name, content, crc32=crc32, media_type=media_type)

    async def aclose(self) -> None:
        """Give back what it opened."""
        if self._found is not None:
            await self._found.aclose()

    @property
    def _there(self) -> Backend:
        if self._found is None:
            raise TransientError("Closed", "the backend is not open")
        return self._found


@dataclass(slots=True)
class LateStore:
    """A place that is opened at its first object.

    Attributes:
        place: The place.
    """

    place: MlflowPlace

    async def put(self, name: str, content: bytes, *, crc32: int, media_type: str) -> None:
        """Store an object."""
        if not self.place.located:
            await self.place.open()
            if self.place.record is not None:
                await self.place.record.aclose()  # nothing is recorded for who has died
        await self.place.put(name, content, crc32=crc32, media_type=media_type)


def require_place(artifact_uri: str) -> Place:
    """Return where a run's artifacts are, as a place for events.

    Raises:
        PausingError: It is none: events wait until somebody says where they go.
    """
    place = place_of_artifacts(artifact_uri)
    if place is None:
        raise PausingError(
            "NoPlaceForEvents",
            f"the run's artifacts are at {without_secrets(artifact_uri)!r}, which is neither S3 nor"
            " a folder",
            advice=PROXIED,
        )
    return place


def describe(target: MlflowTarget, prefix: str) -> dict[str, Any]:
    """Return which run's events wait for MLflow's answer, as plain data without secrets."""
    return {
        "kind": "mlflow",
        "tracking": without_secrets(target.tracking or ""),
        "experiment": target.experiment,
        "run": target.run,
        "run_id": target.run_id,
        "prefix": prefix,
    }


def left_beside_artifacts(
    destination: Mapping[str, Any],
    experiment: str,
    run: str,
    *,
    tracking: str | None,
    pool: ClientPool,
    put_options: Mapping[str, Any] | None = None,
) -> LateStore | None:
    """Return a store for what a writer left that did not live to learn where its events go.

    Args:
        destination: What ``describe`` returned to it.
        experiment: The experiment's name in keys.
        run: The Run's name in keys.
        tracking: The tracking URI.
        pool: Where the clients of S3 come from.
        put_options: Further arguments of every PutObject.

    Returns:
        The store; None where the description is damaged.
    """
    named, of, run_id = (destination.get(name) for name in ("run", "experiment", "run_id"))
    if not (isinstance(named, str) and isinstance(of, str)):
        return None
    target = MlflowTarget(tracking, of, named, run_id if isinstance(run_id, str) else None)
    place = MlflowPlace(
        MlflowRecord(target),
        experiment,
        run,
        pool=pool,
        place=None,
        prefix=str(destination.get("prefix") or ""),
        put_options=put_options,
    )
    return LateStore(place)
