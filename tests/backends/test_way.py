"""Which S3 a bucket is of, and who may deliver what another writer left."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from aiobotocore.session import AioSession
from botocore.endpoint_provider import RuleSet

from asynctrack._backends.aws import AwsBackend
from asynctrack._backends.belonging import belongs
from asynctrack._backends.pool import ClientPool
from asynctrack._backends.run import read_run
from asynctrack._backends.way import remember_endpoint, store_of

MINIO = "http://minio.example.com:9000"
OURS = {
    "kind": "s3", "bucket": "b", "root": "p/r/", "region": "eu-west-1", "endpoint_url": None,
    "run": "https://api.sagemaker.eu-west-1.amazonaws.com/e-r", "reached": False,
}  # fmt: skip


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ((None, "us-east-1"), (None, "eu-west-1"), True),
        ((None, None), (None, "eu-west-1"), True),
        ((None, "cn-north-1"), (None, "eu-west-1"), False),
        ((None, "us-gov-west-1"), (None, "us-west-1"), False),
        (("https://s3.eu-west-1.amazonaws.com", None), (None, "us-east-1"), True),
        (("https://bucket.vpce-1.s3.eu-west-1.vpce.amazonaws.com", None), (None, None), True),
        ((MINIO, "us-east-1"), (f"{MINIO}/", "eu-west-1"), True),
        ((MINIO, None), (None, None), False),
        ((MINIO, None), ("http://minio.example.com:9001", None), False),
        (("http://localhost:9000", None), ("http://127.0.0.1:9000", None), True),
        (("https://amazonaws.com.example.com", None), (None, None), False),
        (("http://[broken", None), (None, None), False),
    ],
)
def test_what_a_buckets_name_is_unique_in(first: Any, second: Any, same: bool) -> None:
    """In AWS a bucket is one in all regions of a partition; elsewhere it is its endpoint's."""
    assert (store_of(*first) == store_of(*second)) is same


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"region": "us-east-1"}, True),  # a wrong region that was mended
        ({"bucket": "another", "root": "q/"}, True),  # another Run's, in the same AWS
        ({"endpoint_url": MINIO}, True),  # never reached anything, and the same Run
        ({"endpoint_url": MINIO, "reached": True}, False),
        ({"endpoint_url": MINIO, "run": "another"}, False),
        ({"endpoint_url": MINIO, "bucket": "another"}, False),
        ({"endpoint_url": MINIO, "root": "q/"}, False),
        ({"bucket": None}, True),  # it died before it knew the default bucket
        ({"bucket": None, "region": "us-east-1"}, False),
        ({"bucket": None, "endpoint_url": MINIO}, False),
        ({"kind": "folder"}, False),
    ],
)
def test_who_may_deliver_what_another_left(changes: dict[str, Any], expected: bool) -> None:
    """Events go to their own S3; those that never reached one go where the same Run goes now."""
    assert belongs({**OURS, **changes}, OURS) is expected


def test_what_older_versions_left_has_reached_its_store() -> None:
    """A description that does not say so is taken for one of a store that works."""
    theirs = {name: value for name, value in OURS.items() if name != "reached"}
    assert not belongs({**theirs, "endpoint_url": MINIO}, OURS)
    for bucket in ("b", None):
        there = {"endpoint_url": "https://s3.eu-west-1.amazonaws.com", "bucket": bucket}
        assert belongs({**theirs, **there}, OURS)


# -- what a writer says that died before it had asked anything -------------------------------------

AWS_SAGEMAKER = "https://api.sagemaker.eu-west-1.amazonaws.com"
THEIRS = {
    "kind": "s3", "bucket": None, "default": True, "root": "p/t/", "region": "eu-west-1",
    "endpoint_url": None, "run": f"{AWS_SAGEMAKER}/e-t", "profile": "mine", "reached": False,
}  # fmt: skip
"""Another Run's, of the same session."""
HERE = {**OURS, "profile": "mine", "default": True}
UNKNOWN = object()


