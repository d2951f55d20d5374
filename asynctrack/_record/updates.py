"""Sends parameters to the Run: one request a second for all trackers of it, deltas only.

``parameters`` decides what to send; AWS merges by key. The Run is read before the first write,
whenever another tracker of this process has written, and once more at the end, in case another
writer chose the same keys at the same moment. The manifest holds whole what is too long for the
Run or has no room there.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Final

from asynctrack._backends.protocol import Backend, Record
from asynctrack._capture.attributes import Attribute
from asynctrack._capture.redact import REDACTED, Redactor
from asynctrack._capture.secrets import is_secret_name
from asynctrack._common.artifact import RunState, Written
from asynctrack._common.notices import Notices
from asynctrack._errors import PermanentError
from asynctrack._record.allocation import HEAD_ROOM, MORE, PeerParameters, TooLong, WantedValue
from asynctrack._record.limits import MAX_ARTIFACT_VALUE, MAX_STRING, limits_of
from asynctrack._record.manifest import ManifestUpload
from asynctrack._record.parameters import Delta, RunParameters

ATTEMPTS: Final = 4
"""Most updates in one write: one that removes, one after reading again, one for what is new."""
UPDATE_INTERVAL: Final = 1.0
"""Least seconds between two UpdateTrialComponent requests to one Run."""
MAX_RUNS: Final = 256
"""Runs that are remembered: the latest."""

_EVENTS = "asynctrack.events"
_MANIFEST = "asynctrack.manifest"


class SharedRun:
    """What the trackers of one process share that write to the same Run; thread-safe.

    Args:
        interval: Seconds between two writes.
    """

    def __init__(self, interval: float = UPDATE_INTERVAL) -> None:
        self._interval = interval
        self._lock = threading.Lock()
        self._next = float("-inf")
        self.writes = 0
        """How often these trackers have written. Who has missed a write reads the Run again."""
        self.peers: PeerParameters = {}
        """What these trackers have in the Run and may remove for each other."""

    def reserve(self, now: float) -> float:
        """Take the next free moment for a write; return how long to wait for it, in seconds.

        Args:
            now: Monotonic clock, in seconds.
        """
        with self._lock:
            at = max(now, self._next)
            self._next = at + self._interval
        return at - now

    def wrote(self) -> int:
        """Count a write; return how many there are now."""
        with self._lock:
            self.writes += 1
            return self.writes


def shared_run(target: str) -> SharedRun:
    """Return what all trackers of this process share that write to the same place.

    Args:
        target: The place; empty where nothing has to be paced.
    """
    if not target:
        return SharedRun(0.0)
    # A forked child has its own: a thread of the parent may hold the lock at that moment.
    shared = _shared_runs.setdefault((os.getpid(), target), SharedRun())
    while len(_shared_runs) > MAX_RUNS:
        _shared_runs.pop(next(iter(_shared_runs)), None)
    return shared


_shared_runs: dict[tuple[int, str], SharedRun] = {}


class RunUpdates:
    """Writes one writer's parameters into the Run.

    Args:
        backend: Where the events go.
        record: Reaches the Run; None where there is none, and nothing is sent.
        manifest: Stores every parameter whole.
        redactor: Cuts secrets out of what was found.
        notices: Rate-limited warnings.
        shared: What other trackers of this Run share with it.
        sleep: Waits, in seconds.
        monotonic: The clock, in seconds.
    """

    def __init__(
        self,
        *,
        backend: Backend,
        record: Record | None,
        manifest: ManifestUpload,
        redactor: Redactor,
        notices: Notices,
        shared: SharedRun,
        sleep: Callable[[float], Awaitable[None]],
        monotonic: Callable[[], float],
    ) -> None:
        self._backend = backend
        self._record = record
        self._limits = limits_of(record)
        self._manifest = manifest
        self._redactor = redactor
        self._notices = notices
        self._shared = shared
        self._sleep = sleep
        self._monotonic = monotonic
        self._parameters = RunParameters(shared.peers, self._limits)
        self._before: dict[str, Any] = {}
        self._written: list[Written] = []
        self._looked = self._looked_last = False
        self._addressed = False
        self._writes_seen = 0
        self._artifacts: frozenset[str] | None = None
        self.announce = False
        """Whether the Run has to say where the events are, even if there are no parameters."""
        self.sent = 0
        """Requests that worked."""

    @property
    def unwritten(self) -> int:
        """Parameters that are missing in the Run although there is room for them."""
        return self._parameters.unwritten

    @property
    def progress(self) -> object:
        """A value that changes with each successful request."""
        return self.sent, self._looked, self._looked_last

    def log(self, name: str, value: Any, before: Mapping[str, Any]) -> None:
        """Want a parameter of the user's in the Run.

        Args:
            name: Its name.
            value: Plain data.
            before: The parameters in the user's Run object at that moment.
        """
        self._before.pop(name, None)
        if name in before:
            self._before[name] = before[name]
        whole = self._manifest.parameters
        if name in whole and whole[name] == value:
            self._outdate(self._parameters.sent(name))
            return
        whole[name] = value
        fitting = self._limits.value(value)
        self._parameters.log(name, TooLong(name) if fitting is None else fitting)
        self._tell_kept()
        self._manifest.changed()

    def add_found(self, attributes: Mapping[str, Attribute]) -> None:
        """Want in the Run what was found in a chain."""
        group: dict[str, WantedValue] = {}
        for name, value in attributes.items():
            if isinstance(value, str):
                value = REDACTED if is_secret_name(name) else self._redactor.text(value)
            elif isinstance(value, list):
                value = [self._redactor.text(item) for item in value]
            fitting = self._limits.value(value)
            # The key leaves room for a suffix. The events hold a value whole that is too long.
            key = self._limits.key(self._redactor.text(name))[: self._limits.max_key - 4]
            group[key] = TooLong(key) if fitting is None else fitting
            if fitting is None:
                self._manifest.parameters.setdefault(key, value)
        if self._parameters.add_group(group):
            self._manifest.changed()

    def found(self) -> dict[str, object]:
        """Return what was found, under the names it has or is going to have in the Run."""
        return self._parameters.found()

    def outdated(self) -> Iterator[Written]:
        """Yield each value, once, that is older in the user's Run object; any thread."""
        while self._written:
            yield self._written.pop(0)

    def needed(self, closed: bool) -> bool:
        """Return whether there may be anything to write.

        Args:
            closed: Whether this is the last time.
        """
        # A Run says where its events are even if its chains hold nothing to record.
        return bool(
            self._parameters.waiting
            or (self.announce and not self._addressed and self._backend.located)
            or (closed and self._parameters.wrote)
            or (self._looked and self._parameters.crowded(self._announced()))
        )

    async def send(self, closed: bool) -> None:
        """Write into the Run what is missing there.

        Args:
            closed: Whether this is the last time.

        Raises:
            BackendError: Not all of it is written.
        """
        parameters = self._parameters
        if not self.needed(closed):
            return
        if not self._looked or (closed and not self._looked_last):
            await self._look()
            self._looked_last = closed
        looked_again = False
        for _ in range(ATTEMPTS):
            self._add_addresses()
            delta = self._plan()
            if not delta:
                break
            wait = self._shared.reserve(self._monotonic())
            if wait > 0:
                await self._sleep(wait)
            outdated = self._shared.writes != self._writes_seen
            if outdated:
                await self._look()  # another tracker of this process has written
            if wait > 0 or outdated:
                delta = self._plan()  # the user's Run object may have grown
                if not delta:
                    break
            parameters.tell_peers(delta)
            try:
                await self._update(delta)
            except PermanentError as error:
                if not looked_again:
                    # Perhaps another writer took the last places.
                    looked_again = True
                    await self._look()
                    continue
                parameters.refused(delta)
                self._tell_refused(delta, error)
        self._tell_left_out()

    async def _update(self, delta: Delta) -> None:
        artifacts = self._artifact_entry()
        assert self._record is not None
        await self._record.update(delta.put, artifacts, delta.remove)
        self.sent += 1
        if (writes := self._shared.wrote()) == self._writes_seen + 1:
            self._writes_seen = writes
        self._parameters.done(delta)
        self._artifacts = (self._artifacts or frozenset()) | artifacts.keys()
        for key in delta.put:
            self._outdate((key, delta.put[key]))

    def _plan(self) -> Delta:
        delta = self._parameters.plan(
            self._announced(), self._manifest.uri if self._backend.located else None
        )
        left_out = self._parameters.left_out()
        whole = self._manifest.parameters
        if left_out != whole.pop(MORE, []):
            self._manifest.changed()
        if left_out:
            whole[MORE] = left_out
        return delta

    async def _look(self) -> None:
        writes = self._shared.writes
        assert self._record is not None
        state: RunState = await self._record.state()
        self._parameters.look(state)
        self._artifacts = frozenset(state.output_artifacts)
        self._looked, self._writes_seen = True, writes

    def _announced(self) -> frozenset[str]:
        return frozenset(map(str, list(self._record.local() if self._record else ())))

    def _add_addresses(self) -> None:
        if self._backend.located and not self._addressed:
            self._addressed = True
            for name, uri in ((_EVENTS, self._backend.uri()), (_MANIFEST, self._manifest.uri)):
                self._parameters.add_group({name: uri[:MAX_STRING]}, address=True)

    def _artifact_entry(self) -> dict[str, str]:
        """Return the one output artifact of a Run, if it is missing there and has room."""
        uri = self._backend.uri() if self._backend.located else ""
        there = self._artifacts
        if (
            there is None
            or not uri
            or _EVENTS in there
            or len(there) >= self._limits.artifacts
            or len(uri) > MAX_ARTIFACT_VALUE
        ):
            return {}
        return {_EVENTS: uri}

    def _outdate(self, sent: tuple[str, Any] | None) -> None:
        """Note that the user's Run object has an older value of this parameter."""
        if sent is not None and sent[0] in self._before:
            self._written.append(Written(*sent, self._before.pop(sent[0])))

    def _tell_refused(self, delta: Delta, error: PermanentError) -> None:
        self._notices.warn(
            "update_refused",
            f"asynctrack could not write {len(delta.put)} parameters into the Run:"
            f" {self._limits.service} refuses them ({error}). They are in the manifest,"
            f" {self._manifest.uri}.",
        )

    def _tell_kept(self) -> None:
        if kept := self._parameters.kept:
            self._notices.warn(
                "parameters_changed",
                f"asynctrack left the first value of {len(kept)} parameters in the Run:"
                f" {self._limits.service} lets none change. The later values are in the manifest"
                " and in the events.",
            )
            kept.clear()

    def _tell_left_out(self) -> None:
        left_out = self._parameters.left_out()
        self._tell_kept()
        if any(isinstance(one, str) for one in left_out):
            self._notices.warn(
                "parameters_full",
                f"asynctrack left {len(left_out)} parameters out of the Run:"
                f" {self._limits.service} takes {self._limits.parameters}, of which the last"
                f" {HEAD_ROOM} are kept for those of run.log_parameter. All of them are in the"
                f" manifest, {self._manifest.uri}.",
            )
