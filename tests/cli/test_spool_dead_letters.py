"""``asynctrack spool replay --dead-letters``: what was refused for good is sent again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from asynctrack import open_run, verify
from asynctrack._common.artifact import Batch
from asynctrack._delivery.encode import encode_batch
from asynctrack._spool.folder import WriterFolder, bury
from asynctrack._spool.layout import default_spool_dir, writers
from asynctrack.cli import main
from tests.delivery.test_replay import Dead, event
from tests.spool.test_segment import WRITER
from tests.support.auditor import audit_folder, audit_s3
from tests.support.faults import PAGES, Answer, Page
from tests.support.proxy import fault_proxy
from tests.support.s3 import REGION, S3Server

pytestmark = pytest.mark.may_block("the event loop in here is the command's own, nobody's chain")
OTHER = "b" * 24


@pytest.fixture
def dead(tmp_path: Path) -> Dead:
    """A writer that died, and whose events 1 to 4, and 9, were refused for good."""
    found = Dead(default_spool_dir(), tmp_path / "out")
    letters(found, 1, 4)
    letters(found, 9, 9)
    return found


def lines(writer: str, first: int, last: int, size: int = 1) -> bytes:
    return b"".join(event(writer, seq, "x" * size) for seq in range(first, last + 1))


def letters(dead: Dead, first: int, last: int, size: int = 1) -> Path:
    batch = Batch(dead.writer, first, last, lines(dead.writer, first, last, size))
    return bury(dead.path, batch, "InvalidRequest: said an older version")


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    code = main(["spool", *map(str, arguments)])
    return code, capsys.readouterr().out


def document(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, Any]:
    code, out = run(capsys, *arguments, "--json")
    return code, json.loads(out)


def test_each_becomes_the_object_it_would_have_been(
    dead: Dead, capsys: pytest.CaptureFixture[str]
) -> None:
    """Under its own key, of its first event's day, listed in a manifest; then the files go, and
    with them the folder. What is said of them before, and what reads the Run, agree."""
    assert "asynctrack spool replay --dead-letters" in run(capsys, "ls")[1]
    assert run(capsys, "replay")[1].startswith("0 events"), "only when somebody says so"
    code, shown = document(capsys, "replay", "--dead-letters")
    assert (code, shown["delivered"], shown["segments"], shown["problems"]) == (0, 5, 2, [])
    for first, last in ((1, 4), (9, 9)):
        artifact = encode_batch(Batch(WRITER, first, last, lines(WRITER, first, last)), "zstd")
        assert (dead.root / artifact.name).read_bytes() == artifact.content
    (manifest,) = dead.root.glob("_manifest/*.json")
    assert ".replayed-cli" in manifest.name
    listed = json.loads(manifest.read_bytes())["artifacts"]
    assert [(one["first_seq"], one["last_seq"]) for one in listed] == [(1, 4), (9, 9)]
    assert writers(default_spool_dir()) == []
    assert [one.seq for one in open_run(dead.root).events()] == [1, 2, 3, 4, 9]


def test_the_run_says_that_nothing_is_refused_any_more(
    dead: Dead, capsys: pytest.CaptureFixture[str]
) -> None:
    """The writer's manifest goes on to say so; verify, show and ls know better."""
    dead.segment(0)
    for seq in range(5, 9):
        letters(dead, seq, seq)
    (dead.root / "_manifest").mkdir(parents=True)
    content = {
        "v": 1, "writer_id": WRITER, "state": "closed", "accepted": 9, "dead_lettered": 9,
        "refused_ranges": [[1, 9]], "ranges": [], "artifacts": [], "updated_unix_nano": 1,
    }  # fmt: skip
    (dead.root / "_manifest" / f"{WRITER}.json").write_text(json.dumps(content))
    before = verify(dead.root)
    assert not before.complete and [one.events for one in before.writers[0].dead_letters] == [9]
    assert run(capsys, "replay", "--dead-letters")[0] == 0
    after = verify(dead.root)
    assert after.complete and after.writers[0].refused == ()
    assert (after.events, after.writers[0].verified) == (9, 6)
    assert main(["show", str(dead.root), "--dead-letters"]) == 0
    assert "Nothing was refused" in capsys.readouterr().out
    assert main(["ls", str(dead.out), "--json"]) == 0
    assert '"refused": 0' in capsys.readouterr().out


def test_a_living_writers_are_sent_as_well(dead: Dead, capsys: pytest.CaptureFixture[str]) -> None:
    """It never comes back to one; its segments and its lock are left alone."""
    segment = dead.segment(3)
    with WriterFolder(dead.path):
        code, shown = document(capsys, "replay", "--dead-letters")
        assert (code, shown["delivered"], shown["living"]) == (0, 5, [])
        assert list(dead.path.glob("*.dead")) == [] and segment.exists()
    assert list(dead.path.glob("*.reason")) == []


