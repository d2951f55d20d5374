"""S3 in trouble: every event arrives exactly once all the same, through one retry layer."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from typing import Any

import boto3
import pytest
from langchain_core.runnables import RunnableConfig

from asynctrack import AsyncHandler, Statistics, tracker
from tests.e2e.chains import CHAIN_EVENTS, joke_chain
from tests.e2e.runs import RunFactory, Site
from tests.e2e.waiting import until, until_in_thread
from tests.support.auditor import Audit, assert_exactly_once, audit_s3, events_in_s3
from tests.support.faults import Answer, DropAnswer, Fault, Hang, ResetAnswer, ResetRequest
from tests.support.proxy import FaultProxy
from tests.support.seen import Request

EVENTS = "*/dt=*"
"""Paths of artifacts: faults here leave the manifest alone."""


def audit(site: Site) -> Audit:
    client = site.s3.boto_client()
    try:
        return audit_s3(client, site.s3.bucket, site.prefix)
    finally:
        client.close()


def events(site: Site) -> list[dict[str, Any]]:
    client = site.s3.boto_client()
    try:
        return events_in_s3(client, site.s3.bucket, site.prefix)
    finally:
        client.close()


def artifact_puts(proxy: FaultProxy) -> list[Request]:
    return [seen for seen in proxy.requests if seen.method == "PUT" and "/dt=" in seen.path]


def run_chains(site: Site, chains: int = 3, **options: Any) -> Statistics:
    """Run some chains into a Run and leave the block."""

    async def main() -> AsyncHandler:
        async with tracker(site.run, **options) as handler:
            config: RunnableConfig = {"callbacks": [handler]}
            chain = joke_chain()
            await asyncio.gather(*[chain.ainvoke({"topic": "x"}, config) for _ in range(chains)])
        return handler

    return asyncio.run(main()).statistics()


ANSWERS: dict[str, Fault] = {
    "503": Answer(503),
    "500": Answer(500),
    "429": Answer(429),
    "408": Answer(408),
    "503 with Retry-After": Answer(503, retry_after=1),
    "429 with Retry-After": Answer(429, retry_after=1),
    "409": Answer(409),
    "reset within the request": ResetRequest(0.5),
    "reset within the answer": ResetAnswer(10),
    "stored, the answer lost": DropAnswer(),
}


@pytest.mark.parametrize("fault", ANSWERS)
def test_one_retry_layer(fault: str, make_run: RunFactory, s3_proxy: FaultProxy) -> None:
    """Two failures make three requests for the same object: nobody else retries below us."""
    site = make_run(s3_url=s3_proxy.endpoint_url)
    rule = s3_proxy.add(ANSWERS[fault], path=EVENTS, times=2)
    statistics = run_chains(site, max_delay=600.0)  # one object, however long that takes
    assert rule.applied == 2
    puts = artifact_puts(s3_proxy)
    assert len(puts) == 3
    assert len({put.path for put in puts}) == 1, "the key is fixed before the first attempt"
    sent = {put.body_sha256 for put in puts if put.body_size and put.fault != ResetRequest(0.5)}
    assert len(sent) == 1, "and so are the bytes"
    assert statistics.retries == 2
    assert statistics.delivered == statistics.accepted == 3 * CHAIN_EVENTS
    assert_exactly_once(audit(site), 3 * CHAIN_EVENTS)
    if "Retry-After" in fault:
        for before, after in zip(puts, puts[1:], strict=False):
            assert after.received - before.received >= 1.0


@pytest.mark.parametrize("code", ["AccessDenied", "ExpiredToken", "InvalidAccessKeyId"])
def test_access_comes_back(
    code: str, make_run: RunFactory, s3_proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    """While access is denied events wait and one warning tells; nothing is lost."""
    site = make_run(s3_url=s3_proxy.endpoint_url)
    s3_proxy.add(Answer(403, code=code), path=EVENTS, times=2)
    statistics = run_chains(site)
    assert statistics.delivered == 3 * CHAIN_EVENTS
    assert_exactly_once(audit(site), 3 * CHAIN_EVENTS)
    told = [r for r in caplog.records if r.name == "asynctrack" and code in r.getMessage()]
    assert len(told) == 1


def test_credentials_renewed_meanwhile(
    make_run: RunFactory, s3: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Credentials that S3 refuses are replaced by their owner; the next attempt uses the new."""
    wrong = boto3.Session(
        aws_access_key_id="AKWRONG", aws_secret_access_key="no", region_name="us-east-1"
    )
    asked: list[int] = []

    class Renewed:
        """As botocore's refreshable credentials: each request asks for what is valid now."""

        def get_frozen_credentials(self) -> Any:
            asked.append(1)
            session = wrong if len(asked) <= 2 else s3.boto_session()
            return session.get_credentials().get_frozen_credentials()

    site = make_run(credentials=Renewed)
    statistics = run_chains(site)
    assert statistics.delivered == 3 * CHAIN_EVENTS
    assert statistics.retries >= 1
    assert_exactly_once(audit(site), 3 * CHAIN_EVENTS)


