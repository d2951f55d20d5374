"""What is written into the Run: parameters, metrics and artifacts, within AWS's limits."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from typing import Any

import pytest
from langchain_core.language_models import FakeListLLM
from langchain_core.prompts import ChatPromptTemplate

from asynctrack import AsyncHandler, SyncHandler, tracker
from asynctrack._record.allocation import HEAD_ROOM
from tests.e2e.chains import CHAIN_EVENTS, joke_chain, model
from tests.e2e.runs import RunFactory, Site
from tests.e2e.waiting import until, until_in_thread
from tests.support.auditor import assert_exactly_once, audit_s3, events_in_s3
from tests.support.faults import Answer
from tests.support.proxy import FaultProxy
from tests.support.seen import Request

SECRET = "sk-0123456789abcdefghijklmnop"


def updates(proxy: FaultProxy) -> list[Request]:
    return [seen for seen in proxy.requests if seen.operation == "UpdateTrialComponent"]


def metric_calls(proxy: FaultProxy) -> list[Request]:
    return [seen for seen in proxy.requests if seen.operation == "BatchPutMetrics"]


def assert_at_most_one_a_second(requests: list[Request], began: float) -> None:
    """Since that moment; by the moments at which a busy proxy notes two of them nothing is told."""
    assert len(requests) <= 1 + time.monotonic() - began


def run(site: Site, *chains: Any, **options: Any) -> SyncHandler:
    with tracker(site.run, **options) as handler:
        for chain in chains:
            chain.invoke({"topic": "x"}, {"callbacks": [handler]})
    return handler


def assert_delivered(handler: SyncHandler, events: int) -> None:
    """Wait until S3 has them: what is left for a short close is the Run."""
    until_in_thread(lambda: handler.statistics().delivered == events)


def manifest(site: Site) -> dict[str, Any]:
    (found,) = site.manifests()
    return found


# -- what is found --------------------------------------------------------------------------------


def test_configurations_prompts_and_addresses(make_run: RunFactory) -> None:
    """Each distinct model configuration gets its parameters, a second one with a suffix."""
    site = make_run()
    prompt = ChatPromptTemplate.from_messages([("human", "about {topic}")]).with_config(
        run_name="my-prompt"
    )
    run(site, joke_chain(), joke_chain(), prompt | model(model_name="other-2", temperature=0.9))
    found = site.parameters()
    assert found["gen_ai.request.model"] == "fake-1"
    assert found["gen_ai.request.temperature"] == 0.5
    assert found["gen_ai.operation.name"] == "chat"
    assert found["gen_ai.request.model.2"] == "other-2"
    assert found["gen_ai.request.temperature.2"] == 0.9
    assert not [key for key in found if key.endswith(".3")], "the same again is no third"
    names = {found[key] for key in found if key.startswith("langchain.prompt.name")}
    assert names == {"ChatPromptTemplate", "my-prompt"}
    assert found["asynctrack.events"] == f"s3://{site.s3.bucket}/{site.prefix}"
    address = found["asynctrack.manifest"]
    assert address.startswith(f"s3://{site.s3.bucket}/{site.prefix}_manifest/")
    client = site.s3.boto_client()
    key = address.removeprefix(f"s3://{site.s3.bucket}/")
    body = client.get_object(Bucket=site.s3.bucket, Key=key)["Body"].read()
    assert json.loads(body) == manifest(site)
    assert site.output_artifacts() == {"asynctrack.events": found["asynctrack.events"]}


def test_no_secrets_anywhere(make_run: RunFactory) -> None:
    """A key in a model's configuration, in the user's parameters or in a text is stored nowhere."""
    site = make_run()
    with tracker(site.run) as handler:
        joke_chain(api_key=SECRET).invoke({"topic": SECRET}, {"callbacks": [handler]})
        handler.log_parameters({"api_key": "hunter2hunter2", "note": f"uses {SECRET}"})
    stored = json.dumps(site.parameters()) + json.dumps(site.manifests())
    stored += json.dumps(events_in_s3(site.s3.boto_client(), site.s3.bucket, site.prefix))
    assert SECRET not in stored
    assert "hunter2hunter2" not in stored
    assert "uses [REDACTED]" in stored


def test_users_parameters(make_run: RunFactory) -> None:
    """log_parameters goes under the user's own names; the last value of a name counts."""
    site = make_run()
    with tracker(site.run) as handler:
        handler.log_parameters({"lr": 0.1, "name": "first", "deep": {"a": [1, 2]}, "on": True})
        handler.log_parameters({"lr": 0.2, "none": None})
    found = site.parameters()
    assert (found["lr"], found["name"]) == (0.2, "first")
    assert json.loads(found["deep"]) == {"a": [1, 2]}
    assert found["on"] == "true"
    assert manifest(site)["parameters"]["lr"] == 0.2


