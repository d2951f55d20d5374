"""SIGKILL with traces that are held: the failed and the unfinished ones are there, whole and once,
those that ended well are not."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from asynctrack import open_run, tracker, verify
from asynctrack._spool import recovery
from asynctrack._spool.layout import held_files, writers
from asynctrack._spool.recovery import heir_of, held_events, recover_held
from asynctrack.cli._spool_state import states
from tests.crash.held import Truth
from tests.crash.kills import LARGE, replay_all
from tests.crash.nursery import Nursery
from tests.support.auditor import audit_folder

KILLED = """
import os, signal, sys, uuid
from asynctrack import tracker
from langchain_core.runnables import RunnableLambda
def die(x):
    os.kill(os.getpid(), signal.SIGKILL)
chain = RunnableLambda(lambda x: x, name="before") | RunnableLambda(die, name="killer")
with tracker(sys.argv[1], spool_dir=sys.argv[2], sample=0, keep_errors=True) as handler:
    while handler._sink._holding.journal._spare is None:
        pass  # made after the first segment, which alone is waited for
    RunnableLambda(str.upper).invoke("good", {"callbacks": [handler]})
    chain.invoke("x" * 100, {"callbacks": [handler]})
"""


def test_a_process_that_dies_in_a_trace_leaves_it(tmp_path: Path) -> None:
    """What killed the process is there after a replay, though the sample leaves it out: unfinished,
    with a weight of 1; what had ended well before is not."""
    out, spool = tmp_path / "out", tmp_path / "spool"
    run = [sys.executable, "-c", KILLED, str(out), str(spool)]
    assert subprocess.run(run, check=False).returncode == -signal.SIGKILL
    (folder,) = writers(spool)
    assert held_files(folder) and held_events(folder) == 4
    (state,) = states(spool)
    assert (state.state, state.events, state.held, state.problems) == ("dead", 0, 4, ())
    replay_all(tmp_path / "own", spool)
    recorded = open_run(out)
    (trace,) = recorded.traces()
    assert [(span.name, span.outcome) for span in trace.walk()] == [
        ("RunnableSequence", "unfinished"), ("before", "ok"), ("killer", "unfinished"),
    ]  # fmt: skip
    assert trace.weight == 1.0 and trace.writer_id == heir_of(folder.name)
    report = verify(out)
    assert report.ok and report.complete, str(report)


@pytest.mark.parametrize("seed", range(3))
def test_failed_and_unfinished_traces_survive_sigkill(
    nest: Nursery, tmp_path: Path, seed: int
) -> None:
    """Killed at a random moment, each while it also replays what those before it left."""
    chances = random.Random(seed)
    out, spool = tmp_path / "out", tmp_path / "spool"
    truths = []
    for number in range(4):
        truths.append(tmp_path / f"truth-{number}")
        request: dict[str, Any] = {
            "out": str(out), "spool": str(spool), "seed": chances.randrange(1 << 30), "quiet": 1,
            "options": {**LARGE, "sample": 0, "keep_errors": True}, "held": 1,
            "truth": str(truths[-1]),
        }  # fmt: skip
        child = nest.birth(request)
        child.listen(2 + int(chances.random() * 150))
        for _ in range(int(chances.random() * 20_000)):
            pass  # somewhere between two reports
        child.kill()
        assert child.end() == -signal.SIGKILL
    replay_all(tmp_path / "own", spool)
    audit = audit_folder(out)
    found: dict[str, list[str]] = {}
    for event in open_run(out).events():
        assert "$ref" not in repr(event), "its values are there as well"
        found.setdefault(str(event.trace_id), []).append(f"{event.event} {event.span_id}")
    wrong = [text for path in truths for text in Truth(path).wrong(found)]
    assert not wrong, "\n".join(wrong)
    assert not [text for text in audit.problems if "times" in text]
    assert found


def test_the_command_delivers_it(tmp_path: Path) -> None:
    """``asynctrack spool replay`` delivers what a dead process held, and nothing is left."""
    out, spool = tmp_path / "out", tmp_path / "spool"
    subprocess.run([sys.executable, "-c", KILLED, str(out), str(spool)], check=False)
    command = [sys.executable, "-m", "asynctrack.cli", "spool", "replay", "--spool-dir", str(spool)]
    assert subprocess.run(command, check=False).returncode == 0
    assert [trace.outcome for trace in open_run(out).traces()] == ["unfinished"]
    assert writers(spool) == []


def test_a_trace_that_was_being_accepted(tmp_path: Path) -> None:
    """Killed with a part of a trace in its segments and a part in the journal only: the numbers
    that are missing there are filled, and nothing is doubled."""
    out, spool = tmp_path / "out", tmp_path / "spool"
    program = HALFWAY.format(out=str(out), spool=str(spool))
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    replay_all(tmp_path / "own", spool)
    (trace,) = open_run(out).traces()
    assert trace.failed and trace.complete and sum(1 for _ in trace.walk()) == 3
    said = [event.inputs or event.outputs for event in open_run(out).events()]
    assert said == [DOCUMENT] * 5 + [None]
    report = verify(out)
    assert report.ok and report.complete, str(report)
    assert len(report.writers) == 1, "all of it is the dead writer's own"


def test_in_each_segment_there_are_its_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a dead process held is more than one segment takes: each has what its events refer
    to."""
    out, spool = tmp_path / "out", tmp_path / "spool"
    program = UNDECIDED.format(out=str(out), spool=str(spool))
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    (folder,) = writers(spool)
    monkeypatch.setattr(recovery, "MAX_BYTES", 1)
    recover_held(folder)
    assert len([*folder.glob("*.sealed")]) == 6
    replay_all(tmp_path / "own", spool)
    assert [event.inputs or event.outputs for event in open_run(out).events()] == [DOCUMENT] * 6
    assert verify(out).ok


