"""Reads what ``show`` shows of a Run: from the index, or trace by trace where DuckDB is missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ._progress import progress

if TYPE_CHECKING:
    from asynctrack._common.period import Period
    from asynctrack._reading.answers.components import Component
    from asynctrack._reading.answers.numbers import Remarkable
    from asynctrack._reading.run import RecordedRun
    from asynctrack._reading.trees.prices import Prices
    from asynctrack._reading.trees.summary import RunSummary


_ASKED_BY: Final = "The table by tool, model, retriever and chain"


@dataclass(frozen=True, slots=True)
class ReadRun:
    """What is shown of a Run.

    Attributes:
        summary: Its numbers.
        remarkable: Its traces worth a look.
        components: Its components; None where what they need is not installed.
        events: How many events the Run has, at any time.
        lacking: What is not installed, in words.
    """

    summary: RunSummary
    remarkable: Remarkable
    components: tuple[Component, ...] | None
    events: int
    lacking: str = ""


def read_run(recorded: RecordedRun, top: int, prices: Prices | None, period: Period) -> ReadRun:
    """Read a Run. Blocks.

    Args:
        recorded: The Run.
        top: How many traces of each kind.
        prices: What models cost.
        period: Traces that started then.

    Raises:
        AsynctrackError: It cannot be read.
    """
    from asynctrack._errors import MissingExtraError

    try:
        return _indexed(recorded, top, prices, period)
    except MissingExtraError as error:
        lacking = str(error)
    # Where it is reading from S3 that lacks a package, this raises the same.
    return _folded(recorded, top, prices, period, f"{lacking[0].upper()}{lacking[1:]}")


def _indexed(recorded: RecordedRun, top: int, prices: Prices | None, period: Period) -> ReadRun:
    from asynctrack._reading.answers.components import components
    from asynctrack._reading.answers.numbers import numbers, remarkable
    from asynctrack._reading.index.tables import open_tables

    with (
        progress("reading") as advance,
        open_tables(
            [recorded], ("spans", "traces"), asked_by=_ASKED_BY, period=period, progress=advance
        ) as tables,
    ):
        return ReadRun(
            numbers(tables, recorded, prices),
            remarkable(tables, top),
            components(tables),
            tables.read.total(),
        )


def _folded(
    recorded: RecordedRun, top: int, prices: Prices | None, period: Period, lacking: str
) -> ReadRun:
    from asynctrack._reading.trees.summary import summarize

    from ._folded import Watched, expected_events, traces_with_progress

    watched = Watched(top)
    events = 0
    with progress("reading", expected_events(recorded)) as advance:

        def count(more: int) -> None:
            nonlocal events
            events += more
            advance(more)

        found = traces_with_progress(recorded, count)
        traces = watched.watch(one for one in found if period.holds(one.start_unix_nano))
        summary = summarize(recorded, traces=traces, prices=prices)
    return ReadRun(summary, watched.remarkable, None, events, lacking)
