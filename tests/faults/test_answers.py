"""Who is believed: the table "answers of servers". Rows 45 and 46 of the matrix.

A filter, the sign-in page of a network, a load balancer answer in S3's place; or S3 itself says
that a setting is wrong. Nothing is counted as delivered by a stranger's word, nothing is given up
by anybody's but S3's own about the very object; all of it waits, it is said what to change, and it
is delivered once that is done.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from asynctrack import tracker
from asynctrack._backends.aws import AwsBackend
from asynctrack._common.artifact import Artifact
from asynctrack._errors import TransientError
from tests.e2e.waiting import until_in_thread
from tests.faults.ground import EVENTS, Ground, elsewhere, end, outputs
from tests.faults.test_requests import backend, plenty, uploader
from tests.support.faults import PAGES, STRANGER, Answer, Page, Rewrite
from tests.support.seen import Request

STATUSES: Final = (
    200, 201, 204, 300, 302, 304, 400, 401, 402, 403, 404, 405, 406, 407, 410, 411, 412, 413, 414,
    415, 417, 421, 422, 426, 428, 431, 451, 500, 502, 503, 511,
)  # fmt: skip
FAILURES: Final = 2

# -- by a stranger --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    status: int
    page: Page
    etag: bool

    @property
    def name(self) -> str:
        return f"dt=2026-01-01/{self.status}-{self.page}-{self.etag}"

    @property
    def asked(self) -> bool:
        """Whether the store is asked for the object: nothing in the answer says no."""
        return self.status < 300 and self.page in ("empty", "xhtml")


CASES: Final = [
    Case(*case)
    for case in itertools.product(STATUSES, PAGES, (False, True))
    if case[1] == "empty" or case[0] not in (204, 304)  # which have no body
]


def test_a_stranger_neither_acknowledges_nor_refuses(ground: Ground) -> None:
    """Every status with every page: tried again until S3 answers; a 2xx that
    may be a store's costs one HEAD each time.

    With an ETag as well, as web servers send it with their pages.
    """
    for case in CASES:
        headers = {"ETag": '"0123456789abcdef"'} if case.etag else {}
        fault = Answer(case.status, page=case.page, headers=headers)
        # The HEAD for the object is answered by the same stranger.
        requests = FAILURES * (2 if case.asked else 1)
        ground.proxy.add(fault, path=f"*/{case.name}", times=requests)

    async def attempt(store: AwsBackend, case: Case, gate: asyncio.Semaphore) -> None:
        content = case.name.encode()
        wanted = Artifact(case.name, content, zlib.crc32(content), "", 1, 1, len(content))
        async with gate:
            await uploader(store, plenty()).upload(wanted)

    async def main() -> None:
        limit = asyncio.Semaphore(32)
        async with backend(ground) as store:
            await asyncio.gather(*[attempt(store, case, limit) for case in CASES])

    elsewhere(main)
    sent: dict[str, list[str]] = {}
    for request in ground.proxy.requests:
        sent.setdefault(request.path.partition("dt=")[2], []).append(request.method)
    for case in CASES:
        failed = ["PUT", "HEAD"] if case.asked else ["PUT"]
        assert sent[case.name.partition("dt=")[2]] == [*failed * FAILURES, "PUT"], case


WHOLE: Final[list[tuple[int, Page]]] = [
    (200, "html"), (200, "empty"), (200, "xhtml"), (200, "json"), (204, "empty"), (302, "html"),
    (400, "empty"), (403, "html"), (403, "xhtml"), (405, "json"), (407, "html"), (413, "html"),
    (421, "empty"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "page"), WHOLE)
def test_a_stranger_takes_no_event(
    status: int, page: Page, ground: Ground, state_home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It answers everything, as a captive portal does: all events stay on disk, it is said what
    answers and what to look at, and the next tracker delivers them when it is gone."""
    caplog.set_level(logging.WARNING, "asynctrack")
    ground.proxy.add(Answer(status, page=page))
    with tracker(ground.run(), close_patience=0.5, max_delay=0.05) as handler:
        for number in range(3):
            end(handler, number)
        until_in_thread(lambda: handler.statistics().retries >= 1)
    statistics = handler.statistics()
    assert (statistics.delivered, statistics.dead_lettered, statistics.dropped) == (0, 0, {})
    assert statistics.spooled == statistics.accepted == 3
    assert list(state_home.rglob("*.dead")) == []
    (told,) = [text for text in caplog.messages if "cannot upload" in text]
    assert "HTTP 200 or 500" in told or f"HTTP {status}" in told
    assert STRANGER in told and "is not S3" in told, told
    assert "on disk" in told and "a proxy" in told
    body = PAGES[page][1].decode()
    assert not body or body not in caplog.text
    ground.proxy.heal()
    with tracker(ground.run()) as handler:
        until_in_thread(lambda: handler.statistics().replayed == 3)
    assert sorted(outputs(ground.events())) == [0, 1, 2]
    assert ground.problems() == []


