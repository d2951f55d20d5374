"""Tracked functions: each call a span, and the function as it was."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import inspect
import pickle
import subprocess
import sys
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda

import asynctrack
from asynctrack import open_run, tracker
from asynctrack._capture import current, tracked
from tests.capture.stored import only, shape, traces

leaf = RunnableLambda(lambda value: value).with_config(run_name="leaf")


# -- kinds of functions -------------------------------------------------------------------------


def test_a_function(tmp_path: Path) -> None:
    """A call is a span with its arguments by name, defaults too, and what it returns; calls in it
    are below."""
    with tracker(tmp_path) as handler:

        @handler.tracked
        def inner(value: int) -> int:
            return int(leaf.invoke(value, {"callbacks": [handler]}))

        @handler.tracked(name="outside", kind="tool", tags=["t"], metadata={"m": 1})
        def outer(value: int, *more: int, factor: int = 2, **rest: int) -> int:
            """Multiply."""
            return inner(value) * factor

        assert outer(3, factor=4, extra=1) == 12
        assert outer(1, 2) == 2
    first, second = (trace.root for trace in traces(tmp_path))
    assert shape(first) == ("outside", [(inner.__qualname__.rpartition(".")[2], ["leaf"])])
    assert first.inputs == {"value": 3, "factor": 4, "rest": {"extra": 1}}
    assert second.inputs == {"value": 1, "more": [2], "factor": 2}
    assert (first.outputs, first.kind, first.tags) == (12, "tool", ("t",))
    assert outer.__doc__ == "Multiply." and outer.__name__ == "outer"
    assert list(inspect.signature(outer).parameters) == ["value", "more", "factor", "rest"]


async def test_a_coroutine_function(tmp_path: Path) -> None:
    """It stays one, and calls at the same time are spans of their own."""
    async with tracker(tmp_path) as handler:

        @handler.tracked
        async def serve(value: int) -> int:
            return int(await leaf.ainvoke(value, {"callbacks": [handler]}))

        assert inspect.iscoroutinefunction(serve)
        assert await asyncio.gather(*map(serve, range(3))) == [0, 1, 2]
    found = await asyncio.to_thread(traces, tmp_path)
    assert [(trace.root.inputs, trace.root.outputs) for trace in found] == [
        ({"value": number}, number) for number in range(3)
    ]
    assert all(shape(trace.root) == ("serve", ["leaf"]) for trace in found)


class Bot:
    """Methods of all kinds."""

    @asynctrack.tracked
    def method(self, value: int) -> int:
        return value

    @classmethod
    @asynctrack.tracked
    def of_class(cls, value: int) -> str:
        return f"{cls.__name__} {value}"

    @asynctrack.tracked  # type: ignore[arg-type]  # on the wrong side, and it works all the same
    @classmethod
    def above(cls, value: int) -> str:
        return f"{cls.__name__} {value}"

    @staticmethod
    @asynctrack.tracked
    def static(value: int) -> int:
        return value

    @asynctrack.tracked
    def items(self, value: int) -> Iterator[int]:
        yield value

    @property
    @asynctrack.tracked
    def size(self) -> int:
        return 7

    @asynctrack.tracked
    def __call__(self, value: int) -> int:
        return value


def test_methods(tmp_path: Path) -> None:
    """Each is called as before; what it is called on is not among its inputs."""
    bot = Bot()
    with tracker(tmp_path, install=True):
        assert (bot.method(1), Bot.of_class(2), bot.above(3), Bot.static(4)) == (
            1, "Bot 2", "Bot 3", 4,
        )  # fmt: skip
        assert (list(bot.items(5)), bot.size, bot(6)) == ([5], 7, 6)
    found = [(trace.root.name, trace.root.inputs) for trace in traces(tmp_path)]
    names = ["method", "of_class", "above", "static", "items"]
    assert found == [
        *((f"Bot.{name}", {"value": value}) for value, name in enumerate(names, 1)),
        ("Bot.size", {}),
        ("Bot.__call__", {"value": 6}),
    ]


def test_other_callables(tmp_path: Path) -> None:
    """A partial, a callable object and a function of C are tracked by what name they have; a class
    is refused."""
    with tracker(tmp_path) as handler:
        assert handler.tracked(functools.partial(pow, 2))(3) == 8
        assert handler.tracked(Bot())(1) == 1
        assert handler.tracked(max)(1, 2) == 2
        with pytest.raises(TypeError, match="functions and methods"):
            handler.tracked(Bot)
        with pytest.raises(TypeError, match="functions and methods"):
            handler.tracked(3)  # type: ignore[call-overload]  # what is refused
    assert [trace.root.name for trace in traces(tmp_path)] == ["pow", "Bot", "max"]


class Awaited:
    async def __call__(self, value: int) -> int:
        await asyncio.sleep(0)
        return value


class Yielding:
    def __call__(self, value: int) -> Iterator[int]:
        yield value


class AwaitedYielding:
    async def __call__(self, value: int) -> AsyncIterator[int]:
        yield value


async def test_callable_objects_of_each_kind(tmp_path: Path) -> None:
    """What their calls return is awaited or consumed in the span, as a function's."""
    async with tracker(tmp_path) as handler:
        awaited = handler.tracked(Awaited())
        assert inspect.iscoroutinefunction(awaited)
        assert await awaited(1) == await handler.tracked(functools.partial(Awaited(), 1))() == 1
        assert list(handler.tracked(Yielding())(2)) == [2]
        assert [one async for one in handler.tracked(AwaitedYielding())(3)] == [3]
    found = await asyncio.to_thread(traces, tmp_path)
    assert [trace.root.outputs for trace in found] == [1, 1, [2], [3]]


