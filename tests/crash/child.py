"""What the child processes do: track, and report what was accepted; then they are killed."""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import threading
import time
from types import SimpleNamespace
from typing import Any

from langchain_core.runnables import RunnableLambda

from asynctrack import tracker
from asynctrack._engine import closing
from asynctrack._tracker import Tracker
from tests.crash import points
from tests.crash.held import track_held
from tests.e2e.runs import RunFactory
from tests.e2e.waiting import until_in_thread
from tests.support.s3 import S3Server

CHAIN = RunnableLambda(lambda value: value)


def make_tracker(request: dict[str, Any]) -> Tracker:
    """A tracker into a folder, or into a Run whose S3 is rclone."""
    options = {"spool_dir": request["spool"], **request.get("options", {})}
    if "s3" not in request:
        return tracker(request["out"], run_name="r1", **options)
    server = S3Server(**request["s3"])
    site = SimpleNamespace(endpoint_url=request["sagemaker"])
    make_run = RunFactory(server, site)  # type: ignore[arg-type]  # the part of it that is needed
    run = make_run(request["run"], experiment=request["experiment"], sts_url=request.get("sts")).run
    if request.get("without_s3"):
        run._artifact_uploader._s3_client = None  # as sagemaker 3 leaves it until it is wanted
    return tracker(run, **options)


def track(request: dict[str, Any], report: int) -> None:
    """Track chains without end, or so many, and say after each what was accepted."""
    chances = random.Random(request["seed"])
    # A child with few chains dies within its replay only if it comes to it before it has closed.
    closing.REPLAY_GRACE = 120.0  # type: ignore[misc]  # another one, for the tests
    if request.get("point"):
        points.install(request["point"])
    here = make_tracker(request)
    os.write(report, b"writer %s\n" % here.writer_id.encode())
    if request.get("held"):
        track_held(here, request, report)
        return
    with here as handler:
        config: Any = {"callbacks": [handler]}
        deadline = time.monotonic() + 240.0  # the driver has died: nobody is left to kill this one
        number = 0
        while number != request.get("chains") and time.monotonic() < deadline:
            number += 1
            CHAIN.invoke(payload(number, chances, request.get("values", False)), config)
            now = handler.statistics()
            os.write(report, b"%d %d\n" % (now.accepted, now.pending))
            if request.get("replayed") and handler.statistics().replayed >= request["replayed"]:
                break
        end(request.get("end", ""))
    os.write(report, b"closed\n")


DOCUMENT = "A document that stays in the state. " * 150
"""A value: 5 KB that many events refer to."""


def payload(number: int, chances: random.Random, values: bool) -> Any:
    """A text; or a state with the document, with a list that grows, with a text for the worker."""
    text = "x" * (int(chances.paretovariate(0.5)) * 10 % 3000)
    if not values:
        return text
    if number % 4 == 1:
        return {"document": DOCUMENT, "step": number, "text": text}
    if number % 4 == 2:
        said = [{"content": f"Message {one}: {'word ' * 100}"} for one in range(5 + number % 40)]
        return {"messages": said, "document": DOCUMENT}
    if number % 20 == 3:
        return {"document": DOCUMENT, "large": f"{number} of {'seventy kilobytes ' * 4000}"}
    return text


def warm_up() -> None:
    """Import all that the first chain imports, in the process that children are forked from."""
    with tempfile.TemporaryDirectory() as folder:
        with tracker(folder, spool_dir=f"{folder}/spool") as handler:
            CHAIN.invoke("x", {"callbacks": [handler]})
        assert handler.statistics().delivered == 2
    # A fork must not meet a thread: those of the tracker that have nothing left to do end by
    # themselves, on a busy machine a moment after it was closed.
    until_in_thread(lambda: threading.active_count() == 1)


def end(how: str) -> None:
    """The ways in which a process ends in the middle of a ``with`` block."""
    if how == "exit":
        sys.exit(3)
    elif how == "exception":
        raise ValueError("the application's own")
    elif how == "os._exit":
        os._exit(4)
    elif how == "sigterm":
        os.kill(os.getpid(), signal.SIGTERM)
    elif how == "abort":
        os.abort()
