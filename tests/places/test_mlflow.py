"""Runs of MLflow: a real server, with what it takes, refuses and forgets."""

from __future__ import annotations

import asyncio
import json
import math
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import mlflow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.runnables import RunnableLambda
from mlflow.entities import Run
from mlflow.utils import validation
from mlflow.utils.validation import (
    MAX_ENTITY_KEY_LENGTH,
    _validate_metric_name,
    _validate_param_name,
)

from asynctrack import NotFoundError, OptionError, open_run, tracker
from asynctrack._backends.mlflow import api as mlflow_api
from asynctrack._backends.mlflow import batches
from asynctrack._record import limits
from asynctrack._record.limits import MLFLOW, mlflow_key
from tests.e2e.waiting import until
from tests.guide.pages import block
from tests.places.servers import mlflow_server
from tests.support.faults import Answer, DropAnswer, Hang
from tests.support.proxy import FaultProxy, fault_proxy
from tests.support.s3 import S3Server
from tests.test_auto import events_in_folder
from tests.test_auto import run as run_python

PLENTY: Any = {"close_timeout": 90.0, "close_patience": 90.0}
"""Time for a server's first traces, which it takes slowly."""


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server for all tests of this module."""
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as address:
        yield address


@pytest.fixture
def proxy(started: str) -> Iterator[FaultProxy]:
    """A proxy that makes trouble on demand, before the server."""
    with fault_proxy(started) as before:
        yield before


@pytest.fixture
def server(started: str, monkeypatch: pytest.MonkeyPatch) -> mlflow.MlflowClient:
    """A client of the server, which is the one that MLflow's variable names."""
    return use(started, monkeypatch)


def use(address: str, monkeypatch: pytest.MonkeyPatch) -> mlflow.MlflowClient:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # of the test's own client
    return mlflow.MlflowClient(address)


def new_name() -> str:
    """A name for an experiment of one test's own."""
    return f"e-{uuid4().hex[:12]}"


def hello(handler: Any) -> None:
    RunnableLambda(str.upper).invoke("hello", config={"callbacks": [handler]})


def runs_of(client: mlflow.MlflowClient, experiment: str) -> list[Run]:
    found = client.get_experiment_by_name(experiment)
    return [] if found is None else list(client.search_runs([found.experiment_id]))


def only_run_of(client: mlflow.MlflowClient, experiment: str) -> Run:
    (run,) = runs_of(client, experiment)
    return run


async def test_a_run_by_its_address(server: mlflow.MlflowClient) -> None:
    """A run is made, gets parameters, metrics and the events' address, ends, and is read again."""
    name = new_name()
    async with tracker(f"mlflow://{name}/first") as handler:
        handler.log_parameters({"temperature": 0.5, "stop": ["a", "b"], "stream": True})
        handler.log_metric("loss", 2.5)
        handler.log_metric("loss", 1.5)
        chain = RunnableLambda(str.upper)
        await chain.ainvoke("hello", config={"callbacks": [handler]})
    run = await asyncio.to_thread(only_run_of, server, name)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "first"
    assert run.data.params == {"temperature": "0.5", "stop": '["a","b"]', "stream": "True"}
    assert run.data.metrics["loss"] == 1.5
    assert run.data.metrics["asynctrack.trace.count"] == 1.0
    history = await asyncio.to_thread(server.get_metric_history, run.info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(0, 2.5), (1, 1.5)]
    assert all(abs(point.timestamp / 1000 - time.time()) < 600 for point in history)
    # Beside the run's artifacts, where MLflow's own interface shows them.
    assert run.data.tags["asynctrack.events"].startswith(run.info.artifact_uri)
    assert await asyncio.to_thread(Path(run.data.tags["asynctrack.manifest"]).is_file)
    for source in (run, f"mlflow://{name}/first", f"mlflow://{name}/{run.info.run_id}"):
        read = await asyncio.to_thread(open_run, source)
        events = await asyncio.to_thread(lambda read=read: [one.event for one in read.events()])
        assert events[-2:] == ["chain_start", "chain_end"]
        parameters = await asyncio.to_thread(lambda read=read: read.parameters)
        assert parameters["temperature"] == 0.5
    assert handler.statistics().run_updates == 1


