"""The benchmark of questions asks them of the command line, with an index of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import questions
from benchmarks.generate import generate


def test_every_question_is_answered(tmp_path: Path) -> None:
    """Each has a time, and the index that was made for it is gone afterwards."""
    events = generate(tmp_path, 600, runs=2)
    result = questions.measure(tmp_path, phrase="fish", times=1)
    assert result["events"] == events
    assert result["index_bytes"] > 10_000
    assert result["first"]["seconds"] > 0
    assert set(result["next"]) == set(questions.questions("", "", ""))
    assert all(one["peak_bytes"] > 10_000_000 for one in result["next"].values())
    assert f"{events:,} events" in questions.text(result)
    assert f"| {events:,} events |" in questions.markdown([result])
    assert [path.name for path in tmp_path.iterdir()] == ["asynctrack"]


def test_a_question_that_fails_is_no_answer(tmp_path: Path) -> None:
    """What is not there has no time."""
    with pytest.raises(RuntimeError, match="there is no folder"):
        questions.ask(["show", str(tmp_path / "nothing")], {})
