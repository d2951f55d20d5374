"""Many small pieces of the index become few, and say the same."""

from __future__ import annotations

import errno
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynctrack import open_run
from asynctrack._reading.index import merge, pieces
from asynctrack._reading.index.catalog import Catalog, State
from asynctrack._reading.index.tables import open_tables
from asynctrack._reading.run import RecordedRun
from tests.reading.indexing import ask
from tests.reading.making import RunFolder, event

pytestmark = pytest.mark.usefixtures("place")


def trace(number: int) -> list[dict[str, Any]]:
    """The events of one trace."""
    ids = {"trace_id": f"t{number:03}", "span_id": f"t{number:03}"}
    return [
        event(2 * number + 1, kind="chain_start", inputs={"q": number}, **ids),
        event(2 * number + 2, kind="chain_end", outputs=number, duration=1.5, **ids),
    ]


def state_of(run: RecordedRun) -> State:
    """What the index holds of a Run."""
    with Catalog() as catalog:
        return catalog.folder(run.found).state()


WHAT = "SELECT trace_id, span_id, inputs, outputs, start, duration FROM spans ORDER BY ALL"


def grown(tmp_path: Path, steps: int) -> RecordedRun:
    """A Run that was asked after each of its artifacts."""
    folder = RunFolder(tmp_path / "runs")
    for number in range(steps):
        folder.artifact(trace(number))
        folder.manifest()
        run = open_run(folder.path)
        assert ask(run, "SELECT count(*) FROM traces") == [(number + 1,)]
    return run


def test_pieces_stay_few(tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Run that was asked after each artifact has few files, and tells what a new index does."""
    run = grown(tmp_path, 14)
    rows = ask(run, WHAT)
    assert len(rows) == 14
    files = [piece for piece in state_of(run).layers["traces"].pieces if piece.table == "spans"]
    assert len(files) <= merge.FEW
    assert sum(piece.rows for piece in files) == 14
    (own,) = place.glob("*/*")
    assert {path.name for path in own.glob("*-spans.parquet")} == {piece.name for piece in files}
    monkeypatch.setenv("ASYNCTRACK_INDEX_DIR", str(tmp_path / "another"))
    assert ask(run, WHAT) == rows


def test_who_reads_meanwhile_is_not_disturbed(tmp_path: Path) -> None:
    """The files that were merged stay until nobody reads them any more."""
    folder = RunFolder(tmp_path / "runs")
    for number in range(merge.FEW):
        folder.artifact(trace(number))
        folder.manifest()
        before = open_run(folder.path)
        ask(before, "SELECT 1")
    with open_tables([before]) as tables:
        folder.artifact(trace(merge.FEW))
        folder.manifest()
        after = open_run(folder.path)
        assert len(ask(after, WHAT)) == merge.FEW + 1
        assert len(state_of(after).layers["traces"].pieces) < merge.FEW
        assert len(tables.connection.execute(WHAT).fetchall()) == merge.FEW
    assert len(ask(after, WHAT)) == merge.FEW + 1


def test_without_room_there_are_more_for_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where merging fails, the question is answered from the pieces as they are."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pieces.Piece, "add_table", full)
    run = grown(tmp_path, 10)
    assert len(ask(run, WHAT)) == 10
    assert len(state_of(run).layers["traces"].pieces) == 2 * 10
    monkeypatch.undo()


@given(st.lists(st.integers(1, 300), min_size=1, max_size=300))
def test_each_row_is_written_seldom(sizes: list[int]) -> None:
    """However pieces come, there are few, and no row is written more often than a logarithm."""
    full = 1_000
    there: list[tuple[int, int]] = []  # rows, how often the one that was written most was
    for size in sizes:
        there.append((size, 1))
        count = merge.mergeable([rows for rows, _ in there], full=full)
        assert count != 1
        if count:
            old = there[-count:]
            there[-count:] = [(sum(rows for rows, _ in old), 1 + max(often for _, often in old))]
        small = [rows for rows, _ in there if rows < full]
        assert len(small) <= merge.FEW + math.log(full, 2)
        assert all(often <= 3 + math.log(full, 1.5) for _, often in there)
