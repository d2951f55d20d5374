"""The servers, each in its own process: a real S3, an embedded SageMaker, a stub for the peers."""

from __future__ import annotations

import logging
import secrets
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from asynctrack.demo._aws import embedded_aws
from benchmarks._stub import stub_server
from tests.support.s3 import REGION, rclone_s3

Servers = Mapping[str, str]
"""Addresses and keys, as they are handed to the measuring processes."""


@contextmanager
def all_servers() -> Iterator[Servers]:
    """Run all of them until the block is left."""
    with (
        tempfile.TemporaryDirectory(prefix="asynctrack-bench-") as folder,
        rclone_s3(Path(folder)) as s3,
        embedded_aws() as aws,
        stub_server() as stub,
    ):
        yield {
            "s3": s3.endpoint_url,
            "bucket": s3.bucket,
            "folder": str(s3.folder),
            "key": s3.access_key,
            "secret": s3.secret_key,
            "sagemaker": aws.endpoint_url,
            "stub": stub,
        }


def make_run(
    servers: Servers, name: str, *, s3_url: str | None = None, experiment: str | None = None
) -> Any:
    """Make a Run, of a new experiment, whose S3 is the real server and whose SageMaker is embedded.

    Args:
        servers: As ``all_servers`` gave them.
        name: The Run's name.
        s3_url: Address of another S3, one that hangs or fails.
        experiment: Name of its experiment; a Run of that name that is there is taken again.
    """
    import boto3

    session_class = _session_class(servers["s3"], servers["sagemaker"])
    session = session_class(
        aws_access_key_id=servers["key"],
        aws_secret_access_key=servers["secret"],
        region_name=REGION,
    )
    assert isinstance(session, boto3.Session)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the SDK warns about itself
        from asynctrack.demo._sagemaker import sagemaker_sdk

        sdk = sagemaker_sdk()
        logging.getLogger().setLevel(logging.WARNING)  # the SDK sets the root logger to INFO
        run = sdk.Run(
            experiment_name=experiment or f"bench-{secrets.token_hex(6)}",
            run_name=name,
            sagemaker_session=sdk.Session(
                boto_session=session,
                sagemaker_client=session.client("sagemaker"),
                sagemaker_metrics_client=session.client("sagemaker-metrics"),
                default_bucket=servers["bucket"],
            ),
            artifact_bucket=servers["bucket"],
        )
    if s3_url is not None:
        other = _session_class(s3_url, servers["sagemaker"])(
            aws_access_key_id=servers["key"],
            aws_secret_access_key=servers["secret"],
            region_name=REGION,
        )
        run._artifact_uploader._s3_client = other.client("s3")
    return run


def _session_class(s3_url: str, sagemaker_url: str) -> Any:
    import boto3

    class LocalSession(boto3.Session):  # type: ignore[misc]  # boto3 has no types
        def client(self, service_name: str, *arguments: Any, **options: Any) -> Any:
            options["endpoint_url"] = s3_url if service_name == "s3" else sagemaker_url
            return super().client(service_name, *arguments, **options)

    return LocalSession
