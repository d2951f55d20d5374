"""S3 without SageMaker: the same layout below an ``s3://`` address, and no Run.

Parameters and metrics are in the manifests, which is all that a reader needs, as in a folder. S3 is
reached as boto3 reaches it here: by the environment, the profile, the role of the machine.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from asynctrack._backends.aws import AwsBackend
from asynctrack._backends.aws_errors import map_error
from asynctrack._backends.pool import ClientPool
from asynctrack._backends.run import RunTarget
from asynctrack._common.artifact import MetricPoint, NotTaken, ParameterValue, RunState, Written
from asynctrack._common.garbage import full_collections
from asynctrack._common.importing import gate
from asynctrack._common.offload import offload


class BucketBackend(AwsBackend):
    """Artifacts and manifests in S3.

    Args:
        pool: Where the clients come from.
        bucket: The bucket's name, or an access point's ARN.
        prefix: Key prefix in it.
        experiment: The experiment's name.
        run: The Run's name.
        put_options: Further arguments of every PutObject.
    """

    def __init__(
        self,
        *,
        pool: ClientPool,
        bucket: str,
        prefix: str,
        experiment: str,
        run: str,
        put_options: Mapping[str, Any] | None = None,
    ) -> None:
        self._session = _Session(bucket)
        target = RunTarget(
            experiment=experiment,
            run=run,
            trial_component="",
            bucket=bucket,
            prefix=prefix,
            session=self._session,
            s3=None,
            sagemaker=None,
            metrics=None,
        )
        super().__init__(
            None, target, pool=pool, bucket=bucket, prefix=prefix, put_options=put_options
        )

    @property
    def target(self) -> str:
        """Return nothing: the manifest and the events hold everything."""
        return ""

    @property
    def recordable(self) -> bool:
        """Return True: nothing has to be opened for it."""
        return True

    async def open(self) -> None:
        """Find out how S3 is reached, and get the clients."""
        if not self._session.loaded:
            try:
                with gate.importing(), full_collections.held_up():
                    await offload(self._session.load)
            except Exception as error:
                raise map_error(error) from error
        await super().open()

    async def state(self) -> RunState:
        """Return nothing: each writer has its own manifest here."""
        return RunState({}, {}, frozenset())

    async def update(
        self,
        parameters: Mapping[str, ParameterValue],
        artifacts: Mapping[str, str],
        remove: Sequence[str] = (),
    ) -> None:
        """Do nothing: the manifest holds the parameters."""

    async def put_metrics(self, points: Sequence[MetricPoint]) -> NotTaken:
        """Do nothing: the manifest and the events hold the metrics."""
        return NotTaken()

    def local(self) -> Mapping[str, Any]:
        """Return nothing: there is no Run object."""
        return {}

    def mirror(self, written: Iterable[Written]) -> None:
        """Do nothing: there is no Run object."""


class _Session:
    """What stands in for a session of SageMaker's: boto3's own, made in a thread.

    Attributes:
        address: What stands in for the address of SageMaker: together with region and profile it
            tells the AWS, before anything is loaded that could be asked.
        loaded: Whether the session is made.
        boto_session: The session; before that, what the environment says of it.
    """

    def __init__(self, bucket: str) -> None:
        chosen = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        self.address = f"{(chosen or 's3:/').rstrip('/')}/{bucket}"
        profile = os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE")
        self.loaded = False
        self.boto_session: Any = SimpleNamespace(profile_name=profile or "default")

    def load(self) -> None:
        """Make it. Blocks: imports boto3, and reads files."""
        import boto3

        self.boto_session = boto3.Session()
        self.loaded = True
