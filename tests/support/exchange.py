"""One request on its way through the fault proxy."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import struct
from contextlib import suppress
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, unquote

from tests.support import http1
from tests.support.faults import (
    Answer,
    Delay,
    DropAnswer,
    Fault,
    FlipBit,
    Hang,
    ResetAnswer,
    ResetConnection,
    ResetRequest,
    Rewrite,
    Throttle,
    acts_before_the_body,
)
from tests.support.rules import Board, Rule
from tests.support.seen import Outcome


class ClientConnection:
    """A client's connection, and whether it was the proxy that ended it."""

    def __init__(
        self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.number = number
        self.reader = reader
        self._writer = writer
        self.was_reset = False
        # Everything written has left for the kernel when drain() returns: a reset loses none of it.
        writer.transport.set_write_buffer_limits(high=0)

    async def write(self, data: bytes) -> None:
        """Raises ConnectionError when the client is gone."""
        if self._writer.transport.is_closing():
            raise ConnectionResetError("the connection is closed")
        self._writer.write(data)
        await self._writer.drain()

    def reset(self) -> None:
        """End the connection with RST instead of FIN."""
        self.was_reset = True
        connection = self._writer.get_extra_info("socket")
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    def close(self) -> None:
        self._writer.close()


class Exchange:
    """A request, the fault that is done to it, and its answer."""

    def __init__(
        self,
        head: http1.Head,
        client: ClientConnection,
        upstream: tuple[str, int],
        board: Board,
        keep_body_bytes: int,
    ) -> None:
        self._head = head
        self._client = client
        self._upstream = upstream
        self._board = board
        self._keep_body_bytes = keep_body_bytes
        self._body = b""
        method, target, _ = head.first.split(" ", 2)
        path, _, query = target.partition("?")
        self._request = board.arrived(
            client.number,
            method,
            unquote(path),
            dict(parse_qsl(query, keep_blank_values=True)),
            {name.lower(): value for name, value in head.fields},
        )

    async def run(self) -> bool:
        """Returns whether the connection can take another request."""
        try:
            keep = await self._run()
        except (ConnectionError, asyncio.IncompleteReadError):
            self._end(self._outcome_without_client())
            return False
        return keep and "close" not in self._head.get("connection").lower()

    async def _run(self) -> bool:
        rule = self._choose(acts_before_the_body)
        if rule is not None and isinstance(rule.fault, ResetRequest):
            length = int(self._head.get("content-length", "0"))
            if wanted := _position(rule.fault.at, length):
                await self._continue()
                await self._client.reader.readexactly(wanted)
            return self._reset("reset")
        if rule is not None and not await self._hold(rule, watch_client=False):
            return False
        await self._continue()
        self._body = await http1.read_body(self._client.reader, self._head)
        self._note(
            body=self._body if len(self._body) <= self._keep_body_bytes else b"",
            body_size=len(self._body),
            body_sha256=hashlib.sha256(self._body).hexdigest(),
        )
        rule = rule or self._choose(_acts_later)
        if rule is not None and isinstance(rule.fault, Answer):
            headers, body = rule.fault.head_and_body(self._request)
            answer = http1.made_up(
                rule.fault.status, headers.items(), body, is_head=self._request.method == "HEAD"
            )
            return await self._send(rule.fault.status, answer)
        return await self._before(rule) and await self._after(rule)

    async def _before(self, rule: Rule | None) -> bool:
        """The faults on the way to the server; returns whether it goes there at all."""
        if rule is None:
            return True
        if isinstance(rule.fault, FlipBit) and rule.fault.where == "request":
            self._body = rule.fault.apply(self._body)
        if isinstance(rule.fault, Delay):
            return await self._hold(rule, seconds=rule.fault.seconds)
        return rule.fault != Hang("before") or await self._hold(rule)

    async def _after(self, rule: Rule | None) -> bool:
        """The server's answer and the faults on the way back."""
        try:
            head, body = await self._forward()
        except (OSError, asyncio.IncompleteReadError):
            return self._reset("unreachable")
        self._note(server_status=head.status)
        fault = rule.fault if rule is not None else None
        if isinstance(fault, FlipBit) and fault.where == "answer":
            body = fault.apply(body)
        if isinstance(fault, Rewrite):
            head = head.changed(fault.headers)
        answer = http1.for_the_client(head, body)
        if isinstance(fault, DropAnswer):
            self._end("lost")
            return False
        if isinstance(fault, ResetAnswer):
            await self._client.write(answer[: _position(fault.at, len(answer))])
            return self._reset("lost")
        if rule is not None and isinstance(fault, Throttle):
            return await self._send_slowly(head.status, answer, rule, fault.bytes_per_second)
        if rule is not None and fault == Hang("after") and not await self._hold(rule):
            return False
        return await self._send(head.status, answer)

    async def _forward(self) -> tuple[http1.Head, bytes]:
        reader, writer = await asyncio.open_connection(*self._upstream, limit=http1.LIMIT)
        try:
            writer.write(http1.for_the_server(self._head, self._body))
            await writer.drain()
            return await http1.read_answer(reader, without_body=self._request.method == "HEAD")
        finally:
            writer.close()

    async def _hold(
        self, rule: Rule, *, seconds: float | None = None, watch_client: bool = True
    ) -> bool:
        """Wait for the release or for the time; returns False when the client gave up first."""
        self._note(outcome="hanging")
        released = asyncio.ensure_future(rule.released.wait())
        waits: set[asyncio.Future[Any]] = {released}
        if watch_client:
            # Nothing comes after a request before it is answered: this ends with the connection.
            waits.add(asyncio.ensure_future(self._client.reader.read(1)))
        try:
            done, _ = await asyncio.wait(
                waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            for task in waits:
                task.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        if done - {released}:
            self._end(self._outcome_without_client())
            return False
        self._note(outcome="open")
        return True

    async def _send(self, status: int, answer: bytes) -> bool:
        # Noted first: when the client has its answer, the record says so. Taken back on failure.
        self._end("answered", status)
        await self._client.write(answer)
        return True

    async def _send_slowly(self, status: int, answer: bytes, rule: Rule, rate: float) -> bool:
        step = max(1, int(rate / 20))
        for start in range(0, len(answer) - step, step):
            await self._client.write(answer[start : start + step])
            if not await self._hold(rule, seconds=step / rate):
                return False
        return await self._send(status, answer[(len(answer) - 1) // step * step :])

    async def _continue(self) -> None:
        if self._head.get("expect").lower() == "100-continue":
            await self._client.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _reset(self, outcome: Outcome) -> bool:
        self._end(outcome)
        self._client.reset()
        return False

    def _outcome_without_client(self) -> Outcome:
        if not self._client.was_reset:
            return "client_gone"
        return "reset" if self._request.server_status is None else "lost"

    def _choose(self, of_kind: Any) -> Rule | None:
        rule = self._board.choose(replace(self._request, body=self._body), of_kind)
        if rule is not None:
            self._note(fault=rule.fault)
        return rule

    def _note(self, **changes: Any) -> None:
        self._request = self._board.note(self._request.number, **changes)

    def _end(self, outcome: Outcome, status: int | None = None) -> None:
        self._request = self._board.end(self._request.number, outcome, status)


def _acts_later(fault: Fault) -> bool:
    return not (isinstance(fault, ResetConnection) or acts_before_the_body(fault))


def _position(at: int | float, length: int) -> int:
    if isinstance(at, float):
        return min(length, int(length * at))
    return max(0, length + at) if at < 0 else min(length, at)
