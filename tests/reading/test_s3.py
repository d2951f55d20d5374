"""Runs in S3: the real server, faults before it, and what SageMaker says of a Run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from asynctrack._errors import BackendError, ChecksumError, NotFoundError, SeveralRunsError
from asynctrack._reading.experiment import open_experiment
from asynctrack._reading.run import aopen_run, open_run
from asynctrack._reading.verify import verify
from tests.reading.making import OTHER, RunFolder, event
from tests.support.faults import PAGES, Answer, FlipBit, Page, ResetAnswer
from tests.support.proxy import fault_proxy
from tests.support.s3 import S3Server


def put(server: S3Server, folder: Path, prefix: str = "") -> None:
    """Store all files of a folder as objects, through the server."""
    client = server.boto_client()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            key = prefix + path.relative_to(folder).as_posix()
            client.put_object(Bucket=server.bucket, Key=key, Body=path.read_bytes())
    client.close()


def access(server: S3Server) -> dict[str, Any]:
    return {"endpoint_url": server.endpoint_url, "session": server.boto_session()}


@pytest.fixture
def bucket(s3: S3Server, tmp_path: Path) -> S3Server:
    """A bucket with a Run of two writers in 60 objects, below a prefix."""
    folder = RunFolder(tmp_path)
    for writer in ("a" * 24, OTHER):
        for first in range(1, 301, 10):
            made = [event(seq, writer=writer) for seq in range(first, first + 10)]
            folder.artifact(made, writer=writer)
        folder.manifest(writer)
    put(s3, tmp_path, "team/data/")
    return s3


PREFIX = "team/data/asynctrack/v1/experiment=jokes/run=one/"


@pytest.mark.parametrize("below", ["", "team", "team/data/", PREFIX, PREFIX + "dt=2026-01-01/"])
def test_a_run_is_found_below_any_prefix(bucket: S3Server, below: str) -> None:
    """The bucket, any prefix above the Run, the Run itself and what is in it lead to the Run."""
    run = open_run(f"s3://{bucket.bucket}/{below}", **access(bucket))
    assert run.uris == (f"s3://{bucket.bucket}/{PREFIX}",)
    assert sum(1 for _ in run.events()) == 600
    assert run.manifest.closed


async def test_events_from_async_code(bucket: S3Server) -> None:
    """From async code the same events come, in order, without blocking the event loop."""
    options = await anyio.to_thread.run_sync(access, bucket)
    run = await aopen_run(f"s3://{bucket.bucket}/team", **options)
    found = [(one.writer_id[0], one.seq) async for one in run.aevents()]
    assert found == [(writer, seq) for seq in range(1, 301) for writer in "ab"]


def test_several_runs_and_experiments_are_listed(s3: S3Server, tmp_path: Path) -> None:
    """Several Runs below a prefix are listed as addresses; an experiment takes them together."""
    for name in ("one", "two"):
        RunFolder(tmp_path, run=name).artifact([event(1)])
    put(s3, tmp_path)
    with pytest.raises(SeveralRunsError) as caught:
        open_run(f"s3://{s3.bucket}", **access(s3))
    assert [open_run(uri, **access(s3)).name for uri in caught.value.found] == ["two", "one"]
    assert len(open_experiment(f"s3://{s3.bucket}/asynctrack", **access(s3))) == 2
    run = open_run(("jokes", "two"), root=f"s3://{s3.bucket}", **access(s3))
    assert run.name == "two"


def test_verify_reads_everything(bucket: S3Server, tmp_path: Path) -> None:
    """All is there; then an object is changed, one is deleted, and both are named."""
    source = f"s3://{bucket.bucket}/team/"
    report = verify(source, **access(bucket))
    assert report.ok
    assert (report.events, report.objects, len(report.writers)) == (600, 60, 2)
    client = bucket.boto_client()
    keys = [f"{PREFIX}dt=2026-01-01/{OTHER}-{first:012d}-{first + 9:012d}.jsonl.zst"
            for first in (11, 51)]  # fmt: skip
    client.put_object(Bucket=bucket.bucket, Key=keys[0], Body=b"something else")
    client.delete_object(Bucket=bucket.bucket, Key=keys[1])
    client.close()
    report = verify(source, **access(bucket))
    sound, broken = report.writers
    assert sound.ok
    assert [(one.first_seq, one.last_seq, one.objects) for one in broken.missing] == [
        (11, 20, (f"s3://{bucket.bucket}/{keys[0]}",)),
        (51, 60, (f"s3://{bucket.bucket}/{keys[1]}",)),
    ]
    with pytest.raises(ChecksumError, match=keys[0]):
        list(open_run(source, **access(bucket)).events())


def test_nothing_there_and_no_access_are_errors(s3: S3Server) -> None:
    """An empty prefix, a bucket that is not there, wrong credentials and a wrong profile say so."""
    with pytest.raises(NotFoundError, match="there is no Run at"):
        open_run(f"s3://{s3.bucket}/x", **access(s3))
    with pytest.raises(NotFoundError, match=r"nothing is stored there.* tail --wait"):
        open_run(f"s3://{s3.bucket}/asynctrack/v1/experiment=e/run=r/", **access(s3))
    with pytest.raises(NotFoundError, match="no address in S3"):
        open_run(f"s3://{s3.bucket}/a//b", **access(s3))
    with pytest.raises(NotFoundError, match="there is no bucket 'not-there-at-all'"):
        open_run("s3://not-there-at-all", **access(s3))
    wrong = replace(s3, secret_key="wrong")
    with pytest.raises(BackendError, match=f"s3://{s3.bucket}: SignatureDoesNotMatch"):
        open_run(f"s3://{s3.bucket}", **access(wrong))
    with pytest.raises(BackendError, match="ProfileNotFound"):
        open_run(f"s3://{s3.bucket}", profile="nobody")


def test_faults_on_the_way_are_tried_again(
    bucket: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refusals, resets in the middle of an answer and wrong bytes cost time, and no event."""
    monkeypatch.setattr("asynctrack._backends.s3_read.BACKOFF", 0.001)
    with fault_proxy(bucket.endpoint_url) as proxy:
        options = {**access(bucket), "endpoint_url": proxy.endpoint_url}
        rules = [
            proxy.add(Answer(503), operation="ListObjectsV2", times=2),
            proxy.add(Answer(500), operation="GetObject", times=2),
            proxy.add(ResetAnswer(-5), operation="GetObject", path="*.zst", times=2),
            # Of different objects: one that is wrong twice is damaged.
            proxy.add(FlipBit("answer"), operation="GetObject", path=f"*{'a' * 24}-*.zst", times=1),
            proxy.add(Answer(200, body=b"other bytes"), path=f"*{OTHER}-*.zst", times=1),
        ]
        run = open_run(f"s3://{bucket.bucket}/team/data", **options)
        assert sum(1 for _ in run.events()) == 600
        assert run.problems == ()
        assert [rule.applied for rule in rules] == [2, 2, 2, 1, 1]


