"""Each fault of the proxy is really seen by real clients, and the record says what happened."""

from __future__ import annotations

import base64
import hashlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import anyio
import boto3
import pytest
from aiobotocore.session import AioSession
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    EndpointConnectionError,
    HTTPClientError,
    ReadTimeoutError,
)

from asynctrack._backends.library import client_session
from asynctrack.demo._aws import EmbeddedAWS
from tests.support.faults import (
    PAGES,
    STRANGER,
    Answer,
    Delay,
    DropAnswer,
    Fault,
    FlipBit,
    Hang,
    Page,
    ResetAnswer,
    ResetConnection,
    ResetRequest,
    Rewrite,
    Throttle,
)
from tests.support.proxy import FaultProxy, fault_proxy
from tests.support.rules import Match, Rule
from tests.support.s3 import S3Server
from tests.support.seen import Outcome, Request

BODY = bytes(range(256)) * 40
IMPATIENT, PATIENT = 3.0, 60.0
"""Seconds for an answer: where none will come, and where one will, on however busy a machine."""
OFF_LOOP = pytest.mark.may_block("making a client of aiobotocore reads the service models")


@dataclass(frozen=True)
class Case:
    """A fault done to a PUT, and what it must look like from outside."""

    fault: Fault
    error: type[Exception] | tuple[type[Exception], ...]
    outcome: Outcome
    stored: bool

    @property
    def patience(self) -> float:
        """Seconds after which the client gives up."""
        return IMPATIENT if isinstance(self.fault, (Hang, Delay, Throttle)) else PATIENT


# The second name does not say that nothing was sent: aiobotocore gives it also for a reset after
# the object was stored.
BROKEN = (HTTPClientError, EndpointConnectionError)
BREAKS = [
    Case(ResetRequest(at=0), BROKEN, "reset", stored=False),
    Case(ResetRequest(at=1), BROKEN, "reset", stored=False),
    Case(ResetRequest(at=0.5), BROKEN, "reset", stored=False),
    Case(ResetRequest(at=-1), BROKEN, "reset", stored=False),
    Case(ResetAnswer(at=0), BROKEN, "lost", stored=True),
    Case(ResetAnswer(at=1), BROKEN, "lost", stored=True),
    Case(ResetAnswer(at=0.5), BROKEN, "lost", stored=True),
    Case(ResetAnswer(at=-1), BROKEN, "lost", stored=True),
    Case(DropAnswer(), BROKEN, "lost", stored=True),
    Case(Hang("unread"), HTTPClientError, "hanging", stored=False),
    Case(Hang("before"), ReadTimeoutError, "client_gone", stored=False),
    Case(Hang("after"), ReadTimeoutError, "client_gone", stored=True),
    Case(Delay(60), ReadTimeoutError, "client_gone", stored=False),
    Case(Throttle(0.01), ReadTimeoutError, "client_gone", stored=True),
    Case(Answer(503), ClientError, "answered", stored=False),
]


@pytest.fixture
def client(s3: S3Server, s3_proxy: FaultProxy) -> Any:
    return s3.boto_client(endpoint_url=s3_proxy.endpoint_url)


@contextmanager
def in_thread(call: Callable[[], Any]) -> Iterator[list[Any]]:
    """Run the call beside the block; what it returned is in the list when the block was left."""
    returned: list[Any] = []
    thread = threading.Thread(target=lambda: returned.append(call()))
    thread.start()
    yield returned
    thread.join(timeout=PATIENT)
    assert returned, "the call did not end, or raised"


def only(requests: tuple[Request, ...]) -> Request:
    assert len(requests) == 1, requests
    return requests[0]


def ended(requests: tuple[Request, ...]) -> bool:
    return bool(requests) and all(request.ended is not None for request in requests)


