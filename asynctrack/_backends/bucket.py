"""S3 without a Run of SageMaker's: the same layout below a bucket and prefix that somebody named.

Parameters and metrics are in the manifests, which is all that a reader needs; a Run of MLflow may
have them as well. S3 is reached as boto3 reaches it here: by the environment, the profile, the role
of the machine.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from asynctrack._backends.aws import AwsBackend
from asynctrack._backends.aws_errors import map_error
from asynctrack._backends.library import default_s3, require_s3_libraries
from asynctrack._backends.pool import ClientPool
from asynctrack._backends.protocol import Record
from asynctrack._backends.run import RunTarget
from asynctrack._common.garbage import full_collections
from asynctrack._common.offload import offload
from asynctrack._errors import MissingExtraError, PausingError


class BucketBackend(AwsBackend):
    """Artifacts and manifests in S3.

    Args:
        pool: Where the clients come from.
        bucket: The bucket's name, or an access point's ARN.
        prefix: Key prefix in it.
        experiment: The experiment's name.
        run: The Run's name.
        put_options: Further arguments of every PutObject.
        record: The record of the Run, where there is one.
        endpoint_url: The server, where boto3 is not to find it by itself.
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
        record: Record | None = None,
        endpoint_url: str | None = None,
    ) -> None:
        target = RunTarget(
            experiment=experiment,
            run=run,
            trial_component=_store(bucket, endpoint_url) if record is None else record.target,
            bucket=bucket,
            prefix=prefix,
            session=SimpleNamespace(boto_session=_said_by_environment()),
            s3=None,
            sagemaker=None,
            metrics=None,
        )
        super().__init__(
            None,
            target,
            pool=pool,
            bucket=bucket,
            prefix=prefix,
            put_options=put_options,
            record=record,
        )
        self._endpoint_url = endpoint_url

    async def open(self) -> None:
        """Find out how S3 is reached, and get the clients."""
        if self._target.s3 is None:
            self._target = await offload(self._reached_by_boto3)
        await super().open()

    def _reached_by_boto3(self) -> RunTarget:
        """Return the target with boto3's session and client. Blocks: imports, and reads files."""
        try:
            require_s3_libraries()
            with full_collections.held_up():
                session, s3 = default_s3(self._endpoint_url)
        except MissingExtraError as error:
            advice = "Install it, and start again."
            raise PausingError("MissingExtra", str(error), advice=advice) from error
        except Exception as error:
            raise map_error(error) from error
        return replace(self._target, session=SimpleNamespace(boto_session=session), s3=s3)


def _store(bucket: str, endpoint_url: str | None) -> str:
    """Return what tells a bucket from another's of the same name before anything is loaded, beside
    region and profile: where there is no Run that does."""
    said = endpoint_url or os.environ.get("AWS_ENDPOINT_URL_S3")
    said = said or os.environ.get("AWS_ENDPOINT_URL") or "s3:/"
    return f"{said.rstrip('/')}/{bucket}"


def _said_by_environment() -> Any:
    """Return what stands in for a session before one is made."""
    profile = os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE")
    return SimpleNamespace(profile_name=profile or "default")
