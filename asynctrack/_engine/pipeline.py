"""The stages of one writer, put together.

A process that is forked needs a second set of them: the child is another writer, and nothing that
holds a lock, a socket or a file of the parent may be touched there.
"""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import anyio

from asynctrack._backends.protocol import Backend
from asynctrack._backends.protocol import Store as ObjectStore
from asynctrack._buffer.batch import CutPolicy
from asynctrack._buffer.buffer import Buffer
from asynctrack._buffer.holding import SHARE, Holding
from asynctrack._buffer.store import Store
from asynctrack._capture.capture import Capture
from asynctrack._capture.observations import Observations
from asynctrack._capture.recurring import recurring_for
from asynctrack._capture.redact import Redactor
from asynctrack._capture.sampling import Sampling
from asynctrack._capture.sessions import Roots
from asynctrack._common.live import LiveCounts, LiveTraces
from asynctrack._common.notices import Notices
from asynctrack._common.retry import RetryBudget, RetryPolicy
from asynctrack._delivery.delivery import Delivery
from asynctrack._delivery.gate import Flow, Gate
from asynctrack._delivery.leftovers import Member
from asynctrack._delivery.upload import MAX_BACKOFF, Uploader
from asynctrack._engine.driver import Driver
from asynctrack._engine.engine import Engine
from asynctrack._engine.leftovers import Leftovers
from asynctrack._engine.sink import Sink
from asynctrack._engine.stages import Stages
from asynctrack._engine.standby import Standby, cause_of
from asynctrack._format import MEDIA_TYPE
from asynctrack._options import Options, compile_redact
from asynctrack._record.limits import limits_of
from asynctrack._record.recorder import Recorder
from asynctrack._spool.homes import Homes
from asynctrack._spool.journal import Journal
from asynctrack._spool.keeper import Keeper
from asynctrack._spool.layout import spool_places
from asynctrack._statistics import Statistics


