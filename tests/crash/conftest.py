"""Fixtures of the crash tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.crash.nursery import Nursery, nursery
from tests.e2e.conftest import heavy_imports, make_run

__all__ = ["heavy_imports", "make_run", "nest"]  # pytest finds fixtures by their names here


@pytest.fixture(scope="session")
def nest() -> Iterator[Nursery]:
    """Where children come from that track into folders."""
    with nursery() as running:
        yield running
