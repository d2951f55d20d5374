"""The two LangChain handlers: what LangChain calls, and how an event gets into the buffer.

Both have every callback of langchain-core, and none raises. The asynchronous handler runs inline in
the caller's task (else langchain-core makes a task for each callback) and awaits room when the
buffer is full. The synchronous one costs a plain call and waits in its thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from sys import _getframe, modules
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeVar, overload
from uuid import UUID

from langchain_core.callbacks.base import AsyncCallbackHandler, BaseCallbackHandler

from asynctrack._capture.capture import SHEDDABLE
from asynctrack._capture.moment import note
from asynctrack._capture.sessions import Session, current_session
from asynctrack._capture.sessions import session as name_session
from asynctrack._capture.tracked import F, Tracked
from asynctrack._capture.tracked_span import TrackedSpan
from asynctrack._common.feedback import feedback_record
from asynctrack._common.own import is_own

if TYPE_CHECKING:
    from asynctrack._capture.sink import Flush, Sink
    from asynctrack._statistics import Statistics

_H = TypeVar("_H", bound="_Handler")


def _await_in(sink: Sink, name: str) -> Callable[..., Any]:
    """Make the asynchronous callback of this name that puts into this sink."""
    sheddable = name in SHEDDABLE
    capture, put_nowait = getattr(sink.capture, name), sink.put_nowait

    if name == "on_llm_new_token" and sink.capture.joins_tokens:
        # The hottest callback puts nothing. Naming what LangChain passes saves a fifth of its time.
        async def token_callback(
            token: Any,
            *,
            run_id: UUID,
            chunk: Any = None,
            parent_run_id: Any = None,
            tags: Any = None,
            **kwargs: Any,
        ) -> None:
            if is_own() and sink.leaves_out():
                return
            try:
                if token:
                    capture(token, run_id=run_id)
                else:
                    capture(token, run_id=run_id, chunk=chunk)
            except Exception as error:
                sink.capture_failed(name, error)

        return token_callback

    async def callback(*args: Any, **kwargs: Any) -> None:
        if is_own() and sink.leaves_out():
            return
        try:
            body = capture(*args, **kwargs)
        except Exception as error:
            sink.capture_failed(name, error)
            return
        if body is not None and not put_nowait(body, sheddable):
            await sink.put(body, sheddable, args[0] if args else None)

    return callback


def call_in(sink: Sink, name: str, waits: Callable[[], bool] = lambda: True) -> Callable[..., Any]:
    """Make the synchronous callback of this name that puts into this sink.

    Args:
        sink: Where events go.
        name: The callback's.
        waits: Asked whether it may wait here, where there is no room.
    """
    sheddable = name in SHEDDABLE
    capture, put_nowait = getattr(sink.capture, name), sink.put_nowait

    def callback(*args: Any, **kwargs: Any) -> None:
        if is_own() and sink.leaves_out():
            return
        try:
            body = capture(*args, **kwargs)
        except Exception as error:
            sink.capture_failed(name, error)
            return
        if body is not None and not put_nowait(body, sheddable):
            sink.put_blocking(body, sheddable, args[0] if args else None, may_wait=waits())

    return callback


def _awaiting(name: str) -> Any:
    """Make the method of this name: documentation, what ``super()`` finds, and the first call."""

    async def callback(self: AsyncHandler, *args: Any, **kwargs: Any) -> None:
        await self._bound(name, callback)(*args, **kwargs)

    return _named(callback, name)


def _calling(name: str) -> Any:
    """Make the method of this name: documentation, what ``super()`` finds, and the first call."""

    def callback(self: SyncHandler, *args: Any, **kwargs: Any) -> None:
        self._bound(name, callback)(*args, **kwargs)

    return _named(callback, name)


def _named(callback: Callable[..., Any], name: str) -> Any:
    callback.__name__ = name
    callback.__qualname__ = f"Handler.{name}"
    callback.__doc__ = f"Track LangChain's ``{name}``; see langchain-core for the arguments."
    return callback


class _Handler:
    """What both handlers offer to the user."""

    # Plain attributes: langchain-core has a property for each and asks it at each callback.
    ignore_llm = ignore_chain = ignore_agent = ignore_retriever = False
    ignore_chat_model = ignore_custom_event = ignore_retry = False
    _bind: ClassVar[Any]

    def __init__(self, sink: Sink) -> None:
        self._callbacks: dict[str, Callable[..., Any]] = {}
        self._sink = sink

    @property
    def _sink(self) -> Sink:
        return self._bound_to

    @_sink.setter
    def _sink(self, sink: Sink) -> None:
        self._bound_to = sink
        for name in self._callbacks:
            self.__dict__.pop(name, None)
        self._callbacks = {}

    def _bound(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        """Return the callback of this name bound to the sink, which the instance has from now on.

        LangChain finds it there before Python makes a method of anything: half a microsecond less
        for each callback. Each is bound when it is first called, as all twenty take 10 KB and there
        may be a thousand handlers.
        """
        bound = self._callbacks.get(name)
        if bound is None:
            bound = self._callbacks[name] = type(self)._bind(self._bound_to, name)
            # A subclass that defines it comes here by super(). Its own method must stay visible.
            if getattr(type(self), name) is method:
                self.__dict__[name] = bound
        return bound

    def __copy__(self: _H) -> _H:
        """Return the handler itself, as LangChain's own tracers do: a copied model or config is
        still tracked."""
        return self

    def __deepcopy__(self: _H, memo: object) -> _H:
        """Return the handler itself."""
        return self

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled.

        Raises:
            TypeError: Always; it says what to do instead.
        """
        raise TypeError(
            "a handler of asynctrack cannot be pickled: it belongs to the tracker of its process."
            " Call tracker(...) in the other process, and hand over what that takes"
        )

    def __repr__(self) -> str:
        from asynctrack._common.markup import counted, one_line

        kind, sink = type(self).__name__, self._sink
        return f"<{kind} of {one_line(sink.run_name)}: {counted(sink.statistics())}>"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: where it tracks to, and its counters."""
        from asynctrack._common.markup import counters, facts_html

        kind, sink = type(self).__name__, self._sink
        return facts_html(f"{kind} of {sink.run_name}", counters(sink.statistics()))

    def span(
        self,
        name: str,
        *,
        inputs: Any = None,
        kind: str = "chain",
        tags: Sequence[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        traceparent: str | None = None,
    ) -> TrackedSpan:
        """Track a block of your own code: ``with handler.span(...)``, or ``async with``.

        It is part of the trace around it, and what is called in it is part of it: chains, models,
        tools, other spans; in this task or thread, and in tasks that start in the block. An
        exception makes it an error, and passes on.

        Both forms may be used with both handlers. In asynchronous code ``async with`` is better: it
        awaits room where the buffer is full, while ``with`` drops the event then, and counts it.

        Args:
            name: Its name.
            inputs: What goes in.
            kind: ``"chain"``, ``"tool"``, ``"retriever"``, or a word of your own.
            tags: As LangChain's.
            metadata: As LangChain's: names and values.
            traceparent: W3C's header of who calls: the span begins a trace of its own, which joins
                the caller's where it is exported to OpenTelemetry. One that is not valid is
                ignored. Without it, a root joins the span of OpenTelemetry's around it.

        Returns:
            What to enter; set its ``outputs`` in the block.

        Example:
            >>> from asynctrack import open_run, tracker
            >>> from langchain_core.runnables import RunnableLambda
            >>> with tracker("runs") as handler:
            ...     with handler.span("greet", inputs={"who": "ada"}) as span:
            ...         config = {"callbacks": [handler]}
            ...         span.outputs = RunnableLambda(str.upper).invoke("ada", config=config)
            >>> (trace,) = open_run("runs").traces()
            >>> [(one.name, one.outputs) for one in trace.walk()]
            [('greet', 'ADA'), ('upper', 'ADA')]
        """
        return TrackedSpan(
            self,
            name,
            inputs=inputs,
            kind=kind,
            tags=tags,
            metadata=metadata,
            traceparent=traceparent,
        )

    @overload
    def tracked(self, function: F, /) -> F: ...
    @overload
    def tracked(
        self,
        /,
        *,
        name: str | None = ...,
        kind: str = ...,
        inputs: bool | str | Sequence[str] = ...,
        outputs: bool = ...,
        reduce: Callable[[list[Any]], Any] | None = ...,
        tags: Sequence[str] | None = ...,
        metadata: Mapping[str, Any] | None = ...,
    ) -> Callable[[F], F]: ...
    def tracked(self, function: Any = None, /, **options: Any) -> Any:
        """Track each call of a function of your own: ``@handler.tracked``.

        A span with the arguments and what the function returns, and with all that is called in it.
        A generator's span is open until it is exhausted, closed, or raises; its outputs are the
        items, the first 10,000.

        Args:
            function: A function, a coroutine function, a generator or an asynchronous generator, a
                method of any kind.
            name: The name of its spans; by default the function's.
            kind: ``"chain"`` (the default), ``"tool"``, ``"retriever"``, or a word of your own.
            inputs: Whether its arguments are stored (the default), or the names of those that are.
                ``self`` and ``cls`` never are.
            outputs: Whether what it returns or yields is stored; True by default.
            reduce: Makes one value of the list of a generator's items: ``"".join``.
            tags: As LangChain's.
            metadata: As LangChain's: names and values.

        Returns:
            A function that does the same.

        Raises:
            TypeError: It is no function.

        Example:
            >>> from asynctrack import open_run, tracker
            >>> with tracker("runs") as handler:
            ...     @handler.tracked(reduce="".join)
            ...     def greet(who):
            ...         yield "Hello "
            ...         yield who
            ...     "".join(greet("Ada"))
            'Hello Ada'
            >>> [(trace.root.inputs, trace.root.outputs) for trace in open_run("runs").traces()]
            [({'who': 'Ada'}, 'Hello Ada')]
        """
        track = Tracked(lambda: self, **options)
        return track if function is None else track(function)

    def log(self, name: str, payload: Any = None) -> None:
        """Log something into the span around the call: a custom event, as LangChain's
        ``dispatch_custom_event`` makes one. Never blocks.

        The span is the innermost one, of your own code or a run of LangChain's. Without one it is
        stored by itself.

        Args:
            name: What it is.
            payload: Anything.

        Example:
            >>> from asynctrack import open_run, tracker
            >>> with tracker("runs") as handler, handler.span("search"):
            ...     handler.log("found", {"documents": 3})
            >>> (trace,) = open_run("runs").traces()
            >>> [(note.name, note.data) for note in trace.root.notes]
            [('found', {'documents': 3})]
        """
        note(self, name, payload)

    @staticmethod
    def _running() -> UUID | None:
        """Return LangChain's run that this is called in; None outside of any."""
        run_id = getattr(_callbacks(), "parent_run_id", None)
        return run_id if isinstance(run_id, UUID) else None

    def log_parameters(self, parameters: Mapping[str, Any]) -> None:
        """Log hyperparameters: into the Run's parameters and as an event. Never blocks.

        Args:
            parameters: Names and values. Numbers and strings are stored as they are, anything
                else as its JSON. The last value of a name counts; a run of MLflow keeps the first,
                and the manifest the last. What is over one of the service's limits is stored whole
                in the manifest, with a pointer to it in the Run.
        """
        self._sink.log_parameters(parameters)

    def log_metric(self, name: str, value: float, step: int | None = None) -> None:
        """Log one value of a metric: into the Run's metrics and as an event. Never blocks.

        Args:
            name: 1 to 255 characters.
            value: A number. What is not finite is stored in the event only: SageMaker takes
                none. MLflow does.
            step: The iteration, 0 or more; None numbers the values of a name by themselves.
        """
        self._sink.log_metric(name, value, step)

    def log_feedback(
        self,
        trace_id: str | UUID,
        name: str,
        score: float | str | None = None,
        *,
        comment: str | None = None,
        span_id: str | UUID | None = None,
        user_id: str | int | UUID | None = None,
    ) -> None:
        """Log what somebody thinks of a trace: an event of its own, which changes nothing of what
        is stored. Never blocks. For a Run that is done: ``open_run(...).log_feedback(...)``.

        Args:
            trace_id: The trace: LangChain's run id of its root. ``session.trace_id`` tells it, and
                ``config={"run_id": uuid4()}`` sets it.
            name: What is scored, 1 to 255 characters: ``"thumbs"``, ``"correctness"``.
            score: A number, True or False (1 or 0), or a label; None for a comment alone.
            comment: In words, at most 10,000 characters.
            span_id: The span of the trace that it is about; None for all of it.
            user_id: Who says so; None takes the user of the session that it is called in.

        Raises:
            OptionError: One of them is not allowed; the text names it, its value and what is.

        Example:
            >>> from uuid import uuid4
            >>> from asynctrack import open_run, tracker
            >>> from langchain_core.runnables import RunnableLambda
            >>> trace_id = uuid4()
            >>> with tracker("runs") as handler:
            ...     config = {"callbacks": [handler], "run_id": trace_id}
            ...     answer = RunnableLambda(str.upper).invoke("hello", config=config)
            ...     handler.log_feedback(trace_id, "thumbs", 1, comment="loud and clear")
            >>> for one in open_run("runs").feedback():
            ...     print(one.name, one.score, one.comment, one.trace_id == str(trace_id))
            thumbs 1 loud and clear True
        """
        session = current_session()
        if user_id is None and session is not None:
            user_id = session.user_id
        self._sink.log_feedback(feedback_record(trace_id, name, score, comment, span_id, user_id))

    def session(
        self,
        *,
        session_id: str | int | UUID | None = None,
        user_id: str | int | UUID | None = None,
        thread_id: str | int | UUID | None = None,
    ) -> Session:
        """Name the session, user and thread of all that is called in a ``with`` block.

        The same as ``asynctrack.session``, for who has a handler.

        Args:
            session_id: The session.
            user_id: The user.
            thread_id: The thread: a conversation, LangGraph's ``thread_id``.

        Raises:
            OptionError: An id is no text and no number; the text names it, its value and what is.

        Example:
            >>> from asynctrack import open_run, tracker
            >>> from langchain_core.runnables import RunnableLambda
            >>> with tracker("runs") as handler, handler.session(user_id="ada") as session:
            ...     RunnableLambda(str.upper).invoke("hello", config={"callbacks": [handler]})
            'HELLO'
            >>> [(trace.user_id, trace.trace_id == session.trace_id)
            ...  for trace in open_run("runs").traces()]
            [('ada', True)]
        """
        return name_session(session_id=session_id, user_id=user_id, thread_id=thread_id)

    def statistics(self) -> Statistics:
        """Return a frozen snapshot of all counters; may be called from any thread."""
        return self._sink.statistics()

    def flush_tracker(self) -> Flush:
        """Flush at once without waiting, as the old handler's method of this name.

        Returns:
            The flush, under way. Await it, or wait for it with ``result(timeout)``. Both give True
            once everything accepted before this call is delivered.
        """
        return self._sink.request_flush()


