"""The way to S3 is the Run's way: whatever has set it, ours leaves as the Run's own client does."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import botocore.session
import pytest
from botocore import UNSIGNED
from botocore.config import Config

from asynctrack import tracker
from asynctrack._backends.aws import AwsBackend
from asynctrack._backends.pool import ClientPool
from asynctrack._backends.run import read_run
from asynctrack._backends.s3_read import split_uri
from tests.e2e.runs import loader
from tests.e2e.waiting import until_in_thread
from tests.faults.ground import EVENTS, Ground, elsewhere, end, outputs
from tests.support.aws_s3 import AwsS3, Put, aws_s3, serving
from tests.support.faults import Answer
from tests.support.proxy import FaultProxy, fault_proxy
from tests.support.s3 import rclone_s3
from tests.support.tls import TlsProxy, tls_proxy

# What the Run's own client says of verify=False, which is a row of the table.
pytestmark = pytest.mark.filterwarnings("ignore:Unverified HTTPS request")

BUCKET = "events-of-mine"
POINT = "arn:aws:s3:us-west-2:123456789012:accesspoint/mine"
OWN_ADDRESS = "https://objects.example.com"
CONTENT = b"a line\n"
CRC32 = zlib.crc32(CONTENT)


@dataclass(frozen=True)
class Setting:
    """What somebody has set, and where.

    Attributes:
        profile: Lines of the profile in AWS's configuration.
        more: Further lines of that file.
        environment: Variables, over those that all have.
        default: The session's default client configuration.
        client: Arguments of the Run's client.
        bucket: Where it goes.
        agent: What must stand in the User-Agent.
    """

    profile: str = ""
    more: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    default: Mapping[str, Any] | None = None
    client: Mapping[str, Any] = field(default_factory=dict)
    bucket: str = BUCKET
    agent: str = ""


SETTINGS = {
    "nothing": Setting(),
    "region": Setting("region = eu-central-1"),
    "region of the client": Setting("region = eu-central-1", client={"region_name": "us-west-2"}),
    "addressing_style = virtual": Setting("s3 =\n  addressing_style = virtual"),
    "addressing_style = path": Setting("s3 =\n  addressing_style = path"),
    "virtual at an address of one's own": Setting(
        f"endpoint_url = {OWN_ADDRESS}\ns3 =\n  addressing_style = virtual"
    ),
    "endpoint_url of the profile": Setting(f"endpoint_url = {OWN_ADDRESS}"),
    "endpoint_url of the service": Setting(
        "services = mine", f"[services mine]\ns3 =\n  endpoint_url = {OWN_ADDRESS}"
    ),
    "AWS_ENDPOINT_URL_S3": Setting(environment={"AWS_ENDPOINT_URL_S3": OWN_ADDRESS}),
    "endpoint_url of the client": Setting(client={"endpoint_url": OWN_ADDRESS}),
    "ignore_configured_endpoint_urls": Setting(
        environment={"AWS_ENDPOINT_URL_S3": OWN_ADDRESS},
        default={"ignore_configured_endpoint_urls": True},
    ),
    "use_accelerate_endpoint": Setting("s3 =\n  use_accelerate_endpoint = true"),
    "use_dualstack_endpoint": Setting("use_dualstack_endpoint = true"),
    "dual stack for S3 alone": Setting("s3 =\n  use_dualstack_endpoint = true"),
    "use_fips_endpoint": Setting("use_fips_endpoint = true"),
    "us_east_1_regional_endpoint": Setting("s3 =\n  us_east_1_regional_endpoint = regional"),
    "us_east_1 as it was": Setting("s3 =\n  us_east_1_regional_endpoint = legacy"),
    "defaults_mode": Setting("defaults_mode = standard"),
    "payload_signing_enabled": Setting("s3 =\n  payload_signing_enabled = true"),
    "sdk_ua_app_id": Setting("sdk_ua_app_id = theirs", agent="app/theirs"),
    "ca_bundle of the profile": Setting("ca_bundle = {bundle}", environment={"AWS_CA_BUNDLE": ""}),
    "REQUESTS_CA_BUNDLE": Setting(
        environment={"AWS_CA_BUNDLE": "", "REQUESTS_CA_BUNDLE": "{bundle}"}
    ),
    "verify of the client": Setting(
        environment={"AWS_CA_BUNDLE": ""}, client={"verify": "{bundle}"}
    ),
    "verify=False": Setting(environment={"AWS_CA_BUNDLE": ""}, client={"verify": False}),
    "proxies of the default": Setting(
        environment={"HTTPS_PROXY": ""}, default={"proxies": {"https": "{proxy}"}}
    ),
    "s3 of the default": Setting(default={"s3": {"addressing_style": "path"}}),
    "signature_version s3": Setting(default={"signature_version": "s3"}),
    "unsigned": Setting(default={"signature_version": UNSIGNED}),
    "user_agent_extra": Setting(default={"user_agent_extra": "theirs/1"}, agent="theirs/1"),
    "user_agent": Setting(default={"user_agent": "theirs/2"}, agent="theirs/2"),
    "user_agent_appid": Setting(default={"user_agent_appid": "theirs"}, agent="app/theirs"),
    "dual stack of the default": Setting(default={"use_dualstack_endpoint": True}),
    "fips of the client": Setting(client={"config": Config(use_fips_endpoint=True)}),
    "a config of the client": Setting(
        client={"config": Config(s3={"addressing_style": "path"}, region_name="eu-west-1")}
    ),
    "an access point": Setting("region = us-west-2", bucket=POINT),
    "an access point in another region": Setting(bucket=POINT),
    "an access point by its client's region": Setting(
        "region = us-west-2\ns3 =\n  use_arn_region = false", bucket=POINT
    ),
    "AWS_PROFILE that does not exist": Setting(environment={"AWS_PROFILE": "nobody"}),
}

SAME = ("content-type", "x-amz-content-sha256", "x-amz-checksum-crc32", "x-amz-security-token")


@pytest.fixture
def amazon() -> Iterator[AwsS3]:
    with aws_s3() as made:
        yield made


@pytest.fixture
def proxy(amazon: AwsS3) -> Iterator[TlsProxy]:
    with tls_proxy(amazon.endpoint_url) as made:
        yield made


Session = Callable[[Setting], Any]


@pytest.fixture
def make_session(proxy: TlsProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    """Make a boto3 session as somebody has set it, whose requests go through the proxy."""

    def make(setting: Setting) -> Any:
        bundle = proxy.bundle(tmp_path)

        def filled(value: Any) -> Any:
            if isinstance(value, str):
                return value.replace("{bundle}", bundle).replace("{proxy}", proxy.url)
            return (
                {name: filled(one) for name, one in value.items()}
                if isinstance(value, dict)
                else value
            )

        path = tmp_path / "config"
        path.write_text(
            "[profile theirs]\naws_access_key_id = AKIDTHEIRS\naws_secret_access_key = secret\n"
            f"{'' if 'region =' in setting.profile else 'region = us-east-1'}\n"
            f"{filled(setting.profile)}\n{setting.more}\n"
        )
        for name in ("AWS_ENDPOINT_URL_S3", "AWS_PROFILE", "REQUESTS_CA_BUNDLE"):
            monkeypatch.delenv(name, raising=False)
        environment = {
            "AWS_CONFIG_FILE": str(path),
            "AWS_CA_BUNDLE": bundle,
            "HTTPS_PROXY": proxy.url,
            **filled(dict(setting.environment)),
        }
        for name, value in environment.items():
            if value:
                monkeypatch.setenv(name, value)
            else:
                monkeypatch.delenv(name, raising=False)
        underneath = botocore.session.Session(profile="theirs")
        underneath.register_component("data_loader", loader())
        if setting.default is not None:
            underneath.set_default_client_config(Config(**filled(dict(setting.default))))
        session = boto3.Session(botocore_session=underneath)
        session.theirs = session.client("s3", **filled(dict(setting.client)))
        return session

    return make


def run_of(session: Any, bucket: str = BUCKET) -> Any:
    """What ``tracker`` takes, with that session's clients."""
    other = {"region_name": "us-east-1", "endpoint_url": "http://127.0.0.1:9"}
    return SimpleNamespace(
        experiment_config={"RunName": "e-r"},
        experiment_name="e",
        run_name="r",
        _artifact_uploader=SimpleNamespace(
            sagemaker_session=SimpleNamespace(
                boto_session=session,
                sagemaker_client=session.client("sagemaker", **other),
                sagemaker_metrics_client=session.client("sagemaker-metrics", **other),
            ),
            artifact_bucket=bucket,
            artifact_prefix="p",
            _s3_client=session.theirs,
        ),
    )


