"""Fixtures of the end-to-end tests: Runs whose S3 is rclone and whose SageMaker is embedded."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest

from asynctrack._backends.library import prepare
from asynctrack.demo._aws import EmbeddedAWS
from asynctrack.demo._sagemaker import sagemaker_sdk
from tests.e2e.runs import RunFactory
from tests.support.proxy import FaultProxy, fault_proxy
from tests.support.s3 import S3Server


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "e2e: takes most of a minute")


@pytest.fixture(scope="session")
def heavy_imports() -> None:
    """Import what takes seconds, so that no test's time limits pay for it."""
    with warnings.catch_warnings():
        # The SDK warns about itself while it is imported; that is not ours to fail on.
        warnings.simplefilter("ignore")
        prepare()
        sagemaker_sdk()


@pytest.fixture
def make_run(heavy_imports: None, s3: S3Server, aws: EmbeddedAWS) -> Iterator[RunFactory]:
    """Make an entered Run: ``make_run("name")``; Runs still open are left at the end."""
    factory = RunFactory(s3, aws)
    yield factory
    factory.close()


@pytest.fixture
def sagemaker_proxy(aws: EmbeddedAWS) -> Iterator[FaultProxy]:
    """A proxy that makes trouble on demand, before the embedded SageMaker."""
    with fault_proxy(aws.endpoint_url) as proxy:
        yield proxy
