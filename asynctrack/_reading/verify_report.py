"""What ``verify`` finds: in numbers, in ranges of events, and in words."""

from __future__ import annotations

from dataclasses import dataclass, field

from asynctrack._reading.sources.manifests import Problem
from asynctrack._reading.sources.ranges import SeqRange
from asynctrack._reading.sources.sampled import Sampled
from asynctrack._reading.sources.wanted import bullets


@dataclass(frozen=True, slots=True)
class WriterReport:
    """What is there of one writer.

    Attributes:
        experiment: The experiment's name.
        run: The Run's name.
        writer_id: Who.
        state: ``closed``, ``open`` (still writing, or it died), or ``unknown`` without a manifest.
        accepted: Events it says it accepted; None without a manifest.
        events: Different events found.
        objects: Objects found.
        bytes: Their size, in bytes.
        verified: Objects whose checksum is the one listed.
        unlisted: Addresses of objects that no manifest lists (yet): nothing to compare with.
        missing: Events that should be there and are not.
        doubled: Events that are there more than once; readers fold them.
        damaged: Objects that are not as they were written, or cannot be read in parts.
        undelivered: Events accepted and not in any manifest's ranges: of an open writer they may
            still come; of a closed one they are missing.
        waiting: Events that are not there and wait in this machine's spool, with their files.
        dead_letters: Events that are not there and lie in this machine's spool as dead letters.
        set_aside: Damaged segments of it that lie in this machine's spool.
        refused: Events that the backend refused for good, which the writer knows of.
        dropped: Events it never accepted.
        sampling: How it sampled; None where it kept all traces.
    """

    experiment: str
    run: str
    writer_id: str
    state: str
    accepted: int | None
    events: int
    objects: int
    bytes: int
    verified: int
    unlisted: tuple[str, ...]
    missing: tuple[SeqRange, ...]
    doubled: tuple[SeqRange, ...]
    damaged: tuple[Problem, ...]
    undelivered: tuple[SeqRange, ...]
    waiting: tuple[SeqRange, ...]
    dead_letters: tuple[SeqRange, ...]
    set_aside: tuple[str, ...]
    refused: tuple[SeqRange, ...]
    dropped: int
    sampling: Sampled | None = None

    @property
    def ok(self) -> bool:
        """Whether every event that should be there is there exactly once, in sound objects."""
        return not (self.missing or self.doubled or self.damaged)

    @property
    def complete(self) -> bool:
        """Whether also all accepted events have arrived, as far as this machine can tell."""
        absent = (self.undelivered, self.waiting, self.dead_letters, self.refused)
        return self.ok and not any(absent)

    def __str__(self) -> str:
        verdict = "all there exactly once" if self.ok else "NOT as it should be"
        if self.ok and not self.complete:
            verdict = "NOT all there yet" if self.undelivered or self.waiting else "NOT all there"
        lines = [
            f"{self.experiment}/{self.run} writer {self.writer_id} ({self.state}):"
            f" {self.events} events in {self.objects} objects, {self.verified} checksums match,"
            f" {verdict}"
        ]
        if self.sampling is not None:
            lines.append(f"  {self.sampling}")
        lines += [f"  missing: {one}" for one in self.missing]
        lines += [f"  doubled: {one}" for one in self.doubled]
        lines += [f"  damaged: {one}" for one in self.damaged]
        lines += [f"  not delivered yet: {one}" for one in self.undelivered]
        lines += [f"  waiting in this machine's spool: {one}" for one in self.waiting]
        lines += [f"  dead letters on this machine: {one}" for one in self.dead_letters]
        lines += [f"  damaged segment on this machine: {one}" for one in self.set_aside]
        lines += [f"  refused by the backend: {one}" for one in self.refused]
        lines += [f"  not in any manifest: {one}" for one in self.unlisted]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Report:
    """What ``verify`` found; ``str(report)`` says it in words.

    Attributes:
        uris: The addresses of the Runs.
        writers: Each writer.
        problems: Manifests that cannot be read, and objects with names of another kind.
    """

    uris: tuple[str, ...]
    writers: tuple[WriterReport, ...]
    problems: tuple[Problem, ...] = field(default=())

    @property
    def ok(self) -> bool:
        """Whether nothing is missing, doubled or damaged, and every manifest can be read."""
        return not self.problems and all(writer.ok for writer in self.writers)

    @property
    def complete(self) -> bool:
        """Whether also all accepted events have arrived, as far as this machine can tell."""
        return self.ok and all(writer.complete for writer in self.writers)

    @property
    def events(self) -> int:
        """Different events found, of all writers."""
        return sum(writer.events for writer in self.writers)

    @property
    def objects(self) -> int:
        """Objects found, of all writers."""
        return sum(writer.objects for writer in self.writers)

    def __str__(self) -> str:
        verdict = "PROBLEMS" if not self.ok else "ok" if self.complete else "INCOMPLETE"
        head = f"{verdict}: {self.events} events in {self.objects} objects"
        lines = [head, *(str(writer) for writer in self.writers)]
        return "\n".join(lines) + bullets([str(problem) for problem in self.problems])
