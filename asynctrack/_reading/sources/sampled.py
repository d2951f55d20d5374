"""How the traces of a Run were sampled, as its writers say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

_MAX: Final = 2**63
_COUNTS: Final = (
    "traces_kept", "traces_kept_failed", "traces_left_out", "traces_given_up", "events_left_out",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sampled:
    """How the traces of a Run were sampled. Counts are its writers', at their last update.

    Attributes:
        rate: The part of the traces that is kept; None where a function said so for each, or
            writers had different rates.
        keep_errors: Whether failed traces are kept, whatever their sample.
        traces_kept: Traces that the sample keeps.
        traces_kept_failed: Traces that it leaves out, and that were kept as they failed, or as
            nobody saw their end.
        traces_left_out: Traces of which nothing is stored.
        traces_given_up: Of these, those that were left out before their end, as too much was held.
        events_left_out: Events of the traces that were left out.
    """

    rate: float | None
    keep_errors: bool
    traces_kept: int = 0
    traces_kept_failed: int = 0
    traces_left_out: int = 0
    traces_given_up: int = 0
    events_left_out: int = 0

    @property
    def kept(self) -> int:
        """Traces that were kept."""
        return self.traces_kept + self.traces_kept_failed

    @property
    def traces(self) -> int:
        """All traces, whose end is known or that are kept."""
        return self.kept + self.traces_left_out

    def __str__(self) -> str:
        how = "a function" if self.rate is None else f"{self.rate:g}"
        also = f"; {self.traces_kept_failed:,} of them by keep_errors" if self.keep_errors else ""
        return f"{self.kept:,} of {self.traces:,} traces kept (sample={how}{also})"


def sampled_of(said: Any) -> Sampled | None:
    """Return what a manifest says; None where it says nothing that can be read."""
    if type(said) is not dict:
        return None
    rate = said.get("rate")
    counts = {name: said.get(name) for name in _COUNTS}
    return Sampled(
        rate=float(rate) if isinstance(rate, (int, float)) and 0 <= rate <= 1 else None,
        keep_errors=said.get("keep_errors") is True,
        **{
            name: count if type(count) is int and 0 <= count < _MAX else 0
            for name, count in counts.items()
        },
    )


def together(several: Iterable[Sampled | None]) -> Sampled | None:
    """Return what writers say together; None where none of them has sampled."""
    given = [one for one in several if one is not None]
    if not given:
        return None
    rates = {one.rate for one in given}
    total: Mapping[str, int] = {name: sum(getattr(one, name) for one in given) for name in _COUNTS}
    return Sampled(
        rate=rates.pop() if len(rates) == 1 else None,
        keep_errors=all(one.keep_errors for one in given),
        **total,
    )
