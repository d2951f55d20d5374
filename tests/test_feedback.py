"""Feedback: logged with a handler, or into a Run that is done; read back; what is refused."""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
from dataclasses import astuple
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
from langchain_core.runnables import RunnableLambda

from asynctrack import (
    BackendError,
    Feedback,
    OptionError,
    ReadError,
    aopen_run,
    open_run,
    tracker,
    verify,
)
from asynctrack._reading import appending
from asynctrack._reading.run import RecordedRun
from tests.reading.making import RunFolder, event
from tests.reading.test_s3 import access, put
from tests.support.auditor import assert_exactly_once, audit_folder
from tests.support.faults import PAGES, Answer, Page
from tests.support.proxy import fault_proxy
from tests.support.s3 import S3Server

TRACE, SPAN = UUID(int=1), UUID(int=2)
step = RunnableLambda(lambda value: value)


def said(run: RecordedRun | Path) -> list[tuple[Any, ...]]:
    """What was said: name, score, label, comment, who."""
    run = open_run(run) if isinstance(run, Path) else run
    return [astuple(one)[2:7] for one in run.feedback()]


@pytest.fixture
def done(tmp_path: Path) -> Path:
    """A Run with one trace, which is done."""
    with tracker(tmp_path / "runs", run_name="one") as handler:
        step.invoke(1, {"callbacks": [handler], "run_id": TRACE})
    return tmp_path / "runs"


# -- with a handler -----------------------------------------------------------------------------


def test_a_handler_logs_it(tmp_path: Path) -> None:
    """It is an event without a span, that names trace and span, and the trace stays as it was."""
    with tracker(tmp_path) as handler:
        step.invoke(1, {"callbacks": [handler], "run_id": TRACE})
        handler.log_feedback(TRACE, "thumbs", 1, comment="nice", span_id=SPAN, user_id="ada")
    run = open_run(tmp_path)
    (one,) = run.feedback()
    (stored,) = run.events("feedback")
    assert one == Feedback(
        str(TRACE), str(SPAN), "thumbs", 1, None, "nice", "ada",
        stored.time_unix_nano, stored.writer_id, 3,
    )  # fmt: skip
    assert (stored.span_id, stored.trace_id, stored.name) == (None, str(TRACE), "thumbs")
    assert stored.data == {
        "score": 1, "comment": "nice", "user_id": "ada", "trace_id": str(TRACE),
        "span_id": str(SPAN),
    }  # fmt: skip
    (trace,) = run.traces()
    assert [span.notes for span in trace.walk()] == [()]
    assert_exactly_once(audit_folder(tmp_path), handler.statistics())


async def test_an_asynchronous_handler_logs_it(tmp_path: Path) -> None:
    """At once, with the trace of a session, and as its user."""
    async with tracker(tmp_path) as handler:
        with handler.session(user_id="ada") as session:
            await step.ainvoke(1, {"callbacks": [handler]})
            assert session.trace_id is not None
            handler.log_feedback(session.trace_id, "thumbs", False)
            handler.log_feedback(session.trace_id, "tone", "rude", user_id=7)
        assert handler.statistics().accepted == 4
    run = await aopen_run(tmp_path)
    found = [one async for one in run.afeedback(session.trace_id)]
    assert [(one.score, one.value, one.user_id) for one in found] == [
        (0, None, "ada"), (None, "rude", "7"),
    ]  # fmt: skip
    assert [one async for one in run.afeedback(SPAN)] == []


@pytest.mark.parametrize(
    ("score", "number", "label"),
    [
        (1, 1, None), (True, 1, None), (False, 0, None), (-0.25, -0.25, None), (0, 0, None),
        (np.float32(0.5), 0.5, None), (np.int64(3), 3, None), (np.bool_(True), 1, None),
        (Decimal("0.5"), 0.5, None), (Fraction(1, 4), 0.25, None), (2**60, 2.0**60, None),
        ("good", None, "good"), ("ä\ud800", None, "ä\\ud800"),
    ],
)  # fmt: skip
def test_scores(tmp_path: Path, score: Any, number: float | None, label: str | None) -> None:
    """A number of any kind is a number, a text is a label."""
    with tracker(tmp_path) as handler:
        handler.log_feedback(TRACE, "n", score)
    assert said(tmp_path) == [("n", number, label, None, None)]


