"""Jupyter: a real kernel, cell by cell, with ``await`` at the top level."""

from __future__ import annotations

from pathlib import Path

import nbclient
import nbformat
import pytest

from tests.guide.pages import block
from tests.support.trees import counted, inputs_of

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of pyzmq's and jupyter_client's own
    pytest.mark.may_block("nbclient has an event loop of its own in this thread"),
]
CHAIN = """
from langchain_core.runnables import RunnableLambda
chain = RunnableLambda(str.upper).with_config(run_name="shout") | RunnableLambda(str.lower)
"""


def run(folder: Path, *cells: str) -> list[str]:
    """Run cells in a kernel of their own; returns what each printed."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(one) for one in cells])
    client = nbclient.NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute()
    return [
        "".join(output.get("text", "") for output in cell.get("outputs", ()))
        for cell in notebook.cells
    ]


def test_installed_in_one_cell_it_holds_in_the_next(tmp_path: Path) -> None:
    """As the guide says: called, awaited, in a task; until the cell that closes it."""
    run(
        tmp_path,
        CHAIN,
        block("everywhere", "jupyter"),
        'chain.invoke("called")',
        'await chain.ainvoke("awaited")',
        'import asyncio\nawait asyncio.create_task(chain.ainvoke("in a task"))',
        "await tracking.aclose()",
        'chain.invoke("after")',
    )
    assert counted(tmp_path / "runs") == {"RunnableSequence(lower, shout)": 3}
    assert inputs_of(tmp_path / "runs") == ["awaited", "called", "in a task"]


def test_a_kernel_that_is_shut_down_delivers(tmp_path: Path) -> None:
    """Nobody has closed the tracker."""
    run(tmp_path, CHAIN, block("everywhere", "jupyter"), 'await chain.ainvoke("awaited")')
    assert inputs_of(tmp_path / "runs") == ["awaited"]
