"""Statistics: the frozen snapshot of all counters, and the accounting equation they obey."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Statistics:
    """All counters of one tracker at one moment.

    ``accepted == delivered + spooled + pending + dead_lettered`` holds in every snapshot.
    A dropped event was never accepted, and is counted by its reason.

    Attributes:
        accepted: Events that callbacks handed over and that got a sequence number.
        delivered: Events in artifacts that the backend has acknowledged.
        spooled: Events on disk that the backend has not acknowledged.
        pending: Events in memory: open batch, uploads in flight, waiting for a retry.
        dead_lettered: Events of artifacts that the backend refuses for good.
        dropped: Events never accepted, by reason. ``own_record``: what a logging handler of the
            program made of records that asynctrack's own work wrote, and that never become events.
        waiting_bytes: Size of the spooled and the pending events, in bytes, before compression.
        artifacts: Artifacts acknowledged.
        bytes_delivered: Size of those artifacts, in bytes, compressed.
        retries: Uploads tried again.
        replayed: Events of writers that had died, delivered for them out of the spool. They are
            not part of the equation: other writers accepted them.
        run_updates: UpdateTrialComponent requests that worked.
        metric_points: Metric points that SageMaker has acknowledged.
        metric_points_unsent: Metric points that SageMaker refused, that found no room in the
            queue for it, or that were left when the tracker was closed; those of ``log_metric`` are
            in the artifacts all the same.
        traces_sent: With ``otlp``: traces that the receiver has taken.
        traces_dropped: With ``otlp``: traces that were not sent, by reason. Their events go where
            all events go.
        traces_waiting: With ``otlp``: traces that have begun, and are neither.
        feedback_sent: With ``traces=True``: feedback that MLflow has taken.
        feedback_dropped: With ``traces=True``: feedback that MLflow did not get, by reason. It is
            in the events.
        feedback_waiting: With ``traces=True``: feedback that is neither.
        sampled_out: Events of traces that the sample leaves out: never accepted, not dropped.
        traces_sampled_out: These traces.
        held: Events of traces that the sample leaves out and that have not ended, held by
            ``keep_errors``: accepted if their root fails. They are in no other counter.
    """

    accepted: int = 0
    delivered: int = 0
    spooled: int = 0
    pending: int = 0
    dead_lettered: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    waiting_bytes: int = 0
    artifacts: int = 0
    bytes_delivered: int = 0
    retries: int = 0
    replayed: int = 0
    run_updates: int = 0
    metric_points: int = 0
    metric_points_unsent: int = 0
    sampled_out: int = 0
    traces_sampled_out: int = 0
    held: int = 0
    traces_sent: int = 0
    traces_dropped: Mapping[str, int] = field(default_factory=dict)
    traces_waiting: int = 0
    feedback_sent: int = 0
    feedback_dropped: Mapping[str, int] = field(default_factory=dict)
    feedback_waiting: int = 0

    @property
    def balanced(self) -> bool:
        """Whether the accounting equation holds."""
        return self.accepted == (self.delivered + self.spooled + self.pending + self.dead_lettered)
