"""Where MLflow takes traces: its endpoint for OpenTelemetry's protocol."""

from __future__ import annotations

from collections.abc import Callable

from asynctrack._backends.mlflow.address import MlflowTarget, without_secrets
from asynctrack._backends.mlflow.errors import map_error
from asynctrack._backends.mlflow.server import server
from asynctrack._errors import NotFoundError, OptionError, TransientError

PATH = "/v1/traces"
_ONLY = "False here: traces need an MLflow server at an http:// or https:// address"


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
