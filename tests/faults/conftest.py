"""Fixtures of the fault tests."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from asynctrack._backends.library import prepare
from asynctrack.demo._aws import EmbeddedAWS
from tests.faults.ground import Ground
from tests.faults.light import Place
from tests.support.proxy import FaultProxy, fault_proxy
from tests.support.s3 import S3Server


@pytest.fixture(scope="session")
def loaded() -> None:
    """Import what takes seconds, so that no test's time limits pay for it."""
    prepare()


@pytest.fixture
def sagemaker_proxy(aws: EmbeddedAWS) -> Iterator[FaultProxy]:
    """A proxy that makes trouble on demand, before the embedded SageMaker."""
    with fault_proxy(aws.endpoint_url) as proxy:
        yield proxy


@pytest.fixture
def ground(
    loaded: None,
    s3: S3Server,
    s3_proxy: FaultProxy,
    sagemaker_proxy: FaultProxy,
    aws: EmbeddedAWS,
) -> Ground:
    """A Run in an experiment of its own, S3 and SageMaker each behind a proxy."""
    place = Place(
        s3_url=s3_proxy.endpoint_url,
        sagemaker_url=sagemaker_proxy.endpoint_url,
        access_key=s3.access_key,
        secret_key=s3.secret_key,
        bucket=s3.bucket,
        experiment=f"e-{secrets.token_hex(6)}",
    )
    client = aws.boto_session().client("sagemaker")
    client.create_trial_component(TrialComponentName=place.trial_component)
    return Ground(place, s3, s3_proxy, client, sagemaker_proxy)
