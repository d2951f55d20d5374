"""Runs by their names, as SageMaker knows them."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Command
from tests.e2e.runs import RunFactory
from tests.read.test_aws import make_run, sdk, track
from tests.support.s3 import REGION

__all__ = ["make_run", "sdk"]  # fixtures
pytestmark = pytest.mark.may_block("no event loop in here but the tracker's own")


def test_names_are_asked_of_sagemaker(
    make_run: RunFactory,  # the fixture
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """experiment/run and an experiment's name lead to S3 without a --root; an unknown one is 2."""
    site = make_run("run-1")
    accepted = track(site)
    site.leave()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", site.s3.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", site.s3.secret_key)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", site.s3.endpoint_url)
    session = site.run._artifact_uploader.sagemaker_session
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER", session.sagemaker_client.meta.endpoint_url)
    experiment = site.run.experiment_name
    listed = command("ls", experiment, "--json")
    assert listed.code == 0, listed.err
    (found,) = listed.document["experiments"]
    assert [one["events"] for one in found["runs"]] == [accepted]
    shown = command("show", f"{experiment}/run-1", "--json")
    assert shown.document["uri"] == f"s3://{site.s3.bucket}/{site.prefix}"
    assert command("verify", f"{experiment}/run-1").code == 0
    unknown = command("show", f"{experiment}/run-2")
    assert unknown.code == 2 and "SageMaker knows no Run" in unknown.err