def test_signed_requests_pass_and_are_recorded(
    s3: S3Server, s3_proxy: FaultProxy, client: Any
) -> None:
    """Signed requests of every kind reach the server, which checks the signature, and are noted."""
    key = "run=r/dt=2026-01-01/w-1-2.jsonl"
    client.put_object(Bucket=s3.bucket, Key=key, Body=BODY)
    assert client.head_object(Bucket=s3.bucket, Key=key)["ContentLength"] == len(BODY)
    assert client.get_object(Bucket=s3.bucket, Key=key)["Body"].read() == BODY
    assert [o["Key"] for o in client.list_objects_v2(Bucket=s3.bucket)["Contents"]] == [key]
    upload = client.create_multipart_upload(Bucket=s3.bucket, Key="big")["UploadId"]
    part = client.upload_part(Bucket=s3.bucket, Key="big", UploadId=upload, PartNumber=1, Body=BODY)
    client.complete_multipart_upload(
        Bucket=s3.bucket,
        Key="big",
        UploadId=upload,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
    )
    client.delete_object(Bucket=s3.bucket, Key=key)

    seen = s3_proxy.requests
    assert [request.operation for request in seen] == [
        *("PutObject", "HeadObject", "GetObject", "ListObjectsV2", "CreateMultipartUpload"),
        *("UploadPart", "CompleteMultipartUpload", "DeleteObject"),
    ]
    put = seen[0]
    assert put.path == f"/{s3.bucket}/{key}"
    assert (put.service, put.status, put.outcome) == ("s3", 200, "answered")
    assert (put.body, put.body_size) == (BODY, len(BODY))
    assert put.body_sha256 == hashlib.sha256(BODY).hexdigest()
    assert put.ended is not None
    assert put.received <= put.ended
    assert s3_proxy.connections == len({request.connection for request in seen})


def test_wrong_signature_is_refused_through_the_proxy(s3: S3Server, s3_proxy: FaultProxy) -> None:
    """The proxy does not hide that a signature is wrong."""
    stranger = replace(s3, secret_key="other").boto_client(endpoint_url=s3_proxy.endpoint_url)
    with pytest.raises(ClientError):
        stranger.put_object(Bucket=s3.bucket, Key="a", Body=b"x")
    assert only(s3_proxy.requests).server_status == 403


def test_large_bodies_are_not_kept(s3: S3Server) -> None:
    """Of a body above the limit only size and digest are kept, and all of it is forwarded."""
    with fault_proxy(s3.endpoint_url, keep_body_bytes=10) as proxy:
        client = s3.boto_client(endpoint_url=proxy.endpoint_url)
        client.put_object(Bucket=s3.bucket, Key="a", Body=BODY)
        seen = only(proxy.requests)
    assert (seen.body, seen.body_size) == (b"", len(BODY))
    assert seen.body_sha256 == hashlib.sha256(BODY).hexdigest()
    assert (s3.folder / "a").read_bytes() == BODY


@pytest.mark.parametrize("case", BREAKS, ids=lambda case: str(case.fault))
def test_fault_is_seen_by_botocore(case: Case, s3: S3Server, s3_proxy: FaultProxy) -> None:
    """botocore fails as it must, the object is there or not as it must, and a retry succeeds."""
    client = s3.boto_client(endpoint_url=s3_proxy.endpoint_url, timeout=case.patience)
    rule = s3_proxy.add(case.fault, operation="PutObject", times=1)
    with pytest.raises((BotoCoreError, ClientError)) as caught:
        client.put_object(Bucket=s3.bucket, Key="a", Body=BODY)
    assert isinstance(caught.value, case.error)
    seen = only(s3_proxy.wait_for(lambda seen: bool(seen) and seen[0].outcome == case.outcome))
    assert (seen.fault, rule.applied) == (case.fault, 1)
    assert (s3.folder / "a").exists() is case.stored
    if case.stored:
        assert (s3.folder / "a").read_bytes() == BODY
    s3.boto_client(endpoint_url=s3_proxy.endpoint_url).put_object(
        Bucket=s3.bucket, Key="a", Body=b"again"
    )
    assert (s3.folder / "a").read_bytes() == b"again"


@pytest.mark.parametrize(
    ("fault", "received", "is_reset"),
    [
        (ResetRequest(), b"", True),
        (ResetAnswer(at=0), b"", True),
        (ResetAnswer(at=8), b"HTTP/1.1", True),
        (DropAnswer(), b"", False),
    ],
)
def test_connection_ends_as_said(
    fault: Fault, received: bytes, is_reset: bool, s3_proxy: FaultProxy
) -> None:
    """The client gets the bytes it was to get, and after them a reset or a proper end."""
    s3_proxy.add(fault)
    url = urlsplit(s3_proxy.endpoint_url)
    with socket.create_connection(
        (str(url.hostname), url.port or 0), timeout=PATIENT
    ) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        got = b""
        while len(got) < len(received):
            got += connection.recv(100)
        assert got == received
        if is_reset:
            with pytest.raises(ConnectionResetError):
                connection.recv(100)
        else:
            assert connection.recv(100) == b""


