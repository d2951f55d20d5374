"""The recorder by itself: what it sends, when, and what it keeps when it cannot."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asynctrack._backends.local import LocalBackend
from asynctrack._backends.protocol import Service
from asynctrack._capture.observations import Observations
from asynctrack._capture.redact import Redactor
from asynctrack._common.artifact import MetricPoint, NotTaken, ParameterValue, RunState, Written
from asynctrack._common.notices import Notices
from asynctrack._errors import PermanentError, TransientError
from asynctrack._record.recorder import Recorder
from asynctrack._record.updates import SharedRun
from tests.support.virtual import VirtualLoop, run


class RunFolder(LocalBackend):
    """A local folder that also keeps a Run as AWS does: merged by key, 300 parameters."""

    service: Service = "SageMaker"
    ready = True
    loading = False

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "", "e", "r", self)
        self.parameters: dict[str, ParameterValue] = {}
        self.artifacts: dict[str, str] = {}
        self.updates: list[tuple[float, dict[str, ParameterValue]]] = []
        self.points: list[MetricPoint] = []
        self.failures: list[Exception | None] = []
        self.announced: dict[str, ParameterValue] = {}
        self.clock = Clock()

    @property
    def target(self) -> str:
        return str(id(self))

    async def state(self) -> RunState:
        await self._answer()
        return RunState(dict(self.parameters), dict(self.artifacts), frozenset(self.announced))

    def local(self) -> Mapping[str, Any]:
        return self.announced

    async def update(
        self,
        parameters: Mapping[str, ParameterValue],
        artifacts: Mapping[str, str],
        remove: Sequence[str] = (),
    ) -> None:
        await self._answer()
        merged = {**self.parameters, **parameters}
        if len(merged) > 300:
            raise PermanentError("ValidationException", f"{len(merged)} entries")
        assert not set(remove) & set(parameters)
        merged = {key: value for key, value in merged.items() if key not in remove}
        assert all(0 < len(key) <= 256 and "\n" not in key for key in parameters)
        assert all(len(v) <= 2500 for v in parameters.values() if isinstance(v, str))
        self.parameters = merged
        self.artifacts.update(artifacts)
        self.updates.append((self.clock.now, dict(parameters)))

    async def begin(self) -> None:
        pass

    def mirror(self, written: Iterable[Written]) -> None:
        pass

    async def put_metrics(self, points: Sequence[MetricPoint]) -> NotTaken:
        assert len(points) <= 10
        await self._answer()
        self.points += points
        return NotTaken()

    async def _answer(self) -> None:
        await asyncio.sleep(0)  # another write may come in between, as over a network
        if self.failures and (failure := self.failures.pop(0)) is not None:
            raise failure


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)


def recorder(backend: RunFolder, observations: Observations) -> Recorder:
    return Recorder(
        writer_id="0123456789ab",
        backend=backend,
        observations=observations,
        redactor=Redactor(None),
        notices=Notices(),
        counts=lambda: {"accepted": 1},
        sleep=backend.clock.sleep,
        monotonic=lambda: backend.clock.now,
        uniform=lambda: 0.5,
        shared=SharedRun(),
    )


@pytest.fixture
def backend(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def test_two_writes_at_once_send_each_point_once(backend: RunFolder) -> None:
    """A write due by the clock and the last one, at the same time, neither lose nor repeat."""
    observations = Observations()
    writer = recorder(backend, observations)
    for step in range(95):
        observations.metric("m", float(step), 0, step)

    async def main() -> None:
        await asyncio.gather(
            writer.write(everything=True),
            writer.write(everything=False),
            writer.write(everything=True, closed=True),
        )

    asyncio.run(main())
    assert [point.step for point in backend.points] == list(range(95))


def test_at_most_one_update_a_second(backend: RunFolder) -> None:
    """Writes in quick succession wait for the second to be over."""
    observations = Observations()
    writer = recorder(backend, observations)

    async def main() -> None:
        for number in range(5):
            observations.parameters({"n": number})
            assert await writer.write(everything=True) is None
            backend.clock.now += 0.1

    asyncio.run(main())
    times = [when for when, _ in backend.updates]
    assert len(times) == 5
    assert all(after - before >= 1.0 for before, after in zip(times, times[1:], strict=False))


def test_a_failed_part_waits_and_the_others_go_on(backend: RunFolder) -> None:
    """When parameters cannot be written, metrics and the manifest are, and nothing is lost."""
    observations = Observations()
    writer = recorder(backend, observations)
    observations.parameters({"a": 1})
    observations.metric("m", 1.0, 0, 0)
    backend.failures = [TransientError("Throttled", "slow down", retry_after=7.0)]

    async def main() -> None:
        wait = await writer.write(everything=True)
        assert wait is not None
        assert 7.0 <= wait <= 8.0
        assert backend.parameters == {}
        assert len(backend.points) == 1
        assert writer.unwritten[0] >= 1
        backend.clock.now += wait
        assert await writer.write(everything=True) is None
        assert writer.unwritten == (0, 0)

    asyncio.run(main())
    assert backend.parameters["a"] == 1.0
    assert len(backend.points) == 1


def test_what_fails_while_it_is_cancelled_is_quiet(backend: RunFolder) -> None:
    """asyncio prints a page for each task that has failed and that nobody asked: none of ours."""

    class Hanging(RunFolder):
        async def put(self, name: str, content: bytes, *, crc32: int, media_type: str) -> None:
            try:
                await asyncio.sleep(3_600.0)
            except asyncio.CancelledError:
                raise TransientError("ConnectionClosedError", "cut off") from None

    async def main(loop: VirtualLoop) -> None:
        written = recorder(Hanging(backend._root), Observations())
        assert await written.write(everything=True, closed=True) is not None
        written.end()
        await asyncio.sleep(1.0)

    run(main)


def test_what_is_refused_for_good_is_not_sent_for_ever(
    backend: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    """Parameters that SageMaker refuses are told of once; the manifest has them."""
    observations = Observations()
    writer = recorder(backend, observations)
    observations.parameters({"a": 1})

    async def main() -> None:
        assert await writer.write(everything=True) is None
        observations.parameters({"b": 2})
        # It looks at the Run again in between, in case that is full.
        backend.failures = [no := PermanentError("ValidationException", "no"), None, no]
        assert await writer.write(everything=True) is None
        assert await writer.write(everything=True, closed=True) is None

    asyncio.run(main())
    assert "a" in backend.parameters
    assert "b" not in backend.parameters
    assert len(backend.updates) == 1
    (told,) = [record.getMessage() for record in caplog.records]
    assert "SageMaker refuses them" in told
    (path,) = backend._root.glob("_manifest/*.json")
    assert json.loads(path.read_bytes())["parameters"]["b"] == 2


def test_the_last_measurements_are_written(backend: RunFolder) -> None:
    """What was measured while another write waited for its next try is in the last one."""
    observations = Observations()
    writer = recorder(backend, observations)
    observations.parameters({"a": 1})
    backend.failures = [TransientError("Throttled", "slow down")]

    async def main() -> None:
        assert await writer.write(everything=True) is not None
        observations.usage({"gen_ai.usage.input_tokens": 3, "gen_ai.usage.output_tokens": 5})
        observations.end(1.0, model=True, root=True, failed=False)
        while (wait := await writer.write(everything=True, closed=True)) is not None:
            backend.clock.now += wait
        writer.end()

    asyncio.run(main())
    assert {point.name for point in backend.points} >= {"gen_ai.usage.input_tokens"}
    assert writer.counted.points_left == 0
    assert writer.manifest.complete


def test_a_look_at_nothing_costs_nothing(backend: RunFolder) -> None:
    """Where there is nothing to write, a write by the clock asks nobody and starts no task."""
    observations = Observations()
    writer = recorder(backend, observations)
    observations.parameters({"a": 1})

    async def main() -> None:
        assert await writer.write(everything=True) is None
        sent, begun = len(backend.updates), []
        loop = asyncio.get_running_loop()
        loop.set_task_factory(lambda loop, coro, **more: begun.append(coro) or None)  # type: ignore[arg-type, func-returns-value]
        for _ in range(3):
            backend.clock.now += 20.0
            assert await writer.write(everything=False) is None
        loop.set_task_factory(None)
        assert len(backend.updates) == sent
        assert begun == []

    asyncio.run(main())


def test_a_manifest_that_failed_is_tried_again_in_time(
    backend: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for its next try, is not asked for at once again and again, and is stored."""
    observations = Observations()
    writer = recorder(backend, observations)
    observations.parameters({"a": 1})
    store, tries = backend.put, []

    async def put(name: str, content: bytes, **options: Any) -> None:
        tries.append(backend.clock.now)
        if len(tries) < 3:
            raise TransientError("SlowDown", "no", retry_after=1.0)
        await store(name, content, **options)

    monkeypatch.setattr(backend, "put", put)

    async def main() -> None:
        wait = await writer.write(everything=True)
        while wait is not None:
            assert wait > 0.0
            backend.clock.now += wait
            wait = await writer.write(everything=False)

    asyncio.run(main())
    assert len(tries) == 3
    assert tries[1] - tries[0] >= 1.0
    assert writer.manifest.complete


