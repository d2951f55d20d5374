"""The measuring process of the floor: the PUTs that trackers make, and nothing else."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from typing import Any


def measure(spec: dict[str, Any]) -> dict[str, float]:
    """Put as many objects of the same size as trackers do, as many at a time.

    Args:
        spec: ``servers``, ``sizes`` (of one tracker's objects, in bytes), ``trackers``,
            ``concurrency``.
    """
    return asyncio.run(_puts(spec))


async def _puts(spec: dict[str, Any]) -> dict[str, float]:
    from aiobotocore.config import AioConfig
    from aiobotocore.session import AioSession

    servers = spec["servers"]
    config = AioConfig(
        max_pool_connections=spec["concurrency"] + 2,
        s3={"addressing_style": "path"},
        retries={"total_max_attempts": 1},
    )
    async with AioSession().create_client(
        "s3",
        region_name="us-east-1",
        endpoint_url=servers["s3"],
        aws_access_key_id=servers["key"],
        aws_secret_access_key=servers["secret"],
        config=config,
    ) as client:
        objects = iter(
            (f"floor/{uuid.uuid4()}", os.urandom(size))
            for _ in range(spec["trackers"])
            for size in spec["sizes"]
        )

        async def put() -> None:
            for key, body in objects:
                await client.put_object(Bucket=servers["bucket"], Key=key, Body=body)

        await client.put_object(Bucket=servers["bucket"], Key="floor/warm", Body=b"warm")
        started = time.perf_counter(), time.process_time()
        await asyncio.gather(*(put() for _ in range(spec["concurrency"])))
        return {
            "wall_ms": (time.perf_counter() - started[0]) / spec["trackers"] * 1e3,
            "cpu_ms": (time.process_time() - started[1]) / spec["trackers"] * 1e3,
        }
