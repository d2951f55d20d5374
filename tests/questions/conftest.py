"""Fixtures of the questions: the bot's data, and who asks."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from asynctrack.testing import end_engine
from tests.cli.conftest import Command
from tests.cli.conftest import command as command
from tests.questions.asking import Asker, Played, Site
from tests.support.bot import PRICES, play
from tests.view.serving import viewer


@pytest.fixture(scope="session")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """The bot's data at a tenth of its size: some 3,300 events."""
    place = tmp_path_factory.mktemp("bot")
    prices = place / "prices.json"
    prices.write_text(json.dumps(PRICES))
    truth = play(place / "runs", scale=0.1, spool_dir=place / "spool", close_timeout=120.0)
    end_engine(10.0)
    return Played(place / "runs", prices, truth)


@pytest.fixture(scope="session")
def site(played: Played) -> Iterator[Site]:
    """The pages of a viewer that has read all of it."""
    with viewer(played.place, "--prices", str(played.prices), "--no-spool") as served:
        found = Site(served)
        deadline = time.monotonic() + 120
        while (state := found("state"))["reading"] or state["runs"] != 2:
            assert time.monotonic() < deadline, state
            time.sleep(0.05)
        yield found


@pytest.fixture
def asker(played: Played, command: Command, site: Site) -> Asker:
    """Asks the bot's data."""
    return Asker(played, command, site)
