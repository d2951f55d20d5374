"""The scripted server speaks OpenAI's interface to LangChain's own clients."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI

from asynctrack.demo._openai import LocalOpenAI, local_openai
from asynctrack.demo._openai_script import answer_text

QUESTION = (
    "Who is the oldest person alive? And what is their current age raised to the power of 1.51?"
)


@tool
def web_search(query: str) -> str:
    """Look something up."""
    return query


@tool
def calculator(expression: str) -> str:
    """Work something out."""
    return expression


@pytest.fixture
def chat(model_server: LocalOpenAI) -> Iterator[ChatOpenAI]:
    with openai.DefaultHttpxClient() as client:
        yield ChatOpenAI(
            model="gpt-4o-mini",
            base_url=model_server.base_url,
            api_key=lambda: model_server.api_key,
            http_client=client,
            stream_usage=True,
        )


@pytest.fixture
async def async_chat(model_server: LocalOpenAI) -> AsyncIterator[ChatOpenAI]:
    async with openai.DefaultAsyncHttpxClient() as client:
        yield ChatOpenAI(
            model="gpt-4o-mini",
            base_url=model_server.base_url,
            api_key=lambda: model_server.api_key,
            http_async_client=client,
        )


@pytest.fixture
def llm(model_server: LocalOpenAI) -> Iterator[OpenAI]:
    with openai.DefaultHttpxClient() as client:
        yield OpenAI(
            base_url=model_server.base_url,
            api_key=lambda: model_server.api_key,
            http_client=client,
        )


def test_a_chat_is_answered_with_its_usage(chat: ChatOpenAI) -> None:
    """A chat completion has a text about the topic, the model's name and the token usage."""
    answer = chat.invoke("Tell me a joke about fish.")
    assert isinstance(answer, AIMessage)
    assert "fish" in str(answer.content)
    assert answer.response_metadata["model_name"] == "gpt-4o-mini"
    usage = answer.usage_metadata
    assert usage is not None
    assert usage["input_tokens"] == 7  # six words and a full stop
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]


def test_a_streamed_chat_is_the_same_answer_with_the_same_usage(chat: ChatOpenAI) -> None:
    """Streaming gives the plain answer in pieces, and its usage at the end."""
    plain = chat.invoke("Tell me a joke about fish.")
    chunks = list(chat.stream("Tell me a joke about fish."))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert isinstance(whole, AIMessageChunk) and isinstance(plain, AIMessage)
    assert whole.content == plain.content
    assert len([chunk for chunk in chunks if chunk.content]) > 5
    assert whole.usage_metadata is not None and plain.usage_metadata is not None
    assert whole.usage_metadata["total_tokens"] == plain.usage_metadata["total_tokens"]


def test_completions_plain_and_streamed(llm: OpenAI) -> None:
    """The completions endpoint answers and streams the same text."""
    plain = llm.invoke("Tell me a joke about rain.")
    assert "rain" in plain
    pieces = list(llm.stream("Tell me a joke about rain."))
    assert len(pieces) > 5
    assert "".join(pieces) == plain


def test_completions_of_several_prompts(llm: OpenAI) -> None:
    """Several prompts in one request are answered in their order, with one usage."""
    result = llm.generate(["Tell me a joke about rain.", "Tell me a joke about snow."])
    first, second = (generations[0].text for generations in result.generations)
    assert "rain" in first and "snow" in second
    assert result.llm_output is not None
    assert result.llm_output["token_usage"]["prompt_tokens"] == 14


