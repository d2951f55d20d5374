"""Every callback of langchain-core, through both handlers, into stored events."""

from __future__ import annotations

import asyncio
import copy
import inspect
import pickle
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.agents import AgentAction, AgentFinish
from langchain_core.callbacks.base import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.language_models import FakeListLLM
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, Generation, LLMResult

from asynctrack import AsyncHandler, Statistics, SyncHandler, tracker
from tests.support.auditor import assert_exactly_once, audit_folder, events_in_folder

RUN = uuid.UUID(int=1)
PARENT = uuid.UUID(int=2)

SERIALIZED = {
    "id": ["langchain", "Thing"],
    "kwargs": {"temperature": 0.25},
    "name": "Thing",
}
COMMON = {"run_id": RUN, "parent_run_id": PARENT, "tags": ["t1"]}
START = {**COMMON, "metadata": {"m": 1}, "name": "given name", "more": "kept"}
ERROR = ValueError("went wrong")
RESULT = LLMResult(
    generations=[
        [
            ChatGeneration(
                message=AIMessage(
                    "forty-two",
                    usage_metadata={"input_tokens": 7, "output_tokens": 2, "total_tokens": 9},
                    response_metadata={"finish_reason": "stop", "model_name": "m-1"},
                )
            )
        ]
    ]
)


def _failed_attempt() -> Any:
    outcome: Future[None] = Future()
    outcome.set_exception(ERROR)
    # What tenacity passes: a future of its own that also tells whether it failed.
    outcome.failed = True  # type: ignore[attr-defined]  # tenacity's attribute
    return SimpleNamespace(
        outcome=outcome, attempt_number=2, idle_for=0.5, next_action=SimpleNamespace(sleep=1.5)
    )