def without(description: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A description with changes; what is unknown is left out."""
    return {name: one for name, one in {**description, **changes}.items() if one is not UNKNOWN}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"endpoint_url": UNKNOWN}, True),
        ({"profile": "theirs"}, False),  # perhaps another account
        ({"profile": UNKNOWN}, False),
        ({"region": "us-east-1"}, False),  # each region has a default bucket of its own
        ({"region": None, "endpoint_url": UNKNOWN}, False),
        ({"run": "https://sagemaker.example.com/e-t"}, False),
        ({"run": UNKNOWN}, False),
        ({"endpoint_url": MINIO}, False),
        ({"endpoint_url": "https://s3.eu-west-1.amazonaws.com"}, True),
        # The same Run, which had a wrong address of S3 and never got anything there.
        ({"endpoint_url": MINIO, "run": OURS["run"], "root": OURS["root"]}, True),
        ({"endpoint_url": MINIO, "run": OURS["run"], "root": OURS["root"], "reached": True}, False),
        # The bucket is given, and nothing is known of the S3 that it is in but the session.
        ({"bucket": "given", "default": UNKNOWN, "endpoint_url": UNKNOWN}, True),
        ({"bucket": "given", "default": UNKNOWN, "endpoint_url": UNKNOWN, "profile": "x"}, False),
        ({"bucket": "given", "default": UNKNOWN, "endpoint_url": UNKNOWN, "region": "x"}, False),
        ({"bucket": "b", "default": UNKNOWN, "endpoint_url": UNKNOWN, "region": "x",
          "run": OURS["run"], "root": OURS["root"]}, True),
        # The bucket is given, and the address of S3 known: that is all that it takes.
        ({"bucket": "given", "default": UNKNOWN, "profile": "theirs", "run": "x/y"}, True),
        ({"bucket": "sagemaker-eu-west-1-1", "profile": "theirs"}, True),
    ],
)  # fmt: skip
def test_who_may_deliver_what_is_not_described_in_full(
    changes: dict[str, Any], expected: bool
) -> None:
    """It takes the same SageMaker, region and profile where S3 or the bucket is not known yet."""
    assert belongs(without(THEIRS, changes), HERE) is expected


@pytest.mark.parametrize("ours", [{}, {"bucket": "mine", "default": UNKNOWN}])
def test_the_default_bucket_is_found_out_by_who_has_another(ours: dict[str, Any]) -> None:
    """Whoever reaches the account may deliver, also with a bucket of its own."""
    assert belongs(THEIRS, without(HERE, ours))


def test_a_mended_address_leads_into_no_other_bucket() -> None:
    """What was meant for the default bucket does not go into the one that the Run has now."""
    theirs = without(THEIRS, {"endpoint_url": MINIO, "run": OURS["run"], "root": OURS["root"]})
    assert not belongs(theirs, without(HERE, {"bucket": "mine", "default": UNKNOWN}))


def session(**more: Any) -> Any:
    client = SimpleNamespace(
        meta=SimpleNamespace(endpoint_url=AWS_SAGEMAKER, region_name="eu-west-1")
    )
    boto = SimpleNamespace(get_credentials=lambda: None, profile_name="mine")
    return SimpleNamespace(
        boto_session=boto, sagemaker_client=client, sagemaker_metrics_client=client, **more
    )


def sdks() -> str:
    raise AssertionError("nobody is asked")


sdks.__module__ = "sagemaker.session"
DEFAULT = {
    "_default_bucket": None, "_default_bucket_name_override": None, "default_bucket": sdks,
}  # fmt: skip


@pytest.mark.parametrize(
    ("given", "bucket", "its_session", "expected"),
    [
        ({}, "the-runs", {}, {"bucket": "the-runs", "root": "p/"}),
        ({"bucket": "given"}, None, DEFAULT, {"bucket": "given", "root": "p/"}),
        ({"bucket": "given", "prefix": "q/r"}, "the-runs", {}, {"bucket": "given", "root": "q/r/"}),
        # A session whose idea of a default bucket is its own.
        ({}, None, {"default_bucket": lambda: "b"}, {"bucket": None, "root": "p/"}),
        ({}, None, DEFAULT, {"bucket": None, "default": True, "root": "p/"}),
        ({"prefix": ""}, None, DEFAULT, {"bucket": None, "default": True, "root": ""}),
        (
            {},
            None,
            {**DEFAULT, "_default_bucket_name_override": "named", "default_bucket_prefix": "all"},
            {"bucket": "named", "root": "all/p/"},
        ),
        (
            {},
            None,
            {**DEFAULT, "_default_bucket": "sagemaker-eu-west-1-1"},
            {"bucket": "sagemaker-eu-west-1-1", "default": True, "root": "p/"},
        ),
    ],
)
@pytest.mark.parametrize("s3", [True, False])
def test_what_is_known_before_anything_is_asked(
    given: dict[str, Any], bucket: str | None, its_session: dict[str, Any],
    expected: dict[str, Any], s3: bool,
) -> None:  # fmt: skip
    """Where events belong is said from the start, and what is not known is not made up."""
    own = session(**its_session)
    meta = SimpleNamespace(endpoint_url="https://s3.eu-west-1.amazonaws.com")
    client = SimpleNamespace(meta=SimpleNamespace(**vars(meta), region_name="eu-west-1"))
    run = SimpleNamespace(
        experiment_config={"RunName": "e-r"},
        experiment_name="e",
        run_name="r",
        _artifact_uploader=SimpleNamespace(
            sagemaker_session=own,
            artifact_bucket=bucket,
            artifact_prefix="p",
            _s3_client=client if s3 else None,
        ),
    )
    backend = AwsBackend(
        run, read_run(run), pool=ClientPool(), **{"bucket": None, "prefix": None, **given}
    )
    found = dict(backend.destination())
    expected = {**expected, "root": f"{expected['root']}asynctrack/v1/experiment=e/run=r/"}
    assert found == {
        "kind": "s3", "region": "eu-west-1", "run": f"{AWS_SAGEMAKER}/e-r", "profile": "mine",
        "reached": False, **({"endpoint_url": None} if s3 else {}), **expected,
    }  # fmt: skip


_BUCKETS = ["plain", "with.dots", "arn:aws:s3:eu-west-1:123456789012:accesspoint/mine"]
_KEYS = ["a", "run=r/seq=1-16.jsonl.zst", "with space/ü/~+=&?#", "/leading", "x" * 900]


@pytest.mark.may_block("the test makes clients, which reads botocore's models")
async def test_an_endpoint_is_found_once_for_each_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key decides nothing about where a request goes, so nothing is worked out again for it."""
    session = AioSession()
    session.set_credentials("AKIAEXAMPLE", "secret")
    asked: list[Any] = []
    original = RuleSet.evaluate

    def evaluate(self: RuleSet, parameters: dict[str, Any]) -> Any:
        asked.append(parameters)
        return original(self, parameters)

    monkeypatch.setattr(RuleSet, "evaluate", evaluate)

    async def addresses(s3: Any) -> list[str]:
        made = [
            await s3.generate_presigned_url("put_object", {"Bucket": bucket, "Key": key})
            for bucket in _BUCKETS
            for key in _KEYS
        ]
        return [url.partition("?")[0] for url in made]

    async with session.create_client("s3", region_name="eu-west-1") as usual:
        expected = await addresses(usual)
    asked.clear()
    async with session.create_client("s3", region_name="eu-west-1") as ours:
        remember_endpoint(ours)
        assert await addresses(ours) == expected
    assert len(asked) == len(_BUCKETS)