def test_metrics_go_in_batches(make_run: RunFactory, sagemaker_proxy: FaultProxy) -> None:
    """Metrics are sent through BatchPutMetrics, ten at a time at the most, each value once."""
    site = make_run(sagemaker_url=sagemaker_proxy.endpoint_url)
    with tracker(site.run) as handler:
        joke_chain().invoke({"topic": "x"}, {"callbacks": [handler]})
        for step in range(25):
            handler.log_metric("score", step / 10, step=step)
        for value in (1.0, 2.0, 3.0):
            handler.log_metric("loss", value)
        handler.log_metric("nan", float("nan"))
        handler.log_metric("n" * 256, 1.0)
    sent = [json.loads(call.body) for call in metric_calls(sagemaker_proxy)]
    assert all(1 <= len(call["MetricData"]) <= 10 for call in sent)
    assert {call["TrialComponentName"] for call in sent} == {site.trial_component.lower()}
    points = [point for call in sent for point in call["MetricData"]]
    scores = [(p["Step"], p["Value"]) for p in points if p["MetricName"] == "score"]
    assert scores == [(step, step / 10) for step in range(25)]
    assert [(p["Step"], p["Value"]) for p in points if p["MetricName"] == "loss"] == [
        (0, 1.0), (1, 2.0), (2, 3.0),
    ]  # fmt: skip
    names = {point["MetricName"] for point in points}
    assert {
        "gen_ai.client.operation.duration",
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.output_tokens",
        "asynctrack.trace.errors",
    } <= names
    by_name = {point["MetricName"]: point["Value"] for point in points}
    assert by_name["gen_ai.usage.input_tokens"] == 3
    assert by_name["gen_ai.usage.output_tokens"] == 5
    assert by_name["asynctrack.trace.count"] == 1
    statistics = handler.statistics()
    assert statistics.metric_points == len(points)
    assert statistics.metric_points_unsent == 2
    stored = events_in_s3(site.s3.boto_client(), site.s3.bucket, site.prefix)
    assert sum(event["event"] == "metric" for event in stored) == 30


def test_errors_are_counted_once_for_each_trace(
    make_run: RunFactory, sagemaker_proxy: FaultProxy
) -> None:
    """One failure passes several spans on its way up and is one error of the Run."""
    site = make_run(sagemaker_url=sagemaker_proxy.endpoint_url)
    with tracker(site.run) as handler, pytest.raises(KeyError):
        joke_chain().invoke({"wrong": "x"}, {"callbacks": [handler]})
    points = [
        p for call in metric_calls(sagemaker_proxy) for p in json.loads(call.body)["MetricData"]
    ]
    assert [p["Value"] for p in points if p["MetricName"] == "asynctrack.trace.errors"] == [1]


# -- when -----------------------------------------------------------------------------------------


def test_a_running_run_shows_its_parameters(
    make_run: RunFactory, sagemaker_proxy: FaultProxy
) -> None:
    """Parameters are there while the Run still runs, at one update a second at the most."""
    site = make_run(sagemaker_url=sagemaker_proxy.endpoint_url)
    chain = joke_chain()
    began = time.monotonic()
    with tracker(site.run) as handler:
        chain.invoke({"topic": "x"}, {"callbacks": [handler]})
        until_in_thread(lambda: "gen_ai.request.model" in site.parameters())
        for number in range(30):
            handler.log_parameters({"number": number, f"p{number}": number})
            assert handler.flush(120)
            if number == 2:
                break
        for number in range(100):
            handler.log_parameters({"number": 100 + number})
        until_in_thread(lambda: site.parameters()["number"] == 199)
    requests = updates(sagemaker_proxy)
    assert len(requests) >= 2
    assert_at_most_one_a_second(requests, began)
    assert handler.statistics().run_updates == len(requests)


