"""What a model call used, in each form in which LangChain's integrations say it."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseLLM, FakeListLLM
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult, Generation, LLMResult

from asynctrack import open_run, tracker
from asynctrack._capture.attributes import response_attributes
from tests.property.strategies import json_like, quick
from tests.support.auditor import events_in_folder

INPUT = "gen_ai.usage.input_tokens"
OUTPUT = "gen_ai.usage.output_tokens"
READ = "gen_ai.usage.cache_read.input_tokens"
WRITE = "gen_ai.usage.cache_write.input_tokens"
REASONING = "gen_ai.usage.reasoning.output_tokens"
AUDIO_IN = "gen_ai.usage.audio.input_tokens"
AUDIO_OUT = "gen_ai.usage.audio.output_tokens"
HIT = "langchain.cache_hit"
BOTH = {INPUT: 1000, OUTPUT: 60}


def chat(usage: Any = None, info: Any = None, /, **metadata: Any) -> ChatGeneration:
    """A chat model's generation; its metadata is not what Pydantic would let in."""
    message = AIMessage("x", response_metadata=metadata)
    message.__dict__["usage_metadata"] = usage
    return ChatGeneration(message=message, generation_info=info)


def text(**info: Any) -> Generation:
    """A text model's generation."""
    return Generation(text="x", generation_info=info or None)


def result(*choices: Generation, output: Any = None) -> LLMResult:
    """The result for one prompt."""
    return LLMResult(generations=[list(choices)], llm_output=output)


def usage_of(response: Any) -> dict[str, Any]:
    """The attributes that say what was used."""
    found = response_attributes(response)
    return {name: found[name] for name in found if ".usage." in name or name == HIT}


STANDARD = {"input_tokens": 1000, "output_tokens": 60, "total_tokens": 1060}
OPENAI = {
    "prompt_tokens": 1000, "completion_tokens": 60, "total_tokens": 1060,
    "prompt_tokens_details": {"cached_tokens": 800, "audio_tokens": 5, "cache_write_tokens": None},
    "completion_tokens_details": {"reasoning_tokens": 40, "audio_tokens": 6,
                                  "accepted_prediction_tokens": 0},
}  # fmt: skip
OPENAI_COUNTS = {**BOTH, READ: 800, AUDIO_IN: 5, REASONING: 40, AUDIO_OUT: 6}
ANTHROPIC = {
    "input_tokens": 100, "output_tokens": 60, "cache_read_input_tokens": 700,
    "cache_creation_input_tokens": 200, "service_tier": "standard",
    "cache_creation": {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 0},
}  # fmt: skip
ANTHROPIC_COUNTS = {**BOTH, READ: 700, WRITE: 200}
GEMINI = {
    "prompt_token_count": 1000, "candidates_token_count": 20, "thoughts_token_count": 40,
    "cached_content_token_count": 800, "total_token_count": 1060,
    "prompt_tokens_details": [{"modality": 1, "token_count": 1000}],
}  # fmt: skip
GEMINI_COUNTS = {**BOTH, READ: 800, REASONING: 40}
WATSONX = {"completion_tokens": 60, "prompt_tokens": 1000, "total_tokens": 1060}

