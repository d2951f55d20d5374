"""Installed handlers: what is called where they are is tracked, once, without ``callbacks``."""

from __future__ import annotations

import asyncio
import contextvars
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from langchain_core.callbacks import AsyncCallbackManager, CallbackManager
from langchain_core.language_models import FakeListChatModel
from langchain_core.runnables import (
    Runnable,
    RunnableLambda,
    RunnableParallel,
    chain,
)
from langchain_core.runnables.utils import coro_with_context
from langchain_core.tools import tool

from asynctrack import OptionError, StateError, install, tracker
from asynctrack.compat import SageMakerCallbackHandler
from tests.support.auditor import audit_folder
from tests.support.trees import counted, inputs_of, trees


def hands_contexts_on() -> bool:
    """Tell whether LangChain does that; on Python 3.10 its older versions do not, and what an async
    function of a chain calls is a trace of its own."""
    there = contextvars.ContextVar("there", default=False)

    async def ask() -> bool:
        async def get() -> bool:
            return there.get()

        context = contextvars.copy_context()
        context.run(there.set, True)
        return await coro_with_context(get(), context)

    return asyncio.run(ask())


CONTEXTS = hands_contexts_on()
INSIDE_OUTER = {"outer(inner)": 1} if CONTEXTS else {"outer": 1, "inner": 1}
INSIDE_TOOL = (
    {"look_up(asked by the tool)": 1} if CONTEXTS else {"look_up": 1, "asked by the tool": 1}
)


def named(name: str, function: Callable[[Any], Any] = str) -> Runnable[Any, Any]:
    """A step with a name."""
    return RunnableLambda(function).with_config(run_name=name)


@tool
async def look_up(word: str) -> str:
    """Look a word up."""
    await named("asked by the tool").ainvoke(word)
    return word


CALLED = named("inner")


@chain
async def outer(word: str) -> str:
    """Calls another chain, as plain code does."""
    return str(await CALLED.ainvoke(word))


BRANCHES = named("first") | RunnableParallel(left=named("left"), right=named("right"))
BRANCHED = "RunnableSequence(RunnableParallel<left,right>(left, right), first)"


@pytest.mark.may_block("chains are called without await, too")
async def test_everything_of_the_context_is_tracked(tmp_path: Path) -> None:
    """Chains, branches, models and tools, called in every way, and by tasks that were started."""
    async with tracker(tmp_path, install=True):
        await BRANCHES.ainvoke("a")
        await asyncio.create_task(BRANCHES.ainvoke("b"))
        await asyncio.gather(BRANCHES.ainvoke("c"), BRANCHES.ainvoke("d"))
        await BRANCHES.abatch(["e", "f"])
        BRANCHES.batch(["g", "h"])
        await asyncio.to_thread(BRANCHES.invoke, "i")
        async for _ in BRANCHES.astream("j"):
            pass
        async for _ in BRANCHES.astream_events("k", version="v2"):
            pass
        await FakeListChatModel(responses=["hello"]).ainvoke("hi")
        await look_up.ainvoke("word")
        await outer.ainvoke("word")
    assert await asyncio.to_thread(counted, tmp_path) == {
        BRANCHED: 11,
        "FakeListChatModel": 1,
        **INSIDE_TOOL,
        **INSIDE_OUTER,
    }


def test_everything_of_a_thread_is_tracked(tmp_path: Path) -> None:
    """The same without an event loop, LangChain's own pools included."""
    with tracker(tmp_path, install=True):
        BRANCHES.invoke("a")
        BRANCHES.batch(["b", "c", "d"], config={"max_concurrency": 2})
        list(BRANCHES.stream("e"))
        asyncio.run(BRANCHES.ainvoke("f"))
        asyncio.run(outer.ainvoke("g"))
    assert counted(tmp_path) == {BRANCHED: 6, **INSIDE_OUTER}


@pytest.mark.may_block("chains are called without await, too")
@pytest.mark.parametrize("process", [False, True])
async def test_given_as_well_each_event_is_there_once(tmp_path: Path, process: bool) -> None:
    """In callbacks, in a manager or a copy of one, bound to a chain, to a model, at two levels."""
    async with tracker(tmp_path, install="process" if process else True) as handler:
        callbacks: list[Any] = [handler]
        await BRANCHES.ainvoke("a", config={"callbacks": callbacks})
        await BRANCHES.with_config(callbacks=callbacks).ainvoke("b")
        manager = AsyncCallbackManager(handlers=[handler], inheritable_handlers=[handler])
        await BRANCHES.ainvoke("c", config={"callbacks": manager})
        await BRANCHES.ainvoke("d", config={"callbacks": manager.copy()})
        BRANCHES.invoke("e", config={"callbacks": CallbackManager(handlers=[handler])})
        model = FakeListChatModel(responses=["x"], callbacks=callbacks)
        await (BRANCHES | (lambda found: str(found)) | model).ainvoke("f")

        @chain
        async def passes_it_on(word: str) -> None:
            await CALLED.ainvoke(word, config={"callbacks": callbacks})

        await passes_it_on.ainvoke("g")
    found = await asyncio.to_thread(counted, tmp_path)
    assert found.pop(BRANCHED) == 5
    # Whether callbacks that are given anew belong below who gives them is LangChain's to say.
    assert " ".join(found).count("inner") == " ".join(found).count("FakeListChatModel") == 1
    assert set(found.values()) == {1}


