"""What questions are, and what they are asked with."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asynctrack import RecordedRun, Trace, open_run
from tests.cli.conftest import Command
from tests.support.bot import EXPERIMENT, VERSIONS, Truth

RUNS = tuple(version.run for version in VERSIONS)


@dataclass(frozen=True)
class Played:
    """The bot's data.

    Attributes:
        place: The folder it was tracked into.
        prices: The file of prices.
        truth: What the bot has counted.
    """

    place: Path
    prices: Path
    truth: Truth


@dataclass(frozen=True)
class Asker:
    """Asks one way or the other."""

    played: Played
    command: Command

    def sql(self, statement: str) -> list[dict[str, Any]]:
        """Ask both Runs by ``asynctrack query``; return the rows."""
        return list(self.cli("query", self.played.place, statement)["rows"])

    def cli(self, name: str, *arguments: object) -> Any:
        """Return the document that a command prints."""
        printed = self.command(name, *arguments, "--json", "--prices", self.played.prices)
        assert (printed.code, printed.err) == (0, "")
        return printed.document

    def run(self, name: str) -> RecordedRun:
        """Open a Run in Python."""
        place = self.played.place / f"asynctrack/v1/experiment={EXPERIMENT}/run={name}"
        return open_run(place, prices=self.played.prices)

    def traces(self) -> Iterator[tuple[str, Trace]]:
        """Yield the traces of both Runs, each with its Run's name."""
        for name in RUNS:
            for trace in self.run(name).traces():
                yield name, trace


Ask = Callable[[Asker], Any]


@dataclass(frozen=True)
class Question:
    """A question of the day.

    Attributes:
        text: In words.
        truth: The answer, by what the bot has counted.
        ways: How to ask it: each gives the same answer.
        agrees: Whether the truth (first) and an answer agree; equal, if nothing else is said.
    """

    text: str
    truth: Callable[[Truth], Any]
    ways: Mapping[str, Ask]
    agrees: Callable[[Any, Any], bool] = operator.eq


def usd(cost: Any) -> float:
    """Return a cost so that equal ones are equal: prices are such that it has eight digits."""
    return round(float(cost), 8)
