"""The truth about what was played: frozen values, and the book that the bot keeps to know it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Final, Literal

from tests.support.bot.plan import PHRASE, Ask, Kind, Trouble

if TYPE_CHECKING:
    from collections.abc import Iterable

Outcome = Literal["ok", "error", "cancelled"]
PRICES: Final[Mapping[str, Mapping[str, float]]] = {
    "nova-large": {"in": 2.5, "out": 10.0, "cache_read": 1.25},
    "nova-mini": {"in": 0.15, "out": 0.6},
}
"""As asynctrack takes them: USD per million tokens."""


@dataclass(frozen=True)
class Calls:
    """How often something was called, and how these calls ended; ``errors`` by type."""

    calls: int
    cancelled: int
    errors: Mapping[str, int]

    @property
    def failed(self) -> int:
        """How many ended with an error."""
        return sum(self.errors.values())


@dataclass(frozen=True)
class Usage:
    """What models read and wrote, in tokens, and what it cost, in USD: exactly."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cost: Decimal = Decimal(0)

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cache_read_tokens + other.cache_read_tokens,
            self.cost + other.cost,
        )


@dataclass(frozen=True)
class Feedback:
    """A user's thumb."""

    trace_id: str
    name: str
    score: int
    comment: str | None


@dataclass(frozen=True)
class Turn:
    """One question and its answer: a trace.

    Attributes:
        trace_id: Its id.
        number: Its place in the conversation, from 0.
        text: What the user said.
        answer: The final answer; None where it failed or was cancelled.
        outcome: How it ended.
        error: The type of the error that it failed of.
        recovered: Errors in it that it did not fail of.
        usage: What its models used.
        holds_phrase: Whether the phrase is in a prompt of it: said now, or before.
        began: Wall clock before the call, in nanoseconds.
        ended: The same after it.
        first_text: Seconds from the call to the first text of a stream, as who reads it sees it;
            None without a stream, and where none came.
    """

    trace_id: str
    number: int
    text: str
    answer: str | None
    outcome: Outcome
    error: str | None
    recovered: int
    usage: Usage
    holds_phrase: bool
    began: int
    ended: int
    first_text: float | None


@dataclass(frozen=True)
class Conversation:
    """All turns of a session, in order; the one with the same number in the other Run is asked the
    same."""

    number: int
    session_id: str
    thread_id: str | None
    user_id: str
    kind: Kind
    turns: tuple[Turn, ...]

    @property
    def usage(self) -> Usage:
        """What its models used."""
        return sum((turn.usage for turn in self.turns), Usage())

    @property
    def failed(self) -> int:
        """How many of its turns failed."""
        return sum(turn.outcome == "error" for turn in self.turns)


@dataclass(frozen=True)
class RunTruth:
    """The truth about one Run.

    Attributes:
        run: Its name.
        tools: By tool.
        retrievers: By retriever.
        models: By model.
        usage: By model.
        model_seconds: By model, how long each call that answered took, measured inside it: at
            most what a handler measures.
        conversations: All of them.
        slowest: The trace that took longest, and the name of the step in it that did.
        feedback: What users thought.
    """

    run: str
    tools: Mapping[str, Calls]
    retrievers: Mapping[str, Calls]
    models: Mapping[str, Calls]
    usage: Mapping[str, Usage]
    model_seconds: Mapping[str, tuple[float, ...]]
    conversations: tuple[Conversation, ...]
    slowest: tuple[str, str]
    feedback: tuple[Feedback, ...]

    @property
    def turns(self) -> tuple[Turn, ...]:
        """Those of all conversations."""
        return tuple(turn for one in self.conversations for turn in one.turns)

    @property
    def outcomes(self) -> Mapping[str, int]:
        """How many turns ended how."""
        return Counter(turn.outcome for turn in self.turns)

    @property
    def recovered(self) -> int:
        """Errors that no turn failed of."""
        return sum(turn.recovered for turn in self.turns)

    @property
    def by_user(self) -> Mapping[str, tuple[Conversation, ...]]:
        """The conversations of each user."""
        found: dict[str, tuple[Conversation, ...]] = defaultdict(tuple)
        for one in self.conversations:
            found[one.user_id] += (one,)
        return dict(found)

    @property
    def went_wrong(self) -> Conversation:
        """The one conversation with the most turns that failed."""
        ordered = sorted(self.conversations, key=lambda one: -one.failed)
        assert ordered[0].failed > ordered[1].failed, "no conversation stands out"
        return ordered[0]

    @property
    def with_phrase(self) -> frozenset[str]:
        """The traces with the phrase in a prompt."""
        return frozenset(turn.trace_id for turn in self.turns if turn.holds_phrase)


