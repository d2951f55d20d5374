"""LangChain events into your own S3 bucket and SageMaker Experiments.

The way of an event is the listing of this folder::

    _capture/    callback to event: handlers, redaction, spans     in your threads and loops
    _buffer/     the bounded queue of a tracker
    _spool/      on disk until the store has acknowledged it
    _delivery/   batch to artifact to S3; replay of what was left
    _record/     what the Run and the manifest get
    _engine/     the one worker of the process, which drives all of these
    _backends/   S3 and SageMaker, or a folder
    _common/     what is below all of it

``_format`` is the contract with everything that reads what was written. The way back,
``open_run(source)``, is apart from all this, in ``_reading``; ``cli`` and ``view`` show what it
reads. ``testing`` is for tests of programs that track.
"""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401  # refused once the interpreter ends
import importlib
from typing import TYPE_CHECKING, Any, cast

from asynctrack._capture.unloaded import Unloaded, is_environments
from asynctrack._errors import (
    AsynctrackError,
    BackendError,
    ChecksumError,
    MissingExtraError,
    NotFoundError,
    OptionError,
    PausingError,
    PermanentError,
    ReadError,
    RunError,
    SeveralRunsError,
    StateError,
    TransientError,
)
from asynctrack._statistics import Statistics

if TYPE_CHECKING:
    from asynctrack._backends.s3fs import storage_options
    from asynctrack._capture.handlers import AsyncHandler, SyncHandler
    from asynctrack._reading.decoding.events import Event
    from asynctrack._reading.experiment import RecordedExperiment, aopen_experiment, open_experiment
    from asynctrack._reading.run import RecordedRun, aopen_run, open_run
    from asynctrack._reading.sources.dead_letters import DeadLetter
    from asynctrack._reading.trees.span import Span
    from asynctrack._reading.trees.trace import Trace
    from asynctrack._reading.verify import averify, verify
    from asynctrack._reading.verify_report import Report
    from asynctrack._tracker import Tracker

__all__ = [
    "AsyncHandler",
    "AsynctrackError",
    "BackendError",
    "ChecksumError",
    "DeadLetter",
    "Event",
    "MissingExtraError",
    "NotFoundError",
    "OptionError",
    "PausingError",
    "PermanentError",
    "ReadError",
    "RecordedExperiment",
    "RecordedRun",
    "Report",
    "RunError",
    "SeveralRunsError",
    "Span",
    "StateError",
    "Statistics",
    "SyncHandler",
    "Trace",
    "Tracker",
    "TransientError",
    "aopen_experiment",
    "aopen_run",
    "averify",
    "open_experiment",
    "open_run",
    "storage_options",
    "tracker",
    "verify",
]

__version__ = "0.1.0"


def tracker(run: Any, **options: Any) -> Tracker:
    """Track LangChain into a Run: ``async with tracker(run) as handler:``, or ``with``.

    Args:
        run: A ``Run`` of sagemaker 2.x or 3.x, or the path of a folder to track into without AWS.
        **options: See the attributes of ``asynctrack._options.Options``, or the README.

    Returns:
        The tracker; entering it gives the handler, leaving it delivers everything.

    Raises:
        MissingExtraError: ``run`` is a Run, and no library is installed that sends to AWS; the text
            names the extra that brings one.
        OptionError: An option is not allowed; the text names it, its value and what is.
        RunError: ``run`` does not offer what tracking into it needs.
    """
    try:
        from asynctrack._common.importing import gate

        with gate.importing():
            from asynctrack._tracker import make_tracker
    except Exception as error:
        if not is_environments(error):
            raise
        return cast("Tracker", Unloaded(error))
    return make_tracker(run, options)


_LAZY = {
    # Loaded when they are asked for: they need more than `import asynctrack` may.
    "AsyncHandler": "_capture.handlers",
    "DeadLetter": "_reading.sources.dead_letters",
    "Event": "_reading.decoding.events",
    "RecordedExperiment": "_reading.experiment",
    "RecordedRun": "_reading.run",
    "Report": "_reading.verify_report",
    "Span": "_reading.trees.span",
    "SyncHandler": "_capture.handlers",
    "Trace": "_reading.trees.trace",
    "Tracker": "_tracker",
    "aopen_experiment": "_reading.experiment",
    "aopen_run": "_reading.run",
    "averify": "_reading.verify",
    "open_experiment": "_reading.experiment",
    "open_run": "_reading.run",
    "storage_options": "_backends.s3fs",
    "verify": "_reading.verify",
}


def __getattr__(name: str) -> Any:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"asynctrack.{module}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
