"""The examples in the docstrings of what is public: each runs, and shows what it says."""

from __future__ import annotations

import doctest
import inspect
from pathlib import Path
from typing import Any

import pytest

import asynctrack
from asynctrack import compat, testing

pytestmark = pytest.mark.may_block("no event loop in here")

WITH_EXAMPLE = {
    "asynctrack.tracker", "asynctrack.session", "AsyncHandler.log_feedback",
    "AsyncHandler.session", "RecordedRun.feedback", "RecordedRun.log_feedback",
    "asynctrack.testing.end_engine",
}  # fmt: skip
"""What must have one; others may."""


def documented() -> dict[str, Any]:
    """Everything public, by its name: functions, classes, and their methods, inherited ones too."""
    found: dict[str, Any] = {"asynctrack": asynctrack}
    for module in (asynctrack, compat, testing):
        public = getattr(module, "__all__", ("end_engine",))
        for name in public:
            thing = getattr(module, name)
            found[f"{module.__name__}.{name}"] = thing
            if not inspect.isclass(thing):
                continue
            for kind in reversed(thing.__mro__):
                if kind.__module__.startswith("asynctrack"):
                    members = {key: one for key, one in vars(kind).items() if key[0] != "_"}
                    found.update((f"{name}.{key}", one) for key, one in members.items())
    return found


def examples() -> dict[str, doctest.DocTest]:
    """The docstrings with examples; each once."""
    finder = doctest.DocTestFinder(recurse=False)
    found: dict[str, doctest.DocTest] = {}
    seen: set[int] = set()
    for name, thing in documented().items():
        thing = getattr(thing, "__wrapped__", thing)
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        for test in finder.find(thing, name, globs={}):
            if test.examples:
                found[name] = test
    return found


EXAMPLES = examples()


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each does what it shows, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    failed, tried = doctest.DocTestRunner(optionflags=doctest.FAIL_FAST).run(EXAMPLES[name])
    assert tried and not failed, capsys.readouterr().out


def test_what_is_to_be_shown_is_shown() -> None:
    """The examples are found, those of inherited methods too."""
    assert set(EXAMPLES) >= WITH_EXAMPLE, sorted(EXAMPLES)
