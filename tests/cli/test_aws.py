"""Runs by their names, as SageMaker knows them."""

from __future__ import annotations

import secrets

import pytest

from asynctrack import open_run
from tests.cli.conftest import Command
from tests.e2e.runs import RunFactory
from tests.reading.test_aws import make_run, sdk, track
from tests.support.s3 import REGION

__all__ = ["make_run", "sdk"]  # fixtures
pytestmark = pytest.mark.may_block("no event loop in here but the tracker's own")


def test_names_are_asked_of_sagemaker(
    make_run: RunFactory,  # the fixture
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """experiment/run and an experiment's name lead to S3 without a --root; an unknown one is 2."""
    written = f"MyExp-{secrets.token_hex(4)}"
    site = make_run("Run-1", experiment=written)
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
    (uri,) = open_run(site.run).uris
    assert uri.startswith(f"s3://{site.s3.bucket}/") and shown.document["uri"] == uri
    assert command("verify", f"{experiment}/run-1").code == 0
    unknown = command("show", f"{experiment}/run-2")
    assert unknown.code == 2 and "SageMaker knows no Run" in unknown.err
    assert f"did you mean '{experiment}/run-1'?" in unknown.err
    for name in (f"{experiment}x/run-1", f"{experiment}x", f"{experiment}/under_scores"):
        unknown = command("show", name)
        assert unknown.code == 2, "also what SageMaker can have no name for"
        assert "SageMaker knows no" in unknown.err and f"did you mean '{experiment}" in unknown.err
    assert command("show", experiment, "--json").document["uri"] == uri  # its only Run
    as_written(command, written, uri)
    unknown = command("show", f"{written}/Run-2")
    assert unknown.code == 2 and f"'{written.lower()}-run-2'" in unknown.err


def as_written(command: Command, experiment: str, uri: str) -> None:
    """Every command takes the names as the user gave them to the SDK."""
    name = f"{experiment}/Run-1"
    assert command("ls", name, "--json").code == 0
    (found,) = command("ls", experiment, "--json").document["experiments"]
    assert (found["experiment"], len(found["runs"])) == (experiment.lower(), 1)
    shown = command("show", name, "--json").document
    assert shown["uri"] == uri
    assert command("tail", name, "-n", "1", "--until-closed").code == 0
    assert command("verify", name).code == 0
    assert command("diff", name, name).code == 0
    (trace,) = open_run(uri).traces()
    assert command("trace", name, trace.trace_id).code == 0
    assert command("query", experiment, "SELECT 1 FROM spans").code == 0
    assert command("export", name, "--format", "jsonl", "--output", "-").code == 0
    assert command("compact", name).code == 0
