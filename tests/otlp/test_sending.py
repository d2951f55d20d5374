"""``asynctrack export --to``: a Run's traces to a receiver, the same as in its file."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from asynctrack import cli, tracker
from asynctrack._otlp import posting, requests
from asynctrack._otlp.target import target_of
from tests.support.otlp import OtlpReceiver


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A Run of three traces, one of them failed."""
    folder = tmp_path / "runs"
    model = GenericFakeChatModel(messages=iter([AIMessage("a"), AIMessage("b")]))

    def fail(text: str) -> str:
        raise ValueError("no")

    with tracker(folder, experiment_name="jokes", run_name="one") as handler:
        model.invoke("hello", {"callbacks": [handler]})
        (model | RunnableLambda(str)).invoke("hi", {"callbacks": [handler]})
        with pytest.raises(ValueError, match="no"):
            RunnableLambda(fail).invoke("x", {"callbacks": [handler]})
    return folder


def with_bytes(document: Any) -> Any:
    """OTLP JSON as protobuf's: ids in base64, where OTLP has hex."""
    if isinstance(document, list):
        return [with_bytes(one) for one in document]
    if not isinstance(document, dict):
        return document
    return {
        key: base64.b64encode(bytes.fromhex(value)).decode()
        if key in ("traceId", "spanId", "parentSpanId")
        else with_bytes(value)
        for key, value in document.items()
    }


def test_what_is_sent_is_what_the_file_has(
    place: Path, receiver: OtlpReceiver, tmp_path: Path, capsys: Any
) -> None:
    """The Collector's file and the request of OpenTelemetry's exporter say the same of each span
    and of the Run, and the file survives the way through OpenTelemetry's own messages."""
    path = tmp_path / "run.jsonl"
    command = ["export", str(place), "--format", "otlp"]
    assert cli.main([*command, "--output", str(path)]) == 0
    assert cli.main([*command, "--to", receiver.url]) == 0
    assert f"5 spans: {receiver.url}" in capsys.readouterr().out
    (line,) = path.read_bytes().splitlines()
    written = json_format.ParseDict(with_bytes(json.loads(line)), ExportTraceServiceRequest())
    assert written == ExportTraceServiceRequest.FromString(written.SerializeToString())
    (sent,) = receiver.requests
    for one in (written, sent):
        (resource,) = one.resource_spans
        (scope,) = resource.scope_spans
        for span in scope.spans:
            span.flags = 0  # sampled, says the exporter
            span.attributes.sort(key=lambda each: each.key)
        resource.resource.attributes.sort(key=lambda each: each.key)
    assert list(sent.resource_spans[0].scope_spans[0].spans) == list(
        written.resource_spans[0].scope_spans[0].spans
    )
    assert sent.resource_spans[0].resource == written.resource_spans[0].resource
    assert (
        sent.resource_spans[0].scope_spans[0].scope
        == written.resource_spans[0].scope_spans[0].scope
    )


def test_what_may_be_chosen(place: Path, receiver: OtlpReceiver, capsys: Any) -> None:
    """--limit, --since and --json go with it; a large Run is several requests."""
    command = ["export", str(place), "--format", "otlp", "--to", receiver.url, "--json"]
    assert cli.main([*command, "--limit", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 1
    assert cli.main([*command, "--until", "2020-01-01"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "to": receiver.url, "format": "otlp", "rows": 0,
    }  # fmt: skip
    assert len(receiver.spans()) == 1


def test_a_large_run_is_several_requests(
    place: Path, receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No request holds more than a bound; all of the Run arrives."""
    monkeypatch.setattr(requests, "SPANS", 2)
    assert cli.main(["export", str(place), "--format", "otlp", "--to", receiver.url]) == 0
    sizes = [len(one.resource_spans[0].scope_spans[0].spans) for one in receiver.requests]
    assert sizes == [2, 2, 1]


def test_a_receiver_that_recovers(
    place: Path, receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fails is tried again."""
    monkeypatch.setattr(posting.RetryPolicy, "wait", lambda *_, **__: 0.0)
    receiver.answers += [500, 502]
    assert cli.main(["export", str(place), "--format", "otlp", "--to", receiver.url]) == 0
    assert len(receiver.spans()) == 5


@pytest.mark.parametrize(("status", "requests_made"), [(422, 1), (401, 1), (500, 5)])
def test_a_receiver_that_says_no(
    place: Path,
    receiver: OtlpReceiver,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
    status: int,
    requests_made: int,
) -> None:
    """The command fails with what the receiver said, soon where it will say nothing else; the
    address is shown without its password."""
    monkeypatch.setattr(posting.RetryPolicy, "wait", lambda *_, **__: 0.0)
    receiver.answers += [status] * 9
    address = receiver.url.replace("http://", "http://ada:hunter2@")
    assert cli.main(["export", str(place), "--format", "otlp", "--to", address]) == 1
    said = capsys.readouterr().err
    assert f"HTTP {status}" in said and receiver.url in said and "hunter2" not in said
    assert len(receiver.headers) == requests_made


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--format", "csv", "--to", "http://h"], "--to sends traces"),
        (["--format", "otlp", "--to", "http://h", "--force"], "--to sends traces"),
        (["--format", "otlp", "--to", "host:4318"], "--to takes an address"),
        (["--format", "otlp", "--to", "http://h", "--limit", "-1"], "0 or more"),
    ],
)
def test_calls_that_mean_nothing(place: Path, capsys: Any, arguments: list[str], said: str) -> None:
    """What does not go with --to is refused before anything is read."""
    assert cli.main(["export", str(place), *arguments]) == 2
    assert said in capsys.readouterr().err


def test_addresses() -> None:
    """One without a path gets the usual one; what is shown has no password and no query."""
    for given, whole, shown in (
        ("http://h:4318", "http://h:4318/v1/traces", "http://h:4318/v1/traces"),
        ("https://h/", "https://h/v1/traces", "https://h/v1/traces"),
        ("https://u:p@h/x?key=1", "https://u:p@h/x?key=1", "https://h/x"),
    ):
        target = target_of(given)
        assert target is not None
        assert (target.address, target.shown) == (whole, shown)
    assert target_of(None) is None and target_of(False) is None
