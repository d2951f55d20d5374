"""Replay: what dead writers left becomes the objects they would have made, and nothing else."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from asynctrack._backends.local import LocalBackend
from asynctrack._common.artifact import Artifact, Batch, Receipt
from asynctrack._common.notices import Notices
from asynctrack._common.retry import RetryPolicy
from asynctrack._delivery import takeover
from asynctrack._delivery.encode import encode_batch
from asynctrack._delivery.gate import Flow, Gate
from asynctrack._delivery.leftovers import Member
from asynctrack._delivery.replay import SegmentOutcome, replay_folder
from asynctrack._delivery.replay_plan import plan_segment
from asynctrack._delivery.takeover import Replayer
from asynctrack._delivery.upload import Uploader
from asynctrack._errors import BackendError, PausingError, PermanentError, TransientError
from asynctrack._format import MEDIA_TYPE
from asynctrack._spool.folder import WriterFolder
from asynctrack._spool.layout import spool_places, writer_folder, writers
from asynctrack._spool.segment import Shape
from tests.spool.test_segment import WRITER
from tests.support.auditor import assert_exactly_once, audit_folder
from tests.support.spoiled import make_rubbish, spoil_lines

ME = "f" * 24
pytestmark = pytest.mark.may_block("a replay runs in the worker's loop, which may; tests look")


def event(writer: str, seq: int, text: str = "a") -> bytes:
    """A line as the buffer makes it of what capture encodes."""
    return (
        b'{"v":1,"writer_id":"%s","seq":%d,"time_unix_nano":1700000000000000000,'
        b'"event":"text","x":"%s"}\n'
    ) % (writer.encode(), seq, text.encode())


class Dead:
    """A writer that died: its folder in the spool, and where its events belong."""

    def __init__(self, spool: Path, out: Path, writer: str = WRITER, run: str = "r1") -> None:
        self.path = writer_folder(spool, writer)
        self.writer = writer
        self.out = out
        self.root = out / "asynctrack" / "v1" / "experiment=default" / f"run={run}"
        self.events = 0
        with WriterFolder(self.path) as folder:
            folder.describe(
                {
                    "writer_id": writer,
                    "experiment": "default",
                    "run": run,
                    "compression": "zstd",
                    "destination": {"kind": "folder", "root": self.root.as_posix()},
                }
            )
            (self.path / "keep.open").touch()
        (self.path / "keep.open").unlink()

    def segment(self, count: int, ending: str = ".open") -> Path:
        """One more segment."""
        with WriterFolder(self.path) as folder:
            segment = folder.new_segment(Shape(100_000, 1000))
            segment.begin(self.writer, self.events + 1)
            for _ in range(count):
                self.events += 1
                segment.append(event(self.writer, self.events))
            if ending == ".sealed":
                segment.seal()
            segment.let_go()
        return segment.path

    def damage(self, path: Path, *lines: int) -> None:
        """Spoil lines of a segment, by their places."""
        spoil_lines(path, *lines)


@pytest.fixture
def dead(tmp_path: Path) -> Dead:
    return Dead(tmp_path / "spool", tmp_path / "out")


class Bench:
    """A replayer with a local backend, that may be made to refuse."""

    def __init__(self, tmp_path: Path) -> None:
        self.spool = tmp_path / "spool"
        self.backend = LocalBackend(tmp_path / "own", "", "default", "mine")
        self.fault: Callable[[str, bytes], BackendError | None] = lambda name, content: None
        self.puts: list[str] = []
        self.slept: list[float] = []
        self.replayer = Replayer(lambda: spool_places(self.spool), {ME}, sleep=self.sleep)
        self.member = Member(
            ME,
            self,  # type: ignore[arg-type]  # the part of it that is needed
            self.uploader,
            Notices(),
        )
        self.replayer._leftovers.join(self.member)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    way = "bench"

    def elsewhere(self, destination: Mapping[str, Any], experiment: str, run: str) -> Any:
        other = self.backend.elsewhere(destination, experiment, run)
        return None if other is None else _Watched(self, other)

    def uploader(self, store: Any) -> Uploader:
        return Uploader(
            store=store,
            media_type=MEDIA_TYPE,
            notices=Notices(),
            gate=Gate(Flow(4)),
            policy=RetryPolicy(0.001, 0.002),
        )


class _Watched:
    def __init__(self, bench: Bench, store: LocalBackend) -> None:
        self.bench = bench
        self.store = store

    async def put(self, name: str, content: bytes, *, crc32: int, media_type: str) -> None:
        self.bench.puts.append(name)
        error = self.bench.fault(name, content)
        if error is not None:
            raise error
        await self.store.put(name, content, crc32=crc32, media_type=media_type)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def manifests(dead: Dead) -> list[dict[str, Any]]:
    return [json.loads(path.read_bytes()) for path in sorted(dead.root.glob("_manifest/*"))]


async def test_segments_become_the_objects_of_their_writer(dead: Dead, bench: Bench) -> None:
    """The same keys and bytes as the writer makes, each event once, and the spool is empty."""
    dead.segment(3, ".sealed")
    dead.segment(2, ".sealed")
    dead.segment(4)
    dead.segment(0)  # the spare, made ready and never used
    await bench.replayer.run()
    assert bench.replayer.events == 9
    assert_exactly_once(audit_folder(dead.out), {WRITER: 9})
    for first, last in ((1, 3), (4, 5), (6, 9)):
        lines = b"".join(event(WRITER, seq) for seq in range(first, last + 1))
        artifact = encode_batch(Batch(WRITER, first, last, lines), "zstd")
        assert (dead.root / artifact.name).read_bytes() == artifact.content
    assert writers(bench.spool) == []


async def test_every_object_is_listed_with_its_checksum(dead: Dead, bench: Bench) -> None:
    """A manifest of the replay's own says what it delivered, and by whom."""
    for _ in range(3):
        dead.segment(2)
    await bench.replayer.run()
    (manifest,) = manifests(dead)
    assert (manifest["v"], manifest["writer_id"], manifest["replayed_by"]) == (1, WRITER, ME)
    names = [one["name"] for one in manifest["artifacts"]]
    assert names == [name for name in bench.puts if name.startswith("dt=")]
    assert [(one["first_seq"], one["last_seq"]) for one in manifest["artifacts"]] == [
        (1, 2),
        (3, 4),
        (5, 6),
    ]


