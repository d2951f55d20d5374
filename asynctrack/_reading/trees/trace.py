"""Trace: the spans of one call from outside, and what they tell together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from asynctrack._common.markup import one_line
from asynctrack._common.outcome import OUTCOMES, Outcome, said_outcome
from asynctrack._errors import OptionError
from asynctrack._reading.trees.sampling import weight_of
from asynctrack._reading.trees.sessions import session_of, thread_of, user_of
from asynctrack._reading.trees.shown import NAME, trace_html, tree_text
from asynctrack._reading.trees.shown import seconds as seconds_said
from asynctrack._reading.trees.span import Span, seconds


@dataclass(frozen=True, slots=True, repr=False)
class Trace:
    """The spans of one call from outside.

    Attributes:
        trace_id: The root's span id.
        writer_id: Who recorded it.
        roots: The root, and every other span whose parent is not there; in the order of their
            starts. At least one.
        resumes: The trace that waited for this one, by LangGraph's thread: its id.
    """

    trace_id: str
    writer_id: str
    roots: tuple[Span, ...]
    resumes: str | None = None

    def __repr__(self) -> str:
        return f"<Trace {self._title(sum(1 for _ in self.walk()))}>"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the tree, folded, escaped, and cut."""
        count = sum(1 for _ in self.walk())
        return trace_html(f"Trace {self._title(count)}", self.roots, count)

    def _title(self, count: int) -> str:
        root = self.root
        said = [
            said_outcome(root.outcome, root.cause),
            seconds_said(root.duration),
            f"{count:,} span{'' if count == 1 else 's'}",
            one_line(self.trace_id, 40),
        ]
        return f"{one_line(root.name or root.kind, NAME)}: {', '.join(said)}"

    @property
    def root(self) -> Span:
        """The span without a parent, else the first one whose parent nobody has seen."""
        return min(self.roots, key=lambda span: (not span.started, span.orphan))

    @property
    def outcome(self) -> Outcome:
        """How its root ended."""
        return self.root.outcome

    @property
    def failed(self) -> bool:
        """Whether its root ended with an error."""
        return self.root.outcome == "error"

    @property
    def complete(self) -> bool:
        """Whether every span is there, from start to end, and its parent, but for the root's."""
        root = self.root
        return all(
            span.started and span.finished and (not span.orphan or span is root)
            for span in self.walk()
        )

    @property
    def blame(self) -> Span | None:
        """The deepest span whose error is the root's; None where the root has none."""
        span = self.root
        if span.error is None:
            return None
        while True:
            error = span.error
            assert error is not None  # only such spans are followed
            failed = [(child, child.error) for child in reversed(span.children) if child.error]
            below = next((child for child, one in failed if error.matches(one)), None)
            if below is None:
                below = next((child for child, one in failed if error.comes_from(one)), None)
            if below is None:
                return span
            span = below

    @property
    def recovered(self) -> tuple[Span, ...]:
        """The spans where an error came up that the trace did not fail of."""
        if self.failed:
            return ()
        return tuple(span for span in self.walk() if span.raised)

    @property
    def waits_for(self) -> tuple[Span, ...]:
        """The spans where the trace pauses, if it does; ``exception.value`` is what they ask."""
        if self.root.cause != "pause":
            return ()
        return tuple(span for span in self.walk() if span.cause == "pause" and span.hands_on)

    @property
    def session_id(self) -> str | None:
        """The session it is of, as its metadata name it: see ``sessions``."""
        return self._named(session_of)

    @property
    def user_id(self) -> str | None:
        """The user it is for, as its metadata name them."""
        return self._named(user_of)

    @property
    def thread_id(self) -> str | None:
        """The thread it is of, LangGraph's for one, as its metadata name it."""
        return self._named(thread_of)

    def _named(self, of: Callable[[Mapping[str, Any]], str | None]) -> str | None:
        # Who gives metadata to a step of a chain, and not to the chain, means all of it.
        return next((one for span in self.walk() if (one := of(span.metadata)) is not None), None)

    @property
    def weight(self) -> float:
        """How many traces it stands for where traces were sampled: 1 / its rate, else 1. With
        ``keep_errors`` it is 1 for one that failed or whose end nobody saw: all these are kept."""
        return weight_of(self.root.data, self.outcome)

    @property
    def time_to_first_token(self) -> float | None:
        """Seconds from its start to the first text that a model streamed; None without a stream."""
        times = [
            value
            for span in self.walk()
            if (value := seconds((span.stream or {}).get("trace_time_to_first_token"))) is not None
        ]
        return min(times, default=None)

    @property
    def start_unix_nano(self) -> int | None:
        """When its first span started."""
        return min((at for span in self.walk() if (at := span.start_unix_nano)), default=None)

    @property
    def end_unix_nano(self) -> int | None:
        """When its last span ended."""
        return max((at for span in self.walk() if (at := span.end_unix_nano)), default=None)

    @property
    def duration(self) -> float | None:
        """Seconds the root took; None where it has not ended."""
        return self.root.duration

    @property
    def input_tokens(self) -> int:
        """Tokens its model calls read, as far as known."""
        return sum(span.input_tokens or 0 for span in self.walk())

    @property
    def output_tokens(self) -> int:
        """Tokens its model calls wrote, as far as known."""
        return sum(span.output_tokens or 0 for span in self.walk())

    @property
    def spooled(self) -> bool:
        """Whether any event of it was read from this machine's spool."""
        return any(span.spooled for span in self.walk())

    @property
    def errors(self) -> tuple[Span, ...]:
        """The spans that ended with an error."""
        return tuple(span for span in self.walk() if span.error is not None)

    def walk(self) -> Iterator[Span]:
        """Yield all spans, parents before children."""
        for root in self.roots:
            yield from root.walk()

    def find(
        self,
        span_id: str | None = None,
        *,
        name: str | None = None,
        kind: str | None = None,
        outcome: Outcome | None = None,
    ) -> Span | None:
        """Return the first span that is all that is asked for, parents before children.

        Args:
            span_id: Its id.
            name: Its component's name, whole.
            kind: Its kind: ``chat_model``, ``tool``, …
            outcome: How it ended: ``ok``, ``error``, ``cancelled``, …

        Returns:
            The span; None where there is none, and where nothing is asked for.

        Raises:
            OptionError: There is no such outcome.

        Example:
            >>> from asynctrack import open_run, tracker
            >>> from langchain_core.runnables import RunnableLambda
            >>> chain = RunnableLambda(str.upper) | RunnableLambda(str.strip, name="strip")
            >>> with tracker("runs") as handler:
            ...     answer = chain.invoke(" hello ", {"callbacks": [handler]})
            >>> (trace,) = open_run("runs").traces()
            >>> trace.find(name="strip").outputs
            'HELLO'
        """
        return next(self._matching(span_id, name, kind, outcome), None)

    def find_all(
        self,
        *,
        name: str | None = None,
        kind: str | None = None,
        outcome: Outcome | None = None,
    ) -> tuple[Span, ...]:
        """Return all spans that are all that is asked for; see ``find``.

        Raises:
            OptionError: There is no such outcome.
        """
        return tuple(self._matching(None, name, kind, outcome))

    def _matching(
        self, span_id: str | None, name: str | None, kind: str | None, outcome: Outcome | None
    ) -> Iterator[Span]:
        if outcome is not None and outcome not in OUTCOMES:
            raise OptionError("outcome", outcome, f"one of {', '.join(OUTCOMES)}")
        if (span_id, name, kind, outcome) == (None, None, None, None):
            return
        for span in self.walk():
            if (
                span_id in (None, span.span_id)
                and name in (None, span.name)
                and kind in (None, span.kind)
                and outcome in (None, span.outcome)
            ):
                yield span

    def tree(self, width: int = 100) -> str:
        """Return the tree as text, a line for each span: name, kind, outcome, duration, model,
        tokens, and the error where one came up. Control characters in it are escapes.

        Args:
            width: Characters of a line at the most; 20 or more.

        Raises:
            OptionError: ``width`` is less.

        Example:
            >>> from asynctrack import open_run, tracker
            >>> from langchain_core.runnables import RunnableLambda
            >>> chain = RunnableLambda(str.upper, name="shout") | RunnableLambda(str.strip)
            >>> with tracker("runs") as handler:
            ...     answer = chain.invoke(" hello ", {"callbacks": [handler]})
            >>> (trace,) = open_run("runs").traces()
            >>> lines = trace.tree().splitlines()  # as: ├─ shout: chain, ok, 0.24 ms
            >>> [line.split(":")[0] for line in lines]
            ['RunnableSequence', '├─ shout', '└─ strip']
        """
        if type(width) is not int or width < 20:
            raise OptionError("width", width, "a whole number, 20 or more")
        return tree_text(self.roots, width)