def _callbacks() -> Any:
    """Return the callbacks of LangChain's run that this is called in; None outside of any."""
    # Who has not imported it has no chain that runs.
    config = modules.get("langchain_core.runnables.config")
    running = None if config is None else config.var_child_runnable_config.get()
    return running.get("callbacks") if isinstance(running, dict) else None


def around() -> tuple[UUID | None, AsyncHandler | SyncHandler | None]:
    """Return LangChain's run that this is called in, and the first handler of ours that it has."""
    callbacks = _callbacks()
    run_id = getattr(callbacks, "parent_run_id", None)
    for one in getattr(callbacks, "handlers", ()):
        if isinstance(one, (AsyncHandler, SyncHandler)):
            return run_id, one
    return run_id, None


class AsyncHandler(_Handler, AsyncCallbackHandler):
    """The handler of ``async with tracker(run) as handler``.

    May be called from any thread and any event loop. Made by ``tracker(...)``.
    """

    _bind = staticmethod(_await_in)

    @property
    def run_inline(self) -> bool:  # type: ignore[override]  # a plain attribute in langchain-core
        """Whether LangChain awaits the callbacks in the caller's task instead of a new one.

        True, with one exception: ``AsyncCallbackManager.on_llm_start`` of langchain-core calls only
        the inline handlers when there is one (langchain issue 39633). So it gets False, unless
        another handler is inline: then it gets True, because it would not call us otherwise. What
        it calls next asks again and gets True.
        """
        caller = _getframe(1)
        # Nearly always it is not one of them, and LangChain asks twice at each callback.
        if id(caller.f_code) not in (_asking_wrongly or _codes_of_on_llm_start()):
            return True
        frame: FrameType | None = caller
        while frame is not None and "self" not in frame.f_locals:
            frame = frame.f_back  # a comprehension has a frame of its own until Python 3.11
        handlers = getattr(frame and frame.f_locals.get("self"), "handlers", ())
        return any(not isinstance(one, _Handler) and one.run_inline for one in handlers)

    async def flush(self, timeout: float | None = None) -> bool:
        """Deliver everything accepted before this call.

        Args:
            timeout: The longest to wait, in seconds; None waits as long as it takes.

        Returns:
            Whether it is all delivered, parameters and metrics included. False when the time is
            over first; delivery goes on in the background.
        """
        flush = self._sink.request_flush()
        try:
            return await asyncio.wait_for(asyncio.shield(flush.as_future()), timeout)
        except (TimeoutError, asyncio.TimeoutError):  # two types until 3.10
            return False

    on_llm_start: Any = _awaiting("on_llm_start")
    on_chat_model_start: Any = _awaiting("on_chat_model_start")
    on_llm_new_token: Any = _awaiting("on_llm_new_token")
    on_stream_event: Any = _awaiting("on_stream_event")
    on_llm_end: Any = _awaiting("on_llm_end")
    on_llm_error: Any = _awaiting("on_llm_error")
    on_chain_start: Any = _awaiting("on_chain_start")
    on_chain_end: Any = _awaiting("on_chain_end")
    on_chain_error: Any = _awaiting("on_chain_error")
    on_tool_start: Any = _awaiting("on_tool_start")
    on_tool_end: Any = _awaiting("on_tool_end")
    on_tool_error: Any = _awaiting("on_tool_error")
    on_retriever_start: Any = _awaiting("on_retriever_start")
    on_retriever_end: Any = _awaiting("on_retriever_end")
    on_retriever_error: Any = _awaiting("on_retriever_error")
    on_agent_action: Any = _awaiting("on_agent_action")
    on_agent_finish: Any = _awaiting("on_agent_finish")
    on_text: Any = _awaiting("on_text")
    on_retry: Any = _awaiting("on_retry")
    on_custom_event: Any = _awaiting("on_custom_event")


