"""OpenTelemetry's names for what LangChain says of a model call."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, Generation, LLMResult

from asynctrack._capture.attributes import prompt_name, request_attributes, response_attributes
from tests.property.strategies import json_like, quick


def test_names() -> None:
    """Metadata, parameters and serialized arguments become OpenTelemetry's names."""
    assert request_attributes(
        "chat",
        {"kwargs": {"model_name": "ignored", "seed": 7, "openai_api_key": "hush"}},
        {
            "ls_provider": "openai", "ls_model_name": "gpt", "ls_temperature": 0.1,
            "ls_max_tokens": 64, "ls_stop": ["END"], "other": "ignored",
        },
        {
            "model": "ignored", "top_p": 0.9, "frequency_penalty": 0.5, "presence_penalty": 0.25,
            "n": 2, "top_k": 40, "logprobs": True, "reasoning_effort": "low",
        },
    ) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt",
        "gen_ai.request.temperature": 0.1,
        "gen_ai.request.max_tokens": 64,
        "gen_ai.request.stop_sequences": ["END"],
        "gen_ai.request.top_p": 0.9,
        "gen_ai.request.frequency_penalty": 0.5,
        "gen_ai.request.presence_penalty": 0.25,
        "gen_ai.request.choice.count": 2,
        "gen_ai.request.top_k": 40,
        "langchain.request.logprobs": True,
        "langchain.request.reasoning_effort": "low",
        "gen_ai.request.seed": 7,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "max_output_tokens"])
def test_other_providers_names(name: str) -> None:
    """What providers call differently is one name."""
    found = request_attributes("chat", None, None, {name: 5, "model_id": "m", "stop": ("a",)})
    assert found == {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.max_tokens": 5,
        "gen_ai.request.model": "m",
        "gen_ai.request.stop_sequences": ["a"],
    }


@pytest.mark.parametrize(
    "parameters",
    [
        {"openai_api_key": "hush", "Authorization": "hush", "password": "hush"},
        {"messages": "hush", "prompt": "hush", "tools": ["hush"], "functions": ["hush"]},
        {"user": "hush", "callbacks": ["hush"], "responses": ["hush"]},
        {"default_headers": {"x-api-key": "hush"}, "extra": object(), "list": [1, "hush"]},
        {"temperature": None},
        {5: "kept", None: None},
    ],
)
def test_neither_secrets_nor_content(parameters: dict[Any, Any]) -> None:
    """Secrets, content and structures are no hyperparameters."""
    assert "hush" not in str(request_attributes("chat", None, None, parameters))


def test_nothing_known() -> None:
    """Without anything, only the operation is said."""
    assert request_attributes("text_completion", None, None, None) == {
        "gen_ai.operation.name": "text_completion"
    }


def test_usage_of_messages() -> None:
    """Token usage of all messages is added up; model and reasons are named."""
    usage = {"input_tokens": 3, "output_tokens": 5, "total_tokens": 8}
    message = AIMessage(
        content="x",
        usage_metadata=usage,
        response_metadata={"model_name": "gpt-1", "finish_reason": "stop"},
    )
    result = LLMResult(generations=[[ChatGeneration(message=message)]] * 2)
    assert response_attributes(result) == {
        "gen_ai.usage.input_tokens": 6,
        "gen_ai.usage.output_tokens": 10,
        "gen_ai.response.model": "gpt-1",
        "gen_ai.response.finish_reasons": ["stop", "stop"],
    }


def test_usage_of_the_whole_output() -> None:
    """Where messages say nothing, the output's own usage counts, by either provider's names."""
    for usage in (
        {"prompt_tokens": 3, "completion_tokens": 5},
        {"input_tokens": 3, "output_tokens": 5},
    ):
        for field in ("token_usage", "usage"):
            result = LLMResult(generations=[[Generation(text="x")]], llm_output={field: usage})
            assert response_attributes(result) == {
                "gen_ai.usage.input_tokens": 3,
                "gen_ai.usage.output_tokens": 5,
            }


def test_usage_is_not_counted_twice() -> None:
    """Usage that is said twice counts once."""
    message = AIMessage(
        content="x", usage_metadata={"input_tokens": 3, "output_tokens": 5, "total_tokens": 8}
    )
    result = LLMResult(
        generations=[[ChatGeneration(message=message)]],
        llm_output={"token_usage": {"prompt_tokens": 3, "completion_tokens": 5}},
    )
    assert response_attributes(result)["gen_ai.usage.input_tokens"] == 3


def test_generation_info() -> None:
    """Plain generations tell model and reason in their info."""
    generation = Generation(text="x", generation_info={"stop_reason": "end", "model": "m"})
    assert response_attributes(LLMResult(generations=[[generation]])) == {
        "gen_ai.response.finish_reasons": ["end"],
        "gen_ai.response.model": "m",
    }


@pytest.mark.parametrize(
    "response",
    [
        None, "text", {}, SimpleNamespace(generations=None), SimpleNamespace(generations=[]),
        SimpleNamespace(generations=[[None, "x"]], llm_output="x"),
        SimpleNamespace(
            generations=[[SimpleNamespace(message=SimpleNamespace(
                usage_metadata=SimpleNamespace(input_tokens=1), response_metadata=["odd"]
            ), generation_info="odd")]],
            llm_output={"token_usage": "odd"},
        ),
        SimpleNamespace(generations=[], llm_output={"token_usage": {"prompt_tokens": "3"}}),
    ],
    ids=str,
)  # fmt: skip
def test_odd_answers(response: Any) -> None:
    """An answer of another form has no attributes, and raises nothing."""
    assert response_attributes(response) == {}


@quick
@given(json_like)
def test_any_parameters(value: Any) -> None:
    """Whatever the parameters are, the attributes are numbers, texts and lists of texts."""
    given_values = value if isinstance(value, dict) else {"x": value}
    found = request_attributes("chat", {"kwargs": given_values}, given_values, given_values)
    for name, item in found.items():
        assert isinstance(name, str)
        assert isinstance(item, (str, int, float)) or all(isinstance(one, str) for one in item)


def test_prompt_names() -> None:
    """A prompt is called by its name, one from the hub by its place there."""
    hub = {"lc_hub_owner": "rlm", "lc_hub_repo": "rag-prompt"}
    assert prompt_name(None, None) is None
    assert prompt_name(None, "ChatPromptTemplate") == "ChatPromptTemplate"
    assert prompt_name({"kwargs": {"metadata": hub}}, "x") == "rlm/rag-prompt"
    assert prompt_name({"kwargs": {"metadata": {"lc_hub_repo": "own"}}}, "x") == "own"
    assert prompt_name({"kwargs": {"metadata": None}}, "x") == "x"
