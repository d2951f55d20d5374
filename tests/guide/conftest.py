"""Fixtures for what the pages show."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import heavy_imports, make_run
from tests.support.s3 import REGION, S3Server

__all__ = ["heavy_imports", "make_run"]  # pytest finds fixtures by their names here


@pytest.fixture
def users_s3(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """S3 where a user's would be: the environment says where, and with which keys."""
    settings = {
        "AWS_ENDPOINT_URL_S3": s3.endpoint_url,
        "AWS_ACCESS_KEY_ID": s3.access_key,
        "AWS_SECRET_ACCESS_KEY": s3.secret_key,
        "AWS_DEFAULT_REGION": REGION,
        # rclone answers a ranged GET with the checksum of the whole object.
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return s3
