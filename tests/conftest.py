"""Fixtures every test may use; an ``async def test_`` runs in an event loop of its own."""

from __future__ import annotations

import gc
import inspect
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from asynctrack.testing import end_engine
from tests.support.blocking import BlockingCalls, no_blocking_calls
from tests.support.descriptors import open_below
from tests.support.environment import isolate
from tests.support.proxy import FaultProxy, fault_proxy
from tests.support.s3 import S3Server, rclone_s3
from tests.support.scale import SCALE

if TYPE_CHECKING:
    from asynctrack.demo._aws import EmbeddedAWS


_temporary = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    # Here and not in a fixture: libraries read some of these when they are imported, and the
    # modules with tests are imported before the first fixture runs.
    isolate(os.environ)
    # What other trackers of this user left among the temporary files is none of the tests'; theirs
    # stay where they are, at paths that are short enough for sockets.
    tempfile.gettempdir()
    os.environ["TMPDIR"] = config.stash[_temporary] = tempfile.mkdtemp(prefix="at-")
    os.environ["ASYNCTRACK_INDEX_DIR"] = os.environ["TMPDIR"]
    # A shell starts what runs in the background with Ctrl-C ignored, and so would the children of
    # the tests that send it to them.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # No deadline for an example, on a machine that does other things too; and the same examples
    # each time: a new one that fails is for whoever looks for it (see ``python -m tests.faults``).
    settings.register_profile(
        "asynctrack",
        deadline=None,
        derandomize=not SCALE,
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.load_profile("asynctrack")
    config.addinivalue_line(
        "markers",
        "may_block(reason): blocking calls in the event loop of this test are let through",
    )


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(config.stash[_temporary], ignore_errors=True)


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(name: str, obj: object) -> None:
    """Mark async tests as anyio's, whose setting for this is newer than the oldest anyio here."""
    if name.startswith("test_") and inspect.iscoroutinefunction(obj):
        pytest.mark.anyio(obj)


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Async tests run on asyncio only: the worker, and those who wait for it, know no other."""
    return "asyncio", {}


@pytest.fixture(autouse=True)
def blocking_calls(request: pytest.FixtureRequest) -> Iterator[BlockingCalls]:
    """Every test fails on a blocking call in an event loop that runs in the thread of the test."""
    marker = request.node.get_closest_marker("may_block")
    if marker is not None:
        if not (marker.args or marker.kwargs):
            raise pytest.UsageError("pytest.mark.may_block needs a reason")
        yield BlockingCalls()
        return
    with no_blocking_calls() as caught:
        yield caught


@pytest.fixture(autouse=True)
def engine() -> Iterator[None]:
    """Every test has an engine of its own, and warnings that no other test has had."""
    yield
    end_engine(2.0)


@pytest.fixture(autouse=True)
def files_closed(tmp_path: Path) -> Iterator[None]:
    """No test leaves a file of its own open: many trackers must not use the descriptors up."""
    yield
    if sys.platform != "linux" or not open_below(tmp_path):
        return
    gc.collect()  # what an exception's traceback still holds
    # A worker that nobody waited for ends a moment later.
    deadline = time.monotonic() + 20.0
    while (held := open_below(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not held, f"left open: {held}"


@pytest.fixture(autouse=True)
def state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has a spool of its own.

    Nobody replays what another test left behind, nor what waits in the developer's home.
    """
    folder = tmp_path / "state"
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    home = tmp_path.with_name(f"{tmp_path.name}-home")  # tests look at what is in their own folder
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    return folder


@pytest.fixture(autouse=True)
def patient_closing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who leaves a tracker waits as long as it takes, here and in child processes.

    The waits between two attempts are drawn by chance and grow with an outage: on a machine that
    does other things too, the four seconds that are the default may be too few to deliver. A test
    of what is left behind says how long it waits.
    """
    monkeypatch.setenv("ASYNCTRACK_CLOSE_TIMEOUT", "120")
    monkeypatch.setenv("ASYNCTRACK_CLOSE_PATIENCE", "120")


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server, one for the whole run of pytest."""
    with rclone_s3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3(s3_server: S3Server) -> S3Server:
    """The real S3 server with an empty bucket of this test's own."""
    return s3_server.with_fresh_bucket()


@pytest.fixture
def s3_proxy(s3: S3Server) -> Iterator[FaultProxy]:
    """A proxy that makes trouble on demand, before the real S3 server."""
    with fault_proxy(s3.endpoint_url) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def aws() -> Iterator[EmbeddedAWS]:
    """The embedded AWS, with the limits of SageMaker; one for the whole run of pytest.

    Tests share its experiments: give them names of their own.
    """
    from asynctrack.demo._aws import embedded_aws

    with embedded_aws() as running:
        yield running
