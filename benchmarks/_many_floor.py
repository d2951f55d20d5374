"""The measuring process of the floors: what trackers ask of the disk and of AWS, by itself."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

FLOORS: Final = {
    "files": ("folder", "the same files in one thread: made, written, synced, renamed, deleted"),
    "puts": ("s3", "two PUTs"),
    "requests": ("s3", "two PUTs, DescribeTrialComponent and UpdateTrialComponent"),
}
"""What is measured: where trackers ask that of others, and what it is in words."""
_PARAMETERS: Final = {f"asynctrack.{number}": {"StringValue": "x" * 100} for number in range(2)}


def measure(spec: dict[str, Any]) -> dict[str, float]:
    """Do for as many trackers what each of them does.

    Args:
        spec: ``servers``, ``floor`` (which of ``FLOORS``), ``trackers``, ``events`` (of each),
            ``sizes`` (of the artifact and the manifest, in bytes), ``concurrency`` of requests.
    """
    if spec["floor"] == "files":
        return _files(spec)
    return asyncio.run(_requests(spec))


def _per_tracker(spec: dict[str, Any], began: tuple[float, float]) -> dict[str, float]:
    return {
        "wall_ms": (time.perf_counter() - began[0]) / spec["trackers"] * 1e3,
        "cpu_ms": (time.process_time() - began[1]) / spec["trackers"] * 1e3,
    }


def _files(spec: dict[str, Any]) -> dict[str, float]:
    import fcntl

    line, zeros = os.urandom(700), bytes(32 * 1024)
    artifact, manifest = (os.urandom(size) for size in spec["sizes"])
    with tempfile.TemporaryDirectory(prefix="asynctrack-floor-") as name:
        top = Path(name)
        began = time.perf_counter(), time.process_time()
        for number in range(spec["trackers"]):
            making, spool = top / f".new-{number}", top / f"{number}"
            making.mkdir()
            lock = os.open(making / "lock", os.O_RDWR | os.O_CREAT)
            fcntl.flock(lock, fcntl.LOCK_EX)
            (making / "writer.json").write_bytes(line[:250])
            making.rename(spool)
            segment = os.open(spool / "1.open", os.O_RDWR | os.O_CREAT | os.O_EXCL)
            os.posix_fallocate(segment, 0, len(zeros))
            os.pwrite(segment, zeros, 0)
            for event in range(spec["events"]):
                os.pwrite(segment, line, event * len(line))
            os.ftruncate(segment, spec["events"] * len(line))
            (spool / "1.open").rename(spool / "1.sealed")
            os.pread(segment, spec["events"] * len(line), 0)
            run = top / f"run={number}"
            for folder, content in ((run / "date", artifact), (run / "_manifest", manifest)):
                folder.mkdir(parents=True)
                with (folder / ".tmp").open("wb", buffering=0) as file:
                    file.write(content)
                    os.fsync(file.fileno())
                (folder / ".tmp").rename(folder / "object")
            for left in ("1.sealed", "writer.json", "lock"):
                (spool / left).unlink()
            spool.rmdir()
            os.close(segment)
            os.close(lock)
        return _per_tracker(spec, began)


async def _requests(spec: dict[str, Any]) -> dict[str, float]:
    from aiobotocore.config import AioConfig
    from aiobotocore.session import AioSession

    servers = spec["servers"]
    session = AioSession()
    session.set_credentials(servers["key"], servers["secret"])
    config = AioConfig(
        max_pool_connections=spec["concurrency"] + 2,
        s3={"addressing_style": "path"},
        retries={"total_max_attempts": 1},
    )
    async with (
        session.create_client(
            "s3", region_name="us-east-1", endpoint_url=servers["s3"], config=config
        ) as s3,
        session.create_client(
            "sagemaker", region_name="us-east-1", endpoint_url=servers["sagemaker"], config=config
        ) as sagemaker,
    ):
        component = f"floor-{uuid.uuid4()}"
        await sagemaker.create_trial_component(TrialComponentName=component)
        trackers = iter(range(spec["trackers"]))

        async def puts() -> None:
            for size in spec["sizes"]:
                await s3.put_object(
                    Bucket=servers["bucket"], Key=f"floor/{uuid.uuid4()}", Body=os.urandom(size)
                )

        async def requests(numbers: Iterator[int]) -> None:
            for _ in numbers:
                await puts()
                if spec["floor"] == "requests":
                    await sagemaker.describe_trial_component(TrialComponentName=component)
                    await sagemaker.update_trial_component(
                        TrialComponentName=component, Parameters=_PARAMETERS
                    )

        await requests(iter(range(1)))  # what is made once
        began = time.perf_counter(), time.process_time()
        await asyncio.gather(*(requests(trackers) for _ in range(spec["concurrency"])))
        return _per_tracker(spec, began)
