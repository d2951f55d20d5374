"""Traces in the receivers that others wrote, as their own interfaces show them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
from langchain.agents import create_agent
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, ToolCall
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool

from asynctrack import open_run, session, tracker
from asynctrack._reading.export.otlp_span import trace_id_of
from tests.places.servers import mlflow_server, phoenix_server

pytestmark = pytest.mark.timeout(600)  # these servers take a minute to start, or several

_T = TypeVar("_T")


class Model(GenericFakeChatModel):
    """A model that calls a tool, then answers, with tokens out of a cache."""

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return {"ls_provider": "openai", "ls_model_name": "gpt-4o-mini", "ls_model_type": "chat"}

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Any:
        return self


@tool
def add(one: int, other: int) -> int:
    """Add two numbers."""
    return one + other


def usage(read: int) -> Any:
    """What a model used."""
    return {
        "input_tokens": 40, "output_tokens": 5, "total_tokens": 45,
        "input_token_details": {"cache_read": read, "cache_creation": 7},
    }  # fmt: skip


def track(folder: Path, run: str, **options: Any) -> Any:
    """Track an agent that uses a tool, and a chain that fails; return the statistics."""
    call = ToolCall(name="add", args={"one": 40, "other": 2}, id="call-1")
    answers = [
        AIMessage("", tool_calls=[call], usage_metadata=usage(0)),
        AIMessage("It is 42.", usage_metadata=usage(32)),
    ]
    agent: Any = create_agent(Model(messages=iter(answers)), [add], name="sums")

    def fail(text: str) -> str:
        raise ValueError(f"no {text}")

    # A server that has just started takes its time for the first request.
    options = {"close_timeout": 120, "close_patience": 120, **options}
    made = tracker(folder, experiment_name="shop", run_name=run, **options)
    with made as handler, session(session_id="chat-1", user_id="ada"):
        agent.invoke({"messages": [("user", "40 + 2?")]}, {"callbacks": [handler]})
        with pytest.raises(ValueError, match="no fish"):
            RunnableLambda(fail, name="fails").invoke("fish", {"callbacks": [handler]})
    return made.statistics()


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    """Ask again and again, for a program that tells nobody when it is there."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def mlflow_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of `mlflow server`, on sqlite."""
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as address:
        yield address