@dataclass(frozen=True)
class Call:
    """One call of a callback, and the fields its event must have."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    event: str | None
    fields: dict[str, Any] = field(default_factory=dict)


def _error_fields(event: dict[str, Any]) -> bool:
    error = event["error"]
    return bool(error["type"] == "ValueError" and error["message"] == "went wrong")


STARTED = {"name": "given name", "tags": ["t1"], "metadata": {"m": 1}}

CALLS: dict[str, Call] = {
    "on_chain_start": Call(
        (None, {"topic": "fish"}), START, "chain_start", {**STARTED, "inputs": {"topic": "fish"}}
    ),
    "on_chain_end": Call(("a string",), COMMON, "chain_end", {"outputs": "a string"}),
    "on_chain_error": Call((ERROR,), COMMON, "chain_error"),
    "on_llm_start": Call(
        (SERIALIZED, ["a prompt"]),
        {**START, "invocation_params": {"model": "m-1", "temperature": 0.5}},
        "llm_start",
        {**STARTED, "inputs": {"prompts": ["a prompt"]}},
    ),
    "on_chat_model_start": Call(
        (SERIALIZED, [[HumanMessage("hi")]]),
        {**START, "invocation_params": {"model": "m-1"}},
        "chat_model_start",
        {**STARTED, "inputs": {"messages": [[{"content": "hi", "type": "human"}]]}},
    ),
    "on_llm_new_token": Call(("tok",), COMMON, None),
    "on_stream_event": Call(
        ({"event": "content-block-delta", "delta": {"type": "text-delta", "text": "tok"}},),
        COMMON,
        None,
    ),
    "on_llm_end": Call(
        (RESULT,),
        COMMON,
        "llm_end",
        {
            "attributes": {
                "gen_ai.usage.input_tokens": 7,
                "gen_ai.usage.output_tokens": 2,
                "gen_ai.response.model": "m-1",
                "gen_ai.response.finish_reasons": ["stop"],
            }
        },
    ),
    "on_llm_error": Call((ERROR,), COMMON, "llm_error"),
    "on_tool_start": Call(
        (SERIALIZED, "{'a': 1}"), {**START, "inputs": {"a": 1}}, "tool_start",
        {**STARTED, "inputs": {"a": 1}},
    ),
    "on_tool_end": Call(
        (ToolMessage("3", tool_call_id="c1"),), COMMON, "tool_end",
        {"outputs": {"content": "3", "type": "tool", "tool_call_id": "c1", "status": "success"}},
    ),
    "on_tool_error": Call((ERROR,), COMMON, "tool_error"),
    "on_retriever_start": Call(
        (SERIALIZED, "who?"), START, "retriever_start", {**STARTED, "inputs": {"query": "who?"}}
    ),
    "on_retriever_end": Call(
        ([Document("text", metadata={"page": 3})],), COMMON, "retriever_end",
        {
            "outputs": {
                "documents": [
                    {"page_content": "text", "metadata": {"page": 3}, "type": "Document"}
                ]
            }
        },
    ),
    "on_retriever_error": Call((ERROR,), COMMON, "retriever_error"),
    "on_agent_action": Call(
        (AgentAction("search", "age", "I look"),), COMMON, "agent_action"
    ),
    "on_agent_finish": Call((AgentFinish({"output": "117"}, "done"),), COMMON, "agent_finish"),
    "on_text": Call(("a text",), COMMON, "text", {"data": {"text": "a text"}}),
    "on_retry": Call((_failed_attempt(),), COMMON, "retry"),
    "on_custom_event": Call(
        ("my event", {"x": [1, 2]}),
        {"run_id": RUN, "tags": ["t1"], "metadata": {"m": 1}},
        "custom_event",
        {"name": "my event", "data": {"x": [1, 2]}, "tags": ["t1"], "metadata": {"m": 1}},
    ),
}  # fmt: skip


def callbacks_of_langchain() -> set[str]:
    """The callbacks langchain-core defines now, in either of its base classes."""
    return {
        name
        for base in (BaseCallbackHandler, AsyncCallbackHandler)
        for name in dir(base)
        if name.startswith("on_")
    }


def track(
    folder: Path, use: Callable[[Callable[..., None], Any], None], *, sync: bool, **options: Any
) -> tuple[Statistics, list[dict[str, Any]]]:
    """Call one handler's callbacks by name, and return what was stored of them.

    ``use`` gets a function that calls a callback, and the handler. That spans were left open is not
    what is looked at here.
    """

    def result(statistics: Statistics) -> tuple[Statistics, list[dict[str, Any]]]:
        events = events_in_folder(folder)
        calls = [event for event in events if event["event"] != "span_abandoned"]
        accepted = statistics.accepted - (len(events) - len(calls))
        return replace(statistics, accepted=accepted), calls

    if sync:
        with tracker(folder, **options) as handler:
            use(lambda which, /, *a, **k: getattr(handler, which)(*a, **k), handler)
        return result(handler.statistics())

    async def main() -> AsyncHandler:
        async with tracker(folder, **options) as handler:
            calls: deque[Any] = deque()
            use(lambda which, /, *a, **k: calls.append(getattr(handler, which)(*a, **k)), handler)
            while calls:
                await calls.popleft()
        return handler

    handler_ = asyncio.run(main())
    return result(handler_.statistics())


both_handlers = pytest.mark.parametrize("sync", [True, False], ids=["sync", "async"])


def test_the_table_here_has_every_callback() -> None:
    """A callback that langchain-core adds fails this test until it is tracked.

    The oldest langchain-core that is allowed does not know all of them yet.
    """
    assert callbacks_of_langchain() <= set(CALLS)


@pytest.mark.parametrize("name", sorted(callbacks_of_langchain()))
def test_both_handlers_define_each_callback_themselves(name: str) -> None:
    """No callback is left to what langchain-core inherits, and each is of the right kind."""
    asynchronous, synchronous = vars(AsyncHandler)[name], vars(SyncHandler)[name]
    assert inspect.iscoroutinefunction(asynchronous)
    assert not inspect.iscoroutinefunction(synchronous)
    assert asynchronous.__name__ == synchronous.__name__ == name


@both_handlers
def test_a_subclass_may_go_on_to_the_callback_it_defines_anew(sync: bool, tmp_path: Path) -> None:
    """What ``super()`` finds tracks, each time, and does not take the place of the subclass's."""
    seen: list[str] = []

    class Sync(SyncHandler):
        def on_text(self, text: str, **kwargs: Any) -> None:
            seen.append(text)
            super().on_text(text, **kwargs)

    class Async(AsyncHandler):
        async def on_text(self, text: str, **kwargs: Any) -> None:
            seen.append(text)
            await super().on_text(text, **kwargs)

    tracking = tracker(tmp_path, spool_dir=tmp_path / "spool")
    with tracking as handler:
        for text in ("first", "second"):
            if sync:
                Sync(handler._sink).on_text(text, run_id=RUN)
            else:
                asyncio.run(Async(handler._sink).on_text(text, run_id=RUN))
        other = Sync(handler._sink) if sync else Async(handler._sink)
        for text in ("third", "fourth"):
            done = other.on_text(text, run_id=RUN)
            if done is not None:
                asyncio.run(done)
    assert seen == ["first", "second", "third", "fourth"]
    assert tracking.statistics().accepted == 4


