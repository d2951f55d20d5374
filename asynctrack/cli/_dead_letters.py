"""``asynctrack show --dead-letters``: the events that the backend refused for good, and why."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from ._common import plain
from ._screen import Screen

if TYPE_CHECKING:
    from asynctrack._reading.run import RecordedRun
    from asynctrack._reading.sources.dead_letters import DeadLetter

LINE: Final = 120
"""Characters of a payload that are shown."""


def print_dead_letters(recorded: RecordedRun) -> None:
    """Print the dead letters of a Run that lie on this machine, one line each."""
    screen = Screen()
    path, events = "", 0
    for letter in recorded.dead_letter_events():
        if letter.path != path:
            path = letter.path
            screen.heading(path)
            screen.line(f"refused for good: {letter.reason or 'why is not known any more'}")
        events += 1
        _print_line(letter, screen)
    refused = _refused(recorded)
    screen.line()
    if events:
        screen.line(
            f"{events:,} events on this machine only, in no object of the Run. --json gives them"
            " whole. To send them again: asynctrack spool replay --dead-letters"
        )
    if refused > events:
        screen.line(
            f"{refused:,} events were refused for good, {refused - events:,} of them are not here:"
            " they lie in the spool of the machine that logged them, where it had one."
        )
    elif not events:
        screen.line("Nothing was refused, as far as the Run and this machine's spool say.")
    for problem in recorded.problems:
        screen.line(f"could not be read: {problem}")


def print_dead_letters_json(recorded: RecordedRun) -> None:
    """Print them as one JSON document, event by event: they may be larger than memory."""
    separator = ""
    print('{"dead_letters": [', end="")
    for letter in recorded.dead_letter_events():
        one = {"reason": letter.reason, "file": letter.path, "event": letter.event.raw}
        print(separator, json.dumps(plain(one), allow_nan=False, default=str), sep="\n", end="")
        separator = ","
    problems = [asdict(problem) for problem in recorded.problems]
    rest = {"refused": _refused(recorded), "problem_list": problems}
    print("\n],", json.dumps(plain(rest))[1:])


def _refused(recorded: RecordedRun) -> int:
    from asynctrack._reading.sources.dead_letters import refused_events

    return refused_events(recorded.manifest.writers, recorded.dead_letters)


def _print_line(letter: DeadLetter, screen: Screen) -> None:
    from . import _words as words

    event = letter.event
    payload = (event.error, event.outputs, event.inputs, event.data)
    text = next((words.said(one) for one in payload if one is not None), "")
    screen.parts(
        (f"  {event.seq:>6}  {words.clock(event.time_unix_nano)}  ", "dim"),
        (f"{words.name(event.event):<16} ", "bold"),
        (f"{words.name(event.name)}  {words.size(event.size)}  ", ""),
        (words.one_line(text, LINE), ""),
        (f"  {event.span_id}" if event.span_id else "", "dim"),
    )
