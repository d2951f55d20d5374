"""Outcomes: their names, their words, and who shows each of them."""

from __future__ import annotations

import re
from typing import get_args

import pytest

from asynctrack._common.outcome import CAUSES, OUTCOMES, Cause, Outcome, said_outcome, verdict_of
from asynctrack._reading.export import html
from asynctrack.cli._screen import OUTCOME_STYLES


def test_the_names_are_those_of_the_types() -> None:
    """What is enumerated is what the types allow, in the same order."""
    assert get_args(Outcome) == OUTCOMES
    assert get_args(Cause) == CAUSES
    assert len(set(OUTCOMES)) == 6 and len(set(CAUSES)) == 7


def test_each_outcome_is_shown() -> None:
    """Terminal and exported pages have a style for each outcome; a well ended one needs no sign."""
    assert tuple(OUTCOME_STYLES) == OUTCOMES
    styled = set(re.findall(r"\.(\w+)[,{]", html._STYLE))
    assert set(OUTCOMES) - {"ok"} <= styled
    assert OUTCOME_STYLES["cancelled"] != OUTCOME_STYLES["error"] != OUTCOME_STYLES["interrupted"]


@pytest.mark.parametrize("cause", [*CAUSES, None])
def test_each_cause_has_words(cause: Cause | None) -> None:
    """They follow the outcome, and say nothing where there is nothing to say."""
    said = said_outcome("cancelled", cause)
    assert said.startswith("cancelled")
    assert (said == "cancelled") == (cause in (None, "cancel", "other"))


@pytest.mark.parametrize(
    ("names", "verdict"),
    [
        (["asyncio.exceptions.CancelledError"], ("cancelled", "cancel")),
        (["GeneratorExit"], ("cancelled", "stream_left")),
        (["mine.Wait", "langgraph.errors.GraphInterrupt"], ("interrupted", "pause")),
        (["langgraph.errors.ParentCommand"], ("interrupted", "handoff")),
        (["mine.X", "langgraph.errors.GraphBubbleUp"], ("interrupted", "other")),
        (["mine.GraphInterrupt", "Exception"], None),
        (["KeyboardInterrupt"], None),
        ([], None),
    ],
)
def test_exceptions_are_known_by_name(names: list[str], verdict: object) -> None:
    """The nearest name in the ancestry that says anything counts; the others are errors."""
    assert verdict_of(names) == verdict
