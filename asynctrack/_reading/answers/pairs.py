"""Two Runs side by side: which traces answer the same question, and which answers changed.

Traces match by the name of their root and by what they were asked, as ``index.chat`` has it. Texts
are compared, not the ids and times that differ from call to call.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from asynctrack._common import payload
from asynctrack._common.outcome import Cause, Outcome, said_outcome
from asynctrack._reading.decoding.media import files_in
from asynctrack._reading.index.asking import Asks
from asynctrack._reading.index.chat import answered, asked

_PLACES: Final = frozenset({"asynctrack.events", "asynctrack.manifest"})


@dataclass(frozen=True, slots=True)
class Asked:
    """A trace, as far as it is compared.

    Attributes:
        number: Its number in the index.
        trace_id: Its id.
        name: The root's name.
        question: The same for the same question.
        session: Its session, if it has one.
        outcome: How its root ended.
        cause: Why, where it was cancelled or interrupted.
        error: The root's error on one line, if it has one.
        answer: The same for the same final answer; None where it failed.
        duration: Seconds; None where its root is not whole.
        input_tokens: What its models read.
        output_tokens: What its models wrote.
    """

    number: int
    trace_id: str
    name: str
    question: int
    session: str | None
    outcome: Outcome
    cause: Cause | None
    error: str | None
    answer: int | None
    duration: float | None = None
    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Pair:
    """A trace of either Run to the same question."""

    first: Asked
    second: Asked

    @property
    def same_answer(self) -> bool:
        """Whether the same came out, or the same error."""
        return _outcome(self.first) == _outcome(self.second)


@dataclass(frozen=True, slots=True)
class Matches:
    """How the traces of two Runs go together.

    Attributes:
        pairs: Traces to the same question, in the order of the first Run.
        only_first: Traces that only the first Run has.
        only_second: Traces that only the second one has.
    """

    pairs: tuple[Pair, ...]
    only_first: tuple[Asked, ...]
    only_second: tuple[Asked, ...]

    @property
    def changed(self) -> tuple[Pair, ...]:
        """The pairs whose answers differ."""
        return tuple(one for one in self.pairs if not one.same_answer)


@dataclass(frozen=True, slots=True)
class Texts:
    """What is shown of a trace.

    Attributes:
        inputs: What went into its root.
        question: What was asked.
        answer: The final answer.
        files: What tells its files apart from others of the same kind and size.
    """

    inputs: Any
    question: str
    answer: str
    files: tuple[str, ...] = ()


def traces_of(tables: Asks) -> tuple[Asked, ...]:
    """Return the traces in the order in which they began. Blocks.

    Args:
        tables: With ``traces``.
    """
    rows = tables.rows(
        "SELECT _no AS number, trace_id, name, _input_key AS question, session_id AS session,"
        " outcome, cause, if(outcome = 'error', concat_ws(': ', error_type,"
        " nullif(error_message, '')), NULL) AS error, if(outcome = 'error', NULL, _output_key)"
        " AS answer, duration, input_tokens, output_tokens FROM inside.traces ORDER BY _start, _no"
    )
    return tuple(Asked(**row) for row in rows)


def texts(tables: Asks, numbers: Sequence[int]) -> dict[int, Texts]:
    """Return the texts of traces, by their numbers. Blocks.

    Args:
        tables: With ``spans``.
        numbers: The traces' numbers in the index.
    """
    rows = tables.rows(
        # The root, as ``Trace.root`` has it.
        "SELECT _no, inputs, outputs FROM inside.spans WHERE _depth = 0"
        " AND _no IN (SELECT unnest($numbers)) QUALIFY row_number() OVER (PARTITION BY _no"
        " ORDER BY _start IS NULL, orphan, _place) = 1",
        {"numbers": list(numbers)},
    )
    found = {}
    for row in rows:
        inputs, outputs = (
            None if row[name] is None else payload.decode(row[name].encode())
            for name in ("inputs", "outputs")
        )
        question = asked(inputs)
        files = tuple(f"{one}, SHA-256 {one.checksum()[:16]}" for one in files_in(outputs))
        found[row["_no"]] = Texts(inputs, question, answered(outputs, question), files)
    return found


def match(first: Sequence[Asked], second: Sequence[Asked]) -> Matches:
    """Pair the traces of two Runs: those of the same session, then the rest; by their order where
    the same was asked several times."""
    ones, others = list(first), list(second)
    pairs: list[Pair] = []
    for key in (_in_session, _anywhere):
        found = _paired(ones, others, key)
        pairs += found
        used = {id(side) for pair in found for side in (pair.first, pair.second)}
        ones = [one for one in ones if id(one) not in used]
        others = [one for one in others if id(one) not in used]
    place = {id(one): n for n, one in enumerate(first)}
    pairs.sort(key=lambda pair: place[id(pair.first)])
    return Matches(tuple(pairs), tuple(ones), tuple(others))


def differing_parameters(
    first: Mapping[str, Any], second: Mapping[str, Any]
) -> dict[str, tuple[Any, Any]]:
    """Return the parameters that differ, sorted; None means that it is not there."""
    names = sorted({*first, *second} - _PLACES)
    return {
        name: (first.get(name), second.get(name))
        for name in names
        if first.get(name) != second.get(name)
    }


def _paired(
    first: Iterable[Asked], second: Iterable[Asked], key: Callable[[Asked], Hashable]
) -> list[Pair]:
    waiting: dict[Hashable, deque[Asked]] = defaultdict(deque)
    for other in second:
        waiting[key(other)].append(other)
    return [Pair(one, others.popleft()) for one in first if (others := waiting.get(key(one)))]


def _in_session(one: Asked) -> Hashable:
    return one.name, one.question, one.session


def _anywhere(one: Asked) -> Hashable:
    return one.name, one.question


def _outcome(one: Asked) -> tuple[Any, ...]:
    return one.outcome, one.error, one.answer


def said_end(one: Asked) -> str:
    """Return how a trace ended that has no answer."""
    return one.error or said_outcome(one.outcome, one.cause)
