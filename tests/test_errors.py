"""Errors: one tree, and nothing of the libraries below in it."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import pickle
import re
from typing import Any

import aiohttp
import botocore.exceptions
import pytest
from botocore.exceptions import ClientError

import asynctrack
from asynctrack import _errors
from asynctrack._backends._aws_errors import map_error
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

NOW = 1_800_000_000.0
DATE = "Fri, 15 Jan 2027 08:01:00 GMT"  # a minute after it

# What S3 and SageMaker answer with each status, with their own codes and with none.
ROWS: dict[int, dict[str, type[BackendError]]] = {
    400: {
        "": PermanentError, "BadRequest": PermanentError, "ValidationException": PermanentError,
        "EntityTooLarge": PermanentError, "KeyTooLongError": PermanentError,
        "ExpiredToken": PausingError, "RequestTimeout": TransientError,
        "ThrottlingException": TransientError, "BadDigest": TransientError,
        "ConflictException": TransientError, "ResourceNotFound": PausingError,
        "AccessDeniedException": PausingError, "IncompleteBody": TransientError,
        "XAmzContentSHA256Mismatch": TransientError, "UnrecognizedClientException": PausingError,
    },
    401: {"": PausingError, "Unauthorized": PausingError},
    403: {
        "": PausingError, "AccessDenied": PausingError, "InvalidAccessKeyId": PausingError,
        "SignatureDoesNotMatch": PausingError, "RequestTimeTooSkewed": TransientError,
        "Forbidden": PausingError,
    },
    404: {"": PausingError, "NoSuchBucket": PausingError, "404": PausingError},
    408: {"": TransientError, "RequestTimeout": TransientError},
    409: {
        "": TransientError, "OperationAborted": TransientError,
        "ConditionalRequestConflict": TransientError,
    },
    412: {"": PermanentError, "PreconditionFailed": PermanentError},
    413: {"": PermanentError, "EntityTooLarge": PermanentError},
    425: {"": TransientError},
    429: {"": TransientError, "TooManyRequestsException": TransientError},
    500: {"": TransientError, "InternalError": TransientError, "InternalFailure": TransientError},
    502: {"": TransientError},
    503: {
        "": TransientError, "SlowDown": TransientError, "ServiceUnavailable": TransientError,
        "503": TransientError,
    },
    504: {"": TransientError},
    509: {"": TransientError, "BandwidthLimitExceeded": TransientError},
}  # fmt: skip

RETRY_AFTER: list[tuple[str | None, float | None]] = [
    (None, None), ("7", 7.0), ("0", 0.0), (DATE, 60.0), ("soon", None), ("", None), ("-1", None),
]  # fmt: skip


def answer(status: int, code: str, retry_after: str | None = None) -> ClientError:
    """Return what botocore raises for an answer."""
    headers = {} if retry_after is None else {"retry-after": retry_after}
    response: Any = {
        "Error": {"Code": code, "Message": "the service's words"} if code else {"Message": ""},
        "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers},
    }
    return ClientError(response, "PutObject")


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [(status, code, kind) for status, codes in ROWS.items() for code, kind in codes.items()],
)
@pytest.mark.parametrize(("header", "seconds"), RETRY_AFTER)
def test_every_answer(
    status: int,
    code: str,
    kind: type[BackendError],
    header: str | None,
    seconds: float | None,
) -> None:
    """Each status with each code is what it is, with each form of Retry-After."""
    error = map_error(answer(status, code, header), now=NOW)
    assert type(error) is kind
    assert error.code == (code or "Unknown")
    assert error.retry_after == seconds
    assert str(status) in str(error)


def test_the_matrix_is_complete() -> None:
    """Every status of the fault matrix is in the table."""
    assert list(ROWS) == [
        400, 401, 403, 404, 408, 409, 412, 413, 425, 429, 500, 502, 503, 504, 509,
    ]  # fmt: skip


@pytest.mark.parametrize("code", sorted(asynctrack._backends._aws_errors.PAUSING_CODES))
@pytest.mark.parametrize("status", [400, 403, 404])
def test_what_somebody_can_mend_is_kept(code: str, status: int) -> None:
    """Credentials, permissions and missing buckets are waited for, never given up."""
    assert type(map_error(answer(status, code))) is PausingError


@pytest.mark.parametrize("code", sorted(asynctrack._backends._aws_errors.TRANSIENT_CODES))
@pytest.mark.parametrize("status", [400, 403, 409, 429, 500, 503])
def test_what_passes_is_tried_again(code: str, status: int) -> None:
    """Throttling and hiccups are tried again, whatever status they come with."""
    assert type(map_error(answer(status, code))) is TransientError


@pytest.mark.parametrize(
    "response",
    [
        {"Error": {}},
        {"Error": {"Code": None, "Message": None}},
        {"Error": {"Code": 5, "Message": ["odd"]}},
        {"Error": {"Code": "²"}},
        {"Error": {"Code": "X"}, "ResponseMetadata": {}},
        {"Error": {"Code": "X"}, "ResponseMetadata": {"HTTPStatusCode": 200}},
        {"Error": {"Code": "X"}, "ResponseMetadata": {"HTTPStatusCode": "200"}},
        {"Error": {"Code": "X"}, "ResponseMetadata": {"HTTPHeaders": None}},
    ],
)
def test_answers_that_lack_something(response: Any) -> None:
    """An answer without a status is tried again; none raises anything else."""
    assert type(map_error(ClientError(response, "PutObject"))) is TransientError


KINDS: dict[str, type[BackendError]] = {
    "NoCredentialsError": PausingError,
    "PartialCredentialsError": PausingError,
    "CredentialRetrievalError": PausingError,
    "UnauthorizedSSOTokenError": PausingError,
    "SSOTokenLoadError": PausingError,
    "TokenRetrievalError": PausingError,
    "NoAuthTokenError": PausingError,
    "NoRegionError": PausingError,
    "ProfileNotFound": PausingError,
    "InvalidConfigError": PausingError,
    "MetadataRetrievalError": PausingError,
    "ParamValidationError": PermanentError,
    "UnknownParameterError": PermanentError,
    "EndpointConnectionError": TransientError,
    "ConnectionClosedError": TransientError,
    "ConnectTimeoutError": TransientError,
    "ReadTimeoutError": TransientError,
    "ProxyConnectionError": TransientError,
    "SSLError": TransientError,
    "ResponseStreamingError": TransientError,
    "IncompleteReadError": TransientError,
    "HTTPClientError": TransientError,
}

BOTOCORE = [
    kind
    for kind in vars(botocore.exceptions).values()
    if inspect.isclass(kind) and issubclass(kind, Exception)
]


def made(kind: type[Exception]) -> Exception:
    """Make any exception of botocore, with whatever its message asks for."""
    if issubclass(kind, ClientError):
        response: Any = {"Error": {"Code": "X"}, "ResponseMetadata": {"HTTPStatusCode": 500}}
        return kind(response, "PutObject")
    named: dict[str, Any] = dict.fromkeys(re.findall(r"\{(\w+)", getattr(kind, "fmt", "")), "x")
    if kind is botocore.exceptions.WaiterError:
        named = {"name": "x", "reason": "x", "last_response": {}}
    try:
        return kind(**named)
    except TypeError:
        return kind("x")


@pytest.mark.parametrize("kind", BOTOCORE, ids=lambda kind: kind.__name__)
def test_everything_botocore_raises(kind: type[Exception]) -> None:
    """Each exception class of botocore becomes one of ours, those known of the right kind."""
    error = map_error(made(kind))
    assert isinstance(error, BackendError)
    assert type(error) in (TransientError, PausingError, PermanentError)
    if kind.__name__ in KINDS:
        assert type(error) is KINDS[kind.__name__]
        assert error.code == kind.__name__


def test_the_known_ones_exist() -> None:
    """A name in the table that botocore no longer has would be tested in vain."""
    assert KINDS.keys() <= {kind.__name__ for kind in BOTOCORE}


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Odd(Exception):
    def __init__(self) -> None:
        self.response = {"Error": "not a dictionary"}


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError(), asyncio.TimeoutError(), OSError(5, "x"), ConnectionResetError(),
        aiohttp.ClientConnectionError("x"), aiohttp.ServerDisconnectedError(),
        aiohttp.ClientPayloadError("x"), RuntimeError("x"), MemoryError(), KeyError("x"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"), Unprintable(), Odd(),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_anything_else_is_tried_again(error: Exception) -> None:
    """What nobody has thought of is never lost: it is tried again, and named."""
    mapped = map_error(error)
    assert type(mapped) is TransientError
    assert mapped.code in (type(error).__name__, "Timeout")


def test_our_own_pass_as_they_are() -> None:
    """What is mapped already is not mapped again."""
    error = PausingError("X", "y", retry_after=5.0)
    assert map_error(error) is error


def test_messages_are_cut() -> None:
    """A body that a proxy put into the message does not fill the log."""
    response: Any = {
        "Error": {"Code": "X", "Message": "m" * 5_000},
        "ResponseMetadata": {"HTTPStatusCode": 500},
    }
    assert len(str(map_error(ClientError(response, "PutObject")))) < 400
    assert len(str(map_error(OSError("m" * 5_000)))) < 400


# -- the tree -----------------------------------------------------------------------------------


def test_the_tree_is_the_one_in_the_docstring() -> None:
    """The picture in the module's docstring is drawn from the classes."""
    drawn: dict[str, tuple[int, str]] = {}
    parents: list[str] = []
    for line in str(_errors.__doc__).splitlines():
        match = re.match(r"    ((?:[│├└─ ]{4})*)(\w+Error)\b\s*(?:\((\w+)\))?", line)
        if match:
            depth = len(match[1]) // 4
            parents = [*parents[:depth], match[2]]
            drawn[match[2]] = (depth, match[3] or "")
            kind = getattr(_errors, match[2])
            bases = [base.__name__ for base in kind.__bases__]
            expected = [parents[-2]] if depth else ["Exception"]
            assert bases == expected + ([match[3]] if match[3] else [])
    classes = {
        name for name, kind in vars(_errors).items()
        if inspect.isclass(kind) and issubclass(kind, AsynctrackError)
    }  # fmt: skip
    assert drawn.keys() == classes
    assert sorted(classes) == _errors.__all__


def test_option_errors_say_what_is_allowed() -> None:
    """The text names option, value and what is allowed."""
    error = OptionError("overflow", "x", "'block' or 'drop_newest'")
    assert str(error) == "overflow='x' is not allowed: overflow must be 'block' or 'drop_newest'"
    assert (error.option, error.value, error.allowed) == (
        "overflow", "x", "'block' or 'drop_newest'",
    )  # fmt: skip
    assert isinstance(error, ValueError)


@pytest.mark.parametrize(
    "error",
    [
        OptionError("a", 1, "2"), RunError("x"), StateError("x"),
        TransientError("c", "m", retry_after=2.0), PausingError("c", "m"), PermanentError("c", "m"),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_errors_survive_a_process_boundary(error: AsynctrackError) -> None:
    """An error raised in a worker process arrives in the parent as it was."""
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


def test_kinds_exclude_each_other() -> None:
    """An error of a backend is of one kind only."""
    for one, other in itertools.permutations((TransientError, PausingError, PermanentError), 2):
        assert not issubclass(one, other)