@asynctrack.tracked
def module_level(value: int) -> int:
    return value


def test_it_can_still_be_pickled() -> None:
    """A tracked function is found by its name, as any function: pools of processes take it."""
    assert pickle.loads(pickle.dumps(module_level)) is module_level


@pytest.mark.parametrize(
    ("options", "inputs", "outputs"),
    [
        ({}, {"a": 1, "b": 2}, 3),
        ({"inputs": False}, None, 3),
        ({"inputs": ["b", "c"]}, {"b": 2}, 3),
        ({"outputs": False}, {"a": 1, "b": 2}, None),
    ],
)
def test_what_is_stored(tmp_path: Path, options: Any, inputs: Any, outputs: Any) -> None:
    """Arguments and results may be left out, and so may single arguments."""
    with tracker(tmp_path) as handler:
        assert handler.tracked(**options)(lambda a, b: a + b)(1, 2) == 3
    root = only(tmp_path).root
    assert (root.inputs, root.outputs) == (inputs, outputs)


def test_wrong_arguments(tmp_path: Path) -> None:
    """A call that Python refuses is an error with what it was given."""
    with tracker(tmp_path) as handler, pytest.raises(TypeError, match="unexpected"):
        handler.tracked(lambda a: a)(1, b=2)  # type: ignore[call-arg]  # what is refused
    root = only(tmp_path).root
    assert (root.outcome, root.inputs) == ("error", {"args": [1], "kwargs": {"b": 2}})


# -- generators ---------------------------------------------------------------------------------


def test_a_generator(tmp_path: Path) -> None:
    """Its span is around what its own code calls, between two items the consumer is where it was;
    what goes in with send and throw, and what it returns, come through."""
    heard: list[Any] = []
    with tracker(tmp_path) as handler:

        @handler.tracked
        def talk(first: str) -> Generator[str, str, int]:
            said = first
            with handler.span("talking"):
                while said != "bye":
                    leaf.invoke(said, {"callbacks": [handler]})
                    try:
                        said = yield said.upper()
                    except KeyError as error:
                        heard.append(error)
                        said = yield "what?"
            return 7

        assert inspect.isgeneratorfunction(talk)
        with handler.span("consumer"):
            talking = talk("hello")
            around = current.here()
            assert next(talking) == "HELLO" and current.here() is around
            with handler.span("between"):
                assert talking.send("more") == "MORE"
            error = KeyError("x")
            assert talking.throw(error) == "what?" and heard == [error]
            with pytest.raises(StopIteration) as end:
                talking.send("bye")
            assert end.value.value == 7 and current.here() is around
    root = only(tmp_path).root
    assert shape(root) == ("consumer", [("talk", [("talking", ["leaf", "leaf"])]), "between"])
    talk_span = root.children[0]
    assert (talk_span.outputs, talk_span.data["returned"]) == (["HELLO", "MORE", "what?"], 7)
    assert talk_span.outcome == "ok"


async def test_an_asynchronous_generator(tmp_path: Path) -> None:
    """The same with asend, athrow and aclose."""
    async with tracker(tmp_path) as handler:

        @handler.tracked(reduce="".join)
        async def talk(first: str) -> Any:
            said = first
            async with handler.span("talking"):
                while True:
                    await leaf.ainvoke(said, {"callbacks": [handler]})
                    try:
                        said = yield said.upper()
                    except KeyError:
                        said = yield "?"

        assert inspect.isasyncgenfunction(talk)
        async with handler.span("consumer"):
            talking = talk("a")
            around = current.here()
            assert await talking.__anext__() == "A" and current.here() is around
            async with handler.span("between"):
                assert await talking.asend("b") == "B"
            assert await talking.athrow(KeyError()) == "?"
            await talking.aclose()
            assert current.here() is around
    root = (await asyncio.to_thread(only, tmp_path)).root
    assert shape(root) == ("consumer", [("talk", [("talking", ["leaf", "leaf"])]), "between"])
    assert [(span.outcome, span.cause) for span in root.children[0].walk()][:2] == [
        ("cancelled", "stream_left")
    ] * 2
    assert root.children[0].outputs == "AB?"