def test_a_run_object_that_is_active(server: mlflow.MlflowClient, tmp_path: Path) -> None:
    """What the user logs beside it stays as it is, and the run is the user's to end."""
    mlflow.set_experiment(new_name())
    with mlflow.start_run() as active:
        mlflow.log_param("temperature", 0.1)
        mlflow.log_metric("theirs", 1.0)
        with tracker(active, folder=tmp_path / "runs") as handler:
            handler.log_parameters({"mine": 1, "temperature": 0.9})
            hello(handler)
        assert server.get_run(active.info.run_id).info.status == "RUNNING"
    run = server.get_run(active.info.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"temperature": "0.1", "mine": "1"}
    assert run.data.metrics["theirs"] == 1.0
    assert run.data.tags["asynctrack.events"].startswith(str(tmp_path / "runs"))
    read = open_run(run)
    assert read.parameters["temperature"] == 0.9, "the manifest has the later value"


def test_a_parameter_keeps_its_first_value(
    server: mlflow.MlflowClient, caplog: pytest.LogCaptureFixture
) -> None:
    """MLflow lets no parameter change: the first value stays, the last is in the manifest."""
    name = new_name()
    with tracker(f"mlflow://{name}/r") as handler:
        handler.log_parameters({"a": 1, "b": 1})
        handler.flush()
        handler.log_parameters({"a": 2, "c": 3})
        handler.log_parameters({"c": 4})
    run = only_run_of(server, name)
    assert run.data.params == {"a": "1", "b": "1", "c": "3"}
    manifest = json.loads(Path(run.data.tags["asynctrack.manifest"]).read_bytes())
    assert manifest["parameters"] | {"a": 2, "c": 4} == manifest["parameters"]
    assert "left the first value" in caplog.text


def test_what_is_over_a_limit(server: mlflow.MlflowClient) -> None:
    """Long values are whole in the manifest, and any name has a key; what is next to it arrives."""
    name = new_name()
    odd = {f"{'n' * 400} (°C) {number}": number for number in range(3)}
    paths = {"../up": 1, "a//b": 2, "/root": 3, ".": 4, "a/./b": 5}
    big = {f"big{number}": "ü" * 6_000 for number in range(120)}
    with tracker(f"mlflow://{name}/r") as handler:
        handler.log_parameters({**odd, **paths, **big, "long": "x" * 6_001, "": "empty"})
        handler.log_metric("a+b", 1.0)
        handler.log_metric("a*b", 2.0)
    run = only_run_of(server, name)
    assert len(run.data.params) == len(odd) + len(paths) + len(big) + 2
    assert run.data.params["big7"] == "ü" * 6_000
    assert run.data.params["long"].endswith("#/parameters/long")
    stored = [value for key, value in run.data.metrics.items() if key.startswith("a_b")]
    assert sorted(stored) == [1.0, 2.0]


@given(st.text())
def test_any_name_has_a_key(name: str) -> None:
    """MLflow's own check takes the key of any name, and two names have two."""
    key = mlflow_key(name)
    _validate_param_name(key)
    _validate_metric_name(key)
    assert 0 < len(key) <= MAX_ENTITY_KEY_LENGTH
    assert key != mlflow_key(f"{name}\0")
    assert mlflow_key(key) == key


def test_the_limits_are_mlflows() -> None:
    """The figures are those that the installed MLflow checks."""
    assert batches.MAX_METRICS == validation.MAX_METRICS_PER_BATCH == MLFLOW.points
    assert batches.MAX_PARAMS == batches.MAX_TAGS == validation.MAX_PARAMS_TAGS_PER_BATCH
    assert batches.MAX_ENTRIES == validation.MAX_ENTITIES_PER_BATCH
    assert batches.MAX_BYTES == validation.MAX_BATCH_LOG_REQUEST_SIZE
    assert limits.MLFLOW_KEY == MAX_ENTITY_KEY_LENGTH
    assert limits.MLFLOW_STRING == validation.MAX_PARAM_VAL_LENGTH
    assert limits.MAX_STRING <= validation.MAX_TAG_VAL_LENGTH, "addresses are cut to that"


