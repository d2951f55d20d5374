"""Each request to S3 by itself: how often it is sent, how long it waits, what arrives of it.

These drive the stage that uploads over a real connection, without a tracker around it, so that
hundreds of objects go through faults in seconds. Rows 3, 6, 7 and 14 of the matrix.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import random
import statistics as stats
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from asynctrack import PermanentError
from asynctrack._backends.aws import AwsBackend
from asynctrack._backends.pool import ClientPool
from asynctrack._backends.run import read_run
from asynctrack._common.artifact import Artifact, Batch
from asynctrack._common.notices import Notices
from asynctrack._common.retry import RetryBudget, RetryPolicy
from asynctrack._delivery.encode import encode_batch
from asynctrack._delivery.gate import Flow, Gate
from asynctrack._delivery.upload import Uploader
from tests.faults.ground import EVENTS, Ground, elsewhere
from tests.support.auditor import assert_exactly_once
from tests.support.faults import Answer, DropAnswer, FlipBit
from tests.support.proxy import fault_proxy
from tests.support.scale import at_scale
from tests.support.seen import Request

QUICK = RetryPolicy(base=0.02, cap=0.1)
WRITER = "0123456789abcdef01234567"


@asynccontextmanager
async def backend(ground: Ground) -> AsyncIterator[AwsBackend]:
    run = ground.run()
    pool = ClientPool()
    made = AwsBackend(run, read_run(run), pool=pool, bucket=None, prefix=None)
    await made.open()
    try:
        yield made
    finally:
        await made.aclose()
        await pool.aclose()


def uploader(
    store: AwsBackend,
    gate: Gate | None = None,
    policy: RetryPolicy = QUICK,
    uniform: Any = random.random,
) -> Uploader:
    return Uploader(
        store=store,
        media_type="application/octet-stream",
        notices=Notices(),
        gate=gate or Gate(Flow(8, policy)),
        policy=policy,
        uniform=uniform,
    )


def plenty() -> Gate:
    """A gate whose retry budget is not what is tested."""
    return Gate(Flow(8, QUICK), budget=RetryBudget(most=1e9))


def artifact(number: int, events: int = 3) -> Artifact:
    """The `number`-th artifact of a writer, from 0."""
    first = number * events + 1
    lines = b"".join(
        b'{"v":1,"writer_id":"%s","seq":%d,"time_unix_nano":1700000000000000000,'
        b'"event":"chain_end","outputs":"%s"}\n' % (WRITER.encode(), seq, b"%x" % (seq * 7919))
        for seq in range(first, first + events)
    )
    return encode_batch(Batch(WRITER, first, first + events - 1, lines), "zstd")


# -- row 7 ----------------------------------------------------------------------------------------

PERMANENT = {(413, False)}
"""Of S3's own answers with these statuses, what is said of the object itself: EntityTooLarge."""
STATUSES = [400, 401, 403, 404, 408, 409, 412, 413, 425, 429, 500, 502, 503, 504, 509]
RETRY_AFTER: dict[str, Any] = {
    "absent": None,
    "seconds": 1,
    "date": timedelta(seconds=2),
    "past": timedelta(seconds=-60),
    "garbage": "soon",
    "negative": "-5",
    "fraction": "0.5",
}
WAITING = {"seconds": 1.0, "date": 1.0}
"""Seconds that are not undercut; a date has no fractions, so of two seconds one is certain."""
FAILURES = 2


@dataclass(frozen=True)
class Case:
    status: int
    retry_after: str
    empty: bool

    @property
    def name(self) -> str:
        return f"dt=2026-01-01/{self.status}-{self.retry_after}-{self.empty}"


CASES = [Case(*case) for case in itertools.product(STATUSES, RETRY_AFTER, [False, True])]


def test_every_answer_leads_to_the_exact_number_of_requests(ground: Ground) -> None:
    """Each status of S3's, with each Retry-After, with and without a body: one layer tries again.

    Two failures make three requests for what may work later and one for what cannot; the wait is
    never shorter than what the service asked for, and what it did not ask for is not waited.
    """
    for case in CASES:
        fault = Answer(
            case.status,
            retry_after=RETRY_AFTER[case.retry_after],
            body=b"" if case.empty else None,
        )
        ground.proxy.add(fault, path=f"*/{case.name}", times=FAILURES)

    async def attempt(store: AwsBackend, case: Case, gate: asyncio.Semaphore) -> bool:
        content = case.name.encode()
        wanted = Artifact(case.name, content, zlib.crc32(content), "", 1, 1, len(content))
        async with gate:
            try:
                await uploader(store, uniform=lambda: 0.5).upload(wanted)
            except PermanentError:
                return False
            return True

    async def main() -> list[bool]:
        limit = asyncio.Semaphore(64)
        async with backend(ground) as store:
            return await asyncio.gather(*[attempt(store, case, limit) for case in CASES])

    delivered = elsewhere(main)
    seen: dict[str, list[Request]] = {}
    for request in ground.puts():
        seen.setdefault(request.path.partition("dt=")[2], []).append(request)
    asked, unasked = [], []
    for case, stored in zip(CASES, delivered, strict=True):
        requests = seen[case.name.partition("dt=")[2]]
        assert stored is ((case.status, case.empty) not in PERMANENT), case
        assert len(requests) == (FAILURES + 1 if stored else 1), case
        for before, after in itertools.pairwise(requests):
            # Nobody can have begun to wait before that, however late either was noted.
            wait = after.received - before.received
            assert wait >= WAITING.get(case.retry_after, QUICK.base * 0.5) * 0.95, (case, wait)
            (asked if case.retry_after in WAITING else unasked).append(wait)
    assert stats.median(unasked) < stats.median(asked), "what was not asked for is not waited for"


