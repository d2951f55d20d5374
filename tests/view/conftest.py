"""Fixtures of the viewer's tests: a browser, and viewers to look at."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome

from asynctrack._common.outcome import OUTCOMES, Outcome
from tests.reading.spooling import writers_die as writers_die  # for every test here
from tests.view import demo, endings
from tests.view.browser import chromium, missing_browser
from tests.view.serving import Viewer, viewer


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    """A Chromium for the tests of one file; without one they are skipped, and fail in CI."""
    missing = missing_browser()
    if missing is not None:
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(missing)
        pytest.skip(missing)
    with chromium() as driver:
        yield driver


@pytest.fixture(scope="session")
def demo_place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the demo, its prices beside it."""
    place = tmp_path_factory.mktemp("demo")
    demo.make(place / "runs")
    (place / "prices.json").write_text(json.dumps(demo.PRICES))
    return place


@pytest.fixture(scope="session")
def endings_place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of Runs whose traces end in every way: a real one, and some by hand."""
    place = tmp_path_factory.mktemp("endings")
    endings.make(place)
    each: dict[Outcome, int] = {name: n + 2 for n, name in enumerate(OUTCOMES)}
    endings.one_each(place, "each", each, recovered=3)
    endings.one_each(place, "fewer", {"ok": 500, "error": 4})
    endings.torn(place)
    return place


@pytest.fixture(scope="module")
def demo_viewer(demo_place: Path) -> Iterator[Viewer]:
    """A viewer of the demo."""
    options = ("--prices", str(demo_place / "prices.json"), "--no-spool")
    with viewer(demo_place / "runs", *options) as served:
        yield served
