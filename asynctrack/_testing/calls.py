"""The model calls of a logged Run, found by what was asked.

It reads the Run once, before the first answer, and keeps the answers. Prompts are kept as digests
only; where one is not there, the Run is read once more to find the nearest.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from asynctrack._capture.redact import Redactor
from asynctrack._common import payload
from asynctrack._common.markup import one_line
from asynctrack._common.nearest import did_you_mean
from asynctrack._errors import NotLoggedError, OptionError
from asynctrack._options import Options, Redact, compile_redact
from asynctrack._reading.run import RecordedRun
from asynctrack._reading.trees.span import Span
from asynctrack._testing.prompts import (
    Said,
    difference,
    is_cut,
    key,
    likeness,
    said,
    tool_names,
)

COMPARED: Final = 10_000
"""Calls that are compared to find the nearest."""
_OF_CALLS: Final = frozenset({"_type", "tools", "tool_choice", "functions", "stop", "stream"})
"""Parameters that each call is given anew."""
NAMES: Final = 20
"""Names that an error lists."""


@dataclass(frozen=True, slots=True)
class Call:
    """A logged call of a chat model.

    Attributes:
        trace_id: Its trace.
        span_id: Its span.
        message: What it answered, as stored, or had answered when it failed; None where nothing.
        generation_info: What the provider said of the answer beside the message.
        error: The error it ended with, as Python prints it; None where it ended well.
        error_type: The type of that.
        tokens: How many tokens it was streamed in; 0 where it was not.
        cut: Whether a part of the answer is not in the log.
    """

    trace_id: str
    span_id: str
    message: dict[str, Any] | None
    generation_info: dict[str, Any] | None
    error: str | None
    error_type: str | None
    tokens: int
    cut: bool


class Calls:
    """The calls of a Run, and which of them have answered already. Threads may share it.

    Args:
        run: The Run.
        model: Only calls of this model: the one that was asked for, or the one that answered.
        name: Only calls of this component.
        redact: What the tracker cut out besides secrets, as its option has it; None takes the
            environment's.
    """

    def __init__(
        self, run: RecordedRun, model: str | None, name: str | None, redact: Redact | None = None
    ) -> None:
        for option, given in (("model", model), ("name", name)):
            if given is not None and not isinstance(given, str):
                raise OptionError(option, given, "a text, or None for all")
        self._run = run
        self._model = model
        self._name = name
        asked = {} if redact is None else {"redact": redact}
        custom = Options.resolve(asked, _redact_option()).redact
        self._redactor = Redactor(compile_redact(custom))
        self._lock = threading.Lock()
        self._known: dict[bytes, list[Call]] | None = None
        self._given: dict[bytes, int] = {}
        self.names: frozenset[str] = frozenset()
        """The names of the components that made these calls."""
        self.params: dict[str, Any] = {}
        """What all of them asked for alike: the model, the temperature, …"""
        self.settings: dict[str, Any] = {}
        """What LangChain's metadata say of all of them alike: ``ls_provider``, …"""

    def __deepcopy__(self, memo: object) -> Calls:
        """Return the calls themselves: a copy of the model answers in the same order."""
        return self

    def load(self) -> dict[bytes, list[Call]]:
        """Read the Run, once; return its calls by what was asked. Blocks.

        Raises:
            NotLoggedError: It has no such call.
            AsynctrackError: As ``RecordedRun.traces``.
        """
        with self._lock:
            if self._known is None:
                self._known = self._read()
            return self._known

    def answer(
        self, messages: Sequence[Any], tools: Iterable[str], schema: str | None = None
    ) -> Call:
        """Return the logged call that was asked the same: the first one that has not answered yet,
        or the last. Blocks.

        Args:
            messages: LangChain's messages.
            tools: The names of the tools that the model is given.
            schema: Which of them stands for the form of the answer: a call that had none of that
                name is asked the same, too.

        Raises:
            NotLoggedError: None was asked the same; the text shows the nearest.
            AsynctrackError: As ``RecordedRun.traces``.
        """
        known = self.load()
        prompt = self._prompt(messages)
        names = frozenset(tools)
        keys = [key(prompt, names), *([key(prompt, names - {schema})] if schema else ())]
        asked = next((one for one in keys if one in known), None)
        if asked is None:
            raise NotLoggedError(self._missing(prompt, names))
        calls = known[asked]
        with self._lock:
            number = self._given.get(asked, 0)
            self._given[asked] = number + 1
        return calls[min(number, len(calls) - 1)]

    def _prompt(self, messages: Sequence[Any]) -> list[Said]:
        """Return messages as they would be logged, without secrets, and reduced."""
        body = self._redactor.body(payload.encode({"inputs": {"messages": list(messages)}}))
        return [said(one) for one in payload.decode(body)["inputs"]["messages"]]

    def _read(self) -> dict[bytes, list[Call]]:
        found: list[tuple[int, int, bytes, Call]] = []
        names: set[str] = set()
        common: list[dict[str, Any]] = []
        for span in self._spans():
            call = _call(span)
            if call is not None:
                prompt, tools = _asked(span)
                place = (span.start_unix_nano or 0, span.position)
                found.append((*place, key(prompt, tools), call))
                names.add(span.name or "")
                alike = [_params(span), _settings(span)]
                common = [_shared(*pair) for pair in zip(common or alike, alike, strict=True)]
        if not found:
            raise NotLoggedError(self._none())
        found.sort(key=lambda one: one[:2])
        known: dict[bytes, list[Call]] = {}
        for _, _, asked, call in found:
            known.setdefault(asked, []).append(call)
        self.names = frozenset(names)
        self.params, self.settings = common
        return known

    def _spans(self, *, all_of_them: bool = False) -> Iterator[Span]:
        with closing(self._run.traces()) as traces:  # type: ignore[type-var]  # a generator
            for trace in traces:
                for span in trace.walk():
                    if span.kind == "chat_model" and (all_of_them or self._takes(span)):
                        yield span

    def _takes(self, span: Span) -> bool:
        return self._name in (None, span.name) and self._model in (None, *_models(span))

    def _none(self) -> str:
        where = ", ".join(self._run.uris)
        asked = [(self._model, "model"), (self._name, "name")]
        wanted = " and ".join(f"the {what} {value!r}" for value, what in asked if value is not None)
        if not wanted:
            return f"{where} has no call of a chat model that ended"
        models: set[str] = set()
        names: set[str] = set()
        for span in self._spans(all_of_them=True):
            models.update(_models(span))
            names.update([span.name] if span.name else [])
        near = "".join(
            did_you_mean(value, among)
            for value, among in ((self._model, models), (self._name, names))
            if value is not None
        )
        return (
            f"{where} has no call of a chat model with {wanted}; {near}"
            f"Its models: {_listed(models)}; their names: {_listed(names)}"
        )

    def _missing(self, prompt: Sequence[Said], tools: frozenset[str]) -> str:
        """Return what to say of a prompt that was not logged: what the nearest one has else."""
        best: tuple[tuple[float, bool], Span, Sequence[Said], frozenset[str]] | None = None
        for span in islice(self._spans(), COMPARED):
            logged, given = _asked(span)
            alike = (likeness(logged, prompt), given == tools)
            if best is None or alike > best[0]:
                best = alike, span, logged, given
        where = ", ".join(self._run.uris)
        if best is None:
            return f"no logged call of {where} was asked this"
        (nearness, _), span, closest, given = best
        head = f"no logged call of {where} was asked this. "
        place = f"trace {span.trace_id}, span {span.span_id}"
        if nearness < 1.0:
            return f"{head}In the nearest, {place}, {difference(closest, prompt)}"
        if given != tools:
            return (
                f"{head}In {place} the messages are equal, and the tools differ:\n"
                f"  logged: {_listed(given)}\n  asked:  {_listed(tools)}"
            )
        return (
            f"{head}{place} was, and its answer is not known: it ended"
            f" {span.outcome} ({span.cause or 'no end was logged'})"
        )


