"""A chat model that answers from the log."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from pydantic import BaseModel

from asynctrack import (
    NotFoundError,
    NotLoggedError,
    OptionError,
    ReplayedError,
    open_run,
    tracker,
)
from asynctrack.testing import replay_model
from tests.testing.scripted import Scripted, answer, call, told, whole

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
Log = Callable[..., str]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """Logs what a function does with a model; returns where."""

    def run(script: list[Any], use: Callable[[Any, Any], Any], **options: Any) -> str:
        folder = str(tmp_path / "runs")
        of_model = {
            name: options.pop(name) for name in ("size", "model", "name") if name in options
        }
        with tracker(folder, run_name="one", **options) as handler:
            use(Scripted(script=script, **of_model), {"callbacks": [handler]})
        return folder

    return run


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


class Joke(BaseModel):
    """A joke."""

    setup: str
    laughs: int


def test_an_answer_has_all_that_was_logged(log: Log) -> None:
    """Text, usage with its details, finish reason and the model's name come back; the id is new."""
    asked = [SystemMessage("Be brief"), HumanMessage("hi", id="1")]
    first = answer("Hello", id="msg_1")
    folder = log([first], lambda model, config: model.invoke(asked, config))
    model = replay_model(folder)
    given = model.invoke([("system", "Be brief"), ("user", "hi")])
    assert told(given) == told(first)
    assert given.id != "msg_1"
    assert type(given) is AIMessage


def test_the_same_question_is_answered_in_logged_order(log: Log) -> None:
    """Each answer comes once, and the last one again after that."""

    def twice(model: Any, config: Any) -> None:
        for question in ("a", "b", "a"):
            model.invoke(question, config)

    folder = log([answer("1"), answer("2"), answer("3")], twice)
    model = replay_model(folder)
    assert [model.invoke(one).text for one in ("a", "a", "b", "a")] == ["1", "3", "2", "3"]
    assert replay_model(folder).invoke("a").text == "1"


def test_a_copy_answers_from_the_same_log(log: Log) -> None:
    """As libraries copy models: what one of them has answered, the other does not answer again."""
    folder = log(
        [answer("one"), answer("two")],
        lambda model, config: [model.invoke("again", config) for _ in range(2)],
    )
    model = replay_model(folder)
    copies = [deepcopy(model), model.model_copy()]
    assert [one.invoke("again").content for one in copies] == ["one", "two"]


def test_what_changes_from_call_to_call_does_not_matter(log: Log) -> None:
    """Ids of messages and calls, usage of earlier answers and the shape of a text are left out."""
    asked = [
        HumanMessage("1+2?", id="x"),
        call("add", 1, a=1, b=2),
        ToolMessage("3", tool_call_id="call_1", name="add", id="y"),
    ]
    folder = log([answer("3")], lambda model, config: model.invoke(asked, config))
    again = [
        HumanMessage([{"type": "text", "text": "1+2?"}]),
        AIMessage("", tool_calls=[{"name": "add", "args": {"a": 1, "b": 2}, "id": "z"}]),
        ToolMessage("3", tool_call_id="z"),
    ]
    assert replay_model(folder).invoke(again).text == "3"
    with pytest.raises(NotLoggedError, match="message 3 differs"):
        replay_model(folder).invoke([*again[:2], ToolMessage("4", tool_call_id="z")])


def test_an_unknown_question_shows_the_nearest(log: Log) -> None:
    """The error has the nearest prompt, where it differs, and the trace that it is of."""
    system = "You are a bot. " * 40

    def use(model: Any, config: Any) -> None:
        model.invoke([("system", system), ("user", "Tell me a joke about fish")], config)
        model.invoke([("system", system), ("user", "What is the weather?")], config)

    folder = log([answer("1"), answer("2")], use)
    nearest = next(open_run(folder).traces())
    with pytest.raises(NotLoggedError) as caught:
        replay_model(folder).invoke(
            [("system", system), ("user", "Tell me a joke about \x1b[31mcats")]
        )
    text = str(caught.value)
    assert nearest.trace_id in text and "message 2 differs" in text
    assert "logged: user: Tell me a joke about fish" in text
    assert "asked:  user: Tell me a joke about \\x1b[31mcats" in text
    with pytest.raises(NotLoggedError, match=r"message 2, .*fish.*is logged, and not asked"):
        replay_model(folder).invoke([("system", system)])
    with pytest.raises(NotLoggedError, match="message 3, 'user: now', is asked, and not logged"):
        more = [("system", system), ("user", "What is the weather?"), ("user", "now")]
        replay_model(folder).invoke(more)


