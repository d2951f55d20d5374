"""A whole measurement, small: real servers, a fresh process, figures that add up."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks import _measure, overhead, report, scale
from benchmarks._servers import all_servers
from benchmarks.tracers import BASE, EMPTY, INLINE, OURS, TRACERS, installed


def test_measurement_of_a_small_round_arrives_in_the_report(tmp_path: Path) -> None:
    """Every event of the rounds is delivered to S3, and the report shows what was measured."""
    plan = overhead.Plan("lcel-100", "core", (BASE, EMPTY, INLINE, OURS), 1, 2, 0.05)
    with all_servers() as servers:
        result = overhead.run(plan, servers)
    ours = result["tracers"][OURS]
    assert result["callbacks"] == 8
    assert ours["delivered"] == 1.0
    assert ours["requests"] >= 2
    # What it adds is a difference, which two small rounds on a busy machine may have below zero.
    assert ours["process_us"]["low"] <= ours["process_us"]["value"] <= ours["process_us"]["high"]
    _measure.save("overhead", {"results": [result]}, tmp_path)
    assert json.loads((tmp_path / "overhead.json").read_text())["environment"]["git"]
    written = report.write(tmp_path).read_text()
    assert "LCEL chain, 100 at a time" in written
    assert "| asynctrack |" in written
    assert "not measured" in written  # goals without a result say so


def test_scale_run_counts_requests_and_loses_nothing() -> None:
    """A thousand events arrive in a handful of requests, counted where they leave."""
    with all_servers() as servers:
        options = {"max_delay": 600.0}
        spec = {"events": 1000, "servers": dict(servers), "options": options, "s3": "ok"}
        measured = _measure.fresh_process("benchmarks.scale", spec)
    assert measured["accepted"] == measured["delivered"] == 1000
    assert 0 < measured["requests_at_end"]["PUT S3"] <= 4
    million = scale.cost_of_a_million({**measured, "events": 1_000_000})
    assert 0 < million["dollars_requests"] < million["replaced_dollars_requests"]


def test_peer_that_is_not_installed_is_named_and_not_measured() -> None:
    """What is missing says which module it misses; what needs nothing is always there."""
    assert all(installed(name) is None for name in (BASE, EMPTY, INLINE, OURS))
    for name in TRACERS:
        missing = installed(name)
        assert missing is None or isinstance(missing, str)