def _redact_option() -> dict[str, str]:
    name = "ASYNCTRACK_REDACT"
    return {name: os.environ[name]} if name in os.environ else {}


def _params(span: Span) -> dict[str, Any]:
    """Return what a call asked for beside its messages, as far as it is the model's own."""
    params = span.data.get("invocation_params")
    given = params if isinstance(params, dict) else {}
    return {name: value for name, value in given.items() if name not in _OF_CALLS}


def _settings(span: Span) -> dict[str, Any]:
    return {name: value for name, value in span.metadata.items() if name.startswith("ls_")}


def _shared(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return what two objects have alike."""
    return {name: value for name, value in one.items() if name in other and other[name] == value}


def _models(span: Span) -> list[str]:
    names = (span.model, span.attributes.get("gen_ai.response.model"))
    return [name for name in names if isinstance(name, str)]


def _listed(names: Iterable[str]) -> str:
    found = sorted(one_line(name, 60) for name in names)
    more = f", … ({len(found):,})" if len(found) > NAMES else ""
    return (", ".join(found[:NAMES]) or "none") + more


def _asked(span: Span) -> tuple[list[Said], frozenset[str]]:
    """Return what a call was asked, and the tools that it was given."""
    inputs = span.inputs if isinstance(span.inputs, dict) else {}
    batch = inputs.get("messages")
    while isinstance(batch, list) and batch and isinstance(batch[0], list):
        batch = batch[0]
    messages = batch if isinstance(batch, list) else ()
    prompt = [said(one) for one in messages if isinstance(one, dict)]
    return prompt, tool_names(span.data.get("invocation_params"))


def _call(span: Span) -> Call | None:
    """Return a call with its answer or its error; None where neither is known."""
    error = span.error
    if error is None and span.outcome != "ok":
        return None
    outputs = span.outputs if isinstance(span.outputs, dict) else {}
    generation: Any = outputs.get("generations")
    while isinstance(generation, list) and generation:
        generation = generation[0]
    message = info = None
    if isinstance(generation, dict) and isinstance(generation.get("message"), dict):
        message, info = generation["message"], generation.get("generation_info")
    elif error is None:
        return None
    count = (span.stream or {}).get("count")
    return Call(
        trace_id=span.trace_id,
        span_id=span.span_id,
        message=message,
        generation_info=info if isinstance(info, dict) else None,
        error=None if error is None else error.line,
        error_type=None if error is None else error.type,
        tokens=count if type(count) is int and count > 0 else 0,
        cut=_is_cut(message),
    )


def _is_cut(value: Any) -> bool:
    """Tell whether something of an answer is not in the log."""
    if is_cut(value):
        return True
    if isinstance(value, dict):
        return any(map(_is_cut, value.values()))
    return isinstance(value, list) and any(map(_is_cut, value))
