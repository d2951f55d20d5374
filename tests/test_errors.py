"""Errors: one tree, and nothing of the libraries below in it."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import pickle
import re
import ssl
from typing import Any

import aiohttp
import botocore.exceptions
import pytest
from botocore.exceptions import ClientError

import asynctrack
from asynctrack import _errors
from asynctrack._backends import advice
from asynctrack._backends import aws_errors as aws_errors
from asynctrack._backends.advice import advice_for
from asynctrack._backends.aws_errors import map_error
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

T, W, P = TransientError, PausingError, PermanentError

# What S3 answers with each status, with its own codes, with ones nobody here knows, and with none.
ROWS: dict[int, dict[str, type[BackendError]]] = {
    301: {"": W, "PermanentRedirect": W},
    307: {"": W, "TemporaryRedirect": T},
    400: {
        "": W, "BadRequest": W, "InvalidRequest": W, "InvalidArgument": W, "InvalidTag": W,
        "InvalidStorageClass": W, "InvalidBucketName": W, "AuthorizationHeaderMalformed": W,
        "AuthorizationQueryParametersError": W, "IllegalLocationConstraintException": W,
        "InvalidRegionName": W, "InvalidEncryptionAlgorithmError": W, "KMS.DisabledException": W,
        "AccessControlListNotSupported": W, "ExpiredToken": W, "NobodyKnowsThis": W,
        "EntityTooLarge": P, "KeyTooLongError": P, "MetadataTooLarge": P, "InvalidURI": P,
        "RequestTimeout": T, "BadDigest": T, "IncompleteBody": T,
        "XAmzContentSHA256Mismatch": T,
    },
    401: {"": W, "Unauthorized": W},
    403: {
        "": W, "AccessDenied": W, "InvalidAccessKeyId": W, "SignatureDoesNotMatch": W,
        "RequestTimeTooSkewed": T, "Forbidden": W, "AllAccessDisabled": W, "InvalidPayer": W,
    },
    404: {"": W, "NoSuchBucket": W, "404": W},
    405: {"": W, "MethodNotAllowed": W},
    408: {"": T, "RequestTimeout": T},
    409: {"": T, "OperationAborted": T, "ConditionalRequestConflict": T},
    411: {"": W, "MissingContentLength": W},
    412: {"": W, "PreconditionFailed": W},
    413: {"": W, "EntityTooLarge": P, "RequestEntityTooLarge": P},
    421: {"": W},
    425: {"": T},
    429: {"": T, "TooManyRequestsException": T},
    500: {"": T, "InternalError": T, "InternalFailure": T},
    501: {"": T, "NotImplemented": W},
    502: {"": T},
    503: {"": T, "SlowDown": T, "ServiceUnavailable": T, "503": T},
    504: {"": T},
    509: {"": T, "BandwidthLimitExceeded": T},
}  # fmt: skip

# What SageMaker answers: what it refuses is no event, and is given up by its own word.
RECORDING: dict[int, dict[str, type[BackendError]]] = {
    400: {
        "": P, "ValidationException": P, "ResourceLimitExceeded": P, "NobodyKnowsThis": P,
        "ThrottlingException": T, "ConflictException": T, "ResourceNotFound": W,
        "AccessDeniedException": W, "UnrecognizedClientException": W, "ExpiredTokenException": W,
    },
    403: {"": W, "AccessDeniedException": W},
    404: {"": W, "ResourceNotFound": W},
    429: {"": T, "ThrottlingException": T},
    500: {"": T, "InternalFailure": T},
}  # fmt: skip

RETRY_AFTER: list[tuple[str | None, float | None]] = [
    (None, None), ("7", 7.0), ("0", 0.0), (DATE, 60.0), ("soon", None), ("", None), ("-1", None),
]  # fmt: skip


def answer(status: int, code: str, retry_after: str | None = None, **headers: str) -> ClientError:
    """Return what botocore raises for an answer; S3's, unless headers say otherwise."""
    given = headers or {"x-amz-request-id": "0123456789ABCDEF"}
    if retry_after is not None:
        given["retry-after"] = retry_after
    response: Any = {
        "Error": {"Code": code, "Message": "the service's words"} if code else {"Message": ""},
        "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": given},
    }
    return ClientError(response, "PutObject")


def rows(table: dict[int, dict[str, type[BackendError]]]) -> Any:
    return [(status, code, kind) for status, codes in table.items() for code, kind in codes.items()]


@pytest.mark.parametrize(("status", "code", "kind"), rows(ROWS))
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
    assert error.answered


@pytest.mark.parametrize(("status", "code", "kind"), rows(RECORDING))
def test_every_answer_of_sagemakers(status: int, code: str, kind: type[BackendError]) -> None:
    """SageMaker's own word ends a request to it, as the manifest has what was in it."""
    headers = {"x-amzn-requestid": "0123456789abcdef"}
    assert type(map_error(answer(status, code, **headers), recording=True)) is kind