def test_metrics_that_are_not_finite(server: mlflow.MlflowClient) -> None:
    """MLflow keeps NaN; its SQL stores keep the largest double in place of infinity."""
    name = new_name()
    with tracker(f"mlflow://{name}/r") as handler:
        for value in (math.nan, math.inf, -math.inf, 1.0):
            handler.log_metric("m", value)
    run = only_run_of(server, name)
    history = server.get_metric_history(run.info.run_id, "m")
    values = [point.value for point in sorted(history, key=lambda point: point.step)]
    assert math.isnan(values[0])
    assert values[1:] == [sys.float_info.max, -sys.float_info.max, 1.0]
    manifest = json.loads(Path(run.data.tags["asynctrack.manifest"]).read_bytes())
    assert manifest["metrics"]["m"] == {"count": 1, "sum": 1, "min": 1, "max": 1, "last": 1}
    assert handler.statistics().metric_points_unsent == 0


def test_five_thousand_metrics(proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """They go a thousand at a time, and each arrives once, also where an answer is lost."""
    client, name = use(proxy.endpoint_url, monkeypatch), new_name()
    refused = proxy.add(Answer(503), path="*/runs/log-batch", times=1)
    lost = proxy.add(DropAnswer(), path="*/runs/log-batch", times=1)
    with tracker(f"mlflow://{name}/r") as handler:
        for number in range(5_000):
            handler.log_metric("m", number)
    run = only_run_of(client, name)
    history = client.get_metric_history(run.info.run_id, "m")
    assert sorted(point.value for point in history) == list(range(5_000))
    batches = [one for one in proxy.requests if one.path.endswith("log-batch")]
    assert (refused.applied, lost.applied) == (1, 1)
    assert len(batches) < 13
    assert handler.statistics().metric_points_unsent == 0


def test_two_trackers_in_one_run(server: mlflow.MlflowClient, tmp_path: Path) -> None:
    """They make it once, share it, and say where each one's events are; the last one ends it."""
    name = new_name()
    with (
        tracker(f"mlflow://{name}/r", folder=tmp_path / "one") as first,
        tracker(f"mlflow://{name}/r", folder=tmp_path / "two") as second,
    ):
        for handler in (first, second):
            handler.log_parameters({"shared": 1})
            hello(handler)
        first.log_parameters({"mine": "first"})
        second.log_parameters({"mine": "second"})
    run = only_run_of(server, name)
    assert run.info.status == "FINISHED"
    assert run.data.params["shared"] == "1"
    assert run.data.params["mine"] in ("first", "second")
    places = {run.data.tags["asynctrack.events"], run.data.tags["asynctrack.events.2"]}
    assert {place.split("/asynctrack/")[0] for place in places} == {
        str(tmp_path / "one"),
        str(tmp_path / "two"),
    }
    assert len(list(open_run(run).traces())) == 2


TOGETHER = """
import sys
import mlflow
from langchain_core.runnables import RunnableLambda
from asynctrack import tracker
print("ready", flush=True)
sys.stdin.readline()
with tracker(sys.argv[1]) as handler:
    RunnableLambda(str.upper).invoke("hello", config={"callbacks": [handler]})
"""


def test_processes_that_begin_together_share_a_run(server: mlflow.MlflowClient) -> None:
    """As the workers of a server do: one of them makes it, and what all of them track is read."""
    name = new_name()
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", TOGETHER, f"mlflow://{name}/r"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for worker in workers:
        assert worker.stdout is not None and worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    for worker in workers:
        worker.communicate()
        assert worker.returncode == 0
    run = only_run_of(server, name)
    assert len(list(open_run(run).traces())) == len(workers)


def test_a_finished_run_goes_on(server: mlflow.MlflowClient) -> None:
    """MLflow takes what comes for a run that has finished, and its state is left alone."""
    experiment = server.create_experiment(new_name())
    run = server.create_run(experiment, run_name="done")
    server.set_terminated(run.info.run_id, "FAILED")
    with tracker(run) as handler:
        handler.log_parameters({"late": 1})
        hello(handler)
    after = server.get_run(run.info.run_id)
    assert after.info.status == "FAILED"
    assert after.data.params == {"late": "1"}


def test_a_deleted_run(
    proxy: FaultProxy,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Events arrive, the rest waits, and is there as soon as somebody has restored the run."""
    client = use(proxy.endpoint_url, monkeypatch)
    experiment = client.create_experiment(new_name())
    run = client.create_run(experiment, run_name="gone")
    client.delete_run(run.info.run_id)
    with tracker(run, folder=tmp_path / "runs", close_patience=0.5) as handler:
        handler.log_parameters({"a": 1})
        hello(handler)
    assert handler.statistics().delivered == handler.statistics().accepted
    assert "could not write" in caplog.text
    before = len(proxy.requests)
    with tracker(run, folder=tmp_path / "runs") as handler:
        handler.log_parameters({"a": 1})
        proxy.wait_for(lambda seen: len(seen) > before + 1)
        client.restore_run(run.info.run_id)
    assert client.get_run(run.info.run_id).data.params == {"a": "1"}


def test_a_run_that_is_not_there(
    server: mlflow.MlflowClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An id that nobody knows makes no run: events arrive where they go, and a warning says why."""
    address = f"mlflow://{new_name()}/{uuid4().hex}"
    with tracker(address, folder=tmp_path / "runs", close_patience=0.5) as handler:
        handler.log_parameters({"a": 1})
        hello(handler)
    assert handler.statistics().delivered == handler.statistics().accepted
    assert "could not write 1 parameters" in caplog.text
    with pytest.raises(NotFoundError):
        open_run(address)


async def test_a_server_that_hangs_and_comes_back(
    proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nobody waits for it, events go where they go, and what it keeps is sent when it is back."""
    monkeypatch.setattr(mlflow_api, "REQUEST_TIMEOUT", 1.0)
    client, name = use(proxy.endpoint_url, monkeypatch), new_name()
    proxy.add(Hang())
    async with tracker(f"mlflow://{name}/r", folder=tmp_path, max_delay=0.1) as handler:
        began = time.monotonic()
        handler.log_parameters({"a": 1})
        await RunnableLambda(str.upper).ainvoke("hello", config={"callbacks": [handler]})
        assert time.monotonic() - began < 60.0  # it hangs until it is mended
        await until(lambda: handler.statistics().delivered == 3)
        await proxy.seen(lambda seen: len(seen) >= 2)
        # A server that works is given its usual time, on a busy machine too.
        monkeypatch.setattr(mlflow_api, "REQUEST_TIMEOUT", 15.0)
        proxy.heal()
    run = await asyncio.to_thread(only_run_of, client, name)
    assert run.data.params == {"a": "1"}


@pytest.mark.parametrize("status", [401, 429, 500])
def test_a_server_that_says_no(
    status: int, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What it refuses for now is repeated by one layer of retries only, and arrives."""
    client, name = use(proxy.endpoint_url, monkeypatch), new_name()
    rule = proxy.add(Answer(status), times=2)
    with tracker(f"mlflow://{name}/r", folder=tmp_path) as handler:
        handler.log_parameters({"a": 1})
        hello(handler)
    assert only_run_of(client, name).data.params == {"a": "1"}
    assert rule.applied == 2


def test_only_mlflows_server_reaches_the_artifacts(
    server: mlflow.MlflowClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A run's object says so at the call; of an address it turns out later, and nothing is lost."""
    name = new_name()
    experiment = server.create_experiment(name, artifact_location="mlflow-artifacts:/x")
    run = server.create_run(experiment, run_name="proxied")
    with pytest.raises(OptionError, match="folder=…"):
        tracker(run)
    with tracker(f"mlflow://{name}/proxied", close_patience=0.5) as handler:
        hello(handler)
    assert handler.statistics().spooled == 2
    assert "neither S3 nor a folder" in caplog.text
    assert cli("spool", "replay", "--to", str(tmp_path / "runs")) == 0
    assert [one.event for one in open_run(tmp_path / "runs").events()] == [
        "chain_start",
        "chain_end",
    ]


def test_artifacts_in_s3(
    server: mlflow.MlflowClient, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events of a run whose artifacts are in S3 are beside them, as MLflow reaches S3."""
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", s3.endpoint_url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret_key)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")

    name = new_name()
    server.create_experiment(name, artifact_location=f"s3://{s3.bucket}/of-mlflow")
    with tracker(f"mlflow://{name}/r") as handler:
        handler.log_parameters({"a": 1})
        hello(handler)
    run = only_run_of(server, name)
    assert run.data.tags["asynctrack.events"].startswith(f"{run.info.artifact_uri}/asynctrack/v1/")
    assert [one.event for one in open_run(run).events()][-1] == "chain_end"


KILLED = """
import os, signal, sys
from asynctrack import tracker
from langchain_core.runnables import RunnableLambda
with tracker(sys.argv[1]) as handler:
    RunnableLambda(str.upper).invoke("hello", config={"callbacks": [handler]})
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_program_left_is_delivered(
    proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, state_home: Path
) -> None:
    """The spool names the run: it is asked where the events belong, and that is where they go."""
    name = new_name()
    secret = proxy.endpoint_url.replace("http://", "http://me:hunter2@")
    use(secret, monkeypatch)
    proxy.refuse()
    killed = subprocess.run([sys.executable, "-c", KILLED, f"mlflow://{name}/r"], check=False)
    assert killed.returncode == -signal.SIGKILL
    stored = [path.read_bytes() for path in state_home.rglob("*") if path.is_file()]
    assert any(name.encode() in content for content in stored)
    assert not any(b"hunter2" in content for content in stored)
    proxy.heal()
    assert cli("spool", "replay") == 0
    events = [one.event for one in open_run(f"mlflow://{name}/r").events()]
    assert events == ["chain_start", "chain_end"]


def test_the_next_tracker_delivers_it_as_well(
    proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tracker into another run of the same server delivers what waits for this one."""
    name = new_name()
    use(proxy.endpoint_url, monkeypatch)
    proxy.refuse()
    subprocess.run([sys.executable, "-c", KILLED, f"mlflow://{name}/r"], check=False)
    proxy.heal()
    with tracker(f"mlflow://{name}/next") as handler:
        hello(handler)
        wait_until(lambda: handler.statistics().replayed == 2)
    assert handler.statistics().replayed == 2
    events = [one.event for one in open_run(f"mlflow://{name}/r").events()]
    assert events == ["chain_start", "chain_end"]


def test_commands_take_the_address(server: mlflow.MlflowClient) -> None:
    """A run is named in the command line as it is in Python."""
    name = new_name()
    with tracker(f"mlflow://{name}/r") as handler:
        handler.log_parameters({"temperature": 0.5})
        hello(handler)
    shown = subprocess.run(
        [sys.executable, "-m", "asynctrack.cli", "show", f"mlflow://{name}/r", "--json"],
        capture_output=True,
        check=True,
    )
    assert json.loads(shown.stdout)["parameters"]["temperature"] in (0.5, "0.5")


def test_managed_mlflow_is_asked_through_its_plugin(
    proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An ARN as tracking URI: requests are signed, and name the tracking server."""
    arn = "arn:aws:sagemaker:us-east-1:123456789012:mlflow-tracking-server/tests"
    monkeypatch.setenv("SAGEMAKER_MLFLOW_CUSTOM_ENDPOINT", proxy.endpoint_url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDTESTS")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", arn)
    name = new_name()
    with tracker(f"mlflow://{name}/r", folder=tmp_path) as handler:
        handler.log_parameters({"a": 1})
        hello(handler)
    assert proxy.requests
    for request in proxy.requests:
        assert request.headers["x-mlflow-sm-tracking-server-arn"] == arn
        assert request.headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIDTESTS/")
        assert request.service == "sagemaker-mlflow"
    assert open_run(f"mlflow://{name}/r").parameters["a"] == 1


def cli(*arguments: str) -> int:
    """Run a command in a process of its own; its exit code."""
    command = [sys.executable, "-m", "asynctrack.cli", *arguments]
    return subprocess.run(command, check=False).returncode


def test_traces_are_linked_to_the_run(server: mlflow.MlflowClient, tmp_path: Path) -> None:
    """MLflow shows finished traces with the run, and knows session and user."""
    name = new_name()
    with tracker(f"mlflow://{name}/r", folder=tmp_path / "runs", traces=True, **PLENTY) as handler:
        config: Any = {
            "callbacks": [handler],
            "metadata": {"session_id": "chat-1", "user_id": "ada"},
        }
        for word in ("one", "two"):
            RunnableLambda(str.upper).invoke(word, config=config)
    assert handler.statistics().traces_sent == 2
    run = only_run_of(server, name)
    found = server.search_traces(locations=[run.info.experiment_id], run_id=run.info.run_id)
    assert len(found) == 2
    for trace in found:
        assert trace.info.trace_metadata["mlflow.trace.session"] == "chat-1"
        assert trace.info.trace_metadata["mlflow.trace.user"] == "ada"


def assessments(client: mlflow.MlflowClient, trace_id: UUID | str) -> dict[str, Any]:
    """What is on a trace, by name; each name once."""
    text = trace_id if isinstance(trace_id, str) else trace_id.hex
    found = client.get_trace(f"tr-{text}").info.assessments
    by_name = {one.name: one for one in found}
    assert len(by_name) == len(found)
    return by_name


def test_feedback_becomes_assessments(server: mlflow.MlflowClient, tmp_path: Path) -> None:
    """A score, a label and a comment on a trace or a span, before the trace has ended and after it
    was sent, and on a trace that joined a service's."""
    trace_id, name, service = uuid4(), new_name(), uuid4().hex
    long_name, long_user = "n" * 255, "u" * 300
    made = tracker(
        f"mlflow://{name}/r", folder=tmp_path / "runs", traces=True, max_delay=0.05, **PLENTY
    )
    with made as handler:

        def step(text: str) -> str:
            handler.log_feedback(trace_id, "early", 0.25)
            return text

        RunnableLambda(step).invoke("x", {"callbacks": [handler], "run_id": trace_id})
        handler.log_feedback(trace_id, "tone", "rude", user_id="ada")
        handler.log_feedback(trace_id, "words", comment="too long: ü")
        wait_until(lambda: made.statistics().traces_sent == 1)
        logged = time.time()
        handler.log_feedback(trace_id, "late", True, comment="good", span_id=trace_id)
        handler.log_feedback(trace_id, long_name, 1, user_id=long_user)
        with handler.span("asked", traceparent=f"00-{service}-00f067aa0ba902b7-01") as span:
            pass
        handler.log_feedback(span.trace_id, "thumbs", -1)
    counted = made.statistics()
    assert (counted.feedback_sent, counted.feedback_dropped, counted.feedback_waiting) == (6, {}, 0)
    found = assessments(server, trace_id)
    assert found.keys() == {"early", "tone", "words", "late", long_name[:250]}
    assert (found["early"].value, found["early"].source.source_type) == (0.25, "CODE")
    tone = found["tone"]
    assert (tone.value, tone.source.source_type, tone.source.source_id) == ("rude", "HUMAN", "ada")
    assert (found["words"].value, found["words"].rationale) == (None, "too long: ü")
    late = found["late"]
    (root,) = server.get_trace(f"tr-{trace_id.hex}").data.spans
    assert (late.value, late.rationale, late.span_id) == (1, "good", root.span_id)
    assert abs(late.create_time_ms / 1000 - logged) < 60
    assert found["early"].span_id is None
    assert found[long_name[:250]].source.source_id == long_user[:250]
    assert assessments(server, service)["thumbs"].value == -1


def test_feedback_in_trouble(
    proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A server that is unavailable for a moment, and an answer that is lost: each is there once."""
    client, name = use(proxy.endpoint_url, monkeypatch), new_name()
    unavailable = proxy.add(Answer(503), path="*/assessments", times=1)
    lost = proxy.add(DropAnswer(), path="*/assessments", times=1)
    trace_id = uuid4()
    made = tracker(f"mlflow://{name}/r", folder=tmp_path / "runs", traces=True, **PLENTY)
    with made as handler:
        RunnableLambda(str.upper).invoke("x", {"callbacks": [handler], "run_id": trace_id})
        handler.log_feedback(trace_id, "one", 1)
        handler.log_feedback(trace_id, "two", 2)
        handler.log_feedback(uuid4(), "of nothing", 1)
    assert (unavailable.applied, lost.applied) == (1, 1)
    counted = made.statistics()
    assert (counted.feedback_sent, counted.feedback_dropped) == (2, {"no_trace": 1})
    found = assessments(client, trace_id)
    assert {key: one.value for key, one in found.items()} == {"one": 1, "two": 2}


def wait_until(condition: Callable[[], bool]) -> None:
    """Ask again and again, for a counter that tells nobody when it changes."""
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.02)


def test_traces_need_a_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where there is no endpoint for them, the call says so."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(OptionError, match="http"):
        tracker("mlflow://a/b", folder=tmp_path, traces=True)
    with pytest.raises(OptionError, match="MLflow"):
        tracker(tmp_path, traces=True)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's own use of SQLAlchemy
def test_a_store_without_a_server(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A database of this machine is written to as a server is."""
    # MLflow keeps it open, and so it is not where this test must leave nothing open.
    address = f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"
    client = use(address, monkeypatch)
    name = new_name()
    client.create_experiment(name, artifact_location=str(tmp_path / "artifacts"))
    with tracker(f"mlflow://{name}/r") as handler:
        handler.log_parameters({"a": 1})
        handler.log_metric("m", math.inf)
        hello(handler)
    run = only_run_of(client, name)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"a": "1"}
    assert run.data.metrics["m"] == sys.float_info.max
    assert [one.event for one in open_run(f"mlflow://{name}/r").events()][-1] == "chain_end"


def test_the_guides_example(
    server: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The page's program runs as it stands, against a server."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    names: dict[str, Any] = {"chain": RunnableLambda(lambda asked: f"about {asked['topic']}")}
    exec(compile(block("mlflow", "run"), "mlflow.md", "exec"), names)
    assert only_run_of(server, "jokes").data.params["prompt"] == "v2"


def test_auto_into_a_run_that_has_its_name(tmp_path: Path) -> None:
    """The address of a run of MLflow is taken: no name is made up that would not go with it."""
    code = "import asynctrack.auto; from langchain_core.runnables import RunnableLambda as R"
    done = run_python(
        tmp_path,
        "-c",
        f"{code}; R(str.upper).invoke('x')",
        address="mlflow://shop/nightly",
        ASYNCTRACK_FOLDER="runs",
        MLFLOW_TRACKING_URI="http://127.0.0.1:9",  # nobody is there: events go to the folder
        ASYNCTRACK_CLOSE_PATIENCE="1",
    )
    assert done.returncode == 0 and "does not track" not in done.stderr
    assert len(events_in_folder(tmp_path / "runs")) == 2
    assert (tmp_path / "runs/asynctrack/v1/experiment=shop/run=nightly").is_dir()
