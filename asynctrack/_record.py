"""Receipts, parameters and metrics to the Run: coalesced, within AWS's limits, nothing lost.

Only deltas are sent, since AWS merges the parameters by key. What asynctrack finds by itself goes
under keys that nobody else uses: the Run is read before the first write, and once more at the end
in case another writer chose the same at the same moment. The manifest holds everything whole.
"""

from __future__ import annotations

import random
import time
import zlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import anyio

from asynctrack import _limits
from asynctrack._artifact import MetricPoint, ParameterValue, Receipt, RunState
from asynctrack._attributes import Attribute
from asynctrack._backends._protocol import Backend
from asynctrack._errors import BackendError, PermanentError
from asynctrack._format import manifest_name
from asynctrack._manifest import Manifest
from asynctrack._metrics import MetricLog
from asynctrack._notices import Notices
from asynctrack._observe import Observations
from asynctrack._redact import REDACTED, Redactor
from asynctrack._retry import RetryPolicy
from asynctrack._secrets import is_secret_name

UPDATE_INTERVAL: Final = 1.0
"""Seconds between two UpdateTrialComponent requests at the least."""
WINDOW: Final = 10.0
"""Seconds of measurements in one point of a metric, and between two manifests."""
SLOTS: Final = 20
"""Model configurations, prompts and manifests that get parameters of their own in the Run."""
OWN_PARAMETERS: Final = 100
"""Parameters that asynctrack adds by itself at the most; the rest is the user's."""
METRICS_PER_CALL: Final = 10
"""Points in one BatchPutMetrics request at the most."""
MAX_UNSENT_POINTS: Final = 100_000

_EVENTS = "asynctrack.events"
_MANIFEST = "asynctrack.manifest"
_MORE = "asynctrack.more_parameters"


@dataclass(slots=True)
class RecordCounts:
    """What was written to the Run."""

    updates: int = 0
    points: int = 0
    points_refused: int = 0


