"""Real Runs for the tests: S3 is rclone, SageMaker is the embedded AWS, each may have a proxy."""

from __future__ import annotations

import functools
import json
import secrets
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import boto3
import botocore.session

from asynctrack.demo._aws import EmbeddedAWS
from asynctrack.demo._sagemaker import sagemaker_sdk
from tests.support.s3 import REGION, S3Server


@dataclass(frozen=True)
class Site:
    """One Run, and how a test looks at what became of it without going through asynctrack."""

    run: Any
    s3: S3Server
    sagemaker: Any
    """A boto3 client that speaks to the embedded AWS, past every proxy."""
    experiment: str

    @property
    def trial_component(self) -> str:
        return str(self.run.experiment_config["RunName"])

    @property
    def prefix(self) -> str:
        """Of every key of this Run that asynctrack writes."""
        return (
            f"{self.run._artifact_uploader.artifact_prefix}/asynctrack/v1/"
            f"experiment={self.experiment}/run={self.run.run_name}/"
        )

    def parameters(self) -> dict[str, Any]:
        answer = self._describe()
        return {
            key: value.get("NumberValue", value.get("StringValue"))
            for key, value in answer.get("Parameters", {}).items()
        }

    def output_artifacts(self) -> dict[str, str]:
        return {key: v["Value"] for key, v in self._describe().get("OutputArtifacts", {}).items()}

    def put_parameters(self, parameters: Mapping[str, str | float]) -> None:
        """Write as another program would: straight to SageMaker."""
        self.sagemaker.update_trial_component(
            TrialComponentName=self.trial_component,
            Parameters={
                key: {"StringValue": v} if isinstance(v, str) else {"NumberValue": v}
                for key, v in parameters.items()
            },
        )

    def put_output_artifacts(self, names: list[str]) -> None:
        self.sagemaker.update_trial_component(
            TrialComponentName=self.trial_component,
            OutputArtifacts={
                name: {"Value": "s3://b/k", "MediaType": "text/plain"} for name in names
            },
        )

    def manifests(self) -> list[dict[str, Any]]:
        client = self.s3.boto_client()
        try:
            found = client.list_objects_v2(Bucket=self.s3.bucket, Prefix=f"{self.prefix}_manifest/")
            return [
                json.loads(client.get_object(Bucket=self.s3.bucket, Key=one["Key"])["Body"].read())
                for one in found.get("Contents", [])
            ]
        finally:
            client.close()

    def leave(self) -> None:
        """End the Run as its ``with`` block does: it sends its snapshot of the parameters."""
        # Past any proxy, which may be gone or still make trouble: this is the SDK's own business.
        self.run._artifact_uploader.sagemaker_session.sagemaker_client = self.sagemaker
        _quietly(lambda: self.run.__exit__(None, None, None))

    def _describe(self) -> dict[str, Any]:
        name = self.trial_component
        return dict(self.sagemaker.describe_trial_component(TrialComponentName=name))


class RunFactory:
    """Makes entered Runs, each in an experiment of its own unless one is named."""

    def __init__(self, s3: S3Server, aws: EmbeddedAWS) -> None:
        self._s3 = s3
        self._aws = aws
        self._open: list[Site] = []

    def __call__(
        self,
        name: str = "run-1",
        *,
        s3_url: str | None = None,
        sagemaker_url: str | None = None,
        experiment: str | None = None,
        credentials: Callable[[], Any] | None = None,
        sts_url: str | None = None,
    ) -> Site:
        """Make and enter a Run.

        Args:
            name: The Run's name.
            s3_url: Address of S3, for example of a proxy before it; the server's own otherwise.
            sagemaker_url: The same for SageMaker and its metrics.
            experiment: The experiment; a new one otherwise.
            credentials: Takes the place of the session's ``get_credentials``.
            sts_url: Address of STS; where it is given, the bucket is the account's default one,
                of which STS tells the name.
        """
        experiment = experiment or f"e-{secrets.token_hex(6)}"
        session = _session(
            self._s3, s3_url or self._s3.endpoint_url, self._aws.endpoint_url, sts_url
        )
        bucket = self._s3.bucket if sts_url is None else None
        run = _quietly(lambda: self._entered(session, experiment, name, bucket))
        # The SDK's own set-up went past the proxy: what a test counts there is asynctrack's.
        tracked = _session(
            self._s3,
            s3_url or self._s3.endpoint_url,
            sagemaker_url or self._aws.endpoint_url,
        )
        sdk_session = run._artifact_uploader.sagemaker_session
        if sagemaker_url is not None:
            sdk_session.sagemaker_client = tracked.client("sagemaker")
            sdk_session.sagemaker_metrics_client = tracked.client("sagemaker-metrics")
        if credentials is not None:
            session.get_credentials = credentials
        plain = _session(self._s3, self._s3.endpoint_url, self._aws.endpoint_url)
        site = Site(run, self._s3, plain.client("sagemaker"), experiment)
        self._open.append(site)
        return site

    def close(self) -> None:
        """Leave the Runs that tests did not leave."""
        for site in reversed(self._open):
            if site.run._inside_init_context:
                site.leave()
        self._open.clear()

    def _entered(self, session: Any, experiment: str, name: str, bucket: str | None) -> Any:
        sdk = sagemaker_sdk()
        sdk_session = sdk.Session(
            boto_session=session,
            sagemaker_client=session.client("sagemaker"),
            sagemaker_metrics_client=session.client("sagemaker-metrics"),
            default_bucket=bucket,
        )
        run = sdk.Run(
            experiment_name=experiment,
            run_name=name,
            sagemaker_session=sdk_session,
            artifact_bucket=bucket,
        )
        run.__enter__()
        return run


def _session(s3: S3Server, s3_url: str, sagemaker_url: str, sts_url: str | None = None) -> Any:
    other = {"s3": s3_url, "sts": sts_url or sagemaker_url}

    class TestSession(boto3.Session):  # type: ignore[misc]  # boto3 has no types
        def client(self, service_name: str, *arguments: Any, **options: Any) -> Any:
            options["endpoint_url"] = other.get(service_name, sagemaker_url)
            return super().client(service_name, *arguments, **options)

    botocore_session = botocore.session.Session()
    botocore_session.register_component("data_loader", loader())
    return TestSession(
        botocore_session=botocore_session,
        aws_access_key_id=s3.access_key,
        aws_secret_access_key=s3.secret_key,
        region_name=REGION,
    )


@functools.cache
def loader() -> Any:
    """One for all sessions: reading the service models takes a third of a second each time."""
    return botocore.session.Session().get_component("data_loader")


def _quietly(step: Callable[[], Any]) -> Any:
    """Do what the SDK warns about itself while it does it: not ours to fail on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return step()