def backend_of(run: Any, pool: ClientPool) -> AwsBackend:
    return AwsBackend(run, read_run(run), pool=pool, bucket=None, prefix=None)


def put_ours(run: Any, times: int = 1) -> None:
    """Store an object as the tracker does."""

    async def main() -> None:
        pool = ClientPool()
        backend = backend_of(run, pool)
        await backend.open()
        try:
            for number in range(times):
                await backend.put(f"o-{number}", CONTENT, crc32=CRC32, media_type="text/plain")
        finally:
            await backend.aclose()
            await pool.aclose()

    elsewhere(main)


def put_theirs(run: Any) -> None:
    """Store the same with the Run's own client."""
    run._artifact_uploader._s3_client.put_object(
        Bucket=run._artifact_uploader.artifact_bucket,
        Key="p/asynctrack/v1/experiment=e/run=r/o-0",
        Body=CONTENT,
        ContentType="text/plain",
        ChecksumCRC32=base64.b64encode(CRC32.to_bytes(4, "big")).decode(),
    )


def seen(put: Put) -> dict[str, Any]:
    """What two requests must have in common."""
    authorization = put.headers.get("authorization", "")
    key, _, scope = authorization.partition("Credential=")[2].partition(",")[0].partition("/")
    return {
        "host": put.host,
        "path": put.path,
        "body": put.body,
        "signed by": authorization.partition(" ")[0],
        # Of the scope all but the day, which may be another one by then.
        "signed for": [key, *scope.split("/")[1:]],
        **{name: put.headers.get(name) for name in SAME},
    }