@both_handlers
@pytest.mark.parametrize("name", [name for name, call in CALLS.items() if call.event])
def test_a_callback_becomes_one_event(name: str, sync: bool, tmp_path: Path) -> None:
    """A callback leads to exactly one stored event with its identity and its payload."""
    call = CALLS[name]
    statistics, events = track(
        tmp_path, lambda do, _: do(name, *call.args, **call.kwargs), sync=sync
    )
    assert [event["event"] for event in events] == [call.event]
    assert (statistics.accepted, statistics.dropped) == (1, {})
    (event,) = events
    assert event["span_id"] == str(RUN)
    if "parent_run_id" in call.kwargs:
        assert event["parent_span_id"] == str(PARENT)
        assert event["trace_id"] == str(RUN), "nobody has seen its parent"
    assert event["tags"] == ["t1"]
    for name_, value in call.fields.items():
        assert event[name_] == value, name_
    if name.endswith("_error"):
        assert _error_fields(event)
    if "more" in call.kwargs:
        assert event["data"]["more"] == "kept"


@both_handlers
def test_the_rest_of_the_payload_is_there_too(sync: bool, tmp_path: Path) -> None:
    """Retry state, agent steps, hyperparameters and what LangChain serialized are all kept."""

    def use(do: Callable[..., None], _: Any) -> None:
        for name in ("on_retry", "on_agent_action", "on_agent_finish", "on_llm_start"):
            do(name, *CALLS[name].args, **CALLS[name].kwargs)

    _, (retry, action, finish, start) = track(tmp_path, use, sync=sync)
    assert retry["data"]["attempt"] == 2
    assert retry["data"]["idle_seconds"] == 0.5
    assert retry["data"]["wait_seconds"] == 1.5
    assert retry["data"]["error"]["message"] == "went wrong"
    assert (action["data"]["tool"], action["data"]["tool_input"]) == ("search", "age")
    assert finish["data"]["return_values"] == {"output": "117"}
    assert start["data"]["serialized"] == SERIALIZED
    assert start["data"]["invocation_params"] == {"model": "m-1", "temperature": 0.5}
    assert start["attributes"]["gen_ai.request.model"] == "m-1"
    assert start["attributes"]["gen_ai.request.temperature"] == 0.5


