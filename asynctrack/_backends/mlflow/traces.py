"""Where MLflow takes traces, its endpoint for OpenTelemetry's protocol; and feedback on them, which
is an assessment there."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any, Final

from asynctrack._backends.mlflow.address import MlflowTarget, without_secrets
from asynctrack._backends.mlflow.errors import MISSING, map_error
from asynctrack._backends.mlflow.server import server
from asynctrack._common.live import LiveFeedback
from asynctrack._errors import NotFoundError, OptionError, TransientError

PATH: Final = "/v1/traces"
MAX_NAME: Final = 250
"""Characters of an assessment's name, and of who it is from: more is cut off."""
_ONLY: Final = "False here: traces need an MLflow server at an http:// or https:// address"


def require_endpoint(target: MlflowTarget) -> str:
    """Return where the traces of a run go, for people. Asks nobody.

    Raises:
        OptionError: The tracking URI is known, and is no server's.
    """
    tracking = without_secrets(target.tracking or "")
    if tracking and not tracking.startswith(("http://", "https://")):
        raise OptionError("traces", True, _ONLY)
    return f"{tracking or 'MLflow'}{PATH}"


def endpoint_of(target: MlflowTarget) -> Callable[[], tuple[str, dict[str, str]]]:
    """Return what tells the address of MLflow's endpoint, and what goes with each request.

    It asks for the run, which somebody else makes, and raises ``BackendError`` until it is there.
    """
    there = server(target.tracking)

    def ask() -> tuple[str, dict[str, str]]:
        try:
            api = there.api()
            found = there.find(api, target)
            address, signed = api.endpoint()
        except NotFoundError as error:
            raise TransientError("NoRun", "the run is not there yet") from error
        except Exception as error:
            raise map_error(error) from error
        return f"{address.rstrip('/')}{PATH}", {
            "x-mlflow-experiment-id": found.experiment_id,
            "x-mlflow-run-id": found.run_id,
            **signed,
        }

    return ask


def feedback_to(target: MlflowTarget) -> Callable[[LiveFeedback], None]:
    """Return what puts feedback on its trace. That blocks, and may be repeated.

    It raises ``NotFoundError`` where MLflow does not know the trace, else ``BackendError``.
    """
    there = server(target.tracking)

    def rate(feedback: LiveFeedback) -> None:
        try:
            there.api().assess(f"tr-{feedback.trace_id}", assessment_of(feedback))
        except Exception as error:
            mapped = map_error(error)
            if mapped.code in MISSING:
                raise NotFoundError("MLflow does not know the trace") from error
            raise mapped from error

    return rate


def assessment_of(feedback: LiveFeedback) -> dict[str, Any]:
    """Return feedback as MLflow's JSON has assessments: from a person where it names a user."""
    source = {"source_type": "CODE", "source_id": "default"}
    if feedback.user_id is not None:
        source = {"source_type": "HUMAN", "source_id": feedback.user_id[:MAX_NAME]}
    at = _timestamp(feedback.time_unix_nano)
    found = {
        "assessment_id": f"a-{feedback.identity}",
        "assessment_name": feedback.name[:MAX_NAME],
        "trace_id": f"tr-{feedback.trace_id}",
        "span_id": feedback.span_id,
        "source": source,
        "create_time": at,
        "last_update_time": at,
        "feedback": {"value": feedback.value},
        "rationale": feedback.comment,
        "valid": True,
    }
    return {name: value for name, value in found.items() if value is not None}


def _timestamp(time_unix_nano: int) -> str:
    at = datetime.fromtimestamp(max(0, time_unix_nano) // 10**9, timezone.utc)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{time_unix_nano % 10**9 // 10**6:03d}Z"