@OFF_LOOP
@pytest.mark.parametrize("case", BREAKS, ids=lambda case: str(case.fault))
async def test_fault_is_seen_by_aiobotocore(case: Case, s3: S3Server, s3_proxy: FaultProxy) -> None:
    """aiobotocore fails as it must, and the object is there or not as it must."""
    rule = s3_proxy.add(case.fault, operation="PutObject")
    unread = case.fault == Hang("unread")
    session = client_session(AioSession(), None)

    def client_with(patience: float) -> Any:
        config = Config(
            connect_timeout=patience,
            read_timeout=patience,
            retries={"total_max_attempts": 1},
            s3={"addressing_style": "path"},
        )
        kwargs = {**s3.client_kwargs(), "endpoint_url": s3_proxy.endpoint_url}
        return session.client("s3", config=config, **kwargs)

    async with client_with(case.patience) as client, client_with(PATIENT) as patient:
        # aiohttp has no time limit of its own while it waits for "100 Continue".
        with (
            pytest.raises((BotoCoreError, ClientError, TimeoutError)) as caught,
            anyio.fail_after(IMPATIENT if unread else PATIENT),
        ):
            await client.put_object(Bucket=s3.bucket, Key="a", Body=BODY)
        assert isinstance(caught.value, TimeoutError if unread else case.error)
        # aiohttp may itself send a request once more whose connection broke.
        seen = await s3_proxy.seen(lambda seen: {r.outcome for r in seen} == {case.outcome})
        assert len(seen) in (1, 2)
        assert (s3.folder / "a").exists() is case.stored
        s3_proxy.remove(rule)
        await patient.put_object(Bucket=s3.bucket, Key="a", Body=b"again")
    assert (s3.folder / "a").read_bytes() == b"again"


def test_refused_connections_until_healed(s3: S3Server, s3_proxy: FaultProxy, client: Any) -> None:
    """A refusing proxy resets what is open, refuses the rest, and serves again at its old port."""
    client.put_object(Bucket=s3.bucket, Key="a", Body=b"1")
    s3_proxy.refuse()
    for _ in range(2):
        with pytest.raises(EndpointConnectionError):
            client.put_object(Bucket=s3.bucket, Key="a", Body=b"2")
    assert s3_proxy.open_connections == 0
    s3_proxy.heal()
    client.put_object(Bucket=s3.bucket, Key="a", Body=b"3")
    assert [request.body for request in s3_proxy.requests] == [b"1", b"3"]


def test_connection_reset_before_anything_is_read(
    s3: S3Server, s3_proxy: FaultProxy, client: Any
) -> None:
    """The connection is reset with no request seen, as often as was said."""
    s3_proxy.add(ResetConnection(), times=2)
    for _ in range(2):
        with pytest.raises(BROKEN):
            client.put_object(Bucket=s3.bucket, Key="a", Body=b"1")
    assert s3_proxy.requests == ()
    client.put_object(Bucket=s3.bucket, Key="a", Body=b"1")


def test_connection_reset_cannot_look_at_requests(s3_proxy: FaultProxy) -> None:
    """A rule that could never apply is refused."""
    with pytest.raises(ValueError, match="ResetConnection"):
        s3_proxy.add(ResetConnection(), method="PUT")


@pytest.mark.parametrize("fault", [Hang("unread"), Hang("before"), Hang("after"), Delay(60)])
def test_heal_releases_what_hangs(
    fault: Fault, s3: S3Server, s3_proxy: FaultProxy, client: Any
) -> None:
    """A held request goes on when the proxy is healed, and is answered."""
    s3_proxy.add(fault)
    with in_thread(lambda: client.put_object(Bucket=s3.bucket, Key="a", Body=BODY)):
        s3_proxy.wait_for(lambda seen: any(request.outcome == "hanging" for request in seen))
        s3_proxy.heal()
    assert only(s3_proxy.requests).outcome == "answered"
    assert (s3.folder / "a").read_bytes() == BODY