def test_tools_of_other_names_are_another_question(log: Log) -> None:
    """Names count, and neither descriptions nor what else is bound."""

    def use(model: Any, config: Any) -> None:
        model.bind_tools([add]).invoke("1+2?", config)

    folder = log([call("add", a=1, b=2)], use)
    other = add.model_copy(update={"description": "Adds"})
    bound = replay_model(folder).bind_tools([other], tool_choice="auto", temperature=0)
    assert bound.invoke("1+2?").tool_calls[0]["args"] == {"a": 1, "b": 2}
    with pytest.raises(NotLoggedError) as caught:
        replay_model(folder).invoke("1+2?")
    assert "logged: add\n  asked:  none" in str(caught.value)


def test_a_logged_error_is_raised_again(log: Log) -> None:
    """It says what the error was and where; the next call of the same answers, as it did."""

    def use(model: Any, config: Any) -> None:
        assert model.with_retry(stop_after_attempt=2, wait_exponential_jitter=False).invoke(
            "hi", config
        ).text  # fmt: skip

    folder = log([LookupError("too many requests"), answer("hello")], use)
    model = replay_model(folder)
    with pytest.raises(ReplayedError, match="LookupError: too many requests") as caught:
        model.invoke("hi")
    assert caught.value.type.endswith("LookupError")
    span = open_run(folder).traces()
    assert caught.value.span_id in {one.span_id for trace in span for one in trace.walk()}
    assert model.invoke("hi").text == "hello"


@pytest.mark.parametrize("size", [1, 4, 1000])
def test_a_stream_comes_in_as_many_pieces(log: Log, size: int) -> None:
    """Tokens, text, tools and usage of a stream are the logged ones; logged again, too."""
    scripts = [answer("Why did the fish cross the road?"), call("add", a=1, b=2)]

    def use(model: Any, config: Any) -> None:
        for question in ("joke", "sum"):
            list(model.stream(question, config))

    folder = log(list(scripts), use, size=size)
    model = replay_model(folder)
    again = f"{folder}-again"
    with tracker(again) as handler:
        for question, script in zip(("joke", "sum"), scripts, strict=True):
            chunks = list(model.stream(question, {"callbacks": [handler]}))
            assert told(whole(chunks)) == told(script)
    logged, replayed = (
        [trace.root.stream for trace in open_run(one).traces()] for one in (folder, again)
    )
    assert [one["text"] for one in logged if one] == [one["text"] for one in replayed if one]
    assert [one["count"] for one in logged if one] == [one["count"] for one in replayed if one]


def test_a_stream_that_broke_breaks_again(log: Log) -> None:
    """What had come before the error comes, and then the error."""

    def use(model: Any, config: Any) -> None:
        with pytest.raises(ConnectionError):
            list(model.stream("hi", config))

    folder = log([answer("Hello you"), ConnectionError("reset")], use)
    given = []
    with pytest.raises(ReplayedError, match="ConnectionError: reset"):
        given.extend(chunk.text for chunk in replay_model(folder).stream("hi"))
    assert given == ["Hel", "lo ", "you"]


