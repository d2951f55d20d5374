"""Fixtures of the questions: the bot's data, and who asks."""

from __future__ import annotations

import json

import pytest

from asynctrack.testing import end_engine
from tests.cli.conftest import Command
from tests.cli.conftest import command as command
from tests.questions.asking import Asker, Played
from tests.support.bot import PRICES, play


@pytest.fixture(scope="session")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """The bot's data at a tenth of its size: some 3,300 events."""
    place = tmp_path_factory.mktemp("bot")
    prices = place / "prices.json"
    prices.write_text(json.dumps(PRICES))
    truth = play(place / "runs", scale=0.1, spool_dir=place / "spool", close_timeout=120.0)
    end_engine(10.0)
    return Played(place / "runs", prices, truth)


@pytest.fixture
def asker(played: Played, command: Command) -> Asker:
    """Asks the bot's data."""
    return Asker(played, command)