@pytest.mark.parametrize("name", SETTINGS)
def test_ours_leaves_as_theirs(
    name: str, make_session: Session, amazon: AwsS3, proxy: TlsProxy
) -> None:
    """Each setting that changes how a request leaves changes ours alike."""
    setting = SETTINGS[name]
    run = run_of(make_session(setting), setting.bucket)
    put_theirs(run)
    put_ours(run)
    theirs, ours = amazon.puts
    assert seen(ours) == seen(theirs)
    assert proxy.asked[0] == proxy.asked[1]
    for put in amazon.puts:
        assert setting.agent in put.headers["user-agent"]


def test_the_table_makes_a_difference(make_session: Session, amazon: AwsS3) -> None:
    """The settings are no empty words: they make requests of many kinds."""
    kinds = set()
    for setting in SETTINGS.values():
        put_theirs(run_of(make_session(setting), setting.bucket))
        kinds.add(str(seen(amazon.puts[-1])))
    assert len(kinds) >= 12


def test_a_client_certificate_is_shown(
    make_session: Session, tmp_path: Path, proxy: TlsProxy
) -> None:
    """The certificate that the Run's client shows is shown by ours."""
    pair = proxy.client_certificate(tmp_path)
    setting = Setting(default={"client_cert": pair})
    run = run_of(make_session(setting))
    proxy.ask_for_certificates()
    put_theirs(run)
    put_ours(run)
    theirs, ours = proxy.shown
    assert ours == theirs != b""


