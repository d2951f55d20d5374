"""The manifest: what was delivered, in ranges, lists and pages."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynctrack._common.artifact import Receipt
from asynctrack._record.manifest import PAGE, Manifest
from tests.property.strategies import quick


def receipt(first: int, last: int) -> Receipt:
    return Receipt(
        f"dt=2026-11-22/w-{first:012d}-{last:012d}.jsonl.zst", first, last, 10, 100, "ab"
    )


def decoded(manifest: Manifest, state: str = "open") -> dict[str, object]:
    content = manifest.encode(
        state=state, counts={"accepted": 5}, parameters={}, metrics={}, metrics_seq=4
    )
    return dict(json.loads(content))


def test_what_it_says() -> None:
    """Writer, state, counters, ranges, artifacts with checksums, parameters and metrics."""
    manifest = Manifest("w", "E", "R")
    manifest.delivered(receipt(1, 3))
    manifest.refused(4, 5)
    content = json.loads(
        manifest.encode(
            state="closed",
            counts={"accepted": 5, "delivered": 3, "dead_lettered": 2},
            parameters={"a": {"b": "x" * 5_000}},
            metrics={"score": {"count": 1}},
            metrics_seq=5,
        )
    )
    assert 0 < content.pop("created_unix_nano") <= content.pop("updated_unix_nano")
    assert content == {
        "v": 1, "writer_id": "w", "experiment": "E", "run": "R", "state": "closed",
        "accepted": 5, "delivered": 3, "dead_lettered": 2,
        "ranges": [[1, 3]], "refused_ranges": [[4, 5]], "pages": [],
        "artifacts": [{
            "name": "dt=2026-11-22/w-000000000001-000000000003.jsonl.zst",
            "first_seq": 1, "last_seq": 3, "bytes": 10, "raw_bytes": 100, "sha256": "ab",
        }],
        "parameters": {"a": {"b": "x" * 5_000}},
        "metrics": {"score": {"count": 1}},
        "metrics_seq": 5,
    }  # fmt: skip


def test_uploads_that_end_in_any_order() -> None:
    """Artifacts that arrive out of order leave gaps until they are filled."""
    manifest = Manifest("w", "E", "R")
    for first, last, ranges in (
        (4, 6, [[4, 6]]),
        (10, 12, [[4, 6], [10, 12]]),
        (1, 3, [[1, 6], [10, 12]]),
        (7, 9, [[1, 12]]),
        (13, 13, [[1, 13]]),
    ):
        manifest.delivered(receipt(first, last))
        assert decoded(manifest)["ranges"] == ranges


@quick
@given(st.lists(st.integers(1, 5), min_size=1, max_size=25), st.randoms(use_true_random=False))
def test_ranges_cover_what_was_delivered(sizes: list[int], order: object) -> None:
    """Sorted, disjoint ranges with gaps between them cover exactly what was delivered."""
    pieces, first = [], 1
    for size in sizes:
        pieces.append((first, first + size - 1))
        first += size
    order.shuffle(pieces)  # type: ignore[attr-defined]  # random.Random
    manifest = Manifest("w", "E", "R")
    covered: set[int] = set()
    for start, end in pieces:
        manifest.delivered(receipt(start, end))
        covered |= set(range(start, end + 1))
        ranges = decoded(manifest)["ranges"]
        assert isinstance(ranges, list)
        assert {seq for low, high in ranges for seq in range(low, high + 1)} == covered
        assert all(
            before[1] + 1 < after[0] for before, after in zip(ranges, ranges[1:], strict=False)
        )
    assert decoded(manifest)["ranges"] == [[1, first - 1]]


def test_pages() -> None:
    """A full list of artifacts is put aside as a page, and what is stored stays in it."""
    manifest = Manifest("w", "E", "R")
    for seq in range(1, 2 * PAGE + 4):
        manifest.delivered(receipt(seq, seq))
        if seq == PAGE - 1:
            assert manifest.full_page() is None
    listed: list[int] = []
    names: list[str] = []
    while (page := manifest.full_page()) is not None:
        name, content = page
        assert manifest.full_page() == page  # until it is stored, the very same
        parsed = json.loads(content)
        assert (parsed["v"], parsed["writer_id"]) == (1, "w")
        listed += [artifact["first_seq"] for artifact in parsed["artifacts"]]
        names.append(name)
        manifest.page_stored(name)
    rest = decoded(manifest)
    assert names == rest["pages"] == ["_manifest/w.000000.json", "_manifest/w.000001.json"]
    assert isinstance(rest["artifacts"], list)
    listed += [artifact["first_seq"] for artifact in rest["artifacts"]]
    assert listed == list(range(1, 2 * PAGE + 4))
    assert rest["ranges"] == [[1, 2 * PAGE + 3]]


def test_an_artifact_that_arrives_while_a_page_is_stored() -> None:
    """What comes in between is not lost with the page."""
    manifest = Manifest("w", "E", "R")
    for seq in range(1, PAGE + 1):
        manifest.delivered(receipt(seq, seq))
    page = manifest.full_page()
    assert page is not None
    manifest.delivered(receipt(PAGE + 1, PAGE + 1))
    manifest.page_stored(page[0])
    artifacts = decoded(manifest)["artifacts"]
    assert isinstance(artifacts, list)
    assert [artifact["first_seq"] for artifact in artifacts] == [PAGE + 1]


@pytest.mark.parametrize("state", ["open", "closed"])
def test_the_state(state: str) -> None:
    """A reader is told whether more is to come."""
    assert decoded(Manifest("w", "E", "R"), state)["state"] == state
