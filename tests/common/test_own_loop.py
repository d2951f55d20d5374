"""The worker's event loop: others close its descriptors; it lives on and touches none of theirs."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from asynctrack._common.own_loop import OwnLoop
from asynctrack._common.turns import new_event_loop, turns

pytestmark = pytest.mark.may_block("the loop is the worker's, run in the thread of the test")


@pytest.fixture(autouse=True)
def looks_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asynctrack._common.own_loop.LOOK", 0.02)


def run(main: Coroutine[Any, Any, None]) -> None:
    loop = new_event_loop()
    try:
        with turns.taken():
            loop.run_until_complete(main)
    finally:
        loop.close()


@contextmanager
def echo() -> Iterator[int]:
    """A server that sends back what it gets; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    while content := connection.recv(100):
                        connection.sendall(content)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
    thread.join()


class Own:
    """Files of the program's, at the numbers of descriptors that it has closed."""

    def __init__(self, folder: Path, numbers: list[int]) -> None:
        self.files = {}
        for number in numbers:
            path = folder / f"own-{number}"
            made = os.open(path, os.O_RDWR | os.O_CREAT)
            os.dup2(made, number)  # closes what was there
            os.close(made)
            os.write(number, b"first,")
            self.files[number] = path

    def check(self) -> None:
        for number, path in self.files.items():
            os.write(number, b"second")
            os.close(number)
            assert path.read_bytes() == b"first,second"


def numbers_of(loop: asyncio.AbstractEventLoop) -> list[int]:
    assert isinstance(loop, OwnLoop)
    return sorted({one.fileno() for one in loop._sockets()})


def test_what_wakes_it_is_made_anew(tmp_path: Path) -> None:
    """After its pair was closed another thread wakes it as before, and no byte goes to a file."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        own = Own(tmp_path, numbers_of(loop))
        for _ in range(3):
            assert await loop.run_in_executor(None, lambda: 1) == 1
        own.check()
        await loop.run_in_executor(None, lambda: 1)

    run(main())


def test_it_is_closed_without_closing_files_of_the_program(tmp_path: Path) -> None:
    """Closed by others while it does not run: it closes only what is still its own."""
    loop = new_event_loop()
    with turns.taken():
        loop.run_until_complete(asyncio.sleep(0))
    own = Own(tmp_path, numbers_of(loop))
    loop.close()
    gc.collect()
    own.check()


def test_a_connection_that_others_closed_is_lost(tmp_path: Path) -> None:
    """Whoever reads from it is told, the next connection works, and files are left alone."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with echo() as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"hello")
            assert await reader.read(10) == b"hello"
            own = Own(tmp_path, numbers_of(loop))
            with pytest.raises(ConnectionResetError, match="closed by others"):
                await reader.read(10)
            writer.close()
            del reader, writer
            gc.collect()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"again")
            assert await reader.read(10) == b"again"
            writer.close()
            await writer.wait_closed()
            own.check()

    run(main())


def test_a_connection_that_is_being_made_is_lost(tmp_path: Path) -> None:
    """Nobody answers yet, and its descriptor is closed: whoever waits for it is told."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        # A full queue: the system answers no more, so the connection is on its way for long.
        with socket.create_server(("127.0.0.1", 0), backlog=0) as listening:
            address = listening.getsockname()
            waiting = [asyncio.ensure_future(asyncio.open_connection(*address)) for _ in range(4)]
            done, pending = await asyncio.wait(waiting, timeout=0.2)
            assert pending
            own = Own(tmp_path, numbers_of(loop))
            results = await asyncio.gather(*pending, return_exceptions=True)
            assert all(isinstance(result, OSError) for result in results)
            for one in done:
                one.result()[1].close()
            del waiting, done, pending
            gc.collect()
            own.check()

    run(main())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_the_child_of_a_fork_has_none_of_its_sockets() -> None:
    """They are closed in it, and the parent's connection goes on."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with echo() as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            numbers = numbers_of(loop)
            child = os.fork()
            if not child:
                os._exit(sum(os.path.exists(f"/proc/self/fd/{number}") for number in numbers))
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            writer.write(b"hello")
            assert await reader.read(10) == b"hello"
            writer.close()
            await writer.wait_closed()

    run(main())