def test_a_bucket_in_another_region(make_session: Session, amazon: AwsS3) -> None:
    """Where S3 says that a bucket lives elsewhere, it is asked there, and only there afterwards."""
    amazon.regions[BUCKET] = "eu-central-1"
    put_ours(run_of(make_session(Setting())), times=3)
    hosts = [(put.host.removeprefix(f"{BUCKET}."), put.status) for put in amazon.puts]
    there = ("s3.eu-central-1.amazonaws.com", 200)
    assert hosts == [("s3.amazonaws.com", 301), there, there, there]


def test_a_redirect_is_not_followed_to_anybody(
    ground: Ground, s3_proxy: FaultProxy, amazon: AwsS3
) -> None:
    """A redirect to another address is nobody's word: nothing goes there, and it is tried again."""
    elsewhere_of_theirs = {"Location": f"{amazon.endpoint_url}/there"}
    for status in (301, 302, 307, 308):
        s3_proxy.add(
            Answer(status, body=b"", headers=elsewhere_of_theirs),
            path=EVENTS,
            method="PUT",
            times=1,
        )
    with tracker(ground.run(), max_delay=0.01) as handler:
        for number in range(4):
            end(handler, number)
    assert handler.statistics().delivered == 4
    assert ground.problems() == []
    assert amazon.puts == []


def run_with(ground: Ground, session: Any) -> Any:
    """The Run of the ground, with the credentials of a session of boto3's."""
    run = ground.run()
    run._artifact_uploader.sagemaker_session.boto_session = session
    return run


