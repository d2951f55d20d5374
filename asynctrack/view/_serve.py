"""Starts the viewer: finds the Runs, opens a port of this machine, prints the address. The one
owner of uvicorn."""

from __future__ import annotations

import logging
import signal
import socket
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Final

import uvicorn

from asynctrack._errors import OptionError
from asynctrack._reading.sources.locate import Found
from asynctrack._reading.sources.spool import Spool
from asynctrack._reading.trees.prices import Prices

from ._index import Index
from ._indexer import Indexer
from ._pages import Pages
from ._security import Guard
from ._server import make_app

LOOPBACK: Final = "127.0.0.1"
ALLOWED: Final = "a port of this machine that is free, or 0 for any"


def serve(
    locate: Callable[[], list[Found]],
    *,
    title: str,
    prices: Prices | None,
    spool: Spool,
    port: int,
    token: str | None,
    open_browser: bool,
    started: Callable[[str], None],
) -> None:
    """Show Runs until Ctrl-C or SIGTERM. Blocks; must be called in the main thread.

    Args:
        locate: Finds the Runs to show; called again and again, for new ones.
        title: What is viewed, as the user named it.
        prices: What models cost; None shows no cost.
        spool: This machine's spool; empty shows delivered events only.
        port: Of the loopback address; 0 takes any that is free.
        token: What the address must hold once; None makes a new one.
        open_browser: Whether a browser is opened.
        started: Told the address.

    Raises:
        OptionError: The port cannot be used.
        AsynctrackError: There is nothing to show; as ``locate``.
    """
    listening = _listen(port)
    with closing(listening), closing(Index(prices)) as index:
        indexer = Indexer(index, locate, spool)
        pages = Pages(index, indexer, title, priced=prices is not None)
        indexer.start(locate(), pages.warm)
        try:
            guard = Guard(token)
            config = uvicorn.Config(
                make_app(pages, guard),
                access_log=False,
                date_header=False,
                http="h11",
                lifespan="off",
                log_config=None,
                log_level=logging.WARNING,
                loop="asyncio",
                server_header=False,
                timeout_graceful_shutdown=1,
                ws="none",
            )
            address = f"http://{LOOPBACK}:{listening.getsockname()[1]}{guard.place}"
            url = f"{address}?token={guard.token}"
            server = uvicorn.Server(config)
            with _ended_by_signals(server):
                # The port is open: a browser that is quicker than the server waits in its queue.
                started(url)
                if open_browser:
                    webbrowser.open(url)
                server.run(sockets=[listening])
        finally:
            indexer.stop()


@contextmanager
def _ended_by_signals(server: uvicorn.Server) -> Iterator[None]:
    """End the server, and nothing else, on Ctrl-C and SIGTERM: also before it runs, and when
    uvicorn sends itself the signal again after it has ended. The folder is removed after that."""

    def end(number: int, frame: object) -> None:
        server.should_exit = True

    before = {one: signal.signal(one, end) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _listen(port: int) -> socket.socket:
    # Said to be TCP, or else asyncio leaves Nagle's algorithm on: 40 ms for each answer.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((LOOPBACK, port))
        listening.listen(128)
    except (OSError, OverflowError) as error:
        listening.close()
        raise OptionError("port", port, f"{ALLOWED} ({error})") from error
    return listening
