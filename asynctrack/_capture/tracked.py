"""``@handler.tracked``: each call of a function is a span, with its arguments and what it returns.

The function stays what it is: a coroutine function, a generator function or a plain one. The span
of a generator is open while it is consumed, and around what its own code calls only: between two
items the consumer's code is where it was.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Final, TypeVar, cast

from asynctrack._capture import current
from asynctrack._capture.tracked_span import Owner, TrackedSpan

MAX_ITEMS: Final = 10_000
"""Most items of a generator that are stored; further ones are counted."""
MAX_CHARACTERS: Final = 16 * 1024 * 1024
"""Most characters of items that are texts."""

F = TypeVar("F", bound="Callable[..., Any]")
Find = Callable[[], Owner | None]


class Tracked:
    """Makes functions whose calls are spans.

    Args:
        find: Returns the handler that a call goes to; None where nothing is tracked.
        name: The name of the spans; None for the function's.
        kind: As of ``handler.span``.
        inputs: Whether the arguments are stored, or the names of those that are.
        outputs: Whether what it returns or yields is stored.
        reduce: Makes one value of the list of a generator's items.
        tags: As of ``handler.span``.
        metadata: As of ``handler.span``.
    """

    def __init__(
        self,
        find: Find,
        *,
        name: str | None = None,
        kind: str = "chain",
        inputs: bool | str | Sequence[str] = True,
        outputs: bool = True,
        reduce: Callable[[list[Any]], Any] | None = None,
        tags: Sequence[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self._find = find
        self._name = name
        self._kind = kind
        self._inputs = (inputs,) if isinstance(inputs, str) else inputs
        self.keeps_outputs = outputs
        self.reduce = reduce
        self._tags = tags
        self._metadata = metadata

    def __call__(self, function: F) -> F:
        """Return a function that does what this one does, each call a span.

        Raises:
            TypeError: It is no function.
        """
        if isinstance(function, (classmethod, staticmethod)):
            return cast("F", type(function)(self(function.__func__)))
        if inspect.isclass(function) or not callable(function):
            raise TypeError(f"tracked is for functions and methods, not for {function!r}")
        begin = partial(self._span, self._name or _name(function), _parameters(function))
        runs = _what_runs(function)
        if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(runs):
            made: Any = self._coroutine(function, begin)
        elif inspect.isasyncgenfunction(runs):
            made = self._asynchronous_generator(function, begin)
        elif inspect.isgeneratorfunction(runs):
            made = self._generator(function, begin)
        else:
            made = self._plain(function, begin)
        return cast("F", functools.wraps(function)(made))

    # -- inside -------------------------------------------------------------------------------

    def _span(
        self,
        name: str,
        parameters: _Parameters,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> TrackedSpan:
        owner = self._find()
        inputs = None
        if owner is not None and self._inputs is not False:
            inputs = parameters.given(args, kwargs)
            if self._inputs is not True:
                names = self._inputs
                inputs = {name: inputs[name] for name in names if name in inputs}
        return TrackedSpan(
            owner, name, inputs=inputs, kind=self._kind, tags=self._tags, metadata=self._metadata
        )

    def _plain(self, function: Callable[..., Any], begin: _Begin) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            with begin(args, kwargs) as span:
                result = function(*args, **kwargs)
                if self.keeps_outputs:
                    span.outputs = result
                return result

        return call

    def _coroutine(self, function: Callable[..., Any], begin: _Begin) -> Any:
        async def call(*args: Any, **kwargs: Any) -> Any:
            async with begin(args, kwargs) as span:
                result = await function(*args, **kwargs)
                if self.keeps_outputs:
                    span.outputs = result
                return result

        return call

    def _generator(self, function: Callable[..., Any], begin: _Begin) -> Any:
        def generate(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            inside = _Inside(self, begin(args, kwargs))
            with inside:
                inside.span.__enter__()
            try:
                with inside:
                    generator = function(*args, **kwargs)
                step: Any = partial(next, generator)
                while True:
                    try:
                        with inside:
                            item = step()
                    except StopIteration as end:
                        inside.returned = end.value
                        break
                    inside.keep(item)
                    try:
                        sent = yield item
                    except GeneratorExit:
                        with inside:
                            value = generator.close()  # since 3.13 it may return something
                        if value is None:
                            raise
                        inside.returned = value
                        break
                    except BaseException as error:
                        step = partial(generator.throw, error)
                    else:
                        step = partial(generator.send, sent)
            except BaseException as error:
                inside.leave(error)
                raise
            inside.leave(None)
            return inside.returned

        return generate

    def _asynchronous_generator(self, function: Callable[..., Any], begin: _Begin) -> Any:
        async def generate(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            inside = _Inside(self, begin(args, kwargs))
            with inside:
                await inside.span.__aenter__()
            try:
                with inside:
                    generator = function(*args, **kwargs)
                step: Any = partial(_first, generator)
                while True:
                    try:
                        with inside:
                            item = await step()
                    except StopAsyncIteration:
                        break
                    inside.keep(item)
                    try:
                        sent = yield item
                    except GeneratorExit:
                        with inside:
                            await generator.aclose()
                        raise
                    except BaseException as error:
                        step = partial(generator.athrow, error)
                    else:
                        step = partial(generator.asend, sent)
            except BaseException as error:
                await inside.aleave(error)
                raise
            await inside.aleave(None)

        return generate


_Begin = Callable[[tuple[Any, ...], "dict[str, Any]"], TrackedSpan]


class _Inside:
    """What is around a generator's own code: enter it for each step, and leave it for the consumer.

    Args:
        tracked: How it is tracked.
        span: Its span.
    """

    __slots__ = (
        "_characters",
        "_cut",
        "_here",
        "_items",
        "_outside",
        "_tracked",
        "returned",
        "span",
    )

    def __init__(self, tracked: Tracked, span: TrackedSpan) -> None:
        self.span = span
        self.returned: Any = None
        self._tracked = tracked
        self._here: current.Here | None = None
        self._outside: current.Here | None = None
        self._items: list[Any] = []
        self._characters = 0
        self._cut = 0

    def __enter__(self) -> None:
        if self.span.is_nobodys:
            return
        self._outside = current.here()
        if self._here is not None:
            self.span.resume(self._here)
            current.put_here(self._here)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.span.is_nobodys:
            return
        self._here = current.here()
        current.put_here(self._outside)
        self._outside = None

    def keep(self, item: Any) -> None:
        """Keep an item for the outputs, as long as there is room."""
        if not self._tracked.keeps_outputs or self.span.is_nobodys:
            return
        if isinstance(item, (str, bytes)):
            self._characters += len(item)
        if len(self._items) >= MAX_ITEMS or self._characters > MAX_CHARACTERS:
            self._cut += 1
        else:
            self._items.append(item)

    def leave(self, error: BaseException | None) -> None:
        """End the span."""
        self._tell()
        with self:
            self.span.__exit__(None if error is None else type(error), error, None)

    async def aleave(self, error: BaseException | None) -> None:
        """End the span; await room for its event."""
        self._tell()
        with self:
            await self.span.__aexit__(None if error is None else type(error), error, None)

    def _tell(self) -> None:
        """Set the span's outputs."""
        if not self._tracked.keeps_outputs or self.span.is_nobodys:
            return
        outputs: Any = self._items
        if self._tracked.reduce is not None:
            try:
                outputs = self._tracked.reduce(self._items)
            except Exception:
                pass  # the user's: what it was to be made of says more than nothing
        self.span.outputs = outputs
        if self._cut:
            self.span.said["cut_items"] = self._cut
        if self.returned is not None:
            self.span.said["returned"] = self.returned