def test_an_agent_works_offline(log: Log) -> None:
    """create_agent asks, calls tools and answers as logged, also where LangGraph streams tokens."""
    script = [call("add", a=1, b=2), answer("It is 3.")]

    def use(model: Any, config: Any) -> Any:
        return create_agent(model, [add], system_prompt="Add.").invoke(
            {"messages": [("user", "1+2?")]}, config
        )

    folder = log(list(script), use)
    agent = create_agent(replay_model(folder), [add], system_prompt="Add.")
    messages = agent.invoke({"messages": [("user", "1+2?")]})["messages"]
    assert [told(one) for one in messages if isinstance(one, AIMessage)] == [
        told(one) for one in script
    ]
    agent = create_agent(replay_model(folder), [add], system_prompt="Add.")
    streamed = agent.stream({"messages": [("user", "1+2?")]}, stream_mode="messages")
    texts = [one.text for one, _ in streamed if one.type == "AIMessageChunk"]
    assert "".join(texts) == "It is 3."


@pytest.mark.parametrize("way", ["tool", "json"])
def test_structured_output(log: Log, way: str) -> None:
    """A schema's object comes of a logged tool call, and of JSON that the model answered."""
    data = {"setup": "Why?", "laughs": 3}
    first = call("Joke", **data) if way == "tool" else answer('{"setup": "Why?", "laughs": 3}')

    def use(model: Any, config: Any) -> None:
        bound = model.bind_tools([Joke]) if way == "tool" else model
        bound.invoke("joke", config)

    folder = log([first], use)
    model = replay_model(folder)
    assert model.with_structured_output(Joke).invoke("joke") == Joke(**data)
    raw = model.with_structured_output(Joke, include_raw=True).invoke("joke")
    assert raw["parsed"] == Joke(**data) and raw["parsing_error"] is None
    assert told(raw["raw"]) == told(first)
    schema = {"title": "Joke", "type": "object", "properties": {"setup": {"type": "string"}}}
    assert model.with_structured_output({**schema, "description": "x"}).invoke("joke") == data


def test_structured_output_that_is_none(log: Log) -> None:
    """An answer that is no object is an error of parsing, which include_raw returns."""
    folder = log([answer("no idea")], lambda model, config: model.invoke("joke", config))
    model = replay_model(folder)
    with pytest.raises(ValueError, match="neither a call of Joke nor JSON"):
        model.with_structured_output(Joke).invoke("joke")
    raw = model.with_structured_output(Joke, include_raw=True).invoke("joke")
    assert raw["parsed"] is None and "neither a call" in str(raw["parsing_error"])


async def test_async_code(log: Log) -> None:
    """ainvoke, abatch, astream and astream_events answer, and never block the event loop."""

    def use(model: Any, config: Any) -> None:
        model.batch(["a", "b"], config)
        list(model.stream("c", config))

    import asyncio

    folder = await asyncio.to_thread(log, [answer("same"), answer("same"), answer("streamed")], use)
    model = await asyncio.to_thread(replay_model, folder)
    events = [one async for one in model.astream_events("c", version="v2")]
    assert {one["name"] for one in events} == {"Scripted"}
    kinds = [one["event"] for one in events]
    assert kinds[0] == "on_chat_model_start" and kinds[-1] == "on_chat_model_end"
    assert kinds.count("on_chat_model_stream") == 4  # three pieces, and the last one
    assert (await model.ainvoke("a")).text == "same"
    assert [one.text for one in await model.abatch(["a", "b"])] == ["same", "same"]
    assert told(whole([one async for one in model.astream("c")])) == told(answer("streamed"))


def test_images_are_the_same_in_every_shape(log: Log) -> None:
    """An image counts by its bytes, in OpenAI's shape or LangChain's; another image differs."""
    url = {"url": f"data:image/png;base64,{PNG}"}
    asked = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": url}]

    def use(model: Any, config: Any) -> None:
        model.invoke([HumanMessage(asked)], config)

    model = replay_model(log([answer("A dot")], use))
    block = {"type": "image", "base64": PNG, "mime_type": "image/png"}
    assert model.invoke([HumanMessage([asked[0], block])]).text == "A dot"
    other = {**block, "base64": PNG.replace("EUg", "EUh")}
    with pytest.raises(NotLoggedError, match="message 1 differs"):
        model.invoke([HumanMessage([asked[0], other])])


