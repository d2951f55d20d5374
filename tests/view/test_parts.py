"""The viewer's pure parts: blocks, test cases, filters, rows; and its command."""

# ruff: noqa: E501  # payloads as they are logged

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.messages.utils import convert_to_messages

from asynctrack import MissingExtraError, OptionError, open_run
from asynctrack._reading.index.columns import SPANS, TRACES, rows_of
from asynctrack.cli import main
from asynctrack.view._blocks import BEGINNING, BUDGET, MAX_BLOCKS, SHOWN, Side
from asynctrack.view._filters import Filters
from asynctrack.view._pytest_case import LONGEST, pytest_case
from asynctrack.view._shapes import stream_of, varying
from tests.reading.making import RunFolder, event

SPAN = {"kind": "chain", "name": "My Chain", "span_id": "01a2-ffff", "start": 1_767_225_600 * 10**9,
        "outcome": "ok", "cause": None}  # fmt: skip


class Model:
    """Answers as it is told to, and notes what it was given."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.given: Any = None

    def invoke(self, given: Any) -> Any:
        """Answer."""
        self.given = given
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def run_case(code: str, subject: Model) -> None:
    """Run a copied test as pytest would."""
    names: dict[str, Any] = {}
    exec(compile(code, "case", "exec"), names)  # what it may hold is tested with hostile content
    (test,) = [value for name, value in names.items() if name.startswith("test_")]
    test(subject)


def case(payload: dict[str, Any], uri: str = "s3://b/run/", **span: Any) -> str:
    """A test case of a span."""
    return pytest_case({**SPAN, **span}, payload, "trace", uri)


def test_a_case_of_a_chain_passes_and_fails() -> None:
    """The copied test passes with the recorded answer and fails with another one."""
    code = case({"inputs": {"topic": "fish\u202e\n'\"\\"}, "outputs": "a joke"})
    subject = Model("a joke")
    run_case(code, subject)
    assert subject.given == {"topic": "fish\u202e\n'\"\\"}
    assert "def test_my_chain_01a2ffff(chain):" in code and "\u202e" not in code
    with pytest.raises(AssertionError):
        run_case(code, Model("another"))


def test_a_case_of_a_chain_says_how_its_models_answer_offline() -> None:
    """A chain's models can answer from the log; what is a model itself is what is tested."""
    said = "asynctrack's fixture replayed('s3://b/p')"
    assert said in case({"inputs": 1, "outputs": 2}, "s3://b/p")
    assert said not in case({"inputs": 1, "outputs": 2}, "s3://b/p", kind="chat_model")


def test_a_case_of_a_model_gives_messages() -> None:
    """A model is given messages that LangChain takes, and its text or its calls are compared."""
    system, human = {"content": "Be kind", "type": "system"}, {"content": "hi", "type": "human"}
    call = {"name": "search", "args": {"q": "x"}, "id": "1", "type": "tool_call"}
    asked = {"inputs": {"messages": [[system, human]]}}
    text = case({**asked, "outputs": {"generations": [[{"text": "yes", "message": {"content": "yes", "type": "ai"}}]]}}, kind="chat_model")  # fmt: skip
    subject = Model(AIMessage("yes"))
    run_case(text, subject)
    assert convert_to_messages(subject.given) == [SystemMessage("Be kind"), HumanMessage("hi")]
    with pytest.raises(AssertionError):
        run_case(text, Model(AIMessage("no")))
    calls = case({**asked, "outputs": {"generations": [[{"text": "", "message": {"content": "", "type": "ai", "tool_calls": [call]}}]]}}, kind="chat_model")  # fmt: skip
    run_case(calls, Model(AIMessage("", tool_calls=[{"name": "search", "args": {"q": "x"}, "id": "2"}])))  # fmt: skip
    with pytest.raises(AssertionError):
        run_case(
            calls, Model(AIMessage("", tool_calls=[{"name": "search", "args": {}, "id": "2"}]))
        )