@pytest.mark.parametrize("how", ["closed", "left", "dropped"])
async def test_a_generator_that_is_not_consumed(tmp_path: Path, how: str) -> None:
    """Both kinds are cancelled, as a stream that is left, with the items until then."""
    async with tracker(tmp_path) as handler:

        @handler.tracked
        def numbers() -> Iterator[int]:
            yield from range(100)

        @handler.tracked
        async def anumbers() -> AsyncIterator[int]:
            for number in range(100):
                yield number

        async def consume() -> None:
            one: Any = numbers()
            other: Any = anumbers()
            assert (next(one), await other.__anext__()) == (0, 0)
            if how == "closed":
                one.close()
                await other.aclose()
            elif how == "left":
                for _ in one:
                    break
                async for _ in other:
                    break

        await consume()
        gc.collect()
        for _ in range(10):  # the loop closes what nobody holds any more
            await asyncio.sleep(0)
    found = await asyncio.to_thread(traces, tmp_path)
    assert {trace.root.name for trace in found} == {"numbers", "anumbers"}
    for trace in found:
        assert (trace.root.outcome, trace.root.cause) == ("cancelled", "stream_left")
        assert trace.root.outputs == ([0, 1] if how == "left" else [0])


def test_an_asynchronous_generator_that_is_open_as_its_loop_ends(tmp_path: Path) -> None:
    """The loop closes it as it would without us: once, without an error, and all that it has to do
    last is done."""
    told: list[Any] = []
    done: list[str] = []
    left: list[Any] = []

    async def main(handler: Any) -> None:
        @handler.tracked
        async def numbers() -> AsyncIterator[int]:
            try:
                yield 1
            finally:
                await asyncio.sleep(0)
                done.append("closed")

        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        for _ in range(5):
            left.append(numbers())
            await left[-1].__anext__()

    with tracker(tmp_path) as handler:
        asyncio.run(main(handler))
    assert (told, done) == ([], ["closed"] * 5)
    assert {trace.root.outcome for trace in traces(tmp_path)} == {"cancelled"}


def test_a_generator_that_is_never_begun(tmp_path: Path) -> None:
    """It is no call."""
    with tracker(tmp_path) as handler:
        handler.tracked(lambda: (yield))()
    assert handler.statistics().accepted == 0


def test_a_generator_that_raises(tmp_path: Path) -> None:
    """The error comes through, with what it yielded until then."""
    with tracker(tmp_path) as handler:

        @handler.tracked
        def numbers() -> Iterator[int]:
            yield 1
            raise ValueError("no more")

        with pytest.raises(ValueError, match="no more"):
            list(numbers())
    root = only(tmp_path).root
    assert (root.outcome, root.outputs) == ("error", [1])


