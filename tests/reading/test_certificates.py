"""Whom S3 is read from: nobody without a certificate that is trusted, for the name it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from asynctrack import open_experiment, open_run, verify
from asynctrack._errors import BackendError
from tests.cli.conftest import Command, command
from tests.reading.making import WRITER, RunFolder, event
from tests.reading.spooling import SpoolFolder, bucket_of
from tests.reading.test_s3 import put
from tests.support.s3 import REGION, S3Server
from tests.support.tls import TlsProxy, tls_proxy

__all__ = ["command"]  # a fixture
pytestmark = pytest.mark.may_block("the event loop in here is the command's own, nobody's chain")

HOST = "https://s3.example.com"


@pytest.fixture
def place(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A Run in a bucket that has an https address; with credentials, and nothing that is trusted
    besides what everybody trusts."""
    folder = RunFolder(tmp_path / "runs")
    folder.artifact([event(1), event(2)])
    folder.manifest(WRITER)
    put(s3, tmp_path / "runs", "p/")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret_key)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setenv("AWS_ENDPOINT_URL", HOST)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    return f"s3://{s3.bucket}/p"


@pytest.fixture
def stranger(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[TlsProxy]:
    """A proxy that ends TLS, with the real server behind it."""
    with tls_proxy(s3.endpoint_url) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        yield proxy


def test_a_stranger_learns_nothing(place: str, stranger: TlsProxy) -> None:
    """Behind a proxy whose certificate nobody trusts, nothing is asked, at once, and the error
    names the settings."""
    for ask in (open_run, open_experiment, verify):
        with pytest.raises(BackendError, match=r"certificate.*AWS_CA_BUNDLE.*ca_bundle") as caught:
            ask(place)
        assert caught.value.code == "CertificateError"
    with pytest.raises(BackendError, match="AWS_CA_BUNDLE"):
        open_run(("jokes", "one"))  # SageMaker is asked
    assert len(stranger.asked) == 4 and len(set(stranger.asked)) == 1
    assert stranger.received == b""


def test_commands_say_it(
    place: str, s3: S3Server, stranger: TlsProxy, command: Command, tmp_path: Path
) -> None:
    """The command line and the viewer fail, and name the settings; a replay leaves all it has."""
    spool = SpoolFolder(tmp_path / "spool", bucket_of(s3.bucket, "p/x/", HOST))
    spool.segment([event(1)])
    spool.die()
    for arguments in (
        ("show", place),
        ("ls", place),
        ("view", place, "--no-open"),
        ("query", place, "SELECT 1"),
        ("spool", "replay", "--spool-dir", spool.spool_dir),
    ):
        printed = command(*arguments)
        assert printed.code == 1, arguments
        assert "AWS_CA_BUNDLE" in printed.out + printed.err, arguments
    assert stranger.received == b""
    assert spool.folder.segments()


def with_profile(monkeypatch: pytest.MonkeyPatch, bundle: str) -> None:
    config = Path(bundle).with_name("config")
    config.write_text(f"[profile gateway]\nca_bundle = {bundle}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", "gateway")


@pytest.mark.parametrize(
    "trust",
    [
        lambda patch, bundle: patch.setenv("AWS_CA_BUNDLE", bundle),
        lambda patch, bundle: patch.setenv("REQUESTS_CA_BUNDLE", bundle),
        with_profile,
    ],
)
def test_a_gateway_that_is_trusted(
    place: str,
    stranger: TlsProxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    trust: Callable[[pytest.MonkeyPatch, str], None],
) -> None:
    """With its authority in the environment or the profile, reading goes through it."""
    trust(monkeypatch, stranger.bundle(tmp_path))
    assert [one.seq for one in open_run(place).events()] == [1, 2]
    assert set(stranger.asked) == {"s3.example.com:443"}


@pytest.mark.parametrize("way", ["proxy", "address"])
def test_a_certificate_for_another_name(
    place: str, s3: S3Server, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An authority that is trusted does not make everybody the one who was asked for."""
    with tls_proxy(s3.endpoint_url, shows="other.example.com") as proxy:
        monkeypatch.setenv("AWS_CA_BUNDLE", proxy.bundle(tmp_path))
        if way == "proxy":
            monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        else:
            monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.https_url)
        with pytest.raises(BackendError, match="CertificateError"):
            open_run(place)
        assert proxy.received == b""