DOCUMENT = "many words " * 2_000
UNDECIDED = """
import os, uuid
from asynctrack import tracker
with tracker({out!r}, spool_dir={spool!r}, sample=0, keep_errors=True) as handler:
    while handler._sink._holding.journal._spare is None:
        pass
    for root in uuid.uuid4(), uuid.uuid4():
        span = uuid.uuid4()
        handler.on_chain_start({{}}, "many words " * 2_000, run_id=root)
        handler.on_chain_start({{}}, "many words " * 2_000, run_id=span, parent_run_id=root)
        handler.on_chain_end("many words " * 2_000, run_id=span, parent_run_id=root)
    os.kill(os.getpid(), 9)
"""
HALFWAY = """
import os, signal, uuid
from asynctrack import tracker
from asynctrack._buffer.buffer import Buffer
accept, seen = Buffer._accept, []
def dies(self, body):
    seen.append(1)
    if len(seen) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return accept(self, body)
with tracker({out!r}, spool_dir={spool!r}, sample=0, keep_errors=True, max_delay=60) as handler:
    while handler._sink._holding.journal._spare is None:
        pass
    root = uuid.uuid4()
    text = "many words " * 2_000
    handler.on_chain_start({{}}, text, run_id=root)
    for _ in range(2):
        span = uuid.uuid4()
        handler.on_chain_start({{}}, text, run_id=span, parent_run_id=root)
        handler.on_chain_end(text, run_id=span, parent_run_id=root)
    Buffer._accept = dies
    handler.on_chain_error(ValueError("bad"), run_id=root)
"""


def test_who_recovers_may_die_as_well(tmp_path: Path) -> None:
    """Recovered once more, as the first one died before the journal was deleted, it is the same."""
    out, spool = tmp_path / "out", tmp_path / "spool"
    run = [sys.executable, "-c", KILLED, str(out), str(spool)]
    subprocess.run(run, check=False)
    (folder,) = writers(spool)
    kept = {path: path.read_bytes() for path in held_files(folder)}
    recover_held(folder)
    for path, content in kept.items():
        path.write_bytes(content)
    replay_all(tmp_path / "own", spool)
    assert len(list(open_run(out).traces())) == 1
    report = verify(out)
    assert report.ok, str(report)


def test_a_damaged_journal_is_kept(tmp_path: Path) -> None:
    """What cannot be read is set aside, and what can is delivered."""
    out, spool = tmp_path / "out", tmp_path / "spool"
    subprocess.run([sys.executable, "-c", KILLED, str(out), str(spool)], check=False)
    (folder,) = writers(spool)
    (folder / "00000099.held").write_bytes(b"rubbish\n" * 20)
    recover_held(folder)
    assert [path.name for path in folder.glob("*.damaged")] == ["00000099.damaged"]
    assert held_files(folder) == []


def test_nothing_is_left_after_a_good_end(tmp_path: Path) -> None:
    """A tracker that closes deletes its journal, and keeps what had not ended: nobody saw how."""
    out, spool = tmp_path / "out", tmp_path / "spool"
    with tracker(out, spool_dir=spool, sample=0, keep_errors=True) as handler:
        handler.on_chain_start({}, "in", run_id=(span := __import__("uuid").uuid4()))
        assert handler.statistics().held == 1
    assert list(spool.rglob("*.held")) == []
    (trace,) = open_run(out).traces()
    assert (trace.trace_id, trace.outcome, trace.weight) == (str(span), "abandoned", 1.0)
    (manifest,) = out.rglob("_manifest/*.json")
    said = json.loads(manifest.read_bytes())["sampling"]
    assert (said["traces_kept_failed"], said["events_held"]) == (1, 0)
    assert os.listdir(spool / "v1") == []