@pytest.mark.may_block("chains are called without await, too")
async def test_handlers_of_two_trackers_get_each_event_once(tmp_path: Path) -> None:
    """One is installed, the other is given; one of either kind."""
    with tracker(tmp_path / "sync") as given:
        async with tracker(tmp_path / "async", install=True):
            await BRANCHES.ainvoke("a", config={"callbacks": [given]})
            BRANCHES.invoke("b", config={"callbacks": [given]})
    for folder in (tmp_path / "sync", tmp_path / "async"):
        assert await asyncio.to_thread(counted, folder) == {BRANCHED: 2}


async def test_tasks_side_by_side_have_each_their_own(tmp_path: Path) -> None:
    """Two trackers that are open at the same time, each in its task."""
    both_are_in = asyncio.Barrier(2) if sys.version_info >= (3, 11) else None

    async def one(name: str) -> None:
        async with tracker(tmp_path / name, install=True):
            if both_are_in is not None:
                await both_are_in.wait()
            for _ in range(3):
                await CALLED.ainvoke(name)
            if both_are_in is not None:
                await both_are_in.wait()

    await asyncio.gather(one("a"), one("b"))
    for name in ("a", "b"):
        assert await asyncio.to_thread(inputs_of, tmp_path / name) == [name] * 3


def test_the_inner_one_counts(tmp_path: Path) -> None:
    """Of several blocks around a call; before and after, the outer one does."""
    with tracker(tmp_path / "out", install=True):
        CALLED.invoke("before")
        with tracker(tmp_path / "in", install=True):
            CALLED.invoke("inside")
        CALLED.invoke("after")
    CALLED.invoke("nowhere")
    assert inputs_of(tmp_path / "out") == ["after", "before"]
    assert inputs_of(tmp_path / "in") == ["inside"]


def test_none_tracks_nothing_but_what_is_given(tmp_path: Path) -> None:
    """A block of install(None) in one of a handler, in the context and in the process."""
    with tracker(tmp_path, install="process") as handler:
        with install(None):
            CALLED.invoke("not tracked")
            CALLED.invoke("given", config={"callbacks": [handler]})
        with install(None, process=True):
            CALLED.invoke("neither")
        CALLED.invoke("tracked")
    assert inputs_of(tmp_path) == ["given", "tracked"]


def test_of_the_process_where_the_context_has_none(tmp_path: Path) -> None:
    """A thread that knows nothing; one with a handler of its own uses that."""

    def alone() -> None:
        CALLED.invoke("alone")

    def with_its_own() -> None:
        with tracker(tmp_path / "own", install=True):
            CALLED.invoke("own")

    with tracker(tmp_path / "all", install="process"):
        for work in (alone, with_its_own):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
    alone()
    assert inputs_of(tmp_path / "all") == ["alone"]
    assert inputs_of(tmp_path / "own") == ["own"]


def test_a_pool_of_threads_knows_no_context(tmp_path: Path) -> None:
    """Python's own hands none over: what is called there is tracked with a copy, or by process."""
    with tracker(tmp_path, install=True), ThreadPoolExecutor(2) as pool:
        pool.submit(CALLED.invoke, "lost").result()
        pool.submit(contextvars.copy_context().run, CALLED.invoke, "handed over").result()
    assert inputs_of(tmp_path) == ["handed over"]


def test_left_in_another_context(tmp_path: Path) -> None:
    """As a framework may do: nothing is raised, and it ends in the one where it began, too."""
    began = contextvars.copy_context()
    open_tracker = tracker(tmp_path, install=True)
    began.run(open_tracker.__enter__)
    began.run(CALLED.invoke, "inside")
    contextvars.Context().run(open_tracker.__exit__, None, None, None)
    began.run(CALLED.invoke, "after")
    assert inputs_of(tmp_path) == ["inside"]
    assert not open_tracker.statistics().dropped


