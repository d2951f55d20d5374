"""A process is killed before it could ask anything: what it accepted is delivered all the same.

The bucket is the account's default one, and STS, which knows its name, does not answer: the backend
of the child never opens. Its S3 is rclone, SageMaker and STS are embedded.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest

from asynctrack import tracker
from asynctrack._backends.aws import AwsBackend
from asynctrack._backends.pool import ClientPool
from asynctrack._backends.run import read_run
from asynctrack._spool.layout import read_description, writers
from asynctrack.cli import main
from asynctrack.demo._aws import EmbeddedAWS
from tests.crash.nursery import Child, Nursery, nursery
from tests.e2e.runs import RunFactory, Site
from tests.e2e.waiting import until_in_thread
from tests.faults.ground import elsewhere
from tests.support.auditor import assert_exactly_once, audit_s3
from tests.support.faults import Hang
from tests.support.proxy import FaultProxy, fault_proxy
from tests.support.s3 import REGION, S3Server

ACCOUNT_BUCKET = f"sagemaker-{REGION}-123456789012"
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.may_block("the event loop in here is the command's own, nobody's chain"),
]


@pytest.fixture(scope="module")
def nest() -> Iterator[Nursery]:
    with nursery(aws=True) as running:
        yield running


@pytest.fixture
def sts(aws: EmbeddedAWS) -> Iterator[FaultProxy]:
    """STS, as the child reaches it: it never answers."""
    with fault_proxy(aws.endpoint_url) as proxy:
        proxy.add(Hang())
        yield proxy


@dataclass(frozen=True)
class Ground:
    """What the child left, and how it is looked at."""

    nest: Nursery
    s3: S3Server
    aws: EmbeddedAWS
    sts: FaultProxy
    spool: Path
    experiment: str

    def birth(self, **request: Any) -> Child:
        """A child that tracks into ``run-1``."""
        return self.nest.birth(
            {
                "spool": str(self.spool),
                "s3": {**vars(self.s3), "root": str(self.s3.root)},
                "sagemaker": self.aws.endpoint_url,
                "sts": self.sts.endpoint_url,
                "run": "run-1",
                "experiment": self.experiment,
                "seed": 1,
                "quiet": True,
                **request,
            }
        )

    def description(self) -> dict[str, Any]:
        (folder,) = writers(self.spool)
        found: dict[str, Any] = read_description(folder)["destination"]
        return found

    def assert_delivered(self, child: Child, moment: str) -> None:
        """All that the child accepted is in the account's default bucket, each once."""
        client = self.s3.boto_client()
        prefix = f"trial-component-artifacts/asynctrack/v1/experiment={self.experiment}/run=run-1/"
        try:
            audit = audit_s3(client, ACCOUNT_BUCKET, prefix)
        finally:
            client.close()
        seqs = audit.writers[child.writer_id].seqs
        assert seqs == tuple(range(1, len(seqs) + 1))
        safe = child.accepted - child.pending  # what was on disk by its own account
        assert len(seqs) >= int(moment.partition(":")[2] or safe) > 0
        # Of the last chain the end may be missing: it was killed in the middle.
        assert [text for text in audit.problems if "the span " not in text] == []
        assert writers(self.spool) == []


@pytest.fixture
def ground(
    nest: Nursery, s3: S3Server, aws: EmbeddedAWS, sts: FaultProxy, tmp_path: Path
) -> Ground:
    client = s3.boto_client()
    with suppress(client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.ClientError):
        client.create_bucket(Bucket=ACCOUNT_BUCKET)
    client.close()
    return Ground(nest, s3, aws, sts, tmp_path / "spool", f"e-{secrets.token_hex(6)}")


MOMENTS = [
    "line-appended:1", "line-appended:2", "line-appended:7", "line-appended:300", "STS is asked",
    "200 chains later",
]  # fmt: skip


def kill_at(ground: Ground, moment: str, **request: Any) -> Child:
    """Let a child track, and kill it, or let it kill itself, at a moment."""
    if ":" in moment:
        child = ground.birth(point=moment, **request)
    else:
        child = ground.birth(**request)
        ground.sts.wait_for(lambda seen: bool(seen))
        # Who it is, and its first chain: it asks STS in another thread than it tracks in.
        assert child.listen(200 if moment == "200 chains later" else 2)
        child.kill()
    assert child.end() == -9
    return child


def next_tracker(ground: Ground, site: Site, child: Child) -> None:
    """Track one event, and wait for what the child left."""
    with tracker(site.run, spool_dir=str(ground.spool)) as handler:
        handler.log_parameters({"a": 1})
        until_in_thread(
            lambda: child.writer_id not in {path.name for path in writers(ground.spool)}
        )
    assert handler.statistics().delivered == 1


