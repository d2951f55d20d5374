"""A process that has imported everything, and forks children on request: a kill costs little.

It speaks over a socket: a request comes with the pipe to report to, the answer is the child's
process id; ``reap`` waits for a child's end, so that the operating system has given back its locks.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.environment import isolate


class Nursery:
    """The other end: asks for children.

    Args:
        channel: The socket.
    """

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel

    def birth(self, request: dict[str, Any]) -> Child:
        """Fork a child that tracks."""
        reading, writing = os.pipe()
        try:
            socket.send_fds(self._channel, [json.dumps(request).encode()], [writing])
        finally:
            os.close(writing)
        return Child(self._channel, int(self._ask()), reading)

    def _ask(self) -> bytes:
        answer = self._channel.recv(100)
        if not answer:
            raise RuntimeError("the nursery has ended")
        return answer


class Child:
    """A child that tracks, until it is killed or ends.

    Args:
        channel: The nursery's socket.
        pid: Its process id.
        reading: The descriptor of its reports.
    """

    def __init__(self, channel: socket.socket, pid: int, reading: int) -> None:
        self._channel = channel
        self.pid = pid
        self.reports = os.fdopen(reading, "rb")
        self.writer_id = ""
        self.accepted = 0
        self.pending = 0
        self.closed = False

    def listen(self, chains: int) -> bool:
        """Read so many reports; False where it ended before."""
        for _ in range(chains):
            line = self.reports.readline()
            if not line:
                return False
            self._note(line)
        return True

    def kill(self) -> None:
        """SIGKILL, now."""
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it has killed itself, and the nursery is a good parent

    def end(self) -> int:
        """Wait for its end; returns its status. All that it reported is known then."""
        for line in self.reports:
            self._note(line)
        self.reports.close()
        self._channel.send(json.dumps({"reap": self.pid}).encode())
        return int(self._channel.recv(100))

    def _note(self, line: bytes) -> None:
        if line.startswith(b"writer "):
            self.writer_id = line.split()[1].decode()
        elif line == b"closed\n":
            self.closed = True
        elif line.endswith(b"\n"):
            self.accepted, self.pending = map(int, line.split())


@contextmanager
def nursery(*, aws: bool = False) -> Iterator[Nursery]:
    """Start one.

    Args:
        aws: Whether its children track into Runs: what takes seconds to import is imported once.
    """
    mine, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, str(its.fileno()), "aws" if aws else ""],
        pass_fds=[its.fileno()],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.DEVNULL,
    )
    its.close()
    try:
        if mine.recv(100) != b"ready":
            raise RuntimeError("the nursery did not start; what it said is above")
        yield Nursery(mine)
    finally:
        mine.close()
        process.wait(timeout=240)


def _serve(channel: socket.socket) -> None:
    channel.send(b"ready")
    while True:
        message, descriptors, _, _ = socket.recv_fds(channel, 1 << 16, 1)
        if not message:
            return
        request = json.loads(message)
        if "reap" in request:
            channel.send(b"%d" % os.waitstatus_to_exitcode(os.waitpid(request["reap"], 0)[1]))
            continue
        pid = os.fork()
        if pid == 0:
            channel.close()
            _live(request, descriptors[0])
        os.close(descriptors[0])
        channel.send(b"%d" % pid)


def _live(request: dict[str, Any], report: int) -> None:
    """Ends as a program ends, with all that the interpreter does then."""
    from tests.crash.child import track

    if "quiet" in request:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    track(request, report)
    sys.exit(0)


if __name__ == "__main__":
    isolate(os.environ)
    warnings.simplefilter("ignore")
    from tests.crash.child import warm_up

    warm_up()
    if "aws" in sys.argv[2:]:
        from asynctrack._backends.library import prepare
        from asynctrack.demo._sagemaker import sagemaker_sdk

        prepare()
        sagemaker_sdk()
    _serve(socket.socket(fileno=int(sys.argv[1])))