@pytest.mark.parametrize("concurrency", [1, 2])
def test_what_a_filter_refuses_holds_nothing_else_up(concurrency: int, ground: Ground) -> None:
    """A filter refuses some events for what is in them, more than there are uploads at a time: all
    others are delivered, these wait, and are delivered as soon as it takes them."""
    ground.proxy.add(
        Answer(403, page="html"), path=EVENTS, when=lambda one: b"credit card" in one.body
    )
    options: dict[str, Any] = {
        "compression": "none", "max_batch_events": 1, "max_delay": 0.01,
        "upload_concurrency": concurrency,
    }  # fmt: skip
    with tracker(ground.run(), **options) as handler:
        for number in range(5):
            end(handler, f"credit card {number}")
        until_in_thread(lambda: handler.statistics().retries >= 5)
        for number in range(5):
            end(handler, number)
        until_in_thread(lambda: handler.statistics().delivered == 5)
        assert outputs(ground.events()) == [0, 1, 2, 3, 4]
        ground.proxy.heal()
        until_in_thread(lambda: handler.statistics().delivered == 10)
    assert handler.statistics().dead_lettered == 0
    assert ground.problems() == []


# -- a store that is no AWS -----------------------------------------------------------------------

NO_IDS: Final = {"x-amz-request-id": None, "x-amz-id-2": None}


def sent_for(ground: Ground) -> list[str]:
    return [one.method for one in ground.proxy.requests if "/dt=" in one.path]


def test_s3_itself_is_not_asked_twice(ground: Ground) -> None:
    """A store that answers as S3 does gets one request for each object."""
    with tracker(ground.run()) as handler:
        end(handler)
    assert handler.statistics().delivered == 1
    assert {one.method for one in ground.proxy.requests} == {"PUT"}


@pytest.mark.parametrize(
    "head", [{}, {"x-amz-checksum-crc32": None}], ids=["by its CRC32", "by its MD5"]
)
def test_a_store_without_request_ids_is_asked_once(
    head: dict[str, None], ground: Ground, caplog: pytest.LogCaptureFixture
) -> None:
    """It shows the object, by its size and a checksum: that is an acknowledgement as well."""
    ground.proxy.add(Rewrite({**NO_IDS, **head}))
    with tracker(ground.run()) as handler:
        end(handler)
    assert handler.statistics().delivered == 1
    assert sent_for(ground) == ["PUT", "HEAD"]
    assert caplog.messages == []


NOT_THE_OBJECT: Final[dict[str, Any]] = {
    "another size": Rewrite({**NO_IDS, "content-length": "8"}),
    "another checksum": Rewrite({**NO_IDS, "x-amz-checksum-crc32": "AAAAAA=="}),
    "neither checksum": Rewrite({**NO_IDS, "x-amz-checksum-crc32": None, "etag": '"x-1"'}),
    "not there": Answer(404, headers={"Content-Type": "application/xml"}, body=b""),
    "not allowed": Answer(403, body=b""),
}


@pytest.mark.parametrize("why", NOT_THE_OBJECT)
def test_a_store_that_does_not_show_the_object(why: str, ground: Ground) -> None:
    """Then it is not there, as far as anybody knows; the next attempt may bring it."""
    ground.proxy.add(Rewrite(NO_IDS), method="PUT", path=EVENTS)
    rule = ground.proxy.add(NOT_THE_OBJECT[why], method="HEAD", path=EVENTS)

    async def main() -> None:
        async with backend(ground) as store:
            with pytest.raises(TransientError, match="what answered is not S3"):
                await store.put("dt=2026-01-01/x", b"content", crc32=zlib.crc32(b"content"),
                                media_type="text/plain")  # fmt: skip

    elsewhere(main)
    assert rule.applied == 1
    assert sent_for(ground) == ["PUT", "HEAD"]


def test_a_store_that_says_other_bytes_arrived(ground: Ground) -> None:
    """Where the checksum is echoed it must be ours; then it is sent once more, and not asked."""
    ground.proxy.add(Rewrite({"x-amz-checksum-crc32": "AAAAAA=="}), path=EVENTS, times=1)
    with tracker(ground.run()) as handler:
        end(handler)
    assert (handler.statistics().delivered, handler.statistics().retries) == (1, 1)
    assert sent_for(ground) == ["PUT", "PUT"]


# -- by S3's own word -----------------------------------------------------------------------------

