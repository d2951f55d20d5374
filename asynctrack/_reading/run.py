"""``open_run``: a Run read back from S3 or a folder, in order, and checked."""

from __future__ import annotations

import logging
import time
from collections.abc import (
    AsyncIterator,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final, Literal
from uuid import UUID

from asynctrack._backends.s3_read import Access
from asynctrack._common.feedback import EVENT, feedback_record, run_id_text
from asynctrack._common.markup import facts_html, one_line
from asynctrack._common.moments import Moment
from asynctrack._errors import AsynctrackError, NotFoundError, OptionError
from asynctrack._reading.decoding.events import Event
from asynctrack._reading.decoding.feedback import Feedback, feedback_of
from asynctrack._reading.merging.fetch import AHEAD, Fetcher
from asynctrack._reading.merging.merge import merged_events
from asynctrack._reading.overview import RunOverview, overview, overview_html
from asynctrack._reading.sources.dead_letters import (
    DeadLetter,
    dead_letter_problems,
    dead_letters_of,
    read_dead_letters,
)
from asynctrack._reading.sources.listing import Listing, StoredArtifact, list_run
from asynctrack._reading.sources.locate import Found, Place, Source, locate_run, resolve_s3_options
from asynctrack._reading.sources.manifests import (
    Metric,
    Problem,
    Report,
    RunManifest,
    merge_metrics,
    merge_parameters,
)
from asynctrack._reading.sources.ranges import SeqRange
from asynctrack._reading.sources.sampled import Sampled
from asynctrack._reading.sources.spool import (
    GivenSpool,
    Spool,
    SpoolWriter,
    is_same_s3,
    spooled_parameters,
    this_spool,
    waiting_artifacts,
    with_waiting,
    writers_of,
)
from asynctrack._reading.sources.stores import Location
from asynctrack._reading.sources.wanted import bullets
from asynctrack._reading.threads import from_thread, in_thread
from asynctrack._reading.trees.prices import GivenPrices, Prices, read_prices
from asynctrack._reading.trees.select import Wanted, first_needed, last_needed, select, wanted
from asynctrack._reading.trees.summary import RunSummary, summarize
from asynctrack._reading.trees.trace import Trace

if TYPE_CHECKING:
    import duckdb
    import pandas
    import pyarrow

    from asynctrack._reading.appending import Appender
    from asynctrack._reading.dataset import Example

logger = logging.getLogger("asynctrack")

CHUNK: Final = 500
"""Events that ``aevents`` decodes in one visit to a thread."""
TRACES: Final = 20
"""The same for ``atraces``; a trace is tens of events."""
_WARNINGS: Final = 20
_MAX_PROBLEMS: Final = 10_000

Damaged = Literal["raise", "set_aside"]


class RecordedRun:
    """A Run that was tracked. Made by ``open_run``; every method may be called again and again,
    also while the Run is still being written: each call reads what is there at that time.

    Args:
        found: Where it is.
        writer: Read the events of this writer only; None reads all.
        damaged: What to do with an object that is not what its manifest lists.
        concurrency: How many objects are fetched at a time.
        spool: This machine's spool; empty reads delivered events only.
        prices: What models cost, for ``summary`` and the column ``cost``.

    Attributes:
        found: Where it is.
        spool: This machine's spool.
        prices: What models cost.
        report: Notes what cannot be read; the first ones are warnings, too.
    """

    def __init__(
        self,
        found: Found,
        *,
        writer: str | None = None,
        damaged: Damaged = "raise",
        concurrency: int = AHEAD,
        spool: Spool = (),
        prices: Prices | None = None,
    ) -> None:
        self.found = found
        self.spool = spool
        self.prices = prices
        self._writer = writer
        self._damaged = damaged
        self._concurrency = concurrency
        self._listing: Listing | None = None
        self._logged: dict[str, dict[str, Any]] | None = None
        self._problems: dict[tuple[str, str], Problem] = {}
        self.report: Report = self._note
        self._appender: Appender | None = None

    def __repr__(self) -> str:
        # What is known already: a debugger that shows it must not wait for S3.
        known = ""
        if self._listing is not None:
            manifest = self.manifest
            writers = len(manifest.writers)
            known = (
                f", {'closed' if manifest.closed else 'not closed'}, {manifest.delivered:,} events"
                f" by {writers:,} writer{'' if writers == 1 else 's'}"
            )
        name = one_line(f"{self.experiment}/{self.name}")
        return f"<RecordedRun {name}{known}: {one_line(', '.join(self.uris), 500)}>"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the Run at a glance. Blocks: it reads manifests, and no
        events."""
        try:
            return overview_html(self._overview())
        except AsynctrackError as error:
            return facts_html(f"{self.experiment}/{self.name}", [("cannot be read", str(error))])

    @property
    def experiment(self) -> str:
        """The experiment's name."""
        return self.found.locations[0].experiment

    @property
    def name(self) -> str:
        """The Run's name."""
        return self.found.locations[0].run

    @property
    def uris(self) -> tuple[str, ...]:
        """The addresses of its folders; one, unless it was tracked into several places."""
        return tuple(location.uri for location in self.found.locations)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What has been set aside so far because it could not be read, each object by name.

        Complete once the events have been read to their end. Each problem is also a warning of
        the logger ``asynctrack``, the first ones of a Run. After 10,000 no more are kept.
        """
        return tuple(self._problems.values())

    @property
    def manifest(self) -> RunManifest:
        """What its writers say they delivered. Read once; ``refresh`` reads it anew."""
        return RunManifest(self.experiment, self.name, self._known().writers)

    @property
    def parameters(self) -> dict[str, Any]:
        """Its parameters, whole: those of the Run in SageMaker where it is known, those in the
        manifests, and of writers without one those in this machine's spool. For one name the
        writer that began last counts; ``manifest`` has them all."""
        writers = self._known().writers
        merged = {**self.found.parameters, **merge_parameters(writers)}
        known = {writer.writer_id for writer in writers}
        if self._logged is None:
            self._logged = self._logged_parameters()
        for writer_id, logged in self._logged.items():
            if writer_id not in known:
                merged.update(logged)
        return merged

    @property
    def metrics(self) -> dict[str, Metric]:
        """Its metrics over all points, from the manifests; the points are events (``metric``)."""
        return merge_metrics(self._known().writers)

    @property
    def sampling(self) -> Sampled | None:
        """How its traces were sampled, by its manifests: ``print(run.sampling)``; None where all
        were kept. ``trace.weight`` says of each how many it stands for."""
        return self.manifest.sampling

    @property
    def dead_letters(self) -> tuple[SeqRange, ...]:
        """What lies on this machine and is not read: events that the backend refused for good, by
        their numbers, with their files; ``dead_letter_events`` reads them. Blocks."""
        return tuple(dead_letters_of(self.spool, self.found.locations))

    def dead_letter_events(self) -> Iterator[DeadLetter]:
        """Yield the events that the backend refused for good and that lie on this machine, each
        once, with the reason. ``events`` has none of them. What cannot be read is in ``problems``.
        Blocks."""
        return read_dead_letters(self.dead_letters, self.report)

    async def adead_letter_events(self) -> AsyncIterator[DeadLetter]:
        """Yield what ``dead_letter_events`` does, from async code: all work is done in threads."""

        def read() -> Generator[DeadLetter, None, None]:
            yield from self.dead_letter_events()

        async for letter in from_thread(read(), CHUNK):
            yield letter

    @property
    def locations(self) -> tuple[Location, ...]:
        """Where it is."""
        return self.found.locations

    def refresh(self) -> None:
        """Read the manifests and the list of objects anew. Blocks."""
        self._listing = self._list()
        self._logged = self._logged_parameters()

    async def arefresh(self) -> None:
        """Do as ``refresh`` does, from async code; the properties block for nothing after it."""
        await in_thread(self.refresh)

    def events(self, kind: str | Iterable[str] | None = None) -> Iterator[Event]:
        """Yield the events in order, as a stream: memory stays bounded however many there are.

        Several writers are merged by time, the events of one writer come by sequence number, and
        each event comes once, also where it is stored twice.

        Args:
            kind: Only these: a callback's name, with ``on_`` or without, or several.

        Raises:
            ChecksumError: An object is not what its manifest lists, and ``damaged="raise"``.
            ReadError: A folder or file cannot be read.
            BackendError: S3 said no, or could not be reached in several attempts.
        """
        kinds = _kinds(kind)
        events = self._events()
        return events if kinds is None else (one for one in events if one.event in kinds)

    def stored_events(self) -> Iterator[Event]:
        """Yield all events as they were stored: with references, and each with the lines of values
        that stand before it (``StoredEvent.values``). Else as ``events``.

        Raises:
            ChecksumError: As ``events``.
            ReadError: As ``events``.
            BackendError: As ``events``.
        """
        return self._events(resolve=False)

    async def aevents(self, kind: str | Iterable[str] | None = None) -> AsyncIterator[Event]:
        """Yield the events as ``events`` does, from async code: all work is done in threads."""
        kinds = _kinds(kind)
        async for event in from_thread(self._events(), CHUNK):
            if kinds is None or event.event in kinds:
                yield event

    async def astored_events(self) -> AsyncIterator[Event]:
        """Yield what ``stored_events`` does, from async code: all work is done in threads."""
        async for event in from_thread(self._events(resolve=False), CHUNK):
            yield event

    def traces(
        self,
        *,
        failed: bool | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
        name: str | None = None,
        session: str | int | None = None,
        user: str | int | None = None,
    ) -> Iterator[Trace]:
        """Yield the traces: complete ones as they end, the others at the end of the Run.

        Those that are all that is asked for; without arguments all. ``since`` and ``until`` go by
        when a trace began: one that began before ``since`` does not count, whenever it ended, nor
        does one whose beginning is not there. What lies more than a day before ``since`` is not
        read, and reading ends a day after ``until``, once the traces have ended; the days are in
        the keys of the artifacts. So ``Trace.resumes`` names only traces that were read too. A
        clock that was set by more than a day in the midst of an artifact may hide some.

        Args:
            failed: True for those that failed, False for the others; see ``Trace.failed``.
            since: ``"1h"`` for the last hour (``s``, ``m``, ``h``, ``d``, ``w``), or a time:
                ``"2026-11-27"``, ``"2026-11-27T10:00+01:00"``, a ``datetime``, a ``date``. UTC,
                where it names no zone.
            until: The same; those that began then or later are left out.
            name: The name of the root, whole.
            session: ``Trace.session_id``.
            user: ``Trace.user_id``.

        Raises:
            OptionError: One of the arguments is not allowed.
            ChecksumError: As ``events``.
            ReadError: As ``events``.
            BackendError: As ``events``.

        Example:
            >>> from asynctrack import open_run, tracker
            >>> from langchain_core.runnables import RunnableLambda
            >>> chain = RunnableLambda(lambda text: text[9], name="tenth letter")
            >>> with tracker("runs") as handler:
            ...     letters = chain.batch(
            ...         ["hello", "how are you"], {"callbacks": [handler]}, return_exceptions=True
            ...     )
            >>> [trace.outcome for trace in open_run("runs").traces(failed=True, since="1h")]
            ['error']
        """
        return self._traces(wanted(failed, since, until, name, session, user, now=time.time_ns()))

    async def atraces(
        self,
        *,
        failed: bool | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
        name: str | None = None,
        session: str | int | None = None,
        user: str | int | None = None,
    ) -> AsyncIterator[Trace]:
        """Yield the traces as ``traces`` does, from async code: all work is done in threads."""
        asked = wanted(failed, since, until, name, session, user, now=time.time_ns())
        async for trace in from_thread(self._traces(asked), TRACES):
            yield trace

    def feedback(self, trace_id: str | UUID | None = None) -> Iterator[Feedback]:
        """Yield what was logged with ``log_feedback``, in order.

        Args:
            trace_id: Of this trace only.

        Raises:
            OptionError: ``trace_id`` cannot be one.
            ChecksumError: As ``events``.
            ReadError: As ``events``.
            BackendError: As ``events``.

        Example:
            >>> from uuid import uuid4
            >>> from asynctrack import open_run, tracker
            >>> with tracker("runs") as handler:
            ...     handler.log_feedback(uuid4(), "thumbs", True)
            ...     handler.log_feedback(uuid4(), "thumbs", False, comment="too long")
            >>> [(one.score, one.comment) for one in open_run("runs").feedback()]
            [(1, None), (0, 'too long')]
        """
        wanted = None if trace_id is None else run_id_text("trace_id", trace_id)
        for event in self.events(EVENT):
            feedback = feedback_of(event)
            if feedback is not None and wanted in (None, feedback.trace_id):
                yield feedback

    async def afeedback(self, trace_id: str | UUID | None = None) -> AsyncIterator[Feedback]:
        """Yield what ``feedback`` does, from async code: all work is done in threads."""
        wanted = None if trace_id is None else run_id_text("trace_id", trace_id)
        async for event in self.aevents(EVENT):
            feedback = feedback_of(event)
            if feedback is not None and wanted in (None, feedback.trace_id):
                yield feedback

    def log_feedback(
        self,
        trace_id: str | UUID,
        name: str,
        score: float | str | None = None,
        *,
        comment: str | None = None,
        span_id: str | UUID | None = None,
        user_id: str | int | UUID | None = None,
    ) -> None:
        """Log what somebody thinks of a trace, also days later. Blocks until it is stored.

        It is an event of its own, by another writer, and changes nothing of what is stored. A
        handler does this without blocking, while its tracker is open.

        Args:
            trace_id: The trace.
            name: What is scored, 1 to 255 characters: ``"thumbs"``, ``"correctness"``.
            score: A number, True or False (1 or 0), or a label; None for a comment alone.
            comment: In words, at most 10,000 characters.
            span_id: The span of the trace that it is about; None for all of it.
            user_id: Who says so.

        Raises:
            OptionError: One of them is not allowed; the text names it, its value and what is.
            ReadError: The Run's folder cannot be written to: it may not be stored.
            BackendError: S3 said no, or did not say that it is stored: it may not be.

        Example:
            >>> from asynctrack import open_run, tracker
            >>> from langchain_core.runnables import RunnableLambda
            >>> with tracker("runs") as handler:
            ...     answer = RunnableLambda(str.upper).invoke("hello", {"callbacks": [handler]})
            >>> run = open_run("runs")
            >>> (trace,) = run.traces()
            >>> run.log_feedback(trace.trace_id, "tone", "rude", user_id="ada")
            >>> [(one.name, one.value, one.user_id) for one in run.feedback(trace.trace_id)]
            [('tone', 'rude', 'ada')]
        """
        record = feedback_record(trace_id, name, score, comment, span_id, user_id)
        if self._appender is None:
            from asynctrack._reading.appending import Appender  # nothing that reading needs

            self._appender = Appender(self.found.locations[0])
        self._appender.append(record)

    async def alog_feedback(
        self,
        trace_id: str | UUID,
        name: str,
        score: float | str | None = None,
        *,
        comment: str | None = None,
        span_id: str | UUID | None = None,
        user_id: str | int | UUID | None = None,
    ) -> None:
        """Log feedback from async code: ``log_feedback`` in a thread, with its errors."""
        await in_thread(
            lambda: self.log_feedback(
                trace_id, name, score, comment=comment, span_id=span_id, user_id=user_id
            )
        )

    def to_arrow(self) -> pyarrow.Table:
        """Return a table with a row for each span, by start. Needs ``asynctrack[read]``."""
        from asynctrack._reading.tables import span_table

        return span_table.spans_to_arrow(self.traces(), self.prices)

    async def ato_arrow(self) -> pyarrow.Table:
        """Return what ``to_arrow`` does, from async code."""
        return await in_thread(self.to_arrow)

    def to_pandas(self) -> pandas.DataFrame:
        """Return a data frame with a row for each span, by start. Needs ``asynctrack[read]``."""
        from asynctrack._reading.tables import span_table

        return span_table.spans_to_pandas(self.traces(), self.prices)

    async def ato_pandas(self) -> pandas.DataFrame:
        """Return what ``to_pandas`` does, from async code."""
        return await in_thread(self.to_pandas)

    def to_duckdb(
        self, connection: duckdb.DuckDBPyConnection | None = None
    ) -> duckdb.DuckDBPyConnection:
        """Return a DuckDB connection with the tables ``spans`` and ``parameters``.

        Args:
            connection: Where to put them; None makes a database in memory.
        """
        from asynctrack._reading.tables import span_table

        made: duckdb.DuckDBPyConnection = span_table.spans_to_duckdb(
            self.traces(), self.parameters, connection, self.prices
        )
        return made

    async def ato_duckdb(
        self, connection: duckdb.DuckDBPyConnection | None = None
    ) -> duckdb.DuckDBPyConnection:
        """Return what ``to_duckdb`` does, from async code."""
        return await in_thread(lambda: self.to_duckdb(connection))

    def dataset(
        self,
        where: str | None = None,
        *,
        kind: str | Iterable[str] | None = None,
        name: str | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
        limit: int = 0,
    ) -> Generator[Example, None, None]:
        """Yield logged calls as examples, by their start, in the form that the datasets of
        LangSmith and MLflow take. Needs ``asynctrack[read]``. Blocks.

        Args:
            where: Only those for which this holds: a condition of SQL on a row of ``spans``, as
                ``asynctrack query`` has it: ``"outcome = 'ok' AND trace_id IN (SELECT trace_id
                FROM feedback WHERE score > 0)"``.
            kind: Calls of this kind, or of several, ``chat_model`` for one, wherever they are in
                their traces. Without it and ``name`` the calls from outside.
            name: Calls of this component, the same.
            since: Only traces that started then or later: as for ``traces``.
            until: Only traces that started before: the same.
            limit: How many at the most; 0 yields all.

        Raises:
            OptionError: One of the arguments is not allowed.
            QueryError: ``where`` is no condition; a ``ValueError``.
            MissingExtraError: duckdb or pyarrow is not installed.
            ChecksumError: As ``events``.
            ReadError: As ``events``.
            BackendError: As ``events``.

        Example:
            >>> from asynctrack import open_run, tracker
            >>> from langchain_core.runnables import RunnableLambda
            >>> with tracker("runs") as handler:
            ...     answer = RunnableLambda(str.upper).invoke("hello", {"callbacks": [handler]})
            >>> (example,) = open_run("runs").dataset("outcome = 'ok'")
            >>> example["inputs"], example["outputs"]
            ({'input': 'hello'}, {'output': 'HELLO'})
        """
        from asynctrack._reading.dataset import examples

        period = wanted(None, since, until, None, None, None, now=time.time_ns()).period
        return examples(self, where=where, kind=kind, name=name, period=period, limit=limit)

    async def adataset(
        self,
        where: str | None = None,
        *,
        kind: str | Iterable[str] | None = None,
        name: str | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
        limit: int = 0,
    ) -> AsyncIterator[Example]:
        """Yield what ``dataset`` does, from async code: all work is done in threads."""
        found = self.dataset(where, kind=kind, name=name, since=since, until=until, limit=limit)
        async for example in from_thread(found, TRACES):
            yield example

    def summary(self, *, prices: GivenPrices = None) -> RunSummary:
        """Read all events once, and return counts and percentiles of the Run.

        Args:
            prices: As for ``open_run``, in place of those given there.
        """
        return summarize(self, prices=self.prices if prices is None else read_prices(prices))

    async def asummary(self, *, prices: GivenPrices = None) -> RunSummary:
        """Return what ``summary`` does, from async code."""
        return await in_thread(lambda: self.summary(prices=prices))

    # -- inside -------------------------------------------------------------------------------

    def _overview(self) -> RunOverview:
        return overview(self.found, self.spool, self.prices)

    def _traces(self, asked: Wanted) -> Generator[Trace, None, None]:
        artifacts = self._artifacts(asked.period.since_ns)
        ends = {
            writer_id: max((one.place.last_seq for one in some), default=0)
            for writer_id, some in artifacts.items()
        }
        needed = {
            writer_id: last_needed([one.place for one in some], asked.period.until_ns)
            for writer_id, some in artifacts.items()
        }
        with closing(self._read(artifacts)) as events:
            yield from select(events, asked, needed, ends)

    def _events(
        self, *, resolve: bool = True, since: int | None = None
    ) -> Generator[Event, None, None]:
        with closing(self._read(self._artifacts(since), resolve=resolve)) as events:
            yield from events

    def _artifacts(self, since: int | None = None) -> Mapping[str, Sequence[StoredArtifact]]:
        """Return what there is to read since a moment, of each writer; report what is missing."""
        waiting = self._look_into_spool()  # before the listing: see ``spool``
        self._listing = listing = self._list()
        artifacts = self._wanted(with_waiting(listing, waiting))
        for uri, receipt in (one for gone in listing.missing.values() for one in gone):
            reason = (
                "is missing: its manifest lists it, with the events"
                f" {receipt.first_seq} to {receipt.last_seq}"
            )
            self.report(Problem(uri, reason))
        return {
            writer_id: some[first_needed([one.place for one in some], since) :]
            for writer_id, some in artifacts.items()
        }

    def _read(
        self, artifacts: Mapping[str, Sequence[StoredArtifact]], *, resolve: bool = True
    ) -> Generator[Event, None, None]:
        fetcher = Fetcher(self._concurrency)
        try:
            yield from merged_events(
                artifacts,
                {one.writer_id: one.created_unix_nano for one in self._known().writers},
                fetcher=fetcher,
                report=self.report,
                set_aside=self.sets_aside,
                resolve=resolve,
            )
        finally:
            fetcher.close()

    def _logged_parameters(self) -> dict[str, dict[str, Any]]:
        """Return what writers of this machine have logged that no manifest tells yet."""
        known = {writer.writer_id for writer in self._known().writers}
        logged: dict[str, dict[str, Any]] = {}
        for location in self.found.locations:
            for writer in writers_of(self.spool, location):
                if writer.writer_id not in known and is_same_s3(writer, location.store):
                    # A writer may have folders in several places.
                    logged.setdefault(writer.writer_id, {}).update(spooled_parameters(writer))
        return logged

    def _look_into_spool(self) -> list[tuple[SpoolWriter, list[StoredArtifact]]]:
        problems: list[Problem] = []
        found = [
            (writer, waiting_artifacts(writer, location, problems))
            for location in self.found.locations
            for writer in writers_of(self.spool, location)
        ]
        for problem in (*problems, *dead_letter_problems(self.dead_letters)):
            self.report(problem)
        return found

    def _wanted(self, listing: Listing) -> Mapping[str, Sequence[StoredArtifact]]:
        if self._writer is None:
            return listing.artifacts
        known = {*listing.artifacts, *(writer.writer_id for writer in listing.writers)}
        if self._writer not in known:
            there = bullets(sorted(known))
            raise NotFoundError(
                f"{', '.join(self.uris)} has no writer {self._writer!r}; its writers:{there}"
            )
        return {self._writer: listing.artifacts.get(self._writer, ())}

    def _known(self) -> Listing:
        if self._listing is None:
            self.refresh()
        assert self._listing is not None
        return self._listing

    def _list(self) -> Listing:
        listing = list_run(self.found.locations)
        for problem in listing.problems:
            self.report(problem)
        return listing

    @property
    def sets_aside(self) -> bool:
        """Whether it is read on without objects that are not what their manifest lists."""
        return self._damaged == "set_aside"

    def _note(self, problem: Problem) -> None:
        """Note what cannot be read; the first ones are warnings, too."""
        key = (problem.object, problem.reason)
        if key in self._problems or len(self._problems) >= _MAX_PROBLEMS:
            return
        self._problems[key] = problem
        count = len(self._problems)
        if count <= _WARNINGS:
            logger.warning("asynctrack set aside what it could not read: %s", problem)
        if count == _WARNINGS:
            logger.warning("asynctrack sets more aside without a warning each: see run.problems")


def open_run(
    source: Source,
    *,
    root: Place | None = None,
    writer: str | None = None,
    damaged: Damaged = "raise",
    concurrency: int = AHEAD,
    spool_dir: GivenSpool = True,
    prices: GivenPrices = None,
    endpoint_url: str | None = None,
    profile: str | None = None,
    region: str | None = None,
    session: Any = None,
    s3_options: Mapping[str, Any] | None = None,
) -> RecordedRun:
    """Open a Run that was tracked, or is being tracked. Blocks: it looks where the Run is.

    Args:
        source: ``s3://bucket/prefix…/experiment=E/run=R/`` or any prefix above it, such a folder
            of this machine, ``(experiment_name, run_name)``, or a ``Run`` of the SageMaker SDK.
        root: With names: the ``s3://`` address or the folder to look below; None asks SageMaker.
        writer: Read the events of this writer only.
        damaged: What happens when an object is not what its manifest lists: ``"raise"``, or
            ``"set_aside"``, which reads on without it and names it in ``run.problems``. One that
            is gone is never raised, as old ones may have been deleted on purpose: it is a warning,
            and in ``run.problems``.
        concurrency: How many objects are fetched at a time, 1 to 64.
        spool_dir: The spool of this machine, whose events of this Run are read too and marked
            (``Event.spooled``): True for the one that trackers use by default
            (``ASYNCTRACK_SPOOL_DIR`` in the environment), a folder, or False for none.
        prices: What models cost, for ``summary`` and the column ``cost``: model to (USD per
            million input tokens, USD per million output tokens), or to
            ``{"in": …, "out": …, "cache_read": …, "cache_write": …}``, where what the provider's
            cache gives and takes costs as the input does if left out; or a JSON file of that; None
            takes the file that ``ASYNCTRACK_PRICES`` names. No price is built in.
        endpoint_url: Of S3 and SageMaker, instead of AWS's own.
        profile: Profile of the AWS configuration.
        region: AWS region.
        session: A ``boto3.Session`` to use.
        s3_options: Further arguments of requests to S3, as ``tracker`` takes them; those that
            concern reading are used: ``RequestPayer``, ``ExpectedBucketOwner``. None takes
            ``ASYNCTRACK_S3_OPTIONS`` of the environment, as JSON.

    Raises:
        NotFoundError: There is no Run.
        SeveralRunsError: There are several; the text lists them, ``found`` has their addresses.
        OptionError: An option is not allowed.
        ReadError: A folder cannot be read.
        BackendError: AWS said no, or could not be reached in several attempts.
    """
    if damaged not in ("raise", "set_aside"):
        raise OptionError("damaged", damaged, "'raise' or 'set_aside'")
    if type(concurrency) is not int or not 1 <= concurrency <= 64:
        raise OptionError("concurrency", concurrency, "a whole number from 1 to 64")
    access = Access(
        endpoint_url, profile, region, session, s3_options=resolve_s3_options(s3_options)
    )
    spool = this_spool(spool_dir)
    known_prices = read_prices(prices)
    found = locate_run(source, root, access, spool)
    return RecordedRun(
        found,
        writer=writer,
        damaged=damaged,
        concurrency=concurrency,
        spool=spool,
        prices=known_prices,
    )


async def aopen_run(source: Source, **options: Any) -> RecordedRun:
    """Open a Run from async code: ``open_run`` in a thread, with its arguments and errors."""
    return await in_thread(lambda: open_run(source, **options))


def _kinds(kind: str | Iterable[str] | None) -> frozenset[str] | None:
    if kind is None:
        return None
    kinds = [kind] if isinstance(kind, str) else kind
    return frozenset(one.removeprefix("on_") for one in kinds)
