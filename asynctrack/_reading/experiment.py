"""``open_experiment``: all Runs of an experiment, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from asynctrack._backends.s3_read import Access
from asynctrack._errors import OptionError
from asynctrack._reading.merging.fetch import AHEAD
from asynctrack._reading.run import Damaged, RecordedRun
from asynctrack._reading.sources.locate import Found, Place, locate_experiment, resolve_s3_options
from asynctrack._reading.sources.spool import GivenSpool, Spool, this_spool
from asynctrack._reading.sources.stores import bullets, spellings
from asynctrack._reading.threads import in_thread
from asynctrack._reading.trees.prices import GivenPrices, Prices, read_prices
from asynctrack._reading.trees.summary import RunSummary


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
        return f"RecordedExperiment({self.name!r}, {len(self.runs)} runs)"

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
            raise KeyError(f"{len(named)} runs are called {name!r}:{there}")
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


async def aopen_experiment(source: Place, **options: Any) -> RecordedExperiment:
    """Open an experiment from async code: ``open_experiment`` in a thread, with its arguments."""
    return await in_thread(lambda: open_experiment(source, **options))