def test_removing_a_rule_releases_only_its_own(s3: S3Server, s3_proxy: FaultProxy) -> None:
    """Taking out one rule leaves the requests of another one hanging."""
    first = s3_proxy.add(Hang(), path="*/a")
    s3_proxy.add(Hang(), path="*/b")

    def put(key: str) -> Any:
        client = s3.boto_client(endpoint_url=s3_proxy.endpoint_url)
        return client.put_object(Bucket=s3.bucket, Key=key, Body=b"x")

    def outcomes(seen: tuple[Request, ...]) -> dict[str, str]:
        return {request.path[-1]: request.outcome for request in seen}

    with in_thread(lambda: put("a")), in_thread(lambda: put("b")):
        s3_proxy.wait_for(lambda seen: outcomes(seen) == {"a": "hanging", "b": "hanging"})
        s3_proxy.remove(first)
        s3_proxy.wait_for(lambda seen: outcomes(seen) == {"a": "answered", "b": "hanging"})
        s3_proxy.heal()
    assert outcomes(s3_proxy.requests) == {"a": "answered", "b": "answered"}


def test_throttled_answer_takes_its_time(s3: S3Server, s3_proxy: FaultProxy, client: Any) -> None:
    """An answer of some 10 KiB at 20,000 bytes a second takes half a second, and is complete."""
    client.put_object(Bucket=s3.bucket, Key="a", Body=BODY)
    s3_proxy.add(Throttle(20_000), method="GET")
    assert client.get_object(Bucket=s3.bucket, Key="a")["Body"].read() == BODY
    got = s3_proxy.requests[-1]
    assert got.ended is not None
    assert got.ended - got.received > 0.4


def test_delayed_request_is_forwarded_later(
    s3: S3Server, s3_proxy: FaultProxy, client: Any
) -> None:
    """A delayed request is answered after the delay."""
    s3_proxy.add(Delay(0.2))
    client.put_object(Bucket=s3.bucket, Key="a", Body=b"x")
    put = only(s3_proxy.requests)
    assert put.ended is not None
    assert put.ended - put.received >= 0.2


def test_bit_flipped_on_the_way_to_the_server(
    s3: S3Server, s3_proxy: FaultProxy, client: Any
) -> None:
    """The server is sent exactly one other bit, and the record keeps what the client sent.

    rclone finds that out by a Content-MD5 only, not by a CRC32 nor by the signed SHA-256.
    """
    s3_proxy.add(FlipBit(seed=3))
    client.put_object(Bucket=s3.bucket, Key="a", Body=BODY)
    assert different_bits((s3.folder / "a").read_bytes(), BODY) == 1
    assert only(s3_proxy.requests).body == BODY
    digest = base64.b64encode(hashlib.md5(BODY).digest()).decode()
    with pytest.raises(ClientError, match="BadDigest"):
        client.put_object(Bucket=s3.bucket, Key="b", Body=BODY, ContentMD5=digest)
    assert not (s3.folder / "b").exists()


def test_bit_flipped_on_the_way_back(s3: S3Server, s3_proxy: FaultProxy, client: Any) -> None:
    """The client is sent exactly one other bit."""
    client.put_object(Bucket=s3.bucket, Key="a", Body=BODY)
    s3_proxy.add(FlipBit("answer", seed=3), method="GET")
    got = client.get_object(Bucket=s3.bucket, Key="a")["Body"].read()
    assert different_bits(got, BODY) == 1


def test_headers_of_an_answer_are_changed(s3: S3Server, s3_proxy: FaultProxy, client: Any) -> None:
    """One is taken out, one has another text; the object and the other headers are as they were."""
    s3_proxy.add(Rewrite({"x-amz-request-id": None, "etag": '"other"'}))
    answer = client.put_object(Bucket=s3.bucket, Key="a", Body=BODY)
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    assert "x-amz-request-id" not in headers and "x-amz-id-2" in headers
    assert answer["ETag"] == '"other"'
    assert (s3.folder / "a").read_bytes() == BODY


@pytest.mark.parametrize("page", PAGES)
def test_somebody_else_answers(page: Page, s3: S3Server, s3_proxy: FaultProxy, client: Any) -> None:
    """A page with nothing of S3's about it, and nothing arrives at S3."""
    s3_proxy.add(Answer(403, page=page))
    with pytest.raises(ClientError) as caught:
        client.put_object(Bucket=s3.bucket, Key="a", Body=BODY)
    headers = caught.value.response["ResponseMetadata"]["HTTPHeaders"]
    assert headers["server"] == STRANGER
    assert not [name for name in headers if name.startswith("x-amz")]
    assert not (s3.folder / "a").exists()


