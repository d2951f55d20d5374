"""Every exception that asynctrack raises or uses inside, in one tree.

::

    AsynctrackError
    ├── OptionError            (ValueError)    an option has a value that is not allowed
    ├── RunError               (TypeError)     the object given as Run lacks what we need of it
    ├── StateError             (RuntimeError)  entered twice, or used after it was closed
    ├── ReadError                              what was written cannot be read back
    │   ├── NotFoundError      (LookupError)   there is nothing at the given place
    │   ├── SeveralRunsError   (LookupError)   there is more than one Run or experiment: named
    │   └── ChecksumError                      an object is not the one its manifest lists
    ├── NotLoggedError         (LookupError)   a test asks what no logged model call was asked
    ├── ReplayedError          (RuntimeError)  the error of a logged model call, in a test
    ├── MissingExtraError      (ImportError)   a package is not installed; the text names the extra
    └── BackendError                           S3, SageMaker or the disk said no
        ├── TransientError                     the same request may work later: retried
        ├── PausingError                       works once somebody acts: kept, probed slowly
        └── PermanentError                     the service says that this request can never work

None of the last four ever reaches a chain: the worker handles them. ``tracker(...)`` and entering
it raise ``OptionError``, ``RunError``, ``MissingExtraError`` and ``StateError``, before a chain
runs. ``open_run(...)``, ``open_experiment(...)``, ``verify(...)`` and what they return raise
``ReadError``, ``MissingExtraError`` and ``BackendError``. The model of ``testing.replay_model``
raises ``NotLoggedError`` and ``ReplayedError``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

__all__ = [
    "AsynctrackError",
    "BackendError",
    "ChecksumError",
    "MissingExtraError",
    "NotFoundError",
    "NotLoggedError",
    "OptionError",
    "PausingError",
    "PermanentError",
    "ReadError",
    "ReplayedError",
    "RunError",
    "SeveralRunsError",
    "StateError",
    "TransientError",
]


class AsynctrackError(Exception):
    """Base class of everything asynctrack raises."""

    def __reduce__(self) -> tuple[Any, ...]:
        # By default pickle makes an exception from its text, which is not what __init__ takes.
        return _remade, (type(self), self.args, vars(self))


def _remade(
    kind: type[AsynctrackError], args: tuple[Any, ...], attributes: dict[str, Any]
) -> AsynctrackError:
    error = kind.__new__(kind, *args)
    vars(error).update(attributes)
    return error


class OptionError(AsynctrackError, ValueError):
    """An option has a value that is not allowed; the text names option, value and what is."""

    def __init__(self, option: str, value: object, allowed: str) -> None:
        self.option = option
        self.value = value
        self.allowed = allowed
        shown = _LOGIN.sub("//…@", repr(value))
        super().__init__(f"{option}={shown} is not allowed: {option} must be {allowed}")


class RunError(AsynctrackError, TypeError):
    """The object given as Run does not offer what tracking into it needs."""


class StateError(AsynctrackError, RuntimeError):
    """A tracker was entered twice, or used in a way its state does not allow."""


class ReadError(AsynctrackError):
    """What was written cannot be read back; the text names the place."""


class NotFoundError(ReadError, LookupError):
    """There is no Run, or no experiment, at the given place."""


class SeveralRunsError(ReadError, LookupError):
    """There is more than one at the given place, and only one can be read at a time.

    Attributes:
        found: The addresses of what is there; each can be opened.
    """

    def __init__(self, message: str, found: Sequence[str]) -> None:
        self.found = tuple(found)
        super().__init__(message)


class ChecksumError(ReadError):
    """An object's bytes are not the ones that its writer stored.

    Attributes:
        object: The object's address.
    """

    def __init__(self, object: str, listed: str, found: str) -> None:  # noqa: A002  # its name
        self.object = object
        super().__init__(
            f"{object} is damaged: its manifest lists the SHA-256 {listed}, what is stored there"
            f" has {found}. Restore it from a copy or an older version, or read without it:"
            " open_run(..., damaged='set_aside'), or --set-aside on the command line."
        )


class NotLoggedError(AsynctrackError, LookupError):
    """No logged model call was asked this, or its answer is not in the log; the text shows the
    nearest."""


class ReplayedError(AsynctrackError, RuntimeError):
    """A logged model call ended with an error; its replay raises this in its place.

    Attributes:
        type: The type of the logged error, with its module.
        trace_id: The trace of the logged call.
        span_id: Its span.
    """

    def __init__(self, message: str, kind: str, trace_id: str, span_id: str) -> None:
        self.type = kind
        self.trace_id = trace_id
        self.span_id = span_id
        super().__init__(message)


class MissingExtraError(AsynctrackError, ImportError):
    """A package that belongs to an extra of asynctrack is not installed.

    Attributes:
        package: The package.
        extra: The extra that brings it.
    """

    def __init__(self, what: str, package: str, extra: str, note: str = "") -> None:
        from asynctrack._install import install_command  # rarely needed

        self.package = package
        self.extra = extra
        super().__init__(
            f"{what} needs {package}, which is not installed: {install_command(extra)}"
            + (f" ({note})" if note else "")
        )


class BackendError(AsynctrackError):
    """A request to the backend failed.

    Attributes:
        code: The service's error code, or the name of the exception it was mapped from. ``NotS3``,
            ``NotSageMaker`` and ``Unacknowledged``: something else answered instead.
        retry_after: Seconds the service asked to wait, or None.
        advice: What to change, as sentences; empty if it passes by itself.
        answered: Whether somebody answered this request: another one may work.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        retry_after: float | None = None,
        advice: str = "",
        answered: bool = False,
    ) -> None:
        self.code = code
        self.retry_after = retry_after
        self.advice = advice
        self.answered = answered
        super().__init__(f"{code}: {message}")

    @property
    def too_large(self) -> bool:
        """Whether the size is refused: the halves may pass."""
        return self.code in _TOO_LARGE


class TransientError(BackendError):
    """Time-outs, resets, 5xx, throttling, answers that are not the service's own: the same request
    may work in a moment."""


class PausingError(BackendError):
    """Credentials, permissions, settings, a missing bucket, a certificate nobody trusts: works
    again once somebody has acted. Until then nothing is given up."""


class PermanentError(BackendError):
    """The service itself refuses this request, now and later. Only the service can say so."""


_LOGIN: Final = re.compile(r"//[^/\s]*@")
"""User and password in an address."""
_TOO_LARGE: Final = frozenset({"EntityTooLarge", "RequestEntityTooLarge", "413"})
"""S3's own codes, and the status of a proxy that takes no requests of that size."""
