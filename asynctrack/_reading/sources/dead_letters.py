"""Dead letters: events that the backend refused for good, kept on the machine that logged them.

They are in the spool, in files named for their numbers, each with a ``.reason`` beside it. They are
not a part of the Run: reading it reports them, and ``read_dead_letters`` reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from asynctrack._format import ArtifactName
from asynctrack._reading.decoding.events import Damage, Event, read_events
from asynctrack._reading.decoding.values import Texts, Values
from asynctrack._reading.sources.manifests import Problem, WriterManifest
from asynctrack._reading.sources.ranges import SeqRange, SeqSet, subtract, union
from asynctrack._reading.sources.spool import Spool, SpoolWriter, is_same_s3, writers_of
from asynctrack._reading.sources.stores import Location

_REASON: Final = 2_000
"""Characters of a reason that are read."""
_SHORT: Final = 300
"""Characters of it that a problem shows."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that the backend refused for good.

    Attributes:
        event: The event; ``event.spooled`` is True, since it is on this machine only.
        reason: Why, in the backend's words; empty if it is lost.
        path: The file it lies in.
    """

    event: Event
    reason: str
    path: str


def dead_letter_ranges(writer: SpoolWriter) -> list[SeqRange]:
    """Return the sequence numbers of the dead letters, by the names of their files. Blocks."""
    found = []
    for path in writer.dead_letters():
        first, _, last = path.stem.partition("-")
        if first.isdecimal() and last.isdecimal() and int(first) <= int(last):
            found.append(SeqRange(int(first), int(last), (str(path),)))
    return found


def dead_letters_of(spool: Spool, locations: Iterable[Location]) -> list[SeqRange]:
    """Return the sequence numbers of a Run's dead letters on this machine, by the names of their
    files. Blocks."""
    return [
        one
        for location in locations
        for writer in writers_of(spool, location)
        if is_same_s3(writer, location.store)
        for one in dead_letter_ranges(writer)
    ]


def read_dead_letters(
    dead_letters: Iterable[SeqRange], report: Callable[[Problem], None]
) -> Iterator[DeadLetter]:
    """Yield the events of dead letters, each once, with the reason. Blocks.

    Args:
        dead_letters: What ``dead_letters_of`` found.
        report: Called with what cannot be read.
    """
    seen: dict[str, SeqSet] = {}
    texts = Texts()
    for one in dead_letters:
        for path in map(Path, one.objects):
            known = seen.setdefault(path.parent.name, SeqSet())
            for event in _events(path, one, texts, report):
                if event.seq not in known:
                    known.add(event.seq, event.seq)
                    yield DeadLetter(event, _reason(path), str(path))


def refused_events(writers: Iterable[WriterManifest], dead_letters: Iterable[SeqRange]) -> int:
    """Return how many events manifests and dead letters say were refused for good.

    Events that were sent again and delivered since do not count.
    """
    known: dict[str, list[tuple[int, int]]] = {}
    delivered: dict[str, list[tuple[int, int]]] = {}
    for writer in writers:
        known.setdefault(writer.writer_id, []).extend(writer.refused_ranges)
        delivered.setdefault(writer.writer_id, []).extend(
            (receipt.first_seq, receipt.last_seq) for receipt in writer.artifacts
        )
    for one in dead_letters:
        for path in one.objects:
            known.setdefault(Path(path).parent.name, []).append((one.first_seq, one.last_seq))
    return sum(
        last - first + 1
        for writer_id, some in known.items()
        if some
        for first, last in subtract(union(some), union(delivered.get(writer_id, ())))
    )


def dead_letter_problems(dead_letters: Iterable[SeqRange]) -> list[Problem]:
    """Return dead letters as problems of the Run: it is read without them. Blocks."""
    problems = []
    for one in dead_letters:
        for path in one.objects:
            why = " ".join(_reason(Path(path)).split())[:_SHORT]
            problems.append(
                Problem(
                    path,
                    f"dead letters, not read: events {one.first_seq} to {one.last_seq}, refused for"
                    f" good{f' ({why})' if why else ''}; asynctrack show --dead-letters and"
                    " run.dead_letter_events() read them, asynctrack spool replay --dead-letters"
                    " sends them again",
                )
            )
    return problems


def _events(
    path: Path, numbers: SeqRange, texts: Texts, report: Callable[[Problem], None]
) -> Iterator[Event]:
    try:
        content = path.read_bytes()
    except OSError as error:
        report(Problem(str(path), f"cannot be read: {error.strerror or error}"))
        return
    bad: list[Damage] = []

    def damaged(damage: Damage) -> None:
        if not bad:
            bad.append(damage)

    # A writer's folder bears its name.
    place = ArtifactName(path.parent.name, numbers.first_seq, numbers.last_seq, "")
    yield from read_events(content, "", place, damaged, spooled=True, values=Values(texts))
    if bad:
        report(Problem(str(path), bad[0].reason, bad[0].line))


def _reason(path: Path) -> str:
    try:
        with path.with_suffix(".reason").open(encoding="utf-8", errors="replace") as file:
            return file.read(_REASON)
    except OSError:
        return ""
