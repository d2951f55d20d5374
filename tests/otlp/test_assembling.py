"""Artifacts to traces that have ended: in order, whatever order they come in; the clock is ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda

from asynctrack import tracker
from asynctrack._common.artifact import Artifact
from asynctrack._format import parse_artifact_name
from asynctrack._otlp.assembling import GAP, GRACE, Assembling


@pytest.fixture
def artifacts(tmp_path: Path) -> list[Artifact]:
    """A trace of six spans in several artifacts."""

    def many(text: str, config: Any) -> str:
        for _ in range(5):
            RunnableLambda(lambda given: given, name="inner").invoke(text, config)
        return "done"

    with tracker(tmp_path, max_batch_events=3, upload_concurrency=1) as handler:
        RunnableLambda(many).invoke("long " * 2_000, {"callbacks": [handler]})
    found = []
    for path in sorted(tmp_path.rglob("*.jsonl.zst")):
        place = parse_artifact_name(f"{path.parent.name}/{path.name}")
        assert place is not None
        found.append(
            Artifact(path.name, path.read_bytes(), 0, "", place.first_seq, place.last_seq, 0)
        )
    assert len(found) >= 3
    return found


def writer(artifact: Artifact) -> str:
    """Whose it is."""
    return artifact.name.partition("-")[0]


def test_any_order(artifacts: list[Artifact]) -> None:
    """Artifacts that come last first make the same whole trace; it waits for what comes late."""
    assembling = Assembling(writer(artifacts[0]))
    assert [one for artifact in reversed(artifacts) for one in assembling.take(artifact, 0.0)] == []
    assert assembling.wait(0.0) == GRACE
    assert list(assembling.due(GRACE - 0.1)) == []
    (trace,) = assembling.due(GRACE)
    assert trace.complete and sum(1 for _ in trace.walk()) == 6


def test_what_never_comes(artifacts: list[Artifact]) -> None:
    """Events wait some seconds for those before them, and go on without; or at once at the end."""
    assembling = Assembling(writer(artifacts[0]))
    for artifact in artifacts[1:]:
        assert list(assembling.take(artifact, 0.0)) == []
    assert assembling.wait(0.0) == GAP
    assert list(assembling.due(GAP)) == []
    (trace,) = assembling.rest(GAP)
    assert not trace.complete and assembling.through == artifacts[-1].last_seq