def test_keys_the_users_run_will_send_are_not_used(backend: RunFolder) -> None:
    """A key in the Run object's own copy is avoided although AWS does not have it yet."""
    observations = Observations()
    writer = recorder(backend, observations)
    backend.announced = {"gen_ai.request.model": "mine"}
    observations.model({"gen_ai.request.model": "m"})
    asyncio.run(writer.write(everything=True))
    assert "gen_ai.request.model" not in backend.parameters
    assert backend.parameters["gen_ai.request.model.2"] == "m"


def test_many_configurations_leave_room_for_the_user(backend: RunFolder) -> None:
    """A thousand configurations take some of the 300 parameters; all are in the manifest."""
    observations = Observations()
    writer = recorder(backend, observations)
    for number in range(1_000):
        observations.model({"gen_ai.request.model": f"m{number}", "gen_ai.request.seed": number})
    observations.parameters({f"mine{number}": number for number in range(150)})
    asyncio.run(writer.write(everything=True, closed=True))
    assert all(f"mine{number}" in backend.parameters for number in range(150))
    assert len(backend.parameters) <= 300
    (path,) = backend._root.glob("_manifest/*.json")
    text = path.read_text()
    assert all(f'"m{number}"' in text for number in range(1_000))


names = st.text(max_size=400)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3_000),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@settings(max_examples=25, deadline=None, database=None)
@given(st.lists(st.dictionaries(names, values, max_size=120), max_size=4))
def test_any_parameters_fit_and_none_is_lost(
    tmp_path_factory: pytest.TempPathFactory, given_: list[dict[str, Any]]
) -> None:
    """Property: whatever is logged, every update is within AWS's limits, the manifest has all."""
    backend = RunFolder(tmp_path_factory.mktemp("r"))
    observations = Observations()
    writer = recorder(backend, observations)

    async def main() -> None:
        for parameters in given_:
            observations.parameters(parameters)
            assert await writer.write(everything=True) is None
        assert await writer.write(everything=True, closed=True) is None

    asyncio.run(main())
    assert writer.unwritten == (0, 0)
    every = {name for parameters in given_ for name in parameters}
    if every:
        (path,) = backend._root.glob("_manifest/*.json")
        assert every <= set(json.loads(path.read_bytes())["parameters"])
