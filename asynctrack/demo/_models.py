"""Which model server the scenarios speak to, and LangChain's clients for it."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit, urlunsplit

from ._openai import local_openai

if TYPE_CHECKING:
    from langchain_core.language_models import BaseLLM
    from langchain_core.language_models.chat_models import BaseChatModel

#: Low enough for a critic to be fair twice; it is one of the parameters that land in the Run.
TEMPERATURE = 0.1
#: Seconds that a server of the user's may take to answer at all.
PATIENCE: Final = 5.0
_OPENAI: Final = "https://api.openai.com/v1"
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

    @property
    def address(self) -> str:
        """Its base URL, also where that is OpenAI's own."""
        return (self.base_url or _OPENAI).rstrip("/")

    @property
    def shown(self) -> str:
        """Its address without a password in it."""
        parts = urlsplit(self.address)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=""))


def named_server() -> ModelServer:
    """The server that the environment names.

    ``OPENAI_BASE_URL`` and ``OPENAI_API_KEY`` name it, one of them is enough; ``OPENAI_MODEL``
    names the model for both kinds of completions.

    Raises:
        LookupError: Neither is set.
    """
    base_url, key = os.environ.get("OPENAI_BASE_URL"), os.environ.get("OPENAI_API_KEY")
    if not (base_url or key):
        raise LookupError("neither OPENAI_API_KEY nor OPENAI_BASE_URL is set")
    name = os.environ.get("OPENAI_MODEL")
    return ModelServer(
        base_url or None,
        # Servers that need no key want one in the header all the same.
        key or "not-needed",
        name or _CHAT_MODEL,
        name or _COMPLETION_MODEL,
    )


@contextmanager
def scripted_server() -> Iterator[ModelServer]:
    """A scripted server on this machine for this block, whatever the environment says.

    Raises:
        ServerNotStarted: It did not come up.
    """
    with local_openai() as scripted:
        yield ModelServer(scripted.base_url, scripted.api_key, local=True)


def why_unreachable(server: ModelServer, seconds: float = PATIENCE) -> str | None:
    """Ask a server for its models; return what is wrong, or None. Blocks, for so long at most.

    Args:
        server: The server.
        seconds: How long to wait for an answer.
    """
    answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(_asked_for_models(server, seconds))
        except Exception as error:
            answers.put(f"cannot be reached ({str(error) or type(error).__name__})")

    # In a thread that is left behind: looking up a name takes no time limit.
    threading.Thread(target=ask, name="ask-for-models", daemon=True).start()
    try:
        return answers.get(timeout=seconds)
    except queue.Empty:
        return f"did not answer within {seconds:g} s"


def _asked_for_models(server: ModelServer, seconds: float) -> str | None:
    import httpx

    headers = {"Authorization": f"Bearer {server.api_key}"}
    status = httpx.get(f"{server.address}/models", headers=headers, timeout=seconds).status_code
    if status in (401, 403):
        return f"refuses the key in OPENAI_API_KEY (HTTP {status})"
    if status == 404:
        return "has no list of models (HTTP 404); most addresses end in /v1"
    return f"answers with HTTP {status}" if status >= 500 else None


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