@both_handlers
@pytest.mark.parametrize("ending", ["on_llm_end", "on_llm_error"])
@pytest.mark.parametrize("token", ["on_llm_new_token", "on_stream_event"])
def test_tokens_become_one_stream_record(
    token: str, ending: str, sync: bool, tmp_path: Path
) -> None:
    """By default tokens are no events: the end or error of the call holds their text and times."""

    def use(do: Callable[..., None], _: Any) -> None:
        do("on_llm_start", SERIALIZED, ["p"], **COMMON)
        for _number in range(3):
            do(token, *CALLS[token].args, **COMMON)
        do(ending, *CALLS[ending].args, **COMMON)

    _, events = track(tmp_path, use, sync=sync)
    assert [event["event"] for event in events] == ["llm_start", ending.removeprefix("on_")]
    stream = events[1]["data"]["stream"]
    assert (stream["text"], stream["count"]) == ("toktoktok", 3)
    assert stream["time_to_first_token"] >= 0
    assert len(stream["inter_token_times"]) == 2
    assert min(stream["inter_token_times"]) >= 0


@both_handlers
def test_tokens_each_keeps_every_token(sync: bool, tmp_path: Path) -> None:
    """With tokens="each" every token and every protocol event is an event of its own."""
    chunk = ChatGenerationChunk(message=AIMessageChunk(content="tok"))

    def use(do: Callable[..., None], _: Any) -> None:
        do("on_llm_new_token", "tok", chunk=chunk, **COMMON)
        do("on_stream_event", {"event": "message-start", "id": "m"}, **COMMON)
        do("on_llm_end", RESULT, **COMMON)

    _, (token, event, end) = track(tmp_path, use, sync=sync, tokens="each")
    assert token["event"] == "llm_new_token"
    assert token["data"]["token"] == "tok"
    assert token["data"]["chunk"]["text"] == "tok"
    assert event["event"] == "stream_event"
    assert event["data"]["event"] == {"event": "message-start", "id": "m"}
    assert "stream" not in end.get("data", {})


@both_handlers
def test_tokens_none_keeps_none(sync: bool, tmp_path: Path) -> None:
    """With tokens="none" neither tokens nor stream records are kept."""

    def use(do: Callable[..., None], _: Any) -> None:
        do("on_llm_new_token", "tok", **COMMON)
        do("on_stream_event", *CALLS["on_stream_event"].args, **COMMON)
        do("on_llm_end", RESULT, **COMMON)

    _, (end,) = track(tmp_path, use, sync=sync, tokens="none")
    assert "stream" not in end.get("data", {})


# -- poison ---------------------------------------------------------------------------------------


class ReprRaises:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class BoolRaises:
    def __bool__(self) -> bool:
        raise RuntimeError("neither true nor false")


class EverythingRaises:
    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"no {name}")

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not to be compared")

    def __hash__(self) -> int:
        raise RuntimeError("not to be hashed")


class HostileDict(dict[str, Any]):
    def items(self) -> Any:
        raise RuntimeError("no items")


class HostileError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no str")


class Model(pydantic.BaseModel):
    number: int = 1
    nested: dict[str, Any] = {}


@dataclass
class Data:
    value: Any = None


def _cycle() -> list[Any]:
    items: list[Any] = [1]
    items.append(items)
    return items


def _deep() -> list[Any]:
    items: list[Any] = []
    for _ in range(5_000):
        items = [items]
    return items


POISON: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "nan": lambda: {"x": float("nan"), "y": [float("inf")]},
    "lone surrogate": lambda: "a\ud800b",
    "nul": lambda: "a\x00b",
    "non-string keys": lambda: {1: "a", "1": "b", (1, 2): "c", None: "d"},
    "bytes": lambda: b"\xff\x00",
    "huge integer": lambda: 10**5000,
    "numpy": lambda: {"a": np.arange(3), "b": np.float32(1.5), "c": np.array(["x"], dtype=object)},
    "pydantic": lambda: Model(nested={"k": {1, 2}}),
    "dataclass": lambda: Data(Data(b"x")),
    "exception": lambda: HostileError("x"),
    "cycle": _cycle,
    "deep": _deep,
    "generator": lambda: (number for number in range(3)),
    "lambda": lambda: lambda: None,
    "class": lambda: int,
    "decimal": lambda: Decimal("1.10"),
    "message with an array": lambda: ToolMessage("x", tool_call_id="1", artifact=np.arange(3)),
    "message with tool calls": lambda: AIMessage(
        "", tool_calls=[{"name": "f", "args": {"x": 1}, "id": "1"}]
    ),
    "repr raises": ReprRaises,
    "bool raises": BoolRaises,
    "everything raises": EverythingRaises,
    "hostile dict": lambda: HostileDict(a=1),
    "object in a dict": lambda: {"o": EverythingRaises(), "beside": 1},
}

