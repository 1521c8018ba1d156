"""Clients that cost little: one connection each, requests as ready bytes, replies read only to their end.

What the engine did is counted by the engine. So a client's own work for a token is a few microseconds, and both cores
are left to those who are measured. A connection that the server closes between two replies, as it may, is opened anew.
All on one event loop.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import cast

import httptools

__all__ = ["Clients"]

Next = Callable[[int], bytes | None]
CONNECT_LIMIT_SECONDS = 20.0
# A client that was refused would else do nothing but ask.
PAUSE_AFTER_TROUBLE_SECONDS = 0.1
# How llama.cpp's server begins the text of a token.
TOKEN_MARK = b'"content":"'
ERROR_MARK = b'"error"'


class Clients:
    """So many connections to one port of loopback; `next_request` says what a client sends next, None for nothing."""

    def __init__(self, port: int, count: int, next_request: Next) -> None:
        self.replies = 0
        self.events = 0
        self.troubles: Counter[str] = Counter()
        self._port = port
        self._count = count
        self._next = next_request
        self._connections: list[_Connection] = []
        self._connecting: set[asyncio.Task[None]] = set()
        self._stopped = False
        self._left = count
        self._all_done = asyncio.Event()

    async def connect(self) -> None:
        """Opens all connections; raises OSError or TimeoutError."""
        async with asyncio.timeout(CONNECT_LIMIT_SECONDS):
            for number in range(self._count):
                self._connections.append(await self._connected(number))

    def start(self) -> None:
        """Each sends its first request."""
        for connection in self._connections:
            connection.send_next()

    def start_one(self, number: int) -> None:
        """One sends its next request."""
        self._connections[number].send_next()

    async def done(self) -> None:
        """Returns when no client has anything more to send."""
        await self._all_done.wait()

    def stop(self) -> None:
        """Cuts all connections."""
        self._stopped = True
        for connection in self._connections:
            connection.cut()
        for task in self._connecting:
            task.cancel()

    def connect_again(self, number: int, request: bytes | None) -> None:
        """Called by a connection at its end: another takes its place, and sends the request that this one could not."""
        if not self._stopped:
            task = asyncio.get_running_loop().create_task(self._replace(number, request))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    async def _replace(self, number: int, request: bytes | None) -> None:
        try:
            self._connections[number] = connection = await self._connected(number)
        except OSError:
            self.troubles["no connection"] += 1
            self._one_less()
            return
        connection.send(request) if request is not None else connection.send_next()

    async def _connected(self, number: int) -> "_Connection":
        make = partial(_Connection, self, number)
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(make, "127.0.0.1", self._port)
        return connection

    def next_request(self, number: int) -> bytes | None:
        """Called by a connection."""
        request = self._next(number)
        if request is None:
            self._one_less()
        return request

    def _one_less(self) -> None:
        self._left -= 1
        if self._left <= 0:
            self._all_done.set()


class _Connection(asyncio.Protocol):
    """`request` is what it was sent and has not answered."""

    def __init__(self, clients: Clients, number: int) -> None:
        self._clients = clients
        self._number = number
        self._parser = httptools.HttpResponseParser(self)
        self._request: bytes | None = None
        self._has_begun = False
        self._trouble = ""
        self._is_over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def send_next(self) -> None:
        if not self._is_over and (request := self._clients.next_request(self._number)) is not None:
            self.send(request)

    def send(self, request: bytes) -> None:
        self._request, self._has_begun, self._trouble = request, False, ""
        self._transport.write(request)

    def cut(self) -> None:
        self._is_over = True
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._has_begun = True
        self._clients.events += data.count(TOKEN_MARK)
        if ERROR_MARK in data:
            self._trouble = self._trouble or "error event"
        self._parser.feed_data(data)

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status != 200:
            self._trouble = f"status {status}"

    def on_message_complete(self) -> None:
        self._request = None
        if self._trouble:
            self._clients.troubles[self._trouble] += 1
            asyncio.get_running_loop().call_later(PAUSE_AFTER_TROUBLE_SECONDS, self.send_next)
            return
        self._clients.replies += 1
        if self._parser.should_keep_alive():
            self.send_next()
        else:
            self._is_over = True
            self._transport.close()
            self._clients.connect_again(self._number, None)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._is_over:
            return
        self._is_over = True
        if self._has_begun and self._request is not None:
            self._clients.troubles["reply cut off"] += 1
            self._request = None
        # Nothing of a reply: the server had closed it before the request was there.
        self._clients.connect_again(self._number, self._request)
