"""The policies and the lifecycle rule of the page: AWS would take them, and they are enough."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws
from moto.iam.access_control import IAMPolicy, PermissionResult
from policy_sentry.querying.actions import get_action_data

from asynctrack import open_run, tracker
from asynctrack._backends.mlflow import api
from asynctrack.demo._aws import EmbeddedAWS
from tests.e2e.chains import joke_chain
from tests.e2e.runs import RunFactory
from tests.guide.pages import block
from tests.support.proxy import FaultProxy, fault_proxy
from tests.support.s3 import REGION, S3Server

pytestmark = pytest.mark.may_block("the SDK's Run and moto ask AWS")
POLICIES = ("track", "run", "read", "mlflow")
ACCOUNT = "123456789012"
ACTIONS = {
    "HeadObject": "GetObject", "HeadBucket": "ListBucket", "ListObjectsV2": "ListBucket",
    "CreateMultipartUpload": "PutObject", "UploadPart": "PutObject",
    "CompleteMultipartUpload": "PutObject",
}  # fmt: skip
"""Operations of S3 whose permission has another name."""


@dataclass(frozen=True)
class Asked:
    """What a request needs: an action on a resource."""

    action: str
    resource: str


def statements(name: str) -> list[dict[str, Any]]:
    """The statements of a policy of the page."""
    found: list[dict[str, Any]] = json.loads(block("permissions", name))["Statement"]
    return found


def listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def allows(given: list[dict[str, Any]], asked: Asked, **conditions: str) -> bool:
    """Whether IAM would allow it, as moto evaluates policies."""
    policy = IAMPolicy({"policy_document": json.dumps({"Statement": given})})
    answer = policy.is_action_permitted(
        asked.action, asked.resource, incoming_condition_values=conditions
    )
    return bool(answer == PermissionResult.PERMITTED)


@pytest.mark.parametrize("name", POLICIES)
def test_iam_takes_the_policy(name: str) -> None:
    """Its grammar passes, and it is short enough for an inline policy of a role."""
    document = block("permissions", name)
    assert len(re.sub(r"\s", "", document)) <= 10_240
    with mock_aws():
        iam = boto3.client("iam", region_name=REGION)
        trust = {
            "Version": "2012-10-17",
            "Statement": {"Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole"},
        }
        iam.create_role(RoleName="r", AssumeRolePolicyDocument=json.dumps(trust))
        iam.put_role_policy(RoleName="r", PolicyName="p", PolicyDocument=document)
        assert iam.get_role_policy(RoleName="r", PolicyName="p")["PolicyDocument"] == json.loads(
            document
        )
        with pytest.raises(ClientError, match="MalformedPolicyDocument"):
            iam.put_role_policy(
                RoleName="r", PolicyName="q", PolicyDocument=document.replace('"Effect"', '"Efect"')
            )


@pytest.mark.parametrize("name", POLICIES)
def test_each_action_exists_for_one_of_its_resources(name: str) -> None:
    """By AWS's service authorization reference: a misspelt action or a resource that it does not
    take allows nothing, silently."""
    for statement in statements(name):
        for action in listed(statement["Action"]):
            service, _, called = action.partition(":")
            known = get_action_data(service, called)
            assert known, f"no such action: {action}"
            taken = {one["resource_arn_format"] for one in known[service]}
            assert any(
                given in taken or resource_matches(given, form)
                for given in listed(statement["Resource"])
                for form in taken
            ), (action, taken)


def resource_matches(given: str, form: str) -> bool:
    """Whether an ARN, perhaps with stars, is of a form such as ``arn:${Partition}:s3:::${B}``."""
    if form == "*":
        return given == "*"
    pattern = re.sub(r"\\\$\\\{\w+\\\}", "[^:]+", re.escape(form))
    bucket = form.count("/") == 0 and form.split(":")[2] == "s3"
    return bool(re.fullmatch(pattern, given)) and not (bucket and "/" in given)


@pytest.fixture
def proxies(s3: S3Server, aws: EmbeddedAWS) -> Iterator[tuple[FaultProxy, FaultProxy]]:
    """What sees each request to S3 and to SageMaker."""
    with fault_proxy(s3.endpoint_url) as first, fault_proxy(aws.endpoint_url) as second:
        yield first, second


def asked_of(
    proxies: tuple[FaultProxy, FaultProxy], s3: S3Server, since: tuple[int, int] = (0, 0)
) -> set[Asked]:
    """What the requests need, from a number of each proxy on; of the bucket of the page."""
    needed = set()
    for request in proxies[0].requests[since[0] :]:
        path = request.path.lstrip("/").removeprefix(s3.bucket)
        action = f"s3:{ACTIONS.get(request.operation, request.operation)}"
        needed.add(Asked(action, f"arn:aws:s3:::my-bucket{path.rstrip('/')}"))
    for request in proxies[1].requests[since[1] :]:
        body = json.loads(request.body or b"{}")
        needed.add(Asked(f"sagemaker:{request.operation}", of_sagemaker(request.operation, body)))
    return needed


def of_sagemaker(operation: str, body: dict[str, Any]) -> str:
    """The resource that an operation of SageMaker's is asked for."""
    if operation in ("Search", "ListTrialComponents"):
        return "*"
    arn = f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:"
    for key, kind in (
        ("TrialComponentName", "experiment-trial-component"), ("TrialName", "experiment-trial"),
        ("ExperimentName", "experiment"),
    ):  # fmt: skip
        if key in body:
            return f"{arn}{kind}/{body[key]}"
    return str(body["ResourceArn"])


