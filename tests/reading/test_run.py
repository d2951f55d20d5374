"""``open_run``: finding the Run, streaming it, and naming what is wrong with it."""

from __future__ import annotations

import logging
import sys
import tracemalloc
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from asynctrack._errors import (
    ChecksumError,
    MissingExtraError,
    NotFoundError,
    OptionError,
    SeveralRunsError,
)
from asynctrack._reading.run import aopen_run, open_run
from asynctrack._reading.sources.stores import LocalStore
from tests.reading.making import OTHER, START, WRITER, RunFolder, event


def filled(folder: RunFolder, count: int = 3) -> RunFolder:
    folder.artifact([event(seq) for seq in range(1, count + 1)])
    folder.manifest()
    return folder


def test_a_run_is_found_from_anywhere(folder: RunFolder) -> None:
    """The Run's folder, what is in it, and every folder above it lead to the Run."""
    filled(folder)
    places: list[Any] = [folder.path, *folder.path.parents[:4], f"{folder.path}/"]
    places += [folder.path / "_manifest", next(folder.path.glob("dt=*/*"))]
    for place in places:
        run = open_run(place)
        assert (run.experiment, run.name) == ("jokes", "one")
        assert [one.seq for one in run.events()] == [1, 2, 3]
    assert open_run(("jokes", "one"), root=folder.root).uris == (f"{folder.path}/",)


def test_several_runs_are_listed(tmp_path: Path) -> None:
    """Several Runs below a place are an error that lists them, each as it can be opened."""
    for name in ("one", "two"):
        filled(RunFolder(tmp_path, run=name))
    with pytest.raises(SeveralRunsError, match="there are 2 Runs at") as caught:
        open_run(tmp_path)
    assert [open_run(place).name for place in caught.value.found] == ["two", "one"]
    assert all(place in str(caught.value) for place in caught.value.found)


def test_nothing_there_is_an_error(tmp_path: Path) -> None:
    """A place without Runs is an error that says so, also where the folder is empty or absent."""
    with pytest.raises(NotFoundError, match="there is no Run at"):
        open_run(tmp_path)
    with pytest.raises(NotFoundError, match="there is no folder"):
        open_run(tmp_path / "absent")
    with pytest.raises(OptionError, match=r"source=''.* '\.' is the current folder"):
        open_run("")
    with pytest.raises(NotFoundError, match=r"there is no Run at .*run=one/: nothing is stored"):
        open_run(RunFolder(tmp_path).path)
    RunFolder(tmp_path).path.mkdir(parents=True)
    with pytest.raises(NotFoundError, match=r"there is no Run at .*jokes/other"):
        open_run(("jokes", "other"), root=tmp_path)


def test_a_run_without_events_is_one(tmp_path: Path) -> None:
    """Its folder is made when its tracker begins: it is opened, and there is nothing in it."""
    folder = RunFolder(tmp_path / "a\nb")
    folder.path.mkdir(parents=True)
    for place in (folder.root, folder.path):
        run = open_run(place)
        assert (run.experiment, run.name) == ("jokes", "one")
        assert (list(run.events()), list(run.traces())) == ([], [])
        assert (run.parameters, run.metrics, run.problems) == ({}, {}, ())


@pytest.mark.parametrize(
    ("call", "option"),
    [
        (lambda path: open_run(path, damaged="ignore"), "damaged"),  # type: ignore[arg-type]  # wrong
        (lambda path: open_run(path, concurrency=0), "concurrency"),
        (lambda path: open_run(path, root=path), "root"),
        (lambda path: open_run(17), "source"),
        (lambda path: open_run(("a", "b", "c")), "source"),
        (lambda path: open_run("https://example.com/run"), "source"),
    ],
)
def test_wrong_options_are_named(
    folder: RunFolder, call: Callable[[Path], Any], option: str
) -> None:
    """What cannot be meant is refused with the option's name."""
    filled(folder)
    with pytest.raises(OptionError) as caught:
        call(folder.path)
    assert caught.value.option == option


def test_kinds_of_events(folder: RunFolder) -> None:
    """Only the kinds asked for come, with ``on_`` before the name or without."""
    folder.artifact(
        [event(seq, kind=kind) for seq, kind in enumerate(["text", "retry", "text"], 1)]
    )
    run = open_run(folder.path)
    assert [one.seq for one in run.events("text")] == [1, 3]
    assert [one.seq for one in run.events("on_retry")] == [2]
    assert [one.seq for one in run.events(["retry", "on_text"])] == [1, 2, 3]


