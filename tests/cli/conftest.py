"""Fixtures of the command line's tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from asynctrack.cli import main
from tests.reading.spooling import writers_die as writers_die  # for every test here
from tests.reading.test_s3 import put
from tests.support.s3 import REGION, S3Server


@dataclass(frozen=True)
class Printed:
    """What a command gave."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Its output, parsed."""
        return json.loads(self.out)


Command = Callable[..., Printed]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """The command line in this process."""

    def run(*arguments: object) -> Printed:
        code = main([str(one) for one in arguments])
        printed = capsys.readouterr()
        return Printed(code, printed.out, printed.err)

    return run


@pytest.fixture
def bucket(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], list[str]]:
    """Stores a folder in S3; returns the address and the option that names the server."""

    def store(folder: Path) -> list[str]:
        put(s3, folder / "asynctrack", "team/asynctrack/")
        return [f"s3://{s3.bucket}/team", f"--endpoint-url={s3.endpoint_url}"]

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret_key)
    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    return store