PAYLOADS: dict[str, Callable[[Any], tuple[Any, ...]]] = {
    "on_chain_start": lambda poison: (None, poison),
    "on_chain_end": lambda poison: (poison,),
    "on_llm_start": lambda poison: (None, [poison]),
    "on_chat_model_start": lambda poison: (None, [[poison]]),
    "on_llm_end": lambda poison: (
        LLMResult.model_construct(
            generations=[[Generation.model_construct(text="t", generation_info={"p": poison})]]
        ),
    ),
    "on_tool_start": lambda poison: (None, poison),
    "on_tool_end": lambda poison: (poison,),
    "on_retriever_start": lambda poison: (None, poison),
    "on_retriever_end": lambda poison: ([poison],),
    "on_agent_action": lambda poison: (poison,),
    "on_agent_finish": lambda poison: (poison,),
    "on_text": lambda poison: (poison,),
    "on_retry": lambda poison: (SimpleNamespace(outcome=None, attempt_number=poison),),
    "on_custom_event": lambda poison: ("name", poison),
}


@both_handlers
@pytest.mark.parametrize("poison", sorted(POISON))
def test_a_payload_of_any_kind_is_stored(poison: str, sync: bool, tmp_path: Path) -> None:
    """What cannot be encoded is stored as a marker: no event is lost, and nothing raises."""

    def use(do: Callable[..., None], _: Any) -> None:
        for name, make in PAYLOADS.items():
            do(name, *make(POISON[poison]()), run_id=uuid.uuid4(), metadata={"m": 1})

    statistics, events = track(tmp_path, use, sync=sync)
    assert statistics.dropped == {}
    assert [event["event"] for event in events] == [name[3:] for name in PAYLOADS]
    starts = sum(name.endswith("_start") for name in PAYLOADS)
    assert_exactly_once_without_spans(tmp_path, len(PAYLOADS) + starts)


def assert_exactly_once_without_spans(folder: Path, accepted: int) -> None:
    """As the auditor asks, but for spans: these callbacks are called without their start."""
    audit = audit_folder(folder)
    problems = [problem for problem in audit.problems if "the span " not in problem]
    assert (problems, audit.events) == ([], accepted)


@both_handlers
def test_a_part_that_cannot_be_encoded_costs_only_itself(sync: bool, tmp_path: Path) -> None:
    """The marker stands where the value stood; what lies beside it is kept as it is."""
    value = {
        "bad": EverythingRaises(),
        "good": "kept",
        "tool": ToolMessage("text", tool_call_id="1", artifact=np.arange(3)),
    }
    _, (event,) = track(tmp_path, lambda do, _: do("on_chain_end", value, run_id=RUN), sync=sync)
    outputs = event["outputs"]
    assert outputs["good"] == "kept"
    assert outputs["bad"]["$type"].endswith("EverythingRaises")
    assert outputs["tool"]["content"] == "text"
    assert outputs["tool"]["artifact"] == [0, 1, 2]


