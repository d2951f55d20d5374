"""What questions are, and what they are asked with."""

from __future__ import annotations

import http.client
import json
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pandas

from asynctrack import RecordedRun, Trace, open_run
from tests.cli.conftest import Command
from tests.questions.stored import StoredRun
from tests.support.bot import EXPERIMENT, VERSIONS, Truth
from tests.view.serving import Viewer

RUNS = tuple(version.run for version in VERSIONS)
OLDER, NEWER = RUNS


@dataclass(frozen=True)
class Played:
    """The bot's data.

    Attributes:
        place: The folder it was tracked into.
        prices: The file of prices.
        truth: What the bot has counted.
        printed: What commands have printed: none of them changes anything.
    """

    place: Path
    prices: Path
    truth: Truth
    printed: dict[tuple[str, ...], str] = field(default_factory=dict)

    def folder(self, run: str) -> Path:
        """Return the folder of a Run."""
        return self.place / f"asynctrack/v1/experiment={EXPERIMENT}/run={run}"

    @cached_property
    def stored(self) -> Mapping[str, StoredRun]:
        """What lies in the folders, by the Runs' names."""
        return {run: StoredRun(self.place, run) for run in RUNS}

    @cached_property
    def traces(self) -> Mapping[str, tuple[Trace, ...]]:
        """The traces as Python reads them, by the Runs' names."""
        return {name: tuple(self.run(name).traces()) for name in RUNS}

    @cached_property
    def frames(self) -> Mapping[str, pandas.DataFrame]:
        """The spans as pandas has them, by the Runs' names."""
        return {name: self.run(name).to_pandas() for name in RUNS}

    def run(self, name: str) -> RecordedRun:
        """Open a Run in Python."""
        return open_run(self.folder(name), prices=self.prices)


class Site:
    """The pages of a viewer, asked as a browser asks.

    Args:
        viewer: The viewer.
    """

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        _, headers = self._get(f"{viewer.place}?{viewer.url.partition('?')[2]}")
        self._cookie = headers["set-cookie"].partition(";")[0]

    def __call__(self, name: str, **asked: Any) -> Any:
        """Return what a page gets to show."""
        given = {key: value for key, value in asked.items() if value is not None}
        body, _ = self._get(f"{self._viewer.place}api/{name}?{urlencode(given)}", self._cookie)
        return json.loads(body)

    def _get(self, path: str, cookie: str = "") -> tuple[bytes, Mapping[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self._viewer.port, timeout=60)
        try:
            connection.request("GET", path, headers={"cookie": cookie})
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status in (200, 303), (path, answer.status, body)
            return body, {name.lower(): value for name, value in answer.getheaders()}
        finally:
            connection.close()

    @cached_property
    def runs(self) -> Mapping[str, str]:
        """What the pages call the Runs, by name."""
        return {run["name"]: run["id"] for run in self("home")["runs"]}


@dataclass(frozen=True)
class Asker:
    """Asks one way or the other."""

    played: Played
    command: Command
    site: Site

    def sql(self, statement: str, *arguments: object) -> list[dict[str, Any]]:
        """Ask both Runs by ``asynctrack query``; return the rows."""
        return list(self.cli("query", self.played.place, statement, *arguments)["rows"])

    def cli(self, name: str, *arguments: object) -> Any:
        """Return the document that a command prints."""
        return json.loads(self.text(name, *arguments, "--json"))

    def text(self, name: str, *arguments: object) -> str:
        """Return the text that a command prints."""
        prices = () if name == "search" else ("--prices", self.played.prices)
        asked = (name, *map(str, arguments))
        if asked not in self.played.printed:
            printed = self.command(name, *arguments, *prices)
            assert (printed.code, printed.err) == (0, "")
            self.played.printed[asked] = printed.out
        return self.played.printed[asked]

    def show(self, run: str, *arguments: object) -> Any:
        """Return what ``asynctrack show`` prints of a Run."""
        return self.cli("show", self.played.folder(run), *arguments)

    def diff(self, *arguments: object) -> Any:
        """Return what ``asynctrack diff`` prints of both Runs."""
        return self.cli("diff", *map(self.played.folder, RUNS), *arguments)

    def compared(self) -> Any:
        """Return what the viewer's page that compares both Runs shows."""
        return self.site("compare", a=self.site.runs[OLDER], b=self.site.runs[NEWER])

    def page(self, name: str, run: str, **asked: Any) -> Any:
        """Return what a page of the viewer shows of a Run."""
        return self.site(name, run=self.site.runs[run], **asked)

    def pages(self, what: str, name: str, run: str, **asked: Any) -> Iterator[Any]:
        """Yield what all pages of a list in the viewer show of a Run, one after the other."""
        for page in range(100):
            found = self.page(name, run, page=page, **asked)
            yield from found[what]
            if not (found["more"] if "more" in found else page + 1 < found["pages"]):
                return

    def traces(self) -> Iterator[tuple[str, Trace]]:
        """Yield the traces of both Runs, each with its Run's name."""
        for name in RUNS:
            for trace in self.played.traces[name]:
                yield name, trace


Ask = Callable[[Asker], Any]


@dataclass(frozen=True)
class Question:
    """A question of the day.

    Attributes:
        text: In words.
        truth: The answer, by what the bot has counted, or what is stored.
        ways: How to ask it: each gives the same answer.
        agrees: Whether the truth (first) and an answer agree; equal, if nothing else is said.
    """

    text: str
    truth: Callable[[Played], Any]
    ways: Mapping[str, Ask]
    agrees: Callable[[Any, Any], bool] = operator.eq


def usd(cost: Any) -> float:
    """Return a cost so that equal ones are equal: prices are such that it has eight digits."""
    return round(float(cost or 0), 8)


def near(truth: Any, answer: Any) -> bool:
    """Tell whether times are the same to the microsecond, and all else is equal."""
    if isinstance(truth, float) and isinstance(answer, (int, float)):
        return math.isclose(truth, answer, abs_tol=2e-6)
    if isinstance(truth, dict) and isinstance(answer, dict):
        return truth.keys() == answer.keys() and all(near(truth[key], answer[key]) for key in truth)
    if isinstance(truth, (tuple, list)) and isinstance(answer, (tuple, list)):
        return len(truth) == len(answer) and all(map(near, truth, answer))
    return bool(truth == answer)


def rows_of(text: str) -> Iterable[tuple[str, ...]]:
    """Yield the cells of each line that a command has printed; columns are two spaces apart."""
    for line in text.splitlines():
        yield tuple(cell.strip() for cell in line.split("  ") if cell.strip())
