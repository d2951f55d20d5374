"""The fixture ``replayed`` in a user's own tests, and what the plugin costs who does not use it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from asynctrack import tracker
from asynctrack.cli import main
from tests.guide.pages import blocks
from tests.testing.scripted import Scripted, answer

pytestmark = pytest.mark.may_block("no event loop in here")

NO_TESTS = """
import json, sys

def test_nothing_heavy():
    names = sorted({name.partition(".")[0] for name in sys.modules})
    with open("modules.json", "w") as file:
        json.dump([names, [name for name in sys.modules if name.startswith("asynctrack")]], file)
"""


def run_pytest(folder: Path, code: str) -> str:
    """Run a file of tests as a user does: no plugins but asynctrack's, and warnings as errors."""
    (folder / "test_mine.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "-c", _ALONE, "-q", "-W", "error", "test_mine.py"],
        cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# As if nothing else were installed that has a plugin for pytest.
_ALONE = """
import importlib.metadata as metadata, sys
every = metadata.distributions
metadata.distributions = lambda **more: (
    one for one in every(**more)
    if one.metadata["Name"] == "asynctrack"
    or not any(point.group == "pytest11" for point in one.entry_points)
)
import pytest
sys.exit(pytest.main(sys.argv[1:]))
"""


def test_the_modules_are_not_rewritten(tmp_path: Path) -> None:
    """pytest imports asynctrack as anybody does, though it marks what a plugin comes with."""
    code = """
def test_loader(pytestconfig):
    hook = pytestconfig.pluginmanager.rewrite_hook
    assert "test_mine.py" in __file__ and __loader__ is hook
    from asynctrack import _tracker
    assert type(_tracker.__loader__).__name__ == "SourceFileLoader"
"""
    assert "1 passed" in run_pytest(tmp_path, code)


def test_the_plugin_imports_nothing_heavy(tmp_path: Path) -> None:
    """A session that does not use it has no LangChain, and no more of us than ``import asynctrack``
    brings."""
    assert "1 passed" in run_pytest(tmp_path, NO_TESTS)
    names, ours = json.loads((tmp_path / "modules.json").read_text())
    assert "asynctrack" in names
    assert not {"langchain_core", "pydantic", "orjson", "anyio", "boto3", "zstandard"} & {*names}
    assert not any(name.startswith(("asynctrack._reading", "asynctrack._testing")) for name in ours)


TESTS = """
import pytest
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from asynctrack import NotLoggedError, open_run, tracker

def make_chain(model, ending=""):
    prompt = ChatPromptTemplate.from_template("Tell me a joke about {topic}")
    return prompt | model | RunnableLambda(lambda message: message.text + ending, name="check")

@pytest.mark.parametrize("name, ending", [("same", ""), ("changed", "!")])
def test_as_yesterday(replayed, name, ending):
    yesterday = open_run(("jokes", "yesterday"), root="runs")
    chain = make_chain(replayed(yesterday), ending)
    with tracker("runs", experiment_name="jokes", run_name=name) as handler:
        for example in yesterday.dataset("outcome = 'ok'"):
            chain.invoke(example["inputs"], {"callbacks": [handler]})

def test_another_question(replayed):
    with pytest.raises(NotLoggedError, match="message 1 differs"):
        make_chain(replayed(("jokes", "yesterday"), root="runs")).invoke({"topic": "dogs"})
"""


def test_yesterdays_run_is_todays_test(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A chain that is as it was logs what was logged, and diff finds nothing; of one that was
    changed diff shows the answers that changed. The fixture needs no line in conftest.py."""
    names: dict[str, Any] = {}
    exec(TESTS, names)
    runs = str(tmp_path / "runs")
    with tracker(runs, experiment_name="jokes", run_name="yesterday") as handler:
        chain = names["make_chain"](Scripted(script=[answer("Blub."), answer("Miaow.")]))
        for topic in ("fish", "cats"):
            chain.invoke({"topic": topic}, {"callbacks": [handler]})
    assert "3 passed" in run_pytest(tmp_path, TESTS)

    def diff(name: str, *options: str) -> tuple[int, str]:
        command = ["diff", "jokes/yesterday", f"jokes/{name}", "--root", runs, "--exit-code"]
        return main([*command, *options]), capsys.readouterr().out

    assert diff("same")[0] == 0
    code, shown = diff("changed")
    assert code == 1 and "Blub." in shown and "Blub.!" in shown and "Miaow.!" in shown
    document = json.loads(diff("changed", "--json")[1])
    assert document["parameters"] == {}
    assert document["traces"]["matched"] == 2
    assert {(one["kind"], one["name"]) for one in document["components"]} >= {("model", "gpt-x")}
    for one in document["components"]:
        assert one["first"]["calls"] == one["second"]["calls"] == 2, one


def test_the_guides_regression_test_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first two examples of the page on evaluation are a file of tests that passes, and diff
    finds nothing."""
    chain, test, *_ = [
        one.code for one in blocks("asynctrack/guide/evaluation.md") if one.language == "python"
    ]
    assert "def test_as_yesterday(replayed):" in test
    monkeypatch.chdir(tmp_path)
    assert "1 passed" in run_pytest(tmp_path, f"{chain}\n{test}")
    command = ["diff", "bot/yesterday", "bot/today", "--root", "runs", "--exit-code"]
    assert main(command) == 0
    assert "0 of 2 changed" in capsys.readouterr().out
