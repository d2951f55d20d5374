"""One process of this machine at a time: MLflow gives a name to as many runs as ask for it, so what
finds that there is none and makes one has to be alone.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Final

if sys.platform != "win32":
    import fcntl

PATIENCE: Final = 20.0
"""Seconds to wait for the others; whoever has waited so long goes on beside them."""
_LOOK: Final = 0.02


@contextmanager
def alone(server: str) -> Iterator[None]:
    """Be the only process of this user on this machine inside, where the machine lets it. Blocks.

    Threads of one process are not kept apart. The lock is the process's own: it ends with it, and
    a forked child, which may live for long, does not have it.

    Args:
        server: Which server it is about; the others go on.
    """
    descriptor = None if sys.platform == "win32" else _opened(server)
    try:
        until = time.monotonic() + PATIENCE
        while descriptor is not None and not _lock(descriptor) and time.monotonic() < until:
            time.sleep(_LOOK)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _opened(server: str) -> int | None:
    digest = sha256(server.encode(errors="surrogatepass")).hexdigest()[:16]
    path = Path(tempfile.gettempdir()) / f"asynctrack-mlflow-{os.getuid()}-{digest}"
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError:
        return None


def _lock(descriptor: int) -> bool:
    """Take the lock if it is free; where there are no locks, nobody has it."""
    if sys.platform != "win32":
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return False
        except OSError:
            return True
    return True
