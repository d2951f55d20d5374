"""An event loop that lives on when others close its descriptors, and closes none of theirs.

A program may close the descriptors that it does not know: a daemon does. What the loop waits with
is gone then, and what it has open has the numbers of files that the program opens next. So each
socket is known by device and inode, as a new one at its number has another inode. It is looked at
after each wait: connections whose descriptors are gone count as lost, which their owners
know how to deal with, and the loop makes itself the pair anew that wakes it. It waits with
``poll``, which needs no descriptor of its own. In the child of a fork all of them are closed.
"""

from __future__ import annotations

import asyncio
import errno
import os
import selectors
import socket
import stat
import sys
import weakref
from collections.abc import Iterator
from time import monotonic
from typing import Any, Final

LOOK: Final = 2.0
"""Seconds that it waits at the most until it looks again: nothing wakes it when they are closed."""

AT_MOST: Final = 0.001
"""Seconds between two looks at the least; in between only what is ready is looked at."""
TRIES: Final = 3
_USED_UP: Final = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}

Identity = tuple[int, int]

if sys.platform == "win32":
    Waits = selectors.SelectSelector
else:
    Waits = selectors.PollSelector


def _identity(number: int) -> Identity | None:
    try:
        found = os.fstat(number)
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISSOCK(found.st_mode) else None


class OwnSelector(Waits):
    """Knows which of its descriptors are still what they were."""

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[int, Identity | None] = {}
        self._looked = 0.0
        self.loop: OwnLoop | None = None

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = super().register(fileobj, events, data)
        self._known[key.fd] = _identity(key.fd)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        key = super().unregister(fileobj)
        self._known.pop(key.fd, None)
        return key

    def taken(self) -> list[selectors.SelectorKey]:
        """Return those that were closed by others, or mean something else by now."""
        gone = [
            number
            for number, known in self._known.items()
            if known is None or _identity(number) != known
        ]
        return [key for key in self.get_map().values() if key.fd in gone] if gone else []

    def _due(self, ready: list[tuple[selectors.SelectorKey, int]]) -> bool:
        now = monotonic()
        if now - self._looked < AT_MOST:
            # What was taken and is not ready is not touched before the next look.
            known = self._known
            return any(known.get(key.fd) != _identity(key.fd) for key, _ in ready)
        self._looked = now
        return True

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(LOOK if timeout is None else min(timeout, LOOK))
        # After the wait: what has been closed is ready at once, or when it is looked at again.
        if self.loop is not None and self._due(events) and self.loop.look():
            known = self.get_map()
            events = [one for one in events if known.get(one[0].fd) is one[0]]
        return events


class OwnLoop(asyncio.SelectorEventLoop):
    """The event loop of a worker.

    Args:
        selector: What it waits with.

    Raises:
        OSError: No descriptors are left.
    """

    # What asyncio calls itself in every version from 3.8 on, and says nothing of to others.
    _ssock: socket.socket
    _csock: socket.socket
    _internal_fds: int
    _transports: Any

    def __init__(self, selector: OwnSelector) -> None:
        self._waits = selector
        self._woken_by: Identity | None = None
        try:
            super().__init__(selector)
        except BaseException:  # no descriptor is left for the pair
            self._closed = True  # else it is called an unclosed loop
            raise
        selector.loop = self
        _loops.add(self)

    def look(self) -> bool:
        """Count connections as lost whose descriptors others have closed. In its thread.

        Returns:
            Whether there were some.
        """
        if self._ssock is None:
            return False
        taken = self._waits.taken()
        woken_by = _identity(self._csock.fileno())
        pair = woken_by is None or woken_by != self._woken_by
        for key in taken:
            self._waits.unregister(key.fileobj)
            pair = pair or key.fd == self._ssock.fileno()
            self._lose(key)
        if pair:
            self._forget_pair()
            self._make_self_pipe()
        return pair or bool(taken)

    def close(self) -> None:
        """Close what it has open."""
        if not self.is_closed() and not self.is_running():
            self.look()
        super().close()
        _loops.discard(self)

    def leave(self) -> None:
        """Close the descriptors, and nothing else: in the child of a fork, at once."""
        for one in self._sockets():
            os.close(one.detach())

    def _make_self_pipe(self) -> None:
        for left in reversed(range(TRIES)):
            try:
                super()._make_self_pipe()  # type: ignore[misc]  # asyncio's own
                break
            except OSError as error:  # it may happen right now
                if not left or error.errno in _USED_UP:
                    raise
                for name in ("_ssock", "_csock"):
                    if hasattr(self, name):
                        getattr(self, name).detach()
        self._woken_by = _identity(self._csock.fileno())

    def _write_to_self(self) -> None:
        pair = self._csock
        if pair is not None and _identity(pair.fileno()) == self._woken_by is not None:
            super()._write_to_self()  # type: ignore[misc]

    def _forget_pair(self) -> None:
        if self._ssock.fileno() in self._waits.get_map():
            self._waits.unregister(self._ssock.fileno())
        self._ssock.detach()
        self._csock.detach()
        self._internal_fds -= 1

    def _lose(self, key: selectors.SelectorKey) -> None:
        error = ConnectionResetError("its descriptor was closed by others")
        transport = self._transports.get(key.fd)
        if transport is not None:
            transport._sock.detach()
            transport._force_close(error)
            return
        for argument in _arguments(key):
            if isinstance(argument, socket.socket):
                argument.detach()
            elif isinstance(argument, asyncio.Future) and not argument.done():
                argument.set_exception(error)

    def _sockets(self) -> Iterator[socket.socket]:
        found = [self._ssock, self._csock]
        found += [transport._sock for transport in list(self._transports.values())]
        for key in list(self._waits.get_map().values()):
            found += [one for one in _arguments(key) if isinstance(one, socket.socket)]
        return (one for one in found if one is not None and one.fileno() >= 0)


def _arguments(key: selectors.SelectorKey) -> Iterator[Any]:
    """Yield what is waited for where it is no transport yet: a connection that is being made."""
    for handle in key.data or ():
        if handle is not None:
            yield from handle._args or ()


_loops: weakref.WeakSet[OwnLoop] = weakref.WeakSet()


def _leave_all() -> None:
    for loop in list(_loops):
        loop.leave()
    _loops.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_all)
