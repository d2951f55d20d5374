"""SageMaker Experiments on top of moto's server: what AWS does and moto does not.

Creating under a name in use is refused, tags are kept, UpdateTrialComponent merges maps by key,
Search knows a trial component's parents, and metrics need no step. Every request is checked
against AWS's limits first. Call `install` before the server answers its first request.
"""

from __future__ import annotations

import json
import threading
from typing import Any, cast

from moto.core.responses import ActionResult
from moto.sagemaker import urls as sagemaker_urls
from moto.sagemaker.exceptions import ResourceNotFound
from moto.sagemaker.responses import SageMakerResponse
from moto.sagemakermetrics import urls as metrics_urls
from moto.sagemakermetrics.responses import SageMakerMetricsResponse

from ._aws_limits import (
    NotSerializable,
    members,
    parse_body,
    validation_message,
    violations,
)
from ._aws_records import (
    Component,
    experiment_record,
    put_metrics,
    refused,
    trial_record,
    without_none,
)
from ._aws_search import BadSearch, Record, page, search

# The server answers each request on a thread of its own; moto's dicts know no lock.
_LOCK = threading.RLock()


def install() -> None:
    """Let moto's SageMaker and SageMaker-metrics endpoints answer with the classes below."""
    sagemaker_urls.url_paths["{0}/$"] = _SageMaker.dispatch
    for path in ("{0}/$", "{0}/BatchPutMetrics$"):
        metrics_urls.url_paths[path] = _Metrics.dispatch


class _SageMaker(SageMakerResponse):
    """moto's SageMaker, as AWS behaves."""

    def call_action(self) -> Any:
        refusal = _refusal_of("sagemaker", self._get_action(), self.body)
        if refusal:
            return refusal
        with _LOCK:
            try:
                return super().call_action()
            except BadSearch as error:
                return _refusal("ValidationException", str(error))

    def create_experiment(self) -> ActionResult:
        name = self._get_param("ExperimentName")
        _refuse_existing("Experiment", name, self._experiments)
        result = super().create_experiment()
        experiment = self._experiments[name]
        experiment.tags = self._tags()
        experiment.display_name = self._get_param("DisplayName") or name
        experiment.description = self._get_param("Description")
        return result

    def create_trial(self) -> ActionResult:
        name = self._get_param("TrialName")
        _refuse_existing("Trial", name, self._trials)
        _require("Experiment", self._get_param("ExperimentName"), self._experiments)
        result = super().create_trial()
        trial = self._trials[name]
        trial.tags = self._tags()
        trial.display_name = self._get_param("DisplayName") or name
        return result

    def create_trial_component(self) -> ActionResult:
        name = self._get_param("TrialComponentName")
        _refuse_existing("Trial Component", name, self._components)
        backend = self.sagemaker_backend
        component = Component(
            account_id=backend.account_id,
            region_name=backend.region_name,
            trial_component_name=name,
            trial_name=None,
            display_name=self._get_param("DisplayName"),
            start_time=self._get_param("StartTime"),
            end_time=self._get_param("EndTime"),
            parameters=self._get_param("Parameters"),
            input_artifacts=self._get_param("InputArtifacts"),
            output_artifacts=self._get_param("OutputArtifacts"),
            metadata_properties=self._get_param("MetadataProperties"),
            status=self._get_param("Status"),
            tags=self._tags(),
        )
        self._components[name] = component
        return ActionResult({"TrialComponentArn": component.arn})

    def update_trial_component(self) -> ActionResult:
        component = self._component()
        component.change(dict(self._get_params()))
        return ActionResult({"TrialComponentArn": component.arn})

    def describe_experiment(self) -> ActionResult:
        name = self._get_param("ExperimentName")
        _require("Experiment", name, self._experiments)
        return ActionResult(experiment_record(self._experiments[name]))

    def describe_trial(self) -> ActionResult:
        name = self._get_param("TrialName")
        _require("Trial", name, self._trials)
        return ActionResult(trial_record(self._trials[name]))

    def describe_trial_component(self) -> ActionResult:
        return ActionResult(self._component().record(self._trials.values()))

    def associate_trial_component(self) -> ActionResult:
        trial_name, component = self._get_param("TrialName"), self._component()
        _require("Trial", trial_name, self._trials)
        trial = self._trials[trial_name]
        if component.trial_component_name not in trial.trial_components:
            trial.trial_components.append(component.trial_component_name)
        component.trial_name = trial_name
        return ActionResult({"TrialComponentArn": component.arn, "TrialArn": trial.arn})

    def list_trial_components(self) -> ActionResult:
        wanted = [
            {"Name": f"Parents.{name}", "Value": self._get_param(name)}
            for name in ("TrialName", "ExperimentName")
            if self._get_param(name)
        ]
        sort_by = {"Name": "TrialComponentName"}.get(self._get_param("SortBy"), "CreationTime")
        rows, token = self._found("TrialComponent", {"Filters": wanted}, sort_by)
        return ActionResult(without_none({"TrialComponentSummaries": rows, "NextToken": token}))

    def search(self) -> ActionResult:
        kind = {
            "ExperimentTrialComponent": "TrialComponent",
            "ExperimentTrial": "Trial",
            "Experiment": "Experiment",
        }.get(self._get_param("Resource"))
        if kind is None:
            return super().search()
        expression = self._get_param("SearchExpression")
        rows, token = self._found(kind, expression, self._get_param("SortBy"))
        results = [{kind: row} for row in rows]
        return ActionResult(without_none({"Results": results, "NextToken": token}))

    def _found(
        self, kind: str, expression: Record | None, sort_by: str | None
    ) -> tuple[list[Record], str | None]:
        records: list[Record]
        if kind == "TrialComponent":
            trials = list(self._trials.values())
            records = [component.record(trials) for component in self._components.values()]
        elif kind == "Trial":
            records = [trial_record(trial) for trial in self._trials.values()]
        else:
            records = [experiment_record(item) for item in self._experiments.values()]
        found = search(
            records,
            expression,
            sort_by=sort_by,
            sort_order=self._get_param("SortOrder"),
            properties=members("sagemaker", kind),
        )
        return page(found, self._get_param("NextToken"), self._get_param("MaxResults"))

    @property
    def _experiments(self) -> dict[str, Any]:
        return cast("dict[str, Any]", self.sagemaker_backend.experiments)

    @property
    def _trials(self) -> dict[str, Any]:
        return cast("dict[str, Any]", self.sagemaker_backend.trials)

    @property
    def _components(self) -> dict[str, Component]:
        return cast("dict[str, Component]", self.sagemaker_backend.trial_components)

    def _component(self) -> Component:
        name = self._get_param("TrialComponentName")
        _require("Trial component", name, self._components)
        return self._components[name]

    def _tags(self) -> list[dict[str, str]]:
        return [dict(tag) for tag in self._get_param("Tags") or []]


