"""Every exception asynctrack raises or uses inside, in one tree.

::

    AsynctrackError
    ├── OptionError            (ValueError)    an option has a value that is not allowed
    ├── RunError               (TypeError)     the object given as Run lacks what we need of it
    ├── StateError             (RuntimeError)  entered twice, or used after it was closed
    └── BackendError                           S3, SageMaker or the disk said no
        ├── TransientError                     the same request may work later: retried
        ├── PausingError                       works once somebody acts: kept, probed slowly
        └── PermanentError                     this request can never work

None of the last four ever reaches a chain: the worker handles them. ``OptionError``, ``RunError``
and ``StateError`` are raised by ``tracker(...)`` and by entering it, before a chain runs.
"""

from __future__ import annotations

__all__ = [
    "AsynctrackError",
    "BackendError",
    "OptionError",
    "PausingError",
    "PermanentError",
    "RunError",
    "StateError",
    "TransientError",
]


class AsynctrackError(Exception):
    """Base class of everything asynctrack raises."""


class OptionError(AsynctrackError, ValueError):
    """An option has a value that is not allowed; the text names option, value and what is."""

    def __init__(self, option: str, value: object, allowed: str) -> None:
        self.option = option
        self.value = value
        self.allowed = allowed
        super().__init__(f"{option}={value!r} is not allowed: {option} must be {allowed}")


class RunError(AsynctrackError, TypeError):
    """The object given as Run does not offer what tracking into it needs."""


class StateError(AsynctrackError, RuntimeError):
    """A tracker was entered twice, or used in a way its state does not allow."""


class BackendError(AsynctrackError):
    """A request to the backend failed.

    Attributes:
        code: The service's error code, or the name of the exception it was mapped from.
        retry_after: Seconds the service asked to wait, or None.
    """

    def __init__(self, code: str, message: str, *, retry_after: float | None = None) -> None:
        self.code = code
        self.retry_after = retry_after
        super().__init__(f"{code}: {message}")


class TransientError(BackendError):
    """Time-outs, resets, 5xx, throttling: the same request may work in a moment."""


class PausingError(BackendError):
    """Credentials, permissions, a missing bucket: works again once somebody has acted."""


class PermanentError(BackendError):
    """The service refuses this very request, now and later."""
