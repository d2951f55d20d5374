"""The surroundings of every test: its event loop, what may block in it, what leaks into it."""

from __future__ import annotations

import asyncio
import functools
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import anyio.to_thread
import blockbuster
import boto3
import pytest

from asynctrack._spool.segment import Segment, Shape
from asynctrack.demo._aws import EmbeddedAWS
from tests.support.blocking import BlockingCalls, no_blocking_calls
from tests.support.environment import isolate
from tests.support.foreign import watched

OWN_GUARD = pytest.mark.may_block("the test sets up the check itself")


async def test_async_tests_run_without_a_mark() -> None:
    """An async test runs in an asyncio event loop, in the thread of the test."""
    assert asyncio.get_running_loop().is_running()
    assert threading.current_thread() is threading.main_thread()


@pytest.fixture
async def loop_of_fixture() -> AsyncIterator[asyncio.AbstractEventLoop]:
    yield asyncio.get_running_loop()


async def test_async_fixtures_share_the_loop(loop_of_fixture: asyncio.AbstractEventLoop) -> None:
    """An async fixture runs in the event loop of its test."""
    assert loop_of_fixture is asyncio.get_running_loop()


async def test_blocking_in_the_event_loop_raises(blocking_calls: BlockingCalls) -> None:
    """A blocking call in the event loop of a test raises, and its place is known."""
    with pytest.raises(blockbuster.BlockingError):
        time.sleep(0)
    assert "test_environment.py" in blocking_calls.stacks[0]
    assert "time.sleep" in blocking_calls.stacks[0]
    blocking_calls.forgive()


async def test_one_line_may_be_written_in_the_event_loop_and_nothing_else(
    tmp_path: Path, blocking_calls: BlockingCalls
) -> None:
    """An event that is accepted goes to disk at once; all else of a segment is the worker's."""
    make = functools.partial(Segment, tmp_path, 1, Shape(4096, 10))
    segment = await anyio.to_thread.run_sync(make)
    segment.begin("a" * 24, 1)
    assert segment.append(b"{}\n")
    assert blocking_calls.stacks == []
    for call in (
        segment.content,
        functools.partial(segment.fill, [b"{}\n"]),
        functools.partial(Segment, tmp_path, 2, Shape(4096, 10)),
    ):
        with pytest.raises(blockbuster.BlockingError):
            call()
    assert "os.pread" in blocking_calls.stacks[0] and "os.pwrite" in blocking_calls.stacks[1]
    blocking_calls.forgive()
    await anyio.to_thread.run_sync(segment.remove)


def test_blocking_in_the_event_loop_of_a_plain_test_raises(blocking_calls: BlockingCalls) -> None:
    """A test that runs an event loop of its own is watched too."""

    async def block() -> None:
        time.sleep(0)

    with pytest.raises(blockbuster.BlockingError):
        asyncio.run(block())
    blocking_calls.forgive()


@OWN_GUARD
def test_swallowed_blocking_call_fails_the_test() -> None:
    """Code that catches everything cannot hide that it blocks."""

    async def block_and_hide() -> None:
        with suppress(Exception):
            time.sleep(0)

    with pytest.raises(AssertionError, match=r"blocking call to time\.sleep"), no_blocking_calls():
        asyncio.run(block_and_hide())


@OWN_GUARD
def test_other_threads_may_block_in_their_loops() -> None:
    """An event loop in another thread, as the worker's, is not watched."""

    async def block() -> None:
        time.sleep(0)

    errors: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(block())
        except blockbuster.BlockingError as error:
            errors.append(error)

    with no_blocking_calls():
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    assert errors == []


@OWN_GUARD
def test_blocking_functions_are_put_back() -> None:
    """After the check the blocking functions are what they were, also when it failed."""
    before = time.sleep, os.stat, blockbuster.blockbuster.BlockingError
    with suppress(RuntimeError), no_blocking_calls():
        assert time.sleep is not before[0]
        raise RuntimeError
    assert (time.sleep, os.stat, blockbuster.blockbuster.BlockingError) == before


def test_outside_of_an_event_loop_blocking_is_fine() -> None:
    """A plain test may block."""
    time.sleep(0)


@OWN_GUARD
async def test_marked_test_may_block() -> None:
    """A test with the mark, and a reason, may block in its event loop."""
    time.sleep(0)


def test_nothing_of_this_machine_leaks_in() -> None:
    """Accounts, keys and switches are taken out, the rest stays, and tracing is off."""
    environment = {
        "AWS_PROFILE": "production",
        "ASYNCTRACK_OVERFLOW": "drop_newest",
        "LANGSMITH_TRACING": "true",
        "LANGCHAIN_API_KEY": "k",
        "OPENAI_API_KEY": "k",
        "SERPAPI_API_KEY": "k",
        "HOME": "/home/me",
    }
    isolate(environment)
    assert environment["HOME"] == "/home/me"
    assert environment["LANGSMITH_TRACING"] == "false"
    assert not {"AWS_PROFILE", "ASYNCTRACK_OVERFLOW", "LANGCHAIN_API_KEY"} & environment.keys()
    assert not {"OPENAI_API_KEY", "SERPAPI_API_KEY"} & environment.keys()


MAKE_A_RUN = """
import warnings
warnings.simplefilter("ignore")  # the SDK's own
import socket
from asynctrack.demo._sagemaker import sagemaker_sdk
sdk = sagemaker_sdk()
with sdk.Run(
    "telemetry", run_name="r", sagemaker_session=sdk.Session(default_bucket="b")
) as run:
    run.log_parameter("a", 1)
try:
    socket.getaddrinfo("name.invalid", 80)
except OSError:
    pass
"""


def test_the_telemetry_of_the_sdk_is_off(aws: EmbeddedAWS, tmp_path: Path) -> None:
    """A Run that is made in the surroundings of a test asks for no address beyond this machine."""
    environment = {
        **os.environ,
        **aws.environment(),
        "SAGEMAKER_USER_CONFIG_OVERRIDE": os.environ["SAGEMAKER_USER_CONFIG_OVERRIDE"],
    }
    file = tmp_path / "addresses"
    shown = subprocess.run(
        [sys.executable, "-c", MAKE_A_RUN],
        env=watched(environment, file),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert shown.returncode == 0, shown.stderr
    assert file.read_text().split() == ["name.invalid"], "the last is the one that must be seen"


def test_boto_finds_no_account() -> None:
    """A session that is given nothing has neither credentials nor a region nor profiles."""
    session = boto3.Session()
    assert session.get_credentials() is None
    assert session.region_name is None
    assert session.available_profiles == []