@dataclass(frozen=True)
class Truth:
    """The truth about both Runs, the older one first."""

    runs: tuple[RunTruth, RunTruth]

    @property
    def same_questions(self) -> tuple[tuple[Turn, Turn], ...]:
        """The turns in which both Runs are asked the same: all of them."""
        older, newer = (
            {(one.number, turn.number): turn for one in run.conversations for turn in one.turns}
            for run in self.runs
        )
        assert older.keys() == newer.keys()
        return tuple((turn, newer[place]) for place, turn in older.items())

    @property
    def changed(self) -> tuple[tuple[Turn, Turn], ...]:
        """Those of them that end otherwise: with another answer or error, or with none."""
        return tuple(
            (one, other)
            for one, other in self.same_questions
            if (one.outcome, one.error, one.answer) != (other.outcome, other.error, other.answer)
        )

    @property
    def changed_answers(self) -> tuple[tuple[Turn, Turn], ...]:
        """Those of them where both have a final answer."""
        return tuple(pair for pair in self.changed if None not in {turn.answer for turn in pair})


# -- while it is played -------------------------------------------------------------------------


@dataclass
class Playing:
    """The turn that is being played: what is planned for it, and what has happened in it."""

    ask: Ask
    new: bool
    uses_tools: bool
    trouble: Trouble | None
    patience: float
    """Seconds that a slow step waits."""
    calls: int = 0
    errors: int = 0
    usage: Usage = field(default_factory=Usage)
    holds_phrase: bool = False
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a model begins to think that will not come to an end."""
    called: float = field(default_factory=time.perf_counter)
    first_text: float | None = None

    def hears(self, text: str) -> None:
        """Note what has come of a stream."""
        if text and self.first_text is None:
            self.first_text = time.perf_counter() - self.called

    def strikes(self, *troubles: Trouble) -> bool:
        """Return whether one of these is planned and has not happened yet; it happens now."""
        if self.trouble not in troubles:
            return False
        self.trouble = None
        return True

    def read(self, text: str) -> None:
        """Note a prompt."""
        self.holds_phrase |= PHRASE in text.lower()


now: ContextVar[Playing] = ContextVar("now")
"""The turn that the running task plays."""


@dataclass
class _Counts:
    calls: int = 0
    cancelled: int = 0
    errors: Counter[str] = field(default_factory=Counter)

    def frozen(self) -> Calls:
        return Calls(self.calls, self.cancelled, dict(self.errors))


class Book:
    """What the bot counts while it plays a Run."""

    def __init__(self) -> None:
        self._counts: dict[str, dict[str, _Counts]] = defaultdict(lambda: defaultdict(_Counts))
        self.usage: dict[str, Usage] = defaultdict(Usage)
        self.model_seconds: dict[str, list[float]] = defaultdict(list)
        self.feedback: list[Feedback] = []

    @contextmanager
    def call(self, kind: Literal["tool", "retriever", "model"], name: str) -> Iterator[None]:
        """Count a call, and how it ends."""
        counts = self._counts[kind][name]
        counts.calls += 1
        began = time.perf_counter()
        try:
            yield
        except asyncio.CancelledError:
            counts.cancelled += 1
            raise
        except Exception as error:
            counts.errors[type_name(error)] += 1
            # What a tool says of its retriever's error is the same error.
            now.get().errors += 1
            raise
        if kind == "model":
            self.model_seconds[name].append(time.perf_counter() - began)

    def used(self, model: str, read: int, written: int, cached: int) -> None:
        """Count what a model used."""
        prices = {name: Decimal(str(price)) for name, price in PRICES[model].items()}
        cost = (read - cached) * prices["in"] + written * prices["out"]
        cost += cached * prices.get("cache_read", prices["in"])
        usage = Usage(read, written, cached, cost / 1_000_000)
        self.usage[model] += usage
        now.get().usage += usage

    def closed(
        self, run: str, conversations: Iterable[Conversation], slowest: tuple[str, str]
    ) -> RunTruth:
        """Return the truth."""

        def of(kind: str) -> dict[str, Calls]:
            return {name: counts.frozen() for name, counts in self._counts[kind].items()}

        return RunTruth(
            run=run,
            tools=of("tool"),
            retrievers=of("retriever"),
            models=of("model"),
            usage=dict(self.usage),
            model_seconds={name: tuple(all_) for name, all_ in self.model_seconds.items()},
            conversations=tuple(conversations),
            slowest=slowest,
            feedback=tuple(self.feedback),
        )


def type_name(error: BaseException) -> str:
    """Return an exception's type, as asynctrack stores it: builtins without their module."""
    kind = type(error)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
