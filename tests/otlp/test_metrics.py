"""Our own counters as OpenTelemetry metrics: what they say, and that nobody pays who has none."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

PROGRAM = """
import gc, json, sys, weakref
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from langchain_core.runnables import RunnableLambda
from asynctrack import tracker

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
    handler.flush()
    open_ = points()
handler.on_chain_start({{}}, {{}}, run_id=__import__("uuid").uuid4())  # too late: dropped
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
    assert closed["asynctrack.events.accepted"] == [["{event}", one, 2]]
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
