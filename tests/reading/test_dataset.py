"""Logged calls as examples: their form, which calls, and what LangSmith's client does with them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool

from asynctrack import OptionError, RecordedRun, open_run, tracker
from asynctrack._reading.decoding.openai_form import in_openai_form
from tests.guide.pages import block
from tests.testing.scripted import Scripted, answer, call

PNG = "data:image/png;base64,iVBORw0KGgo="


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@pytest.fixture
def run(tmp_path: Path) -> RecordedRun:
    """A Run: a chain that asks a model with tools, one that gives a text, and one that fails."""
    model = Scripted(script=[call("add", a=1, b=2)]).bind_tools([add])
    chain = RunnableLambda(lambda given: [SystemMessage("Add."), HumanMessage(given["q"])]) | model
    with tracker(str(tmp_path / "runs"), experiment_name="jokes", run_name="monday") as handler:
        config: Any = {"callbacks": [handler], "metadata": {"version": "v7", "session_id": "s1"}}
        chain.with_config(run_name="sum").invoke({"q": "1+2?"}, config)
        RunnableLambda(str.upper, name="shout").invoke("hello", config)
        with pytest.raises(ZeroDivisionError):
            RunnableLambda(lambda _: 1 / 0, name="fails").invoke({"x": 1}, config)
    recorded = open_run(tmp_path / "runs")
    (first, *_) = recorded.traces(name="sum")
    recorded.log_feedback(first.trace_id, "thumbs", True, comment="fine", user_id="ada")
    recorded.log_feedback(first.trace_id, "tone", "kind")
    return recorded


def test_an_example_of_a_root(run: RecordedRun) -> None:
    """Inputs, outputs and messages in OpenAI's form, feedback, the user's metadata, the source."""
    (example,) = run.dataset("name = 'sum'")
    (trace,) = run.traces(name="sum")
    asked = {"id": "call_1", "type": "function",
             "function": {"name": "add", "arguments": '{"a":1,"b":2}'}}  # fmt: skip
    assert example["inputs"] == {"q": "1+2?"}
    assert example["outputs"] == {
        "message": {"role": "assistant", "content": "", "tool_calls": [asked]}
    }
    assert example["expectations"] == {
        "thumbs": 1, "tone": "kind", "expected_response": '→ add({"a":1,"b":2})'
    }  # fmt: skip
    metadata = example["metadata"]
    start = metadata.pop("start")
    assert start.endswith("+00:00")
    assert metadata == {
        "version": "v7", "session_id": "s1", "experiment": "jokes", "run": "monday",
        "name": "sum", "kind": "chain", "outcome": "ok",
        "trace_id": trace.trace_id, "span_id": trace.root.span_id,
        "feedback": [
            {"name": "thumbs", "score": 1.0, "comment": "fine", "user_id": "ada"},
            {"name": "tone", "value": "kind"},
        ],
    }  # fmt: skip
    assert example["source"] == {
        "source_type": "TRACE",
        "source_data": {"trace_id": trace.trace_id, "span_id": trace.root.span_id},
    }


def test_what_is_no_object_is_below_a_name(run: RecordedRun) -> None:
    """A text goes below input and output; a call that failed has no outputs, and says its error."""
    shout, fails = run.dataset("name IN ('shout', 'fails')")
    assert (shout["inputs"], shout["outputs"]) == ({"input": "hello"}, {"output": "HELLO"})
    assert (fails["inputs"], fails["outputs"]) == ({"x": 1}, None)
    assert fails["metadata"]["error"] == "ZeroDivisionError: division by zero"
    assert "expected_response" not in fails["expectations"]


def test_an_example_of_a_model_call(run: RecordedRun) -> None:
    """Its messages, the tools it was given, and one message as the answer; feedback on the trace is
    not on it."""
    (example,) = run.dataset(kind="chat_model")
    assert example["inputs"]["messages"] == [
        {"role": "system", "content": "Add."}, {"role": "user", "content": "1+2?"}
    ]  # fmt: skip
    assert [one["function"]["name"] for one in example["inputs"]["tools"]] == ["add"]
    assert example["outputs"] is not None
    assert example["outputs"]["message"]["tool_calls"][0]["function"]["name"] == "add"
    assert "feedback" not in example["metadata"] and example["metadata"]["model"] == "gpt-x"


def test_which_calls(run: RecordedRun) -> None:
    """A condition of SQL, kinds, names, a time and a limit choose among all calls, or the roots."""

    def names(*args: Any, **more: Any) -> list[str]:
        return [one["metadata"]["name"] for one in run.dataset(*args, **more)]

    assert names() == ["sum", "shout", "fails"]
    assert names("trace_id IN (SELECT trace_id FROM feedback WHERE score > 0)") == ["sum"]
    assert names("outcome = 'ok' -- a comment") == ["sum", "shout"]
    assert names(kind=["chat_model", "tool"]) == ["Scripted"]
    assert names(name="shout") == ["shout"] and names(name="sh'out") == []
    assert names(limit=1) == ["sum"]
    assert names(until="1h") == []
    latest = "SELECT max(span_id) FROM spans WHERE parent_span_id IS NULL GROUP BY name"
    assert names(f"span_id IN ({latest})") == ["sum", "shout", "fails"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"where": "outcom = 'ok'"}, 'Referenced column "outcom"'),
        ({"where": "true) UNION SELECT (1"}, "columns"),
        ({"where": "true; DROP TABLE spans"}, "syntax error"),
        ({"where": " "}, "a condition of SQL"),
        ({"limit": -1}, "0 or more"),
        ({"kind": []}, "a kind of spans"),
        ({"name": 5}, "the name of a component"),
    ],
)
def test_what_is_not_allowed(run: RecordedRun, arguments: dict[str, Any], says: str) -> None:
    """A wrong condition or argument is said before anything is yielded."""
    with pytest.raises(ValueError, match=says) as caught:
        next(run.dataset(**arguments))
    assert isinstance(caught.value, OptionError) or "where" in arguments


def test_examples_can_be_asked_again(run: RecordedRun) -> None:
    """The chain takes an example's inputs as they are, a model its messages."""
    (example,) = run.dataset(kind="chat_model")
    again = Scripted(script=[answer("3")]).invoke(example["inputs"]["messages"])
    assert again.text == "3"


