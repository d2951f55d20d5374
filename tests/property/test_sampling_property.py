"""Whatever comes of traces, in whatever order: what is kept is what there would be without
sampling, and of the rest there is nothing."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from asynctrack._capture.capture import Capture
from asynctrack._capture.observations import Observations
from asynctrack._capture.redact import Redactor
from asynctrack._capture.sampling import Sampling, share
from tests.property.strategies import thorough

CHANGING = ("time_unix_nano", "duration")

Step = tuple[int, str, int]
"""Of which trace, what happens, and to which of its spans."""

STEPS = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.sampled_from(["start", "start", "model", "end", "end", "error", "note", "token"]),
        st.integers(0, 9),
    ),
    max_size=60,
)


class Traced:
    """Callbacks of several traces, and the events that were made of them."""

    def __init__(self, sampling: Sampling | None) -> None:
        self.capture = Capture(
            tokens="stream", redactor=Redactor(None), observations=Observations(),
            sampling=sampling,
        )  # fmt: skip
        self.events: list[dict[str, Any]] = []
        self.spans: dict[int, list[tuple[UUID, UUID | None, str]]] = {}
        self.made = 0
        self.capture.events.spans.on_abandon = self.abandon

    def abandon(self, span: Any, reason: str, final: bool) -> bool:
        self.keep(self.capture.events.abandoned(span, reason))
        return True

    def keep(self, body: Any) -> None:
        if body is not None:
            event = json.loads(body)
            for name in CHANGING:
                event.pop(name, None)
            event.get("data", {}).pop("open_seconds", None)
            event.get("data", {}).pop("sampling", None)
            event.get("data", {}).pop("stream", None)  # its times change
            if not event.get("data", True):
                del event["data"]
            self.events.append(event)

    def step(self, seed: int, step: Step) -> None:
        trace, what, at = step
        spans = self.spans.setdefault(trace, [])
        capture: Any = self.capture
        if what in ("start", "model") or not spans:
            self.made += 1
            span = UUID(int=(seed << 64) + self.made)
            parent = spans[at % len(spans)][0] if spans else None
            kind = "llm" if what == "model" else "chain"
            spans.append((span, parent, kind))
            if kind == "llm":
                self.keep(capture.on_llm_start({}, ["x"], run_id=span, parent_run_id=parent))
            else:
                self.keep(capture.on_chain_start({}, {"in": at}, run_id=span, parent_run_id=parent))
            return
        span, parent, kind = spans[at % len(spans)]
        of: dict[str, Any] = {"run_id": span, "parent_run_id": parent}
        if what == "note":
            self.keep(capture.on_custom_event("noted", {"at": at}, run_id=span))
        elif what == "token":
            self.keep(capture.on_llm_new_token("word", run_id=span))
        elif what == "error":
            self.keep(getattr(capture, f"on_{kind}_error")(ValueError("x"), **of))
        else:
            self.keep(getattr(capture, f"on_{kind}_end")({"out": at}, **of))


@thorough
@given(STEPS, st.floats(0, 1), st.integers(0, 2**32))
def test_kept_traces_are_whole_and_the_rest_is_absent(
    steps: list[Step], rate: float, seed: int
) -> None:
    """Ends that come twice, spans that start below ended ones, and tokens of dead streams too."""
    all_of_it, sampled = Traced(None), Traced(sampling := Sampling(rate, lambda text: None))
    for step in steps:
        all_of_it.step(seed, step)
        sampled.step(seed, step)
    wanted = [one for one in all_of_it.events if share(one["trace_id"]) < rate]
    # What is abandoned together comes in any order.
    assert sorted(map(json.dumps, sampled.events)) == sorted(map(json.dumps, wanted))
    roots = {spans[0][0] for spans in all_of_it.spans.values()}
    assert sampling.traces_kept == sum(share(root) < rate for root in roots)
    assert sampling.traces_left_out == len(roots) - sampling.traces_kept