def test_a_case_of_an_error_expects_it() -> None:
    """A call that failed becomes a test that expects this error."""
    error = {"type": "a.b.LookupError", "message": "no 'x'"}
    code = case({"inputs": "x", "error": error}, outcome="error")
    run_case(code, Model(LookupError("there is no 'x' here")))
    with pytest.raises(AssertionError):
        run_case(code, Model(ValueError("no 'x'")))
    with pytest.raises(BaseException, match="DID NOT RAISE"):
        run_case(code, Model("fine"))


def test_a_case_of_a_tool_that_reports_its_error() -> None:
    """A tool that reports an error in its answer raises nothing: the answer is expected."""
    answer = {"type": "tool", "name": "f", "tool_call_id": "1", "status": "error", "content": "no"}
    error = {"type": "ToolMessage", "message": "no"}
    payload = {"inputs": {"a": 1}, "outputs": answer, "error": error}
    code = case(payload, kind="tool", outcome="error")
    subject = Model(ToolMessage("no", tool_call_id="1"))
    run_case(code, subject)
    assert subject.given == {"name": "f", "args": {"a": 1}, "id": "1", "type": "tool_call"}
    with pytest.raises(AssertionError):
        run_case(code, Model(ToolMessage("yes", tool_call_id="1")))


@pytest.mark.parametrize(
    ("outcome", "cause", "said"),
    [
        ("cancelled", "timeout", "cancelled: by a time limit"),
        ("interrupted", "pause", "interrupted: it waits"),
        ("unfinished", None, "unfinished"),
        ("abandoned", None, "abandoned"),
    ],
)
def test_a_case_of_a_call_without_an_answer(outcome: str, cause: str | None, said: str) -> None:
    """Where no answer and no error is known, the copied test only makes the call, and says why."""
    code = case({"inputs": "x", "exception": {"type": "a.B"}}, outcome=outcome, cause=cause)
    subject = Model("anything")
    run_case(code, subject)
    assert subject.given == "x" and f"# recorded as {said}" in code and "EXPECTED" not in code


def test_a_long_case_reads_the_run(tmp_path: Path) -> None:
    """Where values are too long to be copied, the test reads them from the run."""
    folder = RunFolder(tmp_path)
    text = "x" * (LONGEST + 1)
    folder.artifact(
        [
            event(1, kind="chain_start", span_id="trace", trace_id="trace", inputs=text),
            event(2, kind="chain_end", span_id="trace", trace_id="trace", outputs="short"),
        ]
    )
    code = case({"inputs": text, "outputs": "short"}, str(folder.path), span_id="trace")
    assert len(code) < 2_000 and "open_run" in code
    subject = Model("short")
    run_case(code, subject)
    assert subject.given == text


@pytest.mark.parametrize("name", ["", "123", "a b; import os", "class", '"""', "é\n", "x" * 999])
def test_a_case_is_python_whatever_the_name(name: str) -> None:
    """No name of a span makes a test that is not Python."""
    ast.parse(case({"inputs": 1, "outputs": 2}, name=name, span_id=name, kind=name))


def texts(value: Any) -> list[Any]:
    """The kinds and texts of blocks."""
    found = []
    for block in Side(value).blocks:
        if block["kind"] == "message":
            parts = [(part["kind"], part["text"]["text"]) for part in block["parts"]]
            found.append((block["role"], *parts))
        else:
            found.append((block["kind"], block.get("name"), block.get("text", {}).get("text")))
    return found


