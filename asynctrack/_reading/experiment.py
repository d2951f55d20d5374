"""``open_experiment``: all Runs of an experiment, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, Final

from asynctrack._backends.s3_read import Access
from asynctrack._common.markup import one_line, table_html
from asynctrack._common.nearest import did_you_mean
from asynctrack._errors import AsynctrackError, OptionError
from asynctrack._reading.merging.fetch import AHEAD
from asynctrack._reading.overview import COLUMNS, overview_row
from asynctrack._reading.run import Damaged, RecordedRun
from asynctrack._reading.sources.locate import Found, Place, locate_experiment, resolve_s3_options
from asynctrack._reading.sources.spool import GivenSpool, Spool, this_spool
from asynctrack._reading.sources.stores import bullets, spellings
from asynctrack._reading.threads import in_thread
from asynctrack._reading.trees.prices import GivenPrices, Prices, read_prices
from asynctrack._reading.trees.summary import RunSummary

SHOWN: Final = 20
"""Runs that a notebook shows."""
AT_A_TIME: Final = 8
"""Runs that are looked at at a time."""


class RecordedExperiment:
    """An experiment that was tracked. Made by ``open_experiment``.

    Args:
        name: The experiment's name.
        found: Its Runs.
        damaged: As for ``open_run``.
        concurrency: As for ``open_run``.
        spool: This machine's spool; empty reads delivered events only.
        prices: What models cost.
    """

    def __init__(
        self,
        name: str,
        found: list[Found],
        *,
        damaged: Damaged = "raise",
        concurrency: int = AHEAD,
        spool: Spool = (),
        prices: Prices | None = None,
    ) -> None:
        self.name = name
        self.runs = tuple(
            RecordedRun(
                one,
                damaged=damaged,
                concurrency=concurrency,
                spool=spool,
                prices=prices,
            )
            for one in found
        )

    def __repr__(self) -> str:
        return f"<RecordedExperiment {self._title}>"

    @property
    def _title(self) -> str:
        count = len(self.runs)
        return f"{one_line(self.name)}: {count:,} run{'' if count == 1 else 's'}"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: its Runs at a glance, the first 20. Blocks: it reads their
        manifests, and no events."""
        with ThreadPoolExecutor(AT_A_TIME, thread_name_prefix="asynctrack-repr") as pool:
            rows = [*pool.map(_row, self.runs[:SHOWN])]
        note = "From manifests, as of their writers' last update; .summaries reads all events."
        if len(self.runs) > SHOWN:
            note = f"… and {len(self.runs) - SHOWN:,} more: .runs has all. {note}"
        return table_html(f"Experiment {self._title}", COLUMNS, rows, note)

    def __iter__(self) -> Iterator[RecordedRun]:
        return iter(self.runs)

    def __len__(self) -> int:
        return len(self.runs)

    def __getitem__(self, name: str) -> RecordedRun:
        """Return a Run by its name.

        Raises:
            KeyError: There is none, or more than one; the text lists them.
        """
        named: list[RecordedRun] = []
        for (one,) in spellings(name):
            named = named or [run for run in self.runs if run.name == one]
        if len(named) != 1:
            there = bullets([run.uris[0] for run in named or self.runs])
            near = "" if named else did_you_mean(name, (run.name for run in self.runs))
            raise KeyError(f"{len(named)} runs are called {name!r}{near and f'; {near}'}:{there}")
        return named[0]

    @cached_property
    def summaries(self) -> tuple[RunSummary, ...]:
        """Each Run in numbers. Reads all events of all Runs, once.

        Raises:
            ChecksumError: As ``RecordedRun.events``.
            ReadError: As ``RecordedRun.events``.
            BackendError: As ``RecordedRun.events``.
        """
        return tuple(run.summary() for run in self.runs)

    async def asummaries(self) -> tuple[RunSummary, ...]:
        """Return ``summaries``, from async code; the property blocks for nothing after it."""
        return await in_thread(lambda: self.summaries)

    async def ato_pandas(self) -> Any:
        """Return what ``to_pandas`` does, from async code."""
        return await in_thread(self.to_pandas)

    def to_pandas(self) -> Any:
        """Return a ``pandas.DataFrame`` with a row for each Run. Needs ``asynctrack[read]``.

        Parameters, last values of metrics, percentiles of latency (seconds) and tokens, errors;
        ``cost`` in USD where prices were given.
        """
        from asynctrack._reading.tables import span_table

        rows = [summary.row() for summary in self.summaries]
        return span_table.rows_to_pandas("experiment.to_pandas()", rows)


def open_experiment(
    source: Place,
    *,
    root: Place | None = None,
    damaged: Damaged = "raise",
    concurrency: int = AHEAD,
    spool_dir: GivenSpool = True,
    prices: GivenPrices = None,
    endpoint_url: str | None = None,
    profile: str | None = None,
    region: str | None = None,
    session: Any = None,
    s3_options: Mapping[str, Any] | None = None,
) -> RecordedExperiment:
    """Open all tracked Runs of an experiment. Blocks: it looks where they are.

    Args:
        source: The experiment's name, or the ``s3://`` address or folder of it, or of any one
            above that holds no other experiment.
        root: With a name: the ``s3://`` address or folder to look below; None asks SageMaker.
        damaged: As for ``open_run``.
        concurrency: As for ``open_run``.
        spool_dir: As for ``open_run``.
        prices: As for ``open_run``.
        endpoint_url: As for ``open_run``.
        profile: As for ``open_run``.
        region: As for ``open_run``.
        session: As for ``open_run``.
        s3_options: As for ``open_run``.

    Raises:
        NotFoundError: There is none.
        SeveralRunsError: There are several experiments; the text lists them.
        OptionError: An option is not allowed.
        ReadError: A folder cannot be read.
        BackendError: AWS said no, or could not be reached in several attempts.
    """
    if damaged not in ("raise", "set_aside"):
        raise OptionError("damaged", damaged, "'raise' or 'set_aside'")
    access = Access(
        endpoint_url, profile, region, session, s3_options=resolve_s3_options(s3_options)
    )
    spool = this_spool(spool_dir)
    known_prices = read_prices(prices)
    name, found = locate_experiment(source, root, access, spool)
    return RecordedExperiment(
        name,
        found,
        damaged=damaged,
        concurrency=concurrency,
        spool=spool,
        prices=known_prices,
    )


def _row(run: RecordedRun) -> list[str]:
    try:
        return overview_row(run._overview())
    except AsynctrackError as error:
        return [run.name, f"cannot be read: {error}"]


async def aopen_experiment(source: Place, **options: Any) -> RecordedExperiment:
    """Open an experiment from async code: ``open_experiment`` in a thread, with its arguments."""
    return await in_thread(lambda: open_experiment(source, **options))
