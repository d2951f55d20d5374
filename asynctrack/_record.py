"""Receipts, parameters and metrics to the Run and the manifest: coalesced, nothing lost.

Three parts, none of which waits for another one that is in trouble: the Run's parameters and its
metrics need SageMaker only, the manifest S3 only. Which parameters go into the Run is decided in
``_parameters``; only deltas are sent, since AWS merges them by key. The Run is read before the
first write, and once more at the end in case another writer chose the same keys at the same
moment. The manifest holds everything whole.
"""

from __future__ import annotations

import asyncio
import random
import time
import zlib
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import anyio

from asynctrack import _limits
from asynctrack._artifact import Receipt, RunState, Written
from asynctrack._attributes import Attribute
from asynctrack._backends._protocol import Backend
from asynctrack._errors import BackendError, PermanentError
from asynctrack._format import manifest_name
from asynctrack._manifest import Manifest
from asynctrack._metrics import MetricLog
from asynctrack._notices import Notices
from asynctrack._observe import Observations
from asynctrack._parameters import HEAD_ROOM, MORE, Delta, Fitting, RunParameters, TooLong
from asynctrack._points import PointQueue
from asynctrack._redact import REDACTED, Redactor
from asynctrack._retry import RetryPolicy
from asynctrack._secrets import is_secret_name
from asynctrack._share import RunShare

WINDOW: Final = 10.0
"""Seconds of measurements in one point of a metric, and between two manifests."""
PATIENCE: Final = 0.5
"""Seconds that ``write`` waits for a request, before it says to come again."""
AGAIN: Final = 0.1
"""Seconds after which it is to be called again then."""
MANIFEST_WAITS: Final = 1.0
"""Seconds that a manifest waits for the Run's parameters, whose names it gives."""
NOT_OPEN: Final = 0.5
"""The same, where there is no connection yet."""
ATTEMPTS: Final = 4
"""Updates of one write at the most: removing first, looking again, and what came in meanwhile."""

_EVENTS = "asynctrack.events"
_MANIFEST = "asynctrack.manifest"


@dataclass(slots=True)
class RecordCounts:
    """What was written to the Run."""

    updates: int = 0
    points: int = 0
    points_refused: int = 0
    points_left: int = 0


class _Part:
    """One kind of write: whether it is under way, and when it may be tried again.

    Args:
        work: Does it; takes whether it is the last time.
        progress: Returns something that changes with each request that has worked.
    """

    def __init__(
        self,
        work: Callable[[bool], Coroutine[Any, Any, None]],
        progress: Callable[[], object],
    ) -> None:
        self._work = work
        self._progress = progress
        self._mark = progress()
        self.task: asyncio.Task[None] | None = None
        self.failures = 0
        self.due = float("-inf")
        self._started = float("-inf")

    def start(self, now: float, closed: bool) -> None:
        if self.task is None and now >= self.due:
            self.task = asyncio.create_task(self._work(closed))
            self._started = now

    def age(self, now: float) -> float:
        """Return how long it has been under way, in seconds."""
        return now - self._started

    def ended(self) -> BackendError | None:
        """Take note that the task has ended; return what it failed with."""
        task, self.task = self.task, None
        assert task is not None
        try:
            task.result()
        except BackendError as error:
            # Failures in a row: the requests before this one may have worked.
            moved = self._mark != (mark := self._progress())
            self.failures, self._mark = (1 if moved else self.failures + 1), mark
            return error
        self.failures, self.due = 0, float("-inf")
        return None


