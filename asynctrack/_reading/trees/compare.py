"""Two Runs side by side: which traces answer the same question, and what differs in them.

Traces match by the name of their root and by its inputs. It compares the contents, not the ids and
times that differ from call to call.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from asynctrack._reading.decoding.events import json_text
from asynctrack._reading.trees.span import Span
from asynctrack._reading.trees.trace import Trace

MODEL_KINDS: Final = frozenset({"llm", "chat_model"})
_PLACES: Final = frozenset({"asynctrack.events", "asynctrack.manifest"})
_DEPTH: Final = 100
_Key = tuple[str, bytes]


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What is kept of a trace until its match is found: a few hundred bytes.

    Attributes:
        key: What it matches by: the root's name, and a digest of its inputs.
        writer_id: Who recorded it.
        trace_id: Its id.
        prompts: A digest of what its models were asked.
        outputs: A digest of what came out, or of the error.
    """

    key: _Key
    writer_id: str
    trace_id: str
    prompts: bytes
    outputs: bytes


@dataclass(frozen=True, slots=True)
class Pair:
    """A trace of either Run to the same question."""

    first: Fingerprint
    second: Fingerprint

    @property
    def same_prompts(self) -> bool:
        """Whether the models were asked the same."""
        return self.first.prompts == self.second.prompts

    @property
    def same_outputs(self) -> bool:
        """Whether the same came out."""
        return self.first.outputs == self.second.outputs


@dataclass(slots=True)
class Fingerprints:
    """What matching needs of a Run's traces."""

    taken: list[Fingerprint] = field(default_factory=list)

    def watch(self, traces: Iterable[Trace]) -> Iterator[Trace]:
        """Pass traces on, and keep their fingerprints."""
        for trace in traces:
            self.taken.append(fingerprint(trace))
            yield trace


@dataclass(frozen=True, slots=True)
class Matches:
    """How the traces of two Runs go together.

    Attributes:
        pairs: Traces to the same question, in the order of the first Run.
        only_first: Traces that only the first Run has.
        only_second: Traces that only the second one has.
    """

    pairs: tuple[Pair, ...]
    only_first: tuple[Fingerprint, ...]
    only_second: tuple[Fingerprint, ...]

    @property
    def different(self) -> tuple[Pair, ...]:
        """The pairs of which something differs."""
        return tuple(one for one in self.pairs if not (one.same_prompts and one.same_outputs))


def fingerprint(trace: Trace) -> Fingerprint:
    """Return what is kept of a trace."""
    root = trace.root
    outcome = root.outputs if root.error is None else [root.error.type, root.error.message]
    if root.outcome not in ("ok", "error"):
        outcome = [root.outcome, outcome]
    return Fingerprint(
        key=(root.name or root.kind, _digest(root.inputs)),
        writer_id=trace.writer_id,
        trace_id=trace.trace_id,
        prompts=_digest([[span.name, steady(span.inputs)] for span in model_calls(trace)]),
        outputs=_digest(outcome),
    )


def match(first: Iterable[Fingerprint], second: Iterable[Fingerprint]) -> Matches:
    """Pair the traces of two Runs; those with the same inputs by their order."""
    waiting: dict[_Key, deque[Fingerprint]] = defaultdict(deque)
    for one in second:
        waiting[one.key].append(one)
    pairs, alone = [], []
    for one in first:
        others = waiting.get(one.key)
        if others:
            pairs.append(Pair(one, others.popleft()))
        else:
            alone.append(one)
    left = [one for others in waiting.values() for one in others]
    return Matches(tuple(pairs), tuple(alone), tuple(left))


def model_calls(trace: Trace) -> list[Span]:
    """Return the calls of models in a trace, in the order of the tree."""
    return [span for span in trace.walk() if span.kind in MODEL_KINDS]


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


def steady(value: Any, depth: int = 0) -> Any:
    """Return a payload without what differs from call to call: messages' ids and their usage."""
    if depth > _DEPTH:
        return None
    if isinstance(value, list):
        return [steady(item, depth + 1) for item in value]
    if not isinstance(value, dict):
        return value
    if "content" in value and isinstance(value.get("type"), str):
        message = {key: value[key] for key in ("type", "name", "content") if key in value}
        calls = value.get("tool_calls")
        if isinstance(calls, list):
            message["tool_calls"] = [
                {key: item for key, item in call.items() if key != "id"}
                for call in calls
                if isinstance(call, dict)
            ]
        return message
    if "generations" in value:
        return steady(value["generations"], depth + 1)
    if "text" in value and "message" in value:
        return steady(value["message"], depth + 1)
    return {key: steady(item, depth + 1) for key, item in value.items()}


def _digest(value: Any) -> bytes:
    text = json_text(steady(value)) or ""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).digest()