def test_blocks_of_a_conversation() -> None:
    """Messages of every form become messages with their role; calls and results stay calls."""
    value = {
        "messages": [
            {"type": "SystemMessage", "content": "s"},
            {"role": "user", "content": [{"type": "text", "text": "u"}, {"type": "image", "url": "x"}]},
            {"type": "AIMessageChunk", "content": "", "tool_calls": [{"name": "f", "args": {"a": 1}}]},
            {"type": "ai", "content": "", "additional_kwargs": {"refusal": "no"}},
            {"type": "tool", "content": "r", "tool_call_id": "1"},
        ],
        "other": 5,
    }  # fmt: skip
    assert texts(value) == [
        ("system", ("text", "s")),
        ("human", ("text", "u"), ("file", "image, x")),
        ("ai", ("call", '{\n  "a": 1\n}')),
        ("ai", ("json", '{\n  "refusal": "no"\n}')),
        ("tool", ("text", "r")),
        ("field", "other", "5"),
    ]


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (None, []),
        ("text", [("text", None, "text")]),
        (0.5, [("text", None, "0.5")]),
        ([], [("json", None, "[]")]),
        ({"a": "x", "b": [1]}, [("field", "a", "x"), ("json", "b", "[\n  1\n]")]),
        ({"prompts": ["p"]}, [("prompt", ("text", "p"))]),
        ({"generations": [[{"text": "g"}]], "type": "LLMResult"}, [("ai", ("text", "g"))]),
        ({"documents": [{"page_content": "d"}]}, [("document", ("text", "d"))]),
        ({"messages": "not a list"}, [("field", "messages", "not a list")]),
        ({"generations": [7]}, [("json", "generations", "[\n  7\n]")]),
    ],
)
def test_blocks_of_other_values(value: Any, wanted: list[Any]) -> None:
    """Whatever was logged has blocks, and nothing of it is lost."""
    assert texts(value) == wanted


def test_long_texts_are_cut_and_found_again() -> None:
    """Each text is cut, and is found whole by its number; all texts together are bounded."""
    long = ["a" * (SHOWN + 1), "b" * 50_000, *("c" * SHOWN for _ in range(60))]
    blocks = Side(long).blocks
    assert [len(block["text"]["text"]) for block in blocks[:2]] == [SHOWN, SHOWN]
    assert sum(len(block["text"]["text"]) for block in blocks) <= BUDGET + 60 * BEGINNING
    for block, text in zip(blocks, long, strict=True):
        if "number" in block["text"]:
            assert block["text"]["length"] == len(text)
            assert Side(long, whole=block["text"]["number"]).found == text
    many = Side([{"type": "human", "content": str(n)} for n in range(MAX_BLOCKS + 7)]).blocks
    assert len(many) == MAX_BLOCKS + 1 and many[-1] == {"kind": "more", "count": 7}


@pytest.mark.parametrize(
    "asked",
    [
        {"slower": "x"},
        {"tokens": "inf"},
        {"outcome": "failed"},
        {"since": "nan"},
        {"faster": "1e300"},
    ],
)
def test_filters_that_are_none(asked: dict[str, str]) -> None:
    """A filter that makes no sense is refused by name."""
    with pytest.raises(OptionError, match=next(iter(asked))):
        Filters.of(asked)


def test_nothing_that_is_asked_for_is_sql() -> None:
    """What is asked for is a value of the query, never a part of it."""
    evil = "'; DROP TABLE traces; --"
    asked = {"text": f'{evil} "{evil}"', "name": evil, "tag": evil, "model": evil, "outcome": "ok",
             "error": evil, "session": evil, "user": evil, "thread": evil}  # fmt: skip
    filters = Filters.of(asked)
    condition, values = filters.where([1])
    assert "DROP" not in condition and evil in values.values()
    search = filters.search([1])
    assert search is not None and "DROP" not in search[0] and evil.lower() in search[1].values()


