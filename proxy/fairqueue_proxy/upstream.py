"""The proxy's way to its engine: HTTP/1.1 over plain TCP to one address, with keep-alive connections.

How it runs. There is one event loop and one thread. `Upstream.send()` is a coroutine for one reason only: making a
connection takes time. When an idle connection is at hand it does not suspend at all, and it is the only place where a
request waits here. Once the request is written, no Task has a part in the exchange: the transport calls
`Connection.data_received`, that feeds the parser, and the parser calls the sink, all on one stack, before the loop
turns to the next socket. An event of a stream thus costs no wake-up, no future and no queue. The price is that sinks
must be quick and must not raise; one that raises loses its exchange and its connection, and the loop's exception
handler hears of it.

Who owns what. A connection belongs to the pool (idle), to exactly one exchange (busy) or to the coroutine that is
making it; each hand-over is synchronous, so no cancellation can fall between two owners. `send()` cancelled while
connecting closes the half-made connection. After `send()` has returned, the holder of the `Exchange` ends it by
waiting for `reply_end` or `reply_lost`, or by `abort()`. Callbacks start no earlier than the loop's next turn after
`send()` returns, so an awaiting caller always has the exchange before the head.

The one Task. An engine may close an idle connection at the moment when a request is sent on it. If such a reused
connection dies before the first byte of the reply, the request is sent once more on a fresh connection; that must
wait for a connection while nobody awaits, so a short-lived Task does it. The sink does not notice; `pause` and
`abort` work meanwhile. A request on a fresh connection is never repeated.

Backpressure is the sender's: `Exchange.pause()` stops reading, the kernel's buffers fill and the engine blocks. While
paused, the death of the engine goes unseen until `resume()`: nothing that was sent before it is lost.

No TLS, no pipelining, no redirects, no decompression, no limit on how long a reply may take (except in `get`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from .upstream_connection import Connection, Exchange
from .upstream_pool import IdlePool
from .upstream_reply import ReplySink

__all__ = ["EngineUnreachable", "Exchange", "ReplyLost", "ReplySink", "Upstream", "UpstreamError"]

MAX_GET_REPLY_BYTES: Final = 8 * 1024 * 1024


class UpstreamError(Exception):
    """The engine could not be asked, or did not answer; the message says what happened."""


class EngineUnreachable(UpstreamError):
    """No connection to the engine could be made (refused, unreachable, too slow); nothing was sent."""


class ReplyLost(UpstreamError):
    """The request was sent, but no complete reply came back in time."""


class Upstream:
    """The connections to one engine. Made on the loop that uses it; `close()` it there.

    `clock` gives monotonic seconds. `idle_seconds` bounds how long a connection is kept between two requests (below
    the 5 s after which uvicorn and cpp-httplib close theirs) and `max_idle` how many are.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        clock: Callable[[], float],
        connect_timeout_seconds: float = 5.0,
        idle_seconds: float = 4.0,
        max_idle: int = 256,
    ) -> None:
        self._host = host
        self._port = port
        # As a `Host` header names them.
        self.authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._connect_timeout_seconds = connect_timeout_seconds
        self._pool = IdlePool(clock=clock, idle_seconds=idle_seconds, max_idle=max_idle)
        # Every connection whose socket still exists; closing ones too.
        self._open: set[Connection] = set()
        self._connecting: set[asyncio.Timeout] = set()
        self._resending: set[asyncio.Task[None]] = set()
        self._closed = False
        self._nothing_left = asyncio.Event()

    def __repr__(self) -> str:
        busy = sum(connection.is_busy for connection in self._open)
        idle, connecting = len(self._pool), len(self._connecting)
        return f"<Upstream {self.authority}: {busy} busy, {idle} idle, {connecting} connecting>"

    async def send(self, head_and_body: bytes, sink: ReplySink, *, method: str, alone: bool = False) -> Exchange:
        """Send a complete request; its reply goes to `sink`. `method` is the one in the request line: replies to
        `HEAD` have no body. `alone`: on a connection that no other request has had or will have, so that it is never
        sent twice and nothing of it is kept.

        Raises `EngineUnreachable`: nothing has been sent then, and the sink is not called.
        """
        connection = (None if alone else self._pool.take()) or await self._connect()
        exchange = Exchange(head_and_body, sink, method=method, alone=alone)
        connection.begin(exchange)
        return exchange

    async def get(
        self, path: str, *, timeout_seconds: float, headers: Iterable[tuple[str, str]] = ()
    ) -> tuple[int, bytes]:
        """Status and whole body (at most 8 MiB) of a GET; for health checks, metrics and the like.

        Raises `EngineUnreachable` or `ReplyLost`, the latter also for a reply that is late or too large.
        """
        fields = "".join(f"{name}: {value}\r\n" for name, value in headers)
        request = f"GET {path} HTTP/1.1\r\nHost: {self.authority}\r\nAccept: */*\r\n{fields}\r\n".encode("latin-1")
        sink = _Collector()
        exchange: Exchange | None = None
        try:
            async with asyncio.timeout(timeout_seconds):
                exchange = await self.send(request, sink, method="GET")
                outcome = await sink.outcome
        except TimeoutError as error:
            late = EngineUnreachable if exchange is None else ReplyLost
            raise late(f"{self.authority} did not answer GET {path} within {timeout_seconds:g} s") from error
        finally:
            if exchange is not None:
                exchange.abort()
        if isinstance(outcome, ReplyLost):
            raise outcome
        return outcome

    async def reachable(self) -> bool:
        """Whether a new TCP connection to the engine can be made now. Sends nothing."""
        try:
            connection = await self._connect()
        except EngineUnreachable:
            return False
        connection.drop()
        return True

    async def close(self) -> None:
        """Close every connection at once and wait until their sockets are gone. Replies under way are lost, requests
        that still wait for a connection find the engine unreachable."""
        self._closed = True
        self._pool.clear()
        for connection in list(self._open):
            connection.lose("the proxy is closing its connections")
        for timeout in self._connecting:
            if not timeout.expired():
                timeout.reschedule(0.0)
        self._note_if_nothing_left()
        await self._nothing_left.wait()

    def connection_idle(self, connection: Connection) -> None:
        self._pool.put(connection)

    def connection_unusable(self, connection: Connection) -> None:
        self._pool.remove(connection)

    def connection_closed(self, connection: Connection) -> None:
        self._open.discard(connection)
        self._note_if_nothing_left()

    def send_again(self, exchange: Exchange) -> None:
        task = asyncio.get_running_loop().create_task(self._resend(exchange))
        exchange.resending = task
        self._resending.add(task)
        task.add_done_callback(self._resent)

    async def _resend(self, exchange: Exchange) -> None:
        try:
            connection = await self._connect()
        except EngineUnreachable as error:
            exchange.unsent = True
            exchange.lose(str(error))
        else:
            connection.begin(exchange)

    def _resent(self, task: asyncio.Task[None]) -> None:
        self._resending.discard(task)
        self._note_if_nothing_left()

    async def _connect(self) -> Connection:
        """A fresh, open connection that belongs to the caller, who uses it before the next await."""
        connection = Connection(self)
        made = False
        try:
            await self._open_socket(connection)
            made = connection.is_open and not self._closed
        except (OSError, UnicodeError) as error:
            # An UnicodeError is a host name that can't be one.
            raise EngineUnreachable(f"cannot connect to {self.authority}: {str(error) or 'timed out'}") from error
        finally:
            # The loops close what they could not finish, but not with a call to `connection_lost` in each case:
            # a connection counts as open only from here.
            if made:
                self._open.add(connection)
            else:
                connection.drop()
        if not made:
            raise EngineUnreachable(f"the connection to {self.authority} was closed at once")
        return connection

    async def _open_socket(self, connection: Connection) -> None:
        if self._closed:
            raise EngineUnreachable(f"the connections to {self.authority} are closed")
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._connect_timeout_seconds) as timeout:
            self._connecting.add(timeout)
            try:
                await loop.create_connection(lambda: connection, self._host, self._port)
            finally:
                self._connecting.discard(timeout)
                self._note_if_nothing_left()

    def _note_if_nothing_left(self) -> None:
        if self._closed and not (self._open or self._connecting or self._resending):
            self._nothing_left.set()


class _Collector:
    """Keeps a whole reply, up to `MAX_GET_REPLY_BYTES`."""

    def __init__(self) -> None:
        # A result in either case: an exception that a cancelled reader never fetches would be logged.
        self.outcome: asyncio.Future[tuple[int, bytes] | ReplyLost] = asyncio.get_running_loop().create_future()
        self._status = 0
        self._body = bytearray()

    def reply_head(self, status: int, reason: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        self._status = status

    def reply_data(self, data: bytes) -> None:
        self._body += data
        if len(self._body) > MAX_GET_REPLY_BYTES:
            self._settle(ReplyLost(f"the engine's reply is larger than {MAX_GET_REPLY_BYTES} bytes"))
            self._body.clear()

    def reply_end(self) -> None:
        self._settle((self._status, bytes(self._body)))

    def reply_lost(self, reason: str) -> None:
        self._settle(ReplyLost(reason))

    def _settle(self, outcome: tuple[int, bytes] | ReplyLost) -> None:
        if not self.outcome.done():
            self.outcome.set_result(outcome)
