"""For those who come from ``langchain_community``: change one import, the notebook runs.

::

    from asynctrack.compat import SageMakerCallbackHandler
"""

from __future__ import annotations

from typing import Any

from asynctrack._capture.handlers import SyncHandler
from asynctrack._capture.sink import Flush
from asynctrack._tracker import make_tracker

__all__ = ["SageMakerCallbackHandler"]


class SageMakerCallbackHandler(SyncHandler):
    """The old handler's name and calls, with what asynctrack does behind them.

    It tracks from the moment it is made, without a ``with`` block. ``flush_tracker()`` delivers
    everything so far; what comes after it is delivered in the background and when the interpreter
    ends.

    Args:
        run: A ``Run`` of sagemaker 2.x or 3.x, or the path of a folder.
        **options: As for ``asynctrack.tracker``.

    Raises:
        MissingExtraError: ``run`` is a Run, and no library is installed that sends to AWS.
        OptionError: An option is not allowed.
        RunError: ``run`` does not offer what tracking into it needs.
    """

    def __init__(self, run: Any, **options: Any) -> None:
        self.run = run
        self._tracker = make_tracker(run, options)
        super().__init__(self._tracker.open_unattended())
        self._tracker.adopt(self)

    def flush_tracker(self) -> Flush:
        """Deliver everything so far, and wait for it as long as ``close_timeout`` allows."""
        return self._tracker.flush_and_mirror()

    def close(self) -> None:
        """Deliver everything and end the worker; the handler takes no events after that."""
        self._tracker.close()
