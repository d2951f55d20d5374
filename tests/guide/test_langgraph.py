"""The page on LangGraph: its program runs, and prints what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from asynctrack import open_run
from asynctrack.cli import main
from tests.guide.pages import GUIDE, run_langgraph, text

PAGE = text("langgraph")


def steady(text: str) -> str:
    """What is printed, without what differs each time: ids, times, durations."""
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}", "<id>", text)
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ", "<time>", text)
    text = re.sub(r"[0-9.]+ (?:ms|s)\b", "<seconds>", text)
    text = re.sub(r"(?m)^Slowest step: \w+,", "Slowest step: <step>,", text)  # as the machine is
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def quoted(mark: str) -> str:
    """The console output that the page shows under a mark, without the command."""
    text = re.findall(rf"<!-- {mark} -->\n```console\n(.*?)```", PAGE, re.DOTALL)[0]
    return "\n".join(line for line in text.splitlines() if not line.startswith("$"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the page's program has tracked its Run, in a process of its own."""
    folder = tmp_path_factory.mktemp("guide")
    run_langgraph(folder)
    return folder / "runs"


def test_traces_of_langgraph_are_as_the_page_shows_them(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pause, resumption, handoff, recovered error, cancelled stream."""
    traces = list(open_run(runs).traces())
    assert len(traces) == 5
    for number, trace in enumerate(traces, 1):
        assert main(["trace", "support/monday", trace.trace_id, "--root", str(runs)]) == 0
        assert steady(capsys.readouterr().out) == steady(quoted(f"trace: {number}"))


def test_the_numbers_are_as_the_page_shows_them(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The lines that count outcomes."""
    assert main(["show", "support/monday", "--root", str(runs)]) == 0
    printed = capsys.readouterr().out
    for line in quoted("show").strip().splitlines():
        assert line in printed.splitlines()


def test_the_page_names_every_outcome_and_cause() -> None:
    """The words are those of the types."""
    from asynctrack._common.outcome import CAUSES, OUTCOMES

    cells = (line.strip("|").split("|") for line in PAGE.splitlines() if line.startswith("| `"))
    rows = {first.strip(" `"): last for first, _, last in cells}
    assert tuple(rows) == OUTCOMES
    assert set(CAUSES) == set(re.findall(r"`(\w+)`", rows["cancelled"] + rows["interrupted"])) - {
        "wait_for",
        "TimeoutError",
    }


def test_the_pictures_are_there() -> None:
    """Each that the page shows, and no other."""
    shown = re.findall(r"!\[[^]]+\]\((.+?)\)", PAGE)
    assert sorted(shown) == sorted(path.name for path in GUIDE.glob("*.png")) and shown
