"""The Run is not ours alone: the user's own calls, other trackers, AWS's bounds, one half down."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError
from langchain_core.language_models import FakeListLLM

from asynctrack import SyncHandler, tracker
from asynctrack.compat import SageMakerCallbackHandler
from tests.e2e.chains import CHAIN_EVENTS, joke_chain
from tests.e2e.runs import RunFactory, Site
from tests.e2e.waiting import until_in_thread
from tests.support.auditor import events_in_s3
from tests.support.faults import Answer, Hang
from tests.support.proxy import FaultProxy


def joke(handler: SyncHandler, **fields: Any) -> None:
    joke_chain(**fields).invoke({"topic": "x"}, {"callbacks": [handler]})


def points(proxy: FaultProxy) -> list[dict[str, Any]]:
    """Metric points that were sent and answered."""
    calls = [seen for seen in proxy.requests if seen.operation == "BatchPutMetrics"]
    return [p for seen in calls if seen.status == 200 for p in json.loads(seen.body)["MetricData"]]


def metrics(site: Site) -> set[str]:
    described = site.sagemaker.describe_trial_component(TrialComponentName=site.trial_component)
    return {metric["MetricName"] for metric in described.get("Metrics", [])}


def told(caplog: pytest.LogCaptureFixture, part: str) -> list[str]:
    return [r.getMessage() for r in caplog.records if part in r.getMessage()]


# -- whose word is the last -----------------------------------------------------------------------


def test_the_users_later_value_stays(make_run: RunFactory) -> None:
    """Of a name that Run and handler both log, the later one counts, whichever it is."""
    site = make_run()
    run = site.run
    run.log_parameters({"run first": 1.0, "unsent": 1.0})
    with tracker(run) as handler:
        joke(handler)
        handler.log_parameters({"handler first": 2.0, "run first": 2.0, "in between": 1.0})
        handler.log_parameters({"not sent yet": 2.0})
        run.log_parameter("not sent yet", 3.0)
        assert handler.flush(120)
        run.log_parameter("handler first", 3.0)
        run.log_parameter("in between", 2.0)
        run.log_parameter("gen_ai.request.model", "mine")
        handler.log_parameters({"in between": 3.0})
    site.leave()
    found = site.parameters()
    assert found["run first"] == 2.0
    assert found["handler first"] == 3.0
    assert found["not sent yet"] == 3.0
    assert found["in between"] == 3.0
    assert found["gen_ai.request.model"] == "mine"
    assert found["gen_ai.request.model.2"] == "fake-1", "what was found moves aside"


def test_the_compat_handler_lets_the_run_speak(make_run: RunFactory) -> None:
    """Flushing twice does not undo what the user's Run was told in between."""
    site = make_run()
    site.run.log_parameter("k", 1.0)
    handler = SageMakerCallbackHandler(site.run)
    handler.log_parameters({"k": 2.0, "other": 1.0})
    handler.flush_tracker()
    site.run.log_parameters({"k": 1.0, "other": 3.0})
    handler.flush_tracker()
    site.leave()
    handler.close()
    assert (site.parameters()["k"], site.parameters()["other"]) == (1.0, 3.0)


# -- three hundred --------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [280, 295, 299, 300])
def test_the_run_object_needs_the_room(
    count: int, make_run: RunFactory, sagemaker_proxy: FaultProxy
) -> None:
    """Up to AWS's 300 names of the Run object's own are taken, also after ours were written."""
    site = make_run(sagemaker_url=sagemaker_proxy.endpoint_url)
    mine = {f"u{number}": float(number) for number in range(count)}
    with tracker(site.run) as handler:
        joke(handler)
        handler.log_parameters({f"h{number}": 1.0 for number in range(40)})
        assert handler.flush(120)
        assert "gen_ai.request.model" in site.parameters()
        site.run.log_parameters(mine)
    assert {seen.status for seen in sagemaker_proxy.requests} == {200}
    site.leave()
    found = site.parameters()
    assert found.items() >= mine.items()
    assert ("asynctrack.events" in found) == (count < 300)
    groups = {"gen_ai.operation.name", "gen_ai.request.model", "gen_ai.request.temperature"}
    assert groups <= found.keys() or groups.isdisjoint(found)
    whole = site.manifests()[0]["parameters"]
    assert whole["h39"] == 1.0


