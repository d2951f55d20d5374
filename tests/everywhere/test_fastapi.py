"""One tracker in a FastAPI's lifespan, over a real uvicorn: fifty requests at once, streams too."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from langchain_core.language_models import FakeListChatModel
from langchain_core.runnables import RunnableLambda

from asynctrack import tracker
from tests.everywhere.serving import served
from tests.support.trees import counted, inputs_of

pytestmark = pytest.mark.filterwarnings(
    "ignore:websockets:DeprecationWarning"  # uvicorn's, of what it does not use here
)
chain = RunnableLambda(str.strip).with_config(run_name="strip") | FakeListChatModel(
    responses=["one two three"]
)


def application(folder: Path) -> FastAPI:
    """An application that is tracked, and knows it in one place only."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with tracker(folder, install="process"):
            yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/answer/{word}")
    async def answer(word: str) -> str:
        return str((await chain.ainvoke(word)).content)

    @app.get("/in-a-thread/{word}")
    def in_a_thread(word: str) -> str:
        return str(chain.invoke(word).content)

    @app.get("/stream/{word}")
    async def stream(word: str) -> StreamingResponse:
        async def tokens() -> AsyncIterator[str]:
            async for chunk in chain.astream(word):
                yield str(chunk.content)

        return StreamingResponse(tokens())

    return app


def test_fifty_requests_at_once(tmp_path: Path) -> None:
    """Each is a trace of its own, whole, as are those of threads and of streamed responses."""
    kinds = ("answer", "in-a-thread", "stream")
    words = [f"{kinds[number % 3]}/{number}" for number in range(50)]
    with served(application(tmp_path)) as address, ThreadPoolExecutor(50) as clients:

        def ask(word: str) -> str:
            with urllib.request.urlopen(f"{address}/{word}", timeout=60) as answer:
                return str(answer.read().decode())

        answers = set(clients.map(ask, words))
    assert answers == {json.dumps("one two three"), "one two three"}
    assert counted(tmp_path) == {"RunnableSequence(FakeListChatModel, strip)": 50}
    # Of a stream LangChain does not know the input when it begins.
    inputs = [one for one in inputs_of(tmp_path) if isinstance(one, str)]
    asked = [word.partition("/")[2] for word in words if not word.startswith("stream")]
    assert sorted(inputs) == sorted(asked)