def different_bits(one: bytes, other: bytes) -> int:
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).bit_count()


@pytest.mark.parametrize(
    ("retry_after", "header"),
    [(None, None), (2, "2"), (0.5, "0.5"), ("soon", "soon"), (timedelta(hours=1), "date")],
)
def test_answer_in_place_of_s3(
    retry_after: Any, header: str | None, s3: S3Server, s3_proxy: FaultProxy, client: Any
) -> None:
    """botocore reads code, message, status and Retry-After out of the injected answer."""
    s3_proxy.add(Answer(503, message="Please <reduce>", retry_after=retry_after))
    with pytest.raises(ClientError) as caught:
        client.put_object(Bucket=s3.bucket, Key="a", Body=b"x")
    response = caught.value.response
    assert response["Error"]["Code"] == "SlowDown"
    assert response["Error"]["Message"] == "Please <reduce>"
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 503
    got = response["ResponseMetadata"]["HTTPHeaders"].get("retry-after")
    if header == "date":
        ahead = parsedate_to_datetime(got) - datetime.now(timezone.utc)
        assert timedelta(minutes=59) < ahead <= timedelta(hours=1)
    else:
        assert got == header
    assert only(s3_proxy.requests).server_status is None


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 412, 413, 425, 429, 500, 509])
def test_answer_of_any_status(status: int, s3: S3Server, s3_proxy: FaultProxy, client: Any) -> None:
    """botocore sees the status and the code that were asked for, also for HEAD."""
    s3_proxy.add(Answer(status, code="Teapot", headers={"x-more": "1"}))
    for call, code in ((client.get_object, "Teapot"), (client.head_object, str(status))):
        with pytest.raises(ClientError) as caught:
            call(Bucket=s3.bucket, Key="a")
        metadata = caught.value.response["ResponseMetadata"]
        assert (metadata["HTTPStatusCode"], metadata["HTTPHeaders"]["x-more"]) == (status, "1")
        assert caught.value.response["Error"]["Code"] == code


def aws_client(service: str, aws: EmbeddedAWS, proxy: FaultProxy) -> Any:
    config = Config(connect_timeout=30, read_timeout=60, retries={"total_max_attempts": 1})
    session = boto3.Session(
        aws_access_key_id="AKID", aws_secret_access_key="secret", region_name=aws.region
    )
    return session.client(service, endpoint_url=proxy.endpoint_url, config=config)


def test_sagemaker_passes_and_is_throttled(aws: EmbeddedAWS) -> None:
    """SageMaker's calls reach it with their operation noted; an injected error has its shape."""
    with fault_proxy(aws.endpoint_url) as proxy:
        client = aws_client("sagemaker", aws, proxy)
        client.create_experiment(ExperimentName="proxied-1")
        proxy.add(Answer(400), operation="CreateExperiment", times=1)
        proxy.add(Answer(409), operation="CreateExperiment", times=1)
        for code in ("ThrottlingException", "ConflictException"):
            with pytest.raises(ClientError) as caught:
                client.create_experiment(ExperimentName="proxied-2")
            assert caught.value.response["Error"]["Code"] == code
        listed = client.list_experiments()["ExperimentSummaries"]
        names = {experiment["ExperimentName"] for experiment in listed}
        assert "proxied-1" in names
        assert "proxied-2" not in names
        assert [(r.service, r.operation, r.status) for r in proxy.requests] == [
            ("sagemaker", "CreateExperiment", 200),
            ("sagemaker", "CreateExperiment", 400),
            ("sagemaker", "CreateExperiment", 409),
            ("sagemaker", "ListExperiments", 200),
        ]


