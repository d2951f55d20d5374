"""Warnings: said once, then counted."""

from __future__ import annotations

import logging

import pytest

from asynctrack._common.notices import INTERVAL, Board, Notices


def test_once_and_then_counted(caplog: pytest.LogCaptureFixture) -> None:
    """A warning is given at once, held back for a while, and then says how often."""
    clock = [1_000.0]
    notices = Notices(Board(lambda: clock[0]))
    with caplog.at_level(logging.WARNING, "asynctrack"):
        for _ in range(5):
            notices.warn("full", "The buffer is full.")
        clock[0] += INTERVAL - 1
        notices.warn("full", "The buffer is full.")
        clock[0] += 1
        notices.warn("full", "The buffer is full.")
        clock[0] += INTERVAL
        notices.warn("full", "The buffer is full.")
    assert caplog.messages == [
        "The buffer is full.",
        "The buffer is full. (and 5 more times since the last warning)",
        "The buffer is full.",
    ]
    assert {record.name for record in caplog.records} == {"asynctrack"}


def test_kinds_do_not_hide_each_other(caplog: pytest.LogCaptureFixture) -> None:
    """Another kind of warning is given although one was a moment ago."""
    notices = Notices(Board(lambda: 0.0))
    notices.warn("a", "First.")
    notices.warn("b", "Second.")
    notices.warn("a", "First.")
    assert caplog.messages == ["First.", "Second."]


def test_trackers_do_not_hide_each_other(caplog: pytest.LogCaptureFixture) -> None:
    """Each tracker has its own count."""
    Notices(Board(lambda: 0.0)).warn("a", "First.")
    Notices(Board(lambda: 0.0)).warn("a", "First.")
    assert caplog.messages == ["First."] * 2


def test_signs_of_formatting_are_text(caplog: pytest.LogCaptureFixture) -> None:
    """A percent sign in a message is a percent sign."""
    Notices(Board(lambda: 0.0)).warn("a", "100 %s full %d")
    assert caplog.messages == ["100 %s full %d"]