class Pipeline:
    """From the callbacks to the backend, for one writer.

    Args:
        backend: Where everything goes.
        options: The options.
        engine: Where it runs.
        make_live: Returns what sends traces on, for the writer's id; None where nobody wants that.
        monotonic: The clock of all decisions, in seconds.
        uniform: Random numbers in [0, 1) for what is spread.
    """

    def __init__(
        self,
        backend: Backend,
        options: Options,
        *,
        engine: Engine,
        make_live: Callable[[str, Backend, Notices], LiveTraces] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        self.backend = backend
        self._options = options
        self.writer_id: str = f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(6)}"
        self._engine = engine
        self.notices = notices = Notices(
            engine.board, tracker=self.writer_id, place=_place(backend.destination())
        )
        self.uploaded: Callable[[float], None] | None = None
        """Told the seconds of each upload; to be set before it is opened."""
        self.live = None if make_live is None else make_live(self.writer_id, backend, notices)
        redactor = Redactor(compile_redact(options.redact))
        spooled = options.durability != "memory"
        overflow = options.effective_overflow
        record = backend.record
        self._observations = Observations(
            dict if record is None else record.local,
            finite=limits_of(record).finite,
        )
        self.buffer = Buffer(
            writer_id=self.writer_id,
            store=Store(
                self.writer_id, options.max_batch_bytes, options.max_batch_events, spooled=spooled
            ),
            max_bytes=options.max_buffer_bytes,
            max_events=options.max_buffer_events,
            spool_bytes=options.max_spool_bytes if overflow == "spool" else None,
            reserve=overflow == "block",
            wake=self._wake,
            monotonic=monotonic,
        )
        self.sampling, self.holding = self._make_sampling()
        self.keeper = self._make_keeper() if spooled else None
        self.recorder = Recorder(
            writer_id=self.writer_id,
            backend=backend,
            observations=self._observations,
            redactor=redactor,
            notices=notices,
            counts=self._equation,
            sleep=anyio.sleep,
            monotonic=monotonic,
            uniform=uniform,
        )
        replay_budget = RetryBudget()

        def make_uploader(store: ObjectStore, gate: Gate) -> Uploader:
            return Uploader(
                store=store,
                media_type=MEDIA_TYPE,
                notices=notices,
                gate=gate,
                policy=RetryPolicy(cap=MAX_BACKOFF),
                uniform=uniform,
                uploaded=self.uploaded,
            )

        def make_replay_uploader(store: ObjectStore) -> Uploader:
            own = Gate(Flow(1), budget=replay_budget, monotonic=monotonic, uniform=uniform)
            return make_uploader(store, own)

        self.delivery = Delivery(
            writer_id=self.writer_id,
            buffer=self.buffer,
            make_uploader=lambda gate: make_uploader(backend, gate),
            outcome=self.recorder,
            keeper=self.keeper,
            notices=notices,
            concurrency=options.upload_concurrency,
            compression=options.compression,
            live=self.live,
        )
        self.member: Member | None = None
        if self.keeper is not None:
            self.member = Member(self.writer_id, backend, make_replay_uploader, notices)
        self.stages = Stages(
            buffer=self.buffer,
            backend=backend,
            recorder=self.recorder,
            notices=notices,
            policy=CutPolicy(options.max_delay),
            delivery=self.delivery,
            close_patience=options.close_patience,
            keeper=self.keeper,
            gate=engine.gate,
            replayer=lambda: engine.replayer(options.spool_dir),
            member=self.member,
            holding=self.holding,
            live=self.live,
            monotonic=monotonic,
            uniform=uniform,
        )
        self._standby = Standby(
            buffer=self.buffer,
            keeper=self.keeper,
            closing=self.stages.closing,
            monotonic=monotonic,
        )
        self.driver = Driver(
            engine=engine,
            stages=self.stages,
            standby=self._standby,
            buffer=self.buffer,
            monotonic=monotonic,
        )
        self.sink = Sink(
            run_name=f"{backend.experiment}/{backend.run}",
            capture=Capture(
                tokens=options.tokens,
                redactor=redactor,
                observations=self._observations,
                recurring=recurring_for(redactor, options.max_value_bytes),
                roots=Roots(options.session_keys, options.user_keys),
                sampling=self.sampling,
            ),
            buffer=self.buffer,
            observations=self._observations,
            driver=self.driver,
            notices=notices,
            block=overflow == "block",
            block_timeout=options.block_timeout,
            statistics=self.statistics,
            holding=self.holding,
        )
        self.stages.closing.abandon_open = self.sink.abandon_open

    def open(self) -> None:
        """Begin to deliver."""
        self._engine.writers.add(self.writer_id)
        self.driver.start()
        if self.live is not None:
            self.live.start()

    def rescue(self) -> threading.Thread | None:
        """Bring to disk what is in memory only, where the engine is held up and does not end.

        Returns:
            The thread that does it; None where there is nothing to do.
        """
        keeper = self.keeper
        if self.driver.ended.done() or keeper is None or not self.buffer.counts().pending:
            return None

        def bring_to_disk() -> None:
            if self.holding is not None:
                self.holding.finish()
            self.buffer.finish()
            keeper.supply_now()

        thread = threading.Thread(target=bring_to_disk, name="asynctrack-rescue", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return None
        return thread

    def forget(self) -> None:
        """Leave what is left to others, at the end."""
        if self.live is not None:
            self.live.abandon()
        self._engine.writers.discard(self.writer_id)

    def statistics(self) -> Statistics:
        """Return a frozen snapshot of all counters."""
        counts = self.buffer.counts()
        recorded = self.recorder.counted
        live = LiveCounts() if self.live is None else self.live.counts()
        return Statistics(
            accepted=counts.accepted,
            delivered=counts.delivered,
            spooled=counts.spooled,
            pending=counts.pending,
            dead_lettered=counts.dead_lettered,
            dropped=counts.dropped,
            waiting_bytes=counts.waiting_bytes,
            artifacts=self.delivery.artifacts,
            bytes_delivered=self.delivery.bytes_delivered,
            retries=self.delivery.retries,
            replayed=self.member.events if self.member else 0,
            run_updates=recorded.updates,
            metric_points=recorded.points,
            metric_points_unsent=recorded.points_refused
            + recorded.points_left
            + self._observations.points_skipped,
            sampled_out=0 if self.sampling is None else self.sampling.events,
            traces_sampled_out=0 if self.sampling is None else self.sampling.traces_left_out,
            held=0 if self.holding is None else self.holding.events,
            traces_sent=live.sent,
            traces_dropped=live.dropped,
            traces_waiting=live.waiting,
            feedback_sent=live.feedback_sent,
            feedback_dropped=live.feedback_dropped,
            feedback_waiting=live.feedback_waiting,
        )

    def leftovers(self) -> Leftovers:
        """Return what is not delivered or written; to be asked when the worker has ended."""
        options, backend, recorder = self._options, self.backend, self.recorder
        spool = None if self.keeper is None else self.keeper.where
        limit = f"within close_timeout={options.close_timeout:g} seconds"
        if self._standby.cause is not None:
            limit = f"without a worker ({cause_of(self._standby.cause)})"
            spool = None if self._standby.where_told else spool  # once
        elif self.stages.closing.gave_up:
            limit = f"within close_patience={options.close_patience:g} seconds"
        parameters, points = recorder.unwritten
        return Leftovers(
            run=backend.run,
            statistics=self.statistics(),
            spool=spool,
            parameters=parameters,
            points=points,
            manifest=recorder.manifest.uri if backend.located else None,
            manifest_complete=recorder.manifest.complete,
            limit=limit,
        )

    def _make_keeper(self) -> Keeper:
        options = self._options
        power = options.durability == "power"
        homes = Homes(
            places=lambda: spool_places(options.spool_dir),
            writer_id=self.writer_id,
            info=self._spool_info,
            notices=self.notices,
            usage=self._engine.usage,
            max_spool_bytes=options.max_spool_bytes,
            power=power,
        )
        journal: Journal | None = None
        if self.holding is not None:
            self.holding.journal = journal = Journal(self.writer_id, self._wake)
        return Keeper(
            homes=homes,
            buffer=self.buffer,
            notices=self.notices,
            power=power,
            holding=self.holding,
            journal=journal,
        )

    def _make_sampling(self) -> tuple[Sampling | None, Holding | None]:
        options = self._options
        if not callable(options.sample) and options.sample >= 1:
            return None, None
        holding: Holding | None = None
        if options.keep_errors:
            holding = Holding(
                writer_id=self.writer_id,
                buffer=self.buffer,
                max_bytes=options.max_buffer_bytes // SHARE,
                wake=self._wake,
                warn=self._tell_given_up,
            )
        sampling = Sampling(
            options.sample,
            lambda text: self.notices.warn("sample", text),
            None if holding is None else holding.begin,
        )
        if holding is not None:
            holding.sampling = sampling
        return sampling, holding

    def _tell_given_up(self) -> None:
        bound = self._options.max_buffer_bytes // SHARE
        self.notices.warn(
            "held",
            f"asynctrack holds {bound} bytes of traces that have not ended, a quarter of"
            " max_buffer_bytes: the oldest ones are left out, as sample= says, and are not kept if"
            " they fail. Raise max_buffer_bytes.",
        )

    def _spool_info(self) -> Mapping[str, Any]:
        return {
            "writer_id": self.writer_id,
            "experiment": self.backend.experiment,
            "run": self.backend.run,
            "compression": self._options.compression,
            "destination": self.backend.destination(),
        }

    def _wake(self) -> None:
        self.driver.wake()

    def _equation(self) -> Mapping[str, Any]:
        counts = self.buffer.counts()
        return {
            "accepted": counts.accepted,
            "delivered": counts.delivered,
            "spooled": counts.spooled,
            "pending": counts.pending,
            "dead_lettered": counts.dead_lettered,
            "dropped": counts.dropped,
            **({} if self.sampling is None else {"sampling": self._sampled(self.sampling)}),
        }

    def _sampled(self, sampling: Sampling) -> dict[str, Any]:
        holding = self.holding
        if holding is None:
            return sampling.described()
        return {
            **sampling.described(),
            "traces_kept_failed": holding.traces_failed,
            "traces_given_up": holding.traces_given_up,
            "events_held": holding.events,
        }


def _place(destination: Mapping[str, Any]) -> Hashable:
    """Return what a destination has in common with those of other Runs at the same place."""
    root = str(destination.get("root") or "").partition("asynctrack/v1/")[0]
    return root, *(destination.get(name) for name in ("kind", "bucket", "region", "endpoint_url"))