def test_metrics_are_answered_in_their_shape(aws: EmbeddedAWS) -> None:
    """BatchPutMetrics gets an error, then an answer of 200 with errors, both as botocore reads."""
    with fault_proxy(aws.endpoint_url) as proxy:
        client = aws_client("sagemaker-metrics", aws, proxy)
        proxy.add(Answer(429), operation="BatchPutMetrics", times=1)
        refused = b'{"Errors": [{"Code": "CONFLICT_ERROR", "MetricIndex": 0}]}'
        proxy.add(Answer(200, body=refused), operation="BatchPutMetrics", times=1)
        data = [{"MetricName": "m", "Timestamp": 1, "Value": 1.0, "Step": 0}]
        with pytest.raises(ClientError) as caught:
            client.batch_put_metrics(TrialComponentName="t", MetricData=data)
        assert caught.value.response["Error"]["Code"] == "ThrottlingException"
        answered = client.batch_put_metrics(TrialComponentName="t", MetricData=data)
        assert answered["Errors"] == [{"Code": "CONFLICT_ERROR", "MetricIndex": 0}]


def test_server_that_is_gone(s3_server: S3Server) -> None:
    """With no server behind it the proxy resets, and says why."""
    with fault_proxy("http://127.0.0.1:1") as proxy:
        client = s3_server.boto_client(endpoint_url=proxy.endpoint_url)
        with pytest.raises(ConnectionClosedError):
            client.list_buckets()
        assert only(proxy.requests).outcome == "unreachable"


def applied(match: Match, count: int) -> list[int]:
    """The numbers of those of `count` requests a rule takes."""
    rule = Rule(Delay(0), match)
    made = (Request(n, 1, "PUT", f"/b/{n}", {}, {}, received=0.0) for n in range(1, count + 1))
    return [request.number for request in made if rule.takes(request)]


def test_rules_count() -> None:
    """`skip`, `every`, `times` and what a rule looks at act together."""
    assert applied(Match(times=2), 5) == [1, 2]
    assert applied(Match(skip=1, every=2), 7) == [3, 5, 7]
    assert applied(Match(skip=1, every=2, times=2), 7) == [3, 5]
    assert applied(Match(method="GET"), 5) == []
    assert applied(Match(path="/b/[24]"), 5) == [2, 4]
    assert applied(Match(operation="PutObject", when=lambda r: r.number > 3), 5) == [4, 5]


def test_rules_draw_the_same_from_the_same_seed() -> None:
    """A share is drawn by the seed: about as many as asked, and the same ones each time."""
    first = applied(Match(probability=0.3, seed=7), 1000)
    assert first == applied(Match(probability=0.3, seed=7), 1000)
    assert first != applied(Match(probability=0.3, seed=8), 1000)
    assert 250 < len(first) < 350


@OFF_LOOP
async def test_many_requests_hang_and_are_released(s3: S3Server, s3_proxy: FaultProxy) -> None:
    """Twenty uploads of one client hang at the same time, and all end when the proxy is healed."""
    s3_proxy.add(Hang())
    config = Config(max_pool_connections=20, s3={"addressing_style": "path"})
    kwargs = {**s3.client_kwargs(), "endpoint_url": s3_proxy.endpoint_url}
    async with (
        client_session(AioSession(), None).client("s3", config=config, **kwargs) as client,
        anyio.create_task_group() as group,
    ):
        for number in range(20):
            group.start_soon(put_with, client, s3.bucket, str(number))
        await s3_proxy.seen(lambda seen: [r.outcome for r in seen] == ["hanging"] * 20)
        assert s3_proxy.open_connections == 20
        s3_proxy.heal()
    assert len(list(s3.folder.iterdir())) == 20


async def put_with(client: Any, bucket: str, key: str) -> None:
    await client.put_object(Bucket=bucket, Key=key, Body=b"x")


async def test_steering_is_allowed_in_an_event_loop(s3_proxy: FaultProxy) -> None:
    """A test in an event loop steers the proxy without being failed for blocking."""
    rule = s3_proxy.add(Hang())
    s3_proxy.remove(rule)
    s3_proxy.refuse()
    s3_proxy.heal()
    assert s3_proxy.open_connections == 0
    assert await s3_proxy.seen(lambda seen: seen == ()) == ()


def test_waiting_in_vain_tells_what_was_seen(s3: S3Server, s3_proxy: FaultProxy) -> None:
    """A wait that runs out lists the requests there were."""
    s3.boto_client(endpoint_url=s3_proxy.endpoint_url).list_buckets()
    with pytest.raises(TimeoutError, match="GET / answered 200"):
        s3_proxy.wait_for(lambda seen: len(seen) == 2, timeout=0.01)