@pytest.mark.parametrize("kind", ["file", "environment"])
def test_replaced_credentials_are_taken(
    kind: str, ground: Ground, s3_proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys that somebody replaces where they came from are used once the old ones are refused."""
    path = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))

    def replace(key: str, secret: str) -> None:
        if kind == "file":
            path.write_text(
                f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n"
            )
        else:
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)

    replace("AKIDOLD", "old")
    expired = s3_proxy.add(
        Answer(400, code="ExpiredToken"),
        when=lambda request: "AKIDOLD" in request.headers["authorization"],
    )
    run = run_with(ground, boto3.Session())
    with tracker(run, max_delay=0.01) as handler:
        end(handler, 1)
        s3_proxy.wait_for(lambda seen: bool(expired.applied))
        replace(ground.place.access_key, ground.place.secret_key)
    assert handler.statistics().delivered == 1
    assert ground.problems() == []


def test_keys_in_the_code_are_nobodys_to_replace(
    ground: Ground, s3_proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a session was given its keys, no others are looked for when they are refused."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ground.place.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", ground.place.secret_key)
    s3_proxy.add(Answer(400, code="ExpiredToken"), times=3)
    run = run_with(ground, boto3.Session("AKIDMINE", "mine"))
    with tracker(run, max_delay=0.01, close_patience=0.5) as handler:
        end(handler, 1)
        seen = s3_proxy.wait_for(lambda seen: len(seen) >= 3)
    assert all("AKIDMINE" in request.headers["authorization"] for request in seen)
    assert handler.statistics().spooled == 1


def test_an_address_that_is_mended(ground: Ground) -> None:
    """What was meant for a wrong address is delivered by the next tracker of the same Run."""
    wrong = ground.at(s3_url="http://127.0.0.1:9")
    with tracker(wrong.run(), max_delay=0.01, close_patience=0.5) as handler:
        end(handler, "first")
    assert handler.statistics().spooled == 1
    with tracker(ground.run(), max_delay=0.01) as handler:
        end(handler, "second")
        until_in_thread(lambda: handler.statistics().replayed == 1)
    assert handler.statistics().replayed == 1
    assert sorted(outputs(ground.events())) == ["first", "second"]
    assert ground.problems() == []


def test_another_store_is_not_a_mended_address(ground: Ground, tmp_path: Path) -> None:
    """What has once reached its store waits for it: it is not sent to another, for the same Run."""
    with rclone_s3(tmp_path / "other") as other:
        client = other.boto_client()
        client.create_bucket(Bucket=ground.place.bucket)
        client.close()
        there = ground.at(
            s3_url=other.endpoint_url, access_key=other.access_key, secret_key=other.secret_key
        )
        with fault_proxy(other.endpoint_url) as proxy:
            with tracker(
                there.at(s3_url=proxy.endpoint_url).run(),
                max_delay=0.01, close_patience=1.0,
            ) as handler:  # fmt: skip
                end(handler, "there")
                assert handler.flush()
                proxy.refuse()
                end(handler, "there, later")
            assert handler.statistics().spooled >= 1
            with tracker(ground.run(), max_delay=0.01) as handler:
                end(handler, "here")
    assert handler.statistics().replayed == 0
    assert outputs(ground.events()) == ["here"]


class Renewing:
    """Gives out keys that run out in a minute: botocore asks for new ones at each request."""

    def __init__(self) -> None:
        self.keys = ("", "")
        self.asked = 0

    def answer(self) -> dict[str, Any]:
        self.asked += 1
        soon = datetime.now(timezone.utc) + timedelta(minutes=1)
        key, secret = self.keys
        return {
            "Version": 1, "AccessKeyId": key, "SecretAccessKey": secret,
            "SessionToken": "token", "Token": "token",
            "Expiration": soon.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }  # fmt: skip


@pytest.fixture
def container(monkeypatch: pytest.MonkeyPatch) -> Iterator[Renewing]:
    """What a container's agent gives out, over HTTP."""
    renewing = Renewing()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = json.dumps(renewing.answer()).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with serving(Handler) as address:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", address)
        yield renewing


def test_credentials_of_a_container_are_renewed(
    ground: Ground, s3_proxy: FaultProxy, container: Renewing
) -> None:
    """Keys that expire are renewed by who gave them, as for the Run's own client."""
    container.keys = ("AKIDFIRST", "first")
    s3_proxy.add(
        Answer(403, code="SignatureDoesNotMatch"),
        when=lambda request: "AKIDFIRST" in request.headers["authorization"],
    )
    run = run_with(ground, boto3.Session())
    with tracker(run, max_delay=0.01) as handler:
        end(handler, 1)
        s3_proxy.wait_for(lambda seen: bool(seen))
        container.keys = (ground.place.access_key, ground.place.secret_key)
    assert handler.statistics().delivered == 1
    assert container.asked >= 2


def test_credentials_of_a_process_are_renewed(
    ground: Ground, s3_proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that prints keys is run again when they expire."""
    renewing, printed = Renewing(), tmp_path / "keys.json"
    config = tmp_path / "config"
    config.write_text(f"[default]\ncredential_process = cat {printed}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    renewing.keys = ("AKIDFIRST", "first")
    printed.write_text(json.dumps(renewing.answer()))
    s3_proxy.add(
        Answer(403, code="SignatureDoesNotMatch"),
        when=lambda request: "AKIDFIRST" in request.headers["authorization"],
    )
    run = run_with(ground, boto3.Session())
    with tracker(run, max_delay=0.01) as handler:
        end(handler, 1)
        s3_proxy.wait_for(lambda seen: bool(seen))
        renewing.keys = (ground.place.access_key, ground.place.secret_key)
        printed.with_suffix(".new").write_text(json.dumps(renewing.answer()))
        printed.with_suffix(".new").replace(printed)
    assert handler.statistics().delivered == 1


def test_an_access_point_from_end_to_end(make_session: Session, amazon: AwsS3) -> None:
    """A Run whose bucket is an access point is tracked into, and its address leads back there."""
    session = make_session(Setting("region = us-west-2"))
    run = run_of(session, POINT)
    with tracker(run, max_delay=0.01, close_timeout=60.0, close_patience=3.0) as handler:
        end(handler, 1)
        until_in_thread(lambda: handler.statistics().delivered == 1)
    assert handler.statistics().delivered == 1
    host = "mine-123456789012.s3-accesspoint.us-west-2.amazonaws.com"
    assert all(one.startswith(f"{host}/p/asynctrack/v1/") for one in amazon.stored)
    assert split_uri(f"s3://{POINT}/p/a") == (POINT, "p/a")
    assert split_uri(f"s3://{POINT.replace('/', ':')}/p") == (POINT.replace("/", ":"), "p")
