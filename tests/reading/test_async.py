"""Every call that does I/O has an async variant that never blocks the loop."""

from __future__ import annotations

import inspect

import pytest

import asynctrack
from asynctrack._reading.experiment import RecordedExperiment
from asynctrack._reading.run import RecordedRun
from tests.reading.making import RunFolder, event


@pytest.fixture
def run(folder: RunFolder) -> RunFolder:
    """A Run of 30 traces in three objects."""
    for first in range(1, 61, 20):
        made = []
        for seq in range(first, first + 20, 2):
            ids = {"span_id": f"{seq:08x}", "trace_id": f"{seq:08x}"}
            made += [event(seq, kind="chain_start", **ids), event(seq + 1, kind="chain_end", **ids)]
        folder.artifact(made)
    folder.manifest(parameters={"p": 1})
    return folder


async def test_the_async_variants_give_the_same(run: RunFolder) -> None:
    """Events, traces, tables, summary, verification: as the blocking ones give them."""
    import anyio.to_thread

    recorded = await asynctrack.aopen_run(run.path)
    await recorded.arefresh()
    assert recorded.parameters == {"p": 1}
    events = [one.seq async for one in recorded.aevents()]
    assert events == list(range(1, 61))
    traces = [trace.trace_id async for trace in recorded.atraces()]
    expected = await anyio.to_thread.run_sync(lambda: [one.trace_id for one in recorded.traces()])
    assert len(traces) == 30 and traces == expected
    assert len(await recorded.ato_pandas()) == (await recorded.ato_arrow()).num_rows == 30
    connection = await recorded.ato_duckdb()
    rows = await anyio.to_thread.run_sync(
        lambda: connection.execute("SELECT count(*) FROM spans").fetchone()
    )
    assert rows == (30,)
    assert (await recorded.asummary()).traces == 30
    report = await asynctrack.averify(run.path)
    assert report.complete
    experiment = await asynctrack.aopen_experiment("jokes", root=run.root)
    assert [one.traces for one in await experiment.asummaries()] == [30]
    assert len(await experiment.ato_pandas()) == 1


async def test_leaving_the_loop_early_stops_the_reading(run: RunFolder) -> None:
    """Who breaks out of ``async for`` leaves no thread that goes on reading."""
    import threading

    recorded = await asynctrack.aopen_run(run.path, concurrency=1)
    traces = recorded.atraces()
    async for _ in traces:
        break
    await traces.aclose()  # type: ignore[attr-defined]  # an async generator
    names = [thread.name for thread in threading.enumerate() if thread.is_alive()]
    assert sum(name.startswith("asynctrack-read") for name in names) <= 1


@pytest.mark.parametrize("kind", [RecordedRun, RecordedExperiment])
def test_every_blocking_method_has_its_variant(kind: type) -> None:
    """A public method without an async variant is one that does no I/O."""
    names = {name for name in vars(kind) if not name.startswith("_")}
    methods = {name for name in names if inspect.isfunction(vars(kind)[name])}
    blocking = {name for name in methods if not inspect.iscoroutinefunction(vars(kind)[name])}
    blocking = {name for name in blocking if not inspect.isasyncgenfunction(vars(kind)[name])}
    assert {f"a{name}" for name in blocking} <= methods