def test_the_matrix_is_complete() -> None:
    """Every status of the fault matrix is in the table."""
    assert {
        400, 401, 403, 404, 408, 409, 412, 413, 425, 429, 500, 502, 503, 504, 509,
    } <= ROWS.keys()  # fmt: skip


@pytest.mark.parametrize("recording", [False, True])
@pytest.mark.parametrize("status", [302, 400, 401, 403, 404, 405, 407, 411, 412, 413, 421, 451])
def test_a_stranger_decides_nothing(status: int, recording: bool) -> None:
    """An answer without AWS's request id and without a code of its form is somebody else's."""
    page = {"content-type": "text/html; a=\x1b[31m" + "x" * 900, "server": "filter/1.0"}
    for code in ("", str(status), "Blocked by policy 17", "<b>"):
        error = map_error(answer(status, code, **page), recording=recording)
        assert type(error) is TransientError
        wanted = "NotSageMaker" if recording else "NotS3"
        assert error.code == ("413" if status == 413 else wanted)
        assert error.advice
        text = str(error)
        assert f"HTTP {status}" in text and "'filter/1.0'" in text
        assert "the service's words" not in text and "\x1b" not in text and len(text) < 300


@pytest.mark.parametrize("code", sorted(aws_errors.PERMANENT_CODES))
def test_only_s3_itself_refuses_for_good(code: str) -> None:
    """The same code without S3's request id waits; so does any that nobody has thought of."""
    assert type(map_error(answer(400, code))) is PermanentError
    assert type(map_error(answer(400, code, server="x"))) is PausingError


@pytest.mark.parametrize("code", sorted(advice._TABLE))
@pytest.mark.parametrize("status", [400, 403, 404, 501])
def test_what_somebody_can_mend_is_kept(code: str, status: int) -> None:
    """Credentials, permissions, settings and missing buckets are waited for, and it is said how."""
    error = map_error(answer(status, code))
    if code.isdecimal():  # no code of S3's: of what stands in front of it
        error = map_error(answer(int(code), code, server="x"))
    assert type(error) is (TransientError if code.isdecimal() else PausingError)
    assert error.advice == advice_for(code) != ""


@pytest.mark.parametrize("code", sorted(aws_errors.TRANSIENT_CODES))
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
        {"Error": {"Code": {"b": "x"}}, "ResponseMetadata": {"HTTPStatusCode": 403}},
    ],
)
def test_answers_that_lack_something(response: Any) -> None:
    """An answer without a status is tried again; none raises anything else."""
    assert type(map_error(ClientError(response, "PutObject"))) is TransientError


@pytest.mark.parametrize("recording", [False, True])
def test_a_certificate_nobody_trusts_waits(recording: bool) -> None:
    """However deep it lies below what was raised: it is said that nothing was sent, and what to
    change. A handshake that breaks for another reason is a hiccup."""
    try:
        try:
            raise ssl.SSLCertVerificationError(1, "self-signed certificate in certificate chain")
        except ssl.SSLError as cause:
            raise botocore.exceptions.SSLError(endpoint_url="https://x", error="y") from cause
    except botocore.exceptions.SSLError as raised:
        deep = map_error(raised, recording=recording)
    told = botocore.exceptions.ProxyConnectionError(
        proxy_url="https://x", error="[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed"
    )
    for error in (deep, map_error(told, recording=recording)):
        assert (type(error), error.code) == (PausingError, "CertificateError")
        assert "AWS_CA_BUNDLE" in error.advice and "Nothing was sent" in error.advice
    hiccup = botocore.exceptions.SSLError(endpoint_url="https://x", error="EOF occurred")
    assert type(map_error(hiccup, recording=recording)) is TransientError


def test_what_a_setting_makes_impossible_waits() -> None:
    """botocore refuses a bucket's name or an option before it sends anything: settings, so events
    wait. Of a parameter of the Run it is the value, which has its place in the manifest."""
    refused = botocore.exceptions.ParamValidationError(report="Invalid bucket name")
    assert type(map_error(refused)) is PausingError and "s3_options" in map_error(refused).advice
    assert type(map_error(refused, recording=True)) is PermanentError


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
    "ParamValidationError": PausingError,
    "UnknownParameterError": PausingError,
    "InvalidRegionError": PausingError,
    "InvalidS3AddressingStyleError": PausingError,
    "UnsupportedS3ConfigurationError": PausingError,
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


def test_option_errors_show_no_password_of_an_address() -> None:
    """An address with user and password may come from the environment, and errors are logged."""
    with pytest.raises(OptionError) as caught:
        asynctrack.tracker("https://user:se@cret@host/runs")
    assert str(caught.value).startswith("run='https://…@host/runs' is not allowed")


@pytest.mark.parametrize(
    "error",
    [
        OptionError("a", 1, "2"), RunError("x"), StateError("x"),
        TransientError("c", "m", retry_after=2.0), PermanentError("c", "m"),
        PausingError("c", "m", advice="a", answered=True),
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