# -- rows 3 and 6 ---------------------------------------------------------------------------------


def test_answers_lost(ground: Ground) -> None:
    """Three in ten answers lost after the object was stored: each object once, the same bytes."""
    ground.proxy.add(DropAnswer(), path=EVENTS, probability=0.3, seed=3)
    count = at_scale(100, 5_000)
    wanted = [artifact(number) for number in range(count)]

    async def main() -> int:
        async with backend(ground) as store:
            upload = uploader(store, plenty())
            await asyncio.gather(*[upload.upload(one) for one in wanted])
            return upload.retries

    retries = elsewhere(main)
    assert_exactly_once(ground.audit(), 3 * count)
    assert len(ground.audit().objects) == count
    lost = [one for one in ground.puts() if one.outcome == "lost"]
    assert len(lost) > count / 5
    # Nobody else sends again; an attempt of ours may fail by itself as well on a busy machine.
    assert max(len(lost), len(ground.puts()) - count) <= retries
    sent: dict[str, set[str]] = {}
    for request in ground.puts():
        sent.setdefault(request.path, set()).add(request.body_sha256)
    assert {len(bodies) for bodies in sent.values()} == {1}, "a repeated PUT has the same bytes"


def most_at_once(requests: list[Request]) -> int:
    """How many requests were under way at a time, at the most."""
    moments = [(one.received, 1) for one in requests]
    moments += [(one.ended, -1) for one in requests if one.ended is not None]
    under_way = most = 0
    for _, change in sorted(moments):
        under_way += change
        most = max(most, under_way)
    return most


def test_slow_down_of_all_then_of_three_in_ten(ground: Ground) -> None:
    """With SlowDown for all one probe at a time is left; then few more requests than objects."""
    wanted = [artifact(number) for number in range(80)]
    rule = ground.proxy.add(Answer(503), path=EVENTS)
    flow = Flow(8, QUICK)

    async def main() -> int:
        async with backend(ground) as store:
            upload = uploader(store, Gate(flow))
            tasks = [asyncio.create_task(upload.upload(one)) for one in wanted]
            while len(ground.puts()) < 25:
                await asyncio.sleep(0.005)
            assert (flow.open, flow.allowed) == (True, 1)
            down = len(ground.puts())
            ground.proxy.remove(rule)
            ground.proxy.add(Answer(503), path=EVENTS, probability=0.3, seed=6)
            await asyncio.gather(*tasks)
            return down

    down = elsewhere(main)
    seen = ground.puts()
    assert most_at_once(seen[:8]) > 1, "all were allowed at first"
    assert most_at_once(seen[13:down]) == 1, "a probe at a time"
    assert len(seen) - down <= 2 * len(wanted)
    assert_exactly_once(ground.audit(), 240)


# -- row 14 ---------------------------------------------------------------------------------------


def _checksum_is_wrong(request: Request) -> bool:
    """What AWS compares: the checksum that was sent against the body that arrived."""
    sent = request.headers.get("x-amz-checksum-crc32", "")
    return sent != base64.b64encode(zlib.crc32(request.body).to_bytes(4, "big")).decode()


def test_the_checksum_is_the_one_of_the_encoding(ground: Ground) -> None:
    """What is sent is the CRC32 of when the artifact was made, not one of what is sent now.

    rclone accepts a wrong one, so that it can be seen whose it is.
    """

    async def main() -> None:
        async with backend(ground) as store:
            await store.put("dt=2026-01-01/x", b"content", crc32=5, media_type="text/plain")

    elsewhere(main)
    (sent,) = [put.headers["x-amz-checksum-crc32"] for put in ground.puts()]
    assert sent == base64.b64encode((5).to_bytes(4, "big")).decode()


@pytest.mark.parametrize("code", ["BadDigest", "XAmzContentChecksumMismatch"])
def test_bits_flipped_on_the_way(code: str, ground: Ground) -> None:
    """A server that checks the CRC32 we send refuses flipped bodies; they are sent once more.

    rclone accepts a wrong checksum, so a proxy before it checks it as AWS documents it.
    """
    with fault_proxy(ground.proxy.endpoint_url) as noise:
        for seed in range(5):
            noise.add(FlipBit(seed=seed), path=EVENTS, skip=seed * 4, probability=0.3, seed=seed)
        refused = ground.proxy.add(Answer(400, code=code), path=EVENTS, when=_checksum_is_wrong)
        noisy = ground.at(s3_url=noise.endpoint_url)
        count = at_scale(40, 10_000)
        wanted = [artifact(number) for number in range(count)]

        async def main() -> None:
            async with backend(noisy) as store:
                upload = uploader(store, plenty())
                await asyncio.gather(*[upload.upload(one) for one in wanted])

        elsewhere(main)
    assert refused.applied > count / 4
    assert_exactly_once(ground.audit(), 3 * count)
    stored = {one.key.rpartition("/")[2]: one.size for one in ground.audit().objects}
    assert len(stored) == count
    client = ground.s3.boto_client()
    for one in wanted:
        got = client.get_object(Bucket=ground.s3.bucket, Key=ground.place.prefix + one.name)
        with got["Body"] as body:
            assert body.read() == one.content
    client.close()
