"""What botocore, aiobotocore and aiohttp raise, mapped to ``BackendError``: the only place.

Transient: the same request may work in a moment. Pausing: it works once somebody has renewed
credentials, granted access or made the bucket. Permanent: this request can never work.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from asynctrack._errors import BackendError, PausingError, PermanentError, TransientError
from asynctrack._marker import safe_str
from asynctrack._retry import parse_retry_after

PAUSING_CODES: Final = frozenset(
    {
        "AccessDenied", "AccessDeniedException", "AccountProblem", "AllAccessDisabled",
        "AuthorizationHeaderMalformed", "ExpiredToken", "ExpiredTokenException",
        "IncompleteSignature", "InvalidAccessKeyId", "InvalidClientTokenId", "InvalidToken",
        "MissingAuthenticationToken", "NoSuchBucket", "NotSignedUp", "OptInRequired",
        "PermanentRedirect", "ResourceNotFound", "SignatureDoesNotMatch",
        "TokenRefreshRequired", "UnauthorizedAccess", "UnrecognizedClientException",
    }
)  # fmt: skip
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
    }
)  # fmt: skip
TRANSIENT_STATUS: Final = frozenset({408, 409, 425, 429})
PAUSING_STATUS: Final = frozenset({301, 307, 401, 403, 404})

# botocore's own exceptions, by name: importing them takes longer than `import asynctrack` may.
_PAUSING_TYPES: Final = frozenset(
    {
        "CredentialRetrievalError", "InvalidConfigError", "NoAuthTokenError",
        "NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "SSOError",
        "SSOTokenLoadError", "TokenRetrievalError", "UnauthorizedSSOTokenError",
        "MetadataRetrievalError", "NoRegionError",
    }
)  # fmt: skip
_PERMANENT_TYPES: Final = frozenset({"ParamValidationError", "UnknownParameterError"})


def map_error(error: BaseException, *, now: float | None = None) -> BackendError:
    """Return the ``BackendError`` for whatever a request raised.

    Args:
        error: Any exception of a request.
        now: Wall clock in seconds, for a Retry-After that is a date; None reads the clock.

    Returns:
        The mapped error. Its text is the service's message, cut; never a header or a body.
    """
    if isinstance(error, BackendError):
        return error
    response = getattr(error, "response", None)
    if isinstance(response, dict) and isinstance(response.get("Error"), dict):
        return _map_response(response, time.time() if now is None else now)
    names = {kind.__name__ for kind in type(error).__mro__}
    name = type(error).__name__
    message = safe_str(error, 300)
    if names & _PAUSING_TYPES:
        return PausingError(name, message)
    if names & _PERMANENT_TYPES:
        return PermanentError(name, message)
    if isinstance(error, (TimeoutError, asyncio.TimeoutError)):
        return TransientError("Timeout", "the attempt took longer than its time limit")
    # Connections, time-outs, broken answers, and what nobody has thought of: never lost, tried
    # again, and named in the warning.
    return TransientError(name, message)


def _map_response(response: dict[str, Any], now: float) -> BackendError:
    code = str(response["Error"].get("Code") or "Unknown")
    message = str(response["Error"].get("Message") or "")[:300]
    metadata = response.get("ResponseMetadata") or {}
    status = metadata.get("HTTPStatusCode")
    headers = metadata.get("HTTPHeaders") or {}
    retry_after = parse_retry_after(headers.get("retry-after"), now)
    if not isinstance(status, int):
        status = int(code) if code.isdecimal() else 0
    kind: type[BackendError]
    if code in TRANSIENT_CODES or (status in TRANSIENT_STATUS and code not in PAUSING_CODES):
        kind = TransientError
    elif code in PAUSING_CODES or code.startswith("KMS."):
        kind = PausingError
    elif status >= 500 or status < 300:  # no status, or one that contradicts the error
        kind = TransientError
    elif code == "ValidationException":
        kind = PermanentError
    elif status in PAUSING_STATUS:
        kind = PausingError
    else:
        kind = PermanentError
    return kind(code, f"{message} (HTTP {status})", retry_after=retry_after)