def test_a_server_that_never_recovers_is_an_error(
    bucket: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When S3 goes on refusing, the attempts end with an error that names its code."""
    monkeypatch.setattr("asynctrack._backends.s3_read.BACKOFF", 0.001)
    with fault_proxy(bucket.endpoint_url) as proxy:
        proxy.add(Answer(503), operation="GetObject")
        options = {**access(bucket), "endpoint_url": proxy.endpoint_url}
        run = open_run(f"s3://{bucket.bucket}/team/data", **options)
        with pytest.raises(BackendError, match="503"):
            list(run.events())


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("status", [200, 302, 403, 404])
@pytest.mark.parametrize("operation", ["ListObjectsV2", "GetObject"])
def test_a_page_of_somebody_else_is_no_answer(
    operation: str, status: int, page: Page, bucket: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither an empty Run, nor an object that is gone: an error that says what answered; and no
    more than a hiccup where it goes away."""
    monkeypatch.setattr("asynctrack._backends.s3_read.BACKOFF", 0.001)
    with fault_proxy(bucket.endpoint_url) as proxy:
        options = {**access(bucket), "endpoint_url": proxy.endpoint_url}
        rule = proxy.add(Answer(status, page=page), operation=operation)
        with pytest.raises(BackendError, match="is not S3") as caught:
            list(open_run(f"s3://{bucket.bucket}/team/data", **options).events())
        assert "filter/1.0" in str(caught.value) and len(str(caught.value)) < 350
        assert f"s3://{bucket.bucket}" in str(caught.value)
        proxy.remove(rule)
        rule = proxy.add(Answer(status, page=page), operation=operation, times=2)
        run = open_run(f"s3://{bucket.bucket}/team/data", **options)
        assert sum(1 for _ in run.events()) == 600
        assert run.problems == () and rule.applied == 2
        # A redirect to nowhere is asked about once for each request, not hundreds of times.
        assert sum(one.operation == "HeadBucket" for one in proxy.requests) <= 8 * (status == 302)
