"""What the embedded SageMaker stores and how Describe and Search show it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from datetime import datetime, timezone
from typing import Any

from moto.sagemaker.exceptions import AWSValidationException
from moto.sagemaker.models import FakeTrialComponent

from ._aws_search import Record

#: Seconds a metric's timestamp may lie in the past and in the future.
_OLDEST_METRIC, _NEWEST_METRIC = 14 * 86400.0, 2 * 3600.0
#: The three maps of a trial component: attribute, AWS's name, entries AWS allows.
_MAPS = (
    ("parameters", "Parameters", 300),
    ("input_artifacts", "InputArtifacts", 60),
    ("output_artifacts", "OutputArtifacts", 60),
)
_PLAIN = (
    ("status", "Status"),
    ("display_name", "DisplayName"),
    ("start_time", "StartTime"),
    ("end_time", "EndTime"),
    ("metadata_properties", "MetadataProperties"),
)


class Component(FakeTrialComponent):
    """A trial component that merges its maps and knows its metrics' summaries."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.summaries: dict[str, Summary] = {}
        _one_value_each(self.parameters)

    def change(self, request: Record) -> None:
        """Apply an UpdateTrialComponent: all of it, or none when AWS would refuse it.

        Raises:
            AWSValidationException: A map grows over its limit, or a parameter has not just one
                value.
        """
        merged = {}
        for field, name, limit in _MAPS:
            result = {**getattr(self, field), **(request.get(name) or {})}
            for key in request.get(f"{name}ToRemove") or []:
                result.pop(key, None)
            if len(result) > limit:
                raise refused(f"{name}: {len(result)} entries are more than the {limit} allowed.")
            merged[field] = result
        _one_value_each(merged["parameters"])
        for field, result in merged.items():
            setattr(self, field, result)
        for field, name in _PLAIN:
            if request.get(name) is not None:
                setattr(self, field, request[name])
        self.last_modified_time = datetime.now(timezone.utc)

    def record(self, trials: Iterable[Any]) -> Record:
        """What Describe and Search answer; `trials` are all there are, to find the parents."""
        name = self.trial_component_name
        record: Record = {
            "TrialComponentName": name,
            "TrialComponentArn": self.arn,
            "CreationTime": self.creation_time,
            "LastModifiedTime": self.last_modified_time,
            "Metrics": [s.record(metric, self.arn) for metric, s in self.summaries.items()],
            "Tags": self.tags,
            "Parents": [
                {"TrialName": trial.trial_name, "ExperimentName": trial.experiment_name}
                for trial in trials
                if name in trial.trial_components
            ],
        }
        record.update((name, getattr(self, field)) for field, name in _PLAIN)
        record.update((name, getattr(self, field)) for field, name, _ in _MAPS)
        return without_none(record)


class Summary:
    """What is shown of one metric: kept instead of its values, so that memory does not grow."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = self.squares = self.last = 0.0
        self.low, self.high, self.time = math.inf, -math.inf, -math.inf

    def add(self, value: float, timestamp: float) -> None:
        """Count one value in."""
        self.count += 1
        delta = value - self.mean
        self.mean += delta / self.count
        self.squares += delta * (value - self.mean)
        self.low, self.high = min(self.low, value), max(self.high, value)
        if timestamp >= self.time:
            self.time, self.last = timestamp, value

    def record(self, name: str, arn: str) -> Record:
        """AWS's TrialComponentMetricSummary."""
        return {
            "MetricName": name,
            "SourceArn": arn,
            "TimeStamp": datetime.fromtimestamp(self.time, tz=timezone.utc),
            "Max": self.high,
            "Min": self.low,
            "Last": self.last,
            "Count": self.count,
            "Avg": self.mean,
            "StdDev": math.sqrt(self.squares / self.count),
        }


def put_metrics(component: Any, metrics: list[Record]) -> list[Record]:
    """Take in a batch of metrics.

    Args:
        component: The trial component of that name, or None when there is none.
        metrics: RawMetricData, already checked against the model.

    Returns:
        AWS's errors, one for each metric that was not taken.
    """
    errors: list[Record] = []
    now = time.time()
    for index, metric in enumerate(metrics):
        moment = _seconds(metric["Timestamp"])
        in_time = now - _OLDEST_METRIC <= moment <= now + _NEWEST_METRIC
        if not isinstance(component, Component) or not in_time:
            errors.append({"Code": "VALIDATION_ERROR", "MetricIndex": index})
            continue
        summary = component.summaries.setdefault(metric["MetricName"], Summary())
        summary.add(float(metric["Value"]), moment)
    return errors


def experiment_record(experiment: Any) -> Record:
    """What Describe and Search answer for an experiment."""
    return without_none(
        {
            "ExperimentName": experiment.experiment_name,
            "ExperimentArn": experiment.arn,
            "DisplayName": getattr(experiment, "display_name", None),
            "Description": getattr(experiment, "description", None),
            "CreationTime": experiment.creation_time,
            "LastModifiedTime": experiment.last_modified_time,
            "Tags": experiment.tags,
        }
    )


def trial_record(trial: Any) -> Record:
    """What Describe and Search answer for a trial."""
    return without_none(
        {
            "TrialName": trial.trial_name,
            "TrialArn": trial.arn,
            "DisplayName": getattr(trial, "display_name", None),
            "ExperimentName": trial.experiment_name,
            "CreationTime": trial.creation_time,
            "LastModifiedTime": trial.last_modified_time,
            "Tags": trial.tags,
        }
    )


def without_none(record: Record) -> Record:
    """Leave out what is not set, as AWS does."""
    return {key: value for key, value in record.items() if value is not None}


def refused(message: str) -> AWSValidationException:
    """AWS's ValidationException, to be raised."""
    return AWSValidationException(message)


def _one_value_each(parameters: Record) -> None:
    for name, value in parameters.items():
        if len(without_none(value)) != 1:
            raise refused(
                f"Parameter {name!r} must have exactly one of StringValue and NumberValue."
            )


def _seconds(timestamp: float | str) -> float:
    if isinstance(timestamp, str):
        return datetime.fromisoformat(timestamp.replace("Z", "+00:00")).timestamp()
    return float(timestamp)
