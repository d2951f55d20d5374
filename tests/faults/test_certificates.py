"""Whom events are sent to: nobody without a certificate that the Run's own client would take."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import SSLError

from asynctrack import Statistics, tracker
from tests.e2e.waiting import until_in_thread
from tests.faults.ground import Ground, end, outputs
from tests.support.tls import TlsProxy, tls_proxy

HOST = "https://s3.example.com"


@pytest.fixture
def stranger(ground: Ground) -> Iterator[TlsProxy]:
    """What stands in between and ends TLS; the real server is behind it."""
    with tls_proxy(ground.s3.endpoint_url) as proxy:
        yield proxy


def run_at(ground: Ground, address: str, **options: Any) -> Any:
    """The Run, with a real client of boto3's for an address of S3 with TLS."""
    place = ground.place
    session = boto3.Session(place.access_key, place.secret_key, region_name="us-east-1")
    config = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=5)
    config = config.merge(options.pop("config", Config()))
    run = ground.run()
    run._artifact_uploader.sagemaker_session.boto_session = session
    run._artifact_uploader._s3_client = session.client(
        "s3", endpoint_url=address, config=config, **options
    )
    return run


def refused_by_theirs(run: Any) -> bool:
    """Whether the Run's own client refuses whoever answers."""
    uploader = run._artifact_uploader
    try:
        uploader._s3_client.list_objects_v2(Bucket=uploader.artifact_bucket)
    except SSLError:
        return True
    return False


def track(
    run: Any, value: str, stranger: TlsProxy | None = None, *, replayed: int = 0
) -> Statistics:
    """Track one event, and wait for those left; with somebody in between, until they were shown
    the door and the tracker knows it."""
    limit = {"close_patience": 0.5} if stranger else {}
    with tracker(run, max_delay=0.01, **limit) as handler:
        end(handler, value)
        if stranger:
            stranger.wait_for_refusal(2)  # the Run's own client had the first
            until_in_thread(lambda: handler.statistics().retries >= 1)
        until_in_thread(lambda: handler.statistics().replayed >= replayed)
    return handler.statistics()


def test_a_stranger_behind_the_proxy(
    ground: Ground,
    stranger: TlsProxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A proxy that ends TLS with a certificate nobody trusts gets the handshake and no more.

    The events wait, the warning says why and what to do, and once its authority is trusted all is
    delivered.
    """
    monkeypatch.setenv("HTTPS_PROXY", stranger.url)
    run = run_at(ground, HOST)
    assert refused_by_theirs(run)
    statistics = track(run, "first", stranger)
    assert statistics.spooled == statistics.accepted == 1
    assert stranger.received == b""
    assert set(stranger.asked) == {"s3.example.com:443"}
    assert "certificate" in caplog.text
    assert "AWS_CA_BUNDLE" in caplog.text
    monkeypatch.setenv("AWS_CA_BUNDLE", stranger.bundle(tmp_path))
    run = run_at(ground, HOST)
    assert not refused_by_theirs(run)
    assert track(run, "second", replayed=1).replayed == 1
    assert sorted(outputs(ground.events())) == ["first", "second"]


def test_a_certificate_for_another_name(
    ground: Ground, stranger: TlsProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An authority that is trusted does not make everybody the one who was asked for."""
    monkeypatch.setenv("AWS_CA_BUNDLE", stranger.bundle(tmp_path))
    run = run_at(ground, stranger.https_url.replace("127.0.0.1", "localhost"))  # it is 127.0.0.1
    assert refused_by_theirs(run)
    assert track(run, "event", stranger).spooled == 1
    assert stranger.received == b""


def test_the_proxys_authority_is_for_the_proxy(
    ground: Ground, stranger: TlsProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trusting a proxy's own certificate does not make it S3."""
    monkeypatch.setenv("HTTPS_PROXY", stranger.url)
    trust = Config(proxies_config={"proxy_ca_bundle": stranger.bundle(tmp_path)})
    run = run_at(ground, HOST, config=trust)
    assert refused_by_theirs(run)
    assert track(run, "event", stranger).spooled == 1
    assert stranger.received == b""


def test_a_stranger_without_a_proxy(ground: Ground, stranger: TlsProxy) -> None:
    """Whoever answers at S3's address itself is asked for a certificate, too."""
    run = run_at(ground, stranger.https_url)
    assert refused_by_theirs(run)
    assert track(run, "event", stranger).spooled == 1
    assert stranger.received == b""


def test_who_trusts_everybody_is_obeyed(
    ground: Ground, stranger: TlsProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``verify=False`` of the Run's client is the user's word."""
    monkeypatch.setenv("HTTPS_PROXY", stranger.url)
    run = run_at(ground, HOST, verify=False)
    assert track(run, "event").delivered == 1