SETTINGS: Final = {
    "AuthorizationHeaderMalformed": (400, "region"),
    "IllegalLocationConstraintException": (400, "region"),
    "AuthorizationQueryParametersError": (400, "endpoint_url"),
    "PermanentRedirect": (301, "region"),
    "MethodNotAllowed": (405, "endpoint_url"),
    "InvalidAccessKeyId": (403, "credentials"),
    "SignatureDoesNotMatch": (403, "credentials"),
    "AccessDenied": (403, "s3_options"),
    "KMS.DisabledException": (400, "SSEKMSKeyId"),
    "InvalidArgument": (400, "s3_options"),
    "InvalidStorageClass": (400, "s3_options"),
    "AccessControlListNotSupported": (400, "s3_options"),
    "NotImplemented": (501, "s3_options"),
    "NoSuchBucket": (404, "bucket="),
    "InvalidBucketName": (400, "bucket="),
    "RequesterPays": (403, "RequestPayer"),
    "NobodyKnowsThisCode": (400, ""),
}


@pytest.mark.parametrize("code", SETTINGS)
def test_wrong_settings_are_waited_for(
    code: str, ground: Ground, state_home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """S3 refuses for a setting: kept, told at once with what to change, and delivered by the next
    tracker that has it right."""
    status, advice = SETTINGS[code]
    caplog.set_level(logging.WARNING, "asynctrack")
    ground.proxy.add(Answer(status, code=code), path=EVENTS)
    with tracker(ground.run(), close_patience=0.5, max_delay=0.05) as handler:
        end(handler, 1)
        until_in_thread(lambda: bool([one for one in caplog.messages if code in one]))
    assert handler.statistics().spooled == handler.statistics().accepted == 1
    assert list(state_home.rglob("*.dead")) == []
    (told,) = [text for text in caplog.messages if "cannot upload" in text]
    assert code in told and advice in told
    ground.proxy.heal()
    with tracker(ground.run()) as handler:
        until_in_thread(lambda: handler.statistics().replayed == 1)
    assert outputs(ground.events()) == [1]


def test_an_option_that_no_request_can_have(
    ground: Ground, state_home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """botocore refuses it before anything is sent: a setting all the same, and no dead letter."""
    caplog.set_level(logging.WARNING, "asynctrack")
    options: dict[str, Any] = {"s3_options": {"BucketKeyEnabled": "yes"}, "max_delay": 0.05}
    with tracker(ground.run(), close_patience=0.5, **options) as handler:
        end(handler, 1)
        until_in_thread(lambda: handler.statistics().retries >= 1)
    assert handler.statistics().spooled == 1
    assert list(state_home.rglob("*.dead")) == []
    assert "ParamValidationError" in caplog.text and "or s3_options" in caplog.text
    assert sent_for(ground) == []


def test_a_proxy_that_takes_no_large_requests(
    ground: Ground, state_home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A 413 that is not S3's: halves are tried, a single event waits and is no dead letter."""

    def too_large(request: Request) -> bool:
        return request.body_size > 20_000

    ground.proxy.add(Answer(413, page="html"), path=EVENTS, when=too_large)
    options: dict[str, Any] = {"compression": "none", "close_patience": 0.5}
    with tracker(ground.run(), **options) as handler:
        for number in range(9):
            end(handler, "y" * 30_000 if number == 4 else {"number": number, "x": "x" * 4_000})
        until_in_thread(lambda: len(ground.events()) == 8)
        until_in_thread(lambda: handler.statistics().retries >= 1)
    assert handler.statistics().dead_lettered == 0
    assert handler.statistics().spooled == 9, "one file, whose events are not all there yet"
    assert "413" in caplog.text and "max_batch_bytes" in caplog.text
    ground.proxy.heal()
    with tracker(ground.run(), **options) as handler:
        until_in_thread(lambda: handler.statistics().replayed == 9)
    assert ground.audit().events == 9, "the whole is not stored beside its parts"
    assert ground.problems() == []
    assert [path.name for path in state_home.rglob("*.parts")] == []


# -- SageMaker ------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize(
    "operation", ["DescribeTrialComponent", "UpdateTrialComponent", "BatchPutMetrics"]
)
def test_a_stranger_writes_nothing_into_the_run(operation: str, page: Page, ground: Ground) -> None:
    """A 200 of somebody else is no answer of SageMaker's: parameters and points are sent again,
    and what a Run holds is not taken for nothing."""
    rule = ground.sagemaker_proxy.add(Answer(200, page=page), operation=operation, times=1)
    with tracker(ground.run()) as handler:
        handler.log_parameters({"temperature": 0.5})
        handler.log_metric("loss", 0.25)
    assert rule.applied == 1
    assert ground.parameters()["temperature"] == 0.5
    statistics = handler.statistics()
    assert statistics.metric_points >= 1 and statistics.metric_points_unsent == 0
    sent = [one for one in ground.sagemaker_proxy.requests if one.operation == operation]
    written = [one for one in sent if one.server_status == 200]
    assert len(sent) == len(written) + 1 and written
    if operation == "UpdateTrialComponent":
        assert statistics.run_updates == len(written)
