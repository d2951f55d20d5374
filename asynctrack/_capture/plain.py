"""``asynctrack.span``, ``tracked`` and ``log``: for code that has no handler at hand.

What they track goes to the nearest handler: that of the chain or the span around the call, else the
one that is installed. Where there is none, they do nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast, overload

from asynctrack._capture import current
from asynctrack._capture.installed import asked
from asynctrack._capture.moment import note
from asynctrack._capture.tracked import F, Tracked
from asynctrack._capture.tracked_span import Owner, TrackedSpan


def nearest(installed: Callable[[], Any] = asked.get) -> Owner | None:
    """Return the handler of what is around the call, else the installed one; None without.

    Args:
        installed: Returns the installed one.
    """
    here, left = current.here(), None
    while here is not None and not here.open:
        left, here = left or here, here.outer
    handlers = sys.modules.get("asynctrack._capture.handlers")
    run, own = (None, None) if handlers is None else handlers.around()  # no tracker was opened yet
    if here is not None and (own is None or here.within == run):
        return cast("Owner", here.owner)
    found: Owner | None = own or installed()
    return cast("Owner", left.owner) if found is None and left is not None else found


def span(
    name: str,
    *,
    inputs: Any = None,
    kind: str = "chain",
    tags: Sequence[str] | None = None,
    metadata: Mapping[str, Any] | None = None,
    traceparent: str | None = None,
) -> TrackedSpan:
    """Track a block of your own code, as ``handler.span`` does, for who has no handler at hand.

    It goes to the handler of the chain or the span around it, else to the installed one. Where
    nothing is tracked it does nothing.

    Args:
        name: Its name.
        inputs: What goes in.
        kind: ``"chain"``, ``"tool"``, ``"retriever"``, or a word of your own.
        tags: As LangChain's.
        metadata: As LangChain's: names and values.
        traceparent: W3C's header of who calls; see ``handler.span``.

    Returns:
        What to enter; set its ``outputs`` in the block.

    Example:
        >>> import asynctrack
        >>> with asynctrack.tracker("runs", install=True):
        ...     with asynctrack.span("greet", inputs="ada") as span:
        ...         span.outputs = "Hello Ada"
        >>> (trace,) = asynctrack.open_run("runs").traces()
        >>> trace.root.name, trace.root.outputs
        ('greet', 'Hello Ada')
    """
    return TrackedSpan(
        nearest(),
        name,
        inputs=inputs,
        kind=kind,
        tags=tags,
        metadata=metadata,
        traceparent=traceparent,
    )


@overload
def tracked(function: F, /) -> F: ...
@overload
def tracked(
    *,
    name: str | None = ...,
    kind: str = ...,
    inputs: bool | str | Sequence[str] = ...,
    outputs: bool = ...,
    reduce: Callable[[list[Any]], Any] | None = ...,
    tags: Sequence[str] | None = ...,
    metadata: Mapping[str, Any] | None = ...,
) -> Callable[[F], F]: ...
def tracked(function: Any = None, /, **options: Any) -> Any:
    """Track each call of a function, as ``@handler.tracked`` does, for who has no handler at hand.

    A call goes to the handler of the chain or the span around it, else to the installed one. Where
    nothing is tracked, the function is called and nothing else.

    Args:
        function: A function, a coroutine function, a generator or an asynchronous generator, a
            method of any kind.
        **options: See ``handler.tracked``.

    Returns:
        A function that does the same.

    Raises:
        TypeError: It is no function.

    Example:
        >>> import asynctrack
        >>> @asynctrack.tracked
        ... def greet(who):
        ...     return f"Hello {who}"
        >>> with asynctrack.tracker("runs", install=True):
        ...     greet("Ada")
        'Hello Ada'
        >>> (trace,) = asynctrack.open_run("runs").traces()
        >>> trace.root.name, trace.root.inputs
        ('greet', {'who': 'Ada'})
    """
    track = Tracked(nearest, **options)
    return track if function is None else track(function)


def log(name: str, payload: Any = None) -> None:
    """Log something into the span around the call, as ``handler.log`` does, for who has no handler
    at hand. Never blocks.

    Args:
        name: What it is.
        payload: Anything.

    Example:
        >>> import asynctrack
        >>> with asynctrack.tracker("runs", install=True), asynctrack.span("search"):
        ...     asynctrack.log("found", {"documents": 3})
        >>> (trace,) = asynctrack.open_run("runs").traces()
        >>> [(note.name, note.data) for note in trace.root.notes]
        [('found', {'documents': 3})]
    """
    owner = nearest()
    if owner is not None:
        note(owner, name, payload)
