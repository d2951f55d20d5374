"""What MLflow's server and library say, mapped to ``BackendError``: the only place.

As with AWS, only the service's own word ends anything, in its own form: JSON with an
``error_code``. What a proxy, a load balancer or a sign-in page answers is tried again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from asynctrack._backends.mlflow.address import without_secrets
from asynctrack._common.marker import safe_str
from asynctrack._common.retry import parse_retry_after
from asynctrack._errors import BackendError, PausingError, PermanentError, TransientError

SIGN_IN: Final = (
    "Correct MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD; for"
    " managed MLflow the AWS credentials and what IAM allows them ('asynctrack guide permissions')."
)
BETWEEN: Final = (
    "Look at the tracking URI, and for what answers in the server's place between here and there: a"
    " proxy, the sign-in page of a network, a load balancer."
)
GONE: Final = (
    "Restore the run (mlflow.MlflowClient().restore_run(run_id)), or give one that is there."
)
_PLUGIN: Final = (
    "Set MLFLOW_TRACKING_URI to the address of your server. The ARN of managed MLflow needs"
    " 'pip install sagemaker-mlflow', a database (MLflow's default) 'pip install mlflow'."
)
_FILES: Final = (
    "Give a server (MLFLOW_TRACKING_URI=http://…) or a database ('pip install mlflow' and"
    " MLFLOW_TRACKING_URI=sqlite:///mlflow.db), or set MLFLOW_ALLOW_FILE_STORE=true."
)
_TRANSIENT: Final = frozenset(
    {
        "ABORTED", "DEADLINE_EXCEEDED", "INTERNAL_ERROR", "IO_ERROR", "REQUEST_LIMIT_EXCEEDED",
        "RESOURCE_CONFLICT", "RESOURCE_EXHAUSTED", "TEMPORARILY_UNAVAILABLE",
        "WORKSPACE_TEMPORARILY_UNAVAILABLE",
    }
)  # fmt: skip
_SIGNED_OUT: Final = frozenset(
    {"CUSTOMER_UNAUTHORIZED", "PERMISSION_DENIED", "UNAUTHENTICATED", "UNAUTHORIZED"}
)
MISSING: Final = frozenset({"NOT_FOUND", "RESOURCE_DOES_NOT_EXIST"})
"""Codes for what MLflow does not know."""
_CODE: Final = re.compile(r"[A-Z][A-Z_]{0,99}", re.ASCII)
_SHOWN: Final = 200


def map_answer(status: int, headers: Mapping[str, str], text: str, now: float) -> BackendError:
    """Return the error for an answer that is no success.

    Args:
        status: Its HTTP status.
        headers: Its headers.
        text: Its body.
        now: Wall clock in seconds, for a Retry-After that is a date.
    """
    retry_after = parse_retry_after(headers.get("Retry-After"), now)
    code, message = _said(text)
    if status in (408, 425, 429) or status >= 500:
        return TransientError(
            code or str(status), f"HTTP {status}", retry_after=retry_after, answered=True
        )
    if status in (401, 403):
        return PausingError(code or str(status), f"HTTP {status}", advice=SIGN_IN, answered=True)
    if status == 413:  # of a proxy, whose limit is lower: the halves may pass
        return PermanentError("413", "too large for what is on the way", answered=True)
    if not code:
        kind = safe_str(headers.get("Content-Type") or "of no content type", 60)
        return not_mlflow(f"HTTP {status}, {kind!r}")
    return _by_code(code, f"{message} (HTTP {status})".strip())


def not_mlflow(what: str) -> BackendError:
    """Return the error for an answer of somebody else."""
    return TransientError(
        "NotMLflow", f"what answered is not MLflow: {what}", advice=BETWEEN, answered=True
    )


def run_is_deleted(run_id: str) -> BackendError:
    """Return the error for a run in MLflow's trash."""
    return PausingError(
        "RunDeleted", f"the run {run_id} is deleted in MLflow", advice=GONE, answered=True
    )


def map_error(error: BaseException) -> BackendError:
    """Return the ``BackendError`` for whatever MLflow's library raised.

    Its text never quotes more than a service's message, cut, and no user or password of an address.
    """
    if isinstance(error, BackendError):
        return error
    name = type(error).__name__
    if isinstance(error, (TimeoutError,)):
        return TransientError("Timeout", "the attempt took longer than its time limit")
    if name.startswith("Unsupported") and name.endswith("URIException"):
        return PausingError(name, "no plugin for this tracking URI", advice=_PLUGIN)
    if isinstance(error, ImportError):
        return PausingError(
            name,
            _clean(error),
            advice="Install what is missing into this environment, and start again.",
        )
    below = error.__cause__ or error.__context__
    code = getattr(error, "error_code", None)
    if below is not None and type(below).__module__.partition(".")[0] in ("requests", "urllib3"):
        name = type(below).__name__
        if "SSL" in name or "certificate" in safe_str(below).lower():
            return PausingError(
                "CertificateError",
                _clean(below),
                advice="Name the server's certificates in MLFLOW_TRACKING_SERVER_CERT_PATH.",
            )
        return TransientError(name, _reason(below))
    if isinstance(code, str) and _CODE.fullmatch(code):
        message = getattr(error, "message", "")
        if "filesystem tracking backend" in str(message):
            return PausingError("FileStore", "MLflow takes no more runs in a folder", advice=_FILES)
        return _by_code(code, "" if code == "INVALID_PARAMETER_VALUE" else _clean(message))
    return TransientError(name, _clean(error))


def _by_code(code: str, message: str) -> BackendError:
    if code in _TRANSIENT:
        return TransientError(code, message, answered=True)
    if code in _SIGNED_OUT:
        return PausingError(code, message, advice=SIGN_IN, answered=True)
    if code in MISSING:
        return PausingError(code, message, advice=GONE, answered=True)
    if code == "ENDPOINT_NOT_FOUND":
        return not_mlflow("it does not know the request")
    return PermanentError(code, message, answered=True)


def _said(text: str) -> tuple[str, str]:
    """Return the code in MLflow's answer, and its message where that quotes nobody's values."""
    try:
        said: Any = json.loads(text)
    except (ValueError, RecursionError):
        return "", ""
    code = said.get("error_code") if isinstance(said, dict) else None
    if not (isinstance(code, str) and _CODE.fullmatch(code)):
        return "", ""
    # "Changing param values is not allowed" quotes what others have logged.
    return code, "" if code == "INVALID_PARAMETER_VALUE" else _clean(said.get("message", ""))


def _clean(message: object) -> str:
    return without_secrets(safe_str(message, _SHOWN).partition("\n")[0])


def _reason(error: BaseException) -> str:
    """Say what became of a connection, without the address that requests quotes."""
    text = safe_str(error, 2_000)
    for words in ("Connection refused", "timed out", "reset", "Name or service", "resolve"):
        if words in text:
            return f"no answer from the tracking server ({words})"
    return "no answer from the tracking server"
