"""What comes first in each callback where traces are sampled: whether its trace is left out.

Nothing else is done for one that is: its spans are known, so that what they call is left out
too. ``Events`` decides the same, for whoever calls it and for the rare cases that are not looked at
here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from uuid import UUID

from asynctrack._capture import current

if TYPE_CHECKING:
    from asynctrack._capture.event import Events

_Method = Callable[..., Any]


def in_front(name: str, method: _Method, events: Events) -> _Method:
    """Return a callback that does nothing for what is left out.

    Args:
        name: Its name.
        method: What it does for all else.
        events: Knows the spans.
    """
    what = name.rpartition("_")[2]
    if what == "start":
        return _start(method, events)
    if what in ("end", "error"):
        return _end(method, events, model=name.startswith("on_llm"))
    if name in ("on_llm_new_token", "on_stream_event"):
        return _token(method, events)
    return method  # rare, and cheap until it asks


def _start(method: _Method, events: Events) -> _Method:
    spans, renamed, sampling = events.spans, events.renamed, events.sampling
    assert sampling is not None

    def start(*args: Any, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any) -> Any:
        if parent_run_id is not None and not renamed and current.here() is None:
            above = spans.known(parent_run_id)
            if above is not None and above.fate is not None and above.fate.left_out:
                if spans.open(run_id, parent_run_id, 0) is not None:
                    sampling.leave_out(1)
                return None
        return method(*args, run_id=run_id, parent_run_id=parent_run_id, **kwargs)

    return start


def _end(method: _Method, events: Events, *, model: bool) -> _Method:
    spans, renamed, sampling, streams = (
        events.spans, events.renamed, events.sampling, events.streams,
    )  # fmt: skip
    assert sampling is not None

    def end(*args: Any, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any) -> Any:
        if not renamed:
            span = spans.known(run_id)
            if span is not None and span.fate is not None and span.fate.left_out:
                if spans.end(run_id, parent_run_id).ends == 1:
                    sampling.leave_out(1)
                if model:
                    streams.pop(run_id, None)  # of one that was held until now
                return None
        return method(*args, run_id=run_id, parent_run_id=parent_run_id, **kwargs)

    return end


def _token(method: _Method, events: Events) -> _Method:
    spans = events.spans

    def token(*args: Any, run_id: UUID, **kwargs: Any) -> Any:
        span = spans.known(run_id)
        if span is not None and span.fate is not None and span.fate.left_out:
            return None
        return method(*args, run_id=run_id, **kwargs)

    return token
