"""AWS Lambda: a process that is frozen the moment its handler returns, and killed unasked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guide.pages import block
from tests.support.auditor import assert_exactly_once, audit_folder
from tests.support.processes import state_of
from tests.support.s3 import REGION, S3Server
from tests.support.trees import counted

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc whether it is frozen")

RUNTIME = """
import os, signal, sys
from function import lambda_handler, tracking

class Context:
    def get_remaining_time_in_millis(self):
        return 60_000

for line in sys.stdin:
    answer = lambda_handler({"text": line.strip()}, Context())
    print(answer, tracking.statistics().accepted, flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)  # all of its threads
"""


@pytest.fixture
def function(tmp_path: Path, s3: S3Server) -> Iterator[subprocess.Popen[str]]:
    """The guide's function in a process that does what Lambda's runtime does."""
    code = block("everywhere", "lambda").replace("s3://bucket/prefix", f"s3://{s3.bucket}/prefix")
    code = code.replace("/tmp/asynctrack", str(tmp_path / "spool"))
    (tmp_path / "function.py").write_text(code)
    environment = {
        name: text
        for name, text in os.environ.items()
        if name not in ("XDG_STATE_HOME", "ASYNCTRACK_CLOSE_PATIENCE", "ASYNCTRACK_CLOSE_TIMEOUT")
    } | {
        "HOME": "/nowhere",  # as there: only the folder of temporary files can be written to
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "AWS_ENDPOINT_URL_S3": s3.endpoint_url,
        "AWS_ACCESS_KEY_ID": s3.access_key,
        "AWS_SECRET_ACCESS_KEY": s3.secret_key,
        "AWS_DEFAULT_REGION": REGION,
    }
    process = subprocess.Popen(
        [sys.executable, "-c", RUNTIME],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        yield process
        process.kill()
        assert process.stderr is not None and process.stderr.read() == ""


def invoke(process: subprocess.Popen[str], text: str) -> tuple[str, int]:
    """Invoke the function; returns its answer, and how many events it has accepted, frozen."""
    assert process.stdin is not None and process.stdout is not None
    if state_of(process.pid) == "T":
        process.send_signal(signal.SIGCONT)
    process.stdin.write(f"{text}\n")
    process.stdin.flush()
    answer, accepted = process.stdout.readline().split()
    while state_of(process.pid) != "T":
        pass
    return answer, int(accepted)


def test_everything_is_delivered_when_the_handler_returns(
    function: subprocess.Popen[str], s3: S3Server, tmp_path: Path
) -> None:
    """At each freeze nothing is left to do; after three of them the process is killed."""
    for number, text in enumerate(("a", "b", "c"), 1):
        answer, accepted = invoke(function, text)
        assert (answer, accepted) == (text.upper(), number * 6)
        assert_exactly_once(audit_folder(s3.folder), accepted)
    function.kill()
    assert counted(s3.folder) == {"RunnableSequence(RunnableLambda, upper)": 3}
    assert any((tmp_path / "spool").iterdir())
