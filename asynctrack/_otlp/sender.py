"""The thread that sends traces to one receiver, for all trackers of the process that name it.

It decodes, assembles and sends, so that neither a loop of the user's nor the engine's does. While
it waits for a receiver that is slow or down, artifacts wait packed in the feeds, within their
bound. A daemon: whoever closes waits for it as long as there is time, and leaves it behind then.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from typing import Final
from weakref import WeakValueDictionary

from asynctrack._common.importing import gate
from asynctrack._common.notices import report
from asynctrack._common.own import own_work
from asynctrack._common.retry import RetryPolicy
from asynctrack._errors import BackendError
from asynctrack._otlp.feed import Feed
from asynctrack._otlp.target import Target

PATIENT: Final = 5
"""Failed questions for the address after which a warning says so: a run may be on its way."""
LINGER: Final = 3.0
"""Seconds that the thread and its connections stay for the next tracker."""


class Sender:
    """Sends the traces of feeds, in turn.

    Args:
        target: Where to.
        monotonic: The clock, in seconds.
        uniform: Random numbers in [0, 1).
    """

    def __init__(
        self,
        target: Target,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        self._target = target
        self._monotonic = monotonic
        self._uniform = uniform
        self._policy = RetryPolicy(cap=10.0)
        self._changed = threading.Condition(threading.RLock())
        self._feeds: dict[Feed, None] = {}
        self._thread: threading.Thread | None = None
        self._news = False

    def wake(self, feed: Feed) -> bool:
        """Look at a feed soon, in the thread; False where none is to be had."""
        with self._changed:
            if not feed.over:
                self._feeds[feed] = None
            self._news = True
            self._changed.notify_all()
            if self._thread is None and self._feeds:
                thread = threading.Thread(target=self._run, name="asynctrack-otlp", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # none is to be had
                    self._feeds.pop(feed, None)
                    return False
                self._thread = thread
            return True

    # -- in the thread ------------------------------------------------------------------------

    def _run(self) -> None:
        with own_work():
            try:
                with gate.importing():
                    from asynctrack._otlp.sending import Sending
                target = self._find_target()
                if target is None:
                    return
                sending = Sending(
                    target, pause=self._pause, policy=self._policy,
                    monotonic=self._monotonic, uniform=self._uniform,
                )  # fmt: skip
            except Exception as error:
                self._fail(error)
                return
            try:
                while self._wait():
                    for feed in self._open_feeds():
                        sending.look_at(feed)
            except Exception as error:
                report(error, "asynctrack's thread for traces has ended because of an error")
                self._fail(error)
            finally:
                sending.close()  # its own: the next thread may have begun, with another

    def _find_target(self) -> Target | None:
        """Return the target with its address; None where nobody waits for it any more."""
        failures = 0
        while True:
            try:
                return self._target.found()
            except BackendError as error:
                failures += 1
                text = f"{error}. {error.advice}".rstrip()
            wait = self._policy.wait(failures, self._uniform())
            with self._changed:
                feeds = self._open_feeds()
                if not feeds:
                    self._thread = None
                    return None
                self._changed.wait(max(wait, 0.1))
            for feed in feeds if failures >= PATIENT else ():
                feed.notices.warn(
                    "otlp:unreachable",
                    f"asynctrack cannot send traces to {feed.where} at the moment ({text})."
                    " They wait, within a bound, and are tried again. Events go on as before.",
                )

    def _open_feeds(self) -> list[Feed]:
        with self._changed:
            for feed in [one for one in self._feeds if one.over]:
                del self._feeds[feed]
            return list(self._feeds)

    def _wait(self) -> bool:
        """Wait until there is something to do; False where there is nobody to do it for."""
        with self._changed:
            linger = None if self._open_feeds() else LINGER
            now = self._monotonic()
            waits = [feed.wait(now) for feed in self._feeds]
            wait = min((one for one in waits if one is not None), default=linger)
            if not self._news and (wait is None or wait > 0):
                self._changed.wait(wait)
            if linger is not None and not self._news and not self._open_feeds():
                self._thread = None
                return False
            self._news = False
            return True

    def _pause(self, feed: Feed, seconds: float) -> None:
        until = self._monotonic() + seconds
        with self._changed:
            while not feed.abandoned and (left := until - self._monotonic()) > 0:
                self._changed.wait(left)

    def _fail(self, error: BaseException) -> None:
        """Let nobody wait for what cannot be sent."""
        with self._changed:
            feeds, self._feeds = list(self._feeds), {}
            self._thread = None
        for feed in feeds:
            feed.notices.warn(
                "otlp:no_exporter",
                f"asynctrack cannot send traces to {feed.where}: {type(error).__name__} from"
                " OpenTelemetry's exporter. Events are stored as before.",
            )
            feed.abandon("no_exporter")


_senders: WeakValueDictionary[tuple[object, ...], Sender] = WeakValueDictionary()
_lock = threading.Lock()
_pid = os.getpid()


def sender_for(target: Target) -> Sender:
    """Return what sends to a target in this process."""
    _after_fork()  # a tracker's own hook may come before ours
    with _lock:
        sender = _senders.get(target.way)
        if sender is None:
            sender = _senders[target.way] = Sender(target)
        return sender


def _after_fork() -> None:
    """Forget the parent's, once: its threads are not here."""
    global _lock, _pid
    if _pid == os.getpid():
        return
    _pid = os.getpid()
    _lock = threading.Lock()
    _senders.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