def command(ground: Ground, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """``asynctrack spool replay``, as in a shell of the user's."""
    environment = {
        "AWS_ACCESS_KEY_ID": ground.s3.access_key,
        "AWS_SECRET_ACCESS_KEY": ground.s3.secret_key,
        "AWS_ENDPOINT_URL_STS": ground.aws.endpoint_url,
        "AWS_ENDPOINT_URL_S3": ground.s3.endpoint_url,
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return main(["spool", "replay", "--spool-dir", str(ground.spool), *arguments])


@pytest.mark.parametrize("moment", MOMENTS)
def test_the_next_tracker_of_the_same_run_delivers_all(
    moment: str, ground: Ground, make_run: RunFactory
) -> None:
    """From the first accepted event on it is known where events belong, whatever did not answer."""
    child = kill_at(ground, moment)
    expected = {"default": True, "bucket": None, "endpoint_url": ground.s3.endpoint_url}
    assert ground.description().items() >= expected.items()
    site = make_run("run-1", experiment=ground.experiment, sts_url=ground.aws.endpoint_url)
    next_tracker(ground, site, child)
    ground.assert_delivered(child, moment)


@pytest.mark.parametrize("without_s3", [False, True])
@pytest.mark.parametrize("moment", ["line-appended:1", "STS is asked"])
def test_another_run_of_the_same_session_delivers_all(
    moment: str, without_s3: bool, ground: Ground, make_run: RunFactory
) -> None:
    """Also where the child had no client of S3 yet, and could not know its address."""
    child = kill_at(ground, moment, without_s3=without_s3)
    assert ("endpoint_url" in ground.description()) is not without_s3
    site = make_run("run-2", experiment=ground.experiment, sts_url=ground.aws.endpoint_url)
    next_tracker(ground, site, child)
    ground.assert_delivered(child, moment)


def test_a_run_with_a_bucket_of_its_own_finds_the_default_one_out(
    ground: Ground, make_run: RunFactory
) -> None:
    """Its own events go into its own bucket, and the child's into the account's."""
    moment = "line-appended:7"
    child = kill_at(ground, moment)
    next_tracker(ground, make_run("run-3", experiment=ground.experiment), child)
    ground.assert_delivered(child, moment)
    client = ground.s3.boto_client()
    assert_exactly_once(audit_s3(client, ground.s3.bucket), 1)
    client.close()


@pytest.mark.parametrize("without_s3", [False, True])
@pytest.mark.parametrize("moment", ["line-appended:1", "STS is asked"])
def test_the_command_delivers_all(
    moment: str,
    without_s3: bool,
    ground: Ground,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It asks for the name of the default bucket by itself: nobody has to say --to."""
    child = kill_at(ground, moment, without_s3=without_s3)
    main(["spool", "ls", "--spool-dir", str(ground.spool)])
    assert "the account's default bucket" in " ".join(capsys.readouterr().out.split())
    assert command(ground, monkeypatch) == 0, capsys.readouterr().out
    ground.assert_delivered(child, moment)


def test_the_command_makes_no_bucket(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the account has no default bucket in the region, it says so, and all stays."""
    kill_at(ground, "line-appended:7")
    assert command(ground, monkeypatch, "--region", "eu-west-3") == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "the account's default bucket, sagemaker-eu-west-3-123456789012, does not exist" in said
    assert len(writers(ground.spool)) == 1


def test_the_command_asks_no_other_account(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With another profile than the writer's it may be another account: it asks for a word."""
    kill_at(ground, "line-appended:7")
    monkeypatch.setenv("AWS_PROFILE", "another")
    assert command(ground, monkeypatch) == 1
    assert "--profile" in capsys.readouterr().out
    assert len(writers(ground.spool)) == 1


def test_the_default_bucket_is_asked_for_once(ground: Ground, make_run: RunFactory) -> None:
    """Runs with sessions of their own and the same keys: one asks STS for all of them."""
    with fault_proxy(ground.aws.endpoint_url) as sts:
        runs = []
        for number in range(4):
            site = make_run(f"run-{number}", sts_url=sts.endpoint_url)
            site.leave()  # the SDK allows one at a time
            runs.append(site.run)

        async def open_(some: list[Any]) -> int:
            """Open backends at once; return how many requests that took."""
            before, pool = len(sts.requests), ClientPool()
            backends = [
                AwsBackend(run, read_run(run), pool=pool, bucket=None, prefix=None) for run in some
            ]
            async with anyio.create_task_group() as tasks:
                for one in backends:
                    tasks.start_soon(one.open)
            assert {one.destination()["bucket"] for one in backends} == {ACCOUNT_BUCKET}
            assert len({one.way for one in backends}) == 1
            for one in backends:
                await one.aclose()
            await pool.aclose()
            return len(sts.requests) - before

        assert elsewhere(lambda: open_(runs[:3])) == elsewhere(lambda: open_(runs[3:])) > 0