@dataclass(slots=True)
class _Groups:
    """What asynctrack found by itself: keys that belong together, and where they were put."""

    wanted: list[dict[str, ParameterValue]] = field(default_factory=list)
    placed: list[tuple[dict[str, ParameterValue], dict[str, ParameterValue]]] = field(
        default_factory=list
    )


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
        self._monotonic = monotonic
        self._uniform = uniform
        self._lock = anyio.Lock()
        self._policy = RetryPolicy(base=1.0, cap=30.0)
        self._manifest = Manifest(writer_id, backend.experiment, backend.run)
        self._metrics = MetricLog()
        self._points: list[MetricPoint] = []
        self._whole: dict[str, Any] = {}
        self._unsent: dict[str, ParameterValue] = {}
        self._groups = _Groups()
        self._known: dict[str, ParameterValue] = {}
        self._state: RunState | None = None
        self._own = 0
        self._announce = False
        self._failures = 0
        self._last_update = float("-inf")
        self._window_end = monotonic() + WINDOW
        self._manifest_due = monotonic() + WINDOW
        self._manifest_dirty = False
        self.written: dict[str, ParameterValue] = {}
        self.counted = RecordCounts()

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
    def unwritten(self) -> tuple[int, int]:
        """Parameters and metric points that the Run lacks."""
        parameters = len(self._unsent) + sum(map(len, self._groups.wanted))
        return parameters, len(self._points)

    @property
    def manifest_uri(self) -> str:
        """Where the manifest is."""
        return self._manifest_uri

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
            return await self._write(everything, closed)

    async def _write(self, everything: bool, closed: bool) -> float | None:
        self._collect(everything)
        waits = [
            await self._attempt(self._write_parameters(closed)),
            await self._attempt(self._send_points()),
        ]
        if everything or self._monotonic() >= self._manifest_due:
            waits.append(await self._attempt(self._store_manifest(closed)))
        failed = [wait for wait in waits if wait is not None]
        self._failures = self._failures + 1 if failed else 0
        return max(failed, default=None)

    async def _attempt(self, part: Awaitable[None]) -> float | None:
        """Do one part; where the backend fails it, return how long to wait before the next try."""
        try:
            await part
        except BackendError as error:
            self._tell(error)
            return self._policy.wait(self._failures + 1, self._uniform(), error.retry_after)
        return None

    async def _write_parameters(self, closed: bool) -> None:
        # A Run whose chains hold nothing to record says where their events are all the same.
        unannounced = self._announce and self._state is None
        if self._unsent or self._groups.wanted or unannounced:
            await self._update()
        if closed and self._groups.placed:
            await self._settle_collisions()

    # -- collecting ---------------------------------------------------------------------------

    def _collect(self, everything: bool) -> None:
        for values in self._observations.take_parameters():
            for name, value in values.items():
                if name in self._whole and self._whole[name] == value:
                    continue
                self._whole[name] = value
                self._want(name, value)
                self._manifest_dirty = True
        for attributes in self._observations.take_models():
            self._want_group(attributes)
        for name in self._observations.take_prompts():
            self._want_group({"langchain.prompt.name": name})
        points = self._metrics.points(self._observations.take_points())
        now = self._monotonic()
        if everything or now >= self._window_end:
            window = self._observations.take_window()
            if not window.empty:
                points += self._metrics.window(window, time.time_ns())
            if now >= self._window_end:
                self._window_end = now + WINDOW
        if points:
            self._manifest_dirty = True
            room = MAX_UNSENT_POINTS - len(self._points)
            self._points += points[:room]
            self.counted.points_refused += len(points[room:])

    def _want(self, name: str, value: Any) -> None:
        fitting = _limits.parameter_value(value)
        if fitting is None:
            fitting = _limits.pointer(self._manifest_uri, name)
        self._unsent[_limits.parameter_key(name)] = fitting

    def _want_group(self, attributes: Mapping[str, Attribute]) -> None:
        group: dict[str, ParameterValue] = {}
        for name, value in attributes.items():
            if isinstance(value, str):
                value = REDACTED if is_secret_name(name) else self._redactor.text(value)
            key = _limits.parameter_key(name)
            fitting = _limits.parameter_value(value)
            # Room for a suffix behind the key; a value too long is whole in the events.
            group[key[: _limits.MAX_KEY - 4]] = (
                _limits.pointer(self._manifest_uri, name) if fitting is None else fitting
            )
            if fitting is None:
                self._whole.setdefault(name, value)
        if group not in self._groups.wanted:
            self._groups.wanted.append(group)
            self._manifest_dirty = True

    @property
    def _manifest_uri(self) -> str:
        return self._backend.uri(manifest_name(self._writer_id))

    # -- the Run ------------------------------------------------------------------------------

    async def _update(self) -> None:
        if self._state is None:
            state = await self._backend.state()
            self._state = state
            self._known = dict(state.parameters)
            uri = self._backend.uri()
            self._groups.wanted.insert(0, {_EVENTS: uri})
            self._groups.wanted.insert(1, {_MANIFEST: self._manifest_uri})
        self._place_groups()
        parameters, left_out = self._within_limit()
        if not parameters:
            self._unsent.clear()
            return
        artifacts = self._artifact_entry()
        wait = self._last_update + UPDATE_INTERVAL - self._monotonic()
        if wait > 0:
            await self._sleep(wait)
        self._last_update = self._monotonic()
        try:
            await self._backend.update(parameters, artifacts)
        except PermanentError as error:
            self._notices.warn(
                "update_refused",
                f"asynctrack could not write {len(parameters)} parameters into the Run: SageMaker"
                f" refuses them ({error}). They are in the manifest, {self._manifest_uri}.",
            )
        else:
            self.counted.updates += 1
            self.written.update(parameters)
        self._known.update(parameters)
        for key, value in parameters.items():
            if self._unsent.get(key) == value:
                del self._unsent[key]
        for key in left_out:
            self._unsent.pop(key, None)

    def _place_groups(self) -> None:
        """Give each group keys that nobody else uses."""
        state = self._state
        assert state is not None
        taken = {**self._known, **self._unsent}
        for group in self._groups.wanted:
            named = _limits.free_slot(group, taken, state.announced, SLOTS)
            new = () if named is None else [key for key in named if key not in taken]
            if named is None or self._own + len(new) > OWN_PARAMETERS:
                # Too many for the Run: whole in the manifest, and in the events anyway.
                self._leave_out([dict(group)])
                self._unsent[_MORE] = _limits.pointer(self._manifest_uri, _MORE)
                continue
            self._own += len(new)
            self._groups.placed.append((group, named))
            taken.update(named)
            self._whole.update({key: self._whole.get(key, value) for key, value in named.items()})
            self._unsent.update(
                {key: value for key, value in named.items() if self._known.get(key) != value}
            )
        self._groups.wanted.clear()

    def _within_limit(self) -> tuple[dict[str, ParameterValue], list[str]]:
        """Return what fits into the Run's parameters, and the keys that do not."""
        state = self._state
        assert state is not None
        there = set(self._known) | state.announced
        new = [key for key in self._unsent if key not in there]
        room = _limits.MAX_PARAMETERS - len(there)
        if len(new) <= room:
            return dict(self._unsent), []
        room -= 0 if _MORE in there else 1  # for the pointer
        left_out = [key for key in new if key != _MORE][max(0, room) :]
        parameters = {key: value for key, value in self._unsent.items() if key not in left_out}
        if room >= 0:
            parameters[_MORE] = _limits.pointer(self._manifest_uri, _MORE)
            self._leave_out(left_out)
        self._notices.warn(
            "parameters_full",
            f"asynctrack left {len(left_out)} parameters out of the Run: AWS takes"
            f" {_limits.MAX_PARAMETERS}. All of them are in the manifest, {self._manifest_uri}.",
        )
        return parameters, left_out

    def _leave_out(self, what: Iterable[Any]) -> None:
        """Name in the manifest what did not fit into the Run."""
        self._whole[_MORE] = [*self._whole.get(_MORE, ()), *what]
        self._manifest_dirty = True

    def _artifact_entry(self) -> dict[str, str]:
        """Return the one output artifact of a Run, where it is not there yet and has room."""
        state = self._state
        uri = self._backend.uri()
        if (
            state is None
            or _EVENTS in state.output_artifacts
            or _EVENTS in self.written
            or len(state.output_artifacts) >= _limits.MAX_SDK_ARTIFACTS
            or len(uri) > _limits.MAX_ARTIFACT_VALUE
        ):
            return {}
        return {_EVENTS: uri}

    async def _settle_collisions(self) -> None:
        """Look whether another writer took our keys meanwhile, and move ours if so."""
        self._state = await self._backend.state()
        known = dict(self._state.parameters)
        lost = [
            (group, named)
            for group, named in self._groups.placed
            if any(key in known and known[key] != value for key, value in named.items())
        ]
        if not lost:
            return
        self._known = known
        for pair in lost:
            self._groups.placed.remove(pair)
            self._groups.wanted.append(pair[0])
        await self._update()

    async def _send_points(self) -> None:
        while self._points:
            now = time.time()
            chunk = [_limits.clamp_time(p, now) for p in self._points[:METRICS_PER_CALL]]
            try:
                again = await self._backend.put_metrics(chunk)
            except PermanentError as error:
                again = ()
                self.counted.points_refused += len(chunk)
                self._notices.warn(
                    "metrics_refused",
                    f"asynctrack could not write {len(chunk)} metric points into the Run:"
                    f" SageMaker refuses them ({error}). Those of log_metric are in the events.",
                )
            else:
                self.counted.points += len(chunk) - len(again)
            self._points[:METRICS_PER_CALL] = []
            if again:
                self._points = [*again, *self._points]
                await self._sleep(UPDATE_INTERVAL)

    async def _store_manifest(self, closed: bool) -> None:
        if not (self._manifest_dirty or closed):
            return
        while (page := self._manifest.full_page()) is not None:
            await self._put(*page)
            self._manifest.page_stored(page[0])
        counts = self._counts()
        if not (counts.get("accepted") or self._whole or self._manifest_dirty):
            return
        self._manifest_dirty = False
        self._manifest_due = self._monotonic() + WINDOW
        content = self._manifest.encode(
            state="closed" if closed else "open",
            counts=counts,
            parameters=self._whole,
            metrics=self._metrics.summary(),
        )
        try:
            await self._put(manifest_name(self._writer_id), content)
        except BackendError:
            self._manifest_dirty = True
            raise

    async def _put(self, name: str, content: bytes) -> None:
        await self._backend.put(
            name, content, crc32=zlib.crc32(content), media_type="application/json"
        )

    def _tell(self, error: BackendError) -> None:
        if self._failures >= 3 or isinstance(error, PermanentError):
            self._notices.warn(
                f"record:{error.code}",
                f"asynctrack cannot write to the Run at the moment ({error}). Events go on to be"
                " uploaded; parameters and metrics wait in memory and are tried again.",
            )
