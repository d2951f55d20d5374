"""The embedded AWS behaves as AWS does where moto does not."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from asynctrack.demo._aws import EmbeddedAWS
from asynctrack.demo._aws_search import BadSearch, search
from asynctrack.demo._process import ServerNotStarted, server_process
from asynctrack.demo._sagemaker import sagemaker_sdk


def new_run(session: Any, experiment: str, name: str, **options: Any) -> Any:
    return sagemaker_sdk().Run(
        experiment_name=experiment, run_name=name, sagemaker_session=session, **options
    )


def data_frame(session: Any, experiment: str) -> Any:
    return sagemaker_sdk().ExperimentAnalytics(experiment, sagemaker_session=session).dataframe()


def component(session: Any, experiment: str, name: str = "r") -> str:
    """Create a trial component without the SDK's Run, and return its name."""
    full = f"{experiment}-{name}"
    session.sagemaker_client.create_trial_component(TrialComponentName=full)
    return full


def describe(session: Any, name: str) -> dict[str, Any]:
    found: dict[str, Any] = session.sagemaker_client.describe_trial_component(
        TrialComponentName=name
    )
    return found


def number(value: float) -> dict[str, float]:
    return {"NumberValue": value}


def test_three_runs_are_three_rows(sagemaker_session: Any, experiment: str) -> None:
    """ExperimentAnalytics shows a row for each run, with parameters and metrics."""
    for index in range(3):
        with new_run(sagemaker_session, experiment, f"run-{index}") as run:
            run.log_parameter("temperature", index / 10)
            run.log_metric("score", float(index))
            run.log_metric("score", float(index + 2), step=1)
    frame = data_frame(sagemaker_session, experiment)
    rows = frame.sort_values("DisplayName")
    assert list(rows["DisplayName"]) == [f"{experiment}-run-{index}" for index in range(3)]
    assert list(rows["temperature"]) == [0.0, 0.1, 0.2]
    assert list(rows["score - Avg"]) == [1.0, 2.0, 3.0]
    assert list(rows["score - Count"]) == [2, 2, 2]
    assert list(rows["score - StdDev"]) == [1.0, 1.0, 1.0]


def test_other_experiments_are_not_shown(sagemaker_session: Any, experiment: str) -> None:
    """ExperimentAnalytics shows the runs of its experiment only."""
    new_run(sagemaker_session, experiment, "mine")
    new_run(sagemaker_session, f"{experiment}-other", "theirs")
    frame = data_frame(sagemaker_session, experiment)
    assert list(frame["TrialComponentName"]) == [f"{experiment}-mine"]


def test_a_run_can_be_taken_up_again(sagemaker_session: Any, experiment: str) -> None:
    """Creating under a name in use is refused, so Run loads what is there."""
    with new_run(sagemaker_session, experiment, "same") as run:
        run.log_parameter("first", 1)
    with new_run(sagemaker_session, experiment, "same") as run:
        assert run._trial_component.parameters == {"first": 1.0}
        run.log_parameter("second", 2)
    stored = describe(sagemaker_session, f"{experiment}-same")["Parameters"]
    assert stored == {"first": number(1), "second": number(2)}


def test_concurrent_writers_keep_each_others_parameters(
    sagemaker_session: Any, experiment: str
) -> None:
    """UpdateTrialComponent merges by key: nothing of two concurrent writers is lost."""
    name = component(sagemaker_session, experiment)

    def write(writer: str) -> None:
        for index in range(20):
            sagemaker_session.sagemaker_client.update_trial_component(
                TrialComponentName=name, Parameters={f"{writer}{index}": number(index)}
            )

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, "ab"))
    expected = {f"{writer}{index}" for writer in "ab" for index in range(20)}
    assert set(describe(sagemaker_session, name)["Parameters"]) == expected


def test_removal_lists_are_honoured(sagemaker_session: Any, experiment: str) -> None:
    """A key in a ...ToRemove list goes, a key that does not exist is no error."""
    name = component(sagemaker_session, experiment)
    client = sagemaker_session.sagemaker_client
    artifact = {"Value": "s3://bucket/key"}
    client.update_trial_component(
        TrialComponentName=name,
        Parameters={"keep": number(1), "go": number(2)},
        OutputArtifacts={"keep": artifact, "go": artifact},
    )
    client.update_trial_component(
        TrialComponentName=name,
        ParametersToRemove=["go", "never-there"],
        OutputArtifactsToRemove=["go"],
    )
    found = describe(sagemaker_session, name)
    assert set(found["Parameters"]) == {"keep"}
    assert set(found["OutputArtifacts"]) == {"keep"}


