"""Which S3 a bucket is of, and who may deliver what another writer left."""

from __future__ import annotations

from typing import Any

import pytest

from asynctrack._backends.belonging import belongs
from asynctrack._backends.way import store_of

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