@both_handlers
@pytest.mark.parametrize("name", sorted(CALLS))
def test_poison_in_any_argument_never_raises(name: str, sync: bool, tmp_path: Path) -> None:
    """Whatever stands in whatever argument: nothing is raised, and each call is accounted for."""
    call = CALLS[name]

    def poisoned() -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
        for make in POISON.values():
            for index in range(len(call.args)):
                args = list(call.args)
                args[index] = make()
                yield tuple(args), call.kwargs
            # Not the identity: LangChain makes that itself, it is not the chain's.
            for key in {*call.kwargs, "invocation_params", "inputs"} - {"run_id", "parent_run_id"}:
                yield call.args, {**call.kwargs, key: make()}
            yield (), {}
            yield (make(),) * 5, {"run_id": RUN}

    calls = list(poisoned())

    def use(do: Callable[..., None], _: Any) -> None:
        for number, (args, kwargs) in enumerate(calls):
            # Each of another run: a second start of one that is open is the same start.
            mine = {"run_id": uuid.UUID(int=1_000 + number)} if "run_id" in kwargs else {}
            do(name, *args, **{**kwargs, **mine})

    statistics, events = track(tmp_path, use, sync=sync, tokens="each")
    assert statistics.accepted == len(events)
    assert set(statistics.dropped) <= {"capture_failed"}
    assert statistics.accepted + statistics.dropped.get("capture_failed", 0) == len(calls)
    assert statistics.accepted > len(calls) / 3, "most of them have something to store"


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()))
    | st.binary()
    | st.sampled_from(sorted(POISON)).map(lambda name: POISON[name]()),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=4)
        | st.builds(Data, inner)
    ),
    max_leaves=10,
)