@pytest.fixture(scope="module")
def phoenix_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of Phoenix."""
    with phoenix_server(tmp_path_factory.mktemp("phoenix")) as address:
        yield address


def eventually(ask: Callable[[], _T], enough: Callable[[_T], bool]) -> _T:
    """Ask until the answer is there: receivers write in the background."""
    found: list[_T] = []

    def asked() -> bool:
        found[:] = [ask()]
        return enough(found[0])

    wait_until(asked, 60)
    return found[0]


def test_mlflow_shows_them(
    tmp_path: Path, mlflow_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow's API has tree, model, messages, tokens, tools, session, user, error; what is sent
    again from the Run is there once."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-mlflow-experiment-id=0")
    counted = track(tmp_path / "runs", "mlflow", otlp=mlflow_address)
    assert (counted.traces_sent, counted.traces_dropped) == (2, {})
    command = [
        sys.executable, "-m", "asynctrack.cli", "export", "shop/mlflow", "--root",
        str(tmp_path / "runs"), "--format", "otlp", "--to", f"{mlflow_address}/v1/traces",
    ]  # fmt: skip
    subprocess.run(command, check=True)

    def post(path: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(
            f"{mlflow_address}/{path}", json.dumps(body).encode(),
            {"content-type": "application/json"},
        )  # fmt: skip
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    search = {
        "locations": [{"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "0"}}]
    }
    traces = post("api/3.0/mlflow/traces/search", search)["traces"]
    logged = [trace_id_of(one.trace_id) for one in open_run(tmp_path / "runs").traces()]
    by_id = {one["trace_id"].removeprefix("tr-"): one for one in traces}
    assert sorted(by_id) == sorted(logged)
    agent, failed = (by_id[one] for one in logged)
    assert (agent["state"], failed["state"]) == ("OK", "ERROR")
    metadata = agent["trace_metadata"]
    assert (metadata["mlflow.trace.session"], metadata["mlflow.trace.user"]) == ("chat-1", "ada")
    tokens = json.loads(metadata["mlflow.trace.tokenUsage"])
    assert (tokens["input_tokens"], tokens["output_tokens"]) == (80, 10)
    assert tokens["cache_read_input_tokens"] == 32
    assert tokens["cache_creation_input_tokens"] == 14

    import mlflow

    client = mlflow.MlflowClient(mlflow_address)
    spans = client.get_trace(agent["trace_id"]).data.spans
    root = spans[0]
    assert (root.name, root.span_type, root.parent_id) == ("invoke_agent sums", "AGENT", None)
    first = next(open_run(tmp_path / "runs").traces())
    assert len(spans) == sum(1 for _ in first.walk())
    model = next(one for one in spans if one.name == "chat gpt-4o-mini")
    assert model.span_type == "LLM" and model.model_name == "gpt-4o-mini"
    assert "40 + 2?" in json.dumps(model.inputs)
    used = next(one for one in spans if one.name == "execute_tool add")
    assert (used.span_type, used.inputs) == ("TOOL", {"one": 40, "other": 2})
    assert used.outputs["content"] == "42"
    (broken,) = client.get_trace(failed["trace_id"]).data.spans
    assert "no fish" in broken.status.description
    assert broken.events[-1].attributes["exception.type"] == "ValueError"


QUERY = """
{ projects { edges { node { name traceCount spans(first: 100) { edges { node {
  name spanKind statusCode statusMessage spanId parentId attributes startTime endTime
  tokenCountPrompt tokenCountCompletion tokenPromptDetails { cacheRead cacheWrite }
  events { name message } trace { traceId session { sessionId } }
} } } } } } }
"""


def test_phoenix_shows_them(tmp_path: Path, phoenix_address: str) -> None:
    """Phoenix's GraphQL has tree, model, messages, tokens, tools, session, user, error; what is
    sent again from the Run is there once."""
    counted = track(tmp_path / "runs", "phoenix", otlp=phoenix_address)
    assert (counted.traces_sent, counted.traces_dropped) == (2, {})
    command = [
        sys.executable, "-m", "asynctrack.cli", "export", "shop/phoenix", "--root",
        str(tmp_path / "runs"), "--format", "otlp", "--to", f"{phoenix_address}/v1/traces",
    ]  # fmt: skip
    subprocess.run(command, check=True)

    def ask() -> Any:
        request = urllib.request.Request(
            f"{phoenix_address}/graphql", json.dumps({"query": QUERY}).encode(),
            {"content-type": "application/json"},
        )  # fmt: skip
        with urllib.request.urlopen(request) as answer:
            found = json.load(answer)
        assert "errors" not in found, found
        projects = [one["node"] for one in found["data"]["projects"]["edges"]]
        return next((one for one in projects if one["name"] == "shop"), None)

    traces = list(open_run(tmp_path / "runs").traces())
    whole = sum(1 for trace in traces for _ in trace.walk())
    project = eventually(ask, lambda one: one is not None and len(one["spans"]["edges"]) >= whole)
    spans = [one["node"] for one in project["spans"]["edges"]]
    assert (project["traceCount"], len(spans)) == (2, whole)
    assert {one["trace"]["traceId"] for one in spans} == {
        trace_id_of(one.trace_id) for one in traces
    }
    assert {one["trace"]["session"]["sessionId"] for one in spans} == {"chat-1"}
    for one in spans:
        one["attributes"] = json.loads(one["attributes"])
        assert one["attributes"]["user"]["id"] == "ada"
    root = next(one for one in spans if one["name"] == "invoke_agent sums")
    assert (root["spanKind"], root["parentId"]) == ("agent", None)
    assert {one["parentId"] for one in spans} <= {None, *(one["spanId"] for one in spans)}
    _, model = sorted(
        (one for one in spans if one["spanKind"] == "llm"), key=lambda one: one["startTime"]
    )
    assert (model["tokenCountPrompt"], model["tokenCountCompletion"]) == (40, 5)
    assert model["tokenPromptDetails"] == {"cacheRead": 32, "cacheWrite": 7}
    said = model["attributes"]["llm"]
    assert said["model_name"] == "gpt-4o-mini"
    messages = [one["message"] for one in said["input_messages"]]
    assert [one["role"] for one in messages] == ["user", "assistant", "tool"]
    assert messages[0]["content"] == "40 + 2?"
    assert said["output_messages"][0]["message"]["content"] == "It is 42."
    used = next(one for one in spans if one["spanKind"] == "tool")["attributes"]
    assert used["tool"]["name"] == "add" and used["tool"]["id"] == "call-1"
    parameters = used["tool"]["parameters"]
    parameters = json.loads(parameters) if isinstance(parameters, str) else parameters
    assert parameters == {"one": 40, "other": 2}
    broken = next(one for one in spans if one["name"] == "fails")
    assert (broken["statusCode"], broken["statusMessage"]) == ("ERROR", "no fish")
    assert "no fish" in [one["message"] for one in broken["events"]]