# The integration and its form; the result; what was used.
FORMS: list[tuple[str, LLMResult, dict[str, Any]]] = [
    ("usage_metadata", result(chat(STANDARD)), BOTH),
    (
        "usage_metadata, with details",
        result(chat({**STANDARD,
                     "input_token_details": {"audio": 5, "cache_creation": 200, "cache_read": 700},
                     "output_token_details": {"audio": 6, "reasoning": 40}})),
        {**BOTH, AUDIO_IN: 5, WRITE: 200, READ: 700, AUDIO_OUT: 6, REASONING: 40},
    ),
    (
        "ChatOpenAI, details of zero",
        result(chat({**STANDARD, "input_token_details": {"audio": 0, "cache_read": 0},
                     "output_token_details": {"audio": 0, "reasoning": 0}}, token_usage=OPENAI)),
        BOTH,
    ),
    (
        "ChatOpenAI, service tier",
        result(chat({**STANDARD,
                     "input_token_details": {"priority_cache_read": 700, "priority": 300},
                     "output_token_details": {"priority_reasoning": 40, "priority": 20}})),
        {**BOTH, READ: 700, REASONING: 40},
    ),
    ("ChatOpenAI and AzureChatOpenAI, token_usage", result(chat(token_usage=OPENAI)),
     OPENAI_COUNTS),
    (
        "ChatOpenAI, Responses",
        result(chat(usage={"input_tokens": 1000, "output_tokens": 60,
                           "input_tokens_details": {"cached_tokens": 800},
                           "output_tokens_details": {"reasoning_tokens": 40}})),
        {**BOTH, READ: 800, REASONING: 40},
    ),
    ("ChatOpenAI of langchain-community, llm_output",
     result(chat(), chat(), output={"token_usage": WATSONX, "model_name": "m"}), BOTH),
    ("OpenAI, llm_output", result(text(finish_reason="stop", logprobs=None),
                                  output={"token_usage": WATSONX, "model_name": "m"}), BOTH),
    (
        "ChatAnthropic, usage_metadata",
        result(chat({**STANDARD, "input_token_details": {
            "cache_read": 700, "cache_creation": 0, "ephemeral_5m_input_tokens": 150,
            "ephemeral_1h_input_tokens": 50}})),
        ANTHROPIC_COUNTS,
    ),
    ("ChatAnthropic, usage", result(chat(usage=ANTHROPIC, model="m")), ANTHROPIC_COUNTS),
    ("ChatAnthropic, llm_output", result(chat(), output={"usage": ANTHROPIC}), ANTHROPIC_COUNTS),
    (
        "ChatAnthropic, thinking",
        result(chat(usage={"input_tokens": 1000, "output_tokens": 60,
                           "output_tokens_details": {"thinking_tokens": 40}})),
        {**BOTH, REASONING: 40},
    ),
    (
        "ChatBedrockConverse, usage",
        result(chat(usage={"inputTokens": 100, "outputTokens": 60, "totalTokens": 1060,
                           "cacheReadInputTokens": 700, "cacheWriteInputTokens": 200})),
        ANTHROPIC_COUNTS,
    ),
    (
        "ChatBedrock, InvokeModel, llm_output",
        result(chat(), output={"usage": {
            "prompt_tokens": 100, "completion_tokens": 60, "cache_read_input_tokens": 700,
            "cache_write_input_tokens": 200, "total_tokens": 1060}, "model_id": "m"}),
        ANTHROPIC_COUNTS,
    ),
    (
        "ChatBedrock, InvokeModel, stream of older versions",
        result(chat(**{"amazon-bedrock-invocationMetrics": {
            "inputTokenCount": 1000, "outputTokenCount": 60, "invocationLatency": 5}})),
        BOTH,
    ),
    (
        "BedrockLLM, stream: a generation for each chunk",
        result(text(usage={"output_tokens": [1]}), text(stop_reason="end"),
               text(usage_metadata=STANDARD),
               output={"usage": {"prompt_tokens": 0, "completion_tokens": 0}}),
        BOTH,
    ),
    (
        "BedrockLLM, stream of older versions",
        result(text(usage={"input_tokens": [1000]}), text(usage={"output_tokens": [60]}),
               output={"usage": {"prompt_tokens": 1000, "completion_tokens": 60,
                                 "total_tokens": 1060}, "stop_reason": ""}),
        BOTH,
    ),
    (
        "ChatVertexAI, usage_metadata",
        result(chat({"input_tokens": 1000, "output_tokens": 20, "total_tokens": 1060,
                     "input_token_details": {"cache_read": 800},
                     "output_token_details": {"reasoning": 40}})),
        GEMINI_COUNTS,
    ),
    ("ChatVertexAI, response_metadata", result(chat(usage_metadata=GEMINI)), GEMINI_COUNTS),
    ("VertexAI", result(text(is_blocked=False, usage_metadata=GEMINI)), GEMINI_COUNTS),
    ("GoogleGenerativeAI", result(text(finish_reason="STOP", usage_metadata=STANDARD)), BOTH),
    (
        "ChatGoogleGenerativeAI, usage_metadata",
        result(chat({**STANDARD, "input_token_details": {"cache_read": 800},
                     "output_token_details": {"reasoning": 40}})),
        GEMINI_COUNTS,
    ),
    ("ChatOllama", result(chat(done=True, prompt_eval_count=1000, eval_count=60)), BOTH),
    ("OllamaLLM", result(text(done=True, prompt_eval_count=1000, eval_count=60)), BOTH),
    ("ChatWatsonx", result(chat(token_usage=WATSONX, model_name="m")), BOTH),
    ("WatsonxLLM", result(text(finish_reason="x"), output={"token_usage": WATSONX}), BOTH),
    (
        "WatsonxLLM of langchain-community",
        result(text(), output={"token_usage": {"generated_token_count": 60,
                                               "input_token_count": 1000}}),
        BOTH,
    ),
    ("ChatMistralAI", result(chat(token_usage=WATSONX, model_name="m", model="m")), BOTH),
    (
        "ChatCohere",  # its counts are floats
        result(chat(token_count={"input_tokens": 1000.0, "output_tokens": 60.0})), BOTH,
    ),
    (
        "Cohere, meta",
        result(text(meta={"billed_units": {"input_tokens": 900.0, "output_tokens": 50.0},
                          "tokens": {"input_tokens": 1000.0, "output_tokens": 60.0}})),
        BOTH,
    ),
    ("Cohere, billed only", result(chat(usage={"billed_units": {"input_tokens": 1000.0,
                                                                "output_tokens": 60.0}})), BOTH),
    (
        "ChatGroq",
        result(chat(token_usage={**WATSONX, "queue_time": 0.1, "prompt_time": 0.2,
                                 "completion_tokens_details": {"reasoning_tokens": 40}})),
        {**BOTH, REASONING: 40},
    ),
    (
        "ChatXAI",  # it adds reasoning to the output, as the total has it
        result(chat({**STANDARD, "output_token_details": {"reasoning": 40}})),
        {**BOTH, REASONING: 40},
    ),
    ("ChatDeepSeek", result(chat(token_usage={**WATSONX, "prompt_cache_hit_tokens": 800})),
     {**BOTH, READ: 800}),
    ("ChatMlflow", result(chat(), output=WATSONX), BOTH),
    ("ChatKinetica", result(chat(), output={"input_tokens": 1000, "output_tokens": 60}), BOTH),
    ("ChatSnowflakeCortex", result(chat(**WATSONX)), BOTH),
    ("ChatTongyi", result(chat(token_usage={"input_tokens": 1000, "output_tokens": 60})), BOTH),
]  # fmt: skip


