"""The real S3 server of the tests."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

from tests.support.s3 import S3Server


def test_objects_are_files_of_the_bucket(s3: S3Server) -> None:
    """What a client puts is read back by a client, and is a file on disk."""
    client = s3.boto_client()
    client.put_object(Bucket=s3.bucket, Key="run=1/dt=2026-01-01/w-1-2.jsonl", Body=b"abcdef")
    got = client.get_object(
        Bucket=s3.bucket, Key="run=1/dt=2026-01-01/w-1-2.jsonl", Range="bytes=1-2"
    )
    assert got["Body"].read() == b"bc"
    assert (s3.folder / "run=1/dt=2026-01-01/w-1-2.jsonl").read_bytes() == b"abcdef"


def test_each_test_has_an_empty_bucket(s3: S3Server, s3_server: S3Server) -> None:
    """A bucket of a test holds nothing, whatever was put into other buckets of the server."""
    client = s3.boto_client()
    client.put_object(Bucket=s3_server.bucket, Key="other", Body=b"x")
    assert client.list_objects_v2(Bucket=s3.bucket).get("Contents", []) == []
    assert "Contents" in client.list_objects_v2(Bucket=s3_server.bucket)


def test_signatures_are_checked(s3: S3Server) -> None:
    """A request signed with another secret is refused, and nothing is stored."""
    client = replace(s3, secret_key="wrong").boto_client()
    with pytest.raises(ClientError) as caught:
        client.put_object(Bucket=s3.bucket, Key="a", Body=b"x")
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert list(s3.folder.iterdir()) == []


def test_server_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    """After SIGKILL of the process that started it, the server's port refuses connections."""
    program = (
        "import pathlib, sys, tests.support.s3 as s3\n"
        "with s3.rclone_s3(pathlib.Path(sys.argv[1])) as server:\n"
        "    print(server.endpoint_url, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as starter:
        assert starter.stdout is not None
        url = urlsplit(starter.stdout.readline().strip())
        starter.kill()
        with pytest.raises(ConnectionRefusedError):
            wait_for_each_connection_to_be_closed(str(url.hostname), url.port or 0)


def wait_for_each_connection_to_be_closed(host: str, port: int) -> None:
    # More than one: a dying process may close a connection before it closes the listening socket.
    for _ in range(100):
        with (
            socket.create_connection((host, port), timeout=120) as connection,
            suppress(ConnectionResetError),
        ):
            assert connection.recv(1) == b""