def test_four_hundred_and_one_more(make_run: RunFactory) -> None:
    """With the Run full of the handler's, the Run object may still log, now and afterwards."""
    site = make_run()
    with tracker(site.run) as handler:
        handler.log_parameters({f"h{number}": 1.0 for number in range(400)})
        assert handler.flush(120)
        site.run.log_parameter("inside", 1.0)
    for number in range(10):
        site.run.log_parameter(f"after {number}", 1.0)
    site.leave()
    found = site.parameters()
    assert len(found) == 300
    assert {"inside", "after 9", "asynctrack.events", "asynctrack.manifest"} <= found.keys()


def test_several_writers_and_the_run_object(make_run: RunFactory, s3_proxy: FaultProxy) -> None:
    """Three trackers at once, with more than there is room for, leave all of the Run's own in."""
    site = make_run()
    mine = {f"u{number}": float(number) for number in range(285)}

    async def one(name: str) -> None:
        async with tracker(site.run) as handler:
            await joke_chain(model_name=name).ainvoke({"topic": "x"}, {"callbacks": [handler]})
            handler.log_parameters({f"{name} {number}": 1.0 for number in range(120)})
            await handler.flush(120)
            site.run.log_parameters(mine)

    async def main() -> None:
        await asyncio.gather(*map(one, "abc"))

    asyncio.run(main())
    site.leave()
    found = site.parameters()
    assert found.items() >= mine.items()
    assert len([key for key in found if key.startswith("asynctrack.manifest")]) == 3
    every = [manifest["parameters"] for manifest in site.manifests()]
    assert sum("a 119" in whole for whole in every) == 1
    assert sum("c 119" in whole for whole in every) == 1


# -- how often ------------------------------------------------------------------------------------


def test_trackers_of_one_run_share_its_pace(
    make_run: RunFactory, sagemaker_proxy: FaultProxy
) -> None:
    """Four trackers write into one Run once a second together, and each what it has."""
    site = make_run(sagemaker_url=sagemaker_proxy.endpoint_url)
    began = time.monotonic()

    async def main() -> None:
        async with tracker(site.run) as a, tracker(site.run) as b, tracker(site.run) as c:
            for number in range(2):
                for name, handler in zip("abc", (a, b, c), strict=True):
                    handler.log_parameters({name: number})
                await asyncio.gather(a.flush(120), b.flush(120), c.flush(120))

    asyncio.run(main())
    assert {name: site.parameters()[name] for name in "abc"} == dict.fromkeys("abc", 1)
    requests = [one for one in sagemaker_proxy.requests if one.operation == "UpdateTrialComponent"]
    assert 6 <= len(requests) <= 1 + time.monotonic() - began


# -- secrets --------------------------------------------------------------------------------------


def _fails(text: str) -> str:
    if "customer" in text:
        raise RuntimeError(text)
    return text