@pytest.mark.parametrize(
    ("response", "used"), [pytest.param(*form[1:], id=form[0]) for form in FORMS]
)
def test_each_integration(response: LLMResult, used: dict[str, Any]) -> None:
    """What was used is found in every form, with the same meaning."""
    assert usage_of(response) == used


def test_choices_of_one_prompt_were_one_request() -> None:
    """With n=2 the usage that both choices repeat counts once, also where one was repaired."""
    repaired = {**STANDARD, "output_tokens": 50}
    assert usage_of(result(chat(STANDARD), chat(STANDARD))) == BOTH
    assert usage_of(result(chat(STANDARD), chat(repaired))) == BOTH
    assert usage_of(result(chat(), chat(STANDARD))) == BOTH
    output = {"token_usage": OPENAI}
    assert usage_of(result(chat(STANDARD), chat(STANDARD), output=output)) == BOTH
    assert usage_of(result(text(), text(), output=output)) == OPENAI_COUNTS


def test_prompts_add_up() -> None:
    """Several prompts were several requests."""
    with_cached = {**STANDARD, "input_token_details": {"cache_read": 7}}
    both = LLMResult(generations=[[chat(STANDARD)] * 2, [chat(with_cached)], [chat()]])
    assert usage_of(both) == {INPUT: 2000, OUTPUT: 120, READ: 7}
    too_much = {"input_tokens": 2**63 - 1, "output_tokens": 0}
    assert usage_of(LLMResult(generations=[[chat(too_much)]] * 2)) == {OUTPUT: 0}


def test_prompts_of_one_batch_count_once() -> None:
    """The output for a text model's batch counts with the first prompt; the others have it too."""
    output = {"token_usage": WATSONX, "usage": WATSONX, "model_name": "m"}
    batch = LLMResult(generations=[[text()], [text()], [text()]], llm_output=output)
    assert [usage_of(one) for one in batch.flatten()] == [BOTH, {}, {}]


class Asked(BaseChatModel):
    """A chat model that is paid for each answer."""

    output: dict[str, Any] | None = None

    @property
    def _llm_type(self) -> str:
        return "asked"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return ChatResult(generations=[chat(STANDARD)], llm_output=self.output)


class AskedText(BaseLLM):
    """A text model that is paid for each batch."""

    @property
    def _llm_type(self) -> str:
        return "asked"

    def _generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        return LLMResult(
            generations=[[text()] for _ in prompts], llm_output={"token_usage": WATSONX}
        )


def ends(folder: Path) -> list[dict[str, Any]]:
    """What was used, by the ends of model calls in a folder."""
    found = [
        {name: value for name, value in event.get("attributes", {}).items() if ".usage." in name
         or name == HIT}
        for event in events_in_folder(folder)
        if event["event"] == "llm_end"
    ]  # fmt: skip
    return sorted(found, key=lambda used: used.get(INPUT, -1))