class SyncHandler(_Handler, BaseCallbackHandler):
    """The handler of ``with tracker(run) as handler``.

    May be called from any thread and any event loop. Made by ``tracker(...)``.
    """

    _bind = staticmethod(call_in)

    def flush(self, timeout: float | None = None) -> bool:
        """Deliver everything accepted before this call.

        Args:
            timeout: The longest to wait, in seconds; None waits as long as it takes.

        Returns:
            Whether it is all delivered, parameters and metrics included. False when the time is
            over first; delivery goes on in the background.
        """
        return self._sink.request_flush().result(timeout)

    on_llm_start: Any = _calling("on_llm_start")
    on_chat_model_start: Any = _calling("on_chat_model_start")
    on_llm_new_token: Any = _calling("on_llm_new_token")
    on_stream_event: Any = _calling("on_stream_event")
    on_llm_end: Any = _calling("on_llm_end")
    on_llm_error: Any = _calling("on_llm_error")
    on_chain_start: Any = _calling("on_chain_start")
    on_chain_end: Any = _calling("on_chain_end")
    on_chain_error: Any = _calling("on_chain_error")
    on_tool_start: Any = _calling("on_tool_start")
    on_tool_end: Any = _calling("on_tool_end")
    on_tool_error: Any = _calling("on_tool_error")
    on_retriever_start: Any = _calling("on_retriever_start")
    on_retriever_end: Any = _calling("on_retriever_end")
    on_retriever_error: Any = _calling("on_retriever_error")
    on_agent_action: Any = _calling("on_agent_action")
    on_agent_finish: Any = _calling("on_agent_finish")
    on_text: Any = _calling("on_text")
    on_retry: Any = _calling("on_retry")
    on_custom_event: Any = _calling("on_custom_event")


