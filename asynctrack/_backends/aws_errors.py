"""What botocore, aiobotocore and aiohttp raise, mapped to ``BackendError``: the only place.

Transient: the same request may work in a moment. Pausing: it works once somebody has renewed
credentials, mended settings, granted access or made the bucket. Permanent: this request can never
work. Events are given up for that last one only, so it takes AWS's own word, in its own form: a
proxy's 403, a filter's 400, a web page of any status are somebody else's and tried again. And what
S3 says of settings, or in words that nobody here knows, waits.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any, Final

from asynctrack._backends.acknowledge import (
    UNREADABLE,
    has_request_id,
    headers_of,
    not_aws,
    status_of,
    who_answered,
)
from asynctrack._backends.advice import BETWEEN, advice_for
from asynctrack._common.marker import safe_str
from asynctrack._common.retry import parse_retry_after
from asynctrack._errors import BackendError, PausingError, PermanentError, TransientError

PERMANENT_CODES: Final = frozenset(
    {
        # The object has more bytes than one PutObject takes; its halves are tried first.
        "EntityTooLarge", "RequestEntityTooLarge",
        # What every object has of its own is its key, and a replay makes the same one.
        "InvalidURI", "KeyTooLongError",
        # What goes with it is fixed with it.
        "MetadataTooLarge",
    }
)  # fmt: skip
"""What S3's list of error codes has about the very object; everything else is about settings,
access or the moment, and no event is given up for that."""
TRANSIENT_CODES: Final = frozenset(
    {
        "BadDigest", "ConditionalRequestConflict", "ConflictException", "IncompleteBody",
        "InternalError", "InternalFailure", "InvalidDigest", "OperationAborted",
        "PriorRequestNotComplete", "ProvisionedThroughputExceededException",
        "RequestLimitExceeded", "RequestThrottled", "RequestThrottledException",
        "RequestTimeout", "RequestTimeoutException", "RequestTimeTooSkewed",
        "ServiceUnavailable", "SlowDown", "Throttling", "ThrottlingException",
        "ThrottledException", "TooManyRequestsException", "XAmzContentChecksumMismatch",
        "XAmzContentSHA256Mismatch",
        # Of a bucket whose name is not known everywhere yet.
        "Redirect", "TemporaryRedirect",
    }
)  # fmt: skip
PAUSING_CODES: Final = frozenset({"ResourceNotFound"})
"""Those that advice is known for wait as well."""
TRANSIENT_STATUS: Final = frozenset({408, 409, 425, 429})
_PAUSING_STATUS: Final = frozenset({301, 307, 401, 403, 404})
# botocore's own exceptions, by name: importing them takes longer than `import asynctrack` may.
_PAUSING_TYPES: Final = frozenset(
    {
        "CredentialRetrievalError", "InvalidConfigError", "NoAuthTokenError",
        "NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "SSOError",
        "SSOTokenLoadError", "TokenRetrievalError", "UnauthorizedSSOTokenError",
        "MetadataRetrievalError", "NoRegionError",
    }
)  # fmt: skip
_SETTINGS_TYPES: Final = frozenset(
    {
        "EndpointProviderError", "InvalidEndpointConfigurationError", "InvalidRegionError",
        "InvalidS3AddressingStyleError", "ParamValidationError", "UnknownEndpointError",
        "UnknownParameterError", "UnsupportedS3AccesspointConfigurationError",
        "UnsupportedS3ArnError", "UnsupportedS3ConfigurationError",
    }
)  # fmt: skip
_REFUSED_TYPES: Final = frozenset({"ParamValidationError", "UnknownParameterError"})
_NO_ANSWERS: Final = frozenset({"ResponseParserError"})
_CODE: Final = re.compile(r"[A-Za-z][\w.-]{0,99}", re.ASCII)
"""How AWS names an error; botocore gives the status as text where a body names none."""


def map_error(
    error: BaseException, *, now: float | None = None, recording: bool = False
) -> BackendError:
    """Return the ``BackendError`` for whatever a request raised.

    Args:
        error: Any exception of a request.
        now: Wall clock in seconds, for a Retry-After that is a date; None reads the clock.
        recording: Whether it was a request to SageMaker. What that refuses is no event, and has
            its place in the manifest: it is given up by SageMaker's word for any 4xx.

    Returns:
        The mapped error. Its text is the service's message, cut; never a header or a body.
    """
    if isinstance(error, BackendError):
        return error
    response = getattr(error, "response", None)
    if isinstance(response, dict) and isinstance(response.get("Error", {}), dict):
        return _map_response(response, time.time() if now is None else now, recording)
    names = {kind.__name__ for kind in type(error).__mro__}
    name = type(error).__name__
    message = safe_str(error, 300)
    if name == "ProxyConnectionError":  # botocore keeps to itself what the proxy said
        message = f"{message} ({safe_str(_made_of(error), 150)})"
    if names & _NO_ANSWERS or ("HTTPClientError" in names and _is_no_http(_made_of(error))):
        # Their texts quote what was answered, which is nobody's business.
        what = f"what answered is not {'SageMaker' if recording else 'S3'}"
        return TransientError(
            UNREADABLE, f"{what}: it cannot be read", advice=BETWEEN, answered=True
        )
    if _is_about_a_certificate(error):
        return PausingError("CertificateError", message, advice=advice_for("CertificateError"))
    if recording and names & _REFUSED_TYPES:
        return PermanentError(name, message)
    if names & (_PAUSING_TYPES | _SETTINGS_TYPES):
        known = next((one for one in (name, *sorted(names)) if advice_for(one)), name)
        return PausingError(name, message, advice=advice_for(known))
    if isinstance(error, (TimeoutError, asyncio.TimeoutError)):
        return TransientError("Timeout", "the attempt took longer than its time limit")
    # Connections, time-outs, broken answers, and what nobody has thought of: never lost, tried
    # again, and named in the warning.
    return TransientError(name, message, advice=advice_for(name))


def _map_response(response: dict[str, Any], now: float, recording: bool) -> BackendError:
    said = response.get("Error", {})
    code = str(said.get("Code") or "")
    headers = headers_of(response)
    retry_after = parse_retry_after(headers.get("retry-after"), now)
    status = status_of(response)
    if status is None:
        status = int(code) if code.isdecimal() and code.isascii() else 0
    named = _CODE.fullmatch(code) is not None
    vouched = has_request_id(response) or (recording and _is_json_of_aws(headers))
    service = "SageMaker" if recording else "S3"
    if not (named or vouched) and status:
        return _map_stranger(response, status, service, retry_after)
    kind: type[BackendError]
    if code in TRANSIENT_CODES or (status in TRANSIENT_STATUS and not advice_for(code)):
        kind = TransientError
    elif code in PAUSING_CODES or advice_for(code):
        kind = PausingError
    elif status >= 500 or status < 300:  # no status, or one that contradicts the error
        kind = TransientError
    elif vouched and ((recording and status not in _PAUSING_STATUS) or code in PERMANENT_CODES):
        kind = PermanentError
    elif recording and not vouched:
        return not_aws(response, service)
    else:
        kind = PausingError
    message = str(said.get("Message") or "")[:300]
    return kind(
        code or "Unknown",
        f"{message} (HTTP {status})",
        retry_after=retry_after,
        advice="" if kind is PermanentError else advice_for(code),
        answered=True,
    )


def _map_stranger(
    response: dict[str, Any], status: int, service: str, retry_after: float | None
) -> BackendError:
    """Return the error for an answer in which nothing is AWS's."""
    if status <= 500 and status not in TRANSIENT_STATUS and status != 413:
        return not_aws(response, service)
    # A load balancer's hiccup, or a proxy that takes no requests of this size.
    code = str(status)
    return TransientError(
        code,
        f"what answered is not {service}: {who_answered(response)}",
        retry_after=retry_after,
        advice=advice_for(code),
        answered=True,
    )


def _is_json_of_aws(headers: Any) -> bool:
    kind = headers.get("content-type") or ""
    return bool(headers.get("x-amzn-errortype")) or kind.startswith("application/x-amz-json")


def _made_of(error: BaseException) -> Any:
    """Return what an exception of botocore's was made of: another one, or a text, or None."""
    given = getattr(error, "kwargs", None)
    return given.get("error") if isinstance(given, dict) else None


def _is_no_http(cause: Any) -> bool:
    """Tell whether aiohttp found something else than HTTP in an answer."""
    return type(cause).__name__ == "ClientResponseError"


def _is_about_a_certificate(error: BaseException) -> bool:
    look: list[Any] = [error]
    for _ in range(10):  # nobody raises deeper than that
        if not look:
            break
        one = look.pop(0)
        names = {kind.__name__ for kind in type(one).__mro__}
        text = safe_str(one).lower()
        if "SSLCertVerificationError" in names or "certificate verify failed" in text:
            return True
        # The second is urllib3's: a certificate, and for another name.
        if "SSLError" in names and ("certificate" in text or "doesn't match" in text):
            return True
        if isinstance(one, BaseException):
            below = (_made_of(one), one.__cause__ or one.__context__)
            look += [other for other in below if other is not None]
    return False
