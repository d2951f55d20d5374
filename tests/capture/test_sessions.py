"""Session, user and thread: from metadata, from a config, from a block, into stored events."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypedDict

import anyio.to_thread
import pytest
from langchain_core.language_models import FakeListChatModel
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.graph import StateGraph

import asynctrack
from asynctrack import OptionError, StateError, open_run, tracker
from asynctrack._capture import sessions
from asynctrack._capture.sessions import MAX_TRACES, Roots, current_session
from asynctrack._reading.trees.trace import Trace
from tests.capture.stored import only

IDS = ("session_id", "user_id", "thread_id")
step = RunnableLambda(lambda value: value)
chain = step | step
model = FakeListChatModel(responses=["a fish"])


class State(TypedDict):
    """What the graph works on."""

    value: int


def graph() -> Any:
    made = StateGraph(State)
    made.add_node("add", lambda state: {"value": state["value"] + 1})
    made.set_entry_point("add")
    made.set_finish_point("add")
    return made.compile()


@tool
def add(value: int) -> int:
    """Add one."""
    return value + 1


def ids(trace: Trace) -> tuple[str | None, str | None, str | None]:
    return trace.session_id, trace.user_id, trace.thread_id


def roots(folder: Path) -> list[dict[str, Any]]:
    """What the roots' metadata say of the three, in the order of their starts."""
    return [
        {name: event.metadata[name] for name in IDS if name in event.metadata}
        for event in open_run(folder).events()
        if event.event.endswith("_start") and event.parent_span_id is None
    ]


# -- blocks -------------------------------------------------------------------------------------


def test_a_block_names_what_begins_in_it(tmp_path: Path) -> None:
    """Roots in the block get the ids and nothing else does: no step, nothing before or after."""
    with tracker(tmp_path) as handler:
        config: Any = {"callbacks": [handler], "metadata": {"mine": 1}}
        chain.invoke(0, config)
        with handler.session(session_id="s", user_id=7, thread_id=uuid.UUID(int=1)) as session:
            chain.invoke(1, config)
        chain.invoke(2, config)
    before, inside, after = open_run(tmp_path).traces()
    assert (session.session_id, session.user_id) == ("s", "7")
    assert ids(inside) == ("s", "7", str(uuid.UUID(int=1)))
    assert ids(before) == ids(after) == (None, None, None)
    steps = [span.metadata for span in inside.walk() if span is not inside.root]
    assert len(steps) == 2 and all(not set(IDS) & one.keys() and one["mine"] == 1 for one in steps)
    assert session.trace_ids == (inside.trace_id,) and session.trace_id == inside.trace_id


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({}, ("s", "u", "t")),
        ({"session_id": "own"}, ("own", "u", "t")),
        ({"langfuse_session_id": "own", "ls_user_id": "me"}, ("own", "me", "t")),
        ({"thread_id": 5}, ("s", "u", "5")),
        ({"conversation_id": "c"}, ("s", "u", "c")),
        ({"user_id": "", "session_id": None}, ("s", "u", "t")),
    ],
)
def test_metadata_of_the_chain_count_more(
    tmp_path: Path, metadata: dict[str, Any], expected: tuple[str, str, str]
) -> None:
    """What a chain's own metadata name, under any known name, is not named by the block."""
    given = dict(metadata)
    with (
        tracker(tmp_path) as handler,
        asynctrack.session(session_id="s", user_id="u", thread_id="t"),
    ):
        chain.invoke(1, {"callbacks": [handler], "metadata": metadata})
    assert metadata == given
    trace = only(tmp_path)
    assert ids(trace) == expected
    assert {key: trace.root.metadata[key] for key in given if given[key]} == {
        key: value for key, value in given.items() if value
    }


def test_blocks_add_to_each_other(tmp_path: Path) -> None:
    """An inner block has the ids of the outer one that it does not name, and its traces are also
    the outer one's."""
    with tracker(tmp_path) as handler, handler.session(user_id="u", session_id="s") as outer:
        with asynctrack.session(thread_id="t", session_id="other") as inner:
            chain.invoke(1, {"callbacks": [handler]})
        chain.invoke(2, {"callbacks": [handler]})
    one, two = open_run(tmp_path).traces()
    assert (ids(one), ids(two)) == (("other", "u", "t"), ("s", "u", None))
    assert inner.trace_ids == (one.trace_id,)
    assert outer.trace_ids == (one.trace_id, two.trace_id)
    assert current_session() is None


