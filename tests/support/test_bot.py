"""The support bot: what is planned for it, and that the same is played each time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.support.bot import SEED, VERSIONS, Conversation, Truth, play
from tests.support.bot.plan import WRONG, scripts, troubles

PLANNED = scripts(1.0, SEED)
FATAL = ("RateLimitError", "model", "retriever", "cancel")


def test_as_many_turns_and_failures_as_the_issue_tells() -> None:
    """At its full size it has 500 conversations, some 1,960 turns, and the failures of each version
    of the prompt: 13.4 and 5.7 % of the calls that look an order up."""
    assert len(PLANNED) * len(VERSIONS) == 500
    assert 1_900 < len(VERSIONS) * sum(len(script.asks) for script in PLANNED) < 2_000
    lookups = sum(ask.looks_up for one in PLANNED if one.is_agent for ask in one.asks)
    for version in VERSIONS:
        found = list(troubles(version, PLANNED, SEED).values())
        retried = found.count("TimeoutError")
        failed = retried + found.count("OrderNotFound") + found.count("RateLimitError")
        assert abs(failed / (lookups + retried) - version.failing) < 0.005


def test_one_conversation_goes_wrong() -> None:
    """In one conversation of the older version two turns fail; in every other at most one."""
    for version in VERSIONS:
        found = troubles(version, PLANNED, SEED)
        failing = [script for (script, _), trouble in found.items() if trouble in FATAL]
        assert failing.count(WRONG) == (0 if version.new else 2)
        assert all(failing.count(script) == 1 for script in {*failing} - {WRONG})


def test_both_versions_are_asked_the_same() -> None:
    """What is said follows from the seed, and from nothing else."""
    assert scripts(1.0, SEED) == PLANNED != scripts(1.0, SEED + 1)
    assert scripts(0.1, SEED) != PLANNED[:25], "fewer users"
    assert [one.asks for one in scripts(0.1, SEED)] == [one.asks for one in PLANNED[:25]]


def test_the_same_is_played_each_time(tmp_path: Path) -> None:
    """Two plays differ in their times, and in nothing that is asked for."""
    one, other = (play(tmp_path / name, scale=0.01) for name in ("one", "other"))
    assert _timeless(one) == _timeless(other)
    assert one.changed_answers, "there is something to compare"


def _timeless(truth: Truth) -> object:
    return [
        replace(
            run,
            model_seconds={},
            conversations=tuple(sorted(map(_untimed, run.conversations), key=_session)),
            feedback=tuple(sorted(run.feedback, key=lambda one: one.trace_id)),
        )
        for run in truth.runs
    ]


def _untimed(talk: Conversation) -> Conversation:
    turns = (replace(turn, began=0, ended=0, first_text=None) for turn in talk.turns)
    return replace(talk, turns=tuple(turns))


def _session(talk: Conversation) -> str:
    return talk.session_id
