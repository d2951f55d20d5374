"""Fixtures of the read path's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reading.making import RunFolder
from tests.reading.spooling import writers_die as writers_die  # for every test here


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """An empty Run in a local folder."""
    return RunFolder(tmp_path)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An index that no other test has seen."""
    monkeypatch.setenv("ASYNCTRACK_INDEX_DIR", str(tmp_path / "index"))
    return tmp_path / "index"