@pytest.mark.parametrize(
    ("trace_id", "stored"),
    [
        (TRACE, str(TRACE)), (str(TRACE).upper(), str(TRACE)), (TRACE.hex, str(TRACE)),
        ("by-hand", "by-hand"),
    ],
)  # fmt: skip
def test_ids(tmp_path: Path, trace_id: Any, stored: str) -> None:
    """A UUID in any form is the one that events have."""
    with tracker(tmp_path) as handler:
        handler.log_feedback(trace_id, "n", 1, span_id=trace_id)
    (one,) = open_run(tmp_path).feedback(trace_id)
    assert (one.trace_id, one.span_id) == (stored, stored)


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("trace_id", {"trace_id": None}), ("trace_id", {"trace_id": ""}), ("trace_id", {"trace_id": 5}),
    ("trace_id", {"trace_id": "a b"}), ("trace_id", {"trace_id": "x" * 201}),
    ("trace_id", {"trace_id": "a\n"}), ("span_id", {"span_id": ""}), ("span_id", {"span_id": 1}),
    ("name", {"name": ""}), ("name", {"name": None}), ("name", {"name": "x" * 256}),
    ("score", {"score": None}), ("score", {"score": ""}), ("score", {"score": float("nan")}),
    ("score", {"score": float("inf")}), ("score", {"score": [1]}), ("score", {"score": 10**400}),
    ("score", {"score": "x" * 256}), ("comment", {"comment": 5}),
    ("comment", {"comment": "x" * 10_001}), ("user_id", {"user_id": 1.5}),
]  # fmt: skip


@pytest.mark.parametrize(("option", "given"), REFUSED)
def test_what_is_refused(done: Path, option: str, given: dict[str, Any]) -> None:
    """Each is told by its name, with what is allowed, in a short text; nothing is stored."""
    arguments = {"trace_id": TRACE, "name": "n", "score": 1, **given}
    run = open_run(done)
    with tracker(done.with_name("others")) as handler:
        for log in (handler.log_feedback, run.log_feedback):
            with pytest.raises(OptionError, match=rf"(?s)^{option}=.*must be") as caught:
                log(**arguments)
            assert len(str(caught.value)) < 300
        assert handler.statistics().accepted == 0
    assert said(run) == []


def test_a_comment_alone(tmp_path: Path) -> None:
    """Suffices."""
    with tracker(tmp_path) as handler:
        handler.log_feedback(TRACE, "n", comment="too long")
    assert said(tmp_path) == [("n", None, None, "too long", None)]


def test_secrets_are_cut_and_ids_are_not(tmp_path: Path) -> None:
    """Also where the user's own expression cuts what looks like an id."""
    with tracker(tmp_path, redact=r"\d+") as handler:
        handler.log_feedback(TRACE, "n", 12, comment="api_key=hunter2hunter2 of 1984", span_id=SPAN)
    (one,) = open_run(tmp_path).feedback()
    assert (one.trace_id, one.span_id, one.score) == (str(TRACE), str(SPAN), 12)
    assert one.comment == "api_key=[REDACTED] of [REDACTED]"


def test_redaction_that_fails_keeps_the_ids(tmp_path: Path) -> None:
    """Nothing that was said is stored then, only what it was about."""

    def fail(text: str) -> str:
        raise ValueError(text)

    with tracker(tmp_path, redact=fail) as handler:
        handler.log_feedback(TRACE, "n", 1, comment="secret")
    (stored,) = open_run(tmp_path).events()
    assert stored.data["$cut"] == "redaction" and stored.trace_id == str(TRACE)
    assert said(tmp_path) == [("", None, None, None, None)]