def test_a_chat_model_s_cache_costs_nothing(tmp_path: Path) -> None:
    """An answer from LangChain's cache used nothing and says so; the Run's sums leave it out."""
    model = Asked(cache=InMemoryCache())
    with tracker(tmp_path) as handler:
        for _ in range(3):
            model.invoke("same", config={"callbacks": [handler]})
    unused = {INPUT: 0, OUTPUT: 0, HIT: True}
    assert ends(tmp_path) == [unused, unused, BOTH]
    run = open_run(tmp_path, spool_dir=False)
    assert (run.summary().input_tokens, run.summary().output_tokens) == (1000, 60)
    assert (run.metrics[INPUT].sum, run.metrics[OUTPUT].sum) == (1000, 60)


def test_the_answer_that_went_into_the_cache_counts(tmp_path: Path) -> None:
    """The mark of the cache is also on the answer put there in the same batch; it counts."""
    model = Asked(cache=InMemoryCache(), output={"token_usage": WATSONX})
    with tracker(tmp_path) as handler:
        model.generate([[AIMessage("same")], [AIMessage("same")]], callbacks=[handler])
    assert ends(tmp_path) == [{INPUT: 0, OUTPUT: 0, HIT: True}, BOTH]


def test_a_text_model_s_cache_costs_nothing(tmp_path: Path) -> None:
    """For a text model's answer from the cache LangChain calls nobody, so nothing is counted."""
    model = AskedText(cache=InMemoryCache())
    with tracker(tmp_path) as handler:
        config: Any = {"callbacks": [handler]}
        model.batch(["one", "two"], config=config)
        model.batch(["one", "two"], config=config)
        FakeListLLM(responses=["x"]).invoke("three", config=config)
    assert ends(tmp_path) == [{}, {}, BOTH]


WRONG = [True, "3", -1, 2**63, 1.5, float("inf"), float("nan"), None, [3], {"x": 3}]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_only_whole_numbers_count(wrong: Any) -> None:
    """A count that is none is not counted, and what is beside it is."""
    details = {"cache_read": wrong, "audio": 4}
    for form in (
        {"input_tokens": wrong, "output_tokens": 5, "input_token_details": details},
        {"input_tokens": wrong, "output_tokens": 5.0, "input_token_details": details},
    ):
        expected = {OUTPUT: 5, AUDIO_IN: 4}
        assert usage_of(result(chat(form))) == usage_of(result(chat(usage=form))) == expected
    assert usage_of(result(chat({"input_tokens": wrong, "output_tokens": wrong}))) == {}
    beside = {"input_tokens": 2**63 - 1, "cache_read_input_tokens": 1, "output_tokens": 5}
    assert usage_of(result(chat(usage=beside))) == {OUTPUT: 5, READ: 1}


@quick
@given(json_like, json_like, json_like, st.sampled_from(["usage", "token_usage", "meta"]))
def test_any_form(usage: Any, info: Any, output: Any, place: str) -> None:
    """Whatever is said, counts are whole numbers of 63 bits, and nothing raises."""
    hostile = {"input_tokens": info, "output_token_details": usage, "input_token_details": output}
    for response in (
        result(chat(usage, {place: info})),
        result(chat({**STANDARD, **hostile})),
        result(chat(**{place: hostile})),
        result(text(**{place: info}), output={place: output}),
    ):
        assert all(type(used) is int and 0 <= used < 2**63 for used in usage_of(response).values())


class Raises(dict[str, Any]):
    """What cannot be read."""

    def items(self) -> Any:
        raise RuntimeError("no items")


def test_a_form_that_raises() -> None:
    """What raises when it is looked at has no attributes, and raises nothing."""
    assert response_attributes(result(chat(usage=Raises(input_tokens=3)))) == {}


def test_the_sums_of_a_run(tmp_path: Path) -> None:
    """The Run's metrics have sums of cached tokens and reasoning, where there are any."""
    details = {"input_token_details": {"cache_read": 700, "cache_creation": 200},
               "output_token_details": {"reasoning": 40}}  # fmt: skip
    with tracker(tmp_path) as handler:
        for _ in range(2):
            run = uuid.uuid4()
            handler.on_llm_start({}, ["x"], run_id=run)
            handler.on_llm_end(result(chat({**STANDARD, **details})), run_id=run)
    metrics = open_run(tmp_path, spool_dir=False).metrics
    assert {name: metrics[name].sum for name in (INPUT, OUTPUT, READ, WRITE, REASONING)} == {
        INPUT: 2000, OUTPUT: 120, READ: 1400, WRITE: 400, REASONING: 80,
    }  # fmt: skip
