"""Every question, asked every way, against the truth."""

from __future__ import annotations

import pytest

from tests.questions import failing, feedback, finding, steps, timing, users, versions
from tests.questions.asking import Asker, Question

QUESTIONS = (
    *failing.QUESTIONS,
    *timing.QUESTIONS,
    *steps.QUESTIONS,
    *users.QUESTIONS,
    *feedback.QUESTIONS,
    *versions.QUESTIONS,
    *finding.QUESTIONS,
)


@pytest.mark.parametrize(
    ("question", "way"),
    [
        pytest.param(question, way, id=f"{question.text}: {way}")
        for question in QUESTIONS
        for way in question.ways
    ],
)
def test_the_answer_is_the_truth(question: Question, way: str, asker: Asker) -> None:
    """A question gets the answer that the bot has counted, whichever way it is asked."""
    truth, answer = question.truth(asker.played), question.ways[way](asker)
    assert truth, "there is something to find"
    assert question.agrees(truth, answer), f"the truth is {truth!r}, the answer {answer!r}"