def test_a_long_comment_is_cut(tmp_path: Path) -> None:
    """To max_value_bytes, as any text."""
    with tracker(tmp_path, max_value_bytes=64) as handler:
        handler.log_feedback(TRACE, "n", comment="x" * 100)
        handler.log_feedback(TRACE, "n", comment="x" * 64)
    assert [one[3] for one in said(tmp_path)] == ["x" * 64 + "…", "x" * 64]


def test_after_the_tracker_is_closed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is counted as dropped, as everything that comes then."""
    with tracker(tmp_path) as handler:
        pass
    handler.log_feedback(TRACE, "n", 1)
    assert handler.statistics().dropped == {"closed": 1}
    assert "after the tracker was closed" in caplog.text


def test_a_full_buffer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It does not wait; the warning says what to do with what was dropped."""
    with tracker(
        tmp_path, durability="memory", max_buffer_events=10, max_batch_events=10, max_delay=3600,
        overflow="block",
    ) as handler:  # fmt: skip
        for _ in range(11):
            handler.log_feedback(TRACE, "n", 1)
    assert handler.statistics().dropped == {"buffer_full": 1}
    assert "open_run(...).log_feedback(...)" in caplog.text


# -- into a Run that is done ----------------------------------------------------------------------


def test_days_later(done: Path) -> None:
    """It is there when the call returns: of another writer, whose manifest lists it, beside what
    was there, which nobody touches."""
    before = {path: path.read_bytes() for path in done.rglob("*") if path.is_file()}
    run = open_run(done)
    run.log_feedback(TRACE, "thumbs", 0, comment="api_key=hunter2hunter2", user_id="ada")
    assert said(done) == [("thumbs", 0, None, "api_key=[REDACTED]", "ada")]
    run.log_feedback(TRACE, "tone", "rude", span_id=SPAN)
    assert [one[0] for one in said(done)] == ["thumbs", "tone"]
    assert {path: path.read_bytes() for path in before} == before
    report = verify(done)
    assert report.ok and sum(writer.events for writer in report.writers) == 4
    manifest = open_run(done).manifest
    assert manifest.closed and (manifest.accepted, manifest.delivered) == (4, 4)
    (trace,) = open_run(done).traces()
    assert trace.trace_id == str(TRACE) and [span.notes for span in trace.walk()] == [()]


async def test_from_async_code(done: Path) -> None:
    """The same, in a thread."""
    run = await aopen_run(done)
    await asyncio.gather(*(run.alog_feedback(TRACE, "n", number) for number in range(5)))
    assert sorted([one.score async for one in run.afeedback()]) == [0, 1, 2, 3, 4]