def test_any_structure_is_stored(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Property: a chain's outputs of any structure are one event each, and the neighbours too."""
    folder = tmp_path_factory.mktemp("any")
    with tracker(folder) as handler:

        @settings(max_examples=150, deadline=None, database=None)
        @given(anything)
        def call(value: Any) -> None:
            before = handler.statistics().accepted
            handler.on_chain_end(value, run_id=uuid.uuid4())
            assert handler.statistics().accepted == before + 1

        call()
        handler.on_chain_end("the last", run_id=RUN)
    statistics = handler.statistics()
    assert statistics.dropped == {}
    events = events_in_folder(folder)
    assert len(events) == statistics.accepted > 150
    assert events[-1]["outputs"] == "the last"


@both_handlers
def test_what_is_stored_is_the_value_at_the_call(sync: bool, tmp_path: Path) -> None:
    """A list that changes after the call does not change the log."""
    value = {"items": [1]}
    with tracker(tmp_path) as handler:
        if sync:
            handler.on_chain_end(value, run_id=RUN)
        else:
            asyncio.run(AsyncHandler(handler._sink).on_chain_end(value, run_id=RUN))
        value["items"].append(2)
    (event,) = events_in_folder(tmp_path)
    assert event["outputs"] == {"items": [1]}


def test_callbacks_of_one_run_keep_their_order(tmp_path: Path) -> None:
    """Sequence numbers follow the order of the calls, and spans are whole."""

    def use(do: Callable[..., None], _: Any) -> None:
        for number in range(50):
            run_id = uuid.UUID(int=100 + number)
            do("on_chain_start", None, number, run_id=run_id)
            do("on_chain_end", number, run_id=run_id)

    statistics, events = track(tmp_path, use, sync=False)
    assert [event.get("outputs", event.get("inputs")) for event in events] == [
        number for number in range(50) for _ in "se"
    ]
    assert_exactly_once(audit_folder(tmp_path), statistics.accepted)


def test_a_failed_capture_is_counted_and_warned_about_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A call that cannot be captured is counted as dropped, the next one is stored."""
    with tracker(tmp_path) as handler:
        handler.on_chain_end()  # no arguments at all
        handler.on_chain_end()
        handler.on_chain_end("fine", run_id=RUN)
    assert handler.statistics().dropped == {"capture_failed": 2}
    assert len(events_in_folder(tmp_path)) == 1
    warnings = [r for r in caplog.records if "could not capture on_chain_end" in r.message]
    assert len(warnings) == 1


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_exit_while_a_payload_is_read_passes(kind: type[BaseException], tmp_path: Path) -> None:
    """Ctrl-C, or an exit, in an object's own repr is let through; the tracker goes on.

    Nobody can tell one that the object raised from one of the user's.
    """

    class Leaving:
        def __repr__(self) -> str:
            raise kind

    with tracker(tmp_path) as handler:
        with pytest.raises(kind):
            handler.on_chain_end(Leaving(), run_id=RUN)
        handler.on_chain_end("fine", run_id=RUN)
    assert handler.statistics().accepted == handler.statistics().delivered == 1


@pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])
def test_a_subclass_may_override_a_callback(sync: bool, tmp_path: Path) -> None:
    """What a subclass defines itself is called, and finds ours with super()."""
    seen: list[str] = []
    with tracker(tmp_path, spool_dir=tmp_path / "spool") as plain:
        sink = plain._sink
        if sync:

            class Mine(SyncHandler):
                def on_chain_start(self, *args: Any, **kwargs: Any) -> None:
                    seen.append("mine")
                    super().on_chain_start(*args, **kwargs)

            Mine(sink).on_chain_start(None, {"a": 1}, run_id=RUN)
        else:

            class MineToo(AsyncHandler):
                async def on_chain_start(self, *args: Any, **kwargs: Any) -> None:
                    seen.append("mine")
                    await super().on_chain_start(*args, **kwargs)

            asyncio.run(MineToo(sink).on_chain_start(None, {"a": 1}, run_id=RUN))
    assert seen == ["mine"]
    assert sum(event["event"] == "chain_start" for event in events_in_folder(tmp_path)) == 1


def test_each_request_gets_its_own_attributes(tmp_path: Path) -> None:
    """Attributes are remembered by all that they depend on: also None from NaN, 1 from True."""
    values: list[Any] = [0.5, 1, True, 1.0, None, float("nan"), "1", 0.5, [1], ["a"], 0, 1]
    with tracker(tmp_path, spool_dir=tmp_path / "spool") as handler:
        for value in values:
            handler.on_chat_model_start(
                SERIALIZED | {"kwargs": {}},
                [[HumanMessage("hi")]],
                run_id=uuid.uuid4(),
                metadata={"ls_provider": "p"},
                invocation_params={"temperature": value, "seed": 1},
            )
    found = [
        event["attributes"].get("gen_ai.request.temperature")
        for event in events_in_folder(tmp_path)
        if event["event"] == "chat_model_start"
    ]
    nan = {"$type": "float", "value": "nan"}
    expected = [0.5, 1, True, 1.0, None, nan, "1", 0.5, None, ["a"], 0, 1]
    assert list(map(repr, found)) == list(map(repr, expected))


def test_parameters_that_are_no_mapping_are_the_callers_mistake(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said what is taken, and nobody is asked to report it."""
    with tracker(tmp_path) as handler:
        for wrong in (None, [("a", 1)]):
            handler.log_parameters(wrong)  # type: ignore[arg-type]  # on purpose
        handler.log_parameters({"a": 1})
    assert handler.statistics().dropped == {"invalid_parameters": 2}
    assert len(events_in_folder(tmp_path)) == 1
    assert "takes a mapping of names to values, not NoneType" in caplog.text
    assert "report" not in caplog.text


def test_a_copied_handler_is_the_handler(tmp_path: Path) -> None:
    """As with LangChain's own tracers: a copied model or config goes on to be tracked."""
    with tracker(tmp_path) as handler:
        assert copy.copy(handler) is handler
        assert copy.deepcopy({"callbacks": [handler]})["callbacks"][0] is handler
        FakeListLLM(responses=["a"], callbacks=[handler]).model_copy(deep=True).invoke("b")
        with pytest.raises(TypeError, match=r"Call tracker\(\.\.\.\) in the other process"):
            pickle.dumps(handler)
    assert [one["event"] for one in events_in_folder(tmp_path)] == ["llm_start", "llm_end"]


async def test_a_copied_asynchronous_handler_is_the_handler(tmp_path: Path) -> None:
    """The same."""
    async with tracker(tmp_path) as handler:
        assert copy.copy(handler) is handler and copy.deepcopy(handler) is handler