def test_only_those_of_chosen_writers_and_to_another_place(
    dead: Dead, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same arguments as for what waits."""
    other = Dead(default_spool_dir(), tmp_path / "out2", OTHER)
    letters(other, 1, 1)
    place = tmp_path / "x" / "asynctrack" / "v1" / "experiment=e" / "run=r"
    code, _ = run(capsys, "replay", "--dead-letters", OTHER, "--to", place)
    assert code == 0 and len(list(place.glob("dt=*/*"))) == 1
    assert len(list(dead.path.glob("*.dead"))) == 2 and not dead.out.exists()


def test_what_is_not_whole_is_left(dead: Dead, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that lacks events may be one that is being written; the others are sent."""
    path = letters(dead, 20, 22)
    path.write_bytes(lines(WRITER, 20, 21))
    strange = dead.path / "x.dead"
    strange.write_bytes(b"?")
    code, out = run(capsys, "replay", "--dead-letters")
    assert code == 1 and "5 events delivered" in out
    assert f"left as it is: {path}" in out and f"left as it is: {strange}" in out
    assert path.exists() and strange.exists()


@pytest.fixture
def store(s3: S3Server, dead: Dead, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """A real S3, whose keys are in the environment, where the writer's events belong."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret_key)
    place = {"kind": "s3", "bucket": s3.bucket, "root": "asynctrack/v1/experiment=e/run=r/"}
    with WriterFolder(dead.path) as folder:
        folder.describe(
            {"destination": {**place, "region": REGION, "endpoint_url": s3.endpoint_url}}
        )
    return s3


def test_what_s3_refuses_again_stays_with_the_new_reason(
    dead: Dead, store: S3Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1; of one that is too large the halves that pass are delivered."""
    whole = letters(dead, 11, 14, 40_000)
    with WriterFolder(dead.path) as folder:
        described = folder.description()
        folder.describe({**described, "compression": "none"})
    with fault_proxy(store.endpoint_url) as proxy:
        proxy.add(
            Answer(400, code="EntityTooLarge"),
            when=lambda one: one.body_size > 60_000 or b'"seq":9,' in one.body,
        )
        there = ("--endpoint-url", proxy.endpoint_url)
        code, shown = document(capsys, "replay", "--dead-letters", *there)
    assert (code, shown["delivered"]) == (1, 8)
    (problem,) = shown["problems"]
    assert "the events 9 to 9" in problem and "with the new reason" in problem
    (kept,) = dead.path.glob("*.dead")
    assert kept.read_bytes() == lines(WRITER, 9, 9)
    assert "EntityTooLarge" in kept.with_suffix(".reason").read_text()
    assert not whole.exists()
    assert run(capsys, "replay", "--dead-letters")[0] == 0
    audit = audit_s3(store.boto_client(), store.bucket)
    assert audit.writers[WRITER].seqs == (1, 2, 3, 4, 9, 11, 12, 13, 14)
    assert len(audit.objects) == 6, "each once: whole, halves of halves, and the one refused twice"


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("status", [200, 403, 407])
def test_a_stranger_takes_nothing_from_the_command_either(
    status: int,
    page: Page,
    dead: Dead,
    store: S3Server,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither dead letters nor what waits: both stay, and it is said who answered."""
    monkeypatch.setattr("asynctrack.cli._spool_replay.ATTEMPTS", 2)
    dead.events = 20
    dead.segment(2)
    with fault_proxy(store.endpoint_url) as proxy:
        proxy.add(Answer(status, page=page))
        there = ("--endpoint-url", proxy.endpoint_url)
        for arguments in (("--dead-letters",), ()):
            code, out = run(capsys, "replay", *arguments, *there)
            assert code == 1 and "0 events delivered" in out
            assert "is not S3" in out and "filter/1.0" in out and "a proxy" in out
        proxy.heal()
        assert len(list(dead.path.glob("*.dead"))) == 2
        for arguments in (("--dead-letters",), ()):
            assert run(capsys, "replay", *arguments, *there)[0] == 0
        asked = {one.method for one in proxy.requests if one.server_status is not None}
        assert asked == {"PUT"}, "S3 itself is believed at once"
    audit = audit_s3(store.boto_client(), store.bucket)
    assert audit.writers[WRITER].seqs == (1, 2, 3, 4, 9, 21, 22)
    assert writers(default_spool_dir()) == []


def test_a_folder_gets_all_of_it_once(dead: Dead, capsys: pytest.CaptureFixture[str]) -> None:
    """Sent twice, as by two commands at a time, it is the same object."""
    kept = {path: path.read_bytes() for path in dead.path.iterdir()}
    assert run(capsys, "replay", "--dead-letters")[0] == 0
    dead.path.mkdir()
    for path, content in kept.items():
        path.write_bytes(content)
    assert run(capsys, "replay", "--dead-letters")[0] == 0
    audit = audit_folder(dead.out)
    assert audit.writers[WRITER].seqs == (1, 2, 3, 4, 9) and len(audit.objects) == 2