class Recorder:
    """Writes to the Run and the manifest; used by the worker only.

    Args:
        writer_id: Whose manifest it is.
        backend: Where to write.
        observations: What the callbacks noticed.
        redactor: Cuts secrets out of what goes to the Run.
        notices: Rate-limited warnings.
        counts: Returns the counters of the accounting equation.
        sleep: Waits, in seconds.
        share: What is shared with other writers into this Run.
        monotonic: The clock, in seconds.
        uniform: Random numbers in [0, 1).
    """

    def __init__(
        self,
        *,
        writer_id: str,
        backend: Backend,
        observations: Observations,
        redactor: Redactor,
        notices: Notices,
        counts: Callable[[], Mapping[str, Any]],
        sleep: Callable[[float], Awaitable[None]],
        share: RunShare | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        self._writer_id = writer_id
        self._backend = backend
        self._observations = observations
        self._redactor = redactor
        self._notices = notices
        self._counts = counts
        self._sleep = sleep
        self._share = share or RunShare()
        self._monotonic = monotonic
        self._uniform = uniform
        self._lock = anyio.Lock()
        self._policy = RetryPolicy(base=1.0, cap=30.0)
        self._manifest = Manifest(writer_id, backend.experiment, backend.run)
        self._metrics = MetricLog()
        self._points = PointQueue(backend.put_metrics, notices)
        self._whole: dict[str, Any] = {}
        self._parameters = RunParameters(self._share.peers)
        self._before: dict[str, Any] = {}
        self._written: deque[Written] = deque()
        self._looked = self._looked_last = False
        self._addressed = False
        self._writes_seen = 0
        self._artifacts: frozenset[str] | None = None
        self._announce = False
        self._polling = False
        self._window_taken = monotonic()
        self._manifest_due = monotonic() + WINDOW
        self._manifest_dirty = False
        self._manifest_stored = self._manifest_closed = self._closed = False
        self._updates = 0
        self._parameters_part = _Part(
            self._write_parameters, lambda: (self._updates, self._looked, self._looked_last)
        )
        self._points_part = _Part(self._send_points, lambda: self._points.sent)
        self._manifest_part = _Part(self._store_manifest, lambda: None)

    # -- what others ask ----------------------------------------------------------------------

    def delivered(self, receipt: Receipt) -> None:
        """Note an artifact that is stored."""
        self._manifest.delivered(receipt)
        self._announce = True
        self._manifest_dirty = True

    def refused(self, first_seq: int, last_seq: int) -> None:
        """Note events that the backend refuses for good."""
        self._manifest.refused(first_seq, last_seq)
        self._manifest_dirty = True

    @property
    def counted(self) -> RecordCounts:
        """What was written to the Run."""
        points = self._points
        return RecordCounts(self._updates, points.sent, points.refused, points.left)

    @property
    def unwritten(self) -> tuple[int, int]:
        """Parameters and metric points that the Run lacks."""
        return self._parameters.unwritten, len(self._points)

    @property
    def manifest_uri(self) -> str:
        """Where the manifest is."""
        return self._manifest_uri

    @property
    def manifest_stored(self) -> bool:
        """Whether the manifest holds all there is to say; also where there is nothing to say."""
        return self._manifest_stored and not self._manifest_dirty

    def outdated(self) -> Iterator[Written]:
        """Yield what the user's Run object may have an older value of, each once; any thread."""
        while self._written:
            yield self._written.popleft()

    def end(self) -> None:
        """Write nothing more: count what is left."""
        self._collect(everything=True, last=True)
        self._points.give_up()
        for part in (self._parameters_part, self._points_part, self._manifest_part):
            if part.task is not None:
                part.task.cancel()

    async def write(self, *, everything: bool, closed: bool = False) -> float | None:
        """Write what is due.

        Args:
            everything: Whatever there is, not only what is due by the clock.
            closed: This is the last write.

        Returns:
            None when nothing is left to write; otherwise seconds after which to call again.
        """
        # The last write and one that was due by the clock may come at the same time.
        async with self._lock:
            if not self._backend.recordable:
                return NOT_OPEN
            wait = await self._write(everything, closed)
            self._polling = wait is not None
            return wait

    async def _write(self, everything: bool, closed: bool) -> float | None:
        self._collect(everything, last=closed and not self._closed)
        closed = self._closed = self._closed or closed
        run, manifest = (self._parameters_part, self._points_part), self._manifest_part
        await self._wait_for(*run, manifest, seconds=0.0)  # what an earlier call has left
        for part in run:
            part.start(self._monotonic(), closed)
        store = everything or bool(manifest.failures) or self._monotonic() >= self._manifest_due
        await self._wait_for(*run, seconds=MANIFEST_WAITS if store else PATIENCE)
        if store and self._backend.located:
            manifest.start(self._monotonic(), closed)
        await self._wait_for(*run, manifest)
        now = self._monotonic()
        waits = [
            AGAIN if part.task is not None else max(AGAIN, part.due - now)
            for part in (*run, manifest)
            if part.task is not None or part.failures
        ]
        if everything and not self._backend.located:
            waits.append(NOT_OPEN)
        return min(waits, default=None)

    async def _wait_for(self, *parts: _Part, seconds: float = PATIENCE) -> None:
        under_way = {part.task for part in parts if part.task is not None}
        if not under_way:
            return
        # What hangs is waited for once, not by each call again.
        now = self._monotonic()
        prompt = [part for part in parts if part.task is not None and part.age(now) < seconds]
        await asyncio.wait(
            {part.task for part in prompt if part.task is not None} or under_way,
            timeout=max((seconds - part.age(now) for part in prompt), default=0.0),
        )
        done = {task for task in under_way if task.done()}
        for part in parts:
            if part.task in done and (error := part.ended()) is not None:
                wait = self._policy.wait(part.failures, self._uniform(), error.retry_after)
                part.due = self._monotonic() + wait
                self._tell(part, error)

    def _tell(self, part: _Part, error: BackendError) -> None:
        if part.failures >= 3 or isinstance(error, PermanentError):
            what, kept = "write to the Run", "parameters and metrics wait"
            if part is self._manifest_part:
                what, kept = "store its manifest", "what belongs there waits"
            self._notices.warn(
                f"record:{what}:{error.code}",
                f"asynctrack cannot {what} at the moment ({error}). Events go on to be uploaded;"
                f" {kept} in memory, and it is tried again.",
            )

    # -- collecting ---------------------------------------------------------------------------

    def _collect(self, everything: bool, last: bool = False) -> None:
        for values, before in self._observations.take_parameters():
            for name, value in values.items():
                self._log(name, value, before)
        for attributes in self._observations.take_models():
            self._find(attributes)
        for name in self._observations.take_prompts():
            self._find({"langchain.prompt.name": name})
        points = self._metrics.points(self._observations.take_points())
        age = self._monotonic() - self._window_taken
        # Coming again and again for a request that hangs makes no point each time.
        if last or age >= WINDOW or (everything and (not self._polling or age >= WINDOW / 5)):
            self._window_taken = self._monotonic()
            window = self._observations.take_window()
            if not window.empty:
                points += self._metrics.window(window, time.time_ns())
        if points:
            self._manifest_dirty = True
            self._points.add(points)

    def _log(self, name: str, value: Any, before: Mapping[str, Any]) -> None:
        self._before.pop(name, None)
        if name in before:
            self._before[name] = before[name]
        if name in self._whole and self._whole[name] == value:
            self._outdate(self._parameters.sent(name))
            return
        self._whole[name] = value
        fitting = _limits.parameter_value(value)
        self._parameters.log(name, TooLong(name) if fitting is None else fitting)
        self._manifest_dirty = True

    def _find(self, attributes: Mapping[str, Attribute]) -> None:
        group: dict[str, Fitting] = {}
        for name, value in attributes.items():
            if isinstance(value, str):
                value = REDACTED if is_secret_name(name) else self._redactor.text(value)
            elif isinstance(value, list):
                value = [self._redactor.text(item) for item in value]
            fitting = _limits.parameter_value(value)
            # Room for a suffix behind the key; a value too long is whole in the events.
            key = _limits.parameter_key(self._redactor.text(name))[: _limits.MAX_KEY - 4]
            group[key] = TooLong(key) if fitting is None else fitting
            if fitting is None:
                self._whole.setdefault(key, value)
        if self._parameters.find(group):
            self._manifest_dirty = True

    @property
    def _manifest_uri(self) -> str:
        return self._backend.uri(manifest_name(self._writer_id))

    # -- the Run ------------------------------------------------------------------------------

    async def _write_parameters(self, closed: bool) -> None:
        parameters = self._parameters
        # A Run whose chains hold nothing to record says where their events are all the same.
        unannounced = self._announce and not self._addressed and self._backend.located
        crowded = self._looked and parameters.crowded(self._announced())
        if not (parameters.waiting or unannounced or crowded or (closed and parameters.wrote)):
            return
        if not self._looked or (closed and not self._looked_last):
            await self._look()
            self._looked_last = closed
        looked_again = False
        for _ in range(ATTEMPTS):
            self._add_addresses()
            if not self._plan():
                break
            if (wait := self._share.reserve(self._monotonic())) > 0:
                await self._sleep(wait)
            if self._share.writes != self._writes_seen:
                await self._look()  # another tracker of this process had its turn
            delta = self._plan()  # the user's Run object may have grown meanwhile
            if not delta:
                break
            artifacts = self._artifact_entry()
            parameters.share(delta)
            try:
                await self._backend.update(delta.put, artifacts, delta.remove)
            except PermanentError as error:
                if not looked_again:
                    # Perhaps another writer took the last places meanwhile.
                    looked_again = True
                    await self._look()
                    continue
                parameters.refused(delta)
                self._notices.warn(
                    "update_refused",
                    f"asynctrack could not write {len(delta.put)} parameters into the Run:"
                    f" SageMaker refuses them ({error}). They are in the manifest,"
                    f" {self._manifest_uri}.",
                )
            else:
                self._updates += 1
                if (writes := self._share.wrote()) == self._writes_seen + 1:
                    self._writes_seen = writes
                parameters.done(delta)
                self._artifacts = (self._artifacts or frozenset()) | artifacts.keys()
                for key in delta.put:
                    self._outdate((key, delta.put[key]))
        self._tell_left_out()

    def _plan(self) -> Delta:
        delta = self._parameters.plan(
            self._announced(), self._manifest_uri if self._backend.located else None
        )
        left_out = self._parameters.left_out()
        if left_out != self._whole.get(MORE, []):
            self._whole[MORE] = left_out
            self._manifest_dirty = True
        return delta

    async def _look(self) -> None:
        writes = self._share.writes
        state: RunState = await self._backend.state()
        self._parameters.look(state)
        self._artifacts = frozenset(state.output_artifacts)
        self._looked, self._writes_seen = True, writes

    def _announced(self) -> frozenset[str]:
        return frozenset(map(str, list(self._backend.local())))

    def _add_addresses(self) -> None:
        if self._backend.located and not self._addressed:
            self._addressed = True
            for name, uri in ((_EVENTS, self._backend.uri()), (_MANIFEST, self._manifest_uri)):
                self._parameters.find({name: uri[: _limits.MAX_STRING]}, address=True)

    def _outdate(self, sent: tuple[str, Any] | None) -> None:
        """Note for the user's Run object that it has an older value of a parameter."""
        if sent is not None and sent[0] in self._before:
            self._written.append(Written(*sent, self._before.pop(sent[0])))

    def _tell_left_out(self) -> None:
        left_out = self._parameters.left_out()
        if any(isinstance(one, str) for one in left_out):
            self._notices.warn(
                "parameters_full",
                f"asynctrack left {len(left_out)} parameters out of the Run: AWS takes"
                f" {_limits.MAX_PARAMETERS}, of which the last {HEAD_ROOM} are kept for those of"
                f" run.log_parameter. All of them are in the manifest, {self._manifest_uri}.",
            )

    def _artifact_entry(self) -> dict[str, str]:
        """Return the one output artifact of a Run, where it is not there yet and has room."""
        uri = self._backend.uri() if self._backend.located else ""
        there = self._artifacts
        if (
            there is None
            or not uri
            or _EVENTS in there
            or len(there) >= _limits.MAX_SDK_ARTIFACTS
            or len(uri) > _limits.MAX_ARTIFACT_VALUE
        ):
            return {}
        return {_EVENTS: uri}

    async def _send_points(self, closed: bool) -> None:
        await self._points.send()

    # -- the manifest -------------------------------------------------------------------------

    async def _store_manifest(self, closed: bool) -> None:
        if not self._manifest_dirty and self._manifest_closed is closed:
            self._manifest_stored = True
            return
        while (page := self._manifest.full_page()) is not None:
            await self._put(*page)
            self._manifest.page_stored(page[0])
        counts = self._counts()
        if not (counts.get("accepted") or self._whole or self._manifest_dirty):
            self._manifest_stored = True
            return
        self._manifest_dirty = self._manifest_stored = False
        self._manifest_due = self._monotonic() + WINDOW
        content = self._manifest.encode(
            state="closed" if closed else "open",
            counts=counts,
            parameters=self._all_parameters(),
            metrics=self._metrics.summary(),
        )
        try:
            await self._put(manifest_name(self._writer_id), content)
        except BaseException:
            self._manifest_dirty = True
            raise
        self._manifest_stored, self._manifest_closed = True, closed

    def _all_parameters(self) -> dict[str, Any]:
        every = {name: value for name, value in self._whole.items() if value or name != MORE}
        for key, value in self._parameters.found().items():
            # Under its key in the Run; the user's own value of the name is the user's.
            every.setdefault(key, value)
        return every

    async def _put(self, name: str, content: bytes) -> None:
        await self._backend.put(
            name, content, crc32=zlib.crc32(content), media_type="application/json"
        )
