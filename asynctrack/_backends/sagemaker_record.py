"""What a SageMaker Run records: parameters, metrics, and where its events are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, Final

from asynctrack._backends import acknowledge
from asynctrack._backends.clients import AwsClients
from asynctrack._backends.protocol import Service
from asynctrack._backends.run import (
    RunTarget,
    local_parameter_names,
    local_parameters,
    mirror_parameters,
)
from asynctrack._common.artifact import MetricPoint, NotTaken, ParameterValue, RunState, Written
from asynctrack._errors import TransientError
from asynctrack._format import MEDIA_TYPE

_RETRIED_METRIC_ERRORS: Final = frozenset({"INTERNAL_ERROR", "CONFLICT_ERROR"})


class SageMakerRecord:
    """Parameters and metrics of a Run, through the clients that its events go through as well.

    Args:
        run: The user's Run object; only ``mirror`` changes it.
        target: What was read from it.
        clients: Returns the clients; None while there are none.
    """

    service: Service = "SageMaker"

    def __init__(
        self, run: Any, target: RunTarget, clients: Callable[[], AwsClients | None]
    ) -> None:
        self._run = run
        self._target = target
        self._clients = clients

    @property
    def target(self) -> str:
        """Return the Run's address."""
        return self._target.address

    @property
    def ready(self) -> bool:
        """Whether there are clients: the Run needs SageMaker only, and no bucket."""
        return self._clients() is not None

    @property
    def loading(self) -> bool:
        """Return False: the backend loads what both need."""
        return False

    async def begin(self) -> None:
        """Do nothing: the backend opens the clients."""

    async def state(self) -> RunState:
        """Return the Run's parameters and output artifacts."""
        answer = await self._opened.call(
            self._opened.sagemaker.describe_trial_component,
            recording=True,
            TrialComponentName=self._target.trial_component,
        )
        acknowledge.require_field(answer, "TrialComponentArn")
        parameters = {
            key: value.get("NumberValue", value.get("StringValue", ""))
            for key, value in (answer.get("Parameters") or {}).items()
        }
        artifacts = {
            key: value["Value"] for key, value in (answer.get("OutputArtifacts") or {}).items()
        }
        return RunState(parameters, artifacts, local_parameter_names(self._run))

    async def update(
        self,
        parameters: Mapping[str, ParameterValue],
        artifacts: Mapping[str, str],
        remove: Sequence[str] = (),
    ) -> None:
        """Send a delta; AWS merges it by key."""
        request: dict[str, Any] = {"TrialComponentName": self._target.trial_component}
        if parameters:
            request["Parameters"] = {
                key: {"StringValue": value} if isinstance(value, str) else {"NumberValue": value}
                for key, value in parameters.items()
            }
        if artifacts:
            request["OutputArtifacts"] = {
                key: {"Value": value, "MediaType": MEDIA_TYPE} for key, value in artifacts.items()
            }
        if remove:
            request["ParametersToRemove"] = list(remove)
        answer = await self._opened.call(
            self._opened.sagemaker.update_trial_component, recording=True, **request
        )
        acknowledge.require_field(answer, "TrialComponentArn")

    async def put_metrics(self, points: Sequence[MetricPoint]) -> NotTaken:
        """Send up to 10 points, AWS's limit for one request; return those it did not take."""
        answer = await self._opened.call(
            self._opened.metrics.batch_put_metrics,
            recording=True,
            TrialComponentName=self._target.trial_component.lower(),
            MetricData=[
                {
                    "MetricName": point.name,
                    "Timestamp": datetime.fromtimestamp(
                        point.time_unix_nano / 1e9, tz=timezone.utc
                    ),
                    "Step": point.step,
                    "Value": point.value,
                }
                for point in points
            ],
        )
        acknowledge.require_metrics_taken(answer)
        again, refused = [], []
        for failure in answer.get("Errors") or ():
            index = failure.get("MetricIndex")
            if not (isinstance(index, int) and 0 <= index < len(points)):
                continue
            if failure.get("Code") in _RETRIED_METRIC_ERRORS:
                again.append(points[index])
            else:
                refused.append(points[index])
        return NotTaken(again, refused)

    async def aclose(self) -> None:
        """Do nothing: a Run has no end that is ours to say, and the clients are the backend's."""

    def local(self) -> Mapping[str, Any]:
        """Return the Run's local copy of the parameters."""
        return local_parameters(self._run)

    def mirror(self, written: Iterable[Written]) -> None:
        """Bring what was written into the Run's local copy."""
        mirror_parameters(self._run, written)

    @property
    def _opened(self) -> AwsClients:
        clients = self._clients()
        if clients is None:
            raise TransientError("Closed", "the backend is not open")
        return clients