def test_many(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From many threads each is stored once, and no manifest becomes long."""
    monkeypatch.setattr(appending, "MAX_EVENTS", 7)
    run = open_run(done)
    threads = [
        threading.Thread(target=run.log_feedback, args=(TRACE, "n", number)) for number in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one[1] for one in said(done)) == list(range(20))
    report = verify(done)
    assert report.ok and sorted(writer.events for writer in report.writers) == [2, 6, 7, 7]


def test_a_child_of_a_fork_is_another_writer(done: Path) -> None:
    """What it logs takes no number of its parent's."""
    run = open_run(done)
    run.log_feedback(TRACE, "n", 1)
    child = multiprocessing.get_context("fork").Process(
        target=run.log_feedback, args=(TRACE, "n", 2)
    )
    child.start()
    child.join()
    run.log_feedback(TRACE, "n", 3)
    assert [one[1] for one in said(done)] == [1, 2, 3]
    assert verify(done).ok


def test_the_users_expression_counts_there_too(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the environment, as there is no tracker that was given one; so does the packing."""
    monkeypatch.setenv("ASYNCTRACK_REDACT", "ada")
    monkeypatch.setenv("ASYNCTRACK_COMPRESSION", "gzip")
    monkeypatch.setenv("ASYNCTRACK_MAX_DELAY", "soon")  # a tracker's, and none of its business
    open_run(done).log_feedback(TRACE, "n", comment="ada says", user_id="ada")
    assert said(done) == [("n", None, None, "[REDACTED] says", "[REDACTED]")]
    assert len([*done.rglob("*.jsonl.gz")]) == 1


def test_a_folder_that_cannot_be_written(done: Path) -> None:
    """Says so; once it can be, the next call stores what it is given."""
    run = open_run(done)
    run.log_feedback(TRACE, "n", 1)
    (folder,) = done.rglob("_manifest")
    hidden = folder.rename(folder.with_name("_away"))
    folder.write_text("in the way")
    with pytest.raises(ReadError, match="cannot be written"):
        run.log_feedback(TRACE, "n", 2)
    folder.unlink()
    hidden.rename(folder)
    run.log_feedback(TRACE, "n", 3)
    # The artifact of the second was stored before its manifest was not: it may be there.
    assert [one[1] for one in said(done)] == [1, 2, 3]
    assert all(not one.missing and not one.doubled for one in verify(done).writers)


def test_into_s3(s3: S3Server, tmp_path: Path) -> None:
    """As into a folder: one object, and its manifest."""
    folder = RunFolder(tmp_path)
    folder.artifact([event(1)])
    folder.manifest()
    put(s3, tmp_path)
    address = f"s3://{s3.bucket}/asynctrack/v1/experiment=jokes/run=one/"
    run = open_run(address, **access(s3))
    run.log_feedback(TRACE, "thumbs", 1)
    assert said(open_run(address, **access(s3))) == [("thumbs", 1, None, None, None)]
    assert verify(address, **access(s3)).ok


@pytest.mark.parametrize("page", PAGES)
def test_what_s3_does_not_say(
    s3: S3Server, tmp_path: Path, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What answers in S3's place stores nothing, and is not believed; a refusal is tried again."""
    monkeypatch.setattr("asynctrack._backends.s3_read.BACKOFF", 0.001)
    folder = RunFolder(tmp_path)
    folder.artifact([event(1)])
    folder.manifest()
    put(s3, tmp_path)
    with fault_proxy(s3.endpoint_url) as proxy:
        run = open_run(f"s3://{s3.bucket}/", **{**access(s3), "endpoint_url": proxy.endpoint_url})
        rule = proxy.add(Answer(200, page=page), operation="PutObject")
        with pytest.raises(BackendError, match="is not S3"):
            run.log_feedback(TRACE, "thumbs", 0)
        proxy.remove(rule)
        proxy.add(Answer(503), operation="PutObject", times=2)
        run.log_feedback(TRACE, "thumbs", 1)
        assert [one[1] for one in said(run)] == [1]


def test_it_is_compacted_and_exported(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Compaction keeps it, and the events that are exported have it."""
    from asynctrack.cli import main

    open_run(done).log_feedback(TRACE, "thumbs", 1)
    before = list(open_run(done).feedback())
    assert main(["compact", str(done), "--delete"]) == 0
    assert [*done.rglob("*.jsonl.zst")] == []
    assert list(open_run(done).feedback()) == before and len(before) == 1
    assert verify(done).ok
    output = done / "events.jsonl"
    assert main(["export", str(done), "--format", "jsonl", "--table", "events",
                 "--output", str(output)]) == 0  # fmt: skip
    assert '"feedback"' in output.read_text()
    capsys.readouterr()


@pytest.mark.parametrize(
    "fields",
    [
        {"data": None}, {"data": 5}, {"data": {"score": "1", "value": 5, "comment": [1]}},
        {"name": None}, {"data": {"score": True}}, {"data": {"value": "", "user_id": 5}},
    ],
)  # fmt: skip
def test_feedback_of_strangers(tmp_path: Path, fields: dict[str, Any]) -> None:
    """Nothing that is read is trusted: what is of another type is not there."""
    folder = RunFolder(tmp_path)
    stored = {"trace_id": str(TRACE), "name": "n", "data": {}, **fields}
    folder.artifact([event(1, kind="feedback", **stored), event(2, kind="feedback", data={})])
    (one,) = open_run(tmp_path).feedback()
    assert astuple(one)[3:7] == (None, None, None, None)
    assert list(open_run(tmp_path).feedback(uuid4())) == []
