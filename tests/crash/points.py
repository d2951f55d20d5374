"""Named moments at which a child process kills itself, by wrapping methods from outside.

The product knows nothing of this: a fail point is installed in the child process of a test only.
``name:3`` dies at the third time the moment comes.
"""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from asynctrack._backends.aws import AwsStore
from asynctrack._backends.local import LocalBackend
from asynctrack._buffer.buffer import Buffer
from asynctrack._buffer.store import Store
from asynctrack._capture.packing import Packed
from asynctrack._delivery import replay, takeover
from asynctrack._record.recorder import Recorder
from asynctrack._spool import descriptor, folder, segment
from asynctrack._spool.descriptor import Descriptor
from asynctrack._spool.folder import WriterFolder
from asynctrack._spool.keeper import Keeper
from asynctrack._spool.segment import Segment


class Death:
    """Counts how often the moment came."""

    def __init__(self, times: int) -> None:
        self._left = times

    def __call__(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def _wrap(holder: Any, name: str, *, before: Any = None, after: Any = None) -> None:
    original = getattr(holder, name)

    @functools.wraps(original)
    def wrapper(*arguments: Any, **options: Any) -> Any:
        if before is not None:
            before()
        result = original(*arguments, **options)
        if after is not None:
            after()
        return result

    setattr(holder, name, wrapper)


def _wrap_async(holder: Any, name: str, *, before: Any = None, after: Any = None) -> None:
    original = getattr(holder, name)

    @functools.wraps(original)
    async def wrapper(*arguments: Any, **options: Any) -> Any:
        if before is not None:
            before()
        result = await original(*arguments, **options)
        if after is not None:
            after()
        return result

    setattr(holder, name, wrapper)


def _half_a_line(die: Death) -> None:
    """A write goes page by page: the process may be killed when half of it is there."""
    original = Descriptor.write_at

    def wrapper(self: Descriptor, content: bytes, at: int) -> None:
        original(self, content[: len(content) // 2], at)
        die()
        original(self, content, at)

    Descriptor.write_at = wrapper  # type: ignore[method-assign]


def _between_the_deletions(die: Death) -> None:
    original = segment.remove_files

    def wrapper(path: Path) -> None:
        path.unlink(missing_ok=True)
        die()
        original(path)

    segment.remove_files = wrapper
    folder.remove_files = wrapper


def _put(die: Death, *, stored: bool, manifest: bool) -> None:
    for backend, name, at in ((LocalBackend, "put", 1), (AwsStore, "put", 1)):
        original = getattr(backend, name)

        async def wrapper(
            *arguments: Any, _original: Any = original, _at: int = at, **options: Any
        ) -> None:
            meant = ("/_manifest/" in f"/{arguments[_at]}") == manifest
            if meant and not stored:
                die()
            await _original(*arguments, **options)
            if meant:
                die()

        setattr(backend, name, wrapper)


_POINTS: dict[str, Callable[[Death], None]] = {
    "folder-made": lambda die: _wrap(folder, "_lock", before=die),
    "folder-locked": lambda die: _wrap(folder, "_describe", before=die),
    "described": lambda die: _wrap(folder, "_describe", after=die),
    "segment-half-made": lambda die: _wrap(descriptor, "_allocate", before=die),
    "segment-made": lambda die: _wrap(WriterFolder, "new_segment", after=die),
    "segment-begun": lambda die: _wrap(Segment, "begin", after=die),
    "segment-supplied": lambda die: _wrap(Store, "supply", after=die),
    "line-half-written": _half_a_line,
    "line-appended": lambda die: _wrap(Segment, "append", after=die),
    "value-left": lambda die: _wrap(Buffer, "finish", before=die),
    "value-prepared": lambda die: _wrap(Packed, "prepare", after=die),
    "value-placed": lambda die: _wrap(Store, "place", after=die),
    "value-held": lambda die: _wrap(Store, "placed", after=die),
    "piece-cut": lambda die: _wrap(Store, "cut", after=die),
    "sealed": lambda die: _wrap(Segment, "seal", after=die),
    "before-put": lambda die: _put(die, stored=False, manifest=False),
    "put-without-answer": lambda die: _put(die, stored=True, manifest=False),
    "before-deletion": lambda die: _wrap_async(Keeper, "settled", before=die),
    "half-deleted": _between_the_deletions,
    "deleted": lambda die: _wrap_async(Keeper, "settled", after=die),
    "before-manifest": lambda die: _put(die, stored=False, manifest=True),
    "manifest-without-answer": lambda die: _put(die, stored=True, manifest=True),
    "recorded": lambda die: _wrap(Recorder, "delivered", after=die),
    "let-go": lambda die: _wrap(Keeper, "_let_go", after=die),
    "replay-begun": lambda die: _wrap(replay, "plan_segment", before=die),
    "replay-planned": lambda die: _wrap(replay, "plan_segment", after=die),
    "replay-listed": lambda die: _wrap_async(replay._ReplayManifest, "add", after=die),
    "replay-settled": lambda die: _wrap(replay, "_settle", after=die),
    "replay-ended": lambda die: _wrap_async(takeover, "replay_folder", after=die),
    "close-begun": lambda die: _wrap(Keeper, "close", before=die),
    "close-ended": lambda die: _wrap(Keeper, "close", after=die),
    "folder-closed": lambda die: _wrap(WriterFolder, "close", after=die),
    "trimmed": lambda die: _wrap(Segment, "trim", after=die),
}
NAMES = tuple(_POINTS)


def install(point: str) -> None:
    """Make this process kill itself at a moment: ``name`` or ``name:times``."""
    name, _, times = point.partition(":")
    _POINTS[name](Death(int(times or 1)))
