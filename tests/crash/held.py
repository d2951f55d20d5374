"""A child that tracks traces which the sample leaves out, and writes down what became of each."""

from __future__ import annotations

import os
import random
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from asynctrack._spool import journal
from tests.e2e.waiting import until_in_thread

THREADS = 3


def track_held(here: Any, request: dict[str, Any], report: int) -> None:
    """Track traces in several threads until killed: some fail, some end well, some never end.

    What has happened is on record before the next thing happens: ``held <trace> <events on disk>``,
    ``ends <trace> ok|failed`` before the end and ``ended`` after it.
    """
    from tests.crash.child import payload

    journal.CAPACITY = 128 * 1024  # type: ignore[misc]  # so that files fill
    truth = os.open(request["truth"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with here as handler:
        holding = handler._sink._holding
        until_in_thread(lambda: holding.journal._spare is not None)

        def say(*words: Any) -> None:
            os.write(truth, (" ".join(map(str, words)) + "\n").encode())

        def go_on(seed: int) -> None:
            chances = random.Random(seed)
            deadline = time.monotonic() + 240.0
            while time.monotonic() < deadline:
                one_trace(handler, holding, chances, say, payload)
                now = handler.statistics()
                os.write(report, b"%d %d\n" % (now.accepted, now.pending))

        threads = [
            threading.Thread(target=go_on, args=(request["seed"] + n,), daemon=True)
            for n in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def one_trace(handler: Any, holding: Any, chances: random.Random, say: Any, payload: Any) -> None:
    """A root and the spans below it."""
    root, events = uuid.uuid4(), 0

    def on_disk() -> None:
        nonlocal events
        events += 1
        if not (holding._unwritten or holding._actions):  # else the next file is being made
            say("held", root, events)

    handler.on_chain_start({}, payload(chances.randrange(40), chances, True), run_id=root)
    on_disk()
    for _ in range(chances.randrange(6)):
        span = uuid.uuid4()
        given = payload(chances.randrange(40), chances, True)
        handler.on_chain_start({}, given, run_id=span, parent_run_id=root)
        on_disk()
        handler.on_chain_end(given, run_id=span, parent_run_id=root)
        on_disk()
    how = chances.choice(("ok", "ok", "failed", "never"))
    if how == "never":
        return
    say("ends", root, how)
    if how == "ok":
        handler.on_chain_end("done", run_id=root)
    else:
        handler.on_chain_error(ValueError("bad"), run_id=root)
    say("ended", root, events + 1, int(bool(handler.statistics().pending)))


class Truth:
    """What a child wrote down of its traces."""

    def __init__(self, path: Path) -> None:
        self.held: dict[str, int] = {}
        self.ends: dict[str, str] = {}
        self.ended: dict[str, int] = {}
        for line in path.read_text().splitlines():
            what, trace, *more = line.split()
            if what == "held":
                self.held[trace] = int(more[0])
            elif what == "ends":
                self.ends[trace] = more[0]
            elif more[1] == "0":  # nothing was in memory only
                self.ended[trace] = int(more[0])

    def wrong(self, found: dict[str, list[str]]) -> Iterator[str]:
        """Yield what is not as it should be.

        Args:
            found: The events of each trace that are there, in order.
        """
        for trace, events in self.held.items():
            there, how = len(found.get(trace, ())), self.ends.get(trace)
            if how is None and there < events:
                yield f"{trace}: nobody saw its end, {events} events were held, {there} are there"
            elif how == "failed" and there < events:
                yield f"{trace}: it failed, {events} events were held, {there} are there"
            elif how == "ok" and trace in self.ended and there:
                yield f"{trace}: it ended well, and {there} events are there"
            elif how == "failed" and trace in self.ended and there != self.ended[trace]:
                yield f"{trace}: it failed with {self.ended[trace]} events, {there} are there"
            elif how is not None and trace not in self.ended and 0 < there < events:
                yield f"{trace}: it was being decided about, {events} events, {there} are there"
        for trace, events in found.items():
            if len(set(events)) != len(events):
                yield f"{trace}: events are there more than once"
