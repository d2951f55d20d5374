"""A Run's traces to a receiver, as ``asynctrack export --to`` sends them: all, or an error."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from asynctrack._common.own import own_work
from asynctrack._common.retry import RetryPolicy
from asynctrack._errors import PausingError
from asynctrack._otlp.exporter import Exporter
from asynctrack._otlp.requests import requests_of
from asynctrack._otlp.target import Target
from asynctrack._reading.export.otlp_span import OtlpSpan, otlp_spans
from asynctrack._reading.export.resource import resource_attributes
from asynctrack._reading.trees.trace import Trace

ATTEMPTS: Final = 5
"""Tries of a request before the command gives up; the exporter repeats it in each by itself."""


def post_traces(
    traces: Iterable[Trace],
    target: Target,
    *,
    experiment: str,
    run: str,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Send traces to a receiver; return how many spans it has taken. Blocks.

    Args:
        traces: The traces.
        target: Where to.
        experiment: The experiment's name.
        run: The Run's name.
        sleep: Waits so many seconds.

    Raises:
        PausingError: It does not take them; what it took before stays there.
    """
    resource = {**resource_attributes(experiment, run), **target.resource}
    exporter = Exporter(target)
    policy = RetryPolicy(cap=10.0)
    taken = 0

    def spans() -> Iterator[OtlpSpan]:
        for trace in traces:
            yield from otlp_spans(trace)

    try:
        for part in requests_of(spans()):
            for attempt in range(1, ATTEMPTS + 1):
                with own_work():
                    answer = exporter.send(part, resource)
                if answer.taken:
                    break
                if answer.refused or attempt == ATTEMPTS or answer.status in (401, 403, 404):
                    raise PausingError(
                        answer.text,
                        f"{target.shown} {'refuses' if answer.status else 'does not take'} the"
                        f" traces; it has taken {taken:,} spans before. Send them again later:"
                        " their ids stay the same.",
                    )
                sleep(policy.wait(attempt, random.random()))  # noqa: S311  # spreads, hides nothing
            taken += len(part)
    finally:
        exporter.close()
    return taken
