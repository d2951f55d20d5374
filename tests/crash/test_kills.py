"""SIGKILL at random and at named moments: what was accepted is there once, in order.

The same at a larger scale: ``python -m tests.crash --kills 2000``.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from asynctrack import tracker
from asynctrack._spool.layout import writers
from asynctrack.demo._aws import EmbeddedAWS
from tests.crash import points
from tests.crash.kills import SMALL, Tally, kill_one, one_round, replay_all
from tests.crash.nursery import Child, Nursery, nursery
from tests.e2e.runs import RunFactory
from tests.e2e.waiting import until_in_thread
from tests.support.auditor import audit_folder, audit_s3
from tests.support.s3 import S3Server

ROUNDS = 8
UNDELIVERABLE = {"let-go", "trimmed"}
"""Moments that come only while events pile up."""


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_nothing_is_lost_by_sigkill(nest: Nursery, tmp_path: Path, seed: int) -> None:
    """Ten writers in a row are killed, each while it also replays those before it."""
    tally = Tally()
    one_round(nest, tmp_path, tally, seed=seed)
    assert tally.kills >= 5 and tally.accepted > 20
    assert tally.good, "\n".join([str(tally), *tally.problems])


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_lost_by_many_random_kills(nest: Nursery, tmp_path: Path, seed: int) -> None:
    """Fifty in a row, each at a random moment, while it tracks and replays those before it."""
    tally = Tally()
    one_round(nest, tmp_path, tally, seed=1_000 + seed, at=[""] * 50)
    assert tally.kills == 50 and tally.accepted > 500
    assert tally.good, "\n".join([str(tally), *tally.problems])


@pytest.mark.parametrize("point", points.NAMES)
def test_nothing_is_lost_at_any_moment(nest: Nursery, tmp_path: Path, point: str) -> None:
    """A writer, and one that takes over, die at this very moment; the next one finishes."""
    tally = Tally()
    chances = random.Random(point)
    spool, out = tmp_path / "spool", tmp_path / "out"
    options = dict(SMALL)
    if point in UNDELIVERABLE:
        out.write_text("in the way of the folder of this name")
        options["close_timeout"] = 0.2
    request: dict[str, Any] = {"out": str(out), "spool": str(spool), "options": options}
    children: list[Child] = []
    for at in ("", point, point, ""):
        child = nest.birth(
            {**request, "point": at, "chains": 150 if at else None, "seed": 1, "values": True}
        )
        if not at:
            child.listen(1 + chances.randrange(1, 40))
            child.kill()
        status = child.end()
        assert status == -9 and not child.closed, f"{at} never came"
        children.append(child)
    if point in UNDELIVERABLE:
        out.unlink()
    replay_all(tmp_path / "own", spool)
    tally.add(audit_folder(out), [child for child in children if child.writer_id])
    assert tally.good, "\n".join([str(tally), *tally.problems])


@pytest.fixture(scope="module")
def cloud_nest(s3_server: S3Server) -> Iterator[Nursery]:
    """Where children come from that track into Runs."""
    with nursery(aws=True) as running:
        yield running


@pytest.mark.timeout(300)
def test_nothing_is_lost_in_s3(
    cloud_nest: Nursery,
    tmp_path: Path,
    make_run: RunFactory,
    s3: S3Server,
    aws: EmbeddedAWS,
) -> None:
    """The same into Runs: each writer's events end in its own Run, also replayed by another's."""
    experiment = f"e-{secrets.token_hex(6)}"
    spool = tmp_path / "spool"
    chances = random.Random(0)
    tally = Tally()
    children: list[Child] = []
    for number, point in enumerate(
        (
            "put-without-answer:1",
            "",
            "replay-listed:1",
            "before-deletion:1",
            "",
        )
    ):
        request: dict[str, Any] = {
            "spool": str(spool),
            "options": dict(SMALL),
            "run": f"run-{number}",
            "experiment": experiment,
            "sagemaker": aws.endpoint_url,
            "s3": {
                "endpoint_url": s3.endpoint_url,
                "access_key": s3.access_key,
                "secret_key": s3.secret_key,
                "bucket": s3.bucket,
                "root": str(s3.root),
                "pid": s3.pid,
            },
        }
        child = kill_one(cloud_nest, request, point, chances)
        assert child.writer_id
        assert not child.closed, f"{point} never came"
        children.append(child)
    here = tracker(make_run("rescue", experiment=experiment).run, spool_dir=str(spool))
    with here as handler:
        until_in_thread(lambda: {path.name for path in writers(spool)} <= {here.writer_id})
    assert handler.statistics().replayed > 0
    audit = audit_s3(s3.boto_client(), s3.bucket)
    tally.add(audit, children)
    assert tally.good, "\n".join([str(tally), *tally.problems])
    runs = {one.writer_id: f"run-{number}" for number, one in enumerate(children)}
    for found in audit.objects:
        assert f"/run={runs[found.writer_id]}/" in found.key