@pytest.mark.parametrize("streamed", [False, True])
def test_the_agents_question_takes_three_tools(chat: ChatOpenAI, streamed: bool) -> None:
    """The agent's question leads to two searches, a calculation and the answer."""
    model = chat.bind_tools([web_search, calculator])
    results = ["Jane Doe, born in 1909, is the oldest person.", "117 years old.", "1327.27"]
    conversation: list[Any] = [HumanMessage(QUESTION)]
    calls = []
    for result in results:
        answer: Any = _streamed(model, conversation) if streamed else model.invoke(conversation)
        (call,) = answer.tool_calls
        calls.append((call["name"], call["args"]))
        conversation += [answer, ToolMessage(result, tool_call_id=call["id"])]
    assert calls == [
        ("web_search", {"query": "oldest living person"}),
        ("web_search", {"query": "current age of Jane Doe"}),
        ("calculator", {"expression": "117 ** 1.51"}),
    ]
    final = model.invoke(conversation)
    assert isinstance(final, AIMessage) and not final.tool_calls
    assert "Jane Doe" in str(final.content) and "1327.27" in str(final.content)


def _streamed(model: Any, conversation: list[Any]) -> Any:
    whole: Any = None
    for chunk in model.stream(conversation):
        whole = chunk if whole is None else whole + chunk
    return AIMessage(content=whole.content, tool_calls=whole.tool_calls)


async def test_concurrent_conversations_do_not_mix(async_chat: ChatOpenAI) -> None:
    """Each of a hundred conversations at once is answered about its own topic."""
    prompts = [f"Tell me a joke about topic{index}x." for index in range(100)]
    answers = await asyncio.gather(*(async_chat.ainvoke(prompt) for prompt in prompts))
    for index, answer in enumerate(answers):
        assert f"topic{index}x" in str(answer.content)


def test_answers_are_deterministic(chat: ChatOpenAI) -> None:
    """The same prompt is answered in the same words, another one in other words."""
    first, again = (chat.invoke("What is this?").content for _ in range(2))
    assert first == again
    assert chat.invoke("What is that?").content != first


def test_the_react_form_of_the_agent() -> None:
    """In a text prompt the next step follows from the observations so far."""
    head = (
        "search: looks up\ncalculator: works out\n"
        "Action: the action to take, should be one of [search, calculator]\n"
        "Action Input: the input\nQuestion: the question\n\n"
        f"Question: {QUESTION}\nThought:"
    )
    assert "Action: search\nAction Input: oldest" in answer_text(head)
    step = head + " a\nAction: search\nAction Input: b\nObservation: Jane Doe.\nThought:"
    assert "Action: search\nAction Input: current age of Jane Doe" in answer_text(step)
    step += " a\nAction: search\nAction Input: b\nObservation: 117 years.\nThought:"
    assert "Action: calculator\nAction Input: 117 ** 1.51" in answer_text(step)
    step += " a\nAction: calculator\nAction Input: b\nObservation: 1327.27\nThought:"
    assert answer_text(step).endswith("Final Answer: " + answer_text(step).split(": ", 1)[1])
    assert "1327.27" in answer_text(step)


def test_a_request_it_cannot_read_is_a_bad_request(chat: ChatOpenAI) -> None:
    """A conversation without messages is refused in OpenAI's form."""
    with pytest.raises(openai.BadRequestError, match="messages"):
        chat.invoke([])


def test_the_models_are_listed(model_server: LocalOpenAI) -> None:
    """The list of models is there for clients that ask for it."""
    with urllib.request.urlopen(f"{model_server.base_url}/models", timeout=60) as answer:
        assert "gpt-4o-mini" in [model["id"] for model in json.loads(answer.read())["data"]]


def test_latency_is_waited_for_by_each_conversation_alone() -> None:
    """With a latency, concurrent answers are waited for together and not one after the other."""

    async def ask(server: LocalOpenAI) -> float:
        async with openai.AsyncOpenAI(base_url=server.base_url, api_key="any") as client:
            loop = asyncio.get_running_loop()
            await client.models.list()
            before = loop.time()
            await asyncio.gather(
                *(client.completions.create(model="m", prompt=str(n)) for n in range(40))
            )
            return loop.time() - before

    with local_openai(latency=1.0) as server:
        # It imports the rest of itself with its first client: not in an event loop.
        openai.OpenAI(base_url=server.base_url, api_key="any").close()
        taken = asyncio.run(ask(server))
    assert 1.0 <= taken < 35.0, "one after the other would take 40 seconds"
