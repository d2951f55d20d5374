"""The whole way: LangChain into S3 and a Run."""

from __future__ import annotations

import asyncio

from langchain_core.runnables import RunnableConfig

from asynctrack import Statistics, tracker
from tests.e2e.chains import joke_chain
from tests.e2e.runs import RunFactory
from tests.support.auditor import assert_exactly_once, audit_s3


def test_chains_arrive_in_s3_and_in_the_run(make_run: RunFactory) -> None:
    """Every event of every chain is in S3 exactly once, and the Run says where."""
    site = make_run("scenario-1")

    async def main() -> Statistics:
        async with tracker(site.run) as handler:
            chain = joke_chain()
            config: RunnableConfig = {"callbacks": [handler]}
            await asyncio.gather(*[chain.ainvoke({"topic": "fish"}, config) for _ in range(20)])
            assert await handler.flush()
        return handler.statistics()

    statistics = asyncio.run(main())
    assert statistics.accepted == statistics.delivered == 20 * 8
    audit = audit_s3(site.s3.boto_client(), site.s3.bucket, site.prefix)
    assert_exactly_once(audit, statistics.accepted)
    parameters = site.parameters()
    assert parameters["asynctrack.events"] == f"s3://{site.s3.bucket}/{site.prefix}"
