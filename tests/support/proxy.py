"""A proxy that makes trouble, to stand between a client and an S3 or SageMaker HTTP server.

It runs in a thread with an event loop of its own and is steered from the test::

    with fault_proxy(server.endpoint_url) as proxy:
        rule = proxy.add(Answer(503, retry_after=2), operation="PutObject", times=3)
        ...                                     # the client under test uses proxy.endpoint_url
        proxy.wait_for(lambda seen: len(seen) >= 4)
        proxy.heal()

Requests go on with their own Host header, so that signatures stay valid.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

import anyio.to_thread

from tests.support import http1
from tests.support.exchange import ClientConnection, Exchange
from tests.support.faults import Fault, ResetConnection
from tests.support.rules import Board, Condition, Match, Rule
from tests.support.seen import Request

_T = TypeVar("_T")
_STEER_TIMEOUT = 60.0
PATIENCE = 60.0
"""Seconds after which requests that were waited for are taken to never come."""


class FaultProxy:
    """Made by `fault_proxy`. Every public method may be called from any thread."""

    def __init__(self, upstream: str, *, keep_body_bytes: int = 1 << 20) -> None:
        url = urlsplit(upstream)
        if url.scheme != "http" or url.hostname is None or url.port is None:
            raise ValueError(f"upstream must be http://HOST:PORT, not {upstream!r}")
        self._upstream = (url.hostname, url.port)
        self._keep_body_bytes = keep_body_bytes
        self._board = Board()
        self._errors: list[BaseException] = []
        self._connections = 0
        self._open: dict[asyncio.Task[Any], ClientConnection] = {}
        self._socket = _bound(0)
        self._port: int = self._socket.getsockname()[1]
        self._server: asyncio.Server | None = None
        started: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._main(started)), name="fault-proxy", daemon=True
        )
        self._thread.start()
        started.result(_STEER_TIMEOUT)

    @property
    def endpoint_url(self) -> str:
        """The address clients use instead of the server's."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def requests(self) -> tuple[Request, ...]:
        """Every request so far, in the order of arrival."""
        return self._board.requests

    @property
    def connections(self) -> int:
        """Connections accepted so far."""
        return self._in_proxy_loop(self._count_connections)

    @property
    def open_connections(self) -> int:
        """Connections that are open now."""
        return self._in_proxy_loop(self._count_open)

    def add(self, fault: Fault, **match: Any) -> Rule:
        """Put a fault in force, after those already there: the first that takes a request wins.

        Faults that act before the body of a request is read go before all others.

        Args:
            fault: What to do, of `tests.support.faults`.
            **match: To which requests: the attributes of `Match`. None given: to all, always.

        Raises:
            ValueError: `ResetConnection` was to depend on a request, of which it reads nothing.
        """
        rule = Rule(fault, Match(**match))
        if isinstance(fault, ResetConnection) and rule.match.looks_at_requests:
            raise ValueError("ResetConnection reads no request: it can only be counted")
        self._board.add(rule)
        return rule

    def remove(self, rule: Rule) -> None:
        """Take one rule out and release the requests it holds."""
        self._board.remove(rule)
        self._in_proxy_loop(partial(_release, [rule]))

    def heal(self) -> None:
        """Take all rules out, release what they hold, and accept connections again."""
        self._in_proxy_loop(partial(_release, self._board.clear()))
        self._in_proxy_loop(self._listen)

    def refuse(self) -> None:
        """Refuse connections and reset the open ones until `heal`, as when the server is down."""
        self._in_proxy_loop(self._stop_listening)

    def wait_for(self, condition: Condition, timeout: float = PATIENCE) -> tuple[Request, ...]:
        """Wait until the requests seen fulfil the condition, and return them.

        Raises:
            TimeoutError: They did not within `timeout` seconds; the message lists them.
        """
        return self._board.wait_for(condition, timeout)

    async def seen(self, condition: Condition, timeout: float = PATIENCE) -> tuple[Request, ...]:
        """`wait_for`, to be awaited in an event loop."""
        return await anyio.to_thread.run_sync(self._board.wait_for, condition, timeout)

    def close(self) -> None:
        """Stop, and raise what went wrong inside the proxy itself, which is a defect of it."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(_STEER_TIMEOUT)
        if self._errors:
            raise self._errors[0]

    def _in_proxy_loop(self, step: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        return asyncio.run_coroutine_threadsafe(step(), self._loop).result(_STEER_TIMEOUT)

    # From here on everything runs in the proxy's own loop.

    async def _main(self, started: concurrent.futures.Future[None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        await self._listen()
        started.set_result(None)
        await self._stop.wait()
        await self._stop_listening()
        self._socket.close()
        tasks = list(self._open)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(
                self._serve, sock=self._socket, limit=http1.LIMIT, backlog=1024
            )

    async def _stop_listening(self) -> None:
        if self._server is None:
            return
        self._server.close()
        self._server = None
        # Bound and not listening: connections are refused, and nobody else gets the port.
        self._socket = _bound(self._port)
        for client in self._open.values():
            client.reset()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections += 1
        client = self._open[task] = ClientConnection(self._connections, reader, writer)
        try:
            if self._board.choose(None, lambda fault: isinstance(fault, ResetConnection)):
                client.reset()
                return
            while (head := await http1.read_head(reader)) is not None:
                exchange = Exchange(
                    head, client, self._upstream, self._board, self._keep_body_bytes
                )
                if not await exchange.run():
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # between two requests, or within a head: no request of which to note it
        except asyncio.CancelledError:
            pass  # the proxy stops; before 3.12 asyncio would log the end of a cancelled handler
        except Exception as error:
            self._errors.append(error)
        finally:
            del self._open[task]
            client.close()

    async def _count_connections(self) -> int:
        return self._connections

    async def _count_open(self) -> int:
        return len(self._open)


@contextmanager
def fault_proxy(upstream: str, *, keep_body_bytes: int = 1 << 20) -> Iterator[FaultProxy]:
    """A proxy before the server at `upstream` (``http://HOST:PORT``), on a free port of 127.0.0.1.

    Args:
        upstream: Where requests go.
        keep_body_bytes: Of larger bodies only the size and the SHA-256 are kept.
    """
    proxy = FaultProxy(upstream, keep_body_bytes=keep_body_bytes)
    try:
        yield proxy
    finally:
        proxy.close()


def _bound(port: int) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", port))
    return bound


async def _release(rules: list[Rule]) -> None:
    for rule in rules:
        rule.released.set()
