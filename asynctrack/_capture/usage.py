"""What a model call used: from the forms in which LangChain's integrations say it to attributes.

A message's ``usage_metadata`` is LangChain's own form, and most integrations fill it in. Where it
says nothing, the provider's form counts: in the message's ``response_metadata``, else in the
generation's ``generation_info``, else in the result's ``llm_output``. The names are those of
OpenTelemetry's semantic conventions for generative AI. As there, the input includes what was read
from and written to the provider's cache, and the output includes reasoning, however the provider
says it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeGuard

from asynctrack._common.measured import (
    AUDIO_INPUT,
    AUDIO_OUTPUT,
    CACHE_READ,
    CACHE_WRITE,
    INPUT,
    OUTPUT,
    REASONING,
)

CACHE_HIT: Final = "langchain.cache_hit"
"""Whether the answer came from LangChain's cache: the provider was not asked, nothing was used."""

# Where a provider's form lies in what LangChain has of an answer. It may also lie there openly,
# as that of Ollama and of several gateways does.
_PLACES: Final = (
    "usage_metadata",  # Vertex AI and Gemini as text models; Bedrock's streams
    "token_usage",  # OpenAI and all that are like it: Azure, Mistral, Groq, watsonx, Fireworks, …
    "usage",  # Anthropic, Bedrock
    "token_count",  # Cohere
    "amazon-bedrock-invocationMetrics",  # Bedrock's streams of older versions
    "meta",  # Cohere
)
_WITHIN: Final = ("tokens", "billed_units")  # Cohere

# Counts that a provider has beside its input, or its output, and not in it; and parts of one.
_READ_BESIDE: Final = "read beside"
_WRITTEN_BESIDE: Final = "written beside"
_THOUGHTS_BESIDE: Final = "thoughts beside"
_KEPT_5M: Final = "kept for five minutes"
_KEPT_1H: Final = "kept for an hour"
_BESIDE: Final = frozenset({_READ_BESIDE, _WRITTEN_BESIDE, _THOUGHTS_BESIDE, _KEPT_5M, _KEPT_1H})
_WHOLE: Final = frozenset({INPUT, OUTPUT})

_NAMES: Final = {
    "input_tokens": INPUT,  # LangChain, Anthropic, Cohere, OpenAI's Responses
    "output_tokens": OUTPUT,
    "prompt_tokens": INPUT,  # OpenAI, Bedrock's InvokeModel
    "completion_tokens": OUTPUT,
    "prompt_token_count": INPUT,  # Vertex AI, Gemini
    "candidates_token_count": OUTPUT,
    "cached_content_token_count": CACHE_READ,
    "thoughts_token_count": _THOUGHTS_BESIDE,
    "inputTokens": INPUT,  # Bedrock's Converse
    "outputTokens": OUTPUT,
    "cacheReadInputTokens": _READ_BESIDE,
    "cacheWriteInputTokens": _WRITTEN_BESIDE,
    "inputTokenCount": INPUT,  # Bedrock's streams
    "outputTokenCount": OUTPUT,
    "cacheReadInputTokenCount": _READ_BESIDE,
    "cacheWriteInputTokenCount": _WRITTEN_BESIDE,
    "cache_read_input_tokens": _READ_BESIDE,  # Anthropic, Bedrock's InvokeModel
    "cache_creation_input_tokens": _WRITTEN_BESIDE,
    "cache_write_input_tokens": _WRITTEN_BESIDE,
    "prompt_cache_hit_tokens": CACHE_READ,  # DeepSeek
    "input_token_count": INPUT,  # watsonx of langchain-community
    "generated_token_count": OUTPUT,
    "prompt_eval_count": INPUT,  # Ollama
    "eval_count": OUTPUT,
}
_INPUT_DETAILS: Final = {
    "cache_read": CACHE_READ,  # LangChain; ChatOpenAI puts the service tier before it
    "priority_cache_read": CACHE_READ,
    "flex_cache_read": CACHE_READ,
    "cache_creation": CACHE_WRITE,
    "priority_cache_creation": CACHE_WRITE,
    "flex_cache_creation": CACHE_WRITE,
    "ephemeral_5m_input_tokens": _KEPT_5M,  # Anthropic and Bedrock, and then not in the above
    "ephemeral_1h_input_tokens": _KEPT_1H,
    "audio": AUDIO_INPUT,
    "cached_tokens": CACHE_READ,  # OpenAI
    "cache_write_tokens": CACHE_WRITE,
    "audio_tokens": AUDIO_INPUT,
}
_OUTPUT_DETAILS: Final = {
    "reasoning": REASONING,  # LangChain
    "priority_reasoning": REASONING,
    "flex_reasoning": REASONING,
    "audio": AUDIO_OUTPUT,
    "reasoning_tokens": REASONING,  # OpenAI
    "audio_tokens": AUDIO_OUTPUT,
    "thinking_tokens": REASONING,  # Anthropic
}
_DETAILS: Final = {
    "input_token_details": _INPUT_DETAILS,  # LangChain
    "output_token_details": _OUTPUT_DETAILS,
    "prompt_tokens_details": _INPUT_DETAILS,  # OpenAI
    "completion_tokens_details": _OUTPUT_DETAILS,
    "input_tokens_details": _INPUT_DETAILS,  # OpenAI's Responses
    "output_tokens_details": _OUTPUT_DETAILS,
}

Counts = dict[str, int]
"""Counts by attribute."""