def test_long_texts_and_secrets(log: Log) -> None:
    """A text that is stored once, and one with a secret in it, are found as they were asked."""
    system = "Rules. " * 2_000
    key = "sk-proj-" + "a1B2c3D4" * 6

    def use(model: Any, config: Any) -> None:
        for question in ("one", f"my key is {key}"):
            model.invoke([("system", system), ("user", question)], config)

    model = replay_model(log([answer("1"), answer("2")], use))
    assert model.invoke([("system", system), ("user", f"my key is {key}")]).text == "2"
    with pytest.raises(NotLoggedError) as caught:
        model.invoke([("system", system), ("user", f"my key is not {key}")])
    assert key not in str(caught.value)


def test_a_run_with_a_redaction_of_the_users_own(log: Log) -> None:
    """What the tracker's option cut out is cut out of what is asked, where it is given again."""

    def use(model: Any, config: Any) -> None:
        model.invoke("I am customer C-1234", config)

    folder = log([answer("Hello")], use, redact=r"C-\d+")
    model = replay_model(folder, redact=r"C-\d+")
    assert model.invoke("I am customer C-1234").text == "Hello"
    with pytest.raises(NotLoggedError, match="message 1 differs"):
        replay_model(folder).invoke("I am customer C-1234")


def test_a_run_with_cut_texts(log: Log) -> None:
    """A question of which the log has the beginning only is found; such an answer is an error."""
    long = "What is the meaning of it all? " * 10

    def use(model: Any, config: Any) -> None:
        model.invoke(long, config)
        model.invoke("short", config)

    model = replay_model(log([answer("42"), answer("x" * 500)], use, max_value_bytes=100))
    assert model.invoke(long).text == "42"
    with pytest.raises(NotLoggedError, match="longer than max_value_bytes"):
        model.invoke("short")


def test_several_models(log: Log, tmp_path: Path) -> None:
    """Calls are chosen by model and by name; a wrong one names what is there."""
    folder = str(tmp_path / "two")
    with tracker(folder, run_name="two") as handler:
        config: Any = {"callbacks": [handler]}
        Scripted(script=[answer("small")], model="gpt-small").invoke("hi", config)
        large = Scripted(script=[answer("large", response_metadata={})], model="gpt-large")
        large.with_config(run_name="Judge").invoke("hi", config)
    assert replay_model(folder, model="gpt-large").invoke("hi").text == "large"
    assert replay_model(folder, model="gpt-x-2026").invoke("hi").text == "small"
    assert replay_model(folder, name="Judge").invoke("hi").text == "large"
    with pytest.raises(NotLoggedError) as caught:
        replay_model(folder, model="gpt-larg").invoke("hi")
    assert "did you mean 'gpt-large'?" in str(caught.value)
    assert "Its models: gpt-large, gpt-small, gpt-x-2026; their names: Judge, Scripted" in str(
        caught.value
    )


def test_a_run_without_model_calls(tmp_path: Path) -> None:
    """It says so where the first answer is wanted; where there is no Run, at once."""
    with tracker(str(tmp_path / "runs")) as handler:
        RunnableLambda(str.upper).invoke("x", {"callbacks": [handler]})
    with pytest.raises(NotLoggedError, match="has no call of a chat model that ended"):
        replay_model(tmp_path / "runs").invoke("x")
    with pytest.raises(NotFoundError):
        replay_model(tmp_path / "none")
    with pytest.raises(OptionError, match="model=5"):
        replay_model(tmp_path / "runs", model=5)  # type: ignore[arg-type]  # wrong on purpose


def test_logged_again_it_is_the_model_that_was_logged(log: Log, tmp_path: Path) -> None:
    """In a new log it has the component's name, the model and the tokens of the old one."""
    folder = log([answer("hello")], lambda model, config: model.invoke("hi", config))
    again = str(tmp_path / "again")
    with tracker(again) as handler:
        replay_model(open_run(folder)).invoke("hi", {"callbacks": [handler]})
    (first,), (second,) = ([one.root for one in open_run(at).traces()] for at in (folder, again))
    for name in ("name", "kind", "model", "input_tokens", "output_tokens", "attributes"):
        assert getattr(first, name) == getattr(second, name), name