def test_tags_are_kept(sagemaker_session: Any, experiment: str) -> None:
    """Tags given to Run are those of its experiment, its trial and its trial component."""
    tag = {"Key": "team", "Value": "search"}
    new_run(sagemaker_session, experiment, "tagged", tags=[tag])
    client = sagemaker_session.sagemaker_client
    arns = (
        client.describe_experiment(ExperimentName=experiment)["ExperimentArn"],
        describe(sagemaker_session, f"{experiment}-tagged")["TrialComponentArn"],
    )
    for arn in arns:
        assert tag in client.list_tags(ResourceArn=arn)["Tags"]


LONG = "x" * 2501


@pytest.mark.parametrize(
    ("request_", "at"),
    [
        ({"Parameters": {"k": {"StringValue": LONG}}}, "parameters.k.stringValue"),
        ({"Parameters": {"k": {"StringValue": "a\nb"}}}, "parameters.k.stringValue"),
        ({"Parameters": {"k": {"StringValue": "a\u2028b"}}}, "parameters.k.stringValue"),
        ({"Parameters": {"k" * 321: number(1)}}, ".key"),
        ({"Parameters": {str(n): number(n) for n in range(301)}}, "parameters"),
        ({"OutputArtifacts": {"k" * 129: {"Value": "v"}}}, ".key"),
        ({"OutputArtifacts": {"k": {"Value": "v" * 2049}}}, "outputArtifacts.k.value"),
        (
            {"InputArtifacts": {"k": {"Value": "v", "MediaType": "application/x.y"}}},
            "inputArtifacts.k.mediaType",
        ),
        ({"OutputArtifacts": {str(n): {"Value": "v"} for n in range(61)}}, "outputArtifacts"),
        ({"ParametersToRemove": ["k" * 257]}, "parametersToRemove.1.member"),
        ({"DisplayName": "-starts-with-a-dash"}, "displayName"),
        ({"Status": {"PrimaryStatus": "Asleep"}}, "status.primaryStatus"),
        ({"Parameters": {"k": {}}}, "exactly one of"),
        ({"Parameters": {"k": {"StringValue": "1", "NumberValue": 1.0}}}, "exactly one of"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_limits_are_enforced(
    sagemaker_session: Any, experiment: str, request_: dict[str, Any], at: str
) -> None:
    """A request over one of AWS's limits is a ValidationException and changes nothing."""
    name = component(sagemaker_session, experiment)
    before = describe(sagemaker_session, name)
    with pytest.raises(ClientError) as caught:
        sagemaker_session.sagemaker_client.update_trial_component(
            TrialComponentName=name, **request_
        )
    assert caught.value.response["Error"]["Code"] == "ValidationException"
    assert at in caught.value.response["Error"]["Message"]
    after = describe(sagemaker_session, name)
    assert after["LastModifiedTime"] == before["LastModifiedTime"]


def test_what_is_just_within_the_limits_is_taken(sagemaker_session: Any, experiment: str) -> None:
    """The largest request AWS allows is stored as it is."""
    name = component(sagemaker_session, experiment)
    parameters: dict[str, Any] = {f"{n:0320}": {"StringValue": "é" * 2500} for n in range(300)}
    sagemaker_session.sagemaker_client.update_trial_component(
        TrialComponentName=name, Parameters=parameters
    )
    assert describe(sagemaker_session, name)["Parameters"] == parameters


def test_a_map_does_not_grow_over_its_limit(sagemaker_session: Any, experiment: str) -> None:
    """Merging counts: 300 parameters and one more are refused, also in two requests."""
    name = component(sagemaker_session, experiment)
    client = sagemaker_session.sagemaker_client
    full = {str(n): number(n) for n in range(300)}
    client.update_trial_component(TrialComponentName=name, Parameters=full)
    with pytest.raises(ClientError, match="ValidationException"):
        client.update_trial_component(TrialComponentName=name, Parameters={"more": number(1)})
    assert describe(sagemaker_session, name)["Parameters"] == full


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_are_no_numbers(
    sagemaker_session: Any, experiment: str, value: float
) -> None:
    """NaN and infinity are refused, as a parameter and as a metric."""
    name = component(sagemaker_session, experiment)
    with pytest.raises(ClientError, match="SerializationException"):
        sagemaker_session.sagemaker_client.update_trial_component(
            TrialComponentName=name, Parameters={"k": number(value)}
        )
    with pytest.raises(ClientError, match="SerializationException"):
        put(sagemaker_session, name, Value=value)


def put(session: Any, name: str, **metric: Any) -> list[dict[str, Any]]:
    item = {"MetricName": "m", "Timestamp": time.time(), "Value": 1.0, **metric}
    answer = session.sagemaker_metrics_client.batch_put_metrics(
        TrialComponentName=name, MetricData=[item]
    )
    errors: list[dict[str, Any]] = answer.get("Errors", [])
    return errors


def test_metrics_show_up_with_and_without_a_step(sagemaker_session: Any, experiment: str) -> None:
    """Metrics are summarised in the trial component: the latest timestamp is the last value."""
    name = component(sagemaker_session, experiment)
    now = time.time()
    for value, moment, more in ((1.0, now, {}), (5.0, now - 9, {"Step": 3}), (3.0, now - 5, {})):
        assert put(sagemaker_session, name, Value=value, Timestamp=moment, **more) == []
    (summary,) = describe(sagemaker_session, name)["Metrics"]
    shown = {key: summary[key] for key in ("Min", "Max", "Avg", "Last", "Count")}
    assert shown == {"Min": 1.0, "Max": 5.0, "Avg": 3.0, "Last": 1.0, "Count": 3}


def test_metrics_it_cannot_take_are_errors_in_a_good_answer(
    sagemaker_session: Any, experiment: str
) -> None:
    """An unknown trial component and a timestamp out of range are answered as AWS does: in 200."""
    name = component(sagemaker_session, experiment)
    refused = [{"Code": "VALIDATION_ERROR", "MetricIndex": 0}]
    assert put(sagemaker_session, f"{name}-unknown") == refused
    assert put(sagemaker_session, name, Timestamp=time.time() - 15 * 86400) == refused
    assert put(sagemaker_session, name, Timestamp=time.time() + 3 * 3600) == refused
    assert describe(sagemaker_session, name).get("Metrics", []) == []


@pytest.mark.parametrize(
    "broken",
    [
        {"TrialComponentName": "UPPER"},
        {"MetricData": []},
        {"MetricData": [{"MetricName": "m", "Timestamp": 1, "Value": 1.0}] * 11},
        {"MetricData": [{"MetricName": "m" * 256, "Timestamp": 1, "Value": 1.0}]},
        {"MetricData": [{"MetricName": "m", "Timestamp": 1, "Value": 1.0, "Step": -1}]},
    ],
    ids=["name in upper case", "no items", "11 items", "long name", "negative step"],
)
def test_metric_limits_are_enforced(sagemaker_session: Any, broken: dict[str, Any]) -> None:
    """A batch of metrics over a limit of the model is a ValidationException."""
    valid = {
        "TrialComponentName": "any",
        "MetricData": [{"MetricName": "m", "Timestamp": time.time(), "Value": 1.0}],
    }
    # The client itself refuses some of this before it is sent; the server has to as well.
    client = sagemaker_session.boto_session.client(
        "sagemaker-metrics", config=Config(parameter_validation=False)
    )
    with pytest.raises(ClientError) as caught:
        client.batch_put_metrics(**{**valid, **broken})
    assert caught.value.response["Error"]["Code"] == "ValidationException"


def test_search_filters_sorts_and_pages(sagemaker_session: Any, experiment: str) -> None:
    """Search follows parents, sorts by a property and continues where a page ended."""
    client = sagemaker_session.sagemaker_client
    for index in (2, 0, 4, 1, 3):
        with new_run(sagemaker_session, experiment, f"r{index}") as run:
            run.log_parameter("gen_ai.rank", index)
    request: dict[str, Any] = {
        "Resource": "ExperimentTrialComponent",
        "SearchExpression": {
            "Filters": [
                {"Name": "Parents.ExperimentName", "Operator": "Equals", "Value": experiment},
                {"Name": "Parameters.gen_ai.rank", "Operator": "LessThan", "Value": "4"},
            ]
        },
        "SortBy": "TrialComponentName",
        "SortOrder": "Ascending",
        "MaxResults": 3,
    }
    names: list[str] = []
    pages = 0
    while True:
        answer = client.search(**request)
        names += [result["TrialComponent"]["TrialComponentName"] for result in answer["Results"]]
        pages += 1
        if "NextToken" not in answer:
            break
        request["NextToken"] = answer["NextToken"]
    assert names == [f"{experiment}-r{index}" for index in range(4)]
    assert pages == 2


@pytest.mark.parametrize(
    "broken",
    [
        {"SearchExpression": {"Filters": [{"Name": "Nope", "Operator": "Exists"}]}},
        {"SearchExpression": {"Filters": [{"Name": "Tags.a", "Operator": "Exists"}] * 21}},
        {"MaxResults": 101},
        {"NextToken": "not one of ours"},
        {"SortBy": "Nope"},
    ],
    ids=["unknown property", "21 filters", "101 results", "foreign token", "unknown sort"],
)
def test_search_refuses_what_aws_refuses(sagemaker_session: Any, broken: dict[str, Any]) -> None:
    """A search that AWS would refuse is a ValidationException."""
    with pytest.raises(ClientError, match="ValidationException"):
        sagemaker_session.sagemaker_client.search(Resource="ExperimentTrialComponent", **broken)


def test_an_unknown_property_is_refused_where_there_is_nothing_yet() -> None:
    """An account without any component is no reason to let a mistake pass."""
    expression = {"Filters": [{"Name": "Nope", "Operator": "Exists"}]}
    with pytest.raises(BadSearch, match="Nope"):
        search([], expression, properties=frozenset({"Tags"}))


def test_files_go_to_the_default_bucket(
    sagemaker_session: Any, experiment: str, tmp_path: Path
) -> None:
    """Run.log_file finds the bucket and stores the file in the embedded S3."""
    file = tmp_path / "notes.txt"
    file.write_text("hello")
    with new_run(sagemaker_session, experiment, "files") as run:
        run.log_file(str(file))
    value = describe(sagemaker_session, f"{experiment}-files")["OutputArtifacts"]["notes.txt"]
    bucket, _, key = value["Value"].removeprefix("s3://").partition("/")
    body = sagemaker_session.boto_session.client("s3").get_object(Bucket=bucket, Key=key)["Body"]
    assert body.read() == b"hello"


def test_other_programs_reach_it_through_the_environment(
    aws: EmbeddedAWS, sagemaker_session: Any, experiment: str
) -> None:
    """environment() is all that a program of its own needs to work on the same data."""
    name = component(sagemaker_session, experiment)
    program = (
        "import boto3, sys;"
        "boto3.client('sagemaker').update_trial_component("
        "TrialComponentName=sys.argv[1], Parameters={'from': {'StringValue': 'outside'}})"
    )
    environment = {**os.environ, **aws.environment()}
    subprocess.run([sys.executable, "-c", program, name], env=environment, check=True, timeout=240)
    assert describe(sagemaker_session, name)["Parameters"] == {"from": {"StringValue": "outside"}}


@pytest.mark.parametrize("module", ["_aws", "_openai"])
def test_the_server_ignores_ctrl_c_and_ends_with_its_parent(module: str) -> None:
    """An interrupt leaves the server to its parent, whose end is its own end."""
    command = [sys.executable, "-m", f"asynctrack.demo.{module}"]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert server.stdin is not None and server.stdout is not None
    try:
        address = urlsplit(next(iter(json.loads(server.stdout.readline()).values()))).netloc
        server.send_signal(signal.SIGINT)
        for _ in range(10):
            # An interrupted server would be gone after the first of them at the latest.
            connection = http.client.HTTPConnection(address, timeout=120)
            connection.request("GET", "/v1/models")
            assert connection.getresponse().read()
            connection.close()
        server.stdin.close()
        assert server.wait(120) == 0
    finally:
        server.kill()
        server.wait()
        server.stdin.close()
        server.stdout.close()


def test_a_server_that_does_not_start_says_why() -> None:
    """The error holds what the server wrote before it ended."""
    with (
        pytest.raises(ServerNotStarted, match="unrecognized arguments: --nonsense"),
        server_process("asynctrack.demo._openai", ["--nonsense"]),
    ):
        pass
