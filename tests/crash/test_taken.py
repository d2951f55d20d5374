"""What others do to the spool of a program that runs: its files cut, removed, their folder gone."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from asynctrack import tracker
from asynctrack._spool.layout import waiting_segments, writers
from tests.e2e.waiting import Wall, until_in_thread
from tests.faults.ground import finish, start_child
from tests.support.auditor import audit_folder

PROGRAM = """
    import json, sys, uuid
    from asynctrack import tracker
    folder, spool = sys.argv[1:]
    with tracker(folder, spool_dir=spool, max_batch_events=10, max_delay=0.05) as handler:
        for command in sys.stdin:
            if command == "end\\n":
                break
            for _ in range(int(command)):
                handler.on_chain_end("x" * 500, run_id=uuid.uuid4())
                assert handler.statistics().balanced
            while handler.statistics().pending:
                pass
            print(handler.statistics().accepted, flush=True)
    end = handler.statistics()
    print(json.dumps([end.accepted, end.delivered, end.dead_lettered, end.spooled, end.dropped]))
"""


class Program:
    """A program in a process of its own, whose S3 is down until the wall is mended."""

    def __init__(self, tmp_path: Path) -> None:
        self.wall = Wall(tmp_path)
        self.spool = tmp_path / "spool"
        self.process = start_child(PROGRAM, self.wall.folder, str(self.spool))

    def track(self, events: int) -> None:
        """Let it track so many events, and wait until all are on disk."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{events}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() != "", f"it ended: {self.process.wait()}"

    def end(self) -> tuple[list[Any], str]:
        """Let it leave its block; returns its counters and what it said."""
        assert self.process.stdin is not None
        self.process.stdin.write("end\n")
        out, errors = finish(self.process)
        assert self.process.returncode == 0, errors
        assert "Traceback" not in errors
        return json.loads(out), errors


@contextmanager
def program(tmp_path: Path) -> Iterator[Program]:
    running = Program(tmp_path)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.communicate()


def files(spool: Path) -> list[Path]:
    (folder,) = writers(spool)
    return waiting_segments(folder)


def cut(spool: Path) -> None:
    """As ``: > file`` does, or logrotate's copytruncate."""
    for file in files(spool):
        with file.open("w"):
            pass


def cut_in_half(spool: Path) -> None:
    for file in files(spool):
        os.truncate(file, min(1500, file.stat().st_size))


def remove(spool: Path) -> None:
    for file in files(spool):
        file.unlink()


def remove_all(spool: Path) -> None:
    """With one move, as files are made in there meanwhile."""
    aside = spool.with_name("removed")
    spool.rename(aside)
    shutil.rmtree(aside)


@pytest.mark.parametrize("before", [0, 4, 10, 36], ids=["spare", "open", "full", "several"])
@pytest.mark.parametrize("do", [cut, cut_in_half, remove, remove_all])
def test_a_spool_that_others_cut_or_remove(
    do: Callable[[Path], None], before: int, tmp_path: Path
) -> None:
    """The program lives and goes on; whole events are delivered, the others counted, and said."""
    with program(tmp_path) as running:
        running.track(before)
        until_in_thread(lambda: writers(running.spool))
        do(running.spool)
        running.track(25)
        running.wall.mend()
        (accepted, delivered, dead, spooled, dropped), said = running.end()
    assert accepted == before + 25 == delivered + dead and not spooled and not dropped
    lost_at_most = {cut: before, cut_in_half: before}.get(do, 0)  # a removed file is still open
    assert dead <= lost_at_most
    if do is cut:
        assert dead == before
    audit = audit_folder(tmp_path / "wall")
    assert audit.events == delivered
    assert said.count("cut short, removed or damaged by others") == (dead > 0)
    assert said.count("are lost. They are counted as dead_lettered.") == (dead > 0)
    (writer,) = audit.writers.values()
    assert set(range(before + 1, accepted + 1)) <= set(writer.seqs), "all that came after it"
    assert writer.duplicates == {}
    with tracker(tmp_path / "next", spool_dir=str(running.spool)):
        until_in_thread(lambda: len(writers(running.spool)) == 1)


CLOSING = """
    import json, os, sys, uuid
    from asynctrack import tracker
    folder, spool, own, how, first = sys.argv[1:]

    def close_and_open(handler):
        # As a daemon does: it knows none of the descriptors that it has. Not in the midst of what
        # other threads do with files of a moment: no thread of any library survives that.
        looks = []
        while len(looks) < 500 or len(set(looks[-500:])) > 1:
            looks.append(tuple(sorted(os.listdir("/proc/self/fd"))))
        os.closerange(3, 1024)
        return [open(f"{own}-{number}", "w") for number in range(30)]

    def track(handler, value, count):
        for number in range(count):
            handler.on_chain_end([value, number], run_id=uuid.uuid4())
            assert handler.statistics().balanced

    def check(files):
        for number, file in enumerate(files):
            file.write(f"second {number}")
            file.close()
            with open(file.name) as again:
                assert again.read() == f"first {number} second {number}", file.name

    with tracker(folder, spool_dir=spool, max_batch_events=10, max_delay=3600) as handler:
        track(handler, "before", int(first))
        child = os.fork() if how == "daemon" else 0
        if child:
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            track(handler, "parent", 25)
        else:
            if how == "daemon":
                os.setsid()
            else:
                assert handler.flush(60)
                track(handler, "more", int(first))
            files = close_and_open(handler)
            for number, file in enumerate(files):
                file.write(f"first {number} ")
                file.flush()
            track(handler, "after", 25)
            if how == "daemon":
                assert handler.flush(60)
                check(files)
                sys.exit()
    if not child:
        check(files)
    end = handler.statistics()
    print(json.dumps([end.accepted, end.delivered, end.dead_lettered]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize("first", [0, 5, 10], ids=["no event before", "open", "full"])
@pytest.mark.parametrize("how", ["daemon", "the same process"])
def test_descriptors_that_others_close(how: str, first: int, tmp_path: Path) -> None:
    """The program's own files get the numbers: they keep their content, and all is delivered."""
    child = start_child(
        CLOSING,
        str(tmp_path / "out"),
        str(tmp_path / "spool"),
        str(tmp_path / "own"),
        how,
        str(first),
        ASYNCTRACK_CLOSE_TIMEOUT="30",
    )
    out, errors = finish(child)
    assert child.returncode == 0, errors
    assert "Traceback" not in errors and "Error" not in errors.replace("OSError", ""), errors
    accepted = first + 25 + (0 if how == "daemon" else first)
    assert json.loads(out) == [accepted, accepted, 0]
    audit = audit_folder(tmp_path / "out")
    assert audit.events == accepted + (25 if how == "daemon" else 0)
    assert all(writer.duplicates == {} for writer in audit.writers.values())
    assert [text for text in audit.problems if "the span " not in text] == []
