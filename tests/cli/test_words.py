"""What commands say of what was logged: names in lists, messages as text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Command
from tests.reading.making import START, RunFolder, event

pytestmark = pytest.mark.may_block("no event loop in here")

LONG = "name\n" + "x" * 100_000


def run_with_names(root: Path, run: str, answer: str) -> None:
    """A Run in which everything that has a name has a huge one."""
    ids = {"trace_id": "t"}
    asked = {"type": "human", "name": LONG, "content": "hi"}
    said = {"type": "ai", "content": answer}
    error = {"type": "ValueError", "message": "wrong"}
    folder = RunFolder(root, run=run)
    folder.artifact(
        [
            event(1, kind="chain_start", span_id="t", name=LONG, tags=[LONG], **ids),
            event(2, kind="chat_model_start", span_id="m", parent_span_id="t", name=LONG,
                  inputs={"messages": [[asked]]}, attributes={"gen_ai.request.model": LONG}, **ids),
            event(3, kind="llm_end", span_id="m", parent_span_id="t",
                  outputs={"generations": [[{"text": answer, "message": said}]]}, **ids),
            event(4, kind="tool_start", span_id="u", parent_span_id="t", name=LONG, **ids),
            event(5, kind="tool_error", span_id="u", parent_span_id="t", error=error, **ids),
            event(6, kind="chain_error", span_id="t", error=error, time=START + 10**9, **ids),
            event(7, kind="chain_start", span_id="v", trace_id="v", name=LONG,
                  data={"run_type": LONG}),
        ]
    )  # fmt: skip
    folder.manifest(
        parameters={LONG: run},
        metrics={LONG: {"count": 1, "sum": 1, "min": 1, "max": 1, "last": 1}},
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("ls",),
        ("show", "--top", "2"),
        ("trace", "t"),
        ("trace", "v"),
        ("tail", "-n", "all", "--until-closed"),
        ("tail", "-n", "all", "--until-closed", "--spans"),
        ("diff", "jokes/b"),
    ],
    ids=" ".join,
)
def test_a_huge_name_is_cut_in_every_list(
    tmp_path: Path, command: Command, arguments: tuple[str, ...]
) -> None:
    """A name of 100 KB takes no more room than others, and no second line; JSON has it whole."""
    run_with_names(tmp_path, "a", "one")
    run_with_names(tmp_path, "b", "other")
    name, *more = arguments
    place: Any = "jokes" if name == "ls" else "jokes/a"
    printed = command(name, place, *more, "--root", tmp_path, "--no-spool")
    assert printed.code == 0 and printed.err == ""
    assert len(printed.out) < 10_000
    assert not any(line.startswith("x") for line in printed.out.splitlines())
    if name in ("show", "trace"):
        whole = command(name, place, *more, "--root", tmp_path, "--no-spool", "--json").out
        assert LONG[5:] in whole