def test_rows_of_a_trace(tmp_path: Path) -> None:
    """A trace's row has its name, tokens, first error, tags, and every text to search."""
    folder = RunFolder(tmp_path)
    ids = {"trace_id": "r"}
    folder.artifact(
        [
            event(1, kind="chain_start", span_id="r", name="root", tags=["prod", "seq:step:1"],
                  inputs={"q": "Why?"}, metadata={"user": "Ann"}, **ids),
            event(2, kind="chat_model_start", span_id="m", parent_span_id="r", name="M",
                  inputs={"messages": [[{"type": "human", "content": "Why?"}]]},
                  attributes={"gen_ai.request.model": "m-1"}, **ids),
            event(3, kind="llm_error", span_id="m", parent_span_id="r", error={"type": "a.Boom", "message": "No"},
                  attributes={"gen_ai.usage.input_tokens": 3, "gen_ai.usage.output_tokens": 4,
                              "gen_ai.usage.cache_read.input_tokens": 2,
                              "gen_ai.usage.reasoning.output_tokens": 1}, **ids),
            event(4, kind="chain_end", span_id="r", outputs="Because.", **ids),
        ]
    )  # fmt: skip
    (trace,) = open_run(folder.path).traces()
    row, spans = rows_of(("e", "r"), 1, 2, trace)
    named = {name: value for (name, _), value in zip(TRACES, row, strict=True)}
    assert named["name"] == "root" and named["outcome"] == "ok" and len(spans) == 2
    assert (named["errors"], named["recovered"]) == (1, 1)
    assert (named["input_tokens"], named["output_tokens"]) == (3, 4)
    assert (named["cache_read_tokens"], named["reasoning_tokens"]) == (2, 1)
    assert (
        named["_error"] == "Boom: No" and named["models"] == ["m-1"] and named["tags"] == ["prod"]
    )
    assert named["input"] == "Why?" and named["output"] == "Because." and named["_chosen"] == 1
    assert {"why?", "because.", "ann", "no", "root"} <= set(named["_words"].split("\n"))
    kept = dict(zip((name for name, _ in SPANS), spans[0], strict=True))
    assert json.loads(kept["metadata"]) == {"user": "Ann"}


def test_token_times_add_up() -> None:
    """The times of tokens are those of the stream; what is no time is left out."""
    stream = {"count": 3, "time_to_first_token": 0.5, "inter_token_times": [0.25, "x", 0.25, -1]}
    found = stream_of(stream)
    assert found is not None and found["times"] == [0.5, 0.75, 1.0] and found["per_second"] == 4.0
    at_once = stream_of({"count": 100, "inter_token_times": [0.0005] * 99})
    assert at_once is not None and at_once["per_second"] is None, "it was ready before"
    assert stream_of({"count": 0}) is None and stream_of("x") is None
    long = stream_of({"count": 9_999, "inter_token_times": [0.01] * 9_999})
    assert long is not None and len(long["times"]) <= 2_000 and long["first"] is None


def test_parameters_that_differ() -> None:
    """The columns are the parameters that differ between runs, those of most runs first."""
    runs = [{"a": "1", "b": "1", "c": "1"}, {"a": "1", "b": "2"}, {"a": "1", "b": "3", "d": "1"}]
    assert varying(runs) == ["b", "c", "d"]
    assert varying([{"asynctrack.events": "x"}, {"asynctrack.events": "y"}]) == []


def test_a_missing_package_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Without the extra the command says which one it is, and ends with 2."""
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "uvicorn" else found(name, *more)
    )  # fmt: skip
    assert main(["view", str(tmp_path), "--no-open"]) == 2
    said = capsys.readouterr().err
    assert "uvicorn" in said and "[view]" in said
    assert issubclass(MissingExtraError, ImportError)


@pytest.mark.parametrize("arguments", [["--port", "99999"], ["--port", "x"]])
def test_a_wrong_port_is_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A port that is none is refused with what is allowed."""
    with pytest.raises(SystemExit) as ended:
        main(["view", str(tmp_path), *arguments])
    assert ended.value.code == 2 and "--port must be 0 to 65535" in capsys.readouterr().err


def test_nothing_to_show(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A place without runs is an error that says what is looked for."""
    assert main(["view", str(tmp_path), "--no-open"]) == 2
    assert "there is no Run at" in capsys.readouterr().err
    assert "starlette" in sys.modules