def test_the_policies_are_enough_and_no_more(
    make_run: RunFactory,
    s3: S3Server,
    aws: EmbeddedAWS,
    proxies: tuple[FaultProxy, FaultProxy],
) -> None:
    """All that a Run, tracking into it and reading it ask of AWS is allowed; each action of
    tracking and reading is asked for."""
    seen = {}
    factory = RunFactory(s3, replace(aws, endpoint_url=proxies[1].endpoint_url))
    site = factory(s3_url=proxies[0].endpoint_url, sagemaker_url=proxies[1].endpoint_url)
    seen["run"] = asked_of(proxies, s3)
    made = (len(proxies[0].requests), len(proxies[1].requests))
    with tracker(site.run, prefix="my/prefix") as handler:
        handler.log_parameters({"size": 1})
        handler.log_metric("score", 0.5)
        joke_chain().invoke({"topic": "fish"}, {"callbacks": [handler]})
    assert handler.statistics().delivered == handler.statistics().accepted > 0
    seen["track"] = asked_of(proxies, s3, made)
    before = (len(proxies[0].requests), len(proxies[1].requests))
    address = f"s3://{s3.bucket}/my/prefix/asynctrack/v1/experiment={site.experiment}/run=run-1/"
    run = open_run(
        address, endpoint_url=proxies[0].endpoint_url, session=s3.boto_session(), spool_dir=False
    )
    assert len(list(run.traces())) == 1
    seen["read"] = asked_of(proxies, s3, before)
    factory.close()
    for name, needed in seen.items():
        assert needed, name
        given = statements(name) + (statements("track") if name == "run" else [])
        for asked in needed:
            assert allows(given, asked, **{"s3:prefix": "my/prefix/asynctrack/"}), (name, asked)
    for name in ("track", "read"):
        actions = {one for each in statements(name) for one in listed(each["Action"])}
        assert actions == {asked.action for asked in seen[name]}, name
    # What is not the policy's is not allowed.
    for asked in (
        Asked("s3:PutObject", "arn:aws:s3:::my-bucket/other/x"),
        Asked("s3:GetObject", "arn:aws:s3:::my-bucket/my/prefix/asynctrack/x"),
        Asked("s3:DeleteObject", "arn:aws:s3:::my-bucket/my/prefix/asynctrack/x"),
    ):
        assert not allows(statements("track"), asked)


def test_the_policy_for_mlflow_is_for_what_is_called() -> None:
    """An action for each call of MLflow's REST interface, and no other."""
    called = re.findall(r'"(experiment|run)s/([a-z-]+)"', Path(api.__file__).read_text())
    actions = {f"sagemaker-mlflow:{action_of(noun, verb)}" for noun, verb in called}
    assert len(actions) > 5
    (statement,) = statements("mlflow")
    assert set(statement["Action"]) == actions


def action_of(noun: str, verb: str) -> str:
    """The action of a path of MLflow's, as AWS names them."""
    if verb == "log-batch":
        return "LogBatch"
    first, *rest = verb.title().split("-")
    plural = "s" if verb == "search" else ""
    return f"{first}{noun.title()}{plural}{''.join(rest)}"


def test_s3_takes_the_lifecycle_rule() -> None:
    """It expires events, and what is left of uploads; nothing outside the prefix."""
    rules = json.loads(block("permissions", "lifecycle"))
    with mock_aws():
        s3 = boto3.client("s3", region_name=REGION)
        s3.create_bucket(Bucket="my-bucket")
        s3.put_bucket_lifecycle_configuration(Bucket="my-bucket", LifecycleConfiguration=rules)
        kept = s3.get_bucket_lifecycle_configuration(Bucket="my-bucket")["Rules"]
    assert kept == rules["Rules"]
    assert {one["Filter"]["Prefix"] for one in kept} == {"my/prefix/asynctrack/"}
    assert any("Expiration" in one for one in kept)
    assert any("AbortIncompleteMultipartUpload" in one for one in kept)
