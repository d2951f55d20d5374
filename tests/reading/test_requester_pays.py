"""A bucket whose reader pays: every request to S3 says so, or none gets through."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from asynctrack import open_experiment, open_run, verify
from asynctrack._errors import BackendError, OptionError
from tests.cli.conftest import Command, command
from tests.e2e.runs import RunFactory
from tests.reading.making import WRITER, RunFolder, event
from tests.reading.spooling import SpoolFolder, bucket_of
from tests.reading.test_aws import make_run, sdk, track
from tests.reading.test_s3 import put
from tests.support.faults import Answer
from tests.support.proxy import FaultProxy
from tests.support.s3 import REGION, S3Server
from tests.support.seen import Request

__all__ = ["command", "make_run", "sdk"]  # fixtures

pytestmark = pytest.mark.may_block("the event loop in here is the command's own, nobody's chain")
PAID: dict[str, Any] = {"RequestPayer": "requester", "ExpectedBucketOwner": "123456789012"}


def unpaid(request: Request) -> bool:
    return request.headers.get("x-amz-request-payer") != "requester"


@pytest.fixture
def paid(
    s3: S3Server, s3_proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FaultProxy]:
    """The way to a bucket that refuses whoever does not pay; a Run of two old segments is in it."""
    folder = RunFolder(tmp_path / "runs")
    folder.artifact([event(seq) for seq in (1, 2)])
    folder.artifact([event(seq) for seq in (3, 4)])
    folder.manifest(WRITER)
    put(s3, tmp_path / "runs", "p/")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret_key)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_proxy.endpoint_url)
    s3_proxy.add(Answer(403, "AccessDenied"), when=unpaid)
    yield s3_proxy
    owners = {one.headers.get("x-amz-expected-bucket-owner") for one in s3_proxy.requests}
    assert owners <= {PAID["ExpectedBucketOwner"], None}


@pytest.fixture
def in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a program that tracks has it, with what concerns writing only."""
    given = {**PAID, "StorageClass": "STANDARD"}
    monkeypatch.setenv("ASYNCTRACK_S3_OPTIONS", json.dumps(given))


def test_the_same_word_as_for_tracking(paid: FaultProxy, s3: S3Server) -> None:
    """s3_options of open_run, open_experiment and verify goes with every request."""
    place = f"s3://{s3.bucket}/p"
    with pytest.raises(BackendError, match="AccessDenied"):
        open_run(place)
    before = len(paid.requests)
    run = open_run(place, s3_options=PAID)
    assert [one.seq for one in run.events()] == [1, 2, 3, 4]
    assert run.manifest.closed
    assert len(open_experiment(place, s3_options=PAID)) == 1
    assert verify(place, s3_options=PAID).ok
    for one in paid.requests[before:]:
        assert not unpaid(one)
        assert one.headers["x-amz-expected-bucket-owner"] == PAID["ExpectedBucketOwner"]


@pytest.mark.usefixtures("in_the_environment")
def test_the_environment_says_it_for_all(
    paid: FaultProxy, s3: S3Server, command: Command, tmp_path: Path
) -> None:
    """ASYNCTRACK_S3_OPTIONS, which trackers take, is enough for reading and for all commands, also
    for what compact stores and deletes, and for a replay by hand."""
    place = f"s3://{s3.bucket}/p"
    assert len([*open_run(place).events()]) == 4
    for arguments in (("show", place), ("verify", place), ("compact", place, "--delete")):
        assert command(*arguments).code == 0, arguments
    stored = [one for one in paid.requests if one.method == "PUT"]
    assert stored and {one.headers.get("x-amz-storage-class") for one in stored} == {"STANDARD"}
    assert [one for one in paid.requests if one.method == "DELETE"]
    root = "p/asynctrack/v1/experiment=jokes/run=waits/"
    spool = SpoolFolder(tmp_path / "spool", bucket_of(s3.bucket, root, paid.endpoint_url))
    spool.segment([event(1)])
    spool.die()
    replayed = command("spool", "replay", "--spool-dir", spool.spool_dir, "--json")
    assert replayed.document["delivered"] == 1
    assert len([*open_run(f"s3://{s3.bucket}/{root}").events()]) == 1


def test_as_with_the_aws_command(paid: FaultProxy, s3: S3Server, command: Command) -> None:
    """--request-payer requester, as `aws s3` has it."""
    place = f"s3://{s3.bucket}/p"
    assert command("show", place).code != 0
    for name in ("show", "ls", "verify"):
        assert command(name, place, "--request-payer", "requester").code == 0
    tail = ("tail", place, "-n", "1", "--until-closed", "--request-payer", "requester")
    assert command(*tail).code == 0


def test_of_a_run_object(make_run: RunFactory, s3: S3Server, s3_proxy: FaultProxy) -> None:
    """A Run that was tracked with RequestPayer is read back with it."""
    s3_proxy.add(
        Answer(403, "AccessDenied"), when=lambda one: unpaid(one) and "asynctrack" in one.path
    )
    site = make_run("run-1", s3_url=s3_proxy.endpoint_url)
    accepted = track(site, s3_options=PAID)
    run = open_run(site.run, s3_options=PAID)
    assert sum(1 for _ in run.events()) == accepted
    site.leave()


def test_wrong_words_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is checked as the tracker checks it; other variables of trackers do not matter here."""
    RunFolder(tmp_path).artifact([event(1)])
    with pytest.raises(OptionError, match="s3_options='SSECustomerKey'"):
        open_run(tmp_path, s3_options={"SSECustomerKey": "k"})
    with pytest.raises(OptionError, match="s3_options=7"):
        verify(tmp_path, s3_options=7)  # type: ignore[arg-type]  # wrong on purpose
    monkeypatch.setenv("ASYNCTRACK_MAX_DELAY", "soon")
    assert len([*open_run(tmp_path).events()]) == 1
    for wrong in ("{", '{"Body": "x"}', "[1]"):
        monkeypatch.setenv("ASYNCTRACK_S3_OPTIONS", wrong)
        with pytest.raises(OptionError, match="ASYNCTRACK_S3_OPTIONS"):
            open_experiment(tmp_path)