async def test_each_task_has_its_own(tmp_path: Path) -> None:
    """Tasks at the same time, and the threads they start, see the block of their own task only."""
    async with tracker(tmp_path) as handler:
        config: Any = {"callbacks": [handler]}

        async def serve(user: str, both: anyio.Event) -> str | None:
            with handler.session(user_id=user) as session:
                entered.append(user)
                if len(entered) == 2:
                    both.set()
                await both.wait()
                await chain.ainvoke(user, config)
                await anyio.to_thread.run_sync(chain.invoke, user, config)
                assert len(session.trace_ids) == 2
                return session.trace_id

        entered: list[str] = []
        both = anyio.Event()
        await asyncio.gather(serve("ada", both), serve("bob", both))
        await chain.ainvoke("nobody", config)

    def users() -> list[tuple[Any, str | None]]:
        return [(trace.root.inputs, trace.user_id) for trace in open_run(tmp_path).traces()]

    found = await asyncio.to_thread(users)
    assert sorted(found, key=str) == [
        ("ada", "ada"), ("ada", "ada"), ("bob", "bob"), ("bob", "bob"), ("nobody", None),
    ]  # fmt: skip


@pytest.mark.may_block("LangChain waits for the callback")
async def test_sync_code_in_a_running_loop(tmp_path: Path) -> None:
    """A chain that blocks the loop calls an asynchronous handler from another thread: the block
    counts there, too."""
    async with tracker(tmp_path) as handler:
        with handler.session(user_id="ada"):
            chain.invoke(1, {"callbacks": [handler]})
    assert (await asyncio.to_thread(only, tmp_path)).user_id == "ada"


def test_a_thread_that_copies_no_context_has_no_block(tmp_path: Path) -> None:
    """A thread begins without one, as with any context variable."""
    with tracker(tmp_path) as handler, handler.session(user_id="ada") as session:
        config: Any = {"callbacks": [handler]}
        thread = threading.Thread(target=chain.invoke, args=(1, config))
        thread.start()
        thread.join()
        assert session.trace_id is None
    assert only(tmp_path).user_id is None


def test_two_handlers_of_one_chain(tmp_path: Path) -> None:
    """The block is for all handlers, and knows the trace once."""
    with (
        tracker(tmp_path / "a") as one,
        tracker(tmp_path / "b") as two,
        one.session(user_id="ada") as session,
    ):
        chain.invoke(1, {"callbacks": [one, two]})
    assert only(tmp_path / "a").user_id == only(tmp_path / "b").user_id == "ada"
    assert len(session.trace_ids) == 1


def test_left_in_another_context() -> None:
    """Frameworks enter and leave a block in different contexts: that raises nothing, and the
    contexts keep what they have."""
    session = asynctrack.session(user_id="ada")
    entered = contextvars.copy_context()
    entered.run(session.__enter__)
    with asynctrack.session(user_id="bob") as other:
        left = contextvars.copy_context()
    left.run(session.__exit__, None, None, None)
    assert entered.run(current_session) is session
    assert left.run(current_session) is other


def test_a_session_is_entered_once() -> None:
    """A second block needs another session."""
    with asynctrack.session(user_id="ada") as session, pytest.raises(StateError, match="each"):
        session.__enter__()
    assert repr(session) == "<asynctrack.Session user_id='ada'>"
    assert repr(asynctrack.session()) == "<asynctrack.Session of nobody>"


@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize("value", [1.5, True, b"x", ["a"], object()])
def test_ids_that_are_none(name: str, value: Any) -> None:
    """What is no text and no number is refused with its name and what is allowed."""
    with pytest.raises(OptionError, match=f"^{name}=.*must be a text, a whole number"):
        asynctrack.session(**{name: value})


def test_a_long_block_forgets_old_traces() -> None:
    """A block around a whole service stays small."""
    with asynctrack.session() as session:
        for number in range(MAX_TRACES + 50):
            session._note(str(number))
        session._note(str(number))
    assert session.trace_ids[0] == "50" and session.trace_id == str(number)
    assert len(session.trace_ids) == MAX_TRACES


# -- configurable -------------------------------------------------------------------------------

CONFIG: Any = {"configurable": {"thread_id": "t1", "user_id": "u1", "api_key": "k", "other": 3}}
CALLS: dict[str, Callable[[Any], Any]] = {
    "step": lambda config: step.invoke(1, config),
    "chain": lambda config: chain.invoke(1, config),
    "stream": lambda config: list(chain.stream(1, config)),
    "batch": lambda config: chain.batch([1], config),
    "graph": lambda config: graph().invoke({"value": 1}, config),
    "model": lambda config: model.invoke("x", config),
    "tool": lambda config: add.invoke({"value": 1}, config),
}


async def drained(stream: Any) -> None:
    async for _ in stream:
        pass


ASYNC_CALLS: dict[str, Callable[[Any], Any]] = {
    "step": lambda config: step.ainvoke(1, config),
    "chain": lambda config: chain.ainvoke(1, config),
    "stream": lambda config: drained(chain.astream(1, config)),
    "events": lambda config: drained(chain.astream_events(1, config, version="v2")),
    "graph": lambda config: graph().ainvoke({"value": 1}, config),
    "graph stream": lambda config: drained(graph().astream({"value": 1}, config)),
    "model": lambda config: model.ainvoke("x", config),
    "tool": lambda config: add.ainvoke({"value": 1}, config),
}


