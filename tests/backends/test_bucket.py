"""``tracker("s3://bucket/prefix")``: S3 as the environment reaches it, without SageMaker."""

from __future__ import annotations

import asyncio

import pytest
from langchain_core.runnables import RunnableLambda

from asynctrack import OptionError, open_run, tracker, verify
from tests.support.auditor import assert_exactly_once, audit_folder
from tests.support.proxy import FaultProxy
from tests.support.s3 import REGION, S3Server
from tests.support.trees import counted

SHOUT = RunnableLambda(str.upper).with_config(run_name="shout")


@pytest.fixture(autouse=True)
def environment(s3: S3Server, s3_proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """What boto3 finds: this server, by way of the proxy."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_proxy.endpoint_url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret_key)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)


async def test_events_parameters_and_metrics_are_there(s3: S3Server) -> None:
    """Below the address and the prefix, in the layout of a Run; read back by the address."""
    address = f"s3://{s3.bucket}/team"
    async with tracker(
        address,
        prefix="a",
        experiment_name="e",
        run_name="r",
        s3_options={"StorageClass": "STANDARD"},
    ) as handler:
        await SHOUT.ainvoke("hello", config={"callbacks": [handler]})
        handler.log_parameters({"k": 7})
        handler.log_metric("score", 0.5)
    assert handler.statistics().delivered == handler.statistics().accepted == 4
    folder = s3.folder / "team/a/asynctrack/v1/experiment=e/run=r"
    assert await asyncio.to_thread((folder / "_manifest").is_dir)
    assert_exactly_once(await asyncio.to_thread(audit_folder, s3.folder), 4)
    assert (await asyncio.to_thread(verify, address)).ok
    run = await asyncio.to_thread(open_run, address)
    assert await asyncio.to_thread(lambda: run.parameters) == {"k": 7}


def test_what_an_outage_left_the_next_tracker_delivers(
    s3: S3Server, s3_proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the spool, into the Run where it belongs; a second tracker's own, too."""
    # A closing waits for what others have left, here however slow the machine is.
    monkeypatch.setattr("asynctrack._engine.closing.REPLAY_GRACE", 120.0)
    address = f"s3://{s3.bucket}/team"
    s3_proxy.refuse()
    with tracker(address, run_name="first", close_patience=0.1, close_timeout=20.0) as handler:
        SHOUT.invoke("left", config={"callbacks": [handler]})
    assert handler.statistics().spooled == 2
    s3_proxy.heal()
    with tracker(address, run_name="second") as handler:
        SHOUT.invoke("own", config={"callbacks": [handler]})
    assert handler.statistics().replayed == 2
    assert counted(s3.folder) == {"shout": 2}
    assert {one.key.partition("run=")[2][:5] for one in audit_folder(s3.folder).objects} == {
        "first",
        "secon",
    }


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("s3://", "an S3 bucket's name"),
        ("s3://No_Bucket/x", "an S3 bucket's name"),
        ("s3://bucket/a//b", "names between single slashes"),
        ("s3://bucket/../b", "names between single slashes"),
    ],
)
def test_an_address_that_is_none_is_refused(address: str, allowed: str) -> None:
    """The text says what one looks like."""
    with pytest.raises(OptionError, match=f"run must be s3://bucket/prefix: {allowed}"):
        tracker(address)


def test_the_address_names_the_bucket() -> None:
    """So nothing else does; an access point is one, with slashes of its own."""
    with pytest.raises(OptionError, match="left out with an address"):
        tracker("s3://bucket/prefix", bucket="other")
    point = "arn:aws:s3:eu-central-1:123456789012:accesspoint/mine"
    assert "default/run-" in repr(tracker(f"s3://{point}/prefix"))