def test_deltas_only(make_run: RunFactory, sagemaker_proxy: FaultProxy) -> None:
    """What was sent is not sent again."""
    site = make_run(sagemaker_url=sagemaker_proxy.endpoint_url)
    with tracker(site.run) as handler:
        handler.log_parameters({"a": 1})
        assert handler.flush(120)
        handler.log_parameters({"a": 1, "b": 2})
        assert handler.flush(120)
    sent = [json.loads(call.body).get("Parameters", {}) for call in updates(sagemaker_proxy)]
    assert sum("a" in one for one in sent) == 1
    assert sum("b" in one for one in sent) == 1
    assert sum("asynctrack.events" in one for one in sent) == 1


# -- limits ---------------------------------------------------------------------------------------


def _values_around_the_limits() -> dict[str, Any]:
    return {
        **{"k" * length: length for length in (255, 256, 257, 319, 320, 321, 2_000)},
        **{f"value{length}": "v" * length for length in (2_499, 2_500, 2_501, 100_000)},
        "line\nbreak": "a\nb\r\nc\u2028d",
        "nan": float("nan"),
        "inf": float("-inf"),
        "bool": True,
        "huge": 10**30,
        "empty": "",
        "": "no name",
        "structure": {"a": ["x" * 3_000]},
        "surrogate \ud800": "\ud800",
        "emoji " + "🐟" * 200: "🐟" * 2_500,
    }


def test_values_around_the_limits(make_run: RunFactory, sagemaker_proxy: FaultProxy) -> None:
    """Keys and values up to, at and over AWS's limits: none refused, the manifest has all whole."""
    site = make_run(sagemaker_url=sagemaker_proxy.endpoint_url)
    values = _values_around_the_limits()
    with tracker(site.run) as handler:
        handler.log_parameters(values)
    assert {seen.status for seen in sagemaker_proxy.requests} == {200}
    found = site.parameters()
    assert found["k" * 256] == 256
    assert found["value2500"] == "v" * 2_500
    assert found["bool"] == "true"
    assert (found["nan"], found["inf"]) == ("nan", "-inf")
    assert found["huge"] == str(10**30)
    assert found["line\\nbreak"] == "a\\nb\\r\\nc\\u2028d"
    whole = manifest(site)["parameters"]
    for name, value in values.items():
        if "surrogate" in name or name in ("nan", "inf", "huge"):
            continue  # as JSON holds them
        assert whole[name] == value, name[:20]
    for name in ("value2501", "value100000", "structure"):
        address, _, pointer = str(found[name]).partition("#")
        assert address == found["asynctrack.manifest"]
        assert pointer == f"/parameters/{name}"
    # Every long name is there, shortened and told apart.
    long_ones = {key: value for key, value in found.items() if key.startswith("kkk")}
    assert sorted(long_ones.values()) == [255, 256, 257, 319, 320, 321, 2_000]
    assert max(map(len, found)) <= 256


@pytest.mark.parametrize("over", [-1, 0, 1, 50])
def test_parameters_around_three_hundred(
    over: int, make_run: RunFactory, sagemaker_proxy: FaultProxy
) -> None:
    """One less to 50 more than there is room for: never a refusal; the manifest has the rest."""
    site = make_run(sagemaker_url=sagemaker_proxy.endpoint_url)
    site.put_parameters({"theirs": "kept"})
    own = 2  # the two addresses
    most = 300 - HEAD_ROOM
    names = [f"p{number:03d}" for number in range(most + over - 1 - own)]
    with tracker(site.run) as handler:
        handler.log_parameters(dict.fromkeys(names[:100], 1))
        assert handler.flush(120)
        handler.log_parameters(dict.fromkeys(names, 1))
    assert {seen.status for seen in sagemaker_proxy.requests} == {200}
    found = site.parameters()
    assert found["theirs"] == "kept"
    assert len(found) == min(most + over, most)
    whole = manifest(site)["parameters"]
    assert set(names) <= set(whole)
    left_out = [name for name in names if name not in found]
    if over > 0:
        assert "asynctrack.more_parameters" in found
        assert set(whole["asynctrack.more_parameters"]) == set(left_out) != set()
    else:
        assert left_out == []


