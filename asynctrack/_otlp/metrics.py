"""Our own counters as OpenTelemetry metrics, where the program has its API.

The instruments are made once in a process, for all its trackers, and read ``statistics()`` when
somebody collects: nothing of it is on the way of an event. They belong to the provider that the
program sets, also where it does so later.

Nothing is imported here: a program that has a provider has imported the API, and it is found where
it is. What a tracker counted stays counted when it has closed, so that sums only grow.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final
from weakref import WeakKeyDictionary

from asynctrack._common.notices import report
from asynctrack._statistics import Statistics

Source = Callable[[], Statistics]

_EXPERIMENT: Final = "asynctrack.experiment"
_REASON: Final = "asynctrack.reason"

_SUMS: Final[Mapping[str, tuple[str, str, Callable[[Statistics], int]]]] = {
    "asynctrack.events.accepted": (
        "{event}", "Events that callbacks handed over.", lambda one: one.accepted),
    "asynctrack.events.delivered": (
        "{event}", "Events in artifacts that are acknowledged.", lambda one: one.delivered),
    "asynctrack.events.dead_lettered": (
        "{event}", "Events that are refused for good.", lambda one: one.dead_lettered),
    "asynctrack.events.replayed": (
        "{event}", "Events delivered for writers that had died.", lambda one: one.replayed),
    "asynctrack.artifacts.delivered": (
        "{artifact}", "Artifacts that are acknowledged.", lambda one: one.artifacts),
    "asynctrack.artifacts.size": (
        "By", "Size of these artifacts, compressed.", lambda one: one.bytes_delivered),
    "asynctrack.upload.retries": (
        "{retry}", "Uploads tried again.", lambda one: one.retries),
    "asynctrack.traces.sent": (
        "{trace}", "Traces that a receiver has taken, with otlp=.", lambda one: one.traces_sent),
}  # fmt: skip
_BY_REASON: Final[Mapping[str, tuple[str, str, Callable[[Statistics], Mapping[str, int]]]]] = {
    "asynctrack.events.dropped": (
        "{event}", "Events that were not accepted.", lambda one: one.dropped),
    "asynctrack.traces.dropped": (
        "{trace}", "Traces that were not sent, with otlp=.", lambda one: one.traces_dropped),
}  # fmt: skip
_NOW: Final[Mapping[str, tuple[str, str, Callable[[Statistics], int]]]] = {
    "asynctrack.events.spooled": (
        "{event}", "Events on disk that are not acknowledged.", lambda one: one.spooled),
    "asynctrack.events.pending": (
        "{event}", "Events in memory that are not acknowledged.", lambda one: one.pending),
    "asynctrack.buffer.size": (
        "By", "Size of the events that are not acknowledged.", lambda one: one.waiting_bytes),
    "asynctrack.traces.waiting": (
        "{trace}", "Traces to be sent, with otlp=.", lambda one: one.traces_waiting),
}  # fmt: skip
_LATENCY: Final = "asynctrack.upload.duration"
_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """The instruments of this process.

    Args:
        api: The module ``opentelemetry.metrics``.
    """

    def __init__(self, api: Any) -> None:
        self._api = api
        self._lock = threading.RLock()  # re-entrant: a finalizer may close a tracker
        self._open: WeakKeyDictionary[Any, tuple[str, Source]] = WeakKeyDictionary()
        self._past: dict[str, Counter[tuple[str, str | None]]] = {}
        meter = api.get_meter("asynctrack")
        for name, (unit, text, _) in (*_SUMS.items(), *_BY_REASON.items()):
            meter.create_observable_counter(
                name, callbacks=[self._observer(name)], unit=unit, description=text
            )
        for name, (unit, text, _) in _NOW.items():
            meter.create_observable_up_down_counter(
                name, callbacks=[self._observer(name)], unit=unit, description=text
            )
        text = "Time of an upload that was acknowledged, without those before that failed."
        try:
            self._latency = meter.create_histogram(
                _LATENCY,
                unit="s",
                description=text,
                explicit_bucket_boundaries_advisory=list(_BUCKETS),
            )
        except TypeError:  # an API from before 1.30
            self._latency = meter.create_histogram(_LATENCY, unit="s", description=text)

    def add(self, tracker: Any, experiment: str, source: Source) -> Callable[[float], None]:
        """Count what a tracker counts; return what is told the seconds of each upload.

        Args:
            tracker: Who is forgotten when it is gone.
            experiment: What it tracks into.
            source: Reads its counters; must not hold the tracker.
        """
        with self._lock:
            self._open[tracker] = experiment, source
        attributes = {_EXPERIMENT: experiment}

        def uploaded(seconds: float) -> None:
            self._latency.record(seconds, attributes)

        return uploaded

    def close(self, tracker: Any) -> None:
        """Keep what a tracker has counted: it counts no more."""
        with self._lock:
            found = self._open.pop(tracker, None)
            if found is None:
                return
            experiment, source = found
            counted = source()
            for name in (*_SUMS, *_BY_REASON):
                kept = self._past.setdefault(name, Counter())
                for reason, value in _values(name, counted):
                    kept[experiment, reason] += value

    def _observer(self, name: str) -> Callable[[Any], Iterable[Any]]:
        def observe(_: Any) -> Iterator[Any]:
            with self._lock:
                sums = Counter(self._past.get(name, {}))
                for experiment, source in list(self._open.values()):
                    for reason, value in _values(name, source()):
                        sums[experiment, reason] += value
            for (experiment, reason), value in sums.items():
                attributes = {_EXPERIMENT: experiment}
                if reason is not None:
                    attributes[_REASON] = reason
                yield self._api.Observation(value, attributes)

        return observe


def _values(name: str, counted: Statistics) -> Iterator[tuple[str | None, int]]:
    if name in _BY_REASON:
        yield from _BY_REASON[name][2](counted).items()
    else:
        yield None, (_SUMS.get(name) or _NOW[name])[2](counted)


_metrics: Metrics | None = None
_lock = threading.RLock()


def count_as_metrics(
    tracker: Any, experiment: str, source: Source
) -> Callable[[float], None] | None:
    """Count what a tracker counts, where the program has OpenTelemetry's API; see ``Metrics.add``.

    Raises nothing; None where it has not.
    """
    global _metrics
    api = sys.modules.get("opentelemetry.metrics")
    if api is None:
        return None
    try:
        with _lock:
            if _metrics is None:
                _metrics = Metrics(api)
        return _metrics.add(tracker, experiment, source)
    except Exception as error:  # an API that is half imported, or another one of this name
        report(error, "asynctrack cannot offer its counters as OpenTelemetry metrics")
        return None


def stop_counting(tracker: Any) -> None:
    """Keep what a tracker has counted as it closes."""
    if _metrics is not None:
        _metrics.close(tracker)


def _after_fork() -> None:
    """Forget the parent's counters: the child is another writer."""
    global _lock
    _lock = threading.RLock()
    if _metrics is not None:
        _metrics._lock = threading.RLock()
        _metrics._past.clear()
        _metrics._open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
