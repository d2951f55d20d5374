"""Brings what the index holds of one Run up to date: new artifacts become pieces."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from typing import Final

from asynctrack._reading.decoding.events import Event
from asynctrack._reading.index.carry import read_snapshot, write_snapshot
from asynctrack._reading.index.catalog import (
    Layer,
    PieceFile,
    RunFolder,
    State,
    with_layer,
)
from asynctrack._reading.index.columns import Row, event_row, feedback_row, rows_of
from asynctrack._reading.index.merge import merge
from asynctrack._reading.index.news import Covered, News
from asynctrack._reading.index.pieces import Piece
from asynctrack._reading.index.place import unwritable
from asynctrack._reading.sources.listing import Listing
from asynctrack._reading.sources.locate import Found
from asynctrack._reading.sources.manifests import Problem, Report
from asynctrack._reading.sources.ranges import subtract, union
from asynctrack._reading.sources.spool import Spool
from asynctrack._reading.trees.build import LINGER, Snapshot, TraceBuilder
from asynctrack._reading.trees.trace import Trace

TRACES: Final = "traces"
"""The layer of the tables ``traces``, ``spans`` and ``feedback``."""
EVENTS: Final = "events"
"""That of the table ``events``."""
SAVED: Final = 1_000_000
"""Events after which what was read is saved: a build that is interrupted goes on from there."""
TOLD: Final = 2_000
"""Events after which ``fill`` says how far it is."""

Emit = Callable[[str, Sequence[Row], int], None]
"""Takes rows of a table, and about how many characters they hold."""


class Filler:
    """One Run on its way into one layer of the index.

    Args:
        folder: Its folder in the index.
        found: Where the Run is.
        layer: ``traces`` or ``events``.
        spool: This machine's spool; empty reads delivered events only.
        report: Told of what cannot be read.
        set_aside: Set artifacts aside whose checksum differs, instead of raising.
        clock: Monotonic, in seconds.

    Attributes:
        expected: How many events there will be, once ``fill`` is done.
    """

    def __init__(
        self,
        folder: RunFolder,
        found: Found,
        layer: str,
        spool: Spool,
        report: Report,
        *,
        set_aside: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._found = found
        self._name = layer
        self._spool = spool
        self._tell = report
        self._set_aside = set_aside
        self._clock = clock
        first = found.locations[0]
        self._of = (first.experiment, first.run)
        self._problems: list[Problem] = []
        self.expected = 0
        self._snapshot: Snapshot | None = None
        self._builder: TraceBuilder | None = None
        self._half_read = False
        self._open(folder.state())

    @property
    def state(self) -> State:
        """What the index holds of the Run."""
        return self._state

    @property
    def events(self) -> int:
        """How many events are in it."""
        return self._layer.events

    @property
    def news(self) -> News:
        """What reads the Run; goes on after what is in the index."""
        return self._news

    @property
    def builder(self) -> TraceBuilder:
        """The traces that go on."""
        if self._builder is None:
            self._builder = TraceBuilder(LINGER, self._snapshot)
            self._snapshot = None
        return self._builder

    def fill(self, *, wait: bool = True) -> Generator[int, None, bool]:
        """Read what is new and delivered, and write it; yields how many events were read, as it
        goes on, first 0 where there are any; and returns whether it is done: another process may
        do the same.

        Args:
            wait: Wait for the other process.

        Raises:
            ChecksumError: An artifact is not what its manifest lists, and ``set_aside`` is False.
            ReadError: A folder cannot be read, or the index cannot be written.
            BackendError: S3 said no.
        """
        if self._half_read:  # what was read then is not written
            self._open(self._folder.state())
        self._news.scan()
        look = self._news.choose(math.inf, spooled=False)
        self.expected = self._layer.events + look.events
        if not look.events and not self._is_stale():
            return True
        yield 0
        with self._folder.changing(wait=wait) as held:
            if not held:
                return False
            self._open(self._folder.state())
            self._news.scan()
            if self._is_stale():
                self._open_anew(replace(self._state, layers={}))
            while self._news.choose(math.inf, spooled=False).events:
                self._half_read = True
                try:
                    yield from self._fill()
                    self._half_read = False
                except _LateError:
                    self._open_anew(with_layer(self._state, self._name, Layer()))
                except OSError as error:
                    raise unwritable(self._folder.path, error) from error
            self._merge()
        return True

    def rest(self, emit: Emit) -> int:
        """Read what is left, and give it as rows: what goes on, and what is not delivered.

        Returns:
            How many events were read that are not in the index.
        """
        look = self._news.choose(0.0)
        emitted = _Emitted(emit)
        count = 0
        if look.events:
            with closing(self._news.events()) as events:
                for event in events:
                    count += 1
                    self._take(event, emitted.add)
        if self._name == TRACES and (look.events or self._layer.carried is not None):
            for trace in self.builder.rest():
                self._put(trace, emitted.add)
        emitted.close()
        return count

    # -- inside -------------------------------------------------------------------------------

    def _open_anew(self, state: State) -> None:
        """Begin with a state in which nothing of the Run is read."""
        self._open(state)
        self._news.scan()
        self.expected = self._news.choose(math.inf, spooled=False).events

    def _open(self, state: State) -> None:
        self._half_read = False
        self._state = state
        self._layer = state.layers.get(self._name) or Layer()
        self._snapshot = None
        self._builder = None
        if self._layer.carried is not None:
            try:
                self._snapshot = read_snapshot(self._folder.path / self._layer.carried)
            except (OSError, ValueError, KeyError, TypeError):
                self._state = with_layer(state, self._name, Layer())
                self._layer = Layer()
        for problem in self._layer.problems:
            self._tell(problem)
        self._news = News(
            self._found,
            self._spool,
            self._report,
            self._clock,
            covered=self._layer.covered,
            set_aside=self._set_aside,
        )

    def _report(self, problem: Problem) -> None:
        self._problems.append(problem)
        self._tell(problem)

    def _is_stale(self) -> bool:
        """Return whether what was read is not what is there: the Run was made anew, say."""
        return is_stale(self._layer, self._news.listing)

    def _fill(self) -> Iterator[int]:
        pieces = _Pieces(self._folder, self._state.files)
        told = count = 0
        read = self._layer.covered.ranges
        begun = {writer_id: ranges[-1][1] for writer_id, ranges in read.items() if ranges}
        try:
            with closing(self._news.events()) as events, _without_collections():
                for event in events:
                    count += 1
                    if event.seq < begun.pop(event.writer_id, 0) and self._name == TRACES:
                        raise _LateError
                    self._take(event, pieces.add)
                    if count - told == TOLD:
                        told = count
                        yield TOLD
                    if count == SAVED:
                        break
            if self._name == TRACES:
                for trace in self.builder.rest(self._ended()):
                    self._put(trace, pieces.add)
        finally:
            written = pieces.close()
        self._save(written, pieces.files, count)
        yield count - told

    def _ended(self) -> set[str]:
        """Return the writers of which nothing more comes."""
        covered = self._news.covered.ranges
        return {
            writer.writer_id
            for writer in self._news.listing.writers
            if writer.state == "closed"
            # What waits in a spool, or was refused, may be delivered yet.
            and not subtract([(1, writer.accepted)], covered.get(writer.writer_id, []))
        }

    def _save(self, written: list[PieceFile], files: int, count: int) -> None:
        carried = None
        if self._name == TRACES:
            snapshot = self.builder.snapshot()
            if snapshot.events or snapshot.waiting:
                files += 1
                carried = f"{files}-open.jsonl.zst"
                write_snapshot(self._folder.path / carried, snapshot)
        covered = self._news.covered
        # What cannot be read now may be there the next time; a damaged line stays damaged.
        lines = [one for one in self._problems if one.line is not None]
        known = {one.object for one in lines}
        layer = Layer(
            covered=Covered(covered.ranges, covered.artifacts & known),
            checksums=_checksums(self._news.listing, covered),
            pieces=(*self._layer.pieces, *written),
            problems=tuple(dict.fromkeys((*self._layer.problems, *lines))),
            events=self._layer.events + count,
            carried=carried,
        )
        self._state = replace(with_layer(self._state, self._name, layer), files=files)
        self._layer = layer
        self._folder.save(self._state)

    def _merge(self) -> None:
        """Write small pieces as one; where that cannot be, there are more of them for now."""
        files = self._state.files

        def new_name(table: str) -> str:
            nonlocal files
            files += 1
            return f"{files}-{table}.parquet"

        with suppress(OSError, ValueError):  # pyarrow's errors are one or the other
            layer = merge(self._folder.path, self._layer, new_name)
            if layer is not self._layer:
                state = replace(with_layer(self._state, self._name, layer), files=files)
                self._folder.save(state)
                self._state, self._layer = state, layer

    def _take(self, event: Event, add: Emit) -> None:
        if self._name == EVENTS:
            add(EVENTS, [event_row(self._of, event)], event.size)
            return
        if event.event == "feedback":
            add("feedback", [feedback_row(self._of, event)], event.size)
        for trace in self.builder.add(event):
            self._put(trace, add)

    def _put(self, trace: Trace, add: Emit) -> None:
        self._state = replace(self._state, traces=self._state.traces + 1)
        number = self._state.number(self._state.traces)
        row, spans = rows_of(self._of, self._state.run, number, trace)
        size = len(row[-1])  # its words
        add("traces", [row], size)
        add("spans", spans, 4 * size)


class _LateError(Exception):
    """An event comes that belongs before those that are read: their traces may be others."""


def is_stale(layer: Layer, listing: Listing) -> bool:
    """Return whether what was read is not what is there: other bytes, or not there any more."""
    for artifacts in listing.artifacts.values():
        for one in artifacts:
            if one.sha256 is not None and layer.checksums.get(one.uri, one.sha256) != one.sha256:
                return True
    for writer_id, ranges in layer.covered.ranges.items():
        there = union(
            (one.place.first_seq, one.place.last_seq)
            for one in listing.artifacts.get(writer_id, ())
        )
        if subtract(list(ranges), there):
            return True
    return False


def _checksums(listing: Listing, covered: Covered) -> dict[str, str]:
    found = {}
    for writer_id, artifacts in listing.artifacts.items():
        ranges = covered.ranges.get(writer_id)
        if ranges:
            for one in artifacts:
                read = one.uri in covered.artifacts or not subtract(
                    [(one.place.first_seq, one.place.last_seq)], list(ranges)
                )
                if one.sha256 is not None and read:
                    found[one.uri] = one.sha256
    return found


class _Pieces:
    """The files that are being written, by table."""

    def __init__(self, folder: RunFolder, files: int) -> None:
        self._folder = folder
        self._open: dict[str, tuple[str, Piece]] = {}
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="asynctrack-index")
        self.files = files

    def add(self, table: str, rows: Sequence[Row], characters: int) -> None:
        if table not in self._open:
            self.files += 1
            name = f"{self.files}-{table}.parquet"
            self._open[table] = name, Piece(self._folder.path / name, table, self._pool)
        self._open[table][1].add(rows, characters)

    def close(self) -> list[PieceFile]:
        try:
            return [
                PieceFile(name, table, piece.rows, piece.bytes)
                for table, (name, piece) in self._open.items()
                if piece.close()
            ]
        finally:
            self._pool.shutdown()


class _Emitted:
    """Gathers rows, so that they are given a few thousand at a time."""

    def __init__(self, emit: Emit, rows: int = TOLD) -> None:
        self._emit = emit
        self._rows = rows
        self._held: dict[str, list[Row]] = {}

    def add(self, table: str, rows: Sequence[Row], _: int) -> None:
        held = self._held.setdefault(table, [])
        held.extend(rows)
        if len(held) >= self._rows:
            self._give(table)

    def close(self) -> None:
        for table in list(self._held):
            self._give(table)

    def _give(self, table: str) -> None:
        rows = self._held.pop(table)
        if rows:
            self._emit(table, rows, 0)


@contextmanager
def _without_collections() -> Iterator[None]:
    """Let the garbage collector look less often: rows come and go by the thousand, and full
    collections would scan them for nothing."""
    before = gc.get_threshold()
    gc.set_threshold(50_000, 20, 50)
    try:
        yield
    finally:
        gc.set_threshold(*before)