def test_items_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a long generator the first items are stored, and how many there were besides."""
    monkeypatch.setattr(tracked, "MAX_ITEMS", 5)
    monkeypatch.setattr(tracked, "MAX_CHARACTERS", 10)
    with tracker(tmp_path) as handler:
        assert len(list(handler.tracked(lambda: (yield from range(8)))())) == 8
        assert len(list(handler.tracked(lambda: (yield from ["x" * 6] * 3))())) == 3
        assert list(handler.tracked(outputs=False)(lambda: (yield 1))()) == [1]

        def odd(items: list[Any]) -> Any:
            raise ValueError

        assert list(handler.tracked(reduce=odd)(lambda: (yield 1))()) == [1]
    numbers, texts, none, unreduced = (trace.root for trace in traces(tmp_path))
    assert (numbers.outputs, numbers.data["cut_items"]) == ([0, 1, 2, 3, 4], 3)
    assert (texts.outputs, texts.data["cut_items"]) == (["x" * 6], 2)
    assert (none.outputs, unreduced.outputs) == (None, [1])


def test_a_generator_consumed_by_chains(tmp_path: Path) -> None:
    """What its code calls is its own, whichever chain asks for the next item."""
    with tracker(tmp_path) as handler:
        config: Any = {"callbacks": [handler]}

        @handler.tracked
        def numbers() -> Iterator[int]:
            with handler.span("counting"):
                for number in range(2):
                    yield int(leaf.invoke(number))
            leaf.invoke(2)

        with handler.span("request"):
            source = numbers()
            one = RunnableLambda(lambda _: next(source)).with_config(run_name="one")
            two = RunnableLambda(lambda _: next(source, None)).with_config(run_name="two")
            one.invoke(None, config)
            two.invoke(None, config)
            two.invoke(None, config)
    root = only(tmp_path).root
    assert shape(root) == (
        "request",
        [("one", [("numbers", [("counting", ["leaf", "leaf"]), "leaf"])]), "two", "two"],
    )


def test_as_a_context_manager(tmp_path: Path) -> None:
    """What is made of a generator function, as a fixture or a dependency, works on one that is
    tracked: its block is not in the span."""
    with tracker(tmp_path) as handler:

        @contextlib.contextmanager
        @handler.tracked
        def connection() -> Iterator[str]:
            with handler.span("connect"):
                pass
            yield "it"

        with handler.span("request"), connection() as made, handler.span("in the block"):
            assert made == "it"
    assert shape(only(tmp_path).root) == ("request", [("connection", ["connect"]), "in the block"])


# -- no handler at hand -------------------------------------------------------------------------


def test_the_nearest_handler(tmp_path: Path) -> None:
    """Without a handler at hand it goes to that of the chain or the span around, else to the one
    that is installed, else nowhere."""

    def step(value: int) -> int:
        with asynctrack.span("of the chain") as span:
            span.outputs = value
            asynctrack.log("said")
        return module_level(value)

    chain = RunnableLambda(step)
    with (
        tracker(tmp_path / "a") as one,
        tracker(tmp_path / "b") as two,
        tracker(tmp_path / "c", install=True),
    ):
        with two.span("b"):
            chain.invoke(1, {"callbacks": [one]})
            with asynctrack.span("of the span"):
                pass
        module_level(2)
    with asynctrack.span("nowhere") as span:
        asynctrack.log("nowhere")
        assert module_level(3) == 3 and list(generated(4)) == [4]
        assert (span.trace_id, span.span_id) == (None, None) and "not tracked" in repr(span)
    assert shape(only(tmp_path / "a").root) == ("step", ["of the chain", "module_level"])
    assert [note.name for span in only(tmp_path / "a").walk() for note in span.notes] == ["said"]
    found = [shape(trace.root) for trace in traces(tmp_path / "b")]
    assert found == [("b", ["of the span"])]
    chain_too, installed = traces(tmp_path / "c")  # which LangChain asks for itself
    assert (chain_too.root.name, installed.root.inputs) == ("step", {"value": 2})
    assert not chain_too.root.children


@asynctrack.tracked
def generated(value: int) -> Iterator[int]:
    yield value


async def test_nothing_tracked(tmp_path: Path) -> None:
    """Coroutines and asynchronous generators do what they do, and no more."""

    @asynctrack.tracked
    async def twice(value: int) -> int:
        return value * 2

    @asynctrack.tracked
    async def items(value: int) -> AsyncIterator[int]:
        yield value

    assert await twice(2) == 4
    assert [item async for item in items(1)] == [1]
    async with asynctrack.span("nowhere"):
        pass


def test_it_loads_no_langchain() -> None:
    """A library that uses it does not make its users pay for LangChain."""
    code = (
        "import sys, asynctrack\n"
        "@asynctrack.tracked\n"
        "def one(): return 1\n"
        "with asynctrack.span('x'): assert one() == 1\n"
        "asynctrack.log('x')\n"
        "assert not [one for one in sys.modules if one.startswith(('langchain', 'asyncio'))]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


# -- log ----------------------------------------------------------------------------------------


def test_in_a_finalizer_as_the_interpreter_ends() -> None:
    """Whoever has used them may do so to the end, when nothing can be imported any more."""
    program = """
import asynctrack, builtins

class Last:
    def __del__(self):
        with asynctrack.span("last"):
            asynctrack.log("note")

with asynctrack.span("first"):
    asynctrack.log("note")
builtins.last = Last()
"""
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stderr == ""


def test_log(tmp_path: Path) -> None:
    """It is in the innermost span of one's own code or of LangChain's, else by itself."""
    with tracker(tmp_path) as handler:

        def step(value: int) -> int:
            handler.log("in the step", {"value": value})
            with handler.span("span"):
                handler.log("in the span", ["any", object])
            return value

        handler.log("alone", "x")
        with handler.span("request"):
            handler.log("in the request")
            RunnableLambda(step).invoke(1, {"callbacks": [handler]})
    trace = only(tmp_path)
    assert {span.name: [note.name for note in span.notes] for span in trace.walk()} == {
        "request": ["in the request"],
        "step": ["in the step"],
        "span": ["in the span"],
    }
    alone = next(event for event in open_run(tmp_path).events() if event.name == "alone")
    assert (alone.event, alone.span_id, alone.trace_id, alone.data) == (
        "custom_event", None, None, "x",
    )  # fmt: skip
