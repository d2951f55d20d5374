"""A blocking call in the event loop of a test fails the test.

blockbuster patches the blocking functions of the standard library for the whole process. Three
things are added here. More functions are watched, which our spool is written with. Only the thread
of the test is watched: a background worker has an event loop of its own and may write to the disk
in it. And each blocking call is remembered, because code that must never raise into an application
swallows blockbuster's exception like any other.
"""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import blockbuster
from blockbuster import blockbuster as blockbuster_module

# (end of the file name, function, why it may block). Whatever these call may block too, so nothing
# that calls back into asynctrack belongs here.
ALLOWED: tuple[tuple[str, str, str], ...] = (
    (
        "asynctrack/_spool/segment.py",
        "append",
        "the one call to the system for each event that a callback makes, 1 µs into pages that are"
        " in memory: what has been accepted survives a kill, and nothing that others do to the file"
        " kills the program, as it would with a mapping. Making, filling, reading and syncing a"
        " segment are the worker's, and stay forbidden here",
    ),
    (
        "tests/support/proxy.py",
        "_in_proxy_loop",
        "steering the proxy waits for its thread: a fault is in force when the call returns",
    ),
    (
        "logging/__init__.py",
        "emit",
        "pytest writes log records to a file of its own; where a user's go is the user's choice",
    ),
)


_ON_DISK = ("pwrite", "pread", "fsync", "fdatasync", "posix_fallocate", "truncate")
"""Functions of ``os`` that blockbuster does not know of."""


class BlockingCalls:
    """What was caught: one formatted stack for each blocking call, oldest first."""

    def __init__(self) -> None:
        self.stacks: list[str] = []

    def forgive(self) -> None:
        """Forget what was caught: for the tests of this very check."""
        self.stacks.clear()


@contextmanager
def no_blocking_calls() -> Iterator[BlockingCalls]:
    """Raise on every blocking call made inside an event loop of the calling thread.

    Raises:
        AssertionError: On leaving the block, when there was a blocking call, also one whose
            exception was swallowed. The message holds the stack of each.
    """
    caught = BlockingCalls()
    watched = threading.get_ident()

    class Remembered(blockbuster.BlockingError):
        def __init__(self, func: str) -> None:
            super().__init__(func)
            stack = "".join(traceback.format_stack(limit=14)[:-2])
            caught.stacks.append(f"blocking call to {func} in the event loop:\n{stack}")

    guard = blockbuster.BlockBuster()
    for name in _ON_DISK:
        if hasattr(os, name):
            full = f"os.{name}"
            guard.functions[full] = blockbuster.BlockBusterFunction(None, full)
    for function in guard.functions.values():
        function.can_block_predicate = _elsewhere_or(watched, function.can_block_predicate)
        for filename, name, _reason in ALLOWED:
            function.can_block_in(filename, name)
    original = blockbuster_module.BlockingError
    guard.activate()
    blockbuster_module.BlockingError = Remembered  # type: ignore[misc]  # it has no hook for this
    try:
        yield caught
    finally:
        blockbuster_module.BlockingError = original  # type: ignore[misc]  # put back what was there
        guard.deactivate()
    assert not caught.stacks, "\n".join(caught.stacks)


def _elsewhere_or(watched: int, allowed: Callable[..., bool]) -> Callable[..., bool]:
    def may_block(*args: Any, **kwargs: Any) -> bool:
        return threading.get_ident() != watched or allowed(*args, **kwargs)

    return may_block
