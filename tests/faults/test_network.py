"""S3 out of reach, hanging, slow or refusing, behind a whole tracker: nothing is lost.

Rows 1, 4, 5, 6, 11 and 12 of the matrix, what is too large, and options passed on to S3. Rows 2
and 7 are in ``tests/e2e/test_s3_faults.py`` and ``test_requests.py`` as well.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import stat
import time
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

import asynctrack._backends.clients as clients_module
from asynctrack import BackendError, open_run, tracker, verify
from asynctrack._backends.clock import ServerClock
from tests.e2e.waiting import until_in_thread
from tests.faults.ground import (
    EVENTS,
    Ground,
    end,
    finish,
    line_of,
    outputs,
    resident_bytes,
    start_child,
    tell,
)
from tests.support.auditor import Values
from tests.support.descriptors import open_below
from tests.support.faults import Answer, Delay, FlipBit, Hang, ResetConnection, Throttle
from tests.support.seen import Request

MIB = 1024 * 1024

# -- row 1 ----------------------------------------------------------------------------------------

HANGING = """
    import sys, time, uuid
    from asynctrack import tracker
    from tests.faults.light import Place
    run = Place.from_json(sys.argv[1]).run()
    with tracker(run, close_timeout=1.5, max_batch_bytes=1 << 20) as handler:
        handler.on_chain_end("first", run_id=uuid.uuid4())
        assert handler.flush(120)
        print("ready", flush=True)
        sys.stdin.readline()
        took, run_id = [], uuid.uuid4()
        for number in range(int(sys.argv[2])):
            text = uuid.uuid4().hex * int(sys.argv[3])
            began = time.perf_counter()
            handler.on_chain_end({"number": number, "text": text}, run_id=run_id)
            took.append(time.perf_counter() - began)
            if number % int(sys.argv[4]) == 0:
                time.sleep(0.02)
        took.sort()
        print(took[len(took) // 2], took[int(len(took) * 0.99)], flush=True)
        while handler.statistics().pending:  # on disk, before there is little time for it
            time.sleep(0.01)
        sys.stdin.readline()
        began = time.monotonic()
    print(time.monotonic() - began, flush=True)
    statistics = handler.statistics()
    assert statistics.balanced and not statistics.dropped, statistics
    print(statistics.spooled, statistics.accepted, flush=True)
"""


@pytest.mark.parametrize(
    ("events", "times", "rests"), [(5_000, 600, 100), (960, 3_125, 1)], ids=["20 KB", "100 KB"]
)
def test_a_server_that_never_answers(ground: Ground, events: int, times: int, rests: int) -> None:
    """96 MB against a hanging S3: memory bounded, callbacks quick, exit in time, all delivered.

    Texts of 100 KB come at 5 MB a second at the most; faster than the worker encodes them, they
    fill ``max_buffer_bytes``.

    The program ends by its close_timeout and leaves everything on disk; the next tracker delivers
    it after the server has healed.
    """
    child = start_child(HANGING, ground.place.to_json(), str(events), str(times), str(rests))
    assert line_of(child) == "ready", finish(child)
    ground.proxy.add(Hang(), method="PUT")
    before = resident_bytes(child.pid)
    tell(child)
    median, p99 = map(float, line_of(child).split())
    grown = resident_bytes(child.pid) - before
    tell(child)
    took = float(line_of(child))
    spooled, accepted = map(int, line_of(child).split())
    _, errors = finish(child)
    assert (spooled, accepted) == (events, events + 1)
    assert grown <= 80 * MIB, f"{grown / MIB:.1f} MiB"
    # That none waits for the server, for which an attempt takes 15 seconds; how quick they are is
    # measured in benchmarks.
    assert (median <= 0.1, p99 <= 5.0) == (True, True), (median, p99)
    assert took <= 1.5 + 20, f"{took:.2f} s"
    assert f"could not deliver {events} of {events + 1} events" in errors
    assert "the next tracker on this machine" in errors
    ground.proxy.heal()
    with tracker(ground.run()) as handler:
        until_in_thread(lambda: handler.statistics().replayed == events)
    stored = ground.events()
    assert [event["seq"] for event in stored] == list(range(1, events + 2))
    assert [event["outputs"]["number"] for event in stored[1:]] == list(range(events))


def test_a_hanging_server_heals_while_the_program_runs(ground: Ground) -> None:
    """What went on to disk meanwhile is delivered by the very same tracker, in seconds."""
    with tracker(ground.run(), max_batch_events=50, max_buffer_bytes=256 * 1024) as handler:
        end(handler, "first")
        assert handler.flush(120)
        hang = ground.proxy.add(Hang(), path=EVENTS)
        for number in range(1_000):
            end(handler, {"number": number, "text": "x" * 1_200})
            if number % 50 == 49:  # as fast as segments are made, and no faster
                until_in_thread(lambda: handler.statistics().pending == 0)
        statistics = handler.statistics()
        assert statistics.waiting_bytes > 4 * 256 * 1024, "the spool takes more than the buffer"
        assert (statistics.accepted, statistics.dropped) == (1_001, {})
        ground.proxy.wait_for(lambda seen: any(one.fault == Hang() for one in seen))
        ground.proxy.remove(hang)
        assert handler.flush(120)
    assert [e["outputs"]["number"] for e in ground.events()[1:]] == list(range(1_000))


# -- row 4 ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "limit"),
    [
        (Throttle(1.0), "ATTEMPT_TIMEOUT"),
        (Hang("before"), "READ_TIMEOUT"),
        (Hang("after"), "READ_TIMEOUT"),
    ],
    ids=["a byte a second", "half open", "half open after it was stored"],
)
def test_an_attempt_ends(
    fault: Any, limit: str, ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that stands still ends by its time limit, and others are not held up by it.

    The limits are those of the product, a minute and 15 seconds, made shorter; a sound attempt
    of the others ends before that also where the machine stands still for a while.
    """
    assert (clients_module.ATTEMPT_TIMEOUT, clients_module.READ_TIMEOUT) == (60.0, 15.0)
    monkeypatch.setattr(clients_module, limit, 8.0)
    stuck = ground.proxy.add(fault, path=EVENTS, times=1)
    with tracker(ground.run(), max_batch_events=10) as handler:
        for number in range(100):
            end(handler, number)
    # More than one retry where the machine is so busy that a sound attempt takes that long too.
    assert stuck.applied == 1 and handler.statistics().retries >= 1
    assert outputs(ground.events()) == list(range(100))
    first = next(one for one in ground.puts() if one.fault == fault)
    assert first.outcome == "client_gone"
    assert first.ended is not None
    assert first.ended - first.received <= 50.0
    others = [one.ended for one in ground.puts() if one.path != first.path]
    assert min(moment for moment in others if moment) < first.ended, "it held nobody up"


# -- row 5 ----------------------------------------------------------------------------------------


def test_a_name_that_does_not_resolve(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The endpoint's name is unknown; a restart later still; then it is known: nothing is lost."""
    port = ground.place.s3_url.rpartition(":")[2]
    away = ground.at(s3_url=f"http://s3.asynctrack.invalid:{port}")
    known = False
    resolve = socket.getaddrinfo

    def answer(host: Any, *arguments: Any, **options: Any) -> Any:
        # What the resolver of the operating system says is the fault here.
        if host == "s3.asynctrack.invalid":
            if not known:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            host = "127.0.0.1"
        return resolve(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    with tracker(away.run(), close_patience=0.5, max_delay=0.05) as handler:
        for number in range(20):
            end(handler, number)
        until_in_thread(lambda: handler.statistics().retries >= 1)
    assert handler.statistics().spooled == 20
    with tracker(away.run(), max_delay=0.05) as handler:
        for number in range(20, 40):
            end(handler, number)
        until_in_thread(lambda: handler.statistics().retries >= 2)
        known = True
        until_in_thread(lambda: handler.statistics().delivered == 20)
        until_in_thread(lambda: handler.statistics().replayed == 20)
    assert sorted(outputs(ground.events())) == list(range(40))
    assert ground.problems() == []
    text = " ".join(record.getMessage() for record in caplog.records)
    assert "20 of 20 events" in text


def test_connections_refused_and_reset(ground: Ground) -> None:
    """A server that is down, then resets new connections, then works: all is there once."""
    ground.proxy.refuse()
    with tracker(ground.run(), max_batch_events=10, max_delay=0.05) as handler:
        for number in range(30):
            end(handler, number)
        until_in_thread(lambda: handler.statistics().retries >= 2)
        ground.proxy.add(ResetConnection(), times=3)
        ground.proxy.heal()
        ground.proxy.add(ResetConnection(), times=3)
    assert outputs(ground.events()) == list(range(30))
    assert handler.statistics().delivered == 30


# -- row 6 ----------------------------------------------------------------------------------------


def test_slow_down_for_a_whole_tracker(ground: Ground, caplog: pytest.LogCaptureFixture) -> None:
    """SlowDown for all: soon a request at a time is left, which is told once; then it recovers."""
    rule = ground.proxy.add(Answer(503), path=EVENTS)
    with tracker(ground.run(), upload_concurrency=8, max_batch_events=5) as handler:
        for number in range(100):
            end(handler, number)
        delivery: Any = handler._sink._driver._stages._delivery  # type: ignore[attr-defined]  # looked at only
        until_in_thread(lambda: hasattr(delivery, "_gate") and delivery._gate._flow.allowed == 1)
        ground.proxy.remove(rule)
        ground.proxy.add(Answer(503), path=EVENTS, probability=0.3, seed=5)
    assert handler.statistics().delivered == 100
    assert len(ground.puts()) <= 2 * 20 + 8
    assert outputs(ground.events()) == list(range(100))
    told = [record for record in caplog.records if "SlowDown" in record.getMessage()]
    assert len(told) <= 1


# -- rows 11 and 12 -------------------------------------------------------------------------------


def test_credentials_that_come_late(ground: Ground, caplog: pytest.LogCaptureFixture) -> None:
    """Without credentials events wait, which is said once; with the first ones they are sent."""
    asked: list[int] = []
    own = ground.place.run()._artifact_uploader.sagemaker_session.boto_session.get_credentials

    def provider() -> Any:
        asked.append(1)
        return own() if len(asked) > 3 else None

    with tracker(ground.run(provider), max_delay=0.05) as handler:
        for number in range(10):
            end(handler, number)
    assert handler.statistics().delivered == 10
    assert outputs(ground.events()) == list(range(10))
    told = [r.getMessage() for r in caplog.records if "NoCredentials" in r.getMessage()]
    assert len([text for text in told if "upload" in text]) == 1
    assert "Configure AWS credentials" in told[0]


def test_access_denied_for_a_while(ground: Ground) -> None:
    """Denied until somebody allows it: nothing dropped, one probe at a time, resumed in time."""
    denied = ground.proxy.add(Answer(403), path=EVENTS)
    with tracker(ground.run(), max_batch_events=5) as handler:
        for number in range(50):
            end(handler, number)
        ground.proxy.wait_for(lambda seen: len(seen) >= 7)
        ground.proxy.remove(denied)
        until_in_thread(lambda: handler.statistics().delivered == 50)
    assert handler.statistics().dropped == {}
    assert outputs(ground.events()) == list(range(50))


def test_a_clock_that_is_wrong_for_once(ground: Ground) -> None:
    """RequestTimeTooSkewed is tried again once, and not by a second layer below."""
    ground.proxy.add(Answer(403, code="RequestTimeTooSkewed"), path=EVENTS, times=1)
    with tracker(ground.run()) as handler:
        end(handler)
    assert len(ground.puts()) == 2
    assert handler.statistics().delivered == 1


@pytest.mark.parametrize("minutes", [20, -20])
def test_a_clock_that_stays_wrong(
    ground: Ground, minutes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signed by the servers' clock from the first refusal on; back to our own once it is right."""
    wrong = timedelta(minutes=minutes)

    def local(**_: Any) -> datetime:
        return (datetime.now(timezone.utc) + wrong).replace(tzinfo=None)

    # What this machine's clock shows to all that signs.
    monkeypatch.setattr("botocore.auth.get_current_datetime", local)
    monkeypatch.setattr(
        ServerClock.__init__, "__defaults__", (lambda: time.time() + wrong.total_seconds(),)
    )

    def too_far_off(request: Request) -> bool:
        signed = datetime.strptime(request.headers["x-amz-date"], "%Y%m%dT%H%M%SZ")
        return abs(datetime.now(timezone.utc).replace(tzinfo=None) - signed) > timedelta(minutes=5)

    date = {"Date": format_datetime(datetime.now(timezone.utc), usegmt=True)}
    for proxy, code in (
        (ground.proxy, "RequestTimeTooSkewed"),
        (ground.sagemaker_proxy, "InvalidSignatureException"),
    ):
        proxy.add(Answer(403, code=code, headers=date), when=too_far_off)

    def refused() -> int:
        seen = [*ground.proxy.requests, *ground.sagemaker_proxy.requests]
        return sum(one.status == 403 for one in seen)

    with tracker(ground.run(), upload_concurrency=1) as handler:
        for number in range(3):
            end(handler, number)
            assert handler.flush(120)
        handler.log_parameters({"rate": 1})
        assert handler.flush(120)
        # At most one each, when the first requests to S3 and to SageMaker go out together.
        assert 1 <= refused() <= 2
        before = refused()
        wrong = timedelta()  # somebody has set it
        end(handler, 3)
        assert handler.flush(120)
        assert refused() <= before + 2
    statistics = handler.statistics()
    assert (statistics.delivered, statistics.retries) == (5, 0)
    assert [one for one in outputs(ground.events()) if one is not None] == [0, 1, 2, 3]
    assert ground.parameters()["rate"] == 1
    assert ground.problems() == []


# -- closing while nothing can be delivered --------------------------------------------------------


def test_closing_ends_early_where_all_is_on_disk(
    ground: Ground, caplog: pytest.LogCaptureFixture
) -> None:
    """With S3 down, close_patience ends the wait, says so, and the next tracker delivers."""
    ground.proxy.add(Answer(503), method="PUT")
    with tracker(ground.run(), close_patience=0.5) as handler:
        for number in range(10):
            end(handler, number)
        began = time.monotonic()
    assert 0.5 <= time.monotonic() - began < 60, "not the close_timeout of 120 s"
    assert handler.statistics().spooled == 10
    assert "10 of 10 events to run-1 within close_patience=0.5 seconds" in caplog.text
    ground.proxy.heal()
    with tracker(ground.run()) as second:
        until_in_thread(lambda: second.statistics().replayed == 10)
    assert ground.problems() == []


def test_what_moves_slowly_is_not_given_up(ground: Ground) -> None:
    """Every delivery starts close_patience anew: a slow server gets everything."""
    ground.proxy.add(Delay(1.0), path=EVENTS)
    options: dict[str, Any] = {"upload_concurrency": 1, "max_batch_events": 1}
    # Many times the delay: on a machine that does other things too one of them may take seconds.
    with tracker(ground.run(), close_patience=10.0, max_buffer_events=100, **options) as handler:
        began = time.monotonic()
        for number in range(11):
            end(handler, number)
    assert time.monotonic() - began > 10.0
    assert handler.statistics().delivered == 11


def test_what_would_be_lost_is_waited_for(ground: Ground) -> None:
    """Without a spool, close_timeout is used in full."""
    ground.proxy.add(Hang(), method="PUT")
    options: dict[str, Any] = {"close_timeout": 1.5, "close_patience": 0.1}
    with tracker(ground.run(), durability="memory", **options) as handler:
        end(handler)
        began = time.monotonic()
    assert time.monotonic() - began >= 1.5 and handler.statistics().pending == 1


@pytest.mark.parametrize("durability", ["process", "memory"])
def test_a_run_that_cannot_be_written_to_holds_nobody_up(
    durability: str, ground: Ground, caplog: pytest.LogCaptureFixture
) -> None:
    """With all events delivered, close_patience ends the wait for SageMaker, and says so."""
    ground.sagemaker_proxy.add(Hang())
    with tracker(
        ground.run(), durability=durability, max_delay=0.05, close_patience=4.0
    ) as handler:
        handler.log_parameters({"rate": 1})
        handler.log_metric("loss", 0.5)
        until_in_thread(lambda: ground.sagemaker_proxy.requests)
        until_in_thread(lambda: handler.statistics().delivered == 2)
        handler.flush_tracker()
        # Not left to the seconds of patience, which a busy machine may stand still for.
        recorder: Any = handler._sink._driver._stages._recorder  # type: ignore[attr-defined]  # looked at only
        until_in_thread(lambda: recorder.manifest.complete)
        began = time.monotonic()
    assert 4.0 <= time.monotonic() - began < 60, "not the close_timeout of 120 s"
    assert handler.statistics().delivered == 2 and handler.statistics().balanced
    (told,) = [
        record.getMessage() for record in caplog.records if "into the Run" in record.getMessage()
    ]
    assert "into the Run run-1 within close_patience=4 seconds" in told
    assert "are in the manifest, s3://" in told, "where what the Run lacks is"
    assert [event["event"] for event in ground.events()] == ["parameters", "metric"]


# -- rows 13 and 14 -------------------------------------------------------------------------------


def test_a_large_artifact_is_one_request(ground: Ground) -> None:
    """No multipart upload that could be left unfinished: 20 MB are one atomic PUT."""
    with tracker(
        ground.run(), max_batch_bytes=32 * MIB, max_delay=60.0, compression="none"
    ) as handler:
        for _ in range(5):
            end(handler, os.urandom(2 * MIB).hex())
    (put,) = ground.puts()
    assert put.body_size > 20 * MIB
    assert put.query == {}
    assert_exactly_once_outputs(ground, 5)


def test_a_flipped_bit_that_the_server_accepts_is_found(ground: Ground) -> None:
    """Where the server does not check (rclone does not), the manifest's SHA-256 finds it later."""
    ground.proxy.add(FlipBit(seed=1), path=EVENTS, times=1)
    with tracker(ground.run()) as handler:
        end(handler)
    folder = ground.s3.folder / ground.place.prefix
    report = verify(folder)
    assert not report.ok
    assert "damaged" in str(report)
    # Through S3 botocore notices it too, by the checksum that was stored with the object.
    with pytest.raises(BackendError, match="checksum"):
        verify(
            f"s3://{ground.s3.bucket}/{ground.place.prefix}",
            endpoint_url=ground.s3.endpoint_url,
            session=ground.s3.boto_session(),
        )


# -- too large ------------------------------------------------------------------------------------


@pytest.mark.parametrize("durability", ["process", "memory"])
def test_what_is_too_large_is_halved(
    durability: str, ground: Ground, state_home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """S3 refuses bodies over a size: neighbours are delivered, the one event is set aside."""

    def too_large(request: Request) -> bool:
        return request.body_size > 60_000

    ground.proxy.add(Answer(413), path=EVENTS, when=too_large)
    with tracker(ground.run(), compression="none", durability=durability) as handler:
        for number in range(33):
            end(handler, "y" * 90_000 if number == 20 else {"number": number, "x": "x" * 4_000})
        assert handler.flush(60) is False, "not everything is delivered, nor will it be"
    statistics = handler.statistics()
    assert (statistics.delivered, statistics.dead_lettered) == (32, 1)
    assert statistics.balanced
    numbers = [event["outputs"]["number"] for event in ground.events()]
    assert numbers == [number for number in range(33) if number != 20]
    # One object at a time was sent again, smaller: 33 events need 11 cuts at the most here.
    assert len(ground.puts()) <= 2 * len(ground.audit().objects) + 2 * 6
    told = [record.getMessage() for record in caplog.records if "for good" in record.getMessage()]
    assert len(told) == 1
    assert "EntityTooLarge" in told[0]
    dead = sorted(state_home.rglob("*.dead"))
    if durability == "memory":
        assert dead == []
        return
    (letter,) = dead
    assert {json.loads(line)["seq"] for line in letter.read_text().splitlines()} == {21}
    assert "EntityTooLarge" in letter.with_suffix(".reason").read_text()
    assert stat.S_IMODE(letter.stat().st_mode) == 0o600
    assert str(letter.parent) in told[0]
    run = open_run(
        f"s3://{ground.s3.bucket}/{ground.place.prefix}",
        endpoint_url=ground.proxy.endpoint_url,
        session=ground.s3.boto_session(),
    )
    (one,) = run.dead_letter_events()
    assert one.event.outputs == "y" * 90_000 and "EntityTooLarge" in one.reason
    assert 21 not in [event.seq for event in run.events()]


@pytest.mark.parametrize("durability", ["process", "memory"])
def test_what_is_halved_has_its_values(
    durability: str, ground: Ground, state_home: Path, tmp_path: Path
) -> None:
    """Each smaller object is complete in itself, and so is what is set aside, also sent again."""
    document, large = "a document of them all " * 300, "y " * 45_000
    messages = [{"content": f"{number} {'.' * 700}"} for number in range(40)]
    refusing = ground.proxy.add(
        Answer(413), path=EVENTS, when=lambda request: request.body_size > 60_000
    )

    def given(number: int) -> Any:
        text = f"{number} {'x' * 3_900}"
        some = {"number": number, "x": text, "doc": document, "said": messages[: number + 8]}
        return {**some, "large": large} if number == 20 else some

    with tracker(ground.run(), compression="none", durability=durability) as handler:
        for number in range(33):
            end(handler, given(number))
        assert handler.flush(60) is False
    statistics = handler.statistics()
    assert statistics.balanced
    assert (statistics.delivered, statistics.dead_lettered) == (32, 1)
    wanted = [given(number) for number in range(33) if number != 20]
    assert [event["outputs"] for event in ground.events()] == wanted
    assert max(found.size for found in ground.audit().objects) <= 60_000
    assert [one for one in ground.audit().problems if "the span " not in one] == [
        f"{next(iter(ground.audit().writers))}: missing 21 to 21"
    ]
    if durability == "memory":
        return
    location = f"s3://{ground.s3.bucket}/{ground.place.prefix}"
    reading: Any = {
        "endpoint_url": ground.proxy.endpoint_url, "session": ground.s3.boto_session(),
    }  # fmt: skip
    (one,) = open_run(location, **reading).dead_letter_events()
    assert one.event.outputs == given(20)
    ground.proxy.remove(refusing)
    (letter,) = state_home.rglob("*.dead")
    values, found = Values(), []
    for line in letter.read_bytes().splitlines(keepends=True):
        event = values.event(json.loads(line), line)
        found += [] if event is None else [event["outputs"]]
    assert found == [given(20)] and not values.take_problems()


@pytest.mark.parametrize("refuses", ["segments", "dead letters", "all"])
def test_refused_for_good_while_the_disk_refuses(
    refuses: str,
    ground: Ground,
    state_home: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What is refused is set aside where the disk takes it, and the message says where it is."""

    def full(*_: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    if refuses != "dead letters":
        monkeypatch.setattr("asynctrack._spool.segment.open_new", full)
    if refuses != "segments":
        monkeypatch.setattr("asynctrack._spool.keeper.bury", full)
    ground.proxy.add(Answer(413), path=EVENTS, when=lambda request: request.body_size > 60_000)
    with tracker(ground.run(), compression="none") as handler:
        end(handler, "y" * 90_000)
        assert handler.flush(60) is False
        assert not [name for name in open_below(state_home) if name.endswith(".sealed")]
    assert handler.statistics().dead_lettered == 1
    (told,) = [text for one in caplog.records if "for good" in (text := one.getMessage())]
    dead, segments = [*state_home.rglob("*.dead")], [*state_home.rglob("*.sealed")]
    if refuses == "segments":
        assert segments == [] and len(dead) == 1
        assert f"They are in {dead[0].parent};" in told
    elif refuses == "dead letters":
        assert dead == [] and len(segments) == 1
        assert f"They stay in {segments[0]}, for a later tracker to send again." in told
    else:
        assert dead == segments == []
        assert told.endswith("They are lost.")


# -- options passed on ----------------------------------------------------------------------------


def test_s3_options_are_passed_on(ground: Ground) -> None:
    """Owner, encryption and storage class are in every PUT: artifacts, manifests and replays."""
    options = {
        "ExpectedBucketOwner": "123456789012",
        "ServerSideEncryption": "aws:kms",
        "SSEKMSKeyId": "alias/tracks",
        "BucketKeyEnabled": True,
        "StorageClass": "STANDARD_IA",
        "Tagging": "team=fish",
    }
    with tracker(ground.run(), close_patience=1.0, s3_options=options) as handler:
        end(handler, 0)
        assert handler.flush(120)
        ground.proxy.add(Hang(), method="PUT")
        end(handler, 1)
    assert handler.statistics().spooled == 1
    ground.proxy.heal()
    seen = len(ground.proxy.requests)
    with tracker(ground.run(), s3_options=options) as handler:
        end(handler, 2)
        until_in_thread(lambda: handler.statistics().replayed == 1)
    puts = [one for one in ground.proxy.requests[seen:] if one.method == "PUT"]
    assert len([one for one in puts if "/dt=" in one.path]) == 2
    assert len([one for one in puts if "/_manifest/" in one.path]) >= 2
    for put in puts:
        assert put.headers["x-amz-expected-bucket-owner"] == "123456789012"
        assert put.headers["x-amz-server-side-encryption"] == "aws:kms"
        assert put.headers["x-amz-server-side-encryption-aws-kms-key-id"] == "alias/tracks"
        assert put.headers["x-amz-server-side-encryption-bucket-key-enabled"].lower() == "true"
        assert put.headers["x-amz-storage-class"] == "STANDARD_IA"
        assert put.headers["x-amz-tagging"] == "team=fish"
    assert sorted(outputs(ground.events())) == [0, 1, 2]


def test_a_bucket_of_somebody_else(ground: Ground, caplog: pytest.LogCaptureFixture) -> None:
    """S3 says that the bucket has another owner: nothing is sent there, all of it is kept."""
    caplog.set_level(logging.WARNING, "asynctrack")
    ground.proxy.add(
        Answer(403),
        method="PUT",
        when=lambda one: one.headers.get("x-amz-expected-bucket-owner") != "210987654321",
    )
    wrong = {"ExpectedBucketOwner": "123456789012"}
    with tracker(ground.run(), close_patience=0.5, max_delay=0.05, s3_options=wrong) as handler:
        end(handler, 1)
        until_in_thread(lambda: handler.statistics().retries >= 1)
    assert handler.statistics().spooled == 1
    assert "AccessDenied" in caplog.text


def assert_exactly_once_outputs(ground: Ground, events: int) -> None:
    audit = ground.audit()
    assert audit.events == events
    assert ground.problems() == []
