"""LangChain events into your own S3 bucket and SageMaker Experiments.

::

    callback ─► Event ─► Buffer ─► Batch ─► Artifact ─► Upload ─► Record in the Run
    (your loop or thread)  │       (one background worker: its own thread, its own event loop)
     _callback, _capture   │        _batch    _encode    _upload    _record
     _payload, _redact     _buffer              _worker drives them

``tracker(run)`` puts the stages together (``_tracker``). ``_format`` is the contract with
everything that reads what was written; ``_backends`` holds S3, SageMaker and the local folder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asynctrack._errors import (
    AsynctrackError,
    BackendError,
    OptionError,
    PausingError,
    PermanentError,
    RunError,
    StateError,
    TransientError,
)
from asynctrack._statistics import Statistics

if TYPE_CHECKING:
    from asynctrack._callback import AsyncHandler, SyncHandler
    from asynctrack._tracker import Tracker

__all__ = [
    "AsyncHandler",
    "AsynctrackError",
    "BackendError",
    "OptionError",
    "PausingError",
    "PermanentError",
    "RunError",
    "StateError",
    "Statistics",
    "SyncHandler",
    "Tracker",
    "TransientError",
    "tracker",
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
        OptionError: An option is not allowed; the text names it, its value and what is.
        RunError: ``run`` does not offer what tracking into it needs.
    """
    from asynctrack._tracker import make_tracker

    return make_tracker(run, options)


def __getattr__(name: str) -> Any:
    # Loaded when they are asked for: they need langchain-core, `import asynctrack` does not.
    if name in ("AsyncHandler", "SyncHandler"):
        from asynctrack import _callback

        return getattr(_callback, name)
    if name == "Tracker":
        from asynctrack._tracker import Tracker

        return Tracker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
