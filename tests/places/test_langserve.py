"""LangServe: one tracker in the lifespan, its routes and its client for real."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from fastapi import FastAPI
from langchain_core.language_models import FakeListChatModel
from langchain_core.runnables import RunnableLambda

from asynctrack import tracker
from tests.everywhere.serving import served
from tests.support.trees import counted

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # LangServe's own
CHAIN = RunnableLambda(str.strip).with_config(run_name="strip") | FakeListChatModel(
    responses=["one two three"]
)


def test_every_route_is_tracked(tmp_path: Path) -> None:
    """invoke, batch and stream, of twenty clients at once: a trace for each call."""
    from langserve import RemoteRunnable, add_routes

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with tracker(tmp_path, install="process"):
            yield

    app = FastAPI(lifespan=lifespan)
    add_routes(app, CHAIN, path="/chain", input_type=str)

    with served(app) as address, ThreadPoolExecutor(20) as clients:

        def ask(number: int) -> str:
            remote = RemoteRunnable(f"{address}/chain/")
            if number % 3 == 0:
                return str(remote.invoke(f"q{number}").content)
            if number % 3 == 1:
                return str(remote.batch([f"q{number}"])[0].content)
            return "".join(str(chunk.content) for chunk in remote.stream(f"q{number}"))

        assert set(clients.map(ask, range(20))) == {"one two three"}
    # The client is a runnable as well, and of the same process here.
    assert counted(tmp_path) == {"/chain(FakeListChatModel, strip)": 20, "RemoteRunnable": 20}
