"""Which model server the scenarios speak to, and LangChain's clients for it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ._openai import local_openai

if TYPE_CHECKING:
    from langchain_core.language_models import BaseLLM
    from langchain_core.language_models.chat_models import BaseChatModel

#: Low enough for a critic to be fair twice; it is one of the parameters that land in the Run.
TEMPERATURE = 0.1
_CHAT_MODEL, _COMPLETION_MODEL = "gpt-4o-mini", "gpt-3.5-turbo-instruct"


@dataclass(frozen=True)
class ModelServer:
    """An OpenAI-compatible server.

    Attributes:
        base_url: Its base URL; None is OpenAI's own.
        api_key: The key to send.
        chat_model: The model asked for chat completions.
        completion_model: The model asked for completions.
        local: Whether it is the scripted server of the demo.
    """

    base_url: str | None
    api_key: str
    chat_model: str = _CHAT_MODEL
    completion_model: str = _COMPLETION_MODEL
    local: bool = False


@contextmanager
def model_server(*, local: bool | None = None) -> Iterator[ModelServer]:
    """The server that the environment names, else a local scripted one for this block.

    ``OPENAI_BASE_URL`` and ``OPENAI_API_KEY`` name it, one of them is enough; ``OPENAI_MODEL``
    names the model for both kinds of completions.

    Args:
        local: True takes the scripted server whatever the environment says.

    Raises:
        ServerNotStarted: The scripted server did not come up.
    """
    base_url, key = os.environ.get("OPENAI_BASE_URL"), os.environ.get("OPENAI_API_KEY")
    if local or not (base_url or key):
        with local_openai() as scripted:
            yield ModelServer(scripted.base_url, scripted.api_key, local=True)
        return
    name = os.environ.get("OPENAI_MODEL")
    yield ModelServer(
        base_url or None,
        # Servers that need no key want one in the header all the same.
        key or "not-needed",
        name or _CHAT_MODEL,
        name or _COMPLETION_MODEL,
    )


@asynccontextmanager
async def chat_model(server: ModelServer) -> AsyncIterator[BaseChatModel]:
    """A chat model for asynchronous chains, closed with the block."""
    import openai
    from langchain_openai import ChatOpenAI

    # Clients of its own: those that langchain-openai shares belong to the first event loop that
    # used them, and fail in the next one.
    with openai.DefaultHttpxClient() as client:
        async with openai.DefaultAsyncHttpxClient() as async_client:
            yield ChatOpenAI(
                model=server.chat_model,
                temperature=TEMPERATURE,
                base_url=server.base_url,
                api_key=lambda: server.api_key,
                http_client=client,
                http_async_client=async_client,
            )


@contextmanager
def completion_model(server: ModelServer) -> Iterator[BaseLLM]:
    """A completion model, as the notebook uses it, closed with the block."""
    import openai
    from langchain_openai import OpenAI

    with openai.DefaultHttpxClient() as client:
        yield OpenAI(
            model=server.completion_model,
            temperature=TEMPERATURE,
            base_url=server.base_url,
            api_key=lambda: server.api_key,
            http_client=client,
        )