class _Parameters:
    """The parameters of a function.

    Args:
        signature: Its signature; None where it has none.
        own: The first parameter, where that is what a method is called on.
    """

    def __init__(self, signature: inspect.Signature | None, own: str | None) -> None:
        self._signature = signature
        self._own = own

    def given(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return arguments by their names, defaults too; as they are where they do not fit: the
        call raises then."""
        try:
            if self._signature is None:
                raise TypeError
            bound = self._signature.bind(*args, **kwargs)
        except TypeError:
            return {"args": list(args), "kwargs": kwargs}
        bound.apply_defaults()
        found = dict(bound.arguments)
        if self._own is not None:
            found.pop(self._own, None)
        for name, parameter in self._signature.parameters.items():
            various = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
            if various and not found.get(name, True):
                del found[name]
        return found


def _parameters(function: Callable[..., Any]) -> _Parameters:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of some that are written in C
        return _Parameters(None, None)
    first = next(iter(signature.parameters), None)
    of_a_class = _of_a_class(function)
    return _Parameters(signature, first if of_a_class and first in ("self", "cls") else None)


def _first(generator: AsyncGenerator[Any, Any]) -> Any:
    """Begin a generator that the event loop is not told of: it knows the one around it, which
    closes it. As the loop ends it closes all that it knows at once, and both would be closing it.
    """
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, None)
    try:
        return generator.__anext__()
    finally:
        sys.set_asyncgen_hooks(*hooks)


def _what_runs(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function that a call runs: of an object that can be called, its own."""
    inner: Any = function
    while isinstance(inner, partial):
        inner = inner.func
    return inner if inspect.isroutine(inner) else getattr(type(inner), "__call__", inner)  # noqa: B004  # not whether it can be called


def _of_a_class(function: Callable[..., Any]) -> bool:
    above = str(getattr(function, "__qualname__", "")).rpartition(".")[0]
    return bool(above) and not above.endswith("<locals>")


def _name(function: Callable[..., Any]) -> str:
    while isinstance(function, partial):
        function = function.func
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return str(name).rpartition("<locals>.")[2]