@pytest.mark.parametrize("there", [29, 30, 60])
def test_artifacts_around_the_limits(
    there: int, make_run: RunFactory, sagemaker_proxy: FaultProxy
) -> None:
    """One output artifact for a writer where the SDK's 30 allow, and never a refusal."""
    site = make_run(sagemaker_url=sagemaker_proxy.endpoint_url)
    site.put_output_artifacts([f"a{number}" for number in range(there)])
    with tracker(site.run, max_batch_events=2, max_delay=600.0) as handler:
        for number in range(70):
            handler.on_chain_end(number, run_id=uuid.uuid4())
    assert handler.statistics().artifacts == 35
    assert {seen.status for seen in sagemaker_proxy.requests} == {200}
    names = set(site.output_artifacts())
    assert len(names) == there + (there < 30)
    assert ("asynctrack.events" in names) == (there < 30)
    assert "asynctrack.events" in site.parameters()


# -- other writers --------------------------------------------------------------------------------


def test_the_users_own_parameters_survive(make_run: RunFactory) -> None:
    """What the user's Run object logs, before and during, keeps its values; so do ours."""
    site = make_run()
    site.run.log_parameter("gen_ai.request.model", "the user's")
    site.run.log_parameters({"mine": 1.0, "shared": 1.0})
    with tracker(site.run) as handler:
        joke_chain().invoke({"topic": "x"}, {"callbacks": [handler]})
        handler.log_parameters({"shared": 2.0, "ours": 3.0})
        assert handler.flush(120)
        site.run.log_parameter("during", 4.0)
    site.leave()  # sends its whole snapshot
    found = site.parameters()
    assert found["gen_ai.request.model"] == "the user's"
    assert found["gen_ai.request.model.2"] == "fake-1"
    assert (found["mine"], found["ours"], found["during"]) == (1.0, 3.0, 4.0)
    assert found["shared"] == 2.0, "the later of the user's own two values"
    assert found["asynctrack.events"].startswith("s3://")


@pytest.mark.parametrize("together", [False, True])
def test_two_writers_of_one_run(together: bool, make_run: RunFactory) -> None:
    """Two trackers on one Run, also started at the same moment, both keep what they found."""
    site = make_run()

    async def one(name: str) -> AsyncHandler:
        async with tracker(site.run) as handler:
            chain = joke_chain(model_name=name)
            await chain.ainvoke({"topic": "x"}, {"callbacks": [handler]})
            handler.log_parameters({f"by {name}": 1})
        return handler

    async def main() -> None:
        if together:
            await asyncio.gather(one("m-a"), one("m-b"))
        else:
            await one("m-a")
            await one("m-b")

    asyncio.run(main())
    site.leave()
    found = site.parameters()
    models = {value for key, value in found.items() if key.startswith("gen_ai.request.model")}
    assert models == {"m-a", "m-b"}
    manifests = {value for key, value in found.items() if key.startswith("asynctrack.manifest")}
    assert len(manifests) == 2
    assert found["by m-a"] == found["by m-b"] == 1
    assert len([key for key in found if key.startswith("asynctrack.events")]) == 1
    assert set(site.output_artifacts()) == {"asynctrack.events"}
    audit = audit_s3(site.s3.boto_client(), site.s3.bucket, site.prefix)
    assert_exactly_once(audit, 2 * (CHAIN_EVENTS + 1))
    assert len(audit.writers) == 2


def test_another_program_takes_our_key_meanwhile(make_run: RunFactory) -> None:
    """A key of ours that another program overwrites stays theirs; ours moves to the next."""
    site = make_run()
    with tracker(site.run) as handler:
        joke_chain().invoke({"topic": "x"}, {"callbacks": [handler]})
        assert handler.flush(120)
        site.put_parameters({"gen_ai.request.model": "theirs"})
    found = site.parameters()
    assert found["gen_ai.request.model"] == "theirs"
    assert found["gen_ai.request.model.2"] == "fake-1"


# -- SageMaker in trouble -------------------------------------------------------------------------