class _Nobody(BaseCallbackHandler):
    """Stands in for an installed handler that is taken out between LangChain's two looks at it."""


def offer(asked: Any) -> None:
    """Have LangChain ask for a handler wherever a chain, a model or a tool begins.

    LangChain asks twice: whether there is one, and which. A thread may end its tracker in between.
    For a hook without a class LangChain would call None then; this one's makes a handler that does
    nothing. None of ours is of that class, so the manager itself sees whether it has it already.

    Args:
        asked: Has a ``get`` that returns the handler or None, like a context variable.
    """
    # It brings the client of LangSmith, as does the first chain that is called.
    from langchain_core.tracers.context import register_configure_hook

    register_configure_hook(asked, inheritable=True, handle_class=_Nobody)


_asking_wrongly: frozenset[int] = frozenset()
"""The ids of the code that asks for ``run_inline`` wrongly, once it is known."""


def _codes_of_on_llm_start() -> frozenset[int]:
    """Return the ids of the code of ``AsyncCallbackManager.on_llm_start`` and what is in it."""
    global _asking_wrongly
    # Imported this late because whoever asks has imported it.
    from langchain_core.callbacks.manager import AsyncCallbackManager

    code = AsyncCallbackManager.on_llm_start.__code__
    inner = [one for one in code.co_consts if isinstance(one, CodeType)]
    _asking_wrongly = frozenset(map(id, (code, *inner)))
    return _asking_wrongly
