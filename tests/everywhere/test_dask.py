"""Dask workers: each opens a tracker of its own, as the guide says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.guide.pages import block
from tests.support.auditor import audit_folder
from tests.support.trees import counted

distributed = pytest.importorskip("distributed")


def ask(number: int) -> str:
    """What a worker does: it knows of no tracker."""
    from langchain_core.runnables import RunnableLambda

    return str(RunnableLambda(str).with_config(run_name="asked").invoke(number))


def test_each_worker_tracks_what_it_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All traces are in one Run, of two writers, whole."""
    names: dict[str, Any] = {}
    exec(block("everywhere", "dask").replace('"runs"', repr(str(tmp_path / "runs"))), names)
    monkeypatch.chdir(Path(__file__).parents[2])
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=2, dashboard_address=None, silence_logs=50
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.register_plugin(names["Tracking"]())
        answers = client.gather(client.map(ask, range(20)))
        client.unregister_worker_plugin("asynctrack")
        assert counted(tmp_path / "runs") == {"asked": 20}, "delivered, whatever ends the workers"
    assert answers == [str(number) for number in range(20)]
    assert len(audit_folder(tmp_path / "runs").writers) == 2
