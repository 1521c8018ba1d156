"""One TCP connection to the engine, and one request's passage over it.

A `Connection` is idle (no exchange) or busy (one exchange). It becomes busy in `begin()`, and idle or closed at the
end of the reply, at any failure, or when the exchange is aborted. Each of those goes through `_detach()`, which takes
exchange, parser and connection apart before anybody outside is called: that is why a sink can be told only once, and
may abort, pause or start anything from within its callbacks.

Connections never wait and make no connections: an `owner` keeps the idle ones and sends an unanswered request again.
Everything here runs on the event loop, called by the transport or by the exchange's holder; nothing is thread-safe.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Protocol, cast

from .upstream_reply import BadReply, ReplyParser, ReplySink

__all__ = ["Connection", "ConnectionOwner", "Exchange"]


class ConnectionOwner(Protocol):
    """What a connection tells whoever opened it."""

    def connection_idle(self, connection: Connection) -> None:
        """A reply has ended cleanly; the connection can carry the next request."""

    def connection_unusable(self, connection: Connection) -> None:
        """It is being closed and must not be handed out again; may be said more than once."""

    def connection_closed(self, connection: Connection) -> None:
        """Its socket is gone; said once."""

    def send_again(self, exchange: Exchange) -> None:
        """A reused connection died before the reply's first byte: send the request on a fresh one."""


class Exchange:
    """One request and its reply, as the sender sees it: it outlives a connection that has to be replaced.

    After the reply has ended or was lost, all methods do nothing.
    """

    __slots__ = ("alone", "connection", "method", "paused", "request", "resending", "sink", "unsent")

    def __init__(self, request: bytes, sink: ReplySink, *, method: str, alone: bool = False) -> None:
        # Kept only while it might have to be sent again, so that a large body is not held during a long reply.
        self.request: bytes | None = request
        self.sink = sink
        self.method = method
        self.alone = alone
        self.paused = False
        # The engine can't have begun with it: its connection died unanswered, and no other could be made.
        self.unsent = False
        self.connection: Connection | None = None
        self.resending: asyncio.Task[None] | None = None

    def pause(self) -> None:
        """Stop reading from the engine. What was read already (at most one read) is still delivered."""
        self.paused = True
        if self.connection is not None:
            self.connection.pause_reading()

    def resume(self) -> None:
        self.paused = False
        if self.connection is not None:
            self.connection.resume_reading()

    def abort(self) -> None:
        """Give up: close the connection at once and make no more callbacks."""
        resending, self.resending = self.resending, None
        if self.connection is not None:
            self.connection.drop()
        elif resending is not None:
            resending.cancel()

    def lose(self, reason: str) -> None:
        """Tell the sink that the reply will not come; for an exchange without a connection."""
        self.resending = None
        try:
            self.sink.reply_lost(reason)
        except BaseException as error:
            _report(error)


class Connection(asyncio.Protocol):
    """The protocol of one connection; plain HTTP/1.1, one request at a time."""

    def __init__(self, owner: ConnectionOwner) -> None:
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._exchange: Exchange | None = None
        self._reply: ReplyParser | None = None
        self._reused = False
        self._answered = False
        self._answered_early = False
        # The last `Keep-Alive: timeout` that the engine named on this connection.
        self.keep_alive_seconds: float | None = None

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    @property
    def is_busy(self) -> bool:
        return self._exchange is not None

    def begin(self, exchange: Exchange) -> None:
        """Send the exchange's request; the connection is open and idle. No callback is made before this returns."""
        assert self._transport is not None
        assert exchange.request is not None
        assert self._exchange is None
        self._exchange = exchange
        exchange.connection = self
        exchange.resending = None
        self._reply = ReplyParser(exchange.sink, method=exchange.method)
        self._answered = False
        self._answered_early = False
        if exchange.paused:
            self._transport.pause_reading()
        self._transport.write(exchange.request)
        if not self._reused:
            exchange.request = None

    def pause_reading(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._transport is not None:
            self._transport.resume_reading()

    def drop(self) -> None:
        """Close at once, without a word to the sink of an exchange that may be under way."""
        self._detach()
        self._close()

    def lose(self, reason: str) -> None:
        """Close at once; the sink of an exchange that may be under way is told the reason."""
        exchange = self._detach()
        self._close()
        if exchange is not None:
            exchange.lose(reason)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        tcp = cast(socket.socket, transport.get_extra_info("socket"))
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        reply = self._reply
        if reply is None:
            # Bytes that no request has asked for: the two sides disagree about where replies end.
            self._close()
            return
        if not self._answered:
            self._first_bytes()
        try:
            reply.feed(data)
        except BadReply as error:
            self.lose(str(error))
        except BaseException as error:
            self._sink_failed(error)
        else:
            # Not after an abort: a muted reply never ends.
            if reply.ended:
                self._end(reply)

    def eof_received(self) -> None:
        reply = self._reply
        if reply is None:
            self._close()
        elif not self._send_again():
            try:
                reply.feed_eof()
            except BadReply as error:
                self.lose(str(error))
            else:
                self._end(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._send_again():
            self.lose(f"the connection to the engine broke: {exc or 'closed'}")
        self._transport = None
        self._owner.connection_closed(self)

    def _first_bytes(self) -> None:
        assert self._transport is not None
        assert self._exchange is not None
        self._answered = True
        self._answered_early = self._transport.get_write_buffer_size() > 0
        self._exchange.request = None

    def _send_again(self) -> bool:
        # The engine may close an idle connection while a request is on its way to it. Only a connection that had
        # carried a request before can be the victim of that race, and only before a byte of the reply.
        if self._exchange is None or not self._reused or self._answered:
            return False
        exchange = self._exchange
        self._detach()
        self._close()
        self._owner.send_again(exchange)
        return True

    def _end(self, reply: ReplyParser) -> None:
        exchange = self._detach()
        assert exchange is not None
        try:
            exchange.sink.reply_end()
        except BaseException as error:
            self._close()
            _report(error)
            return
        if reply.keep_alive_seconds is not None:
            self.keep_alive_seconds = reply.keep_alive_seconds
        if exchange.alone or not reply.reusable or self._answered_early or not self.is_open:
            self._close()
            return
        self._reused = True
        # The exchange may have been paused when its end came; an idle connection must see the engine close it.
        self.resume_reading()
        self._owner.connection_idle(self)

    def _sink_failed(self, error: BaseException) -> None:
        exchange = self._detach()
        self._close()
        _report(error)
        # Whoever waits for this reply must not wait for ever, even though its receiver is broken.
        if exchange is not None:
            exchange.lose("the receiver of the reply failed")

    def _detach(self) -> Exchange | None:
        exchange, reply = self._exchange, self._reply
        self._exchange = self._reply = None
        if exchange is not None:
            exchange.connection = None
        if reply is not None:
            reply.mute()
        return exchange

    def _close(self) -> None:
        # Never `close()`: it would first wait until the engine has taken the rest of the request.
        if self._transport is not None:
            self._transport.abort()
        self._owner.connection_unusable(self)


def _report(error: BaseException) -> None:
    """Hand a sink's exception to the loop's exception handler. Raised from a protocol's callback instead, an OSError
    among them would be taken for a failure of the socket and be swallowed."""
    if isinstance(error, (SystemExit, KeyboardInterrupt)):
        raise error
    context = {"message": "the receiver of an engine's reply raised", "exception": error}
    asyncio.get_running_loop().call_exception_handler(context)
