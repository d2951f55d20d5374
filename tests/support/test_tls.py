from __future__ import annotations

from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import SSLError

from tests.support.s3 import S3Server
from tests.support.tls import TlsProxy, tls_proxy

HOST = "s3.example.com"


def client(s3: S3Server, endpoint_url: str, **more: Any) -> Any:
    config = Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})
    arguments = {**s3.client_kwargs(), "endpoint_url": endpoint_url, "config": config, **more}
    return boto3.Session().client("s3", **arguments)


def listed(client: Any, s3: S3Server) -> int:
    return len(client.list_objects_v2(Bucket=s3.bucket).get("Contents", ()))


@pytest.fixture
def proxy(s3: S3Server) -> Any:
    with tls_proxy(s3.endpoint_url) as made:
        yield made


def test_a_stranger_gets_nothing_but_a_handshake(
    s3: S3Server, proxy: TlsProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who does not trust the proxy's authority sends it CONNECT and no request."""
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    with pytest.raises(SSLError):
        listed(client(s3, f"https://{HOST}"), s3)
    proxy.wait_for_refusal()
    assert proxy.asked == [f"{HOST}:443"]
    assert (proxy.handshakes, proxy.received) == (0, b"")


def test_who_trusts_its_authority_reaches_the_server(
    s3: S3Server, proxy: TlsProxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With the authority's bundle requests pass through to the server behind, signatures valid."""
    s3.boto_client().put_object(Bucket=s3.bucket, Key="a", Body=b"x")
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    assert listed(client(s3, f"https://{HOST}", verify=proxy.bundle(tmp_path)), s3) == 1
    assert proxy.asked == [f"{HOST}:443"]
    assert f"host: {HOST}".encode() in proxy.received.lower()


def test_it_is_a_server_as_well(s3: S3Server, proxy: TlsProxy, tmp_path: Path) -> None:
    """Without a proxy it can be spoken to right away, as an https address."""
    assert listed(client(s3, proxy.https_url, verify=proxy.bundle(tmp_path)), s3) == 0
    with pytest.raises(SSLError):
        listed(client(s3, proxy.https_url), s3)
    proxy.wait_for_refusal()
    assert proxy.asked == []
