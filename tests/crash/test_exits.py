"""Every way in which a process ends: what was accepted is delivered then, or by the next one."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.crash.kills import LARGE, SMALL, Tally, replay_all
from tests.crash.nursery import Nursery
from tests.support.auditor import assert_exactly_once, audit_folder


@pytest.mark.parametrize("sink", ["fine", "gone"])
@pytest.mark.parametrize(
    ("how", "status"),
    [
        ("", 0),
        ("exit", 3),
        ("exception", 1),
        ("os._exit", 4),
        ("sigterm", -15),
        ("abort", -6),
    ],
)
def test_nothing_is_lost_however_a_process_ends(
    nest: Nursery, tmp_path: Path, how: str, status: int, sink: str
) -> None:
    """Delivered on the way out, or by the next tracker; the exit code is the application's own."""
    spool, out = tmp_path / "spool", tmp_path / "out"
    if sink == "gone":
        out.write_text("in the way of the folder of this name")
    # Short where nothing can be delivered, once all of it is on disk.
    options = {**(SMALL if sink == "fine" else LARGE), "close_timeout": 120.0}
    options["close_patience"] = 120.0 if sink == "fine" else 0.3
    child = nest.birth(
        {
            "out": str(out),
            "spool": str(spool),
            "options": options,
            "chains": 50,
            "end": how,
            "seed": 1,
            "quiet": 1,
        }
    )
    assert child.end() == status
    assert child.accepted == 100
    if sink == "gone":
        out.unlink()
    replay_all(tmp_path / "own", spool)
    tally = Tally()
    tally.add(audit_folder(out), [child])
    assert tally.good, "\n".join([str(tally), *tally.problems])
    if how in ("", "exit", "exception"):
        assert tally.events == 100  # whoever leaves the block in order has none in memory


PROGRAM = """
import sys
from pathlib import Path
from langchain_core.runnables import RunnableLambda
from asynctrack import tracker

wall = Path(sys.argv[1])
patience = float(sys.argv[3])
here = tracker(wall / "x", spool_dir=sys.argv[2], close_patience=patience, run_name="r")
handler = here.__enter__()
for number in range(20):
    RunnableLambda(lambda value: value).invoke(number, {"callbacks": [handler]})
print(handler.statistics().accepted)
"""


@pytest.mark.parametrize("sink", ["fine", "gone"])
def test_an_interpreter_that_ends_without_closing(tmp_path: Path, sink: str) -> None:
    """The main thread ends inside the block: delivered in time, or kept and said where."""
    out, spool = tmp_path / "out", tmp_path / "spool"
    if sink == "gone":
        out.write_text("in the way of the folder of this name")
    ended = subprocess.run(
        [
            *(sys.executable, "-c", textwrap.dedent(PROGRAM)),
            *(str(out), str(spool), "120" if sink == "fine" else "0.3"),
        ],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert (ended.returncode, ended.stdout) == (0, "40\n"), ended.stderr
    assert "Traceback" not in ended.stderr
    if sink == "gone":
        assert "could not deliver 40 of 40" in ended.stderr and str(spool) in ended.stderr
        out.unlink()
        assert replay_all(tmp_path / "own", spool) == 40
    assert_exactly_once(audit_folder(tmp_path), 40)


def test_a_run_that_delivered_all_leaves_nothing(nest: Nursery, tmp_path: Path) -> None:
    """After a good end there is nothing in the spool, and nothing to replay."""
    request = {"out": str(tmp_path / "out"), "spool": str(tmp_path / "spool")}
    child = nest.birth({**request, "options": dict(SMALL), "chains": 30, "seed": 1})
    assert child.end() == 0 and child.closed
    assert list((tmp_path / "spool" / "v1").iterdir()) == []
    assert_exactly_once(audit_folder(tmp_path / "out"), {child.writer_id: 60})
