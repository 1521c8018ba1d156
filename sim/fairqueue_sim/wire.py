"""A small HTTP/1.1 server on asyncio.Protocol and httptools that gives full control over the bytes of a reply.

A handler gets an `Exchange` when a request has arrived in full, and answers through it: at once or later, whole or as
a stream of events, each its own HTTP chunk. Requests on one connection are answered one after the other.
A client that closes, resets or half-closes its connection has left: the exchange is told, nothing more is sent.
Everything happens on the event loop's thread; nothing here waits.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import cast

import httptools

__all__ = ["Exchange", "Handler", "HttpRequest", "HttpServer"]

_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus} | {
    413: b"Payload Too Large",
    422: b"Unprocessable Entity",
}


@dataclass(slots=True)
class HttpRequest:
    """A request as it arrived; header names are lower case, of repeated headers the last one counts."""

    method: str = ""
    target: bytes = b""
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""
    too_large: bool = False
    http_version: str = "1.1"
    keep_alive: bool = True

    @property
    def path(self) -> str:
        """The path as sent, without the query."""
        return self.target.partition(b"?")[0].decode("latin-1")


class Exchange:
    """One request and the reply to it. What is called when it is over (replied to, or the client left) does nothing."""

    __slots__ = ("_chunked", "_connection", "_on_over", "is_over", "last_write_at", "request")

    def __init__(self, connection: "_Connection", request: HttpRequest) -> None:
        self.request = request
        self.is_over = False
        self.last_write_at = 0.0
        self._connection = connection
        self._chunked = request.http_version == "1.1"
        self._on_over: Callable[[], None] | None = None

    def when_over(self, callback: Callable[[], None]) -> None:
        """Calls back once: when the reply's last byte has gone into the socket buffers, or the client has left."""
        self._on_over = callback

    def reply(self, status: int, head: bytes, body: bytes = b"") -> None:
        """Sends a whole reply; `head` are the engine's own header lines."""
        if self.is_over:
            return
        length = b"content-length: %d\r\n" % len(body)
        self._connection.write(self._head(status, head, length) + (b"" if self.request.method == "HEAD" else body))
        self._connection.reply_written()

    def start_events(self, head: bytes) -> None:
        """Sends the head of a stream of events."""
        if not self.is_over:
            framing = b"transfer-encoding: chunked\r\n" if self._chunked else b""
            self._write(self._head(200, head, framing))

    def send_events(self, events: list[bytes], *, last: bool = False) -> None:
        """Sends events in one write, each as one HTTP chunk; `last` ends the stream."""
        if self.is_over:
            return
        if self._chunked:
            parts = [b"%X\r\n%b\r\n" % (len(event), event) for event in events]
            if last:
                parts.append(b"0\r\n\r\n")
            self._write(b"".join(parts))
        else:
            self._write(b"".join(events))
        if last:
            self._connection.reply_written()

    @property
    def is_stalled(self) -> bool:
        """Whether more waits for the reader than the socket buffers hold."""
        return not self.is_over and self._connection.unsent_bytes > 0

    def abort(self) -> None:
        """Cuts the connection off."""
        if not self.is_over:
            self._connection.abort()

    def over(self) -> None:
        """Called by the connection."""
        self.is_over = True
        if self._on_over is not None:
            self._on_over()
            self._on_over = None

    def _write(self, data: bytes) -> None:
        self.last_write_at = self._connection.server.loop.time()
        self._connection.write(data)

    def _head(self, status: int, head: bytes, framing: bytes) -> bytes:
        request, server = self.request, self._connection.server
        close = b"connection: close\r\n" if not request.keep_alive and self._chunked else b""
        first = b"HTTP/%b %d %b\r\n" % (request.http_version.encode(), status, _REASONS[status])
        return b"".join((first, head, close, framing, server.date_line(), b"\r\n"))


Handler = Callable[[Exchange], None]


