"""The benchmark of reading back asks what it says, and gets the same answer from everybody."""

from __future__ import annotations

from pathlib import Path

from benchmarks import readback
from benchmarks.generate import generate


def test_all_questions_agree(tmp_path: Path) -> None:
    """Every way of reading finds the same events, spans and model calls."""
    events = generate(tmp_path / "runs", 1_500, runs=2, days=2, batch_events=400)
    folder = tmp_path / "runs"
    found = {name: readback.ask(name, folder) for name in readback.QUESTIONS if name != "dask"}
    for name in ("events", "verify", "compact", "compact_events"):
        assert found[name]["rows"] == events, name
    assert len({found[name]["spans"] for name in ("traces", "to_duckdb", "export")}) == 1
    assert len({found[name]["calls"] for name in ("duckdb", "compact_duckdb")}) == 1
    assert all(one["seconds"] > 0 and one["peak_bytes"] > 10_000_000 for one in found.values())