async def test_long_lists_go_on_in_further_pages(
    dead: Dead, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Storing the list with each segment costs the same after the thousandth."""
    monkeypatch.setattr("asynctrack._delivery.replay._PAGE", 2)
    for _ in range(5):
        dead.segment(1)
    await bench.replayer.run()
    listed = [[one["first_seq"] for one in page["artifacts"]] for page in manifests(dead)]
    assert listed == [[1, 2], [3, 4], [5]]


async def test_a_segment_goes_only_after_its_object_is_listed(dead: Dead, bench: Bench) -> None:
    """A replay that fails between any two requests leaves the segment; the next one finishes."""
    for _ in range(3):
        dead.segment(2)
    for after in range(30):
        fine = iter([None] * after)

        def fault(name: str, content: bytes, fine: Iterator[None] = fine) -> BackendError | None:
            return next(fine, None if "dt=" in name else PermanentError("X", "x"))

        bench.fault = fault
        await bench.replayer.run()
        waiting = len(list(dead.path.glob("*.open")))
        listed = {one["first_seq"] for page in manifests(dead) for one in page["artifacts"]}
        assert len(listed) + waiting >= 3, "deleted before it was listed"
        if not waiting:
            break
    listed = {one["first_seq"] for page in manifests(dead) for one in page["artifacts"]}
    assert listed == {1, 3, 5}
    assert_exactly_once(audit_folder(dead.out), {WRITER: 6})
    assert writers(bench.spool) == []


async def test_a_replay_that_repeats_writes_the_same_objects(dead: Dead, bench: Bench) -> None:
    """Where the writer or a replay died after the PUT, nothing is doubled by the next one."""
    path = dead.segment(3, ".sealed")
    before = {file: file.read_bytes() for file in path.parent.iterdir()}
    await bench.replayer.run()
    objects = {file: file.read_bytes() for file in dead.root.glob("dt=*/*")}
    path.parent.mkdir()
    for file, content in before.items():
        file.write_bytes(content)
    await bench.replayer.run()
    assert {file: file.read_bytes() for file in dead.root.glob("dt=*/*")} == objects
    assert_exactly_once(audit_folder(dead.out), {WRITER: 3})


async def test_damaged_lines_are_set_aside_and_named(
    dead: Dead, bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """Their neighbours are delivered, in order, and the file is kept with what is left of them."""
    path = dead.segment(10)
    dead.damage(path, 2, 3, 7)
    await bench.replayer.run()
    assert bench.replayer.events == 7
    audit = audit_folder(dead.out)
    assert audit.writers[WRITER].seqs == (1, 2, 5, 6, 7, 9, 10)
    assert audit.problems == (f"{WRITER}: missing 3 to 4", f"{WRITER}: missing 8 to 8")
    assert "3 damaged events" in caplog.text and "(seq 3, 4, 8)" in caplog.text
    kept = path.with_suffix(".damaged")
    assert kept.exists() and not path.exists()
    await bench.replayer.run()
    assert bench.replayer.events == 7 and kept.exists(), "kept, and not delivered again"


async def test_a_damaged_segment_never_replaces_the_whole_object(dead: Dead, bench: Bench) -> None:
    """The writer had stored all ten before its disk lost one: the object keeps all ten."""
    lines = b"".join(event(WRITER, seq) for seq in range(1, 11))
    artifact = encode_batch(Batch(WRITER, 1, 10, lines), "zstd")
    stored = dead.root / artifact.name
    stored.parent.mkdir(parents=True)
    stored.write_bytes(artifact.content)
    dead.damage(dead.segment(10, ".sealed"), 4)
    await bench.replayer.run()
    assert stored.read_bytes() == artifact.content


async def test_what_cannot_be_read_stays_and_the_others_go(
    dead: Dead, bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """A broken header, a newer version, a folder, lines that are no events: each is named."""
    broken = dead.segment(1)
    make_rubbish(broken)
    good = dead.segment(2)
    folder = dead.path / "00000077.open"
    folder.mkdir()
    with WriterFolder(dead.path) as owned:
        strange = owned.new_segment(Shape(1000, 10))
        strange.begin(WRITER, 50)
        strange.append(b"not an event\n")
        strange.let_go()
    other = Dead(bench.spool, dead.out, "b" * 24)
    other.segment(2)
    await bench.replayer.run()
    assert bench.replayer.events == 4 and not good.exists()
    assert broken.exists() and folder.exists() and strange.path.exists()
    for path in (broken, folder, strange.path):
        assert str(path.with_suffix("")) in caplog.text
    assert [path.name for path in writers(bench.spool)] == [WRITER]


async def test_one_writers_trouble_holds_up_no_other(
    dead: Dead, bench: Bench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bucket that is gone is left for later, again and again, less and less often."""
    dead.segment(2)
    other = Dead(bench.spool, dead.out.with_name("out2"), "b" * 24)
    other.segment(3)
    assert other.writer > WRITER, "the one in trouble comes first"
    gone = True

    def fault(name: str, content: bytes) -> BackendError | None:
        return PausingError("NoSuchBucket", "gone") if gone and WRITER in name else None

    bench.fault = fault
    await bench.replayer.run()
    assert_exactly_once(audit_folder(other.out), {other.writer: 3})
    assert bench.replayer.events == 3
    assert [WRITER in name for name in bench.puts].count(True) == 1, "nobody mends it meanwhile"
    assert f"could not replay all of {dead.path} (NoSuchBucket: gone)" in caplog.text
    assert "cannot upload at the moment" not in caplog.text, "the tracker's own is not meant"

    async def mend(seconds: float) -> None:
        nonlocal gone
        bench.slept.append(seconds)
        gone = len(bench.slept) < 3

    monkeypatch.setattr(bench.replayer, "_sleep", mend)
    await bench.replayer.keep_trying()
    assert bench.slept == [10.0, 20.0, 40.0]
    assert_exactly_once(audit_folder(dead.out), {WRITER: 2})
    assert writers(bench.spool) == []


async def test_a_round_that_gets_on_is_followed_soon(dead: Dead, bench: Bench) -> None:
    """Many segments and a server that fails now and then: no wait grows while some are delivered,
    and it grows again when none is."""
    for _ in range(9):
        dead.segment(1)
    outcomes = iter([True, True, False] * 3 + [False] * 2 + [True] * 3)

    def fault(name: str, content: bytes) -> BackendError | None:
        if name.startswith("_manifest/") and not next(outcomes):
            return TransientError("SlowDown", "x")
        return None

    bench.fault = fault
    await bench.replayer.run()
    await bench.replayer.keep_trying()
    assert bench.slept == [10.0, 10.0, 10.0, 20.0, 40.0]
    assert_exactly_once(audit_folder(dead.out), {WRITER: 9})


async def test_one_segment_that_is_refused_holds_up_no_other(dead: Dead, bench: Bench) -> None:
    """Something on the way refuses some for what is in them: the later ones of the same writer are
    delivered; of many that are refused one after the other some wait for the next round, in which
    they come first, so that in the end each that can be delivered is."""
    for _ in range(8):
        dead.segment(1)
    bad = {1, 2, 3, 4, 6}

    def fault(name: str, content: bytes) -> BackendError | None:
        refused = any(f"-{seq:012d}-" in name for seq in bad) and name.startswith("dt=")
        return PausingError("AccessDenied", "no", answered=True) if refused else None

    bench.fault = fault
    await bench.replayer.run()
    assert bench.replayer.events == 0 and len(bench.puts) == 3, "it could be the service"
    await bench.replayer.run()
    assert bench.replayer.events == 3, "5, 7 and 8 are sound, and not tried before"
    assert [path.name for path in sorted(dead.path.glob("*.open"))] == [
        f"{number:08d}.open" for number in sorted(bad)
    ]
    bad.clear()
    await bench.replayer.run()
    assert_exactly_once(audit_folder(dead.out), {WRITER: 8})
    assert writers(bench.spool) == []


async def test_a_service_that_does_not_answer_is_asked_once(dead: Dead, bench: Bench) -> None:
    """Where nobody answers at all it is no segment's own trouble: the others are not tried."""
    for _ in range(5):
        dead.segment(1)
    bench.fault = lambda name, content: PausingError("CertificateError", "no")
    await bench.replayer.run()
    assert len(bench.puts) == 1


async def test_parts_of_what_was_too_large_stay_parts(dead: Dead, bench: Bench) -> None:
    """One half is stored and the other is refused by something on the way: when that takes the
    whole at last, still the parts are sent, so that nothing is stored twice."""
    path = dead.segment(4)

    def fault(name: str, content: bytes) -> BackendError | None:
        refused = f"-{4:012d}" in name
        return TransientError("413", "too large", answered=True) if refused else None

    bench.fault = fault
    await bench.replayer.run()
    assert path.exists() and audit_folder(dead.out).events == 3
    bench.fault = lambda name, content: None
    await bench.replayer.run()
    assert_exactly_once(audit_folder(dead.out), {WRITER: 4})
    assert writers(bench.spool) == []


async def test_a_hiccup_is_tried_again_at_once_and_an_outage_left_for_later(
    dead: Dead, bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """Two failures are got over; a service that is away takes three attempts of each round."""
    dead.segment(2)
    failures = 2

    def fault(name: str, content: bytes) -> BackendError | None:
        nonlocal failures
        failures -= 1
        return TransientError("SlowDown", "busy") if failures >= 0 else None

    bench.fault = fault
    await bench.replayer.run()
    assert_exactly_once(audit_folder(dead.out), {WRITER: 2})
    assert caplog.text == ""
    again = Dead(bench.spool, dead.out.with_name("out2"), "b" * 24)
    again.segment(2)
    failures, bench.puts = 1000, []
    await bench.replayer.run()
    assert len(bench.puts) == 3 and "SlowDown: busy" in caplog.text


async def test_an_upload_that_hangs_is_left_for_later(
    dead: Dead, bench: Bench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that never answers holds the others up for a bounded time."""
    monkeypatch.setattr(takeover, "PATIENCE", 0.05)
    dead.segment(2)

    async def hang(*arguments: Any, **keywords: Any) -> None:
        await anyio.sleep_forever()

    monkeypatch.setattr(_Watched, "put", hang)
    await bench.replayer.run()
    assert "not delivered within 0.05 seconds" in caplog.text and str(dead.path) in caplog.text


async def test_a_folder_that_cannot_be_changed_holds_up_no_other(
    dead: Dead, bench: Bench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read-only spools are said, and tried again; what was uploaded is uploaded again, unharmed."""
    path = dead.segment(2)
    other = Dead(bench.spool, dead.out, "b" * 24)
    other.segment(3)

    def refuse(at: Path) -> None:
        if at == path:
            raise OSError(30, "Read-only file system", str(at))
        at.unlink()

    monkeypatch.setattr("asynctrack._delivery.replay.forget", refuse)
    await bench.replayer.run()
    assert "Read-only file system" in caplog.text and path.exists()
    assert_exactly_once(audit_folder(dead.out), {WRITER: 2, other.writer: 3})


async def test_what_is_refused_for_good_is_a_dead_letter(
    dead: Dead, bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """It is kept with the reason, named, and not tried again; the others are delivered."""
    dead.segment(2)
    dead.segment(2)

    def fault(name: str, content: bytes) -> BackendError | None:
        return PermanentError("InvalidRequest", "no") if "-000000000001-" in name else None

    bench.fault = fault
    await bench.replayer.run()
    letter = dead.path / "000000000001-000000000002.dead"
    assert letter.read_bytes() == event(WRITER, 1) + event(WRITER, 2)
    assert "InvalidRequest" in letter.with_suffix(".reason").read_text()
    assert "the events 1 to 2" in caplog.text and ".dead" in caplog.text
    assert bench.replayer.events == 2
    before = len(bench.puts)
    await bench.replayer.run()
    assert len(bench.puts) == before and letter.exists()


async def test_what_is_too_large_is_halved_as_its_writer_does(dead: Dead, bench: Bench) -> None:
    """Down to the one event that is too large by itself; keys are those of the same halves."""
    dead.segment(8)

    def fault(name: str, content: bytes) -> BackendError | None:
        if "dt=" not in name:
            return None
        first, last = (int(part.split(".")[0]) for part in name.split("-")[-2:])
        too_large = last - first >= 2 or first <= 6 <= last
        return PermanentError("EntityTooLarge", "too large") if too_large else None

    bench.fault = fault
    await bench.replayer.run()
    assert bench.replayer.events == 7
    audit = audit_folder(dead.out)
    assert [(one.first_seq, one.last_seq) for one in audit.objects] == [
        (1, 2),
        (3, 4),
        (5, 5),
        (7, 8),
    ]
    assert (dead.path / "000000000006-000000000006.dead").read_bytes() == event(WRITER, 6)


async def test_a_writer_that_does_not_say_where_stays(
    dead: Dead, bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is guessed: its events stay, and the warning says what to do."""
    dead.segment(2)
    (dead.path / "writer.json").write_bytes(b"{damaged")
    await bench.replayer.run()
    assert bench.puts == [] and len(list(dead.path.glob("*.open"))) == 1
    assert "does not say where" in caplog.text and "--to" in caplog.text


async def test_another_kind_of_backend_is_left_to_its_own(dead: Dead, bench: Bench) -> None:
    """A tracker of a folder does not touch what belongs into S3, and says nothing of it."""
    dead.segment(2)
    with WriterFolder(dead.path) as folder:
        folder.describe({"destination": {"kind": "s3", "bucket": "b", "root": "r/"}})
    await bench.replayer.run()
    assert bench.puts == [] and len(list(dead.path.glob("*.open"))) == 1


async def test_the_living_and_the_own_writer_are_left_alone(dead: Dead, bench: Bench) -> None:
    """Neither a writer that holds its lock nor the tracker's own is replayed."""
    dead.segment(2)
    own = Dead(bench.spool, dead.out, ME)
    own.segment(1)
    with WriterFolder(dead.path):
        await bench.replayer.run()
    assert bench.puts == []
    await bench.replayer.run()
    assert bench.replayer.events == 2 and len(list(own.path.glob("*.open"))) == 1


@pytest.mark.parametrize("strange", [ValueError("embedded null byte"), KeyError("x")])
async def test_an_error_of_ours_holds_up_no_other(
    dead: Dead,
    bench: Bench,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    strange: Exception,
) -> None:
    """What nobody thought of is said, with a request to report it, and the worker lives on."""
    dead.segment(2)
    other = Dead(bench.spool, dead.out, "b" * 24, run="r2")
    other.segment(3)
    elsewhere = bench.elsewhere

    def fail(destination: Mapping[str, Any], experiment: str, run: str) -> Any:
        if run == "r1":
            raise strange
        return elsewhere(destination, experiment, run)

    monkeypatch.setattr(bench, "elsewhere", fail)
    await bench.replayer.run()
    assert bench.replayer.events == 3
    assert "please report" in caplog.text and type(strange).__name__ in caplog.text
    assert not any(record.levelno > logging.WARNING for record in caplog.records)


async def test_a_replay_that_is_cancelled_gives_the_lock_back(dead: Dead, bench: Bench) -> None:
    """Closing a tracker in the middle leaves the rest to the next one."""
    for _ in range(3):
        dead.segment(2)
    reached = anyio.Event()

    async def upload(artifact: Artifact) -> Receipt:
        if artifact.first_seq > 2:
            reached.set()
            await anyio.sleep_forever()
        return Receipt.of(artifact)

    outcomes: list[SegmentOutcome] = []
    async with anyio.create_task_group() as tasks:

        async def replay() -> None:
            with WriterFolder(dead.path) as folder:
                store = bench.elsewhere(folder.description()["destination"], "", "")
                await replay_folder(
                    folder, store=store, upload=upload, replayed_by=ME, report=outcomes.append
                )

        tasks.start_soon(replay)
        await reached.wait()
        tasks.cancel_scope.cancel()
    assert [outcome.delivered for outcome in outcomes] == [2]
    with WriterFolder(dead.path) as folder:
        assert len(folder.segments()) == 2


def test_a_plan_changes_nothing(dead: Dead) -> None:
    """Looking is free: `verify` and `ls` may be run at any time."""
    path = dead.segment(5)
    dead.damage(path, 1)
    before = {file.name: file.read_bytes() for file in dead.path.iterdir()}
    plan = plan_segment(path)
    assert (plan.events, plan.damaged, plan.problem) == (4, (2,), "")
    assert [(batch.first_seq, batch.last_seq) for batch in plan.batches] == [(1, 1), (3, 5)]
    assert {file.name: file.read_bytes() for file in dead.path.iterdir()} == before
    missing: Sequence[str] = plan_segment(dead.path / "00000099.open").problem.split(":")
    assert "No such file" in missing[0]


async def test_a_transient_failure_is_tried_again_in_place(dead: Dead, bench: Bench) -> None:
    """A hiccup is the uploader's business and costs nobody a round."""
    dead.segment(2)
    failures = iter([TransientError("SlowDown", "x"), TransientError("SlowDown", "x")])
    bench.fault = lambda name, content: next(failures, None)
    await bench.replayer.run()
    await bench.replayer.keep_trying()
    assert bench.slept == []
    assert_exactly_once(audit_folder(dead.out), {WRITER: 2})