def test_one_writer_only(folder: RunFolder) -> None:
    """With ``writer`` only that writer's events come; one that is not there is named."""
    folder.artifact([event(1)])
    folder.artifact([event(1, writer=OTHER)], writer=OTHER)
    run = open_run(folder.path, writer=OTHER)
    assert [one.writer_id for one in run.events()] == [OTHER]
    with pytest.raises(NotFoundError, match=WRITER):
        list(open_run(folder.path, writer="d" * 24).events())


async def test_events_from_async_code(folder: RunFolder) -> None:
    """``aevents`` yields what ``events`` yields, without a blocking call in the event loop."""
    await anyio.to_thread.run_sync(filled, folder, 1_700)
    run = await aopen_run(folder.path)
    assert [one.seq async for one in run.aevents()] == list(range(1, 1_701))
    assert [one.seq async for one in run.aevents("retry")] == []
    first = run.aevents()
    assert (await anext(first)).seq == 1
    await first.aclose()  # type: ignore[attr-defined]  # it is an async generator


def test_a_changed_object_is_an_error_that_names_it(folder: RunFolder) -> None:
    """An object whose bytes are others than the manifest lists raises, though it is readable."""
    filled(folder)
    changed = folder.artifact([event(seq, name="other") for seq in (1, 2, 3)], listed=False)
    run = open_run(folder.path)
    with pytest.raises(ChecksumError, match="is damaged") as caught:
        list(run.events())
    assert caught.value.object == str(changed)