def usage_of(message: Any, generation: Any, output: Any) -> Counts:
    """Return what the request of a generation used; nothing where that is not said.

    Args:
        message: The generation's message, or None.
        generation: LangChain's ``Generation``, or whatever was passed instead.
        output: The result's ``llm_output``.
    """
    usage = getattr(message, "usage_metadata", None)
    if is_mapping(usage) and usage:
        # LangChain's mark on a chat model's answer from its cache. It may also be on the answer
        # that was put there a moment ago, which has an output of its own. For a text model's
        # answer from the cache LangChain calls no callback.
        of_its_own = is_mapping(output) and output
        if "total_cost" in usage and _count(usage["total_cost"]) == 0 and not of_its_own:
            return {INPUT: 0, OUTPUT: 0, CACHE_HIT: True}
        counts = _of_message(usage)
        if counts:
            return counts
    counts = _of_place(getattr(message, "response_metadata", None))
    return counts or _of_place(getattr(generation, "generation_info", None))


def usage_of_all(prompts: Sequence[Counts], output: Any) -> dict[str, Any]:
    """Return what a model call used: its prompts add up, or else its output says it.

    Args:
        prompts: What the request of each prompt used, where that is said.
        output: The result's ``llm_output``.
    """
    if len(prompts) == 1:
        return prompts[0]
    if prompts:
        names = {name for one in prompts for name in one if name != CACHE_HIT}
        sums = {name: sum(one.get(name, 0) for one in prompts) for name in sorted(names)}
        return {name: count for name, count in sums.items() if count < 2**63}
    # LangChain hands the output of several prompts to each of them, and empties the usage for
    # all but the first.
    if not is_mapping(output) or (is_mapping(one := output.get("token_usage")) and not one):
        return {}
    return _of_place(output)


def message_of(generation: Any) -> Any:
    """Return the message of a generation; None where it has none."""
    # Asking a Pydantic object for a field that it lacks takes 2 us.
    fields = getattr(generation, "__dict__", None)
    return fields.get("message") if fields else None


def is_mapping(value: Any) -> TypeGuard[Mapping[str, Any]]:
    """Return whether something is a mapping."""
    # Asking the abstract class takes ten times as long; nearly all are dictionaries or None.
    return type(value) is dict or (value is not None and isinstance(value, Mapping))


def _of_message(usage: Mapping[str, Any]) -> Counts:
    """Return the counts of LangChain's own form: as ``_of_form``, and faster."""
    read, written = usage.get("input_tokens"), usage.get("output_tokens")
    if type(read) is not int or type(written) is not int or not 0 <= read <= read + written < 2**63:
        return _of_form(usage)
    found: Counts = {INPUT: read, OUTPUT: written}
    if "input_token_details" in usage:
        _add_details(found, _INPUT_DETAILS, usage["input_token_details"])
    if "output_token_details" in usage:
        _add_details(found, _OUTPUT_DETAILS, usage["output_token_details"])
    return _within(found, usage) if len(found) > 2 else found


def _of_place(place: Any) -> Counts:
    """Return the counts of the first form in it that has some."""
    if not is_mapping(place) or not place:
        return {}
    for name in _PLACES:
        form = place.get(name)
        if is_mapping(form):
            counts = _of_form(form)
            for within in _WITHIN:
                counts = counts or _of_form(form.get(within))
            if counts:
                return counts
    return _of_form(place)


def _of_form(form: Any) -> Counts:
    """Return the counts of a form, LangChain's or a provider's; nothing without input and output.

    The first of several names for a count is the one that counts. Details that are zero are left
    out: many say so of all that they know.
    """
    if not is_mapping(form):
        return {}
    found: Counts = {}
    details: list[tuple[Mapping[str, str], Any]] = []
    for name, value in form.items():
        attribute = _NAMES.get(name)
        if attribute is not None:
            count = _count(value)
            if count or (count == 0 and attribute in _WHOLE):
                found.setdefault(attribute, count)
        elif name in _DETAILS:
            details.append((_DETAILS[name], value))
    if INPUT not in found and OUTPUT not in found:
        return {}
    for names, value in details:
        _add_details(found, names, value)
    return _within(found, form) if len(found) > 2 else found


def _add_details(found: Counts, names: Mapping[str, str], details: Any) -> None:
    if is_mapping(details):
        for name, detail in details.items():
            if detail and name in names and (count := _count(detail)):
                found.setdefault(names[name], count)


def _within(found: Counts, form: Mapping[str, Any]) -> Counts:
    """Return counts so that the input and the output include all others, as far as known."""
    read, written = found.get(INPUT, 0), found.get(OUTPUT, 0)
    if _BESIDE.isdisjoint(found):
        if REASONING in found:
            total = _count(form.get("total_tokens"))
            # ChatVertexAI leaves reasoning out of the output, and has it in the total.
            if total == read + written + found[REASONING]:
                found[OUTPUT] = written + found[REASONING]
        return found
    for beside, attribute in ((_READ_BESIDE, CACHE_READ), (_WRITTEN_BESIDE, CACHE_WRITE)):
        if beside in found:
            found[attribute] = found.pop(beside)
            read += found[attribute]
    if _THOUGHTS_BESIDE in found:
        found[REASONING] = found.pop(_THOUGHTS_BESIDE)
        written += found[REASONING]
    kept = found.pop(_KEPT_5M, 0) + found.pop(_KEPT_1H, 0)
    if kept:
        found.setdefault(CACHE_WRITE, kept)
    if read or INPUT in found:
        found[INPUT] = read
    if written or OUTPUT in found:
        found[OUTPUT] = written
    return {name: count for name, count in found.items() if count < 2**63}


def _count(value: Any) -> int | None:
    """Return what may be counted on: a whole number, 0 or more, of 63 bits; None for others."""
    if type(value) is int:
        return value if 0 <= value < 2**63 else None
    if type(value) is float and value.is_integer() and 0 <= value < 2**63:  # Cohere's are floats
        return int(value)
    return None
