"""Something is done when a module is there, and not before."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from asynctrack._common import imported
from asynctrack._common.imported import when_imported

NAME = "asynctrack_test_of_imports"


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module that can be imported."""
    (tmp_path / f"{NAME}.py").write_text("value = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop(NAME, None)
    imported._awaited.pop(NAME, None)


def test_told_once_when_it_is_whole() -> None:
    """The module has what it defines, and its own loader; the finder is gone again."""
    told: list[int] = []
    when_imported(NAME, lambda: told.append(sys.modules[NAME].value))
    assert not told
    module = importlib.import_module(NAME)
    assert told == [1]
    assert isinstance(module.__loader__, importlib.machinery.SourceFileLoader)
    assert module.__spec__ is not None and module.__spec__.loader is module.__loader__
    assert imported._finder not in sys.meta_path
    importlib.reload(module)
    assert told == [1]


def test_told_at_once_of_what_is_there() -> None:
    """Nobody has to import it again."""
    importlib.import_module(NAME)
    told: list[int] = []
    when_imported(NAME, lambda: told.append(1))
    assert told == [1]


def test_others_are_found_as_ever() -> None:
    """Also what is not there."""
    when_imported(NAME, lambda: None)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(f"{NAME}_that_is_not_there")
    assert importlib.import_module("colorsys").rgb_to_hsv(0, 0, 0) == (0, 0, 0)
