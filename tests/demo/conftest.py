"""The demo's two servers, one of each for the whole run of pytest."""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from asynctrack.demo._aws import EmbeddedAWS, embedded_aws
from asynctrack.demo._openai import LocalOpenAI, local_openai


@pytest.fixture(scope="session")
def aws() -> Iterator[EmbeddedAWS]:
    """A running embedded AWS."""
    with embedded_aws() as server:
        yield server


@pytest.fixture(scope="session")
def sagemaker_session(aws: EmbeddedAWS) -> Any:
    """A session of the SageMaker SDK that speaks to the embedded AWS."""
    with warnings.catch_warnings():
        # The SDK warns about itself while it is imported; that is not ours to fail on.
        warnings.simplefilter("ignore")
        return aws.sagemaker_session()


@pytest.fixture
def experiment() -> str:
    """The name of an experiment that no other test uses."""
    return f"e-{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def model_server() -> Iterator[LocalOpenAI]:
    """A running scripted OpenAI server."""
    with local_openai() as server:
        yield server
