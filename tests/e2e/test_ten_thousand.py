"""Ten thousand chains at once, into a real S3 server and a Run."""

from __future__ import annotations

import asyncio
import time
import tracemalloc

import pytest
from langchain_core.runnables import RunnableConfig

from asynctrack import AsyncHandler, tracker
from tests.e2e.chains import CHAIN_EVENTS, joke_chain
from tests.e2e.runs import RunFactory
from tests.support.auditor import assert_exactly_once, audit_s3, events_in_s3
from tests.support.faults import Hang
from tests.support.proxy import FaultProxy

CHAINS = 10_000
OVERHEAD = 24 * 1024 * 1024
"""What asynctrack may hold besides its buffer: clients, open spans, a batch being compressed."""


@pytest.mark.e2e
@pytest.mark.timeout(1200)
@pytest.mark.may_block("the check doubles the time; it is on in the tests of a few chains")
def test_ten_thousand_concurrent_chains(make_run: RunFactory, sagemaker_proxy: FaultProxy) -> None:
    """Every event of every chain is in S3 exactly once, in few objects, with few Run writes."""
    site = make_run("load", sagemaker_url=sagemaker_proxy.endpoint_url)
    began = time.monotonic()

    async def main() -> AsyncHandler:
        async with tracker(site.run) as handler:
            config: RunnableConfig = {"callbacks": [handler]}
            chain = joke_chain()
            # As the user's program would: all at once.
            answers = await asyncio.gather(
                *[chain.ainvoke({"topic": number}, config) for number in range(CHAINS)]
            )
        assert len(answers) == CHAINS
        return handler

    statistics = asyncio.run(main()).statistics()
    expected = CHAINS * CHAIN_EVENTS
    assert statistics.accepted == statistics.delivered == expected
    assert statistics.dropped == {}
    client = site.s3.boto_client()
    audit = audit_s3(client, site.s3.bucket, site.prefix)
    assert_exactly_once(audit, expected)
    assert audit.open_spans == 0
    assert audit.kinds["chat_model_start"] == audit.kinds["llm_end"] == CHAINS
    assert audit.kinds["chain_start"] == audit.kinds["chain_end"] == 3 * CHAINS
    stored = events_in_s3(client, site.s3.bucket, site.prefix)
    topics = [
        event["inputs"]["topic"]
        for event in stored
        if event["event"] == "chain_start" and event.get("parent_span_id") is None
    ]
    assert sorted(topics) == list(range(CHAINS)), "every chain once"
    assert len({event["trace_id"] for event in stored}) == CHAINS
    # By their size, and one each five seconds.
    took = time.monotonic() - began
    assert len(audit.objects) <= 10 + took / 5, "a handful of objects"
    writes = [r for r in sagemaker_proxy.requests if r.operation == "UpdateTrialComponent"]
    assert 1 <= len(writes) <= 10 + took / 5, "a handful of Run writes"
    assert statistics.run_updates == len(writes)


@pytest.mark.e2e
@pytest.mark.timeout(600)
def test_memory_stays_within_the_buffer(make_run: RunFactory, s3_proxy: FaultProxy) -> None:
    """What many chains add to memory stays within max_buffer_bytes and a fixed overhead."""
    bound = 1024 * 1024
    site = make_run("memory", s3_url=s3_proxy.endpoint_url)

    async def heal_when_full(handler: AsyncHandler) -> None:
        while not handler._sink._buffer.counts().waiting:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(s3_proxy.heal)

    async def main() -> tuple[AsyncHandler, int]:
        async with tracker(
            site.run, max_buffer_bytes=bound, overflow="block", durability="memory"
        ) as handler:
            config: RunnableConfig = {"callbacks": [handler]}
            chain = joke_chain()
            await chain.ainvoke({"topic": "warm"}, config)
            assert await handler.flush()
            tracemalloc.start()
            try:
                for _ in range(3):
                    s3_proxy.add(Hang(), path="*/dt=*")
                    await asyncio.gather(
                        heal_when_full(handler),
                        *[chain.ainvoke({"topic": "x" * 2_000}, config) for _ in range(200)],
                    )
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
        return handler, peak

    handler, peak = asyncio.run(main())
    statistics = handler.statistics()
    assert statistics.accepted == statistics.delivered == 601 * CHAIN_EVENTS
    assert peak <= bound + OVERHEAD, f"{peak:,} bytes"