def test_in_async_code(run: RecordedRun) -> None:
    """adataset yields the same, and blocks no event loop."""
    import asyncio

    async def collect() -> list[Any]:
        return [one async for one in run.adataset("outcome = 'ok'")]

    assert asyncio.run(collect()) == list(run.dataset("outcome = 'ok'"))


def test_messages_of_every_kind() -> None:
    """Each type of LangChain's, pairs, and messages deep inside get OpenAI's form; blocks stay."""
    image = {"type": "image_url", "image_url": {"url": PNG}}
    calls = [{"name": "f", "args": {}, "id": "1"}]
    used = {"type": "tool_use", "id": "1", "name": "f", "input": {}}
    logged = {
        "messages": [
            ["human", "hi"],
            {"type": "human", "content": [image], "name": "ada", "id": "x"},
            {"type": "AIMessageChunk", "content": [used], "tool_calls": calls},
            {"type": "tool", "content": "r", "tool_call_id": "1", "name": "f"},
            {"type": "chat", "role": "critic", "content": "no"},
        ],
        "other": {"type": "thing", "content": 1},
    }  # fmt: skip
    asked = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    assert in_openai_form({"deep": [logged]})["deep"][0] == {
        "messages": [
            {"role": "user", "content": "hi"},
            {"role": "user", "content": [image], "name": "ada"},
            {"role": "assistant", "content": "", "tool_calls": [asked]},
            {"role": "tool", "content": "r", "tool_call_id": "1", "name": "f"},
            {"role": "critic", "content": "no"},
        ],
        "other": {"type": "thing", "content": 1},
    }
    odd: Any = {"type": ["news"], "content": "x", "more": [{"type": {}, "content": [{"type": []}]}]}
    assert in_openai_form(odd) == odd
    kept = in_openai_form({"type": "human", "content": [{"type": []}]})
    assert kept == {"role": "user", "content": [{"type": []}]}
    from langchain_core.messages import convert_to_messages

    called = AIMessage("", tool_calls=[{"name": "f", "args": {"x": [1]}, "id": "1"}])
    first = [HumanMessage("a"), called, ToolMessage("r", tool_call_id="1")]
    stored = [one.model_dump() for one in first]
    back = convert_to_messages(in_openai_form(stored))
    assert [(one.type, one.content, getattr(one, "tool_calls", None)) for one in back] == [
        (one.type, one.content, getattr(one, "tool_calls", None)) for one in first
    ]


@pytest.fixture
def langsmith() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """A server that takes what LangSmith's client sends; its address, and what it took."""
    taken: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if "/datasets?" in self.path:
                known = {"id": str(uuid4()), "name": "bot", "created_at": "2026-01-01T00:00:00Z"}
                self._say([known] if "name=bot" in self.path else [])
                return
            self._say(
                {
                    "version": "0.13.0",
                    "instance_flags": {"dataset_examples_multipart_enabled": True},
                }
            )

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            taken.append((self.path, body))
            self._say({"example_ids": [], "count": 0})

        def _say(self, document: Any) -> None:
            data = json.dumps(document).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # its name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", taken
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.filterwarnings("ignore:'outputs' is deprecated:DeprecationWarning")
# LangSmith's clients of before that warning know no other name.
def test_langsmiths_client_takes_the_lines(
    run: RecordedRun,
    langsmith: tuple[str, list[tuple[str, bytes]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The page's create_examples sends inputs, outputs and metadata of each example, and nothing is
    lost."""
    from langsmith.utils import get_env_var

    url, taken = langsmith
    monkeypatch.setenv("LANGSMITH_ENDPOINT", url)
    monkeypatch.setenv("LANGSMITH_API_KEY", "none")
    examples = list(run.dataset())
    get_env_var.cache_clear()  # what the environment said before
    try:
        exec(block("evaluation", "langsmith"), {"examples": [dict(one) for one in examples]})
    finally:
        get_env_var.cache_clear()
    (path, body) = taken[0]
    assert path.endswith("/examples")
    for example in examples:
        for field in ("inputs", "outputs"):
            if example[field] is not None:  # type: ignore[literal-required]  # mypy knows no loop
                sent = json.dumps(example[field], separators=(",", ":"), ensure_ascii=False)  # type: ignore[literal-required]
                assert sent.encode() in body
        assert example["metadata"]["span_id"].encode() in body
