"""Our own counters as OpenTelemetry metrics: what they say, and that nobody pays who has none."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from asynctrack._otlp import metrics
from tests.guide.pages import block, text
from tests.support.otlp import otlp_receiver

PROGRAM = """
import gc, json, logging, sys, weakref
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from langchain_core.runnables import RunnableLambda
from asynctrack import LogHandler, tracker
from asynctrack._common.own import own_work

reader = InMemoryMetricReader()
if {early}:
    metrics.set_meter_provider(MeterProvider([reader]))

def points():
    found = {{}}
    data = reader.get_metrics_data()
    for resource in data.resource_metrics if data else ():
        for scope in resource.scope_metrics:
            assert scope.scope.name == "asynctrack"
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    value = point.value if hasattr(point, "value") else point.count
                    found.setdefault(metric.name, []).append(
                        [metric.unit, dict(point.attributes), value])
    return found

chain = RunnableLambda(str.upper)
first = tracker("runs", experiment_name="one")
with first as handler:
    if not {early}:
        metrics.set_meter_provider(MeterProvider([reader]))
    chain.invoke("a", {{"callbacks": [handler]}})
    with own_work():
        LogHandler(handler).handle(logging.makeLogRecord({{"name": "shop", "levelno": 30}}))
    handler.flush()
    open_ = points()
handler.on_chain_start({{}}, {{}}, run_id=__import__("uuid").uuid4())  # too late
closed = points()
gone = weakref.ref(first)
del first, handler
gc.collect()
with tracker("runs", experiment_name="one") as handler, tracker("runs", experiment_name="b"):
    chain.invoke("a", {{"callbacks": [handler]}})
print(json.dumps([open_, closed, points(), gone() is None]))
"""


def run(folder: Path, *, early: bool) -> Any:
    """Run the program; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(early=early)],
        cwd=folder, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def test_the_counters_of_all_trackers(tmp_path: Path) -> None:
    """Sums go on when a tracker has closed, and is gone; each experiment has its own; the units
    are OpenTelemetry's."""
    opened, closed, later, gone = run(tmp_path, early=True)
    one = {"asynctrack.experiment": "one"}
    assert opened["asynctrack.events.accepted"] == [["{event}", one, 2]]
    assert opened["asynctrack.events.delivered"] == [["{event}", one, 2]]
    assert opened["asynctrack.buffer.size"] == [["By", one, 0]]
    assert opened["asynctrack.upload.duration"] == [["s", one, 1]]
    assert opened["asynctrack.upload.retries"] == [["{retry}", one, 0]]
    assert opened["asynctrack.events.pending"] == [["{event}", one, 0]]
    assert opened["asynctrack.events.spooled"] == [["{event}", one, 0]]
    assert closed["asynctrack.events.accepted"] == [["{event}", one, 2]]
    dropped = {**one, "asynctrack.reason": "own_record"}
    for found in (opened, closed, later):
        assert found["asynctrack.events.dropped"] == [["{event}", dropped, 1]]
    by_experiment = {
        point[1]["asynctrack.experiment"]: point[2] for point in later["asynctrack.events.accepted"]
    }
    assert by_experiment == {"one": 4, "b": 0}
    assert gone, "the instruments hold no tracker"


def test_a_provider_that_is_set_later(tmp_path: Path) -> None:
    """Instruments that were made before the program sets its provider are read by that one."""
    opened, *_ = run(tmp_path, early=False)
    assert opened["asynctrack.events.accepted"][0][2] == 2


def test_a_program_without_it_imports_none(tmp_path: Path) -> None:
    """Where the program has not imported OpenTelemetry, nor do we."""
    code = (
        "import sys\n"
        "from asynctrack import tracker\n"
        "from asynctrack._otlp import metrics\n"
        "with tracker('runs'): pass\n"
        "assert metrics._metrics is None and 'opentelemetry.metrics' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def test_an_instrument_that_raises_costs_nothing(tmp_path: Path) -> None:
    """A provider whose instruments raise loses the measurement, not the artifact."""
    code = (
        "import sys, types\n"
        "from asynctrack import tracker\n"
        "from langchain_core.runnables import RunnableLambda\n"
        "class Broken:\n"
        "    def record(self, *args): raise RuntimeError('no')\n"
        "class Meter:\n"
        "    def __getattr__(self, name): return lambda *args, **more: Broken()\n"
        "api = types.ModuleType('opentelemetry.metrics')\n"
        "api.get_meter = lambda name: Meter()\n"
        "sys.modules['opentelemetry.metrics'] = api\n"
        "made = tracker('runs')\n"
        "with made as handler: RunnableLambda(str).invoke(1, {'callbacks': [handler]})\n"
        "assert made.statistics().delivered == 2\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "cannot measure its uploads" in done.stderr


TRACKS = """
from langchain_core.runnables import RunnableLambda
from asynctrack import tracker

with tracker("runs", experiment_name="one") as handler:
    RunnableLambda(str.upper).invoke("a", {"callbacks": [handler]})
metrics.get_meter_provider().force_flush()
"""


def test_the_guides_example(tmp_path: Path) -> None:
    """The page's program sends our counters to a receiver."""
    with otlp_receiver() as receiver:
        subprocess.run(
            [sys.executable, "-c", block("opentelemetry", "metrics") + TRACKS],
            cwd=tmp_path, check=True, timeout=120,
            env={**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint},
        )  # fmt: skip
    accepted = {
        point.as_int
        for request in receiver.metrics
        for resource in request.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == "asynctrack.events.accepted"
        for point in metric.sum.data_points
    }
    assert accepted == {2}


def test_the_page_lists_every_instrument() -> None:
    """Each with its unit, and no other."""
    rows = re.findall(
        r"^\| (`asynctrack\..*?) \| (.*?) \| .*\|$", text("opentelemetry"), re.MULTILINE
    )
    listed: dict[str, str] = {}
    for first, second in rows:
        names, units = re.findall(r"`([^`]+)`", first), re.findall(r"`([^`]+)`", second)
        group = names[0].rpartition(".")[0]
        for at, name in enumerate(names):
            listed[group + name if name[0] == "." else name] = units[min(at, len(units) - 1)]
    made = {
        name: said[0]
        for name, said in {**metrics._SUMS, **metrics._BY_REASON, **metrics._NOW}.items()
    }
    assert listed == {**made, metrics._LATENCY: "s"}