@pytest.mark.parametrize("redact", ["customer-\\d+", _fails])
def test_names_are_redacted_too(
    redact: Any,
    make_run: RunFactory,
    sagemaker_proxy: FaultProxy,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Names of metrics, parameters and prompts, and models, are in the Run as in the events."""
    site = make_run(sagemaker_url=sagemaker_proxy.endpoint_url)
    with tracker(site.run, redact=redact) as handler:
        handler.log_metric("loss of customer-123", 1)
        handler.log_metric("api_key=hunter2hunter2", 1)
        handler.log_metric("customer-4", "none")  # type: ignore[arg-type]  # on purpose
        handler.log_metric("fine", 1)
        handler.log_parameters({"customer-9": "customer-8", "b": 1})
        joke(handler, model_name="customer-77", stop=["customer-5"])
        prompt = joke_chain().first.with_config(run_name="prompt of customer-66")
        prompt.invoke({"topic": "x"}, {"callbacks": [handler]})
    stored = json.dumps(site.parameters()) + json.dumps(site.manifests())
    stored += json.dumps(events_in_s3(site.s3.boto_client(), site.s3.bucket, site.prefix))
    stored += "".join(str(seen.body) for seen in sagemaker_proxy.requests) + caplog.text
    assert "customer-" not in stored
    assert "hunter2" not in stored
    names = {point["MetricName"] for point in points(sagemaker_proxy)}
    assert {"fine", "api_key=[REDACTED]"} <= names
    assert ("loss of [REDACTED]" in names) == isinstance(redact, str)
    assert set(site.manifests()[0]["metrics"]) == names
    assert "$cut" not in site.parameters()


# -- metrics --------------------------------------------------------------------------------------


class Broken:
    def __float__(self) -> float:
        raise RuntimeError("no")

    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


def test_log_metric_never_raises(make_run: RunFactory, sagemaker_proxy: FaultProxy) -> None:
    """Whatever it is given; steps AWS has no room for are in the events only."""
    site = make_run(sagemaker_url=sagemaker_proxy.endpoint_url)
    with tracker(site.run) as handler:
        handler.log_metric("a", Broken())  # type: ignore[arg-type]  # on purpose
        handler.log_metric(Broken(), 1.0)  # type: ignore[arg-type]  # on purpose
        handler.log_metric(Broken(), Broken())  # type: ignore[arg-type]  # on purpose
        for step in (-1, 2**31 - 1, 2**31, 2**70):
            handler.log_metric("m", 1.0, step=step)
    assert [p["Step"] for p in points(sagemaker_proxy) if p["MetricName"] == "m"] == [2**31 - 1]
    statistics = handler.statistics()
    assert statistics.metric_points_unsent == 3
    assert statistics.dropped == {"invalid_metric": 2}
    stored = events_in_s3(site.s3.boto_client(), site.s3.bucket, site.prefix)
    assert sum(event["event"] == "metric" for event in stored) == 5


def _has_bad(seen: Any) -> bool:
    return b'"bad"' in seen.body


def test_one_refused_point_takes_no_other_with_it(
    make_run: RunFactory, sagemaker_proxy: FaultProxy
) -> None:
    """A request that is refused for one point is sent in halves, until that one is found."""
    site = make_run(sagemaker_url=sagemaker_proxy.endpoint_url)
    sagemaker_proxy.add(Answer(400, code="ValidationException"), when=_has_bad)
    with tracker(site.run) as handler:
        for step in range(25):
            handler.log_metric("bad" if step == 12 else "good", 1.0, step=step)
    good = [p["Step"] for p in points(sagemaker_proxy) if p["MetricName"] == "good"]
    assert good == [step for step in range(25) if step != 12]
    assert handler.statistics().metric_points_unsent == 1
    assert handler.statistics().metric_points == 24


@pytest.mark.parametrize(("code", "sent"), [("CONFLICT_ERROR", 3), ("VALIDATION_ERROR", 2)])
def test_points_named_in_the_answer(
    code: str, sent: int, make_run: RunFactory, sagemaker_proxy: FaultProxy
) -> None:
    """A point that met a conflict is sent again, one that is not valid is not; both are counted."""
    site = make_run(sagemaker_url=sagemaker_proxy.endpoint_url)
    body = json.dumps({"Errors": [{"Code": code, "MetricIndex": 1}]}).encode()
    sagemaker_proxy.add(Answer(200, body=body), operation="BatchPutMetrics", times=1)
    with tracker(site.run) as handler:
        for step in range(3):
            handler.log_metric("m", 1.0, step=step)
    calls = [seen for seen in sagemaker_proxy.requests if seen.operation == "BatchPutMetrics"]
    again = [[point["Step"] for point in json.loads(seen.body)["MetricData"]] for seen in calls]
    assert again == ([[0, 1, 2], [1]] if sent == 3 else [[0, 1, 2]])
    assert handler.statistics().metric_points == sent
    assert handler.statistics().metric_points_unsent == 3 - sent


# -- one half is down -----------------------------------------------------------------------------


@pytest.mark.parametrize("close_timeout", [10.0, 30.0])  # one is over before the patience is
def test_the_run_is_written_without_s3(
    close_timeout: float,
    make_run: RunFactory,
    s3_proxy: FaultProxy,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With S3 down, parameters and metrics are in the Run all the same, in a short close too."""
    site = make_run(s3_url=s3_proxy.endpoint_url)
    s3_proxy.add(Answer(503), method="PUT")
    with tracker(site.run, close_timeout=close_timeout, close_patience=10.0) as handler:
        # Its clients are made, which a short close need not wait for.
        handler.log_parameters({"first": 1})
        until_in_thread(lambda: "first" in site.parameters())
        joke(handler)
        handler.log_parameters({"a": 1})
        handler.log_metric("mine", 1.0)
    statistics = handler.statistics()
    assert statistics.spooled == CHAIN_EVENTS + 3
    assert statistics.metric_points_unsent == 0
    found = site.parameters()
    assert (found["a"], found["gen_ai.request.model"]) == (1.0, "fake-1")
    assert "asynctrack.events" in found
    assert metrics(site) >= {
        "mine", "gen_ai.client.operation.duration", "gen_ai.usage.input_tokens",
        "asynctrack.trace.errors",
    }  # fmt: skip
    assert told(caplog, "could not write") == []


def test_the_run_is_written_before_the_bucket_is_known(make_run: RunFactory) -> None:
    """What needs no address is recorded while the bucket cannot be found; addresses follow."""
    site = make_run()
    uploader = site.run._artifact_uploader
    bucket, uploader.artifact_bucket, down = uploader.artifact_bucket, None, [True]

    def default_bucket() -> str:
        if down:
            raise EndpointConnectionError(endpoint_url="s3")
        return str(bucket)

    uploader.sagemaker_session.default_bucket = default_bucket
    long = "v" * 3_000
    with tracker(site.run) as handler:
        joke(handler)
        handler.log_parameters({"a": 1, "long": long})
        until_in_thread(lambda: "gen_ai.request.model" in site.parameters())
        assert site.parameters()["a"] == 1
        assert "long" not in site.parameters()
        down.clear()
    assert handler.statistics().delivered == CHAIN_EVENTS + 1
    found = site.parameters()
    assert found["asynctrack.events"].startswith(f"s3://{bucket}/")
    assert found["long"] == f"{found['asynctrack.manifest']}#/parameters/long"
    assert site.manifests()[0]["parameters"]["long"] == long


def test_what_was_never_sent_is_counted_and_told(
    make_run: RunFactory, sagemaker_proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    """Metrics that SageMaker did not take are counted, with those that were measured last."""
    site = make_run(sagemaker_url=sagemaker_proxy.endpoint_url)
    sagemaker_proxy.add(Answer(503), operation="BatchPutMetrics")
    with tracker(site.run, close_timeout=3.0, max_delay=0.1) as handler:
        joke(handler)
        handler.log_metric("mine", 1.0)
        wanted = {"asynctrack.manifest", "gen_ai.request.model"}
        until_in_thread(lambda: wanted <= site.parameters().keys())
    assert handler.statistics().metric_points == 0
    assert handler.statistics().metric_points_unsent == 10
    (warning,) = told(caplog, "could not write")
    assert "0 parameters and 10 metric points" in warning


def test_updates_that_hang(
    make_run: RunFactory, sagemaker_proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    """While UpdateTrialComponent hangs the manifest is stored, and the warning says where it is."""
    site = make_run(sagemaker_url=sagemaker_proxy.endpoint_url)
    sagemaker_proxy.add(Hang(), operation="UpdateTrialComponent")
    with tracker(site.run, close_timeout=12.0, max_delay=0.1) as handler:
        joke(handler)
        handler.log_parameters({"a": 1})
        handler.log_metric("mine", 1.0)
        until_in_thread(lambda: handler.statistics().delivered == CHAIN_EVENTS + 2)
    sagemaker_proxy.heal()
    (manifest,) = site.manifests()
    assert manifest["state"] == "closed"
    assert manifest["parameters"]["a"] == 1
    assert manifest["parameters"]["gen_ai.request.model"] == "fake-1"
    assert "mine" in metrics(site)
    (warning,) = told(caplog, "could not write")
    assert f"_manifest/{manifest['writer_id']}.json" in warning
    assert "are in the manifest" in warning


def test_a_flush_whose_record_hangs(make_run: RunFactory, sagemaker_proxy: FaultProxy) -> None:
    """Closing cuts off the record that a flush waits for; it ends as the events have."""
    site = make_run(sagemaker_url=sagemaker_proxy.endpoint_url)
    sagemaker_proxy.add(Hang(), operation="UpdateTrialComponent")
    with tracker(site.run, close_timeout=1.0) as handler:
        joke(handler)
        handler.log_parameters({"a": 1})
        flush = handler.flush_tracker()
        until_in_thread(
            lambda: any(one.operation == "UpdateTrialComponent" for one in sagemaker_proxy.requests)
        )
        until_in_thread(lambda: handler.statistics().delivered == CHAIN_EVENTS + 1)
        assert not flush.done()
    assert flush.result(120) is True
    sagemaker_proxy.heal()
    assert handler.statistics().delivered == CHAIN_EVENTS + 1


def test_a_manifest_that_hangs(
    make_run: RunFactory, s3_proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    """A manifest that could not be stored is told of; the Run has all the rest."""
    site = make_run(s3_url=s3_proxy.endpoint_url)
    s3_proxy.add(Hang(), path="*/_manifest/*")
    with tracker(site.run, close_timeout=3.0, max_delay=0.1) as handler:
        joke(handler)
        handler.log_parameters({"a": 1})
        until_in_thread(lambda: handler.statistics().delivered == CHAIN_EVENTS + 1)
        until_in_thread(lambda: "a" in site.parameters())
    assert handler.statistics().delivered == CHAIN_EVENTS + 1
    assert site.parameters()["a"] == 1
    (warning,) = told(caplog, "could not store the manifest")
    assert "close_timeout=3" in warning


def test_both_that_hang(
    make_run: RunFactory,
    s3_proxy: FaultProxy,
    sagemaker_proxy: FaultProxy,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No manifest is named as the place where values are, when there is none."""
    site = make_run(s3_url=s3_proxy.endpoint_url, sagemaker_url=sagemaker_proxy.endpoint_url)
    s3_proxy.add(Hang(), path="*/_manifest/*")
    sagemaker_proxy.add(Hang(), operation="UpdateTrialComponent")
    with tracker(site.run, close_timeout=2.0) as handler:
        handler.log_parameters({"a": 1})
    sagemaker_proxy.heal()
    (warning,) = told(caplog, "could not write")
    assert "could not be stored either" in warning


def test_a_manifest_that_hangs_holds_up_no_parameters(
    make_run: RunFactory, s3_proxy: FaultProxy
) -> None:
    """While a flush waits for the manifest, what is logged meanwhile reaches the Run."""
    site = make_run(s3_url=s3_proxy.endpoint_url)
    rule = s3_proxy.add(Hang(), path="*/_manifest/*")

    async def main() -> None:
        async with tracker(site.run, close_patience=60.0) as handler:
            handler.log_parameters({"a": 1})
            assert await handler.flush(2.0) is False
            handler.log_parameters({"b": 2})
            in_thread = asyncio.get_running_loop().run_in_executor
            await in_thread(None, until_in_thread, lambda: "b" in site.parameters())
            await in_thread(None, s3_proxy.remove, rule)

    asyncio.run(main())
    assert site.manifests()[0]["parameters"]["b"] == 2


def test_a_handler_given_twice_counts_once(make_run: RunFactory) -> None:
    """LangChain calls a handler twice that it is given twice: one call, one error, its tokens."""
    site = make_run()
    with tracker(site.run) as handler:
        both = {"callbacks": [handler, handler]}
        FakeListLLM(responses=["a"]).invoke("x", both)
        with pytest.raises(KeyError):
            joke_chain().invoke({"wrong": "x"}, both)
    sums = {name: values["sum"] for name, values in site.manifests()[0]["metrics"].items()}
    assert sums["gen_ai.client.operation.count"] == 1
    assert sums["asynctrack.trace.count"] == 2
    assert sums["asynctrack.trace.errors"] == 1