def test_a_hanging_s3_makes_callbacks_await_and_loses_nothing(
    make_run: RunFactory, s3_proxy: FaultProxy
) -> None:
    """S3 hangs: the buffer's bound holds, tasks go on, and after it heals all is there in order."""
    site = make_run(s3_url=s3_proxy.endpoint_url)
    bound = 256 * 1024
    largest = 0
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.001)
            ticks += 1

    async def log(handler: AsyncHandler, task: int) -> None:
        nonlocal largest
        for number in range(50):
            await handler.on_chain_end(
                {"task": task, "number": number, "text": "x" * 2_000}, run_id=uuid.uuid4()
            )
            largest = max(largest, handler.statistics().waiting_bytes)

    async def main() -> AsyncHandler:
        ticking = asyncio.create_task(tick())
        async with tracker(
            site.run, max_buffer_bytes=bound, overflow="block", durability="memory"
        ) as handler:
            # Open first: a first event shows that its clients are made.
            await handler.on_chain_end("first", run_id=uuid.uuid4())
            assert await handler.flush()
            s3_proxy.add(Hang(), path=EVENTS)
            tasks = [asyncio.create_task(log(handler, task)) for task in range(20)]
            # Some get all of theirs in before it is full; all others wait.
            await until(
                lambda: (
                    handler._sink._buffer.counts().waiting
                    == sum(not task.done() for task in tasks)
                    > 10
                )
            )
            await s3_proxy.seen(lambda seen: any(one.outcome == "hanging" for one in seen))
            before = ticks
            await until(lambda: ticks > before + 100)
            assert handler.statistics().accepted < 1 + 20 * 50
            await asyncio.get_running_loop().run_in_executor(None, s3_proxy.heal)
            await asyncio.gather(*tasks)
        ticking.cancel()
        return handler

    statistics = asyncio.run(main()).statistics()
    assert statistics.accepted == statistics.delivered == 1 + 20 * 50
    assert statistics.dropped == {}
    assert 0.8 * bound < largest <= bound
    stored = events(site)
    assert [event["seq"] for event in stored] == list(range(1, 1002))
    for task in range(20):
        mine = [e["outputs"]["number"] for e in stored[1:] if e["outputs"]["task"] == task]
        assert mine == list(range(50)), "each task's events are in its own order"
    assert max(Counter(event["span_id"] for event in stored).values()) == 1


@pytest.mark.parametrize("durability", ["memory", "process"])
@pytest.mark.parametrize("where", ["before", "after"])
def test_close_timeout_with_a_server_that_never_answers(
    where: Any,
    durability: str,
    make_run: RunFactory,
    s3_proxy: FaultProxy,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Leaving takes close_timeout and no more; what is left is counted and told."""
    site = make_run(s3_url=s3_proxy.endpoint_url)
    s3_proxy.add(Hang(where), method="PUT")

    async def main() -> tuple[Statistics, float]:
        async with tracker(site.run, close_timeout=2.0, durability=durability) as handler:
            await joke_chain().ainvoke({"topic": "x"}, {"callbacks": [handler]})
            if durability == "process":  # on disk, before there are two seconds only for it
                await until(lambda: handler.statistics().spooled == CHAIN_EVENTS)
            began = time.monotonic()
        return handler.statistics(), time.monotonic() - began

    statistics, took = asyncio.run(main())
    assert 1.9 <= took < 60, "an attempt would go on until the server answers"
    assert statistics.balanced
    left = statistics.pending if durability == "memory" else statistics.spooled
    assert left == statistics.accepted == CHAIN_EVENTS
    told = [r.getMessage() for r in caplog.records if "could not deliver" in r.getMessage()]
    assert len(told) == 1
    assert f"{CHAIN_EVENTS} of {CHAIN_EVENTS} events" in told[0]


def test_the_first_object_comes_within_seconds(make_run: RunFactory) -> None:
    """A long run shows its first object after max_delay, not only at its end."""
    site = make_run()

    async def main() -> None:
        async with tracker(site.run, max_delay=0.2) as handler:
            await joke_chain().ainvoke({"topic": "x"}, {"callbacks": [handler]})
            await until(lambda: handler.statistics().delivered == CHAIN_EVENTS)

    asyncio.run(main())
    assert audit(site).events == CHAIN_EVENTS


def test_several_uploads_at_a_time(make_run: RunFactory, s3_proxy: FaultProxy) -> None:
    """upload_concurrency uploads are under way at once, and not one more."""
    site = make_run(s3_url=s3_proxy.endpoint_url)
    s3_proxy.add(Hang(), path=EVENTS)

    def hanging() -> int:
        return sum(seen.outcome == "hanging" for seen in s3_proxy.requests)

    options: dict[str, Any] = {"upload_concurrency": 3, "max_batch_events": 10}
    with tracker(site.run, max_delay=600.0, **options) as handler:
        for number in range(100):
            handler.on_chain_end(number, run_id=uuid.uuid4())
        until_in_thread(lambda: hanging() == 3)
        s3_proxy.heal()
    seen = artifact_puts(s3_proxy)
    assert len(seen) == 10
    assert len({put.connection for put in seen}) <= 3
    assert handler.statistics().delivered == 100
    assert [event["outputs"] for event in events(site)] == list(range(100))