def test_what_is_set_aside_is_named_and_warned_of(
    folder: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    """Damaged, missing and foreign objects are set aside, each with a warning, once."""
    changed = folder.artifact([event(1)])
    changed.write_bytes(b"other bytes")
    gone = folder.artifact([event(2)])
    gone.unlink()
    folder.artifact([event(3)])
    bad_lines = folder.artifact(
        [event(4), event(5, v=9), event(6, v=9), event(7)], suffix="", listed=False
    )
    foreign = folder.path / "dt=2026-01-01/notes.txt"
    foreign.write_text("mine")
    half = folder.path / "dt=2026-01-01/.x.jsonl.zst.0.tmp"
    half.write_text("half")
    folder.manifest()
    run = open_run(folder.path, damaged="set_aside")
    for _ in range(2):
        assert [one.seq for one in run.events()] == [3, 4, 7]
    found = {problem.object: problem for problem in run.problems}
    assert set(found) == {str(path) for path in (changed, gone, bad_lines, foreign)}
    assert (found[str(bad_lines)].line, found[str(bad_lines)].lines) == (2, 2)
    assert "and 1 more lines" in str(found[str(bad_lines)])
    assert "with the events 2 to 2" in found[str(gone)].reason
    warned = [one for one in caplog.records if one.levelno == logging.WARNING]
    assert len(warned) == 4


def test_warnings_stop_and_problems_go_on(
    folder: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    """A Run with very many bad objects does not fill the log."""
    for seq in range(1, 41):
        folder.artifact([event(seq)], listed=False).write_bytes(b"bad")
    run = open_run(folder.path)
    assert list(run.events()) == []
    assert len(run.problems) == 40
    assert len(caplog.records) == 21


def test_a_broken_manifest_is_named_and_the_events_come(folder: RunFolder) -> None:
    """Manifests are not needed for reading; one that cannot be read is a problem with a name."""
    filled(folder)
    for content in (b"{", b"[]", b'{"v": 7}', b'{"v": 1, "writer_id": "x"}'):
        path = folder.path / f"_manifest/{WRITER}.json"
        path.write_bytes(content)
        run = open_run(folder.path)
        assert [one.seq for one in run.events()] == [1, 2, 3]
        assert [problem.object for problem in run.problems] == [str(path)]
        assert run.parameters == {}


def test_manifests_of_any_content_do_no_harm(folder: RunFolder) -> None:
    """Fields of a wrong kind count as absent."""
    filled(folder)
    folder.manifest(
        accepted="many", ranges=[[1], "x", [1, "2"]], dropped=[1], parameters=3, pages=[None, 5],
        metrics={"a": 1, "b": {"count": "x"}}, created_unix_nano=-1, state={"a": 1},
    )  # fmt: skip
    run = open_run(folder.path)
    assert [one.seq for one in run.events()] == [1, 2, 3]
    assert (run.manifest.accepted, run.metrics, run.parameters) == (0, {}, {})
    assert not run.manifest.closed


def test_manifests_of_several_writers_are_merged(folder: RunFolder) -> None:
    """Parameters, metrics and counts are those of all writers, pages of manifests included."""
    folder.artifact([event(1)])
    folder.artifact([event(1, writer=OTHER), event(2, writer=OTHER)], writer=OTHER)
    score = {"count": 1, "sum": 2.0, "min": 2.0, "max": 2.0, "last": 2.0}
    folder.manifest(parameters={"a": 1, "b": 1}, metrics={"score": score}, dropped={"full": 2})
    page = folder.manifest(OTHER)
    page.rename(page.with_name(f"{OTHER}.000000.json"))
    folder.listed[OTHER] = []
    folder.manifest(
        OTHER, created_unix_nano=START + 5, updated_unix_nano=START + 2 * 10**9, accepted=2,
        parameters={"b": 2}, metrics={"score": {**score, "sum": 4.0, "max": 4.0, "last": 4.0}},
        pages=[f"_manifest/{OTHER}.000000.json", "_manifest/lost.json"], dropped={"full": 1},
    )  # fmt: skip
    run = open_run(folder.path)
    assert run.parameters == {"a": 1, "b": 2}
    metric = run.metrics["score"]
    assert (metric.count, metric.sum, metric.min, metric.max, metric.last) == (
        2,
        6.0,
        2.0,
        4.0,
        4.0,
    )
    assert metric.mean == 3.0
    assert run.manifest.accepted == 3
    assert run.manifest.dropped == {"full": 3}
    assert [len(one.artifacts) for one in run.manifest.writers] == [1, 1]
    assert [problem.object for problem in run.problems] == [f"{folder.path}/_manifest/lost.json"]


def test_a_run_in_progress_is_read_again(folder: RunFolder) -> None:
    """Each call reads what is there by then."""
    folder.artifact([event(1)])
    run = open_run(folder.path)
    assert [one.seq for one in run.events()] == [1]
    folder.artifact([event(2)])
    folder.manifest()
    assert [one.seq for one in run.events()] == [1, 2]
    assert run.manifest.accepted == 2


@pytest.mark.parametrize(
    ("method", "package"),
    [
        ("to_arrow", "pyarrow"),
        ("to_pandas", "pandas"),
        ("to_pandas", "pyarrow"),
        ("to_duckdb", "duckdb"),
        ("to_duckdb", "pyarrow"),
    ],
)
def test_a_missing_extra_is_named(
    folder: RunFolder, method: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its package, a table is refused with the command that installs it."""
    monkeypatch.setitem(sys.modules, package, None)  # what the import system takes for absent
    run = open_run(filled(folder).path)
    with pytest.raises(MissingExtraError, match=rf"{package}.*install .*\[read\]'"):
        getattr(run, method)()
    assert [one.seq for one in run.events()] == [1, 2, 3]


def test_memory_does_not_grow_with_the_run(folder: RunFolder) -> None:
    """200,000 events, and their traces, take the memory of a few artifacts."""
    batch, batches = 5_000, 40
    for number in range(batches):
        events = []
        for at in range(batch):
            seq = number * batch + at + 1
            kind = ("chain_start", "tool_start", "tool_end", "chain_end")[at % 4]
            root = f"{(seq - 1) // 4:032x}"
            events.append(
                event(seq, kind=kind, trace_id=root, inputs={"text": f"{seq:0200d}"},
                      **({"span_id": root} if "chain" in kind
                         else {"span_id": f"tool{root}", "parent_span_id": root}))
            )  # fmt: skip
        folder.artifact(events)
    folder.manifest()
    run = open_run(folder.path)
    # Tracing makes it several times slower: the traces of the first fifth tell enough.
    reads = ((run.events(), batch * batches, 8), (run.traces(), batch * batches // 20, 24))
    for read, count, limit in reads:
        tracemalloc.start()
        seen = sum(1 for _ in islice(read, count))
        peak = tracemalloc.get_traced_memory()[1] / 1024**2
        tracemalloc.stop()
        assert seen == count
        assert peak < limit


def test_a_file_that_goes_while_its_folder_is_listed_hides_no_other(folder: RunFolder) -> None:
    """A writer renames what it has half written: whoever lists the folder at that moment still
    sees all others."""
    for seq in range(1, 30):
        folder.artifact([event(seq)])
    day = folder.path / "dt=2026-01-01"
    listed = LocalStore(folder.path).objects("dt=2026-01-01/")
    first = next(listed)
    gone = next(path for path in day.iterdir() if path.name not in first.key)
    gone.unlink()
    assert 27 <= sum(1 for _ in listed) <= 28
