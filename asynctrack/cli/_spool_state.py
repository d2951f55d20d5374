"""What waits in a spool, writer by writer: for all commands that show or deliver it.

Everything in a spool is untrusted: it may come from another machine, and names are whatever users
and their programs made of them. It is printed escaped, never as markup.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asynctrack._backends.belonging import is_nameless
from asynctrack._spool.layout import (
    DIRECTORY_VERSION,
    dead_letters_in,
    default_spool_dir,
    is_alive,
    read_description,
    spool_places,
    usable_spools,
    waiting_segments,
    writers,
)
from asynctrack._spool.recovery import held_events

from ._common import Missing
from ._screen import Screen, printable


@dataclass(frozen=True, slots=True)
class WriterState:
    """What a writer has in the spool.

    Attributes:
        writer_id: Who.
        state: ``living`` (it delivers itself, or is being replayed) or ``dead``.
        experiment: Where its events belong, as far as it says so.
        run: The same.
        destination: The address, or empty.
        where: The same in words, also where the address is not complete.
        segments: Files of lines that wait.
        events: Sound events in them.
        bytes: Size of these, in bytes.
        damaged: Events that are damaged, in these and in files set aside before.
        unreadable: Segments that cannot be read at all.
        dead_letters: Files of events that the backend refused for good.
        held: Events of traces that had not ended, held by ``keep_errors``.
        problems: What is wrong, in words.
    """

    writer_id: str
    state: str
    experiment: str
    run: str
    destination: str
    where: str
    segments: int
    events: int
    bytes: int
    damaged: int
    unreadable: int
    dead_letters: int
    held: int
    problems: tuple[str, ...]


def states(spool_dir: Path) -> list[WriterState]:
    """Look at every writer. Blocks: reads every segment; changes nothing."""
    return [_state(folder) for folder in writers(spool_dir)]


def _state(folder: Path) -> WriterState:
    from asynctrack._delivery.replay_plan import (  # only here: few commands need it
        numbers,
        plan_segment,
    )

    alive = is_alive(folder)
    info = read_description(folder)
    events = size = damaged = unreadable = segments = 0
    problems: list[str] = []
    held = 0
    try:
        held = held_events(folder)
    except OSError as error:
        problems.append(str(error))
    aside = sorted(folder.glob("*.damaged"))
    for path in (*waiting_segments(folder), *aside):
        plan = plan_segment(path)
        if plan.problem:
            if not path.exists():
                continue  # delivered meanwhile
            unreadable += 1
            problems.append(plan.problem)
        if plan.damaged:
            damaged += len(plan.damaged)
            problems.append(
                f"{path}: {len(plan.damaged)} damaged events (seq {numbers(plan.damaged)})"
            )
        if path not in aside:
            segments += 1
            events += plan.events
            size += sum(len(batch.raw) for batch in plan.batches)
    return WriterState(
        writer_id=folder.name,
        state="living" if alive else "dead",
        experiment=str(info.get("experiment", "")),
        run=str(info.get("run", "")),
        destination=address(info.get("destination")),
        where=in_words(info.get("destination")),
        segments=segments,
        events=events,
        bytes=size,
        damaged=damaged,
        unreadable=unreadable,
        dead_letters=len(dead_letters_in(folder)),
        held=held,
        problems=tuple(problems),
    )


def address(destination: Any) -> str:
    """Return where a writer says its events belong; empty where it does not."""
    if not isinstance(destination, dict):
        return ""
    bucket, root = destination.get("bucket"), destination.get("root")
    if destination.get("kind") == "s3":
        return f"s3://{bucket}/{root}" if bucket and root else ""
    return str(root) if destination.get("kind") == "folder" and root else ""


def in_words(destination: Any) -> str:
    """Return where a writer says its events belong, in words."""
    if is_beside_artifacts(destination):
        named = f"{destination.get('experiment')}/{destination.get('run')}"
        return f"beside the artifacts of MLflow's run {named}"
    if is_in_account_bucket(destination):
        return f"the account's default bucket in {destination.get('region')}, {destination['root']}"
    return address(destination) or "it does not say"


def is_beside_artifacts(destination: Any) -> bool:
    """Tell whether only MLflow knows where a writer's events belong: beside a run's artifacts."""
    return isinstance(destination, dict) and destination.get("kind") == "mlflow"


def is_in_account_bucket(destination: Any) -> bool:
    """Tell whether events belong into an account's default bucket, whose name their writer had
    not asked for when it died."""
    return (
        isinstance(destination, dict)
        and destination.get("kind") == "s3"
        and is_nameless(destination)
        and bool(destination.get("root"))
        and isinstance(destination["root"], str)
    )


def find_spools(given: str | None) -> list[Path]:
    """Return the folders of the spool that is meant: where trackers would look, all of them.

    Raises:
        Missing: There is none in the folder given.
    """
    given = given or os.environ.get("ASYNCTRACK_SPOOL_DIR")
    if not given:
        found = [path for path in usable_spools(spool_places()) if writers(path)]
        return found or [default_spool_dir()]  # nothing there: nothing waits
    path = Path(given).expanduser().absolute()
    if not (path / DIRECTORY_VERSION).is_dir():
        raise Missing(
            f"there is no spool in {path}: it has no folder {DIRECTORY_VERSION}. The spool's"
            " folder is named in a tracker's warnings, or given by spool_dir=…"
        )
    return [path]


def say(screen: Screen, text: str) -> None:
    """Print one line, whatever is in it."""
    screen.line(printable(text, lines=False))
