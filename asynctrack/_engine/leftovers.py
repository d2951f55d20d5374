"""What was not delivered or written when a tracker closed: where it is, and what to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from asynctrack._statistics import Statistics


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What was not delivered or written by the end.

    Attributes:
        run: The Run's name.
        statistics: All counters.
        spool: Where the writer's spooled events are, or None where there is no spool, or where it
            was said before.
        parameters: Parameters that the Run lacks.
        points: Metric points that it lacks.
        manifest: Where the manifest is or would be, or None where that is not known.
        manifest_complete: Whether it says all there is to say.
        limit: What ended the closing, in words: ``within close_timeout=30 seconds``.
    """

    run: str
    statistics: Statistics
    spool: str | None
    parameters: int
    points: int
    manifest: str | None
    manifest_complete: bool
    limit: str

    def tell(self, warn: Callable[[str, str], None]) -> None:
        """Warn of it; says nothing where nothing is left.

        Args:
            warn: Takes what kind of warning it is, and its text.
        """
        statistics = self.statistics
        if statistics.spooled and self.spool is not None:
            warn(
                "left in the spool",
                f"asynctrack could not deliver {statistics.spooled} of {statistics.accepted} events"
                f" to {self.run} {self.limit}. They are on disk in {self.spool};"
                " the next tracker on this machine that uses this spool delivers them, or"
                " `asynctrack spool replay`.",
            )
        if statistics.pending:
            warn(
                "left and lost",
                f"asynctrack could not deliver {statistics.pending} of {statistics.accepted} events"
                f" to {self.run} {self.limit}: they are lost. Warnings above say what stood in the"
                " way.",
            )
        manifest = "the manifest" if self.manifest is None else f"the manifest, {self.manifest}"
        comma = "" if self.manifest is None else ","
        if self.parameters or self.points:
            rest = (
                f"Parameters and the metrics' sums are in {manifest}."
                if self.manifest_complete
                else f"Those of log_parameters and log_metric are in the events; {manifest}{comma}"
                " could not be stored either."
            )
            warn(
                "left out of the Run",
                f"asynctrack could not write {self.parameters} parameters and {self.points} metric"
                f" points into the Run {self.run} {self.limit}. {rest}",
            )
        elif (
            statistics.accepted  # else there is nothing that it could say
            and not self.manifest_complete
            and not (statistics.spooled or statistics.pending)
        ):
            warn(
                "left without a manifest",
                f"asynctrack could not store {manifest} {self.limit}. All events are where they"
                " belong; `asynctrack verify` and the list of Runs lack what it says of them.",
            )
