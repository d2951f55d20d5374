"""What a figure was measured on, and the processes that measure."""

from __future__ import annotations

import pytest

from benchmarks import _measure


def test_environment_names_versions_machine_and_revision() -> None:
    """What a figure was measured on is in every result."""
    about = _measure.environment()
    assert about["git"]
    assert about["cpus"] >= 1
    assert {"asynctrack", "langchain-core", "orjson", "zstandard"} <= set(about["versions"])


def test_failing_process_says_why() -> None:
    """A measuring process that fails shows what it wrote."""
    with pytest.raises(RuntimeError, match=r"benchmarks\._rounds failed(.|\n)*KeyError"):
        _measure.fresh_process("benchmarks._rounds", {"nothing": "of use"})
