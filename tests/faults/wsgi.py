"""An application under gunicorn, loaded before its workers are forked (``--preload``).

The tracker is entered in the parent, as a module of a web service does it; every request logs one
event in whichever worker serves it.
"""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from asynctrack import tracker

_tracker = tracker(os.environ["TRACKED_INTO"], run_name="r", max_delay=0.1)
handler = _tracker.__enter__()  # left by nobody: each process ends by itself
handler.on_chain_end("loaded", run_id=uuid.uuid4())


def application(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    """Log one event; answer with the process's id and how many threads it has of ours."""
    name = environ["PATH_INFO"].strip("/")
    handler.on_chain_end(name, run_id=uuid.uuid4())
    ours = sum(thread.name == "asynctrack" for thread in threading.enumerate())
    body = f"{os.getpid()} {ours}".encode()
    start("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