class HttpServer:
    """Listens on one address and hands exchanges to a handler."""

    def __init__(self, handler: Handler, *, max_body_bytes: int, wall_clock: Callable[[], float]) -> None:
        self.handler = handler
        self.max_body_bytes = max_body_bytes
        self.loop = asyncio.get_running_loop()
        self.connections: set[_Connection] = set()
        self.closing = False
        self._wall_clock = wall_clock
        self._date: tuple[int, bytes] = (-1, b"")
        self._server: asyncio.Server | None = None
        self._idle = asyncio.Event()

    async def listen(self, host: str, port: int) -> tuple[str, int]:
        """Starts to listen and returns the address; raises OSError."""
        self._server = await self.loop.create_server(lambda: _Connection(self), host, port, backlog=4096)
        address = self._server.sockets[0].getsockname()
        return address[0], address[1]

    async def drain(self) -> None:
        """No new connections, idle ones are closed; returns when the last reply is out."""
        self.closing = True
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.close_if_idle()
        self.connection_gone(None)
        await self._idle.wait()

    async def close(self) -> None:
        """Cuts everything off."""
        self.closing = True
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.abort()
        self.connection_gone(None)
        await self._idle.wait()

    def connection_gone(self, connection: "_Connection | None") -> None:
        """Called by a connection at its end."""
        if connection is not None:
            self.connections.discard(connection)
        if self.closing and not self.connections:
            self._idle.set()

    def date_line(self) -> bytes:
        """The date header for now; made once a second."""
        second = int(self._wall_clock())
        if self._date[0] != second:
            self._date = (second, b"date: %b\r\n" % formatdate(second, usegmt=True).encode())
        return self._date[1]


class _Connection(asyncio.Protocol):
    """Parses what comes, keeps requests in order, and knows whether the client is still there."""

    def __init__(self, server: HttpServer) -> None:
        self.server = server
        self._transport: asyncio.Transport
        self._parser = httptools.HttpRequestParser(self)
        self._incoming = HttpRequest()
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._waiting: deque[HttpRequest] = deque()
        self._exchange: Exchange | None = None
        self._flushing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._client_left()
        self.server.connection_gone(self)

    def eof_received(self) -> None:
        # A half-closed connection counts as a client that left; the transport closes itself.
        self._client_left()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # No protocol is ever switched: the request has been answered as it is.
            self._parser = httptools.HttpRequestParser(self)
        except httptools.HttpParserError:
            self._bad_request()
        # Not from within the parser's callbacks: it would take a handler's exception for a bad request.
        self._next_exchange()

    def on_message_begin(self) -> None:
        self._incoming = HttpRequest()
        self._body, self._body_bytes = [], 0

    def on_url(self, url: bytes) -> None:
        self._incoming.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._incoming.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        request = self._incoming
        request.method = self._parser.get_method().decode()
        request.http_version = self._parser.get_http_version()
        request.keep_alive = self._parser.should_keep_alive()
        if request.headers.get(b"expect", b"").lower() == b"100-continue":
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > self.server.max_body_bytes:
            self._incoming.too_large = True
            self._body.clear()
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        self._incoming.body = b"".join(self._body)
        self._waiting.append(self._incoming)

    def resume_writing(self) -> None:
        if self._flushing:
            self._flushed()

    @property
    def unsent_bytes(self) -> int:
        return self._transport.get_write_buffer_size()

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    def reply_written(self) -> None:
        """The reply is complete; the next request's turn comes when its last byte has left for the socket."""
        self._flushing = True
        if self.unsent_bytes:
            self._transport.set_write_buffer_limits(high=0)
        else:
            self._flushed()

    def abort(self) -> None:
        self._client_left()
        self._transport.abort()

    def close_if_idle(self) -> None:
        if self._exchange is None:
            self._transport.close()

    def _next_exchange(self) -> None:
        if self._exchange is None and self._waiting and not self._transport.is_closing():
            self._exchange = Exchange(self, self._waiting.popleft())
            self.server.handler(self._exchange)

    def _flushed(self) -> None:
        self._flushing = False
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            return
        exchange.over()
        if not exchange.request.keep_alive or self.server.closing:
            self._transport.close()
        else:
            self._next_exchange()

    def _client_left(self) -> None:
        self._waiting.clear()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.over()

    def _bad_request(self) -> None:
        if self._exchange is None:
            line = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n"
            self.write(line + self.server.date_line() + b"\r\n")
        self._transport.close()