async def test_what_goes_on_after_the_block_is_counted(tmp_path: Path) -> None:
    """A chain that began in it is told of as dropped; one that begins later is not tracked."""
    go_on = asyncio.Event()

    async def slow(word: Any) -> str:
        await go_on.wait()
        await CALLED.ainvoke(word)
        return str(word)

    open_tracker = tracker(tmp_path, install=True)
    async with open_tracker:
        began = asyncio.create_task(RunnableLambda(slow).ainvoke("slow"))
        late = asyncio.create_task(_when(go_on, "late"))
        while not open_tracker.statistics().accepted:
            await asyncio.sleep(0)
    go_on.set()
    assert await began == "slow" and await late == "late"
    statistics = open_tracker.statistics()
    # The end, and all of the chain that it called, where that is known to be its.
    assert statistics.dropped == {"closed": 3 if CONTEXTS else 1}


async def _when(event: asyncio.Event, word: str) -> str:
    await event.wait()
    return str(await CALLED.ainvoke(word))


def test_undone_in_any_order(tmp_path: Path) -> None:
    """The outer one first: the inner one goes on, and nothing comes back."""
    with tracker(tmp_path / "a") as first, tracker(tmp_path / "b") as second:
        outer_place, inner_place = install(first), install(second)
        outer_place.undo()
        CALLED.invoke("inner")
        inner_place.undo()
        inner_place.undo()
        CALLED.invoke("none")
        with pytest.raises(StateError, match="undone before"), inner_place:
            pass
    assert inputs_of(tmp_path / "b") == ["inner"]
    assert not trees(tmp_path / "a")


def test_a_handler_of_somebody_else_is_refused() -> None:
    """The text says what is wanted."""
    with pytest.raises(OptionError, match=r"what tracker\(\.\.\.\) gave"):
        install(object())  # type: ignore[arg-type]  # on purpose
    with pytest.raises(OptionError, match="True, False or 'process'"):
        tracker("runs", install="thread")  # type: ignore[arg-type]  # on purpose


def test_the_environment_installs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As any option: true, false, process, and nothing else."""
    for text, installed in (("true", "a"), ("process", "b"), ("no", None)):
        monkeypatch.setenv("ASYNCTRACK_INSTALL", text)
        with tracker(tmp_path / str(installed)) as handler:
            CALLED.invoke("x")
            assert bool(handler.statistics().accepted) == (installed is not None)
    monkeypatch.setenv("ASYNCTRACK_INSTALL", "context")
    with pytest.raises(OptionError, match=r"ASYNCTRACK_INSTALL.*true, false or process"):
        tracker(tmp_path)


def test_the_old_handler_is_installed_too(tmp_path: Path) -> None:
    """``SageMakerCallbackHandler(..., install=True)``, until it is closed."""

    def work() -> None:
        handler = SageMakerCallbackHandler(tmp_path, install=True)
        CALLED.invoke("tracked")
        handler.close()
        CALLED.invoke("after")

    contextvars.copy_context().run(work)
    assert inputs_of(tmp_path) == ["tracked"]


def test_taken_out_between_two_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LangChain asks twice; a tracker of the process that ends in between breaks no chain."""
    from asynctrack._capture.installed import _Asked

    with tracker(tmp_path, install="process") as handler:
        answers: Iterator[Any] = iter([handler, None] * 50)
        monkeypatch.setattr(_Asked, "get", lambda self: next(answers))
        assert BRANCHES.invoke("x") == {"left": "x", "right": "x"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_a_forked_child_has_it_too(tmp_path: Path) -> None:
    """With a writer of its own: what its parent installed in the context, or in the process."""
    program = """
import os, sys
from asynctrack import tracker
from langchain_core.runnables import RunnableLambda
with tracker(sys.argv[1], run_name="r", install=True if sys.argv[2] == "here" else "process"):
    RunnableLambda(str.upper).invoke("parent")
    pid = os.fork()
    if not pid:
        RunnableLambda(str.upper).invoke("child")
        sys.exit(0)
    assert os.waitpid(pid, 0)[1] == 0
"""
    for where in ("here", "process"):
        folder = tmp_path / where
        arguments = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program]
        subprocess.run([*arguments, str(folder), where], check=True, timeout=240)
        assert inputs_of(folder) == ["child", "parent"]
        assert len(audit_folder(folder).writers) == 2


def test_without_it_langchain_is_not_asked(tmp_path: Path) -> None:
    """Who passes ``callbacks`` pays for no hook."""
    program = """
import sys
from asynctrack import tracker
from langchain_core.tracers.context import _configure_hooks
before = len(_configure_hooks)
with tracker(sys.argv[1]):
    assert len(_configure_hooks) == before
for _ in range(3):
    with tracker(sys.argv[1], install=True):
        assert len(_configure_hooks) == before + 1
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, timeout=240)
