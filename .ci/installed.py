"""What a user has who installed the wheel and nothing else, or with the extra ``s3``.

Run by .ci/run: ``python .ci/installed.py alone|s3``, in an environment of its own and not from the
checkout, so that asynctrack is the one of the wheel.
"""

from __future__ import annotations

import asyncio
import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import asynctrack
from asynctrack import MissingExtraError, open_run, tracker

ROOT = Path(__file__).parents[1]
EVENTS = ["chain_start", "chain_end"]


def main(kind: str) -> None:
    installed = Path(asynctrack.__file__).parent
    assert ROOT not in installed.parents or "site-packages" in installed.parts, installed
    assert (installed / "py.typed").exists()
    assert (installed / "view/static/vendor/preact.js").exists()
    assert command("--help").returncode == 0
    assert command("guide", "tracking").stdout.startswith("Tracking\n")
    assert importlib.util.find_spec("sagemaker") is None
    with tempfile.TemporaryDirectory() as name:
        {"alone": alone, "s3": from_s3}[kind](Path(name))


def alone(folder: Path) -> None:
    """Tracking into a folder works and is read back; what needs AWS says which extra has it."""
    track(folder)
    assert [event.event for event in open_run(folder).events()] == EVENTS
    assert importlib.util.find_spec("botocore") is None
    # The hint names the wheel, too: where it comes from.
    said = missing(lambda: tracker(stand_in()))
    assert "pip install 'asynctrack[aws]" in said, said
    said = missing(lambda: open_run("s3://bucket/asynctrack/v1/experiment=e/run=r/"))
    assert "pip install 'asynctrack[s3]" in said, said
    shown = command("ls", "s3://bucket/")
    assert shown.returncode == 2 and "asynctrack[s3]" in shown.stderr, shown


def from_s3(folder: Path) -> None:
    """A Run is read from an S3 server, in Python and on the command line; a Run can be tracked."""
    sys.path.append(str(ROOT))
    from tests.support.s3 import rclone_s3

    with rclone_s3(folder / "s3") as server:
        track(server.folder)
        address = f"s3://{server.bucket}/asynctrack/v1/experiment=jokes/run=a/"
        run = open_run(address, endpoint_url=server.endpoint_url, session=server.boto_session())
        assert [event.event for event in run.events()] == EVENTS
        keys = {
            "AWS_ACCESS_KEY_ID": server.access_key,
            "AWS_SECRET_ACCESS_KEY": server.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        shown = command("verify", address, "--endpoint-url", server.endpoint_url, **keys)
        assert shown.returncode == 0, shown
    assert tracker(stand_in()) is not None


def track(folder: Path) -> None:
    from langchain_core.runnables import RunnableLambda

    async def use() -> Any:
        async with tracker(folder, experiment_name="jokes", run_name="a") as handler:
            chain = RunnableLambda(lambda text: text).with_config(run_name="fish")
            await chain.ainvoke("why?", {"callbacks": [handler]})
        return handler.statistics()

    statistics = asyncio.run(use())
    assert statistics.delivered == statistics.accepted == 2, statistics


def stand_in() -> Any:
    """Make what has all that asynctrack takes from a Run."""
    client = SimpleNamespace(meta=SimpleNamespace(endpoint_url="http://127.0.0.1:9"))
    session = SimpleNamespace(
        boto_session=SimpleNamespace(get_credentials=None, region_name="us-east-1"),
        sagemaker_client=client,
        sagemaker_metrics_client=client,
    )
    uploader = SimpleNamespace(
        sagemaker_session=session, artifact_bucket="bucket", artifact_prefix="prefix"
    )
    return SimpleNamespace(
        experiment_name="jokes",
        run_name="a",
        experiment_config={"RunName": "jokes-a"},
        _artifact_uploader=uploader,
    )


def missing(call: Any) -> str:
    try:
        call()
    except MissingExtraError as error:
        return str(error)
    raise AssertionError("nothing was missing")


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    # The wheel's own program: ``-m`` would take the package from the folder that this runs in.
    return subprocess.run(
        [str(Path(sys.executable).with_name("asynctrack")), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment or None,
    )


if __name__ == "__main__":
    main(sys.argv[1])
