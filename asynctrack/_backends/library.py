"""Which of AWS's libraries are here, and which extra brings what is missing: the only place.

Requests are sent by aioboto3 where it is installed, else by aiobotocore alone, which follows boto3
much sooner. Reading takes boto3. Whether they are here is found out without importing them:
``tracker(...)`` is called in the user's event loop, and they take a second.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import threading
from typing import Any, Final, Protocol

from asynctrack._errors import MissingExtraError, PausingError

AWS_EXTRA_BOTO3: Final = ((1, 40, 46), (1, 40, 62))
"""The versions of boto3 that the extra ``aws`` goes with: from the first up to the second."""
LATEST_EXTRA_BOTO3: Final = ((1, 43, 115), (1, 43, 118))
"""The same of ``aws-latest``, with the aiobotocore of that extra's lower bound. A later one may go
with later versions of boto3; it follows them by weeks."""
LOWEST_AIOBOTOCORE: Final = (2, 25)
LOWEST_AIOBOTO3: Final = (15,)
"""What is older has not been tried, or does not work. pip takes aioboto3 7.0 where nothing newer
goes with a boto3 that is installed."""

_WRITING: Final = "Tracking into a Run"
_READING: Final = "Reading from AWS"
_TO_BUCKET: Final = "Tracking into a bucket"


class ClientSession(Protocol):
    """What makes clients; aioboto3's ``Session``, or what stands in for it."""

    def client(self, service_name: str, **options: Any) -> Any:
        """Return an asynchronous context manager whose value is the client."""


def require_client_library() -> None:
    """Make sure that requests to AWS can be sent; imports nothing.

    Raises:
        MissingExtraError: Neither aioboto3 nor aiobotocore is installed.
    """
    if not _is_installed("aiobotocore"):  # aioboto3 is built on it
        raise MissingExtraError(_WRITING, "aioboto3 or aiobotocore", *_fitting_extra())


def require_boto3() -> None:
    """Make sure that AWS can be read from; imports nothing.

    Raises:
        MissingExtraError: boto3 is not installed.
    """
    if not _is_installed("boto3"):
        raise MissingExtraError(_READING, "boto3", "s3")


def require_s3_libraries() -> None:
    """Make sure that a bucket can be tracked into without a Run; imports nothing.

    Raises:
        MissingExtraError: aiobotocore or boto3 is not installed.
    """
    missing = [name for name in ("aiobotocore", "boto3") if not _is_installed(name)]
    if missing:
        raise MissingExtraError(_TO_BUCKET, " and ".join(missing), "s3")


def prepare() -> None:
    """Import the client library, which takes a second.

    Raises:
        PausingError: It is older than what is known to work.
    """
    installed = _version("aiobotocore")
    if installed is not None and installed < LOWEST_AIOBOTOCORE:
        from asynctrack._install import install_command  # rarely needed

        extra, note = _fitting_extra()
        raise PausingError(
            "OldLibrary",
            f"the installed aiobotocore {_text('aiobotocore')} is too old:"
            f" {install_command(extra)}{note and f' ({note})'}, and start again",
        )
    import aiobotocore.session  # noqa: F401  # for the time it takes
    from aiobotocore.config import AioConfig  # noqa: F401

    if _has_aioboto3():
        import aioboto3  # noqa: F401


def client_session(session: Any, region: str | None) -> ClientSession:
    """Return what makes clients from a session of aiobotocore's.

    Args:
        session: aiobotocore's ``AioSession``.
        region: AWS region of the clients.
    """
    if not _has_aioboto3():
        return _PlainSession(session, region)
    import aioboto3

    made: ClientSession = aioboto3.Session(botocore_session=session, region_name=region)
    return made


def default_s3(endpoint_url: str | None) -> tuple[Any, Any]:
    """Return a session with the credentials that boto3 finds, and a client of S3.

    There is one session for the process: credentials that are renewed are renewed once for all
    Runs. Another one where the environment says something else by now. One thread at a time makes
    clients with it, as boto3 asks for. Blocks: reads files.

    Args:
        endpoint_url: The server; None for the one that boto3 finds.
    """
    import boto3

    said = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    found = (os.getpid(), said)  # a forked child has its own
    with _lock:
        if not _sessions or _sessions[0][0] != found:
            _sessions[:] = [(found, boto3.Session())]
        session = _sessions[0][1]
        return session, session.client("s3", endpoint_url=endpoint_url)


_lock: Final = threading.Lock()
_sessions: Final[list[tuple[tuple[int, dict[str, str]], Any]]] = []


class _PlainSession:
    """aiobotocore without aioboto3."""

    def __init__(self, session: Any, region: str | None) -> None:
        self._session = session
        self._region = region

    def client(self, service_name: str, **options: Any) -> Any:
        return self._session.create_client(service_name, **{"region_name": self._region, **options})


def _has_aioboto3() -> bool:
    return _is_installed("aioboto3") and (_version("aioboto3") or LOWEST_AIOBOTO3) >= (
        LOWEST_AIOBOTO3
    )


def _is_installed(package: str) -> bool:
    if sys.modules.get(package) is not None:
        return True
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):  # whoever finds modules here has refused
        return False


def _fitting_extra() -> tuple[str, str]:
    """Return the extra for the boto3 that is installed, and what it does to that."""
    found = _version("boto3")
    if found is None:
        return "aws", ""
    named = f"boto3 {_text('boto3')}, which is installed"
    for extra, (first, end) in (
        ("aws", AWS_EXTRA_BOTO3),
        ("aws-latest", LATEST_EXTRA_BOTO3),
    ):
        if first <= found < end:
            return extra, f"it goes with {named}"
        if found < first:
            return extra, f"pip will bring {named}, to {_dotted(first)} or later"
    end = LATEST_EXTRA_BOTO3[1]
    return "aws-latest", (
        f"pip will set {named}, back to before {_dotted(end)}, unless an aiobotocore for it has"
        " come out meanwhile; to keep it, track into a folder"
    )


def _version(package: str) -> tuple[int, ...] | None:
    """Return the numbers of an installed package's version; None where it has none."""
    return tuple(int(number) for number in re.findall(r"\d+", _text(package))[:3]) or None


def _text(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package) or ""
    except PackageNotFoundError:  # not there, or put into a program as one file
        return ""


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
