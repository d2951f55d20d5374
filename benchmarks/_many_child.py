"""The measuring process of ``many``: a number of trackers, at once or one after another.

Started fresh for each cell: reads what to do on standard input, answers with one line of JSON. One
tracker before the others pays for what is imported and made once in a process.
"""

from __future__ import annotations

import asyncio
import copy
import gc
import logging
import os
import socket
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks._many_watch import seen, watched
from benchmarks._servers import make_run
from benchmarks.scale import Requests

WORDS: Final = [f"word{number * 7919 % 10_007}" for number in range(10_000)]
"""As hard to encode, search and compress as text is."""


_SIZES: Final = ("blocks", "size")


def _text(number: int, words: int) -> str:
    start = number * words % (len(WORDS) - words)
    return " ".join(WORDS[start : start + words])


async def callbacks(handler: Any, events: int) -> None:
    """Call the handler as LangChain does, in pairs of start and end, ~700 bytes encoded each."""
    root = uuid.uuid4()
    metadata = {"ls_integration": "langchain_chat", "user": "u-1"}
    for number in range(events // 2):
        span = {"run_id": uuid.uuid4(), "parent_run_id": root, "tags": ["seq:step:1"]}
        question = {"topic": "fish", "question": _text(number, 30)}
        await handler.on_chain_start(
            None, question, **span, metadata=metadata, name="RunnableSequence"
        )
        await asyncio.sleep(0)  # as an application does between any two
        await handler.on_chain_end({"output": _text(number, 50)}, **span)


_Target = tuple[Any, dict[str, Any]]
"""What ``tracker`` is called with."""


@dataclass
class _Said:
    """What was said while a block lasted: records of the ``asynctrack`` logger, and on stderr."""

    lines: list[str]


@contextmanager
def _listening() -> Iterator[_Said]:
    """Keep what is said; stderr is the descriptor, so that nothing passes by."""
    said = _Said([])

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.lines += record.getMessage().splitlines()

    keep = Keep(logging.WARNING)
    logger = logging.getLogger("asynctrack")
    logger.addHandler(keep)
    with tempfile.TemporaryFile() as file:
        before = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield said
        finally:
            os.dup2(before, 2)
            os.close(before)
            logger.removeHandler(keep)
            file.seek(0)
            said.lines += file.read().decode(errors="replace").splitlines()


class Targets:
    """Where each tracker tracks to: folders, or Runs of one session.

    A Run of the SDK costs eight requests; one of them is enough here: the trial component that its
    parameters go to. So the first is made by the SDK, and the others are its copies.
    """

    def __init__(self, spec: dict[str, Any], folder: Path) -> None:
        self._folder = folder
        self._first: Any = None
        if spec["place"] == "s3":
            self._first = make_run(spec["servers"], "many")

    def __call__(self, number: int) -> _Target:
        """Return what ``tracker`` is called with."""
        if self._first is None:
            return self._folder / "runs", {"run_name": f"many-{number}"}
        return self._run(number), {}

    def hanging(self, address: str) -> _Target:
        """Return a Run whose S3 is at another address."""
        import boto3

        run = self._run(-1)
        session = self._first._artifact_uploader.sagemaker_session.boto_session
        client = boto3.Session.client(session, "s3", endpoint_url=address)  # past its own addresses
        run._artifact_uploader._s3_client = client
        return run, {}

    def _run(self, number: int) -> Any:
        run = object.__new__(type(self._first))  # its class forbids copying
        vars(run).update(vars(self._first))
        run.run_name = f"many-{number}"
        run._trial_component = copy.copy(run._trial_component)
        name = f"{run.experiment_name}-{run.run_name}"
        run._trial_component.trial_component_name = name
        run._trial_component.parameters = {}
        run._artifact_uploader = copy.copy(run._artifact_uploader)
        run._artifact_uploader.trial_component_name = name
        client = run._artifact_uploader.sagemaker_session.sagemaker_client
        client.create_trial_component(TrialComponentName=name)
        return run


class _Barrier:
    """Holds each back until all have come; what there is then is noted, and its cost."""

    def __init__(self, expected: int, spool: Path) -> None:
        self._left = expected
        self._all = asyncio.Event()
        self._spool = spool
        self.wall = self.cpu = 0.0
        self.most: dict[str, int] = {}

    async def wait(self) -> None:
        self._left -= 1
        if self._left <= 0:
            started = time.perf_counter(), time.thread_time()
            self.most = seen(os.getpid(), self._spool)
            self.wall, self.cpu = time.perf_counter() - started[0], time.thread_time() - started[1]
            self._all.set()
        await self._all.wait()


@asynccontextmanager
async def _tracked(target: _Target, spool: Path) -> AsyncIterator[Any]:
    from asynctrack import tracker

    run, options = target
    async with tracker(run, spool_dir=spool, close_timeout=120.0, **options) as handler:
        yield handler


async def _one(target: _Target, spool: Path, events: int, barrier: _Barrier) -> Any:
    try:
        async with _tracked(target, spool) as handler:
            await callbacks(handler, events)
            await barrier.wait()  # at once: none is left before all have tracked
        return handler.statistics()
    except Exception as error:
        await barrier.wait()
        return error


async def _at_once(
    targets: list[_Target], spool: Path, events: int, hanging: _Target | None
) -> dict[str, Any]:
    barrier = _Barrier(len(targets) + (hanging is not None), spool)
    started = time.perf_counter(), time.process_time()
    beside = hanging and asyncio.ensure_future(_one(hanging, spool, events, barrier))
    told = await asyncio.gather(*(_one(one, spool, events, barrier) for one in targets))
    wall, cpu = time.perf_counter() - started[0], time.process_time() - started[1]
    if beside:
        await beside
    return _summary(told, wall - barrier.wall, cpu - barrier.cpu, barrier.most)


async def _in_turn(targets: list[_Target], spool: Path, events: int) -> dict[str, Any]:
    started = time.perf_counter(), time.process_time()
    barriers = [_Barrier(1, spool) for _ in targets]
    told = [
        await _one(target, spool, events, barrier)
        for target, barrier in zip(targets, barriers, strict=True)
    ]
    wall = time.perf_counter() - started[0] - sum(one.wall for one in barriers)
    cpu = time.process_time() - started[1] - sum(one.cpu for one in barriers)
    most = {name: max(one.most[name] for one in barriers) for name in barriers[0].most}
    return _summary(told, wall, cpu, most)


def measure(spec: dict[str, Any]) -> dict[str, Any]:
    """Measure one cell in this process.

    Args:
        spec: ``place`` (``folder`` or ``s3``), ``trackers``, ``events`` of each, ``in_turn``,
            ``hanging`` (whether the last of them has an S3 that accepts and never answers),
            ``servers``.
    """
    with (
        tempfile.TemporaryDirectory(prefix="asynctrack-many-") as name,
        socket.create_server(("127.0.0.1", 0), backlog=128) as silent,
    ):
        folder = Path(name)
        spool = folder / "spool"
        targets = Targets(spec, folder)
        hanging = None
        healthy = [targets(number) for number in range(spec["trackers"] - spec["hanging"])]
        if spec["hanging"]:
            hanging = targets.hanging(f"http://127.0.0.1:{silent.getsockname()[1]}")
        requests = Requests()
        if spec["place"] == "s3":
            requests.install()

        async def main() -> dict[str, Any]:
            await _one(targets(10**6), spool, spec["events"], _Barrier(1, spool))
            requests.counts.clear()
            gc.collect()
            before = seen(os.getpid(), spool)
            with watched(spool) as watching:
                found = await (
                    _in_turn(healthy, spool, spec["events"])
                    if spec["in_turn"]
                    else _at_once(healthy, spool, spec["events"], hanging)
                )
            most = {name: max(found["most"][name], size) for name, size in watching.most.items()}
            return {**found, "most": most, "before": before}

        with _listening() as said:
            found = asyncio.run(main())
        found["spool_left"] = seen(os.getpid(), spool)["blocks"]
    count = spec["trackers"]
    most, before = found["most"], found["before"]
    return {
        **{name: spec[name] for name in ("place", "trackers", "events", "in_turn", "hanging")},
        **found,
        "threads": most["threads"] - 1,  # the program has one itself
        "memory_added": most["memory"] - before["memory"],
        **{f"disk_{name}": most[name] / (1 if spec["in_turn"] else count) for name in _SIZES},
        "warnings": len(said.lines),
        "said": said.lines[:10],
        "requests": {name: number / count for name, number in requests.counts.items()},
    }


def _summary(told: list[Any], wall: float, cpu: float, most: dict[str, int]) -> dict[str, Any]:
    counts = [one for one in told if not isinstance(one, Exception)]
    return {
        "accepted": sum(one.accepted for one in counts),
        "delivered": sum(one.delivered for one in counts),
        "failed": [repr(one) for one in told if isinstance(one, Exception)][:10],
        "artifact_bytes": sum(one.bytes_delivered for one in counts)
        / max(1, sum(one.artifacts for one in counts)),
        "wall_ms": wall / len(told) * 1e3,
        "cpu_ms": cpu / len(told) * 1e3,
        "most": most,
    }