class _Metrics(SageMakerMetricsResponse):
    """moto's SageMaker metrics, as AWS behaves."""

    def call_action(self) -> Any:
        refusal = _refusal_of("sagemaker-metrics", "BatchPutMetrics", self.body)
        if refusal:
            return refusal
        body = parse_body(self.body)
        with _LOCK:
            components = self.sagemakermetrics_backend.sagemaker_backend.trial_components
            errors = put_metrics(components.get(body["TrialComponentName"]), body["MetricData"])
        return 200, _json_headers(), json.dumps({"Errors": errors})


def _refusal_of(service: str, operation: str, body: Any) -> tuple[int, dict[str, str], str] | None:
    try:
        broken = violations(service, operation, parse_body(body))
    except NotSerializable as error:
        return _refusal("SerializationException", str(error))
    return _refusal("ValidationException", validation_message(broken)) if broken else None


def _refusal(code: str, message: str) -> tuple[int, dict[str, str], str]:
    body = json.dumps({"__type": code, "message": message})
    return 400, {**_json_headers(), "x-amzn-ErrorType": code}, body


def _json_headers() -> dict[str, str]:
    return {"Content-Type": "application/x-amz-json-1.1", "server": "amazon.com"}


def _refuse_existing(kind: str, name: str, existing: Any) -> None:
    if name in existing:
        raise refused(
            f"{kind} names must be unique within an AWS account and region. "
            f"{kind} with name ({name}) already exists."
        )


def _require(kind: str, name: str, existing: Any) -> None:
    if name not in existing:
        raise ResourceNotFound(f"{kind} '{name}' does not exist.")
