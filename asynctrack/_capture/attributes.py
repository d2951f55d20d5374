"""OpenTelemetry GenAI names for what LangChain says about a model call.

LangChain passes it in ``metadata`` (``ls_provider``, ``ls_model_name``, …), ``invocation_params``,
and the ``kwargs`` of ``serialized``. If they differ, the first one counts. The names come from
OpenTelemetry's semantic conventions for generative AI; what has no name there becomes
``langchain.request.<name>``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Union

from asynctrack._capture.secrets import is_secret_name
from asynctrack._capture.usage import (
    Counts,
    is_mapping,
    message_of,
    usage_of,
    usage_of_all,
)
from asynctrack._common.payload import fingerprint

Attribute = Union[str, float, int, bool, "list[str]"]

# LangChain's or a provider's name -> OpenTelemetry's.
_REQUEST_NAMES = {
    "model": "gen_ai.request.model",
    "model_name": "gen_ai.request.model",
    "model_id": "gen_ai.request.model",
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "top_k": "gen_ai.request.top_k",
    "max_tokens": "gen_ai.request.max_tokens",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "max_output_tokens": "gen_ai.request.max_tokens",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "seed": "gen_ai.request.seed",
    "stop": "gen_ai.request.stop_sequences",
    "stop_sequences": "gen_ai.request.stop_sequences",
    "n": "gen_ai.request.choice.count",
}
_METADATA_NAMES = {
    "ls_provider": "gen_ai.provider.name",
    "ls_model_name": "gen_ai.request.model",
    "ls_temperature": "gen_ai.request.temperature",
    "ls_max_tokens": "gen_ai.request.max_tokens",
    "ls_stop": "gen_ai.request.stop_sequences",
}
# Parts of the request that are content or plumbing, not hyperparameters.
_NOT_PARAMETERS = frozenset(
    {
        "_type", "callbacks", "functions", "messages", "name", "prompt", "responses", "repr",
        "stream", "stream_options", "streaming", "tools", "type", "user", "verbose",
    }
)  # fmt: skip


def request_attributes(
    operation: str,
    serialized: Mapping[str, Any] | None,
    metadata: Mapping[str, Any] | None,
    invocation_params: Mapping[str, Any] | None,
) -> dict[str, Attribute]:
    """Return the attributes of a model call's request: its hyperparameters, without secrets.

    Args:
        operation: ``chat`` or ``text_completion``.
        serialized: What LangChain passed as the model's serialized form.
        metadata: The callback's metadata.
        invocation_params: The callback's ``invocation_params``.
    """
    found: dict[str, Attribute] = {"gen_ai.operation.name": operation}
    if metadata:
        for name, attribute in _METADATA_NAMES.items():
            _add(found, attribute, metadata.get(name))
    if invocation_params:
        _add_all(found, invocation_params)
    if serialized:
        kwargs = serialized.get("kwargs")
        if isinstance(kwargs, Mapping):
            for name, attribute in _REQUEST_NAMES.items():
                _add(found, attribute, kwargs.get(name))
    return found


def request_key(
    operation: str,
    serialized: Mapping[str, Any] | None,
    metadata: Mapping[str, Any] | None,
    invocation_params: Mapping[str, Any] | None,
) -> bytes | None:
    """Return what the attributes of a request depend on, or None if that is not plain data.

    Making the attributes takes ten times as long as looking them up by this key.
    """
    said = [metadata.get(name) for name in _METADATA_NAMES] if metadata else []
    kwargs = serialized.get("kwargs") if serialized else None
    # Zero for None: a ``null`` in the key may be a NaN, and takes a closer look.
    said = [0 if value is None else value for value in (*said, invocation_params, kwargs)]
    return fingerprint((operation, said))


def response_attributes(response: Any) -> dict[str, Attribute]:
    """Return the attributes of a model call's answer: token usage, model, why it finished.

    Args:
        response: LangChain's ``LLMResult``, or whatever was passed instead.
    """
    try:
        return _response_attributes(response)
    except Exception:  # an object that raises when it is looked at: the event is kept without
        return {}


def _response_attributes(response: Any) -> dict[str, Attribute]:
    output = getattr(response, "llm_output", None)
    reasons: list[str] = []
    model: str | None = None
    prompts: list[Counts] = []
    generations = getattr(response, "generations", None)
    for choices in generations if isinstance(generations, list) else ():
        counts: Counts = {}
        for generation in choices if isinstance(choices, list) else ():
            message = message_of(generation)
            # The choices of one prompt were one request, and integrations repeat its usage at
            # each of them: it counts once. They may not do so word for word (ChatXAI corrects
            # that of the first one only), so whether it is equal tells nothing.
            counts = counts or usage_of(message, generation, output)
            info = getattr(message, "response_metadata", None)
            if not (is_mapping(info) and info):
                info = getattr(generation, "generation_info", None)
            if not is_mapping(info):
                continue
            reason = info.get("finish_reason") or info.get("stop_reason")
            if isinstance(reason, str):
                reasons.append(reason)
            named = info.get("model_name") or info.get("model")
            if isinstance(named, str):
                model = named
        if counts:
            prompts.append(counts)
    found: dict[str, Attribute] = usage_of_all(prompts, output)
    if model is not None:
        found["gen_ai.response.model"] = model
    if reasons:
        found["gen_ai.response.finish_reasons"] = reasons
    return found


def prompt_name(serialized: Mapping[str, Any] | None, name: str | None) -> str | None:
    """Return the name of a prompt template: that of the hub if it has one."""
    kwargs = serialized.get("kwargs") if serialized else None
    metadata = kwargs.get("metadata") if is_mapping(kwargs) else None
    if is_mapping(metadata) and isinstance(metadata.get("lc_hub_repo"), str):
        owner = metadata.get("lc_hub_owner")
        return f"{owner}/{metadata['lc_hub_repo']}" if owner else str(metadata["lc_hub_repo"])
    return name


def _add_all(found: dict[str, Attribute], parameters: Mapping[str, Any]) -> None:
    for name, value in parameters.items():
        attribute = _REQUEST_NAMES.get(name)
        if attribute is not None:
            _add(found, attribute, value)
        elif name not in _NOT_PARAMETERS and not is_secret_name(str(name)):
            _add(found, f"langchain.request.{name}", value)


def _add(found: dict[str, Attribute], attribute: str, value: Any) -> None:
    if value is None or attribute in found:
        return
    if isinstance(value, (str, int, float)):
        found[attribute] = value
    elif isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        found[attribute] = list(value)
