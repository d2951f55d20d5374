"""What the index holds of each Run, and how far it is: written by the indexer, read by pages."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from asynctrack._reading.sources.locate import Found
from asynctrack._reading.sources.manifests import Metric, Problem
from asynctrack._reading.sources.sampled import Sampled

MAX_PROBLEMS = 200


@dataclass
class RunState:
    """One Run. Fields are replaced whole, so that another thread may read any of them.

    Attributes:
        number: Its number in the index.
        id: Its name in links: the same whenever it is viewed.
        found: Where it is.
        phase: ``waiting`` to be read, ``reading``, or ``ready``.
        events: Events that are in the index.
        total: Events there are, as far as that is known.
        traces: Traces that are in the index.
        spooled: Events that wait in this machine's spool.
        version: Goes up with every change that a page could show.
        closed: Whether all its writers have ended as they should.
        live: Whether it seems to be written right now.
        parameters: Its parameters.
        metrics: Its metrics.
        sampling: How its traces are sampled; None where all are kept.
        problems: What could not be read.
        error: Why it cannot be read at all at the moment.
    """

    number: int
    id: str
    found: Found
    phase: str = "waiting"
    events: int = 0
    total: int = 0
    traces: int = 0
    spooled: int = 0
    version: int = 0
    closed: bool = False
    live: bool = False
    parameters: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    sampling: Sampled | None = None
    problems: list[Problem] = field(default_factory=list)
    error: str | None = None

    @property
    def experiment(self) -> str:
        """The experiment's name."""
        return self.found.locations[0].experiment

    @property
    def name(self) -> str:
        """The Run's name."""
        return self.found.locations[0].run

    @property
    def uris(self) -> list[str]:
        """The addresses of its folders."""
        return [location.uri for location in self.found.locations]

    def report(self, problem: Problem) -> None:
        """Note something that cannot be read, once."""
        if len(self.problems) < MAX_PROBLEMS and problem not in self.problems:
            self.problems = [*self.problems, problem]

    def changed(self) -> None:
        """Note that there is something new to show."""
        self.version += 1


def run_id(found: Found) -> str:
    """Return a Run's name in links, made from its addresses."""
    text = "\n".join(location.uri for location in found.locations)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