@pytest.mark.parametrize("name", CALLS)
def test_configurable(tmp_path: Path, name: str) -> None:
    """``config["configurable"]`` names thread and user of whatever is called with it; nothing else
    of it is stored."""
    with tracker(tmp_path) as handler:
        CALLS[name]({**CONFIG, "callbacks": [handler]})
    assert roots(tmp_path) == [{"thread_id": "t1", "user_id": "u1"}]
    assert not {"api_key", "other"} & only(tmp_path).root.metadata.keys()


@pytest.mark.parametrize("name", ASYNC_CALLS)
async def test_configurable_async(tmp_path: Path, name: str) -> None:
    """The same where it is awaited."""
    async with tracker(tmp_path) as handler:
        await ASYNC_CALLS[name]({**CONFIG, "callbacks": [handler]})
    assert await asyncio.to_thread(roots, tmp_path) == [{"thread_id": "t1", "user_id": "u1"}]


def test_configurable_with_an_asynchronous_handler_and_no_loop(tmp_path: Path) -> None:
    """LangChain then runs a loop of its own for the callback; the call is seen from there."""

    async def main() -> None:
        async with tracker(tmp_path) as handler:
            await asyncio.to_thread(chain.invoke, 1, {**CONFIG, "callbacks": [handler]})

    asyncio.run(main())
    assert roots(tmp_path) == [{"thread_id": "t1", "user_id": "u1"}]


def test_what_counts_more(tmp_path: Path) -> None:
    """Metadata, then the config, then the block."""
    metadata = {"user_id": "metadata"}
    with (
        tracker(tmp_path) as handler,
        handler.session(session_id="s", thread_id="block", user_id="block"),
    ):
        chain.invoke(1, {**CONFIG, "callbacks": [handler], "metadata": metadata})
    assert ids(only(tmp_path)) == ("s", "metadata", "t1")


def test_a_config_of_the_users_own_is_none_of_ours(tmp_path: Path) -> None:
    """A variable of that name in the user's code, around a call without one, is not looked at."""
    with tracker(tmp_path) as handler:
        config: Any = {"configurable": {"thread_id": "of somebody else"}}
        handler.on_chain_start(None, {}, run_id=uuid.uuid4())
        assert config
    assert roots(tmp_path) == [{}]


# -- keys of the user's own -----------------------------------------------------------------------


def test_keys_of_the_users_own(tmp_path: Path) -> None:
    """Under ``session_keys`` and ``user_keys`` in metadata or config lie session and user; the
    known names count more."""
    keys = {"session_keys": ("chat", "room"), "user_keys": "who"}
    with tracker(tmp_path, **keys) as handler:
        config: Any = {"callbacks": [handler]}
        chain.invoke(1, {**config, "metadata": {"room": 4, "who": "ada", "thread_id": "t"}})
        chain.invoke(2, {**config, "metadata": {"chat": "c", "session_id": "s"}})
        chain.invoke(3, {**config, "configurable": {"room": "r", "who": "bob"}})
        with handler.session(session_id="block"):
            chain.invoke(4, {**config, "metadata": {"room": "r"}})
    traces = list(open_run(tmp_path).traces())
    assert [ids(trace) for trace in traces] == [
        ("4", "ada", "t"), ("s", None, None), ("r", "bob", None), ("r", None, None),
    ]  # fmt: skip
    assert traces[0].root.metadata["room"] == 4


# -- what goes wrong ----------------------------------------------------------------------------


class Odd(dict[str, Any]):
    """Raises where it is looked into."""

    def get(self, *_: Any) -> Any:
        raise RuntimeError("odd")


def test_odd_metadata_cost_no_event(tmp_path: Path) -> None:
    """What raises when it is looked into is stored as it is, and nothing is lost."""
    with tracker(tmp_path) as handler, handler.session(user_id="ada"):
        handler.on_chain_start(None, {}, run_id=uuid.uuid4(), metadata=Odd(mine=1))
    assert handler.statistics().dropped == {}
    assert only(tmp_path).root.metadata == {"mine": 1}


def test_ids_are_searched_for_secrets(tmp_path: Path) -> None:
    """As all metadata."""
    with tracker(tmp_path, redact="ada") as handler, handler.session(user_id="ada@example.com"):
        chain.invoke(1, {"callbacks": [handler]})
    assert only(tmp_path).user_id == "[REDACTED]@example.com"


def test_a_step_is_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a root's start is completed: no other callback pays for it."""
    asked = []
    complete = Roots.complete

    def counted(self: Roots, metadata: Mapping[str, Any] | None, *rest: Any) -> Any:
        asked.append(metadata)
        return complete(self, metadata, *rest)

    monkeypatch.setattr(sessions.Roots, "complete", counted)
    with tracker(tmp_path) as handler:
        chain.invoke(1, {"callbacks": [handler]})
    assert len(asked) == 1