def test_throttling(make_run: RunFactory, sagemaker_proxy: FaultProxy) -> None:
    """With half of the requests throttled everything is written in the end, once."""
    site = make_run(sagemaker_url=sagemaker_proxy.endpoint_url)
    sagemaker_proxy.add(Answer(400, code="ThrottlingException"), every=2, times=6)
    with tracker(site.run, close_timeout=240) as handler:
        handler.log_parameters({"a": 1})
        for step in range(25):
            handler.log_metric("score", 1.0, step=step)
        joke_chain().invoke({"topic": "x"}, {"callbacks": [handler]})
    assert site.parameters()["a"] == 1
    good = [json.loads(c.body) for c in metric_calls(sagemaker_proxy) if c.status == 200]
    steps = [p["Step"] for c in good for p in c["MetricData"] if p["MetricName"] == "score"]
    assert steps == list(range(25))
    assert handler.statistics().delivered == handler.statistics().accepted
    assert manifest(site)["state"] == "closed"


def test_throttling_of_nine_in_ten(make_run: RunFactory, sagemaker_proxy: FaultProxy) -> None:
    """With nine of ten requests throttled events go on, and requests stay few."""
    site = make_run(sagemaker_url=sagemaker_proxy.endpoint_url)
    sagemaker_proxy.add(Answer(400, code="ThrottlingException"), probability=0.9, seed=4)
    with tracker(site.run, close_timeout=8.0, max_delay=0.1) as handler:
        handler.log_parameters({"a": 1})
        run_chain = joke_chain()
        for _ in range(20):
            run_chain.invoke({"topic": "x"}, {"callbacks": [handler]})
        assert_delivered(handler, 20 * CHAIN_EVENTS + 1)
    statistics = handler.statistics()
    assert statistics.delivered == statistics.accepted == 20 * CHAIN_EVENTS + 1
    assert len(sagemaker_proxy.requests) <= 40, "backoff, not a storm"
    assert_exactly_once(
        audit_s3(site.s3.boto_client(), site.s3.bucket, site.prefix), statistics.accepted
    )


def test_sagemaker_down_while_s3_goes_on(make_run: RunFactory, sagemaker_proxy: FaultProxy) -> None:
    """Without SageMaker events are delivered all the same; its part follows when it is back."""
    site = make_run(sagemaker_url=sagemaker_proxy.endpoint_url)
    sagemaker_proxy.refuse()

    async def main() -> AsyncHandler:
        async with tracker(site.run, max_delay=0.1, close_timeout=240) as handler:
            chain = joke_chain()
            await chain.ainvoke({"topic": "x"}, {"callbacks": [handler]})
            handler.log_parameters({"a": 1})
            await until(lambda: handler.statistics().delivered == CHAIN_EVENTS + 1)
            assert handler.statistics().run_updates == 0
            assert await handler.flush(0.5) is False, "parameters are not delivered yet"
            await asyncio.get_running_loop().run_in_executor(None, sagemaker_proxy.heal)
        return handler

    handler = asyncio.run(main())
    assert handler.statistics().run_updates >= 1
    assert site.parameters()["a"] == 1
    assert site.parameters()["gen_ai.request.model"] == "fake-1"


def test_sagemaker_down_to_the_end(
    make_run: RunFactory, sagemaker_proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    """Where SageMaker stays down events, manifest and its parameters are in S3, and it is told."""
    site = make_run(sagemaker_url=sagemaker_proxy.endpoint_url)
    sagemaker_proxy.refuse()
    with tracker(site.run, close_timeout=3.0, max_delay=0.1) as handler:
        handler.log_parameters({"a": 1})
        joke_chain().invoke({"topic": "x"}, {"callbacks": [handler]})
        assert_delivered(handler, CHAIN_EVENTS + 1)
        handler.flush_tracker()
        # Not left to the few seconds of closing, which a busy machine may stand still for.
        until_in_thread(lambda: [one["parameters"].get("a") for one in site.manifests()] == [1])
        began = time.monotonic()
    assert time.monotonic() - began < 60, "it would go on until SageMaker is back"
    statistics = handler.statistics()
    assert statistics.delivered == statistics.accepted == CHAIN_EVENTS + 1
    assert manifest(site)["parameters"]["a"] == 1
    told = [r.getMessage() for r in caplog.records if "could not write" in r.getMessage()]
    assert len(told) == 1, "that the Run lacks its parameters must be said"
    assert "_manifest/" in told[0]


def test_a_text_model_has_its_operation(make_run: RunFactory) -> None:
    """A plain LLM is recorded as text completion."""
    site = make_run()
    with tracker(site.run) as handler:
        FakeListLLM(responses=["a"]).invoke("x", {"callbacks": [handler]})
    assert site.parameters()["gen_ai.operation.name"] == "text_completion"
